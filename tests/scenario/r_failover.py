# SPDX-License-Identifier: Apache-2.0
"""Two workers of one profile, one killed under load: every request is answered or told, and none hangs.

One worker is left: from the outside the kill is hardly seen. What had relayed nothing goes to the other worker; what
had begun ends with an error that says so.
"""
import collections
import http.client
import threading
import unittest

from mesh import Mesh, wait_for

CLIENTS, KILLS, KILLS_MAX = 8, 4, 40
WORKER = "dsmil-l7-llm-worker-47"


class Client(threading.Thread):
    """Asks, whole and streamed by turns, until told to stop; notes how each request ended."""

    def __init__(self, mesh, number):
        super().__init__()
        self.mesh, self.number = mesh, number
        self.stop = threading.Event()
        self.ended, self.hung = collections.Counter(), []

    def run(self):
        turn = self.number
        while not self.stop.is_set():
            turn += 1
            try:
                if turn % 2:
                    status, _, body = self.mesh.chat(max_tokens=24)
                    self.ended[f"whole {status}" if status == 200 or "error" in body else "whole, nothing"] += 1
                else:
                    events = list(self.mesh.stream(max_tokens=24))
                    told = isinstance(events[-1], dict) and "error" in events[-1] if events else False
                    done = bool(events) and events[-1] == "[DONE]"
                    self.ended["stream done" if done else "stream told" if told else "stream, nothing"] += 1
            except TimeoutError as err:
                self.hung.append(repr(err))
            except AssertionError as err:
                self.ended[f"stream {err.args[0][0]}"] += 1
            except (OSError, http.client.HTTPException) as err:
                self.hung.append(repr(err))


class Failover(unittest.TestCase):
    def test_a_worker_killed_under_load(self):
        with Mesh("--profile-44", "llm-7b-amx") as mesh:
            clients = [Client(mesh, i) for i in range(CLIENTS)]
            for client in clients:
                client.start()
            try:
                for kills in range(KILLS_MAX):  # one may hit a worker that has just answered all it had
                    if kills >= KILLS and mesh.metric("dsmil_l7_router_failovers_total") > 0:
                        break
                    wait_for("the worker has requests", lambda: self.in_flight(mesh) > 0)
                    pid = mesh.signal(WORKER)
                    wait_for("the worker is back", lambda pid=pid: mesh.is_back(WORKER, pid))
                else:
                    self.fail("no request was sent to another worker")
            finally:
                for client in clients:
                    client.stop.set()
                for client in clients:
                    client.join(400)
            ended = collections.Counter()
            for client in clients:
                self.assertFalse(client.is_alive(), "a request never ended")
                self.assertEqual(client.hung, [])
                ended += client.ended
            print(f"requests ended: {dict(ended)}", flush=True)
            self.assertEqual([how for how in ended if how.endswith("nothing")], [])
            self.assertGreater(ended["whole 200"] + ended["stream done"], 0)
            # A whole answer relays nothing before its end: the other worker gave it.
            self.assertEqual({how for how in ended if how.startswith("whole")} - {"whole 200"}, set())
            for service in ("dsmil-l7-router", "dsmil-openai-shim", "dsmil-l7-llm-worker-npu"):
                self.assertEqual(mesh.service(service)["restarts"], 0)
            self.assertEqual(mesh.metric("dsmil_l7_router_in_flight"), 0)

    @staticmethod
    def in_flight(mesh):
        """Requests of the router at worker 47."""
        text = mesh.metrics_of("dsmil-l7-router")
        lines = [line for line in text.splitlines()
                 if line.startswith("dsmil_l7_router_worker_in_flight") and 'worker="worker-47"' in line]
        return float(lines[0].rsplit(" ", 1)[1]) if lines else 0

    def test_a_configuration_that_changes(self):
        with Mesh() as mesh:
            path = mesh.state / "l7_router.yaml"
            self.assertFalse(path.exists())
        with Mesh(files={"l7_router.yaml": "routing:\n  ahead: 1\n"}) as mesh:
            path = mesh.state / "l7_router.yaml"
            path.write_text("routing:\n  default-profile: llm-1b-npu\n  ahead: 2\n")
            wait_for("it is in force", lambda: "l7_router.yaml is in force" in mesh.log("dsmil-l7-router"))
            path.write_text("routing:\n  ahaed: 2\n")
            said = wait_for("the fault is told", lambda: [line for line in mesh.log("dsmil-l7-router").splitlines()
                                                          if "stays in force" in line])
            self.assertIn("l7_router.yaml:2:3", said[0])
            self.assertIn("ahaed", said[0])
            self.assertEqual(mesh.chat(max_tokens=4)[0], 200)
            self.assertEqual(mesh.service("dsmil-l7-router")["restarts"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
