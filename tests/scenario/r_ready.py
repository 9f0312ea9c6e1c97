# SPDX-License-Identifier: Apache-2.0
"""A mesh that says that it is up, is; and one that nobody asks anything has nothing to write down."""
import json
import time
import unittest

from mesh import Mesh, wait_for

IDLE_S = 5  # for so long nobody asks; a question a second would show
STILL_S = 4  # for so long nothing is left of a start


def records(mesh):
    """Lines of the audit log so far."""
    return [line for segment in sorted((mesh.state / "audit").glob("*.log"))
            for line in segment.read_text().split("\n")[:-1]]


class Ready(unittest.TestCase):
    @staticmethod
    def told(mesh):
        """What the router logged up to being ready; nothing yet while the supervisor still writes it down."""
        lines = mesh.log("dsmil-l7-router").split("\n")[:-1]
        told = [json.loads(line)["message"] for line in lines]
        return told if "ready" in told else None

    def test_the_first_question_needs_no_luck(self):
        """Every worker is known, and the key for sealed prompts, when `dsmil up` says that the mesh is up."""
        for _ in range(3):
            with Mesh() as mesh:
                status, _, body = mesh.chat(dsmil={"sealed": True}, max_tokens=4)
                self.assertEqual(status, 200, body)
                state = mesh.cli("status", "--json")
                self.assertEqual(state.returncode, 0, state.stdout)
                profiles = [m["id"] for m in mesh.request("GET", "/v1/models")[2]["data"]]
                self.assertEqual(len(profiles), 2, profiles)
                told = wait_for("the router's log", lambda m=mesh: self.told(m))
                serving = [i for i, words in enumerate(told) if " serves " in words]
                self.assertEqual(len(serving), 3, told)  # two workers and the agent
                self.assertLess(max(serving), told.index("ready"), told)

    def idle(self, mesh):
        """No record while nobody asks, though the gateway knows all the time what is served."""
        seen = []

        def still():
            under_way = mesh.metric("dsmil_audit_queue_bytes")
            seen.append((len(records(mesh)), under_way))
            time.sleep(1)  # idleness is the subject here
            return len(seen) > STILL_S and under_way == 0 and len(set(seen[-STILL_S:])) == 1

        wait_for("what the start gave to record is recorded", still)
        before = records(mesh)
        end = time.monotonic() + IDLE_S
        while time.monotonic() < end:
            status, _, body = mesh.request("GET", "/v1/models")  # the gateway alone answers it
            self.assertEqual((status, len(body["data"])), (200, 2), body)
            time.sleep(0.5)
        self.assertEqual(records(mesh)[len(before):], [])
        self.assertTrue(before)

    def test_an_idle_mesh_writes_no_record(self):
        with Mesh() as mesh:
            self.assertEqual(mesh.chat(max_tokens=4)[0], 200)
            self.idle(mesh)
            pid = mesh.signal("dsmil-l7-router")
            wait_for("the router is back", lambda: mesh.is_back("dsmil-l7-router", pid))
            wait_for("its models", lambda: len(mesh.request("GET", "/v1/models")[2].get("data", ())) == 2)
            self.idle(mesh)


if __name__ == "__main__":
    unittest.main()
