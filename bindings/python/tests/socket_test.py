#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""DBESocket between nodes of one process and of two: calls, answers, streams, forwarding, refusals, ends."""
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import unittest

from dsmil_dbe import DBEMessage, DBESocket, MessageFlag, MessageType, errors
from dsmil_dbe import port as port_module
from dsmil_pqc import MLDSASigner
from fixture import Mesh, answer, request, revoke

CLAIM = {"tenant_id": "LOCAL_TOOL_USER", "client_id": "test", "roles": ["SOC_ASSIST"]}


class Server(threading.Thread):
    """Answers what comes until it is closed; what it saw is kept."""

    def __init__(self, socket, handler):
        super().__init__(daemon=True)
        self.socket, self.handler, self.seen = socket, handler, []
        self.start()

    def run(self):
        try:
            while True:
                message = self.socket.receive()
                self.seen.append(message)
                self.handler(message)
        except errors.E_CLOSED:
            pass


class Case(unittest.TestCase):
    """A mesh for each test."""

    def setUp(self):
        self.mesh = Mesh()
        self.addCleanup(self.mesh.close)
        self.signer = MLDSASigner(self.mesh.keys / "shim-0.key")

    def bind(self, device=43, name="router", **kwargs):
        """A listening socket."""
        socket = DBESocket(bind_path=self.mesh.path(name), keys=self.mesh.keys, device_id=device, **kwargs)
        self.addCleanup(socket.close)
        return socket

    def connect(self, device=0, name="router", **kwargs):
        """A connecting socket."""
        socket = DBESocket(connect_path=self.mesh.path(name), keys=self.mesh.keys, device_id=device, **kwargs)
        self.addCleanup(socket.close)
        return socket

    def request(self, text="x", **tlvs):
        """A request with a claim."""
        return request(text, self.signer.sign(CLAIM), **tlvs)

    def serve(self, handler, **kwargs):
        """A router that answers with `handler`."""
        socket = self.bind(**kwargs)
        return Server(socket, lambda message: socket.send(handler(message)))


