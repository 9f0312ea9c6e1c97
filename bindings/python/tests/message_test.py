#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Messages and TLVs of Python against the C decoder: spec 3 and 4."""
import struct
import unittest
import uuid

from dsmil_dbe import DBEMessage, Hop, MessageFlag, MessageType, errors
from dsmil_dbe.registry import TLV_BY_NAME, TLV_BY_TYPE

REQUEST_ID = "123e4567-e89b-42d3-a456-426614174000"
# A value of each TLV as a program sets it, and what it then reads.
VALUES = {
    "TENANT_ID": ("SOC_TEAM_ALPHA", "SOC_TEAM_ALPHA"),
    "COMPARTMENT_MASK": (["SOC", "DEV"], 3),
    "CLASSIFICATION": ("SECRET", "SECRET"),
    "LAYER_PATH": ("3\u21925\u21927", "3\u21925\u21927"),
    "ROE_TOKEN_ID": (b"0123456789abcdef", b"0123456789abcdef"),
    "DEVICE_ID_SRC": (47, 47),
    "DEVICE_ID_DST": (43, 43),
    "TIMESTAMP": (1700000000.25, 1700000000.25),
    "L7_CLAIM_TOKEN": (b"token", b"token"),
    "TWO_PERSON_SIG_A": (b"a", b"a"),
    "TWO_PERSON_SIG_B": (bytearray(b"b"), b"b"),
    "SEQUENCE_NUM": (2**64 - 1, 2**64 - 1),
    "L7_PROFILE": ("llm-7b-amx", "llm-7b-amx"),
    "ROE_LEVEL": (2, "SOC_ASSIST"),
    "REQUEST_ID": (REQUEST_ID, REQUEST_ID),
    "TIMEOUT_MS": (30000, 30000),
    "HOP_TRACE": ([(47, 1000, 1), Hop(43, 2000, 1)], [Hop(47, 1000, 1), Hop(43, 2000, 1)]),
    "TRACE_CONTEXT": (bytes(26), bytes(26)),
    "ADVISORY_FLAG": (1, 1),
    "ROE_TOKEN": (b"body", b"body"),
    "SEALED_TO": (47, 47),
}


def chat():
    """A small request."""
    return DBEMessage(MessageType.L7_CHAT_REQ, REQUEST_ID, {"messages": [{"role": "user", "content": "h\u00e9"}]})


