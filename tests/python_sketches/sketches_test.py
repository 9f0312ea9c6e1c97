#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The three programs of the mesh's interface text, as three processes, and a real HTTP request through them.

In:   DSMIL_BUILD_ROOT; Debian's python3-fastapi and python3-uvicorn, without which the tests that need them are skipped
Does: shim, router and worker of this folder; the worker killed and started anew under them; the shim of this folder in
      front of the router and worker in C.
"""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("DSMIL_BUILD_ROOT", "build")).resolve()
sys.path[:0] = [str(HERE.parent.parent / "bindings" / "python" / "tests"), str(HERE.parent / "scenario")]

import fixture  # noqa: E402  pylint: disable=wrong-import-position
import mesh as c_mesh  # noqa: E402  pylint: disable=wrong-import-position

PATIENCE_S = 30


def interpreter():
    """A Python that has what the shim needs; None if there is none."""
    for python in (sys.executable, "/usr/bin/python3"):
        if shutil.which(python) and subprocess.run([python, "-c", "import fastapi, uvicorn"], capture_output=True,
                                                   check=False).returncode == 0:
            return python
    return None


PYTHON = interpreter()


def free_port():
    """A port nobody has."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Programs:
    """The processes of one test, each with its log."""

    def __init__(self, root, keys, run):
        self.root, self.env = root, {**os.environ, "DSMIL_KEYS": str(keys), "DSMIL_RUN": str(run),
                                     "PYTHONPATH": str(BUILD / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
        self.running = {}

    def start(self, name, **env):
        """Start a program of this folder."""
        with (self.root / (name + ".log")).open("ab") as log:
            self.running[name] = subprocess.Popen([PYTHON or sys.executable, str(HERE / (name + ".py"))], stdout=log,
                                                  stderr=log, env={**self.env, **env})

    def kill(self, name):
        """End one at once."""
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def logs(self):
        """What all of them said."""
        return "\n".join(f"==> {path.name}\n{path.read_text()}" for path in sorted(self.root.glob("*.log")))

    def stop(self):
        """End all."""
        for name in list(self.running):
            self.kill(name)


def chat(port, text, model="llama-7b-int8-amx", key="dsmil-local-key"):
    """(status, body) of one chat completion."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 32}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body,
                                     {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def until(what, wanted):
    """Ask until the answer is as wanted, for as long as patience lasts; the last answer."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            last = what()
        except (urllib.error.URLError, ConnectionError) as error:
            last = error
        if wanted(last) or time.monotonic() > end:
            return last
        time.sleep(0.1)


def is_up(answer):
    """A completion came."""
    return isinstance(answer, tuple) and answer[0] == 200


@unittest.skipIf(PYTHON is None, "python3-fastapi and python3-uvicorn are not installed")
class Sketches(unittest.TestCase):
    """All three in Python."""

    def setUp(self):
        self.mesh = fixture.Mesh()
        self.port = free_port()
        self.programs = Programs(self.mesh.root, self.mesh.keys, self.mesh.root)
        self.programs.start("l7_llm_worker_47", DSMIL_DEVICE_ID="47")
        self.programs.start("l7_router", DSMIL_DEVICE_ID="43")
        self.programs.start("openai_shim", DSMIL_SHIM_PORT=str(self.port))

    def tearDown(self):
        self.programs.stop()
        self.mesh.close()

    def ask(self, text="What is DSMIL?", **kwargs):
        """A completion, once everything is up."""
        answer = until(lambda: chat(self.port, text, **kwargs), is_up)
        self.assertTrue(is_up(answer), f"{answer}\n{self.programs.logs()}")
        return answer[1]

    def test_a_request_through_three_processes(self):
        body = self.ask()
        message = body["choices"][0]["message"]
        self.assertEqual((message["role"], message["content"]), ("assistant", "Device 47 read 5 words and answers."))
        self.assertEqual(body["choices"][0]["finish_reason"], "stop")
        self.assertEqual([body["usage"][k] for k in ("prompt_tokens", "completion_tokens", "total_tokens")], [5, 7, 12])
        self.assertEqual(body["dsmil_metadata"]["device_id"], 47)
        self.assertEqual(body["dsmil_metadata"]["l7_profile"], "llm-7b-amx")
        logs = self.programs.logs()
        self.assertEqual(logs.count(body["id"]) >= 4, True, logs)  # shim, router and worker name the request
        for word in ("ERROR", "Traceback"):
            self.assertNotIn(word, logs.split("==> openai_shim.log")[0], logs)

    def test_refusals(self):
        self.ask()
        self.assertEqual(chat(self.port, "x", key="wrong")[0], 401)
        status, body = chat(self.port, "x", model="llm-1b-npu")  # a worker that is not there
        self.assertEqual(status, 500)
        self.assertIn("WORKER_ERROR", body["detail"])

    def test_a_worker_that_dies_and_returns(self):
        self.ask()
        self.programs.kill("l7_llm_worker_47")
        status, body = chat(self.port, "Is anybody there?")
        self.assertEqual(status, 500, body)
        self.assertIn("E_UNAVAILABLE", body["detail"])
        self.programs.start("l7_llm_worker_47", DSMIL_DEVICE_ID="47")
        self.assertIn("answers.", self.ask("And now?")["choices"][0]["message"]["content"])

    def test_many_at_once(self):
        self.ask()
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: chat(self.port, " ".join(["word"] * n)), range(1, 33)))
        self.assertEqual([status for status, _ in answers], [200] * 32)
        self.assertEqual([body["usage"]["prompt_tokens"] for _, body in answers], list(range(3, 35)))


@unittest.skipIf(PYTHON is None, "python3-fastapi and python3-uvicorn are not installed")
@unittest.skipUnless((BUILD / "dsmil").exists(), "build/dsmil is not built")
class BeforeTheMeshInC(unittest.TestCase):
    """The shim of this folder with the router and the worker of `dsmil up`."""

    def test_the_real_worker_answers(self):
        with c_mesh.Mesh() as mesh:
            sockets = [s["metrics_socket"] for s in mesh.mesh_json()["services"] if s.get("metrics_socket")]
            port, run = free_port(), pathlib.Path(sockets[0]).parent
            key = next((mesh.state / "keys").glob("*shim*.key")).name
            programs = Programs(mesh.state, mesh.state / "keys", run)
            try:
                programs.start("openai_shim", DSMIL_SHIM_PORT=str(port), DSMIL_SHIM_KEY=key)
                answer = until(lambda: chat(port, "What does the router do?"), is_up)
                self.assertTrue(is_up(answer), f"{answer}\n{programs.logs()}")
                body = answer[1]
                self.assertGreater(len(body["choices"][0]["message"]["content"]), 20)
                self.assertEqual(body["dsmil_metadata"]["device_id"], 47)
                status, body = chat(port, "x", model="llm-1b-npu")  # the other worker's profile
                self.assertEqual((status, body.get("dsmil_metadata", {}).get("device_id")), (200, 44), body)
            finally:
                programs.stop()


if __name__ == "__main__":
    unittest.main()
