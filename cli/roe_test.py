# SPDX-License-Identifier: Apache-2.0
"""`dsmil roe`: a token from the request to its second approval, and who may not. In: path of dsmil."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

DSMIL = sys.argv.pop(1)


class Roe(unittest.TestCase):
    """Three persons of one mesh; ann asks."""

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory()
        cls.env = dict(os.environ, DSMIL_STATE=cls.dir.name)
        cls.env.pop("DSMIL_KEYS", None)
        cls.dsmil("keys", "init")
        for device, name in enumerate(("ann", "bob", "eve"), 1):
            cls.dsmil("keys", "issue", "--role", "person", "--device", str(device), "--name", name)
        cls.dsmil("keys", "issue", "--role", "router", "--device", "43")

    @classmethod
    def tearDownClass(cls):
        cls.dir.cleanup()

    @classmethod
    def dsmil(cls, *args):
        """Exit code, output and errors of one call."""
        done = subprocess.run([DSMIL, *args], capture_output=True, text=True, timeout=60, check=False, env=cls.env)
        return done.returncode, done.stdout, done.stderr

    def path(self, name, text=None):
        """A file of this test, with `text` in it."""
        path = os.path.join(self.dir.name, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as out:
                out.write(text)
        return path

    def request(self, token, payload, *more):
        """Ann asks."""
        return self.dsmil("roe", "request", "--as", "ann", "--verb", "L7_AGENT_TASK", "--device", "59", "--tenant", "T",
                          "--payload", payload, *more, token)

    def approve(self, who, token, payload):
        """Somebody approves."""
        return self.dsmil("roe", "approve", "--as", who, "--payload", payload, token)

    def state(self, token):
        """What show says, as JSON."""
        code, out, err = self.dsmil("roe", "show", "--json", token)
        self.assertEqual(code, 0, err)
        return json.loads(out)

    def test_from_request_to_the_second_approval(self):
        token, payload = self.path("a.roe"), self.path("a.txt", "summarise the night")
        code, out, err = self.request(token, payload, "--classification", "SECRET", "--compartments", "SOC,DEV")
        self.assertEqual(code, 0, err)
        self.assertIn("permits    L7_AGENT_TASK to device 59 (advisory), once", out)
        self.assertEqual(self.state(token)["state"], "two approvals are missing")
        self.assertEqual(self.approve("bob", token, payload)[0], 0)
        self.assertEqual(self.state(token)["state"], "one approval is missing")
        code, out, _ = self.approve("eve", token, payload)
        self.assertEqual(code, 0)
        self.assertIn("complete", out)
        said = self.state(token)
        self.assertEqual(len(said["approvers"]), 2)
        self.assertTrue(said["requester"].endswith("/person/1"))
        self.assertEqual((said["classification"], said["compartments"]), ("SECRET", 3))
        self.assertEqual((said["roe_level"], said["requester_proven"]), ("ANALYSIS_ONLY", True))
        self.assertEqual(self.approve("eve", token, payload)[0], 1)  # it has its two

    def test_a_request_says_what_for(self):
        """Above all no device 0 because nobody named one."""
        payload, whole = self.path("w.txt", "x"), {"--as": "ann", "--verb": "L7_AGENT_TASK", "--device": "59",
                                                   "--tenant": "T", "--payload": self.path("w.txt")}
        for missing in whole:
            token = self.path("w" + missing + ".roe")
            words = [word for pair in whole.items() if pair[0] != missing for word in pair]
            code, _, err = self.dsmil("roe", "request", *words, token)
            self.assertEqual(code, 2, missing)
            self.assertIn("needs", err)
            self.assertFalse(os.path.exists(token), missing)
        self.assertEqual(self.request(self.path("whole.roe"), payload)[0], 0)

    def test_a_token_that_is_there_stays(self):
        """It may hold approvals: asking anew is said."""
        token, payload = self.path("t.roe"), self.path("t.txt", "x")
        self.request(token, payload)
        self.approve("bob", token, payload)
        code, out, err = self.request(token, payload, "--json")
        self.assertEqual((code, json.loads(out)["error"]["code"]), (1, "E_EXISTS"))
        self.assertIn("t.roe is there already; --force", err)
        self.assertEqual(len(self.state(token)["approvers"]), 1)
        self.assertEqual(self.request(token, payload, "--force")[0], 0)
        self.assertEqual(self.state(token)["approvers"], [])

    def test_who_could_never_ask(self):
        """No token is made that nobody could approve, and none in the name of a service."""
        payload = self.path("n.txt", "x")
        self.dsmil("keys", "issue", "--role", "person", "--device", "11", "--name", "max")
        self.dsmil("keys", "revoke", "max")
        for name, code, why in (("router-43", 1, "may not ask for a token: it is no person"),
                                ("max", 2, "was revoked"), ("nobody", 2, "nobody")):
            token = self.path(name + ".roe")
            words = ["roe", "request", "--as", name, "--verb", "L7_AGENT_TASK", "--device", "59", "--tenant", "T",
                     "--payload", payload, token, "--json"]
            got, out, err = self.dsmil(*words)
            self.assertEqual(got, code, err)
            self.assertIn(why, err)
            self.assertIn(why, json.loads(out)["error"]["message"])
            self.assertFalse(os.path.exists(token), name)
        token = self.path("m.roe")
        self.request(token, payload)
        self.assertIn("was revoked", self.approve("max", token, payload)[2])

    def test_options_of_another_verb(self):
        """`approve --tenant X` would look as if X were approved."""
        token, payload = self.path("o.roe"), self.path("o.txt", "x")
        self.request(token, payload)
        for words in (["approve", "--as", "bob", "--payload", payload, "--tenant", "U", token],
                      ["approve", "--as", "bob", "--payload", payload, "--force", token],
                      ["show", "--as", "bob", token]):
            code, _, err = self.dsmil("roe", *words)
            self.assertEqual(code, 2, words)
            self.assertIn("is not one of `roe " + words[0], err)
        code, _, err = self.dsmil("roe", "sign", token)
        self.assertEqual(code, 2)
        self.assertIn('no verb "sign"', err)
        code, _, err = self.dsmil("roe", "show")
        self.assertEqual(code, 2)
        self.assertIn("which token", err)

    def test_who_may_not(self):
        token, payload = self.path("b.roe"), self.path("b.txt", "x")
        self.request(token, payload)
        code, _, err = self.approve("ann", token, payload)
        self.assertEqual(code, 1)
        self.assertIn("may not approve this token: it asked for it", err)
        code, _, err = self.approve("router-43", token, payload)
        self.assertEqual(code, 1)
        self.assertIn("it is no person", err)
        self.assertEqual(self.approve("bob", token, payload)[0], 0)
        code, _, err = self.approve("bob", token, payload)
        self.assertEqual(code, 1)
        self.assertIn("approved already; it takes another person", err)
        self.assertEqual(len(self.state(token)["approvers"]), 1)

    def test_the_payload_must_be_the_one(self):
        token, payload = self.path("c.roe"), self.path("c.txt", "one thing")
        self.request(token, payload)
        code, _, err = self.approve("bob", token, self.path("d.txt", "another"))
        self.assertEqual(code, 1)
        self.assertIn("is not the payload that was asked for", err)
        self.assertEqual(self.dsmil("roe", "approve", "--as", "bob", token)[0], 2)

    def test_a_revoked_approval_counts_for_nothing(self):
        self.dsmil("keys", "issue", "--role", "person", "--device", "9", "--name", "zoe")
        token, payload = self.path("e.roe"), self.path("e.txt", "x")
        self.request(token, payload)
        self.assertEqual(self.approve("zoe", token, payload)[0], 0)
        self.dsmil("keys", "revoke", "zoe")
        self.assertEqual(self.state(token)["approvers"], [])
        for who in ("bob", "eve"):  # nor does it take the place of one that counts
            self.assertEqual(self.approve(who, token, payload)[0], 0)
        self.assertEqual(self.state(token)["state"], "complete")

    def test_who_asked_cannot_name_another(self):
        token, payload = self.path("i.roe"), self.path("i.txt", "x")
        self.request(token, payload, "--roe-level", "SOC_ASSIST")
        with open(token, "rb") as file:
            data = file.read()
        with open(token, "wb") as file:
            file.write(data.replace(b"/person/1", b"/person/3", 1))
        said = self.state(token)
        self.assertEqual((said["requester_proven"], said["roe_level"]), (False, "SOC_ASSIST"))
        self.assertIn("NOTHING HERE PROVES", self.dsmil("roe", "show", token)[1])
        for who in ("ann", "bob"):
            code, _, err = self.approve(who, token, payload)
            self.assertEqual(code, 1)
            self.assertIn("nothing here proves that", err)
        self.assertEqual(self.state(token)["approvers"], [])

    def test_bad_files_and_options(self):
        code, _, err = self.dsmil("roe", "show", self.path("f.roe", "DSMIL ROE 1\nx"))
        self.assertEqual(code, 2)
        self.assertIn("damaged ROE token file", err)
        self.assertIn("is no ROE token file", self.dsmil("roe", "show", self.path("g.roe", "hello"))[2])
        payload = self.path("h.txt", "x")
        for more in (["--valid", "25h"], ["--valid", "10"], ["--compartments", "X"], ["--device", "104"]):
            self.assertEqual(self.request(self.path("h.roe"), payload, *more)[0], 2, more)
        self.assertIn("KINETIC", self.request(self.path("h.roe"), payload, "--compartments", "KINETIC")[2])
        self.assertFalse(os.path.exists(self.path("h.roe")))


if __name__ == "__main__":
    unittest.main()
