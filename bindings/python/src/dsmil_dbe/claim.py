# SPDX-License-Identifier: Apache-2.0
"""ClaimToken: a claim that is signed for the channel by which its message goes (docs/spec/dbe-v1.md, section 10).

In:   what a program claims, and whose key signs (dsmil_pqc.MLDSASigner); or the bytes of a token that was received
Out:  bytes, once the channel is known; verify() for a token that was received
Not:  the program need not know the channel: the socket binds the token when it sends the message.
"""
from __future__ import annotations

import ctypes
import time
import uuid
from typing import TYPE_CHECKING, Any, List, Mapping, NamedTuple, Optional, Tuple

from ._lib import Claim, Diag, check, lib, text_of
from .errors import E_ARGUMENT, E_CLAIM_INVALID, E_STATE
from .registry import Classification, Compartment, RoeLevel

if TYPE_CHECKING:
    from .identity import Credential

TOKEN_MAX_BYTES = 4817
LIFETIME_S = 300.0  # of a claim that does not say
_KEYS = {"tenant_id", "client_id", "roles", "request_id", "timestamp", "lifetime", "classification", "compartments",
         "exercise"}


class ClaimInfo(NamedTuple):
    """What a verified claim says."""

    tenant_id: str
    client_id: str
    roles: List[str]
    classification: str
    compartments: int
    not_before: float
    not_after: float
    exercise: bool


def _mask(value: Any) -> int:
    if isinstance(value, int):
        return int(value)
    names = value.replace("|", " ").split() if isinstance(value, str) else list(value)
    mask = 0
    for name in names:
        if name not in Compartment.__members__:
            raise E_ARGUMENT(f"no compartment is called {name!r}")
        mask |= Compartment[name]
    return mask


def _levels(roles: Any) -> int:
    levels = 0
    for role in [roles] if isinstance(roles, str) else roles:
        if role not in RoeLevel.__members__:
            raise E_ARGUMENT(f"a claim's roles are ROE levels ({', '.join(RoeLevel.__members__)}), not {role!r}")
        levels |= 1 << RoeLevel[role]
    return levels


def _claim(data: Mapping[str, Any], credential: "Credential") -> Claim:
    """The library's claim. What the program leaves out is the issuer's own ceiling."""
    unknown = sorted(set(data) - _KEYS)
    if unknown:
        raise E_ARGUMENT(f"a claim has no field {unknown[0]!r}")
    identity = credential.identity
    level = data.get("classification", identity.classification_max)
    if isinstance(level, str):
        if level not in Classification.__members__:
            raise E_ARGUMENT(f"no classification is called {level!r}")
        level = Classification[level]
    begin_ms = int(float(data.get("timestamp", time.time())) * 1000)
    claim = Claim()
    for name, field in (("tenant_id", "tenant"), ("client_id", "client")):
        text = str(data.get(name, "")).encode("utf-8")
        if not 0 < len(text) <= 64 or b"\0" in text:
            raise E_ARGUMENT(f"a claim's {name} is text of 1 to 64 bytes")
        setattr(claim, field, text)
    claim.roe_levels = _levels(data.get("roles", ()))
    claim.classification_max = int(level)
    claim.exercise = bool(data.get("exercise", identity.exercise))
    claim.compartments = _mask(data.get("compartments", identity.compartments))
    claim.not_before_ms = begin_ms
    claim.not_after_ms = begin_ms + int(float(data.get("lifetime", LIFETIME_S)) * 1000)
    return claim


class ClaimToken:
    """A claim token, to be set as the TLV L7_CLAIM_TOKEN, or as it came with a message.

    A token of MLDSASigner.sign() has no bytes until its message is sent: the signature covers the channel. One of a
    received message carries the key of whoever sent it and the channel it came by, so that it can be verified.
    """

    def __init__(self, *, data: Optional[Mapping[str, Any]] = None, credential: Optional["Credential"] = None,
                 token: Optional[bytes] = None, origin: Optional[Tuple[bytes, bytes]] = None) -> None:
        self._credential = credential
        self._claim = _claim(data, credential) if data is not None and credential is not None else None
        self._request_id = str(data["request_id"]) if data is not None and data.get("request_id") else None
        self._issued: Tuple[bytes, bytes] = (b"", b"")  # the last channel, and the bytes for it
        self._token = token
        self._origin = origin  # (issuer's public key, channel binding)

    @property
    def bound(self) -> bool:
        """It has bytes: it was received, or issued for a channel."""
        return self._token is not None

    def issue(self, binding: bytes, fingerprint: bytes, request_id: Optional[bytes]) -> bytes:
        """Sign for a channel. `fingerprint` is that of the certificate by which the channel knows us."""
        if self._token is not None:
            return self._token
        if self._claim is None or self._credential is None:
            raise E_STATE("a claim token without a claim")
        if self._credential.fingerprint != fingerprint:
            raise E_CLAIM_INVALID("the claim is signed with another key than the socket's: it would be refused")
        if self._request_id is not None and request_id is not None and uuid.UUID(self._request_id).bytes != request_id:
            raise E_CLAIM_INVALID("the claim names another request")
        if self._issued[0] == binding:
            return self._issued[1]
        out, length, diag = ctypes.create_string_buffer(TOKEN_MAX_BYTES), ctypes.c_size_t(), Diag()
        check(lib.dbe_claim_issue(ctypes.byref(self._claim), self._credential.ptr, binding, out, TOKEN_MAX_BYTES,
                                  ctypes.byref(length), ctypes.byref(diag)), diag)
        self._issued = (binding, out.raw[:length.value])
        return self._issued[1]

    def verify(self, now: Optional[float] = None) -> ClaimInfo:
        """What the token says, if it is genuine, of this channel and in time; else E_CLAIM_INVALID, E_CLAIM_EXPIRED."""
        if self._token is None or self._origin is None:
            raise E_CLAIM_INVALID("the claim token came by no channel: there is nothing to verify it against")
        claim, diag = Claim(), Diag()
        now_ms = int((time.time() if now is None else now) * 1000)
        key, binding = self._origin
        check(lib.dbe_claim_verify(self._token, len(self._token), key, binding, now_ms, ctypes.byref(claim),
                                   ctypes.byref(diag)), diag)
        return ClaimInfo(text_of(claim.tenant), text_of(claim.client),
                         [level.name for level in RoeLevel if claim.roe_levels >> level & 1],
                         Classification(claim.classification_max).name, claim.compartments, claim.not_before_ms / 1000,
                         claim.not_after_ms / 1000, bool(claim.exercise))

    def __bytes__(self) -> bytes:
        if self._token is None:
            raise E_STATE("a claim token has bytes once its message is sent: it is signed for that channel")
        return self._token

    def __len__(self) -> int:
        if self._token is not None:
            return len(self._token)
        assert self._claim is not None
        return 62 + len(self._claim.tenant) + len(self._claim.client) + 4627

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ClaimToken):
            return self is other or (self._token is not None and self._token == other._token)
        return isinstance(other, (bytes, bytearray)) and self._token == bytes(other)

    def __hash__(self) -> int:
        return hash(self._token) if self._token is not None else id(self)

    def __repr__(self) -> str:
        return f"<ClaimToken {len(self)} bytes{'' if self.bound else ', not yet bound'}>"
