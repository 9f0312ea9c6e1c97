# SPDX-License-Identifier: Apache-2.0
"""Faults: services killed at any moment, under every kind of load. Each request ends, the mesh comes back by itself,
and the audit log holds together.

The moments are drawn from a seed that is printed; DSMIL_TEST_SEED replays it as far as the scheduler allows, and
DSMIL_TEST_KILLS makes it long.
"""
import http.client
import os
import random
import signal
import subprocess
import threading
import time
import unittest

from mesh import Mesh, wait_for

KILLS, CLIENTS = int(os.environ.get("DSMIL_TEST_KILLS", "8")), 6
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {
    "type": "object", "properties": {"host": {"type": "string", "maxLength": 8}}, "required": ["host"]}}}]


class Client(threading.Thread):
    """Asks until told to stop; notes how each request ended."""

    def __init__(self, mesh, seed):
        super().__init__()
        self.mesh, self.draw = mesh, random.Random(seed)
        self.stop = threading.Event()
        self.ended, self.hung, self.answered = {}, [], set()

    def note(self, how):
        """Count one end."""
        self.ended[how] = self.ended.get(how, 0) + 1

    def asks(self):
        """What it may ask: name -> how that ended."""
        mesh = self.mesh

        def stream(**extra):
            events = list(mesh.stream(max_tokens=16, **extra))
            return "done" if events and events[-1] == "[DONE]" else "broken off"

        def agent():
            done = mesh.cli("agent", "classify", "--labels", "calm,alarm", "--json", input="A disk fails.")
            return 200 if done.returncode == 0 else "agent refused"

        return {"chat": lambda: mesh.chat(max_tokens=16)[0], "stream": stream,
                "sealed": lambda: mesh.chat(max_tokens=16, dsmil={"sealed": True})[0],
                "sealed stream": lambda: stream(dsmil={"sealed": True}),
                "receipt": lambda: mesh.chat(max_tokens=8, dsmil={"receipt": True})[0],
                "tools": lambda: mesh.chat(max_tokens=64, tools=TOOLS, tool_choice="required")[0],
                "several": lambda: mesh.request("POST", "/v1/completions", {
                    "model": "dsmil", "prompt": ["one", "two"], "n": 2, "max_tokens": 4})[0],
                "embeddings": lambda: mesh.request("POST", "/v1/embeddings", {
                    "model": "dsmil", "input": ["a disk", "a host"]})[0],
                "responses": lambda: mesh.request("POST", "/v1/responses", {
                    "model": "dsmil", "input": "What is DSMIL?", "max_output_tokens": 16})[0],
                "models": lambda: mesh.request("GET", "/v1/models")[0],
                "agent": agent}

    def run(self):
        asks = self.asks()
        while not self.stop.is_set():
            what = self.draw.choice(sorted(asks))
            try:
                how = asks[what]()
                self.note(how)
                if how in (200, "done"):
                    self.answered.add(what)
            except (TimeoutError, subprocess.TimeoutExpired) as err:
                self.hung.append(repr(err))
            except AssertionError as err:
                self.note(f"refused {err.args[0][0]}")
            except (OSError, http.client.HTTPException, KeyError) as err:
                self.note(type(err).__name__)
                self.stop.wait(0.02)


class Chaos(unittest.TestCase):
    def test_any_service_killed_at_any_moment(self):
        seed = int(os.environ.get("DSMIL_TEST_SEED", time.time_ns() % 1_000_000))
        print(f"seed {seed}", flush=True)
        draw = random.Random(seed)
        with Mesh() as mesh:
            clients = [Client(mesh, seed + i) for i in range(CLIENTS)]
            for client in clients:
                client.start()
            try:
                killed = set()  # the supervisor's file may still name one for a moment
                for _ in range(KILLS):
                    time.sleep(draw.random() * 0.5)  # the moment is the subject here, nothing is waited for
                    victim = wait_for("a victim that runs", lambda: self.victim(mesh, draw, killed))
                    os.kill(victim, signal.SIGKILL)
                    killed.add(victim)
                wait_for("the mesh is ready again", mesh.ready)
                wait_for("an answer", lambda: self.answers(mesh))
                wait_for("streams and vectors for those who ask", lambda: {"stream", "embeddings"} <= set().union(
                    *(list(client.answered) for client in clients)))
            finally:
                for client in clients:
                    client.stop.set()
                for client in clients:
                    client.join(400)
            ended = {}
            for client in clients:
                self.assertFalse(client.is_alive(), "a request never ended")
                self.assertEqual(client.hung, [])
                for how, count in client.ended.items():
                    ended[how] = ended.get(how, 0) + count
            print(f"requests ended: {ended}", flush=True)
            answered = set().union(*(client.answered for client in clients))
            verdict = mesh.cli("audit", "verify", "--json")
            self.assertEqual(verdict.returncode, 0, verdict.stdout + verdict.stderr)
            print(f"answered: {sorted(answered)}\naudit: {verdict.stdout.strip()}", flush=True)
            wait_for("each of them was started again, once",
                     lambda: sum(s["restarts"] for s in mesh.mesh_json()["services"]) == KILLS)

    @staticmethod
    def victim(mesh, draw, killed):
        """pid of a service that runs now, drawn at random."""
        pids = [s["pid"] for s in mesh.mesh_json().get("services", []) if s["state"] in ("starting", "ready")]
        pids = [pid for pid in pids if pid and pid not in killed]
        return draw.choice(pids) if pids else None

    @staticmethod
    def answers(mesh):
        """True once a chat is answered."""
        try:
            return mesh.chat(max_tokens=4)[0] == 200
        except (OSError, http.client.HTTPException):
            return False


if __name__ == "__main__":
    unittest.main(verbosity=2)
