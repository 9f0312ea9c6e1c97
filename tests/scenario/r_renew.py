# SPDX-License-Identifier: Apache-2.0
"""Agility: suites, keys and certificates of a mesh change while it answers, and not one answer is lost."""
import json
import threading
import unittest

from mesh import Mesh, wait_for

X25519 = "X25519-MLKEM1024-MLDSA87-AES256GCM-SHA3-512"


class Renew(unittest.TestCase):
    def order(self, mesh, *words):
        done = mesh.cli("channels", *words)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def suites(self, mesh):
        listed = json.loads(mesh.cli("channels", "--json").stdout)
        return {channel["suite"] for channels in listed.values() for channel in channels}

    def test_everything_changes_under_traffic(self):
        with Mesh() as mesh:
            answers, stop = [], threading.Event()

            def ask():
                while not stop.is_set():
                    answers.append(mesh.chat(max_tokens=8)[0])

            asking = [threading.Thread(target=ask) for _ in range(2)]
            for thread in asking:
                thread.start()
            try:
                for suite in ("2", "1", X25519):
                    self.order(mesh, "suite", suite)
                    self.order(mesh, "rekey")
                for name in ("shim-0", "router-43", "worker-47"):
                    done = mesh.cli("keys", "renew", name)
                    self.assertEqual(done.returncode, 0, done.stderr)
                self.order(mesh, "renew")
                wait_for("all channels have the suite", lambda: self.suites(mesh) == {X25519})
                had = len(answers)
                wait_for("answers go on coming", lambda: len(answers) > had + 4)
            finally:
                stop.set()
                for thread in asking:
                    thread.join()
            self.assertEqual(set(answers), {200})
            for service in ("dsmil-l7-router", "dsmil-l7-llm-worker-47", "dsmil-openai-shim"):
                self.assertNotIn("channel is down", mesh.log(service))
                self.assertEqual(mesh.service(service)["restarts"], 0)

    def test_an_order_that_makes_no_sense_changes_nothing(self):
        with Mesh() as mesh:
            before = self.suites(mesh)
            done = mesh.cli("channels", "suite", "77")
            self.assertEqual(done.returncode, 1)
            self.assertIn('no suite "77"', done.stderr)
            self.assertEqual(self.suites(mesh), before)
            self.assertEqual(mesh.cli("channels", "suite").returncode, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
