# SPDX-License-Identifier: Apache-2.0
"""`dsmil policy`: what people and scripts see of it. In: path of dsmil, DSMIL_SOURCE_ROOT."""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

DSMIL = sys.argv.pop(1)
ROOT = os.environ["DSMIL_SOURCE_ROOT"]
DEFAULT = os.path.join(ROOT, "src/policy/default.yaml")


def dsmil(*args):
    """Exit code, output and errors of one call."""
    done = subprocess.run([DSMIL, "policy", *args], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


class Policy(unittest.TestCase):
    """Each verb, its exit code and its words."""

    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)

    def write(self, name, text):
        """A file of this test."""
        path = os.path.join(self.dir.name, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        return path

    def test_check_accepts_the_default(self):
        code, out, _ = dsmil("check", DEFAULT, "--json")
        said = json.loads(out)
        self.assertEqual((code, said["ok"], said["version"], said["rules"]), (0, True, 1, 4))
        self.assertEqual(len(said["digest"]), 128)

    def test_the_page_says_what_is_so(self):
        """docs/policy.md: its policy is one, its table of cases holds, and its complaint is the one that comes."""
        with open(os.path.join(ROOT, "docs/policy.md"), encoding="utf-8") as page:
            text = page.read()
        policy, cases = re.findall(r"```yaml\n(.*?)```", text, re.S)
        self.write("policy.yaml", policy)
        code, out, err = dsmil("test", self.write("cases.yaml", cases))
        self.assertEqual(code, 0, out + err)
        wrong = self.write("wrong.yaml", policy.replace("requests: 100/min", "requests: 100"))
        told = re.search(r"policy\.yaml(:\d+:\d+: requests is .*)", text).group(1)
        self.assertIn(told, dsmil("check", wrong)[2])

    def test_check_says_where(self):
        with open(DEFAULT, encoding="utf-8") as default:
            text = default.read()
        path = self.write("p.yaml", text.replace("effect: allow", "effect: alow"))
        code, _, err = dsmil("check", path)
        line = 1 + text[:text.index("effect: allow")].count("\n")
        self.assertEqual(code, 2)
        self.assertIn(f'p.yaml:{line}:13: effect is "alow"; expected allow or deny', err)

    def test_what_is_wrong_is_told_whatever_bytes_it_has(self):
        """A value that is cut within a character, a path that is no UTF-8, what would steer a terminal."""
        path = self.write("p.yaml", "version: x" + "\u00e9" * 40 + "\n")
        code, out, _ = dsmil("check", path, "--json")
        self.assertEqual((code, json.loads(out)["code"]), (2, "E_CONFIG"))
        self.assertIn("expected a whole number", json.loads(out)["error"])
        strange = os.path.join(os.fsencode(self.dir.name), b"p\xff.yaml")
        with open(strange, "w", encoding="utf-8") as file:
            file.write("version: x\n")
        said = json.loads(dsmil("check", strange, "--json")[1])
        self.assertIn("p?.yaml:1:10: version is", said["error"])
        path = self.write("p.yaml", 'version: "\\e]0;all good\\a\\e[2J"\n')
        err = dsmil("check", path)[2]
        self.assertIn("version is", err)
        self.assertFalse(set(err) & set("\x1b\x07"), err)

    def test_explain_names_rule_and_reason(self):
        code, out, _ = dsmil("explain", "--classification", "TS", "--compartments", "SOC,KINETIC", "--json")
        said = json.loads(out)
        self.assertEqual((code, said["decision"], said["rule"], said["code"]), (0, "deny", "kinetic", "E_KINETIC"))
        code, out, _ = dsmil("explain", "--from", "router", "--to", "worker:47", "--no-claim")
        self.assertEqual(code, 0)
        self.assertIn("decision  allow", out)
        self.assertRegex(out, r"\npolicy    version 1, sha3-512 [0-9a-f]{64}\.\.\.\n")  # what the handshake carries
        self.assertIn("L7_CHAT_REQ from router (device 43) to worker (device 47)", out)

    def test_a_tenant_that_demands_sealed_prompts(self):
        with open(DEFAULT, encoding="utf-8") as default:
            text = default.read()
        path = self.write("p.yaml", text.replace("    classification:", "    sealed: required\n    classification:", 1))
        said = json.loads(dsmil("explain", "--policy", path, "--json")[1])
        self.assertEqual((said["decision"], said["rule"], said["code"]), ("deny", "sealed", "E_DENIED"))
        _, out, _ = dsmil("explain", "--policy", path, "--sealed")
        self.assertIn("decision  allow", out)
        self.assertIn("with a claim, sealed", out)
        cases = self.write("cases.yaml", "policy: p.yaml\ncases:\n"
                           "  - {name: in clear, expect: deny, rule: sealed}\n"
                           "  - {name: sealed, sealed: true, expect: allow}\n"
                           "  - {name: texts to embed, sealed: true, type: L7_EMBED_REQ, expect: allow}\n"
                           "  - {name: cannot be, type: L7_AGENT_TASK, expect: deny, rule: sealed}\n")
        code, out, err = dsmil("test", cases)
        self.assertEqual(code, 0, out + err)

    def test_explain_refuses_what_it_does_not_know(self):
        for args in (["--from", "rooter"], ["--to", "worker:104"], ["--type", "FIRE"], ["--kinetic"],
                     ["--compartments", "SOC,X"], ["--tenant", "t" * 65]):
            code, _, err = dsmil("explain", *args)
            self.assertEqual(code, 2, args)
            self.assertIn("is no option, or not with that value", err)

    def test_cases_of_the_default_pass(self):
        code, out, err = dsmil("test", os.path.join(ROOT, "src/policy/default-cases.yaml"))
        self.assertEqual(code, 0, out + err)
        self.assertIn("9 passed, 0 failed", out)

    def test_a_case_that_fails_is_shown(self):
        path = self.write("cases.yaml", "cases:\n"
                          "  - {name: good, expect: allow}\n"
                          "  - {name: wrong effect, expect: deny}\n"
                          "  - {name: wrong rule, claim: false, expect: deny, rule: tenant}\n")
        code, out, _ = dsmil("test", path)
        self.assertEqual(code, 1)
        self.assertIn("FAILED  wrong effect: expected deny, got allow by allow", out)
        self.assertIn("FAILED  wrong rule: expected deny by tenant, got deny by claim", out)
        self.assertIn("1 passed, 2 failed", out)
        code, out, _ = dsmil("test", path, "--json")
        self.assertEqual((code, json.loads(out)["failed"]), (1, 2))

    def test_a_table_with_a_fault_is_named(self):
        code, _, err = dsmil("test", self.write("cases.yaml", "cases:\n  - {name: a, expect: maybe}\n"))
        self.assertEqual(code, 2)
        self.assertIn('cases.yaml:2:23: expect is "maybe"; expected allow or deny', err)


if __name__ == "__main__":
    unittest.main()
