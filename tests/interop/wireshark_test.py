# SPDX-License-Identifier: Apache-2.0
"""contrib/wireshark/dbe.lua under tshark: its fields, its verdicts, and that its tables are those of schema/.

In:   argv[1] the mutator, argv[2] the program `dsmil`
Out:  exit 0; 77 (skipped) where tshark is not installed
Does: a capture that `dsmil dump --pcap` wrote shows the fields of annex A; of a few thousand mutated messages the first
      expert item names the clause that the C decoder names; records and handshakes are shown.
"""
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LUA = ROOT / "contrib/wireshark/dbe.lua"
SKIPPED, MESSAGES, LINKTYPE_USER0 = 77, 3000, 147


def tshark(pcap, *args):
    """Lines of tshark over a capture."""
    home = {**os.environ, "HOME": tempfile.gettempdir(), "XDG_CONFIG_HOME": tempfile.gettempdir()}
    done = subprocess.run(["tshark", "-X", f"lua_script:{LUA}", "-r", str(pcap), *args], capture_output=True, text=True,
                          check=False, env=home, timeout=120)
    if "Lua" in done.stderr and "rror" in done.stderr:
        raise AssertionError(done.stderr)
    return done.stdout.splitlines()


def fields(pcap, *names):
    """One list of values a frame."""
    args = ["-T", "fields", "-E", "separator=|"]
    for name in names:
        args += ["-e", name]
    return [line.split("|") for line in tshark(pcap, *args)]


def write_pcap(path, packets):
    """A capture of link type USER0."""
    out = [struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, LINKTYPE_USER0)]
    for packet in packets:
        out.append(struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet)
    path.write_bytes(b"".join(out))


def mutated():
    """(bytes, clause) of messages as the C decoder judges them."""
    data = subprocess.run([MUTATOR, str(MESSAGES), "7"], capture_output=True, check=True).stdout
    at, out = 0, []
    while at < len(data):
        length = struct.unpack_from(">I", data, at)[0]
        message, at = data[at + 4:at + 4 + length], at + 4 + length
        code, _, clause_len = struct.unpack_from(">HIB", data, at)
        clause, at = data[at + 7:at + 7 + clause_len].decode(), at + 7 + clause_len
        if code == 0:
            at += 17 + 8 * struct.unpack_from(">H", data, at + 15)[0]
        out.append((message, clause))
    return out


def record(kind, body, epoch=0, sequence=0):
    """A record as section 5 lays it out."""
    return struct.pack(">IBBHQ", len(body), kind, epoch, 0, sequence) + body


