# SPDX-License-Identifier: Apache-2.0
"""DBEMessage: header, TLVs by name, payload as a dict (docs/spec/dbe-v1.md, sections 3 and 4).

In:   values of a program, or bytes of a message
Out:  to_bytes(), from_bytes(); the library builds and decodes, so that every rule of the specification holds
Not:  no channel: who may say what is decided by the sockets.
"""
from __future__ import annotations

import ctypes
import json
import uuid
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Union, cast

from . import tlv as _tlv
from ._lib import Builder, Diag, Msg, check, lib
from .claim import ClaimToken
from .errors import BY_NAME, E_ARGUMENT, DBEError, error
from .registry import MessageFlag, MessageType, TlvType

if TYPE_CHECKING:
    from .endpoint import Peer, Request

TlvValue = Union[bytes, ClaimToken]
_HEADER_BYTES, _TLV_HEADER_BYTES, _TLV_AREA_MAX_BYTES = 32, 4, 65536
_JSON_FIRST_BYTES = 4096

# Texts that programs put under "error", as the errors they mean; others are E_UNAVAILABLE.
_ERROR_WORDS = {"CLAIM_TOKEN_INVALID": "E_CLAIM_INVALID", "NO_WORKER_AVAILABLE": "E_UNAVAILABLE",
                "WORKER_ERROR": "E_UNAVAILABLE"}


def correlation_of(request_id: bytes) -> int:
    """The correlation id of a request: the first eight bytes of its REQUEST_ID (clause 3.7)."""
    return int.from_bytes(request_id[:8], "big")


def _converted(function: Any, msg_type: int, data: bytes, first: int) -> bytes:
    """dbe_payload_to_json and _from_json: once more with the memory they ask for."""
    diag, need, cap = Diag(), ctypes.c_size_t(0), first
    for _ in range(2):
        out = ctypes.create_string_buffer(cap)
        need.value = 0
        err = function(msg_type, data, len(data), out, cap, ctypes.byref(need), ctypes.byref(diag))
        if err == 0:
            return out.raw[:need.value]
        if need.value <= cap:
            break
        cap = need.value
    check(err, diag)
    raise AssertionError("unreachable")


def payload_from_dict(msg_type: int, value: Mapping[str, Any]) -> bytes:
    """The protobuf payload of a message type; fields are named as in the schema. E_RANGE names a wrong one."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except (TypeError, ValueError) as problem:
        raise E_ARGUMENT(f"the payload is not of JSON's kinds: {problem}") from problem
    return _converted(lib.dbe_payload_from_json, msg_type, text, len(text) + 64)


def payload_to_dict(msg_type: int, data: bytes) -> Dict[str, Any]:
    """The fields of a protobuf payload."""
    text = _converted(lib.dbe_payload_to_json, msg_type, data, max(_JSON_FIRST_BYTES, 2 * len(data)))
    return cast(Dict[str, Any], json.loads(text))


def error_payload(problem: DBEError, device_id: Optional[int]) -> Dict[str, Any]:
    """The payload of an ERROR message."""
    out: Dict[str, Any] = {"code": problem.number, "name": problem.name, "reason": problem.reason}
    if problem.rule:
        out["rule"] = problem.rule
    if device_id is not None:
        out["device_id"] = device_id
    return out


def _error_of_text(text: str, code: Any) -> DBEError:
    """The error that a program's own text means: its first word, or `code` beside it."""
    word = str(code or text.split(":")[0].split(" ")[0]).upper()
    name = word if word in BY_NAME else _ERROR_WORDS.get(word, "E_" + word)
    return BY_NAME.get(name, BY_NAME["E_UNAVAILABLE"])(text)


