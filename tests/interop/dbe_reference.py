# SPDX-License-Identifier: Apache-2.0
"""A second decoder of DBE messages, written from docs/spec/dbe-v1.md alone (sections 3 and 4, registries of annex B).

It shares no code and no table with the C one. It is slow and plain on purpose: each rule stands in the order in which
clauses 3.12 and 4.11 give it, so that a difference between the two decoders points at a clause.

In:   the bytes of one message
Out:  decode() gives a Message or raises Refused with error name, clause and offset
Does: `dbe_reference.py FILE` decodes a file and prints what it holds.
"""
import dataclasses
import pathlib
import re
import struct
import sys

SCHEMA = pathlib.Path(__file__).resolve().parents[2] / "schema"
# Limits of section 13 and the numbers of sections 3 and 4.
HEADER_BYTES, TLV_HEADER_BYTES, TLVS_MAX, AREA_MAX, PAYLOAD_MAX, HOP_BYTES = 32, 4, 64, 65536, 16777216, 7


class Refused(Exception):
    """What the specification says a receiver refuses, and by which clause."""

    def __init__(self, error, clause, offset):
        super().__init__(f"{error} ({clause}) at {offset}")
        self.error, self.clause, self.offset = error, clause, offset


@dataclasses.dataclass
class Message:
    """What a receiver reads from a message whose form is good."""
    msg_type: int
    flags: int
    correlation_id: int
    tlvs: list  # (type, value) in wire order
    payload: bytes


def rows(table, macro):
    """Rows of schema/<table>.def as lists of words; texts keep no quotes."""
    out = []
    for line in (SCHEMA / f"{table}.def").read_text(encoding="utf-8").splitlines():
        match = re.match(rf"{macro}\((.*)\)\s*$", line)
        if match:
            out.append([word.strip() for word in re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', match[1])])
    return out


MSG_TYPES = {int(r[1], 0): r[0] for r in rows("msg_types", "MSG")}
ALIASES = {0x30: 0x41, 0x31: 0x42}  # clause 3.5 names them
FLAGS = sum(int(r[1], 0) for r in rows("flags", "FLAG"))
TLVS = {int(r[1], 0): (r[0], r[2], int(r[3]), int(r[4])) for r in rows("tlvs", "TLV")}
ERRORS = {int(r[1]): r[0] for r in rows("errors", "ERROR")}


def is_text(value):
    """Clause 4.6: RFC 3629, and no zero byte."""
    try:
        value.decode("utf-8")  # Python's decoder is strict: no surrogates, no overlong forms, nothing above U+10FFFF
    except UnicodeDecodeError:
        return False
    return 0 not in value


def check_header(data):
    """Clause 3.12 up to 3.11: the order is that of the clause."""
    if len(data) < HEADER_BYTES:
        raise Refused("E_MALFORMED", "spec 3.1", len(data))
    magic, version, msg_type, flags, correlation_id, payload_len, tlv_len, reserved = struct.unpack(
        ">4sBBHQQII", data[:HEADER_BYTES])
    if magic != b"DSMI":
        raise Refused("E_MALFORMED", "spec 3.3", 0)
    if version != 1:
        raise Refused("E_UNSUPPORTED", "spec 3.4", 4)
    if reserved != 0:
        raise Refused("E_MALFORMED", "spec 3.10", 28)
    if payload_len > PAYLOAD_MAX:
        raise Refused("E_TOO_LARGE", "spec 3.8", 16)
    if tlv_len > AREA_MAX:
        raise Refused("E_TOO_LARGE", "spec 3.9", 24)
    msg_type = ALIASES.get(msg_type, msg_type)
    if msg_type not in MSG_TYPES:
        raise Refused("E_UNSUPPORTED", "spec 3.5", 5)
    if flags & ~FLAGS:
        raise Refused("E_RANGE", "spec 3.6", 6)
    if len(data) != HEADER_BYTES + tlv_len + payload_len:
        raise Refused("E_MALFORMED", "spec 3.11", 16)
    return Message(msg_type, flags, correlation_id, [], b""), tlv_len


def check_value(tlv_type, value, at):
    """Clauses 4.5 to 4.7; what is not known is opaque."""
    if tlv_type not in TLVS:
        return
    _, kind, least, most = TLVS[tlv_type]
    if not least <= len(value) <= most:
        raise Refused("E_RANGE", "spec 4.5", at)
    if kind == "TEXT" and not is_text(value):
        raise Refused("E_UTF8", "spec 4.6", at)
    if kind == "HOPS" and len(value) % HOP_BYTES != 0:
        raise Refused("E_RANGE", "spec 4.7", at)


def decode(data):
    """The message, or Refused with the first rule that is broken (clauses 3.12 and 4.11)."""
    message, tlv_len = check_header(data)
    at, end, seen = HEADER_BYTES, HEADER_BYTES + tlv_len, set()
    while at < end:
        if end - at < TLV_HEADER_BYTES:
            raise Refused("E_MALFORMED", "spec 4.1", at)
        tlv_type, length = struct.unpack(">HH", data[at:at + TLV_HEADER_BYTES])
        if length > end - at - TLV_HEADER_BYTES:
            raise Refused("E_MALFORMED", "spec 4.1", at)
        value = data[at + TLV_HEADER_BYTES:at + TLV_HEADER_BYTES + length]
        if len(message.tlvs) == TLVS_MAX:
            raise Refused("E_TOO_LARGE", "spec 4.2", at)
        if tlv_type == 0:
            raise Refused("E_MALFORMED", "spec 4.3", at)
        if tlv_type >= 0x8000 and tlv_type not in TLVS:
            raise Refused("E_CRITICAL_TLV", "spec 4.8", at)
        if tlv_type in seen:
            raise Refused("E_DUPLICATE", "spec 4.4", at)
        check_value(tlv_type, value, at)
        seen.add(tlv_type)
        message.tlvs.append((tlv_type, value))
        at += TLV_HEADER_BYTES + length
    message.payload = data[end:]
    return message


def main(argv):
    """Print one message."""
    data = pathlib.Path(argv[1]).read_bytes()
    try:
        message = decode(data)
    except Refused as refused:
        print(refused)
        return 1
    print(f"{MSG_TYPES[message.msg_type]} flags 0x{message.flags:04x} correlation 0x{message.correlation_id:016x}")
    for tlv_type, value in message.tlvs:
        print(f"  {TLVS[tlv_type][0] if tlv_type in TLVS else hex(tlv_type)}: {value.hex()}")
    print(f"  payload: {len(message.payload)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