class Dissector(unittest.TestCase):
    """One method a promise of the dissector."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp())
        self.pcap = self.dir / "x.pcap"

    def tearDown(self):
        shutil.rmtree(self.dir)

    def test_tables_are_those_of_the_schema(self):
        done = subprocess.run([sys.executable, str(ROOT / "tools/gen_registry.py"), "--check-lua", str(LUA)],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_suites_and_records_are_those_of_the_specification(self):
        spec, text = (ROOT / "docs/spec/dbe-v1.md").read_text(encoding="utf-8"), LUA.read_text(encoding="utf-8")
        suites = re.findall(r"^\| (0x\d{4}) \| [^|]+ \| (\d+)[^|]* \| [^|]+ \| (\d+), (\d+), 32 \|", spec, re.M)
        self.assertGreaterEqual(len(suites), 1)
        for number, public, ek, ct in suites:
            self.assertRegex(text, rf"\[{number}\] = {{name = \"[^\"]+\", public = {public}, ek = {ek}, ct = {ct}}}")
        names = {"message 1", "message 2", "message 3", "alert", "DATA", "REKEY", "CLOSE", "REHANDSHAKE", "SWITCH"}
        for number, name in re.findall(r"^\| (0x\d\d) \| ([A-Za-z0-9 ]+) \| [^|]+ \| [0-9to ]+ \|", spec, re.M):
            self.assertIn(name, names)
            self.assertIn(f'[{number}] = {{name = "{name}"', text)

    def test_annex_a(self):
        spec = (ROOT / "docs/spec/dbe-v1.md").read_text(encoding="utf-8")
        text = self.dir / "annex.hex"
        text.write_text(re.search(r"## Annex A.*?```\n(.*?)```", spec, re.S)[1], encoding="utf-8")
        subprocess.run([DSMIL, "dump", "--pcap", str(self.pcap), str(text)], check=True)
        names = ("dbe.type", "dbe.tenant", "dbe.compartments", "dbe.classification", "dbe.roe_level", "dbe.src",
                 "dbe.dst", "dbe.request_id", "dbe.timeout_ms", "dbe.layer", "dbe.payload_len",
                 "dbe.flags.replay_protected",
                 "_ws.expert.message", "dbe.timestamp")
        row = fields(self.pcap, *names)[0]
        self.assertEqual(row[:13], ["0x41", "acme", "0x00000001", "2", "1", "0", "43",
                                    "5f0c1b1e-2733-4d0a-9b62-0e6f3a51c4d7", "60000", "7", "24", row[11], ""])
        self.assertIn(row[11], ("1", "True"))
        self.assertIn("2023", row[13])
        shown = "\n".join(tshark(self.pcap, "-V"))
        for word in ("L7_CHAT_REQ", "Extended Analytics", "SECRET", "ANALYSIS_ONLY", "= SOC: "):
            self.assertIn(word, shown)
        self.assertEqual(len(tshark(self.pcap, "-Y", 'dbe.tenant == "acme" && dbe.dst == 43')), 1)
        self.assertEqual(len(tshark(self.pcap, "-Y", "dbe.broken")), 0)

    def test_verdicts_are_the_decoder_s(self):
        cases = [(m, c) for m, c in mutated() if len(m) > 0 and m[0] > 1]
        write_pcap(self.pcap, [m for m, _ in cases])
        rows = fields(self.pcap, "_ws.expert.message")
        self.assertEqual(len(rows), len(cases))
        reached = set()
        for (message, clause), (said,) in zip(cases, rows):
            if clause == "spec 3.11":  # bytes that are left over begin another message
                self.assertNotEqual(said, "", message.hex())
                continue
            first = re.search(r"spec \d+\.\d+", said)
            self.assertEqual(first[0] if first else "", clause, f"{message.hex()}: {said}")
            reached.add(clause)
        self.assertGreaterEqual(len(reached), 16, sorted(reached))

    def test_several_messages_in_a_frame(self):
        message = b"DSMI\x01\xff\0\0" + bytes(24)
        write_pcap(self.pcap, [message * 3])
        self.assertEqual(fields(self.pcap, "dbe.type"), [["0xff,0xff,0xff"]])

    def test_records(self):
        hello = b"\x01\x02" + b"n" * 32 + b"h" * 32 + b"P" * 32
        hello += struct.pack(">HH", 1, 1665) + b"p" * 97 + b"k" * 1568 + struct.pack(">HH", 2, 1600) + b"x" * 1600
        answer = b"\x01\x00\x01" + b"n" * 32 + b"p" * 97 + b"c" * 1568 + b"s" * 6000
        good = [record(1, hello), record(2, answer), record(3, b"s" * 6000), record(0x10, b"s" * 100, 1, 7),
                record(0x11, b"s" * 17, 1, 8), record(0x12, b"s" * 16, 2, 9), record(0x20, b"\0\x17"),
                record(0x13, b"s" * 60, 1, 1), record(0x14, b"s" * 17, 1, 2)]
        bad = [(record(0x55, b""), "spec 5.4"), (record(0x12, b"s" * 17, 1), "spec 5.4"),
               (record(0x10, b"s" * 15, 1), "spec 5.4"), (record(0x20, b"\0\x17", 1), "spec 5.4"),
               (record(0x10, b"s" * 100, 1)[:-1], "spec 5.12"), (record(1, hello)[:9], "spec 5.2"),
               (record(1, hello[:-1]), "spec 6.10"), (record(2, answer[:100]), "spec 6.10")]
        write_pcap(self.pcap, good + [packet for packet, _ in bad])
        rows = fields(self.pcap, "dbe.record.type", "dbe.hs.suite", "dbe.hs.policy_digest", "dbe.alert",
                      "_ws.expert.message")
        self.assertEqual([row[0] for row in rows[:len(good)]],
                         ["0x01", "0x02", "0x03", "0x10", "0x11", "0x12", "0x20", "0x13", "0x14"])
        self.assertEqual(rows[0][1:3], ["0x0001,0x0002", "50" * 32])
        self.assertEqual(rows[6][3], "23")
        self.assertEqual([row[4] for row in rows[:len(good)]], [""] * len(good))
        for (_, clause), row in zip(bad, rows[len(good):]):
            self.assertIn(clause, row[4])


if __name__ == "__main__":
    MUTATOR, DSMIL = sys.argv[1:3]
    if shutil.which("tshark") is None:
        print("tshark is not installed")
        sys.exit(SKIPPED)
    unittest.main(argv=sys.argv[:1])
