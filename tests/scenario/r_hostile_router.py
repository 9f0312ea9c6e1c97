# SPDX-License-Identifier: Apache-2.0
"""A router that means harm, with a router's keys and in a router's place, cannot read or change what is sealed past it.

tests/hostile/router.c takes the place of dsmil-l7-router in a mesh that is otherwise as always. It relays what is in
clear, and does to what is sealed what the file `attack` says: labels changed, prompts altered or sent again, answers
swapped, cut, doubled. Each must be refused, by the worker or by the gateway, with a reason, a count and an audit
record; and whoever asks in clear beside it must not notice.
"""
import json
import os
import pathlib
import shutil
import tempfile
import unittest

from mesh import BUILD, MODEL, ROOT, Mesh, wait_for

SAME = {"temperature": 0, "seed": 1, "max_tokens": 24}
SEALED = {"dsmil": {"sealed": True}, **SAME}
OWN_MODEL = str(ROOT / "models/dsmil-small-q8_0.gguf")
# What is done to the request: the worker refuses. Its policy may be faster than the seal, by a rule of its own.
REQUESTS = {"tenant": "E_AUTH", "compartments": "E_AUTH", "classification": "E_CLASSIFICATION", "roe": "E_AUTH",
            "profile": "E_AUTH", "request-id": "E_", "unmark": "E_AUTH", "flip": "E_AUTH", "replay": "E_REPLAY"}
# What is done to the answer: the gateway refuses.
ANSWERS = ("answer-flip", "answer-swap", "answer-clear")
STREAMS = ("answer-drop", "answer-double", "answer-cut", "answer-flip")


def build_with(router):
    """A folder laid out as a build is, with another router."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="dsmil-hostile-"))
    (top / "cli").mkdir()
    shutil.copy(BUILD / "cli" / "dsmil", top / "cli" / "dsmil")
    (top / "shim").symlink_to(BUILD / "shim")
    (top / "devices").mkdir()
    for device in (BUILD / "devices").iterdir():
        if device.is_dir() and device.name != "l7_router":
            (top / "devices" / device.name).symlink_to(device)
    (top / "devices" / "l7_router").mkdir()
    (top / "devices" / "l7_router" / "dsmil-l7-router").symlink_to(router)
    return top


class HostileRouter(unittest.TestCase):
    """One mesh for all."""

    @classmethod
    def setUpClass(cls):
        cls.top = build_with(BUILD / "tests" / "hostile" / "hostile_router")
        models = [*(MODEL or ["--model", OWN_MODEL]), "--model-44", OWN_MODEL]
        cls.mesh = Mesh(*models, program=cls.top / "cli" / "dsmil").__enter__()
        wait_for("a sealed prompt is answered", lambda: cls.mesh.chat(**SEALED)[0] == 200)

    @classmethod
    def tearDownClass(cls):
        cls.mesh.__exit__()
        shutil.rmtree(cls.top)

    def setUp(self):
        self.attack("")
        status, _, self.clear = self.mesh.chat(**SAME)
        self.assertEqual(status, 200, self.clear)

    def attack(self, what):
        """From the next sealed request on."""
        path = self.mesh.state / "attack.new"
        path.write_text(what + "\n")
        os.rename(path, self.mesh.state / "attack")

    def undisturbed(self):
        """Others are answered as before; and so is who asks again, once nobody attacks."""
        self.assertEqual(self.mesh.chat(**SAME)[2]["choices"], self.clear["choices"])
        self.attack("")
        status, _, body = self.mesh.chat(**SEALED)
        self.assertEqual(status, 200, body)
        self.assertEqual(body["choices"], self.clear["choices"])

    def audited(self, kind=None):
        """Records of refusals in the log of Device 14."""
        log = (self.mesh.state / "audit")
        lines = [line for path in sorted(log.glob("*")) if path.is_file()
                 for line in path.read_text(errors="replace").split("\n")[:-1] if line.startswith("{")]
        records = [record for record in map(json.loads, lines) if record.get("kind")]
        return [r for r in records if (r["kind"] == kind if kind else r.get("outcome") not in ("allow", "ok"))]

    def count(self, service, metric):
        """Of one service's metrics."""
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.mesh.metrics_of(service).splitlines()
                   if line.startswith((metric + " ", metric + "{")))

    def test_the_harness_relays(self):
        status, _, body = self.mesh.chat(**SEALED)
        self.assertEqual(status, 200, body)
        self.assertTrue(body["dsmil"]["sealed"])
        self.undisturbed()

    def test_requests_that_were_changed(self):
        for what, code in REQUESTS.items():
            with self.subTest(what):
                if what == "replay":  # of one that was relayed as it is
                    self.assertEqual(self.mesh.chat(**SEALED)[0], 200)
                before = len(self.audited())
                self.attack(what)
                status, _, body = self.mesh.chat(**SEALED)
                self.assertGreaterEqual(status, 400, body)
                self.assertIn(code, body["error"]["message"])
                self.assertNotIn("choices", body)
                wait_for(f"{what}: a record", lambda: len(self.audited()) > before)
                self.undisturbed()
        self.assertGreaterEqual(self.count("dsmil-l7-llm-worker-47", "dsmil_l7_worker_sealed_refused_total"), 5)

    def test_fewer_answers_in_clear(self):
        """What limits count on the way is the last field of the payload: 3 becomes 2, and the worker sees it."""
        self.attack("flip")
        status, _, body = self.mesh.chat(n=3, **SEALED)
        self.assertGreaterEqual(status, 400, body)
        self.assertIn("more answers than the sealed request says in clear", body["error"]["message"])
        self.undisturbed()

    def test_answers_that_were_changed(self):
        for what in ANSWERS:
            with self.subTest(what):
                before = len(self.audited("sealed"))
                self.attack(what)
                status, _, body = self.mesh.chat(**SEALED)
                self.assertGreaterEqual(status, 500, body)
                self.assertIn("does not open", body["error"]["message"])
                wait_for(f"{what}: a record", lambda: len(self.audited("sealed")) > before)
                self.undisturbed()
        self.assertGreaterEqual(self.count("dsmil-openai-shim", "dsmil_openai_sealed_refused_total"), len(ANSWERS))

    def test_streams_that_were_changed(self):
        asked = dict(SEALED, max_tokens=200)
        whole = self.mesh.chat(**dict(SAME, max_tokens=200))[2]["choices"][0]["message"]["content"]
        for what in STREAMS:
            with self.subTest(what):
                refused = self.count("dsmil-openai-shim", "dsmil_openai_sealed_refused_total")
                before = len(self.audited("sealed"))
                self.attack(what)
                events = []
                for _ in range(50):  # an answer that came in one piece had nothing to drop, double or cut
                    try:
                        events = list(self.mesh.stream(**asked))
                    except AssertionError as err:  # refused before anything was told
                        self.assertIn("does not open", str(err))
                        break
                    if "does not open" in json.dumps(events[-2:]):
                        break
                else:
                    self.fail(f"{what} was not noticed: {events[-2:]}")
                told = "".join(e["choices"][0]["delta"].get("content") or "" for e in events
                               if isinstance(e, dict) and e.get("choices"))
                self.assertTrue(whole.startswith(told), told)
                self.assertEqual(self.count("dsmil-openai-shim", "dsmil_openai_sealed_refused_total"), refused + 1)
                wait_for(f"{what}: a record", lambda: len(self.audited("sealed")) > before)
                self.undisturbed()


if __name__ == "__main__":
    unittest.main()
