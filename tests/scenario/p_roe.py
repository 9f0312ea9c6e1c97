# SPDX-License-Identifier: Apache-2.0
"""A mesh whose policy wants two persons for every chat: over HTTP, from the payload that they approve to its answer."""
import base64
import unittest

from mesh import ROOT, Mesh

DEFAULT = (ROOT / "src/policy/default.yaml").read_text()
POLICY = DEFAULT.replace("  layers: [9]\n", "  layers: [9]\n  types: [L7_CHAT_REQ]\n", 1)
ASKED = {"temperature": 0, "seed": 1, "max_tokens": 4}


class TwoPersons(unittest.TestCase):
    """Ann asks, bob and eve approve."""

    @classmethod
    def setUpClass(cls):
        cls.mesh = Mesh(files={"policy.yaml": POLICY}).__enter__()
        for device, name in enumerate(("ann", "bob", "eve"), 1):
            done = cls.mesh.cli("keys", "issue", "--role", "person", "--device", str(device), "--name", name)
            assert done.returncode == 0, done.stderr

    @classmethod
    def tearDownClass(cls):
        cls.mesh.__exit__()

    def roe(self, *args):
        """One step of `dsmil roe`."""
        done = self.mesh.cli("roe", *args)
        self.assertEqual(done.returncode, 0, done.stderr)

    def token(self, **asked):
        """The token for this chat, as clients send it."""
        status, _, told = self.mesh.chat(**asked, dsmil={"payload": True})
        self.assertEqual(status, 200, told)
        payload, token = str(self.mesh.state / "payload.bin"), self.mesh.state / "chat.roe"
        token.unlink(missing_ok=True)
        with open(payload, "wb") as out:
            out.write(base64.b64decode(told["payload"]))
        self.roe("request", "--as", "ann", "--verb", told["verb"], "--device", str(told["device"]), "--tenant",
                 told["tenant"], "--classification", told["classification"], "--compartments",
                 ",".join(told["compartments"]), "--roe-level", told["roe_level"], "--payload", payload, str(token))
        for name in ("bob", "eve"):
            self.roe("approve", "--as", name, "--payload", payload, str(token))
        return base64.urlsafe_b64encode(token.read_bytes()).decode().rstrip("=")

    def ask(self, token=None, **asked):
        """Status and answer."""
        headers = {} if token is None else {"DSMIL-ROE-Token": token}
        body = {"model": "dsmil", "messages": [{"role": "user", "content": "What is DSMIL?"}], **asked}
        status, _, answer = self.mesh.request("POST", "/v1/chat/completions", body, headers)
        return status, answer

    def test_with_and_without(self):
        status, answer = self.ask(**ASKED)
        self.assertEqual(status, 403)
        self.assertIn("E_ROE_TOKEN", answer["error"]["message"])
        token = self.token(**ASKED)
        status, answer = self.ask(token, **{**ASKED, "max_tokens": 5})
        self.assertEqual(status, 403)  # another payload than was approved, which uses nothing up
        self.assertIn("another payload", answer["error"]["message"])
        status, answer = self.ask(token, **ASKED)
        self.assertEqual(status, 200, answer)
        status, answer = self.ask(token, **ASKED)
        self.assertEqual(status, 403)
        self.assertIn("used already", answer["error"]["message"])
        # by the body, for clients that cannot say headers
        self.assertEqual(self.ask(**ASKED, dsmil={"roe_token": self.token(**ASKED)})[0], 200)
        status, answer = self.ask("AAAA", **ASKED)
        self.assertEqual((status, answer["error"]["param"]), (400, "DSMIL-ROE-Token"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
