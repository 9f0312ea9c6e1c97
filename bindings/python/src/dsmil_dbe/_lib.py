# SPDX-License-Identifier: Apache-2.0
"""libdbe through ctypes: where it lies, its structures, its functions.

In:   DSMIL_LIBDBE, a path (else beside this package, else in the build folder around it, else the system's)
Out:  lib, the structures, check() that turns an error into its exception
Not:  no state, no thread. ctypes lets other threads of Python run while a function of the library does.
"""
from __future__ import annotations

import ctypes as c
import os
import pathlib
from typing import Any, Callable, Optional

from .errors import error

SONAME = "libdbe.so.1"


class Diag(c.Structure):
    """struct dbe_diag"""

    _fields_ = [("clause", c.c_char_p), ("offset", c.c_size_t), ("text", c.c_char * 192)]


class Tlv(c.Structure):
    """struct dbe_tlv"""

    _fields_ = [("type", c.c_uint16), ("len", c.c_uint16), ("value", c.c_void_p)]


class Msg(c.Structure):
    """struct dbe_msg, with room for what a later version appends"""

    _fields_ = [("type", c.c_uint8), ("flags", c.c_uint16), ("correlation_id", c.c_uint64), ("bytes", c.c_void_p),
                ("len", c.c_size_t), ("payload", c.c_void_p), ("payload_len", c.c_size_t), ("tlv_area", c.c_void_p),
                ("tlv_area_len", c.c_uint32), ("tlv_count", c.c_uint16), ("tlvs", Tlv * 64),
                ("by_type", c.c_uint8 * 32),                ("_room", c.c_uint8 * 512)]


class Builder(c.Structure):
    """struct dbe_builder, with room for what a later version appends"""

    _fields_ = [("out", c.c_void_p), ("cap", c.c_size_t), ("len", c.c_size_t), ("_room", c.c_uint8 * 256)]


class Identity(c.Structure):
    """struct dbe_identity"""

    _fields_ = [("spiffe_id", c.c_char * 256), ("mesh", c.c_char * 128), ("device", c.c_uint8), ("layer", c.c_uint8),
                ("role", c.c_uint8), ("classification_max", c.c_uint8), ("exercise", c.c_bool),
                ("compartments", c.c_uint32), ("not_before_ms", c.c_uint64), ("not_after_ms", c.c_uint64),
                ("serial", c.c_uint8 * 20), ("serial_len", c.c_uint8), ("fingerprint", c.c_uint8 * 64),
                ("_room", c.c_uint8 * 512)]


class Claim(c.Structure):
    """struct dbe_claim"""

    _fields_ = [("tenant", c.c_char * 65), ("client", c.c_char * 65), ("roe_levels", c.c_uint8),
                ("classification_max", c.c_uint8), ("exercise", c.c_bool), ("compartments", c.c_uint32),
                ("not_before_ms", c.c_uint64), ("not_after_ms", c.c_uint64)]


class Labels(c.Structure):
    """struct dbe_labels"""

    _fields_ = [("tenant", c.c_char * 65), ("compartments", c.c_uint32), ("classification", c.c_uint8),
                ("roe_level", c.c_uint8)]


class Verdict(c.Structure):
    """struct dbe_verdict"""

    _fields_ = [("code", c.c_int), ("rule", c.c_char_p), ("reason", c.c_char * 128), ("labels", Labels)]


ON_MESSAGE = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p, c.POINTER(Msg))
ON_MALFORMED = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p, c.c_int, c.POINTER(Diag))
ON_UP = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p)
ON_DOWN = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p, c.c_int, c.POINTER(Diag))
ON_DRAINED = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p)
ON_SWITCHED = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p, c.c_int, c.POINTER(Diag))
ON_REPLY = c.CFUNCTYPE(None, c.c_void_p, c.POINTER(Msg), c.c_bool, c.c_int)
ON_KEY = c.CFUNCTYPE(None, c.c_void_p, c.c_char_p, c.POINTER(Identity), c.c_int, c.c_char_p)


class NodeOps(c.Structure):
    """struct dbe_node_ops, with room for what a later version appends: zero is "none" """

    _fields_ = [("on_message", ON_MESSAGE), ("on_malformed", ON_MALFORMED), ("on_up", ON_UP), ("on_down", ON_DOWN),
                ("on_drained", ON_DRAINED), ("on_switched", ON_SWITCHED), ("_room", c.c_uint8 * 512)]


class PolicyDigest(c.Structure):
    """struct dbe_policy_digest"""

    _fields_ = [("bytes", c.c_uint8 * 32)]


class NodeConfig(c.Structure):
    """struct dbe_node_config, with room for what a later version appends: zero is the default"""

    _fields_ = [("credential", c.c_void_p), ("trust", c.c_void_p), ("ops", c.POINTER(NodeOps)), ("ctx", c.c_void_p),
                ("policy_digest", PolicyDigest), ("peers_max", c.c_uint32), ("_room", c.c_uint8 * 512)]


def _candidates() -> "list[str]":
    here = pathlib.Path(__file__).resolve().parent
    named = os.environ.get("DSMIL_LIBDBE")
    beside = [here / SONAME, here.parent.parent / "src" / "lib" / SONAME]
    return [named] if named else [str(path) for path in beside if path.exists()] + [SONAME]


def _load() -> c.CDLL:
    problems = []
    for path in _candidates():
        try:
            return c.CDLL(path)
        except OSError as problem:
            problems.append(str(problem))
    raise ImportError(f"{SONAME} cannot be loaded ({'; '.join(problems)}): build it with `make`, install it, or "
                      "name it in DSMIL_LIBDBE")


lib = _load()