class Tlvs(unittest.TestCase):
    """Values by name."""

    def test_every_row_of_the_registry(self):
        self.assertEqual(set(VALUES), set(TLV_BY_NAME))
        for name, (value, want) in VALUES.items():
            with self.subTest(name):
                message = DBEMessage(MessageType.L7_CHAT_REQ, 1)
                message.tlv_set(name, value)
                back = DBEMessage.from_bytes(message.to_bytes())
                self.assertEqual(back.tlv_get(name), want)
                self.assertEqual(back.tlv_get(TLV_BY_NAME[name].type), want)

    def test_all_at_once(self):
        message = DBEMessage(MessageType.L7_CHAT_REQ)
        for name, (value, _) in VALUES.items():
            message.tlv_set(name, value)
        back = DBEMessage.from_bytes(message.to_bytes())
        self.assertEqual({name: back.tlv_get(name) for name in back.tlv_names()},
                         {name: want for name, (_, want) in VALUES.items()})

    def test_default_and_removal(self):
        message = chat()
        self.assertEqual(message.tlv_get("TENANT_ID", "unknown"), "unknown")
        self.assertIsNone(message.tlv_get("TENANT_ID"))
        message.tlv_set("TENANT_ID", "t")
        message.tlv_set("TENANT_ID", None)
        self.assertNotIn("TENANT_ID", message.tlv_names())

    def test_layer_path_forms(self):
        for value in ("3\u21925\u21927", "3->5->7", "3, 5, 7", [3, 5, 7], (3, 5, 7), b"\x03\x05\x07"):
            message = chat()
            message.tlv_set("LAYER_PATH", value)
            self.assertEqual(message.tlv_get("LAYER_PATH"), "3\u21925\u21927")

    def test_wrong_values(self):
        for name, value in (("CLASSIFICATION", "SECRETS"), ("DEVICE_ID_SRC", 256), ("DEVICE_ID_SRC", "x"),
                            ("COMPARTMENT_MASK", "SOC|NOPE"), ("TENANT_ID", 5), ("REQUEST_ID", "unknown"),
                            ("TIMESTAMP", "now"), ("NO_SUCH", 1), ("HOP_TRACE", [(1, 2)]), ("TIMEOUT_MS", -1)):
            with self.subTest(name=name, value=value), self.assertRaises(errors.E_ARGUMENT):
                chat().tlv_set(name, value)

    def test_what_the_library_refuses(self):
        for name, value, error in (("TENANT_ID", "x" * 65, errors.E_RANGE), ("TENANT_ID", "a\0b", errors.E_UTF8),
                                   ("ROE_TOKEN_ID", b"short", errors.E_RANGE),
                                   ("LAYER_PATH", [7] * 33, errors.E_RANGE)):
            message = chat()
            message.tlv_set(name, value)
            with self.subTest(name=name), self.assertRaises(error):
                message.to_bytes()

    def test_unknown_types_are_kept(self):
        """Spec 4.9, and 4.8 for the critical ones."""
        message = chat()
        message.tlv_set(0x1234, b"kept")
        self.assertEqual(DBEMessage.from_bytes(message.to_bytes()).tlv_get(0x1234), b"kept")
        self.assertNotIn(0x8123, TLV_BY_TYPE)
        raw = bytearray(chat().to_bytes())
        critical = struct.pack(">HH", 0x8123, 0)
        raw[24:28] = struct.pack(">I", struct.unpack(">I", raw[24:28])[0] + 4)
        with self.assertRaises(errors.E_CRITICAL_TLV):
            DBEMessage.from_bytes(bytes(raw[:32]) + critical + bytes(raw[32:]))


