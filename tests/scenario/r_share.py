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
            ended, stop = [], threading.Event()

            def go_on():
                while not stop.is_set():
                    status = mesh.chat("Tell me all.", max_tokens=200, response_format=FORMAT)[0]
                    if status != 429:  # more schemas of one tenant than may wait to be translated: it asks again
                        ended.append(status)

            def is_answered():
                """While others wait and none of them is; one may have been about to end, so this is asked again."""
                waited, before = mesh.metric("dsmil_l7_router_queued"), len(ended)
                self.assertEqual(ask(), 200)
                return waited > 0 and len(ended) == before and mesh.metric("dsmil_l7_router_queued") > 0

            threads = [threading.Thread(target=go_on) for _ in range(LONG)]
            for thread in threads:
                thread.start()
            try:
                wait_for("an answer before one of those that are long ends", is_answered)
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            self.assertLessEqual(set(ended), {200, 504}, "answered, or told that time is up")


if __name__ == "__main__":
    unittest.main(verbosity=2)
