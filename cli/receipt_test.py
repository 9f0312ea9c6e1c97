# SPDX-License-Identifier: Apache-2.0
"""`dsmil receipt` as people call it: receipts of a mesh that was made for the test, good, altered and not expected.

In:   argv[1], the program `dsmil`; argv[2], a program that signs a receipt with the key of a store
Out:  unittest's report
"""
import base64
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

REQUEST, ANSWER = b"request payload", b"the answer"


class Receipt(unittest.TestCase):
    """One method a promise."""

    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp())
        cls.keys = cls.dir / "keys"
        subprocess.run([DSMIL, "keys", "init", "--dir", cls.keys], check=True, capture_output=True)
        subprocess.run([DSMIL, "keys", "issue", "--dir", cls.keys, "--device", "47", "--role", "worker", "--name", "w"],
                       check=True, capture_output=True)
        (cls.dir / "request").write_bytes(REQUEST)
        (cls.dir / "answer").write_bytes(ANSWER)
        cls.good = subprocess.run([SIGN, cls.keys, "w", cls.dir / "request", cls.dir / "answer"], check=True,
                                  capture_output=True).stdout

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def call(self, verb, data, *args):
        """(exit code, JSON that was printed) of one call."""
        path = self.dir / "receipt"
        path.write_bytes(data)
        done = subprocess.run([DSMIL, "receipt", verb, "--json", *map(str, args), path], capture_output=True,
                              check=False, timeout=60)
        return done.returncode, json.loads(done.stdout or b"{}")

    def verify(self, data, *args):
        """The same of `verify` with this mesh's certificate."""
        return self.call("verify", data, "--keys", self.keys, *args)

    def test_good(self):
        code, said = self.verify(self.good, "--request", self.dir / "request", "--answer", self.dir / "answer",
                                 "--model", "tiny", "--quantisation", "Q8_0")
        self.assertEqual((code, said["verified"]), (0, True))
        self.assertEqual(said["device"], 47)
        self.assertEqual(said["answer_digest"], hashlib.sha3_512(ANSWER).hexdigest())

    def test_base64(self):
        self.assertEqual(self.verify(base64.encodebytes(self.good))[0], 0)
        self.assertEqual(self.verify(base64.b64encode(self.good)[:-1])[0], 1)

    def test_altered(self):
        for at in range(4, 300, 7):
            data = bytearray(self.good)
            data[at] ^= 1
            code, said = self.verify(bytes(data))
            self.assertEqual((code, said["verified"]), (1, False), at)
            self.assertNotEqual(said["field"], "", at)

    def test_not_expected(self):
        other = self.dir / "other"
        other.write_bytes(b"another")
        for option, value, field in (("--request", other, "request"), ("--answer", other, "answer"),
                                     ("--model", "huge", "model"), ("--quantisation", "Q4_0", "quantisation"),
                                     ("--worker", "spiffe://x/l7/worker/47", "worker"),
                                     ("--model-digest", "00" * 64, "model_digest"),
                                     ("--policy-digest", "00" * 64, "policy_digest"),
                                     ("--request-id", "00000000-0000-4000-8000-000000000001", "request_id")):
            code, said = self.verify(self.good, option, value)
            self.assertEqual((code, said.get("field")), (1, field))

    def test_the_request_it_was_for(self):
        said = self.verify(self.good)[1]
        self.assertEqual(self.verify(self.good, "--request-id", said["request_id"])[0], 0)
        for wrong in ("", "0", said["request_id"][:-1], said["request_id"] + "0", "g" + said["request_id"][1:]):
            done = subprocess.run([DSMIL, "receipt", "verify", "--request-id=" + wrong, self.dir / "receipt"],
                                  capture_output=True, check=False, timeout=60)
            self.assertEqual(done.returncode, 2, wrong)
        self.assertEqual(said["policy_digest"], "02" + "00" * 63)

    def test_text_moves_no_cursor(self):
        path = self.dir / "hostile"
        for text in (b"\x1b[2J", b"x\nve", b"\xc2\x9b2J"):
            path.write_bytes(self.good.replace(b"tiny", text, 1))
            done = subprocess.run([DSMIL, "receipt", "show", path], capture_output=True, check=True, timeout=60)
            self.assertNotIn(b"\x1b", done.stdout)
            self.assertNotIn(b"\xc2\x9b", done.stdout)
            self.assertNotIn(b"\nve", done.stdout)

    def test_other_mesh(self):
        keys = self.dir / "foreign"
        subprocess.run([DSMIL, "keys", "init", "--dir", keys], check=True, capture_output=True)
        code, said = self.call("verify", self.good, "--keys", keys)
        self.assertEqual((code, said["code"], said["field"]), (1, "E_CERT", "certificate"))

    def test_show_believes_nothing(self):
        code, said = self.call("show", self.good)
        self.assertEqual((code, said["verified"]), (0, False))
        self.assertEqual(self.call("show", self.good[:-1])[0], 1)


if __name__ == "__main__":
    DSMIL, SIGN = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