class DBEMessage:
    """One message.

    msg_type: a MessageType. correlation_id: a number, or a UUID as text, which then is the REQUEST_ID as well; None
    takes that of REQUEST_ID, or a new one when the message is sent. payload: a dict with the fields of the type's
    schema, or bytes. A payload with the key "error" stands for a refusal, and is an ERROR message on the wire, whose
    number follows from the text's first word ("DENIED: ..." is E_DENIED) or from the key "code".

    A message belongs to one thread at a time.
    """

    def __init__(self, msg_type: int, correlation_id: Union[int, str, uuid.UUID, None] = None,
                 payload: Union[Mapping[str, Any], bytes, None] = None, flags: int = 0) -> None:
        try:
            self.msg_type = MessageType(msg_type)
        except ValueError as problem:
            raise E_ARGUMENT(f"{msg_type!r} is no message type") from problem
        self.flags = MessageFlag(flags)
        self._tlvs: Dict[int, TlvValue] = {}
        self._raw: Optional[bytes] = None  # payload as it came
        self._text: Optional[str] = None  # that payload as JSON, once asked for
        self._payload: Optional[Dict[str, Any]] = None
        self.peer: Optional["Peer"] = None
        """Who sent it, for a message that was received."""
        self._request: Optional["Request"] = None
        self._arrived = False
        self.correlation_id: int = 0
        if isinstance(correlation_id, (str, uuid.UUID)):
            self.tlv_set("REQUEST_ID", correlation_id)
        elif correlation_id is not None:
            self.correlation_id = int(correlation_id)
        if isinstance(payload, (bytes, bytearray, memoryview)):
            self._raw = bytes(payload)
        else:
            self._payload = dict(payload) if payload is not None else {}

    # ---- payload

    @property
    def payload(self) -> Dict[str, Any]:
        """The payload's fields. Changes to it are sent. E_MALFORMED if it cannot be read."""
        if self._payload is None:
            self._payload = payload_to_dict(self.msg_type, self._raw or b"")
            self._text = json.dumps(self._payload)
        return self._payload

    @payload.setter
    def payload(self, value: Mapping[str, Any]) -> None:
        self._payload, self._raw, self._text = dict(value), None, None

    def payload_bytes(self) -> bytes:
        """The payload as it is or would be on the wire. What was received and not changed stays as it came."""
        if self._raw is not None and (self._payload is None or json.dumps(self._payload) == self._text):
            return self._raw
        return payload_from_dict(self.msg_type, self._payload or {})

    def refusal(self) -> Optional[DBEError]:
        """The error that this message stands for: an ERROR, or a payload with "error"; None for any other."""
        if self.msg_type == MessageType.ERROR:
            p = self.payload
            return error(int(p.get("code", 0)), str(p.get("reason", "")), remote=True, rule=str(p.get("rule", "")),
                         device_id=p.get("device_id"), retry_after_ms=int(p.get("retry_after_ms", 0)))
        if self._payload is not None and self._payload.get("error"):
            return _error_of_text(str(self._payload["error"]), self._payload.get("code"))
        return None

    # ---- TLVs

    def tlv_get(self, name: Union[str, int], default: Any = None) -> Any:
        """The value of a TLV by its name (or number), `default` if the message has none. For the types see tlv.py."""
        row = _tlv.row_of(name)
        value = self._tlvs.get(row.type)
        if value is None:
            return default
        return value if isinstance(value, ClaimToken) else _tlv.decode(row, value)

    def tlv_set(self, name: Union[str, int], value: Any) -> None:
        """Set a TLV; None removes it. E_ARGUMENT: not a value of its kind. REQUEST_ID sets the correlation id, too."""
        row = _tlv.row_of(name)
        if value is None:
            self._tlvs.pop(row.type, None)
            return
        self._tlvs[row.type] = value if isinstance(value, ClaimToken) else _tlv.encode(row, value)
        if row.type == TlvType.REQUEST_ID and not self.correlation_id:
            self.correlation_id = correlation_of(_tlv.encode(row, value))

    def tlv_names(self) -> List[str]:
        """Names of the TLVs that the message has; numbers in hex for unknown ones."""
        return [_tlv.row_of(number).name for number in self._tlvs]

    # ---- bytes

    def to_bytes(self) -> bytes:
        """The message as it stands on the wire. Raises what the library finds wrong: E_RANGE, E_UTF8, E_TOO_LARGE."""
        problem = self.refusal() if self.msg_type != MessageType.ERROR else None
        if problem is not None:
            return self.as_error(problem).to_bytes()
        return build(self.msg_type, self.flags, self.correlation_id,
                     {number: bytes(value) for number, value in self._tlvs.items()}, self.payload_bytes())

    def as_error(self, problem: DBEError) -> "DBEMessage":
        """This answer as the ERROR message that it stands for."""
        source = self.tlv_get("DEVICE_ID_SRC")
        out = DBEMessage(MessageType.ERROR, self.correlation_id, error_payload(problem, source))
        out._tlvs = dict(self._tlvs)
        return out

    @classmethod
    def from_bytes(cls, data: Union[bytes, bytearray, memoryview]) -> "DBEMessage":
        """Decode a message. Raises the first clause that is broken, with its byte offset."""
        data = bytes(data)
        view, diag = Msg(), Diag()
        check(lib.dbe_msg_decode(data, len(data), ctypes.byref(view), ctypes.byref(diag)), diag)
        return from_view(view)

    def __repr__(self) -> str:
        return f"<DBEMessage {self.msg_type.name} {self.correlation_id:016x} {' '.join(self.tlv_names())}>"


def build(msg_type: int, flags: int, correlation_id: int, tlvs: Mapping[int, bytes], payload: bytes) -> bytes:
    """Bytes of a message; the library checks every value."""
    builder, length = Builder(), ctypes.c_size_t()
    area = sum(_TLV_HEADER_BYTES + len(value) for value in tlvs.values())
    cap = _HEADER_BYTES + min(area, _TLV_AREA_MAX_BYTES) + len(payload)
    out = ctypes.create_string_buffer(cap)
    ref = ctypes.byref(builder)
    lib.dbe_build_begin(ref, out, cap, msg_type, flags, correlation_id)
    for number, value in tlvs.items():
        lib.dbe_build_bytes(ref, number, value, len(value))
    lib.dbe_build_payload(ref, payload, len(payload))
    check(lib.dbe_build_end(ref, ctypes.byref(length)))
    return out.raw[:length.value]


def from_view(view: Msg) -> DBEMessage:
    """A message of a decoded view, whose bytes are copied."""
    out = DBEMessage(view.type, view.correlation_id, ctypes.string_at(view.payload, view.payload_len)
                     if view.payload_len else b"", view.flags)
    for at in range(view.tlv_count):
        one = view.tlvs[at]
        out._tlvs[one.type] = ctypes.string_at(one.value, one.len) if one.len else b""
    return out