_P, _PP = c.c_void_p, c.POINTER(c.c_void_p)
_DIAG, _LEN = c.POINTER(Diag), c.POINTER(c.c_size_t)
_MSG, _VERDICT = c.POINTER(Msg), c.POINTER(Verdict)
_IDENTITY = c.POINTER(Identity)
# name: result, arguments. An int result is a dbe_err.
_FUNCTIONS: "dict[str, tuple[Any, list[Any]]]" = {
    "dbe_msg_decode": (c.c_int, [_P, c.c_size_t, _MSG, _DIAG]),
    "dbe_build_begin": (None, [c.POINTER(Builder), _P, c.c_size_t, c.c_uint8, c.c_uint16, c.c_uint64]),
    "dbe_build_bytes": (None, [c.POINTER(Builder), c.c_uint16, c.c_char_p, c.c_size_t]),
    "dbe_build_payload": (None, [c.POINTER(Builder), c.c_char_p, c.c_size_t]),
    "dbe_build_end": (c.c_int, [c.POINTER(Builder), _LEN]),
    "dbe_payload_to_json": (c.c_int, [c.c_uint8, c.c_char_p, c.c_size_t, _P, c.c_size_t, _LEN, _DIAG]),
    "dbe_payload_from_json": (c.c_int, [c.c_uint8, c.c_char_p, c.c_size_t, _P, c.c_size_t, _LEN, _DIAG]),
    "dbe_credential_load": (c.c_int, [c.c_char_p, c.c_char_p, _PP, _DIAG]),
    "dbe_credential_free": (None, [_P]),
    "dbe_credential_identity": (_IDENTITY, [_P]),
    "dbe_credential_cert": (None, [_P, _PP, _LEN]),
    "dbe_credential_sign": (c.c_int, [_P, c.c_char_p, c.c_char_p, c.c_size_t, _P]),
    "dbe_trust_load": (c.c_int, [c.c_char_p, _PP, _DIAG]),
    "dbe_trust_free": (None, [_P]),
    "dbe_trust_verify": (c.c_int, [_P, c.c_char_p, c.c_size_t, c.c_uint64, _IDENTITY, _P, _DIAG]),
    "dbe_keys_list": (c.c_int, [c.c_char_p, ON_KEY, _P, _DIAG]),
    "dbe_claim_issue": (c.c_int, [c.POINTER(Claim), _P, c.c_char_p, _P, c.c_size_t, _LEN, _DIAG]),
    "dbe_claim_verify": (c.c_int, [c.c_char_p, c.c_size_t, c.c_char_p, c.c_char_p, c.c_uint64, c.POINTER(Claim),
                                   _DIAG]),
    "dbe_signature_verify": (c.c_int, [c.c_char_p, c.c_char_p, c.c_char_p, c.c_size_t, c.c_char_p]),
    "dbe_loop_new": (c.c_int, [_PP]),
    "dbe_loop_free": (None, [_P]),
    "dbe_loop_turn": (c.c_int, [_P, c.c_int]),
    "dbe_loop_fd": (c.c_int, [_P]),
    "dbe_loop_next_ns": (c.c_uint64, [_P]),
    "dbe_node_new": (c.c_int, [_P, c.POINTER(NodeConfig), _PP]),
    "dbe_node_free": (None, [_P]),
    "dbe_node_listen": (c.c_int, [_P, c.c_char_p, _DIAG]),
    "dbe_node_watch_keys": (c.c_int, [_P, c.c_char_p, _DIAG]),
    "dbe_node_link": (c.c_int, [_P, c.c_char_p, c.c_uint8, c.c_int, _PP]),
    "dbe_link_last_error": (c.c_int, [_P, _DIAG]),
    "dbe_call": (c.c_int, [_P, c.c_char_p, c.c_size_t, c.c_uint64, ON_REPLY, _P, c.POINTER(c.c_uint64)]),
    "dbe_call_abort": (c.c_int, [_P, c.c_uint64, c.c_char_p, c.c_size_t]),
    "dbe_send": (c.c_int, [_P, c.c_char_p, c.c_size_t]),
    "dbe_peer_identity": (_IDENTITY, [_P]),
    "dbe_peer_public_key": (_P, [_P]),
    "dbe_peer_channel_binding": (c.c_int, [_P, _P]),
    "dbe_peer_suite": (c.c_char_p, [_P]),
    "dbe_peer_suite_id": (c.c_uint16, [_P]),
    "dbe_peer_handshake_us": (c.c_uint64, [_P]),
    "dbe_peer_close": (None, [_P, c.c_int]),
    "dbe_policy_default": (PolicyDigest, []),
    "dbe_gate_new": (c.c_int, [_P, _P, _PP]),
    "dbe_gate_free": (None, [_P]),
    "dbe_gate_message": (c.c_int, [_P, _MSG, c.c_uint64, _VERDICT]),
    "dbe_gate_answer": (c.c_int, [_P, c.POINTER(Labels), _MSG, _VERDICT]),
    "dbe_gate_send": (c.c_int, [_P, c.POINTER(Labels), _VERDICT]),
    "dbe_labels_read": (c.c_int, [_MSG, c.POINTER(Labels)]),
}
for _name, (_result, _arguments) in _FUNCTIONS.items():
    _function: Callable[..., Any] = getattr(lib, _name)
    _function.restype, _function.argtypes = _result, _arguments  # type: ignore[attr-defined]


def text_of(value: Optional[bytes]) -> str:
    """A C string, whatever is in it."""
    return (value or b"").decode("utf-8", "replace")


def check(err: int, diag: Optional[Diag] = None) -> None:
    """Raise the exception of an error; 0 is none."""
    if err == 0:
        return
    if diag is None:
        raise error(err)
    raise error(err, text_of(diag.text), clause=text_of(diag.clause), offset=diag.offset)