class Calls(Case):
    """Requests and answers."""

    def test_request_and_answer(self):
        server = self.serve(lambda m: answer(m, "re: " + m.payload["messages"][0]["content"]))
        client = self.connect()
        reply = client.send_and_receive(self.request("h\u00e9"), timeout=10)
        self.assertEqual(reply.payload["choices"][0]["message"]["content"], "re: h\u00e9")
        seen = server.seen[0]
        # what the program left out is filled in (spec 12.11, 12.5)
        self.assertEqual((seen.tlv_get("DEVICE_ID_SRC"), seen.tlv_get("DEVICE_ID_DST")), (0, 43))
        self.assertLessEqual(seen.tlv_get("TIMEOUT_MS"), 10000)
        self.assertEqual(seen.tlv_get("LAYER_PATH"), "7")
        self.assertEqual(seen.peer.identity.spiffe_id, "spiffe://test.mesh/l7/shim/0")
        self.assertEqual((reply.tlv_get("DEVICE_ID_SRC"), reply.tlv_get("DEVICE_ID_DST")), (43, 0))
        self.assertEqual(reply.tlv_get("TENANT_ID"), "LOCAL_TOOL_USER")
        self.assertEqual(reply.tlv_get("REQUEST_ID"), seen.tlv_get("REQUEST_ID"))
        self.assertEqual([hop.device for hop in reply.tlv_get("HOP_TRACE")], [43])
        self.assertTrue(reply.peer.suite)

    def test_send_then_receive(self):
        self.serve(lambda m: answer(m, "ok"))
        client = self.connect()
        sent = self.request()
        self.assertTrue(client.send(sent))
        reply = client.receive(timeout=10)
        self.assertEqual(reply.correlation_id, sent.correlation_id)
        self.assertIsNone(client.receive(timeout=0.01))

    def test_many_threads(self):
        self.serve(lambda m: answer(m, m.payload["messages"][0]["content"]))
        client, wrong = self.connect(), []

        def ask(number):
            for i in range(20):
                text = f"{number}.{i}"
                got = client.send_and_receive(self.request(text)).payload["choices"][0]["message"]["content"]
                if got != text:
                    wrong.append((text, got))

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_stream(self):
        """Spec 12.4."""
        socket = self.bind()

        def chunks(message):
            for i in range(5):
                socket.send(answer(message, f"{i}", MessageFlag.STREAMING if i < 4 else 0))

        Server(socket, chunks)
        client = self.connect()
        got = [m.payload["choices"][0]["message"]["content"] for m in client.stream(self.request())]
        self.assertEqual(got, ["0", "1", "2", "3", "4"])
        with self.assertRaises(errors.E_PROTOCOL):
            client.send_and_receive(self.request())

    def test_cancel(self):
        """Spec 12.7: who leaves a stream early cancels, and the server learns that nobody waits."""
        socket, told = self.bind(), threading.Event()

        def endless(message):
            while socket.send(answer(message, "more", MessageFlag.STREAMING)):
                time.sleep(0.001)
            told.set()

        Server(socket, endless)
        for _ in self.connect().stream(self.request()):
            break
        self.assertTrue(told.wait(10))
        self.assertEqual(socket.counters["cancelled"], 1)

    def test_deadline(self):
        """Spec 12.6, on both sides."""
        socket = self.bind()
        with self.assertRaises(errors.E_TIMEOUT):
            self.connect().send_and_receive(self.request(), timeout=0.2)
        late = socket.receive(timeout=5)  # the request is over: it is not handed out, or its answer is for nobody
        if late is not None:
            while socket.counters.get("expired", 0) + socket.counters.get("cancelled", 0) == 0:
                time.sleep(0.01)
            self.assertFalse(socket.send(answer(late, "too late")))

    def test_unknown_correlation(self):
        with self.assertRaises(errors.E_NOT_FOUND):
            self.bind().send(DBEMessage(MessageType.L7_CHAT_RESP, 12345))

    def test_forwarding(self):
        """Spec 12.11 and 10.8: what a router forwards is from the router, and carries no claim token."""
        worker_socket = self.bind(device=47, name="worker")
        worker = Server(worker_socket, lambda m: worker_socket.send(answer(m, "from 47")))
        onward = self.connect(device=43, name="worker")
        self.serve(lambda m: onward.send_and_receive(m, timeout=5))
        sent = self.request()
        reply = self.connect().send_and_receive(sent, timeout=10)
        seen = worker.seen[0]
        self.assertEqual((seen.tlv_get("DEVICE_ID_SRC"), seen.tlv_get("DEVICE_ID_DST")), (43, 47))
        self.assertIsNone(seen.tlv_get("L7_CLAIM_TOKEN"))
        self.assertEqual(seen.tlv_get("LAYER_PATH"), "7\u21927")
        self.assertEqual(seen.correlation_id, sent.correlation_id)
        self.assertEqual([hop.device for hop in reply.tlv_get("HOP_TRACE")], [47, 43])
        self.assertEqual(reply.tlv_get("DEVICE_ID_SRC"), 43)


class Policy(Case):
    """Spec 11: what a receiver refuses without the program's doing."""

    def refusal(self, message):
        """The error of a request."""
        self.serve(lambda m: answer(m, "passed"))
        with self.assertRaises(errors.DBEError) as caught:
            self.connect().send_and_receive(message, timeout=10)
        return caught.exception

    def test_claim_missing(self):
        problem = self.refusal(request())
        self.assertIsInstance(problem, errors.E_CLAIM_MISSING)
        self.assertEqual((problem.remote, problem.rule, problem.device_id), (True, "claim", 43))

    def test_source(self):
        self.assertIsInstance(self.refusal(self.request(DEVICE_ID_SRC=12)), errors.E_SOURCE)

    def test_destination(self):
        self.assertIsInstance(self.refusal(self.request(DEVICE_ID_DST=47)), errors.E_DESTINATION)

    def test_kinetic_never_leaves(self):
        """Spec 11.13: the sender's own side refuses first."""
        problem = self.refusal(self.request(COMPARTMENT_MASK=0x81))
        self.assertIsInstance(problem, errors.E_KINETIC)
        self.assertFalse(problem.remote)

    def test_tenant_of_another_claim(self):
        self.assertIsInstance(self.refusal(self.request(TENANT_ID="SOMEBODY_ELSE")), errors.E_TENANT)

    def test_a_claim_of_another_channel(self):
        """Spec 10.4."""
        server = self.serve(lambda m: answer(m, "ok"))
        self.connect().send_and_receive(self.request())
        stolen = bytes(server.seen[0].tlv_get("L7_CLAIM_TOKEN"))
        other = self.connect(peer_device=43)  # another channel: what it accepts differs
        with self.assertRaises(errors.E_CLAIM_INVALID):
            other.send_and_receive(request(token=stolen))

    def test_answers_are_judged(self):
        """Spec 11.12: an answer may not carry more than its request."""
        def above(message):
            out = answer(message, "secret")
            out.tlv_set("CLASSIFICATION", "TS")
            return out

        self.serve(above)
        with self.assertRaises(errors.E_CLASSIFICATION):
            self.connect().send_and_receive(self.request(CLASSIFICATION="UNCLAS"))

    def test_refused_requests_reach_nobody(self):
        server = self.serve(lambda m: answer(m, "ok"))
        client = self.connect()
        with self.assertRaises(errors.E_CLAIM_MISSING):
            client.send_and_receive(request())
        client.send_and_receive(self.request())
        self.assertEqual(len(server.seen), 1)
        self.assertEqual(server.socket.counters["refused"], 1)


