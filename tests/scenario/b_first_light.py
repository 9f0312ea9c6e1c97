# SPDX-License-Identifier: Apache-2.0
"""Basic: the main job as a new user sees it, through every process."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import unittest

from capture import TcpCapture
from mesh import DSMIL, MODEL, Mesh


class Check(unittest.TestCase):
    """`dsmil up --check`, alone."""

    def test_prints_one_summary_and_exits_0(self):
        state = tempfile.mkdtemp(prefix="dsmil-test-")
        try:
            run = subprocess.run([DSMIL, "up", "--check", "--port", "0", *MODEL], capture_output=True,
                                 env=dict(os.environ, DSMIL_STATE=state), text=True, timeout=600, check=False)
            self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
            summary = json.loads(run.stdout)
            self.assertTrue(summary["ok"])
            steps = {s["step"]: s for s in summary["first_light"]["steps"]}
            self.assertEqual(steps["control"]["answered"], True)
            self.assertEqual(steps["kinetic"]["code"], "E_KINETIC")
            self.assertEqual(steps["exec"]["code"], "E_EXEC")
            self.assertEqual(steps["forged-claim"]["code"], "E_CLAIM_INVALID")
            self.assertFalse(steps["foreign-mesh"]["answered"])
            self.assertGreater(steps["stream"]["pieces"], 0)
            self.assertEqual([h["device"] for h in steps["answer"]["dsmil"]["path"]], [0, 43, 47])
        finally:
            shutil.rmtree(state, ignore_errors=True)


class Light(unittest.TestCase):
    """One mesh for the whole class."""

    @classmethod
    def setUpClass(cls):
        cls.mesh = Mesh().__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.mesh.__exit__()

    def test_models_are_listed(self):
        status, _, body = self.mesh.request("GET", "/v1/models")
        self.assertEqual(status, 200)
        self.assertEqual(body["object"], "list")
        self.assertGreaterEqual(len(body["data"]), 1)
        for model in body["data"]:
            self.assertEqual(model["object"], "model")
            self.assertIsInstance(model["created"], int)

    def test_an_answer_names_its_path(self):
        status, _, body = self.mesh.chat(temperature=0, max_tokens=60)
        self.assertEqual(status, 200, body)
        self.assertEqual(body["object"], "chat.completion")
        self.assertIn("DSMIL", body["choices"][0]["message"]["content"])
        self.assertEqual(body["usage"]["total_tokens"],
                         body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"])
        self.assertEqual([h["device"] for h in body["dsmil"]["path"]], [0, 43, 47])
        suites = [h["suite"] for h in body["dsmil"]["path"]]
        self.assertIsNone(suites[0], "the first hop is HTTP")
        self.assertEqual(suites[1:], ["P384-MLKEM1024-MLDSA87-AES256GCM-SHA3-512"] * 2)
        elapsed = [h["elapsed_ms"] for h in body["dsmil"]["path"]]
        self.assertEqual(elapsed, sorted(elapsed, reverse=True), "an outer hop cannot take less than an inner one")

    def test_same_seed_same_text(self):
        texts = {self.mesh.chat(temperature=1.0, seed=7, max_tokens=40)[2]["choices"][0]["message"]["content"]
                 for _ in range(3)}
        self.assertEqual(len(texts), 1)

    def test_a_stream_says_what_the_whole_answer_says(self):
        whole = self.mesh.chat(temperature=0, max_tokens=60)[2]["choices"][0]["message"]["content"]
        events = list(self.mesh.stream(temperature=0, max_tokens=60))
        self.assertEqual(events[-1], "[DONE]")
        text = "".join(e["choices"][0]["delta"].get("content") or "" for e in events[:-1] if e["choices"])
        self.assertEqual(text, whole)
        reasons = [e["choices"][0]["finish_reason"] for e in events[:-1] if e["choices"]]
        self.assertIn(reasons[-1], ("stop", "length"))
        self.assertTrue(all(r is None for r in reasons[:-1]))

    def test_an_unsupported_parameter_is_named(self):
        for param, value in (("functions", []), ("n", 30), ("store", True), ("no_such_parameter", 1),
                             ("temperature", "warm"), ("temperature", 9)):
            status, _, body = self.mesh.chat(**{param: value})
            self.assertEqual(status, 400, (param, body))
            self.assertEqual(body["error"]["param"], param)

    def test_a_wrong_key_is_401(self):
        status, _, body = self.mesh.request("GET", "/v1/models", headers={"Authorization": "Bearer wrong"}, key=False)
        self.assertEqual((status, body["error"]["code"]), (401, "invalid_api_key"))
        self.assertEqual(self.mesh.request("GET", "/v1/models", key=False)[0], 401)

    def test_an_unknown_model_is_404(self):
        status, _, body = self.mesh.request("POST", "/v1/chat/completions", {
            "model": "no-such-model", "messages": [{"role": "user", "content": "x"}]})
        self.assertEqual((status, body["error"]["code"]), (404, "model_not_found"))

    def test_malformed_bodies_cost_their_sender_alone(self):
        for body in (b"", b"{", b"[]", b"nul", b'{"messages": 1}', b'{"a":' * 5000, b"\xff\xfe", b'{"messages":[]}'):
            status, _, answer = self.mesh.request("POST", "/v1/chat/completions", body)
            self.assertEqual(status, 400, (body[:20], answer))
            self.assertIn("message", answer["error"])
        self.assertEqual(self.mesh.chat(max_tokens=4)[0], 200)

    def test_an_oversized_body_is_413(self):
        status = self.mesh.request("POST", "/v1/chat/completions", b"x" * (2 << 20))[0]
        self.assertEqual(status, 413)
        self.assertEqual(self.mesh.chat(max_tokens=4)[0], 200)

    def test_metrics_and_health(self):
        status, _, text = self.mesh.request("GET", "/metrics", key=False)
        self.assertEqual(status, 200)
        self.assertIn("# TYPE", text)
        status, _, body = self.mesh.request("GET", "/healthz", key=False)
        self.assertEqual((status, body["status"]), (200, "healthy"))

    def test_ask_and_status(self):
        ask = self.mesh.cli("ask", "--path", "--temperature", "0", "--max-tokens", "20", "What is DSMIL?")
        self.assertEqual(ask.returncode, 0, ask.stderr)
        self.assertIn("device 47", ask.stderr)
        self.assertTrue(ask.stdout.strip())
        status = self.mesh.cli("status", "--json")
        self.assertEqual(status.returncode, 0, status.stdout)
        self.assertTrue(json.loads(status.stdout)["healthy"])

    def test_a_second_up_is_refused(self):
        run = self.mesh.cli("up", "--port", "0")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("up already", run.stderr)

    def test_no_prompt_reaches_a_log(self):
        marker = "zebra-quartz-nightingale"
        self.assertEqual(self.mesh.chat(f"Say something about {marker}", max_tokens=4)[0], 200)
        for path in (self.mesh.state / "log").iterdir():
            self.assertNotIn(marker, path.read_text(), path.name)
            self.assertNotIn(self.mesh.key, path.read_text(), path.name)

    def test_logs_are_json_lines(self):
        for name in ("dsmil-l7-router", "dsmil-l7-llm-worker-47", "dsmil-openai-shim"):
            lines = self.mesh.log(name).splitlines()
            self.assertTrue(lines, name)
            for line in lines:
                record = json.loads(line)
                self.assertIn("message", record)
                self.assertIn("device_id", record)

    def test_tcp_carries_the_gateway_alone(self):
        pids = [s["pid"] for s in self.mesh.mesh_json()["services"]] + [self.mesh.proc.pid]
        with TcpCapture(pids) as capture:
            self.assertEqual(self.mesh.chat(max_tokens=8)[0], 200)
        self.assertEqual(capture.ports, {self.mesh.port})

    def test_many_at_once(self):
        results = []
        lock = threading.Lock()

        def one(i):
            status, _, body = self.mesh.chat(f"Question {i}: what is a claim token?", max_tokens=12, seed=i)
            with lock:
                results.append((status, body))

        threads = [threading.Thread(target=one, args=(i,)) for i in range(12)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(len(results), 12)
        for status, body in results:
            self.assertIn(status, (200, 429), body)
        self.assertTrue(any(status == 200 for status, _ in results))

    def test_keys_are_private(self):
        for path in (self.mesh.state / "keys").glob("*.key"):
            self.assertEqual(path.stat().st_mode & 0o777, 0o600, path)
        self.assertEqual((self.mesh.state / "api-key").stat().st_mode & 0o777, 0o600)
        self.assertEqual((self.mesh.state / "keys").stat().st_mode & 0o777, 0o700)


if __name__ == "__main__":
    unittest.main(verbosity=2)
