# SPDX-License-Identifier: Apache-2.0
"""ML-DSA-87 signatures with the keys of the mesh: claim tokens, and signed bytes.

In:   the key store (dsmil_dbe.identity), a claim or bytes
Out:  MLDSASigner.sign(), MLDSAVerifier.verify()
Not:  no key leaves the library, and none is made here.

A claim token holds on one channel alone (docs/spec/dbe-v1.md, section 10), so a signer's token is signed when its
message is sent; one that came with a message is verified against whoever sent it. Signed bytes carry the signer's
certificate and are verified against the mesh's CA:

    bytes   field
    4       "DSIG"
    2       length c of the certificate
    c       certificate, DER
    4       length n of the content
    n       content
    4627    ML-DSA-87 over all that precedes, context string "DSMIL-DBE signed bytes v1"
"""
from __future__ import annotations

import ctypes
import os
import threading
from typing import Any, Mapping, Optional, Tuple, Union, overload

from dsmil_dbe import identity as _identity
from dsmil_dbe._lib import check, lib
from dsmil_dbe.claim import ClaimInfo, ClaimToken
from dsmil_dbe.errors import E_ARGUMENT, E_AUTH, E_MALFORMED, DBEError
from dsmil_dbe.identity import IdentityInfo

__all__ = ["ClaimInfo", "ClaimToken", "MLDSASigner", "MLDSAVerifier"]

SIGNATURE_BYTES = 4627
_MAGIC, _CONTEXT = b"DSIG", b"DSMIL-DBE signed bytes v1"
PathLike = Union[str, "os.PathLike[str]"]


class MLDSASigner:
    """Signs with a node's key: <store>/<name>.key, or without `key_path` that of this process (DSMIL_KEYS and
    DSMIL_DEVICE_ID). Several threads may use it."""

    def __init__(self, key_path: Optional[PathLike] = None) -> None:
        self._credential = _identity.credential() if key_path is None else _identity.credential_of_path(key_path)

    @property
    def identity(self) -> IdentityInfo:
        """Whose key it is."""
        return self._credential.identity

    @overload
    def sign(self, data: Mapping[str, Any]) -> ClaimToken: ...

    @overload
    def sign(self, data: Union[bytes, bytearray]) -> bytes: ...

    def sign(self, data: Union[Mapping[str, Any], bytes, bytearray]) -> Union[ClaimToken, bytes]:
        """A claim from a dict, or signed bytes.

        A claim's fields: tenant_id, client_id, roles (names of ROE levels); optional: request_id (the message must have
        it), timestamp (not before, seconds; default now), lifetime (seconds; default 300, at most 3600), classification
        and compartments (default: the signer's own ceilings), exercise.
        """
        if isinstance(data, (bytes, bytearray)):
            return self._signed(bytes(data))
        if not isinstance(data, Mapping):
            raise E_ARGUMENT("a claim is a dict, anything else to be signed is bytes")
        return ClaimToken(data=data, credential=self._credential)

    def _signed(self, content: bytes) -> bytes:
        der = self._credential.certificate()
        body = _MAGIC + len(der).to_bytes(2, "big") + der + len(content).to_bytes(4, "big") + content
        signature = ctypes.create_string_buffer(SIGNATURE_BYTES)
        check(lib.dbe_credential_sign(self._credential.ptr, _CONTEXT, body, len(body), signature))
        return body + signature.raw


def _split(signed: bytes) -> Tuple[bytes, bytes, bytes, bytes]:
    """Body, certificate, content, signature of signed bytes; nothing may be left over."""
    if signed[:4] != _MAGIC or len(signed) < 10 + SIGNATURE_BYTES:
        raise E_MALFORMED("these are no signed bytes")
    body, signature = signed[:-SIGNATURE_BYTES], signed[-SIGNATURE_BYTES:]
    end = 6 + int.from_bytes(body[4:6], "big")
    content = body[end + 4:]
    if len(body) < end + 4 or len(content) != int.from_bytes(body[end:end + 4], "big"):
        raise E_MALFORMED("the lengths in the signed bytes do not add up")
    return body, body[6:end], content, signature


class MLDSAVerifier:
    """Verifies claim tokens of received messages, and signed bytes of this mesh. Several threads may use it."""

    def __init__(self, keys: Optional[PathLike] = None) -> None:
        self._store = keys
        self._trust: Optional[_identity.Trust] = None
        self._lock = threading.Lock()

    def verify(self, token: Union[ClaimToken, bytes, bytearray]) -> bool:
        """Is it genuine, in time, and where it belongs? A claim token without its channel is not."""
        try:
            if isinstance(token, ClaimToken):
                token.verify()
            else:
                self.open(bytes(token))
        except DBEError:
            return False
        return True

    def open(self, signed: bytes) -> Tuple[bytes, IdentityInfo]:
        """Content of signed bytes, and who signed. E_MALFORMED, E_AUTH, E_CERT, E_EXPIRED, E_REVOKED."""
        body, der, content, signature = _split(signed)
        with self._lock:
            if self._trust is None:
                self._trust = _identity.trust(self._store)
            who, key = self._trust.verify(der)
        if lib.dbe_signature_verify(key, _CONTEXT, body, len(body), signature) != 0:
            raise E_AUTH("the signature is not that of the certificate's key")
        return content, who
