# SPDX-License-Identifier: Apache-2.0
"""Faults: services killed at any moment, under load. Every request ends, and the mesh comes back by itself.

The moments are drawn from a seed that is printed; DSMIL_TEST_SEED replays it as far as the scheduler allows.
"""
import http.client
import os
import random
import signal
import threading
import time
import unittest

from mesh import Mesh, wait_for

KILLS, CLIENTS = 8, 4


class Client(threading.Thread):
    """Asks until told to stop; notes how each request ended."""

    def __init__(self, mesh, seed):
        super().__init__()
        self.mesh, self.draw = mesh, random.Random(seed)
        self.stop = threading.Event()
        self.ended, self.hung = {}, []

    def note(self, how):
        """Count one end."""
        self.ended[how] = self.ended.get(how, 0) + 1

    def run(self):
        while not self.stop.is_set():
            try:
                if self.draw.random() < 0.5:
                    self.note(self.mesh.chat(max_tokens=16)[0])
                else:
                    events = list(self.mesh.stream(max_tokens=16))
                    self.note("done" if events and events[-1] == "[DONE]" else "broken off")
            except TimeoutError as err:
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
                wait_for("the mesh is ready again", mesh.ready, 90)
                wait_for("an answer", lambda: self.answers(mesh), 30)
            finally:
                for client in clients:
                    client.stop.set()
                for client in clients:
                    client.join(90)
            ended = {}
            for client in clients:
                self.assertFalse(client.is_alive(), "a request never ended")
                self.assertEqual(client.hung, [])
                for how, count in client.ended.items():
                    ended[how] = ended.get(how, 0) + count
            print(f"requests ended: {ended}", flush=True)
            self.assertGreater(ended.get(200, 0) + ended.get("done", 0), 0)
            self.assertEqual(sum(s["restarts"] for s in mesh.mesh_json()["services"]), KILLS)

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
