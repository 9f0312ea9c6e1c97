#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""AsyncDBESocket: the same conversations inside one asyncio loop, and with a threaded socket at the other end."""
import asyncio
import gc
import os
import threading
import unittest

from dsmil_dbe import AsyncDBESocket, DBESocket, MessageFlag, errors
from dsmil_pqc import MLDSASigner
from fixture import Mesh, answer, request

CLAIM = {"tenant_id": "LOCAL_TOOL_USER", "client_id": "test", "roles": ["SOC_ASSIST"]}


class Async(unittest.IsolatedAsyncioTestCase):
    """Router and shim in one loop."""

    def setUp(self):
        self.mesh = Mesh()
        self.addCleanup(self.mesh.close)
        self.signer = MLDSASigner(self.mesh.keys / "shim-0.key")

    def sockets(self):
        """A bound socket and one that connects to it."""
        path = self.mesh.path("router")
        return (AsyncDBESocket(bind_path=path, keys=self.mesh.keys, device_id=43),
                AsyncDBESocket(connect_path=path, keys=self.mesh.keys, device_id=0))

    def request(self, text="x", **tlvs):
        """A request with a claim."""
        return request(text, self.signer.sign(CLAIM), **tlvs)

    async def test_calls_at_once(self):
        router, shim = self.sockets()

        async def serve():
            while True:
                message = await router.receive()
                await router.send(answer(message, message.payload["messages"][0]["content"]))

        task = asyncio.create_task(serve())
        replies = await asyncio.gather(*(shim.send_and_receive(self.request(str(n)), timeout=20) for n in range(50)))
        self.assertEqual([r.payload["choices"][0]["message"]["content"] for r in replies], [str(n) for n in range(50)])
        self.assertEqual(threading.active_count(), 1)
        task.cancel()
        await shim.close()
        await router.close()

    async def test_stream_and_cancel(self):
        router, shim = self.sockets()

        async def serve():
            message = await router.receive()
            n = 0
            while await router.send(answer(message, str(n), MessageFlag.STREAMING)):
                n += 1
                await asyncio.sleep(0)
            return n

        task = asyncio.create_task(serve())
        seen = 0
        async for _ in shim.stream(self.request()):
            seen += 1
            if seen == 3:
                break
        self.assertGreaterEqual(await asyncio.wait_for(task, 20), 3)
        await shim.close()
        await router.close()

    async def test_timeouts(self):
        router, shim = self.sockets()
        self.assertIsNone(await shim.receive(timeout=0.01))
        with self.assertRaises(errors.E_TIMEOUT):
            await shim.send_and_receive(self.request(), timeout=0.1)
        with self.assertRaises(errors.E_CLAIM_MISSING):
            await shim.send_and_receive(request(), timeout=10)
        await router.close()
        with self.assertRaises(errors.E_CLOSED):
            await router.receive()
        await shim.close()

    async def test_with_threads_on_the_other_side(self):
        path = self.mesh.path("mixed")
        worker = DBESocket(bind_path=path, keys=self.mesh.keys, device_id=43)
        self.addCleanup(worker.close)

        def serve():
            worker.send(answer(worker.receive(), "from a thread"))

        thread = threading.Thread(target=serve)
        thread.start()
        async with AsyncDBESocket(connect_path=path, keys=self.mesh.keys, device_id=0) as shim:
            reply = await shim.send_and_receive(self.request(), timeout=20)
        self.assertEqual(reply.payload["choices"][0]["message"]["content"], "from a thread")
        thread.join()

    async def test_cancelled_task_cancels_its_call(self):
        router, shim = self.sockets()
        task = asyncio.create_task(shim.send_and_receive(self.request(), timeout=20))
        message = await router.receive(timeout=20)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        while router.counters.get("cancelled", 0) == 0:
            await asyncio.sleep(0.001)
        self.assertFalse(await router.send(answer(message, "for nobody")))
        await shim.close()
        await router.close()


class Loops(unittest.TestCase):
    """Loops that come and go leave no descriptors behind."""

    def test_many_loops(self):
        mesh = Mesh()
        self.addCleanup(mesh.close)

        async def once():
            socket = AsyncDBESocket(bind_path=mesh.path("x"), keys=mesh.keys, device_id=43)
            await socket.receive(timeout=0.001)
            return socket

        def descriptors():
            gc.collect()
            return len(os.listdir("/proc/self/fd"))

        asyncio.run(once())
        before = descriptors()
        for _ in range(5):
            asyncio.run(once())
        self.assertLessEqual(descriptors(), before)


if __name__ == "__main__":
    unittest.main()
