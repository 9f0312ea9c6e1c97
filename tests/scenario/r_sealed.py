# SPDX-License-Identifier: Apache-2.0
"""Sealed prompts and receipts through a whole mesh: they answer like others, and the router never holds the text.

The router's memory is searched for a text that went through it: one in clear is found there, so that the search is
known to find what there is, and a sealed one is not.
"""
import json
import pathlib
import unittest

from mesh import ROOT, Mesh, wait_for

SHADOW_BYTES = 1 << 36
SAME = {"temperature": 0, "seed": 1, "max_tokens": 12}


def memory_holds(pid, text):
    """How often the writable memory of a process holds these bytes."""
    count = 0
    with open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode = line.split()[:2]
            if "rw" not in mode:
                continue
            low, high = (int(end, 16) for end in span.split("-"))
            if high - low > SHADOW_BYTES:
                raise unittest.SkipTest("a sanitizer's shadow is too large to be searched")
            try:
                mem.seek(low)
                count += mem.read(high - low).count(text)
            except (OSError, ValueError, OverflowError):
                pass  # a page of the kernel's
    return count


class Sealed(unittest.TestCase):
    """One mesh for all."""

    @classmethod
    def setUpClass(cls):
        cls.mesh = Mesh().__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.mesh.__exit__()

    def test_answers_as_in_clear(self):
        status, _, clear = self.mesh.chat(**SAME)
        self.assertEqual(status, 200)
        status, _, sealed = self.mesh.chat(dsmil={"sealed": True}, **SAME)
        self.assertEqual(status, 200, sealed)
        self.assertTrue(sealed["dsmil"]["sealed"])
        self.assertNotIn("sealed", clear["dsmil"])
        self.assertEqual(sealed["choices"], clear["choices"])
        self.assertEqual(sealed["usage"]["completion_tokens"], clear["usage"]["completion_tokens"])

    def test_vectors(self):
        def ask(**more):
            return self.mesh.request("POST", "/v1/embeddings", {"model": "dsmil", "input": ["one", "two"], **more})
        clear, sealed = ask()[2], ask(dsmil={"sealed": True})[2]
        self.assertTrue(sealed["dsmil"]["sealed"])
        self.assertEqual(sealed["data"], clear["data"])
        self.assertEqual(sealed["usage"], clear["usage"])

    def test_several_answers(self):
        answers = [self.mesh.chat(n=3, **SAME, **extra)[2]["choices"] for extra in ({}, {"dsmil": {"sealed": True}})]
        self.assertEqual(len(answers[1]), 3)
        self.assertEqual(*[[c["message"]["content"] for c in each] for each in answers])

    def test_streams(self):
        clear = list(self.mesh.stream(**SAME))
        sealed = list(self.mesh.stream(dsmil={"sealed": True}, **SAME))
        texts = ["".join(e["choices"][0]["delta"].get("content") or "" for e in events
                         if isinstance(e, dict) and e.get("choices")) for events in (clear, sealed)]
        self.assertEqual(texts[0], texts[1])
        self.assertEqual(sealed[-1], "[DONE]")

    def test_the_router_never_holds_the_text(self):
        pid = self.mesh.service("dsmil-l7-router")["pid"]
        try:
            memory_holds(pid, b"x")
        except PermissionError:
            self.skipTest("this user may not read the memory of another process")
        for word, extra in ((b"INCLEARTEXT", {}), (b"SEALEDAWAY", {"dsmil": {"sealed": True}})):
            status, _, body = self.mesh.chat(" ".join([word.decode()] * 20000), **extra)
            self.assertEqual(status, 400, body)  # longer than the context, which the worker alone can tell
            self.assertIn("E_CONTEXT", body["error"]["message"])
            held = memory_holds(pid, word)
            self.assertEqual(held > 0, not extra, f"{word}: {held} times")

    def test_receipt(self):
        path = self.mesh.state / "receipt"
        done = self.mesh.cli("ask", "--sealed", "--receipt", str(path), "--max-tokens", "8", "Hello")
        self.assertEqual(done.returncode, 0, done.stderr)
        args = ["receipt", "verify", "--request", f"{path}.request", "--answer", f"{path}.answer", str(path)]
        self.assertEqual(self.mesh.cli(*args).returncode, 0)
        policy = json.loads(self.mesh.cli("policy", "check", str(ROOT / "src/policy/default.yaml"), "--json").stdout)
        done = self.mesh.cli(*args[:2], "--policy-digest", policy["digest"], *args[2:])  # the worker's, whole
        self.assertEqual(done.returncode, 0, done.stderr)
        other = policy["digest"][:-1] + ("0" if policy["digest"][-1] != "0" else "1")
        self.assertIn("REFUSED, policy_digest", self.mesh.cli(*args[:2], "--policy-digest", other, *args[2:]).stderr)
        with open(f"{path}.answer", "ab") as answer:
            answer.write(b"!")
        done = self.mesh.cli(*args)
        self.assertEqual(done.returncode, 1)
        self.assertIn("REFUSED, answer", done.stderr)

    def test_what_cannot_be_is_refused(self):
        for extra, param in (({"dsmil": {"receipt": True}, "n": 2}, None), ({"dsmil": {"seal": True}}, "dsmil.seal"),
                             ({"dsmil": {"sealed": 1}}, "dsmil.sealed")):
            status, _, body = self.mesh.chat(**extra)
            self.assertEqual(status, 400, body)
            if param:
                self.assertEqual(body["error"]["param"], param)


class Demanded(unittest.TestCase):
    """A policy that demands it of every tenant."""

    def test_the_policy_demands_it(self):
        default = (ROOT / "src/policy/default.yaml").read_text()
        demands = default.replace("    classification: EXEC", "    sealed: required\n    classification: EXEC", 1)
        with Mesh(files={"policy.yaml": demands}) as mesh:
            status, _, body = mesh.chat(**SAME)  # the gateway is ready when it has the worker's key
            self.assertEqual(status, 200, body)
            self.assertTrue(body["dsmil"]["sealed"])
            status, _, body = mesh.request("POST", "/v1/embeddings", {"model": body["model"], "input": "x"})
            self.assertEqual(status, 200, body)
            self.assertTrue(body["dsmil"]["sealed"])
            done = mesh.cli("agent", "summarize", "--json", input="A text in clear, which no router may see.")
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("must be sealed", done.stdout + done.stderr)
            (mesh.state / "policy.yaml").write_text(default.replace("version: 1", "version: 2"))
            done = mesh.cli("policy", "reload")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertNotIn("sealed", mesh.chat(**SAME)[2]["dsmil"])
            (mesh.state / "policy.yaml").write_text(demands.replace("version: 1", "version: 3"))
            done = mesh.cli("policy", "reload")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(mesh.chat(**SAME)[2]["dsmil"]["sealed"])


if __name__ == "__main__":
    unittest.main()
