# SPDX-License-Identifier: Apache-2.0
"""Two hundred clients ask for long streams and read none of them: what waits for them is bounded, in the gateway, the
router and the worker; they are told that they read too slowly; and a tenant that reads is answered as if they were not
there. More of them than the gateway lets in do not keep others out.
"""
import json
import os
import pathlib
import socket
import unittest

from mesh import Mesh, wait_for

SLOW = 200
MIB = 1 << 20
# What they may cost in all. The gateway keeps 256 KiB for each and what a chat is made of; router and worker keep
# nothing for a client that the gateway does not keep them from: a worker has its 32 sessions, of 6 MiB at most.
BOUNDS = {"dsmil-openai-shim": SLOW * 512 * 1024, "dsmil-l7-router": 16 * MIB, "dsmil-l7-llm-worker-47": 240 * MIB}
SAME = {"temperature": 0, "seed": 1, "max_tokens": 24}
SCHEMA = {"type": "array", "minItems": 1000, "items": {"type": "string", "minLength": 30, "maxLength": 40}}
LONG = {"model": "dsmil", "stream": True, "max_tokens": 900, "logprobs": True, "top_logprobs": 20,
        "messages": [{"role": "user", "content": "Tell me all."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}


class Slow(unittest.TestCase):
    """One mesh for all."""

    def setUp(self):
        self.mesh = Mesh().__enter__()
        self.addCleanup(self.mesh.__exit__)
        key = json.loads(self.mesh.cli("api-key", "add", "--tenant", "READER", "--json").stdout)["key"]
        self.reader = {"Authorization": f"Bearer {key}"}
        self.alone = wait_for("the reader's key counts", lambda: self.ask()[1].get("choices"))
        self.clients = []
        self.addCleanup(lambda: [sock.close() for sock in self.clients])

    def ask(self):
        """The other tenant's chat: status, answer."""
        status, _, answer = self.mesh.request("POST", "/v1/chat/completions", {"model": "dsmil", **SAME, "messages": [
            {"role": "user", "content": "What is DSMIL?"}]}, self.reader)
        return status, answer

    def is_answered(self):
        """As always, at the latest when it asks again, as clients do that are told of a full queue."""
        status, answer = wait_for("the other tenant's answer", lambda: [a for a in [self.ask()] if a[0] != 429])[0]
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["choices"], self.alone)

    def slow_client(self, send=True, **asked):
        """A client that keeps hardly anything and reads nothing."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", self.mesh.port))
        body = json.dumps({**LONG, **asked})
        if send:
            sock.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{self.mesh.port}\r\n"
                         f"Authorization: Bearer {self.mesh.key}\r\nContent-Type: application/json\r\n"
                         f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        self.clients.append(sock)

    def count(self, metric, service="dsmil-openai-shim"):
        """One service's metric."""
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.mesh.metrics_of(service).splitlines()
                   if line.startswith((metric + " ", metric + "{")))

    def resident(self):
        """Bytes of each program."""
        pages = {name: pathlib.Path(f"/proc/{self.mesh.service(name)['pid']}/statm").read_text().split()[1]
                 for name in BOUNDS}
        return {name: os.sysconf("SC_PAGESIZE") * int(count) for name, count in pages.items()}

    def has_shadow(self, name):
        """A sanitizer maps terabytes."""
        pages = pathlib.Path(f"/proc/{self.mesh.service(name)['pid']}/statm").read_text().split()[0]
        return os.sysconf("SC_PAGESIZE") * int(pages) > 1 << 40

    def test_what_waits_is_bounded(self):
        before = self.resident()
        peak = dict(before)
        for _ in range(SLOW):
            self.slow_client()

        def over():
            self.is_answered()
            for name, size in self.resident().items():
                peak[name] = max(peak[name], size)
            return self.count("dsmil_openai_in_flight") == 0 and self.count("dsmil_openai_sent_total") >= SLOW

        wait_for("every slow client is given up, refused or answered", over, 600)
        for name, bound in BOUNDS.items():
            grown = peak[name] - before[name]
            if not self.has_shadow(name):  # of a sanitizer, which keeps what was freed
                self.assertLess(grown, bound, name)
        slow = self.count("dsmil_openai_slow_total")
        self.assertGreater(slow, 0)
        for metric in "dsmil_l7_worker_sessions", "dsmil_l7_worker_queued", "dsmil_l7_kv_used_bytes":
            wait_for(f"{metric} is back", lambda m=metric: self.count(m, "dsmil-l7-llm-worker-47") == 0)
        self.is_answered()

    def test_who_is_given_up_is_told(self):
        self.slow_client()
        wait_for("it is given up", lambda: self.count("dsmil_openai_slow_total") == 1)
        text = b""
        while piece := self.clients[0].recv(MIB):
            text += piece
            if b"reads too slowly" in text:
                break
        self.assertIn(b"the client reads too slowly", text)
        self.assertNotIn(b"[DONE]", text)

    def test_who_takes_nothing_for_long_is_ended(self):
        """The answer has some 380 KB. The kernel keeps 128 to 256 KiB of it and the gateway what is left, which is more
        than it keeps of any only where the kernel's part is small: either way the client is ended, and counts once."""
        self.slow_client(max_tokens=300, temperature=0)
        wait_for("it is ended", lambda: self.count("dsmil_openai_slow_total") == 1)
        wait_for("nothing is kept", lambda: self.count("dsmil_openai_in_flight") == 0)

    def test_they_do_not_keep_others_out(self):
        for i in range(700):  # more than are let in; some ask for nothing
            self.slow_client(send=i % 4 == 0)
        for _ in range(4):
            self.is_answered()


if __name__ == "__main__":
    unittest.main()
