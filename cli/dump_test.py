# SPDX-License-Identifier: Apache-2.0
"""`dsmil dump` as people call it: files and pipes, raw and hex, one message and many, good and broken.

In:   argv[1], the program `dsmil`
Out:  unittest's report
"""
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
ERROR = b"DSMI\x01\xff\0\x04" + bytes(24)
RECORD = struct.pack(">IBBHQ", 16, 0x12, 1, 0, 7) + bytes(16)


def dump(*args, stdin=b""):
    """(exit code, standard output, standard error) of one call."""
    done = subprocess.run([DSMIL, "dump", *map(str, args)], input=stdin, capture_output=True, check=False, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class Dump(unittest.TestCase):
    """One method a promise."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp())

    def tearDown(self):
        shutil.rmtree(self.dir)

    def put(self, data):
        """A file of these bytes."""
        path = self.dir / "input"
        path.write_bytes(data)
        return path

    def test_annex_a_as_it_is_printed(self):
        spec = (ROOT / "docs/spec/dbe-v1.md").read_text(encoding="utf-8")
        text = re.search(r"## Annex A.*?```\n(.*?)```", spec, re.S)[1]
        code, out, _ = dump("-", stdin=text.encode())
        self.assertEqual(code, 0, out)
        for word in ("L7_CHAT_REQ", '"acme"', "2, SECRET", "1, ANALYSIS_ONLY", "43, Extended Analytics", "60000 ms",
                     "2023-11-14T22:13:20.000Z", "5f0c1b1e-2733-4d0a-9b62-0e6f3a51c4d7", '"What is DSMIL?"'):
            self.assertIn(word, out)

    def test_raw_hex_and_pipe_say_the_same(self):
        raw = dump(self.put(ERROR))
        self.assertEqual(raw[0], 0)
        self.assertEqual(dump(self.put(ERROR.hex().encode())), raw)
        self.assertEqual(dump(self.put(b"44:53 4D,49\n" + ERROR[4:].hex().encode())), raw)
        self.assertEqual(dump("-", stdin=ERROR), raw)

    def test_many_of_both(self):
        code, out, _ = dump("--json", self.put(ERROR + RECORD + ERROR))
        self.assertEqual(code, 0)
        items = json.loads(out)["items"]
        self.assertEqual([item["name"] for item in items], ["message", "record", "message"])
        self.assertEqual([item["offset"] for item in items], [0, 32, 64])

    def test_broken_is_shown_and_said(self):
        code, out, _ = dump(self.put(ERROR[:30] + b"\x01" + ERROR[31:]))
        self.assertEqual(code, 1)
        self.assertIn("E_MALFORMED, spec 3.10, at 0x001c", out)
        code, out, _ = dump("--json", self.put(b""))
        self.assertEqual(code, 1)
        self.assertTrue(json.loads(out)["broken"])

    def test_records_are_those_of_the_specification(self):
        """spec 5.3, 5.4: each type at its shortest and longest, and one byte beyond both."""
        spec = (ROOT / "docs/spec/dbe-v1.md").read_text(encoding="utf-8")
        table = re.search(r"^\*\*5\.3\*\*.*?(?=^\*\*5\.4\*\*)", spec, re.S | re.M)[0]
        rows = re.findall(r"^\| (0x\d\d) \| ([^|]+) \| [^|]+ \| (\d+)(?: to (\d+))? \|", table, re.M)
        self.assertGreaterEqual(len(rows), 9)
        for number, name, least, most in rows:
            kind, least, most = int(number, 16), int(least), int(most or least)
            for length, want in ((least, 0), (least - 1, 1), (most + 1, 1)):
                head = struct.pack(">IBBHQ", length, kind, 0, 0, 0)
                code, out, _ = dump("-", stdin=head + (bytes(length) if length <= least else b""))
                self.assertEqual(code, want, f"{name} of {length} bytes: {out}")
                self.assertIn(name, out)
                self.assertEqual("spec 5.4" in out, want == 1)
            code, out, _ = dump("-", stdin=struct.pack(">IBBHQ", most, kind, 0, 0, 0))
            self.assertIn("spec 5.12", out)  # as long as may be, and cut

    def test_capture(self):
        pcap = self.dir / "out.pcap"
        self.assertEqual(dump("--pcap", pcap, self.put(ERROR + RECORD + ERROR[:20]))[:2], (0, ""))
        data = pcap.read_bytes()
        self.assertEqual(struct.unpack("<IHHIIII", data[:24]), (0xA1B2C3D4, 2, 4, 0, 0, 262144, 147))
        at, packets = 24, []
        while at < len(data):
            length = struct.unpack_from("<I", data, at + 8)[0]
            packets.append(data[at + 16:at + 16 + length])
            at += 16 + length
        self.assertEqual(packets, [ERROR, RECORD, ERROR[:20]])
        self.assertEqual(dump(f"--pcap={self.dir}/no/such", self.put(ERROR))[0], 1)

    def test_a_packet_larger_than_captures_take_is_cut(self):
        pcap = self.dir / "out.pcap"
        large = ERROR[:16] + struct.pack(">Q", 300000) + ERROR[24:] + bytes(300000)
        self.assertEqual(dump("--pcap", pcap, self.put(large))[0], 0)
        self.assertEqual(struct.unpack_from("<II", pcap.read_bytes(), 32), (262144, 300032))

    def test_what_people_get_wrong(self):
        code, _, err = dump(self.dir / "nothing")
        self.assertEqual(code, 1)
        self.assertIn("E_NOT_FOUND", err)
        self.assertEqual(dump(self.dir)[0], 1)  # a folder
        self.assertEqual(dump()[0], 2)
        self.assertEqual(dump("--what", "x")[0], 2)
        self.assertEqual(dump("a", "b")[0], 2)
        code, out, _ = dump("--help")
        self.assertEqual(code, 0)
        self.assertIn("--pcap", out)

    def test_too_much_is_refused(self):
        path = self.dir / "large"
        with open(path, "wb") as out:
            out.truncate(64 * 1024 * 1024 + 1)
        code, _, err = dump(path)
        self.assertEqual(code, 1)
        self.assertIn("E_TOO_LARGE", err)


if __name__ == "__main__":
    DSMIL = sys.argv[1]
    unittest.main(argv=sys.argv[:1])