class Ends(Case):
    """Sockets that are not there, go away, come back."""

    def test_nobody_there(self):
        began = time.monotonic()
        with self.assertRaises(errors.E_UNAVAILABLE):
            self.connect(name="nobody").send_and_receive(self.request(), timeout=0.2)
        self.assertLess(time.monotonic() - began, 30)

    def test_wrong_peer(self):
        self.bind(device=47)
        with self.assertRaises(errors.PeerError):
            self.connect(peer_role="router").send_and_receive(self.request(), timeout=5)

    def test_another_mesh(self):
        other = Mesh("other.mesh")
        self.addCleanup(other.close)
        stranger = DBESocket(bind_path=self.mesh.path("router"), keys=other.keys, device_id=43)
        self.addCleanup(stranger.close)
        with self.assertRaises(errors.E_CERT):
            self.connect().send_and_receive(self.request(), timeout=5)

    def test_connect_before_bind(self):
        client = self.connect()
        self.serve(lambda m: answer(m, "at last"))
        self.assertTrue(client.send_and_receive(self.request()).payload["choices"])

    def test_peer_killed_while_it_works(self):
        program = textwrap.dedent("""
            import os, sys
            from dsmil_dbe import DBESocket
            socket = DBESocket(bind_path=sys.argv[1])
            print("up", flush=True)
            socket.receive()
            os.kill(os.getpid(), 9)
        """)
        env = {**os.environ, "DSMIL_KEYS": str(self.mesh.keys), "DSMIL_DEVICE_ID": "43"}
        with subprocess.Popen([sys.executable, "-c", program, str(self.mesh.path("router"))], env=env,
                              stdout=subprocess.PIPE) as peer:
            self.assertEqual(peer.stdout.readline(), b"up\n")
            client = self.connect()
            with self.assertRaises(errors.E_CLOSED):
                client.send_and_receive(self.request(), timeout=20)
        self.serve(lambda m: answer(m, "another"))
        self.assertTrue(client.send_and_receive(self.request(), timeout=20).payload["choices"])

    def test_close_wakes_who_waits(self):
        socket, ended = self.bind(), []

        def wait():
            try:
                socket.receive()
            except errors.E_CLOSED:
                ended.append(True)

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        socket.close()
        for thread in threads:
            thread.join(10)
        self.assertEqual(ended, [True] * 3)
        with self.assertRaises(errors.E_CLOSED):
            socket.receive(timeout=1)
        socket.close()

    def test_close_ends_calls(self):
        socket = self.bind()
        Server(socket, lambda m: socket.close())
        with self.assertRaises(errors.E_CLOSED):
            self.connect().send_and_receive(self.request(), timeout=20)

    def test_path_is_free_again(self):
        self.bind().close()
        self.serve(lambda m: answer(m, "second"))
        self.assertTrue(self.connect().send_and_receive(self.request()).payload["choices"])

    def test_bind_twice(self):
        self.bind()
        with self.assertRaises(errors.DBEError):
            self.bind()

    def test_forgotten_sockets_share_a_channel_and_go(self):
        self.serve(lambda m: answer(m, "ok"))
        handshakes = set()
        for _ in range(5):
            client = self.connect_forgotten()
            client.send_and_receive(self.request())
            handshakes.add(client.peers[0].binding)
            del client
            gc.collect()
        self.assertEqual(len(handshakes), 1)

    def connect_forgotten(self):
        """A socket that nobody closes."""
        return DBESocket(connect_path=self.mesh.path("router"), keys=self.mesh.keys, device_id=0)

    def test_context_manager(self):
        with self.bind() as socket:
            self.assertIsNone(socket.receive(timeout=0))
        with self.assertRaises(errors.E_CLOSED):
            socket.receive(timeout=0)

    def test_arguments(self):
        for kwargs in ({}, {"bind_path": "a", "connect_path": "b"}):
            with self.assertRaises(errors.E_ARGUMENT):
                DBESocket(keys=self.mesh.keys, device_id=43, **kwargs)
        with self.assertRaises(errors.E_NOT_FOUND):
            DBESocket(bind_path=self.mesh.path("x"), keys=self.mesh.keys, device_id=99)
        with self.assertRaises(errors.E_CONFIG):
            os.environ["DSMIL_DEVICE_ID"] = "x"
            try:
                DBESocket(bind_path=self.mesh.path("x"), keys=self.mesh.keys)
            finally:
                del os.environ["DSMIL_DEVICE_ID"]

    def test_too_many_wait(self):
        """Spec 13.2: a full inbox is said, not dropped."""
        self.bind()
        old, port_module.RECEIVE_MAX = port_module.RECEIVE_MAX, 2
        try:
            client = self.connect()
            for _ in range(2):
                client.send(self.request())
            with self.assertRaises(errors.E_LIMIT):
                client.send_and_receive(self.request(), timeout=10)
        finally:
            port_module.RECEIVE_MAX = old

    def test_large(self):
        self.serve(lambda m: answer(m, m.payload["model"]))
        message, text = self.request(), "x" * 3_000_000
        message.payload["model"] = text
        reply = self.connect().send_and_receive(message, timeout=20)
        self.assertEqual(reply.payload["choices"][0]["message"]["content"], text)

    def test_shared_memory(self):
        """The same over a ring of shared memory, small and larger than the ring's first step."""
        path = f"shm:{self.mesh.path('router')}"
        router = DBESocket(bind_path=path, keys=self.mesh.keys, device_id=43)
        self.addCleanup(router.close)
        Server(router, lambda m: router.send(answer(m, m.payload["model"])))
        client = DBESocket(connect_path=path, keys=self.mesh.keys, device_id=0)
        self.addCleanup(client.close)
        for size in (1, 1000, 300_000):
            message = self.request()
            message.payload["model"] = "x" * size
            reply = client.send_and_receive(message, timeout=20)
            self.assertEqual(len(reply.payload["choices"][0]["message"]["content"]), size)

    def test_revoked(self):
        """Spec 8.13: a node that is revoked loses its channels, and gets no new one."""
        server = self.serve(lambda m: answer(m, "ok"))
        client = self.connect()
        client.send_and_receive(self.request())
        revoke("shim-0", self.mesh.keys)
        end = time.monotonic() + 20
        while server.socket.peers and time.monotonic() < end:
            time.sleep(0.02)
        self.assertEqual(server.socket.peers, [])
        with self.assertRaises(errors.DBEError) as caught:
            client.send_and_receive(self.request(), timeout=5)
        self.assertIn(caught.exception.name, ("E_REVOKED", "E_CLOSED", "E_UNAVAILABLE", "E_CERT"))
        self.assertEqual(len(server.seen), 1)

    def test_after_fork(self):
        """A child makes channels of its own."""
        self.serve(lambda m: answer(m, "ok"))
        self.connect().send_and_receive(self.request())
        child = os.fork()
        if child == 0:
            try:
                got = self.connect().send_and_receive(self.request(), timeout=20)
                os._exit(0 if got.payload["choices"] else 1)
            except BaseException:  # the parent reports it
                os._exit(2)
        self.assertEqual(os.waitpid(child, 0)[1], 0)


if __name__ == "__main__":
    unittest.main()
