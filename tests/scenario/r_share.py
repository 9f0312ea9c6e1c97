# SPDX-License-Identifier: Apache-2.0
"""A tenant asks for more long answers than a worker has places; another's question is answered before one ends."""
import json
import threading
import unittest

from mesh import Mesh, wait_for

LONG = 48  # more than places and `ahead` together
ROUTING = "routing:\n  queue: {wait: 10min}\n"
# An answer that does not end by itself: as long as max_tokens, whatever the model would say.
SCHEMA = {"type": "array", "minItems": 1000, "items": {"type": "string", "minLength": 30, "maxLength": 40}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


class Share(unittest.TestCase):
    def test_long_answers_keep_nobody_out(self):
        with Mesh(files={"l7_router.yaml": ROUTING}) as mesh:
            key = json.loads(mesh.cli("api-key", "add", "--tenant", "MODEST", "--json").stdout)["key"]
            modest = {"Authorization": f"Bearer {key}"}

            def ask():
                return mesh.request("POST", "/v1/chat/completions", {
                    "model": "dsmil", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]}, modest)[0]
            wait_for("the key counts", lambda: ask() == 200)
            ended = []
            threads = [threading.Thread(target=lambda: ended.append(
                mesh.chat("Tell me all.", max_tokens=120, response_format=FORMAT)[0])) for _ in range(LONG)]
            for thread in threads:
                thread.start()
            wait_for("they wait", lambda: mesh.metric("dsmil_l7_router_queued") > 0 or ended)
            self.assertEqual((ask(), ended), (200, []))
            self.assertGreater(mesh.metric("dsmil_l7_router_queued"), 0)
            for thread in threads:
                thread.join()
            self.assertEqual(len(ended), LONG)
            self.assertLessEqual(set(ended), {200, 504}, "answered, or told that time is up")


if __name__ == "__main__":
    unittest.main(verbosity=2)