class Messages(unittest.TestCase):
    """Header, payload, errors."""

    def test_header(self):
        """Spec 3.2 and 3.7."""
        message = chat()
        message.flags = MessageFlag.STREAMING
        raw = message.to_bytes()
        magic, version, kind, flags, correlation, payload_len, tlv_len, reserved = struct.unpack(">4sBBHQQII", raw[:32])
        self.assertEqual((magic, version, kind, flags, reserved), (b"DSMI", 1, 0x41, 1, 0))
        self.assertEqual(correlation, int.from_bytes(uuid.UUID(REQUEST_ID).bytes[:8], "big"))
        self.assertEqual(32 + payload_len + tlv_len, len(raw))
        back = DBEMessage.from_bytes(raw)
        self.assertIs(back.msg_type, MessageType.L7_CHAT_REQ)
        self.assertEqual(f"0x{back.msg_type:02X}", "0x41")
        self.assertEqual(back.correlation_id, message.correlation_id)
        self.assertEqual(back.tlv_get("REQUEST_ID"), REQUEST_ID)

    def test_alias(self):
        """Spec 3.5: 0x30 is read as 0x41."""
        raw = bytearray(chat().to_bytes())
        raw[5] = 0x30
        self.assertIs(DBEMessage.from_bytes(bytes(raw)).msg_type, MessageType.L7_CHAT_REQ)

    def test_every_truncation(self):
        raw = chat().to_bytes()
        for end in range(len(raw)):
            with self.assertRaises(errors.E_MALFORMED) as caught:
                DBEMessage.from_bytes(raw[:end])
        self.assertTrue(caught.exception.clause)

    def test_errors_say_where(self):
        raw = bytearray(chat().to_bytes())
        raw[4] = 9
        with self.assertRaises(errors.E_UNSUPPORTED) as caught:
            DBEMessage.from_bytes(bytes(raw))
        self.assertEqual((caught.exception.offset, caught.exception.number), (4, 2))
        self.assertIsInstance(caught.exception, errors.DropError)

    def test_payload(self):
        message = DBEMessage(MessageType.L7_CHAT_REQ, REQUEST_ID, {"messages": [{"role": "user", "content": "\u4f60"}],
                                                                   "temperature": 0.5, "seed": 2**63, "stop": ["x"]})
        back = DBEMessage.from_bytes(message.to_bytes()).payload
        self.assertEqual([(m["role"], m["content"]) for m in back["messages"]], [("user", "\u4f60")])
        self.assertEqual((back["temperature"], back["seed"], back["stop"]), (0.5, 2**63, ["x"]))
        self.assertNotIn("max_tokens", back)
        self.assertEqual(back.get("max_tokens", 512), 512)

    def test_large_payload(self):
        """More than the first guess of the conversion's memory."""
        text = "\u00e9\n" * 300000
        back = DBEMessage.from_bytes(DBEMessage(MessageType.L7_CHAT_REQ, 1, {"model": text}).to_bytes())
        self.assertEqual(back.payload["model"], text)

    def test_payload_stays_as_it_came(self):
        """Fields that a forwarder does not know go on (spec 3.13), until the program changes the payload."""
        unknown = b"\xfa\x7f\x01x"  # field 2047, which no schema has
        raw = DBEMessage(MessageType.L7_CHAT_REQ, 1, chat().payload_bytes() + unknown)
        back = DBEMessage.from_bytes(raw.to_bytes())
        self.assertIn("messages", back.payload)
        self.assertTrue(back.payload_bytes().endswith(unknown))
        back.payload["model"] = "m"
        self.assertFalse(back.payload_bytes().endswith(unknown))
        self.assertEqual(DBEMessage.from_bytes(back.to_bytes()).payload["model"], "m")

    def test_wrong_payloads(self):
        for payload, error in (({"nope": 1}, errors.E_RANGE), ({"max_tokens": "x"}, errors.E_RANGE),
                               ({"model": object()}, errors.E_ARGUMENT),
                               ({"temperature": float("nan")}, errors.E_ARGUMENT)):
            with self.subTest(payload), self.assertRaises(error):
                DBEMessage(MessageType.L7_CHAT_REQ, 1, payload).to_bytes()
        with self.assertRaises(errors.E_MALFORMED):
            _ = DBEMessage(MessageType.L7_CHAT_REQ, 1, b"\xff").payload

    def test_types(self):
        with self.assertRaises(errors.E_ARGUMENT):
            DBEMessage(0x99)
        self.assertEqual({t.name for t in MessageType} & {"L7_CHAT_REQ", "ERROR", "SOC_EVENT"},
                         {"L7_CHAT_REQ", "ERROR", "SOC_EVENT"})

    def test_a_payload_with_error_is_an_error(self):
        """Spec 9.4."""
        for text, name in (("DENIED: KINETIC compartment", "E_DENIED"), ("CLAIM_TOKEN_INVALID", "E_CLAIM_INVALID"),
                           ("NO_WORKER_AVAILABLE", "E_UNAVAILABLE"), ("WORKER_ERROR: E_CLOSED", "E_UNAVAILABLE"),
                           ("E_LIMIT: full", "E_LIMIT"), ("something else", "E_UNAVAILABLE")):
            message = DBEMessage(MessageType.L7_CHAT_RESP, 7, {"error": text, "choices": []})
            message.tlv_set("DEVICE_ID_SRC", 43)
            back = DBEMessage.from_bytes(message.to_bytes())
            self.assertIs(back.msg_type, MessageType.ERROR)
            problem = back.refusal()
            self.assertEqual((problem.name, problem.reason, problem.device_id, problem.remote), (name, text, 43, True))
        self.assertIsNone(chat().refusal())

    def test_error_classes(self):
        self.assertTrue(issubclass(errors.E_TIMEOUT, TimeoutError))
        self.assertTrue(issubclass(errors.E_DENIED, errors.DenyError))
        self.assertTrue(issubclass(errors.E_CLOSED, ConnectionError))
        self.assertIsInstance(errors.error(66, "late"), errors.E_TIMEOUT)
        self.assertEqual(str(errors.error(66, "late")), "E_TIMEOUT: late")
        self.assertEqual(errors.error(9999).number, 9999)


if __name__ == "__main__":
    unittest.main()
