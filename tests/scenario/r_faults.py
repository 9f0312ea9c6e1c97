# SPDX-License-Identifier: Apache-2.0
"""Faults: processes die, keys are wrong, files lie; the one concerned hears it and nobody else."""
import os
import pathlib
import signal
import subprocess
import tempfile
import unittest

from mesh import DSMIL, MODEL, Mesh, wait_for

# However it is sampled, it cannot end before 800 tokens.
LONG = {"max_tokens": 800, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {
    "type": "array", "minItems": 1000, "items": {"type": "string", "minLength": 30, "maxLength": 40}}}}}
QUESTION = "Tell me about every layer of DSMIL, one after the other."


class Faults(unittest.TestCase):
    def in_the_middle(self, mesh, begin, end):
        """Events of an answer of which a part had come when `begin` was done; `end` follows in any case. A worker may
        have said all before its client has read the third event: then once more."""
        for _ in range(50):
            events = []
            try:
                for event in mesh.stream(QUESTION, **LONG):
                    events.append(event)
                    if len(events) == 3:
                        begin()
            finally:
                if len(events) >= 3:
                    end()
            if events[-1] != "[DONE]":
                return events
        return self.fail("50 answers were over before anything could be done")

    def test_worker_killed_in_the_middle_of_an_answer(self):
        with Mesh() as mesh:
            killed = []

            def kill():
                killed.append(mesh.signal("dsmil-l7-llm-worker-47"))

            def is_back():
                wait_for("the worker is back", lambda: mesh.is_back("dsmil-l7-llm-worker-47", killed[-1]))
                wait_for("the next question works", lambda: mesh.chat(max_tokens=8)[0] == 200)

            events = self.in_the_middle(mesh, kill, is_back)
            self.assertTrue(any(isinstance(e, dict) and "error" in e for e in events), events[-3:])
            self.assertEqual(mesh.service("dsmil-l7-llm-worker-47")["restarts"], len(killed))
            self.assertEqual(mesh.service("dsmil-l7-router")["restarts"], 0)

    def test_a_stalled_worker_is_a_clear_503_and_no_hang(self):
        with Mesh() as mesh:
            worker = mesh.signal("dsmil-l7-llm-worker-47", signal.SIGSTOP)
            try:
                # The first may still have been sent to it; nobody waits for the whole deadline.
                status, headers, body = wait_for("a 503", lambda: only(503, mesh.chat(max_tokens=4)))
                self.assertIn("Retry-After", headers)
                self.assertTrue(body["error"]["message"])
                self.assertEqual(mesh.service("dsmil-l7-router")["restarts"], 0)
            finally:
                os.kill(worker, signal.SIGCONT)
            wait_for("an answer again", lambda: only(200, mesh.chat(max_tokens=4)))
            self.assertEqual(mesh.service("dsmil-l7-llm-worker-47")["restarts"], 0)

    def test_an_answer_that_stalls_ends_with_an_error(self):
        with Mesh() as mesh:
            worker = mesh.service("dsmil-l7-llm-worker-47")["pid"]
            events = self.in_the_middle(mesh, lambda: os.kill(worker, signal.SIGSTOP),
                                        lambda: os.kill(worker, signal.SIGCONT))
            self.assertIn("error", events[-1])

    def test_router_killed_and_back(self):
        with Mesh() as mesh:
            mesh.signal("dsmil-l7-router")
            status, _, body = mesh.chat(max_tokens=4)
            self.assertIn(status, (200, 502, 503), body)
            wait_for("an answer again", lambda: mesh.chat(max_tokens=4)[0] == 200)

    def test_supervisor_killed_leaves_nothing_running_and_starts_again(self):
        mesh = Mesh()
        try:
            mesh.__enter__()
            pids = [s["pid"] for s in mesh.mesh_json()["services"]]
            mesh.proc.kill()
            mesh.proc.wait()
            wait_for("all services are gone", lambda: not any(alive(p) for p in pids))
            mesh.__enter__()
            self.assertEqual(mesh.chat(max_tokens=4)[0], 200)
        finally:
            mesh.__exit__()

    def test_a_client_that_leaves_frees_the_worker(self):
        with Mesh() as mesh:
            left = []

            def leave():
                stream = mesh.stream(QUESTION, **LONG)
                left.append(next(stream))
                stream.close()
                return mesh.metric("dsmil_l7_router_cancelled_total") >= 6

            wait_for("six that left before the end", leave)
            self.assertEqual(mesh.chat(max_tokens=4)[0], 200)
            wait_for("no request is left", lambda: mesh.metric("dsmil_l7_router_in_flight") == 0)
            self.assertLessEqual(mesh.metric("dsmil_l7_router_cancelled_total"), len(left))

    def test_down_finishes_and_exits_0(self):
        with Mesh() as mesh:
            run = mesh.cli("down")
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertEqual(mesh.proc.wait(240), 0)
            self.assertEqual(mesh.cli("status").returncode, 3)
            self.assertEqual(mesh.cli("ask", "x").returncode, 3)

    def test_a_damaged_model_is_refused_with_what_is_wrong(self):
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder) / "lying.gguf"
            model.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + (1 << 60).to_bytes(8, "little") * 2)
            run = subprocess.run([DSMIL, "up", "--check", "--port", "0", "--model", model],
                                 env=dict(os.environ, DSMIL_STATE=folder + "/state"), capture_output=True, text=True,
                                 timeout=330, check=False)
            self.assertNotEqual(run.returncode, 0)
            self.assertIn("tensor", run.stderr.lower())

    def test_a_path_that_is_no_text_is_refused_clearly(self):
        with tempfile.TemporaryDirectory() as folder:
            bad = os.fsencode(folder) + b"/\xff\xfe"
            for args, env in ((["up", "--check", "--port", "0"], {b"DSMIL_STATE": bad}),
                              (["up", "--check", "--port", "0", "--model", bad], {b"DSMIL_STATE": folder.encode()})):
                run = subprocess.run([DSMIL, *args], env={**os.environb, **env}, capture_output=True, timeout=330,
                                     check=False)
                self.assertEqual(run.returncode, 2, run.stderr)
                self.assertIn(b"UTF-8", run.stderr)

    def test_a_key_that_others_can_read_is_refused_by_name(self):
        with tempfile.TemporaryDirectory() as folder:
            env = dict(os.environ, DSMIL_STATE=folder + "/state")
            subprocess.run([DSMIL, "keys", "init"], env=env, check=True, capture_output=True)
            subprocess.run([DSMIL, "keys", "issue", "--device", "43", "--role", "router"], env=env, check=True,
                           capture_output=True)
            key = pathlib.Path(folder) / "state/keys/router-43.key"
            key.chmod(0o644)
            run = subprocess.run([DSMIL, "up", "--check", "--port", "0", *MODEL], env=env, capture_output=True,
                                 text=True, timeout=330, check=False)
            self.assertNotEqual(run.returncode, 0)
            self.assertIn("router-43.key", run.stderr)
            self.assertIn("chmod", run.stderr)

    def test_garbage_on_the_router_socket_harms_nobody(self):
        import socket
        with Mesh() as mesh:
            path = next((mesh.state / "run").glob("l7-router.sock"))
            for junk in (b"\x00" * 64, b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"\xff" * 70000):
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(str(path))
                    try:
                        s.sendall(junk)
                        s.shutdown(socket.SHUT_WR)
                        while s.recv(4096):
                            pass
                    except (BrokenPipeError, ConnectionResetError):
                        pass
            self.assertEqual(mesh.chat(max_tokens=4)[0], 200)
            self.assertEqual(mesh.service("dsmil-l7-router")["restarts"], 0)


def only(status, answer):
    """The answer if it has this status, else None: for wait_for."""
    return answer if answer[0] == status else None


def alive(pid):
    """True while the process is there and no zombie."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    unittest.main(verbosity=2)
