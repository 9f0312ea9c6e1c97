# SPDX-License-Identifier: Apache-2.0
"""Values of TLVs: what stands on the wire, and what a Python program sees.

In:   a row of the registry and a value
Out:  encode() to bytes, decode() to the natural type of the row's kind
Not:  no lengths or ranges: the library checks those when the message is built or read.

    U8 U32 U64   int; CLASSIFICATION and ROE_LEVEL names ("SECRET", "SOC_ASSIST"); COMPARTMENT_MASK also takes names
    TEXT BYTES   str, bytes                TIMESTAMP  float, seconds since the Unix epoch
    UUID         str                       DEVICES    text, "3\u21925\u21927"; also takes a sequence of int
    HOPS         list of Hop
"""
from __future__ import annotations

import enum
import re
import struct
import uuid
from typing import Any, Dict, Iterable, List, NamedTuple, Type, Union

from .errors import E_ARGUMENT
from .registry import TLV_BY_NAME, TLV_BY_TYPE, Classification, Compartment, RoeLevel, TlvRow

_WIDTH = {"U8": 1, "U16": 2, "U32": 4, "U64": 8}
_ENUMS: Dict[str, Type[enum.IntEnum]] = {"CLASSIFICATION": Classification, "ROE_LEVEL": RoeLevel}
_FRACTION = 65536  # units of a millisecond in a timestamp
_ARROW = "\u2192"


class Hop(NamedTuple):
    """What one node spent on an answer."""

    device: int
    elapsed_us: int
    suite: int


def row_of(name: Union[str, int]) -> TlvRow:
    """The registry's row for a name, or for a type's number; a number that is in no row stands for plain bytes."""
    if isinstance(name, str):
        row = TLV_BY_NAME.get(name)
        if row is None:
            raise E_ARGUMENT(f"no TLV is called {name!r}")
        return row
    return TLV_BY_TYPE.get(int(name)) or TlvRow(int(name), f"{int(name):#06x}", "BYTES", 0, 0xFFFF)


def _number(row: TlvRow, value: Any) -> int:
    names = _ENUMS.get(row.name)
    if isinstance(value, str) and names is not None and value in names.__members__:
        return int(names[value])
    if row.name == "COMPARTMENT_MASK" and not isinstance(value, int):
        words: Iterable[str] = re.split(r"[|,\s]+", value) if isinstance(value, str) else value
        mask = 0
        for word in words:
            if word not in Compartment.__members__:
                raise E_ARGUMENT(f"no compartment is called {word!r}")
            mask |= Compartment[word]
        return mask
    if isinstance(value, int):
        return int(value)
    known = f", only {', '.join(names.__members__)}" if names is not None else ""
    raise E_ARGUMENT(f"{row.name} cannot be {value!r}{known}")


def _path(value: Any) -> bytes:
    parts = re.split(rf"\s*(?:{_ARROW}|->|>|,)\s*", value.strip()) if isinstance(value, str) else value
    return bytes(int(part) for part in parts)


def _timestamp(value: float) -> bytes:
    ticks = round(float(value) * 1000 * _FRACTION)
    return (ticks // _FRACTION).to_bytes(6, "big") + (ticks % _FRACTION).to_bytes(2, "big")


def _encode(row: TlvRow, value: Any) -> bytes:
    if row.kind in _WIDTH:
        return _number(row, value).to_bytes(_WIDTH[row.kind], "big")
    if row.kind == "TEXT":
        if not isinstance(value, str):
            raise TypeError("text is wanted")
        return value.encode("utf-8")
    if row.kind == "TIMESTAMP":
        return _timestamp(value)
    if row.kind == "UUID":
        return value.bytes if isinstance(value, uuid.UUID) else (
            bytes(value) if isinstance(value, (bytes, bytearray)) else uuid.UUID(value).bytes)
    if row.kind == "DEVICES":
        return _path(value)
    if row.kind == "HOPS":
        return b"".join(struct.pack(">BIH", *hop) for hop in value)
    return bytes(value)


def encode(row: TlvRow, value: Any) -> bytes:
    """The bytes of a value. E_ARGUMENT if it is none of the row's kind."""
    try:
        return _encode(row, value)
    except (TypeError, ValueError, OverflowError, struct.error, AttributeError, UnicodeEncodeError) as problem:
        if isinstance(problem, E_ARGUMENT):
            raise
        raise E_ARGUMENT(f"{row.name} ({row.kind}) cannot be {value!r}: {problem}") from problem


def _hops(data: bytes) -> List[Hop]:
    return [Hop(*struct.unpack_from(">BIH", data, at)) for at in range(0, len(data), 7)]


def decode(row: TlvRow, data: bytes) -> Any:
    """The value of a TLV's bytes, which the library has checked."""
    if row.kind in _WIDTH:
        number = int.from_bytes(data, "big")
        names = _ENUMS.get(row.name)
        if names is not None and number in names._value2member_map_:
            return names(number).name
        return number
    if row.kind == "TEXT":
        return data.decode("utf-8")
    if row.kind == "TIMESTAMP":
        return (int.from_bytes(data[:6], "big") + int.from_bytes(data[6:], "big") / _FRACTION) / 1000
    if row.kind == "UUID":
        return str(uuid.UUID(bytes=data))
    if row.kind == "DEVICES":
        return _ARROW.join(str(number) for number in data)
    if row.kind == "HOPS":
        return _hops(data)
    return data
