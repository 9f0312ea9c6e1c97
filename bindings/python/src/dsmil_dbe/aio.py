# SPDX-License-Identifier: Apache-2.0
"""AsyncDBESocket: the same socket inside an asyncio loop, without a thread of its own.

In, Out: as dsmil_dbe.socket, with coroutines
Does: the library's descriptor stands in the loop's reader, its timers in the loop's
Not:  a socket belongs to the loop that it was made in.
"""
from __future__ import annotations

import asyncio
import collections
import time
from types import TracebackType
from typing import AsyncIterator, Callable, Deque, Dict, List, Optional, Tuple, Type, Union

from .endpoint import Call, Outcome, Peer, wants_answer
from .engine import Driver, async_driver
from .errors import E_CLOSED, E_LIMIT, E_PROTOCOL, DBEError
from .identity import IdentityInfo
from .message import DBEMessage
from .port import CONNECT_S, HANDSHAKE_S, SEND_S, TIMEOUT_S, PathLike, Port, Where
from .registry import Role


class _AsyncPort(Port):
    """Wakes coroutines."""

    def __init__(self, driver: Driver, where: Where) -> None:
        self.inbox: Deque[Outcome] = collections.deque()
        self._waiters: Deque["asyncio.Future[None]"] = collections.deque()
        super().__init__(driver, where)

    def waiting(self) -> int:
        return len(self.inbox)

    def put(self, outcome: Outcome) -> None:
        self.inbox.append(outcome)
        self.changed()

    def changed(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for(self, ready: Callable[[], bool], timeout: Optional[float]) -> bool:
        """Wait until something is so; False when `timeout` seconds passed before."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not ready():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            waiter: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await asyncio.wait([waiter], timeout=left)
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        return True


class AsyncDBESocket:
    """DBESocket for asyncio; see there for the arguments. Made inside a running loop."""

    def __init__(self, bind_path: Optional[PathLike] = None, connect_path: Optional[PathLike] = None, *,
                 keys: Optional[PathLike] = None, device_id: Optional[int] = None, role: Union[Role, str, None] = None,
                 name: Optional[str] = None, peer_role: Union[Role, str, None] = None,
                 peer_device: Optional[int] = None) -> None:
        where = Where(bind_path, connect_path, keys, device_id, role, name, peer_role, peer_device)
        self._port = _AsyncPort(async_driver(), where)

    async def receive(self, timeout: Optional[float] = None) -> Optional[DBEMessage]:
        """The next message; None when `timeout` seconds passed without one."""
        port = self._port
        port.endpoint()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not await port.wait_for(lambda: bool(port.inbox), left):
                return None
            outcome = port.inbox.popleft()
            if isinstance(outcome, DBEError):
                if port.left:
                    port.put(outcome)  # for the next who waits
                raise outcome
            if outcome._request is None or not outcome._request.over:
                return outcome

    async def send(self, message: DBEMessage, peer: Optional[Peer] = None) -> bool:
        """Send an answer, a request or a one-way message; False: nobody waits for the answer any more."""
        port = self._port
        if port.bound and peer is None:
            return bool(await self._when_room(lambda: port.endpoint().answer(message)))
        target = peer or await self._connected(HANDSHAKE_S)
        if peer is None and message.correlation_id in target.requests:
            return bool(await self._when_room(lambda: port.endpoint().answer(message)))
        if wants_answer(message) and not message._arrived:
            await self._when_room(lambda: port.endpoint().call(target, message, TIMEOUT_S,
                                                               lambda outcome, last: port.put(outcome)))
        else:
            await self._when_room(lambda: port.endpoint().send(target, message))
        return True

    async def send_and_receive(self, message: DBEMessage, timeout: float = TIMEOUT_S) -> DBEMessage:
        """Send a request and wait for its answer; errors as those of DBESocket."""
        answers = self._outcomes(message, timeout)
        try:
            outcome, last = await answers.__anext__()
        finally:
            await answers.aclose()  # type: ignore[attr-defined]
        if isinstance(outcome, DBEError):
            raise outcome
        if not last:
            raise E_PROTOCOL("the answer is streamed: stream() takes those")
        return outcome

    async def stream(self, message: DBEMessage, timeout: float = TIMEOUT_S) -> AsyncIterator[DBEMessage]:
        """Send a request and yield its answers until the last. Leaving early cancels the request."""
        answers = self._outcomes(message, timeout)
        try:
            async for outcome, _ in answers:
                if isinstance(outcome, DBEError):
                    raise outcome
                yield outcome
        finally:
            await answers.aclose()  # type: ignore[attr-defined]

    async def _outcomes(self, message: DBEMessage, timeout: float) -> AsyncIterator[Tuple[Outcome, bool]]:
        answers: "asyncio.Queue[Tuple[Outcome, bool]]" = asyncio.Queue()
        target = await self._connected(min(timeout, HANDSHAKE_S))
        call = await self._when_room(lambda: self._port.endpoint().call(
            target, message, timeout, lambda *answer: answers.put_nowait(answer)))
        assert isinstance(call, Call)
        try:
            while True:
                outcome, last = await answers.get()
                problem = outcome.refusal() if isinstance(outcome, DBEMessage) else None
                yield problem or outcome, last
                if last:
                    return
        finally:
            if call.endpoint is not None:
                call.endpoint.abort(call)

    async def _connected(self, wait_s: float) -> Peer:
        await self._port.wait_for(self._port.settled, min(wait_s, CONNECT_S))
        if self._port.trying():
            await self._port.wait_for(self._port.settled, max(0.0, wait_s - CONNECT_S))
        return self._port.peer()

    async def _when_room(self, attempt: "Callable[[], object]") -> object:
        """Do it, and again when too much waited to be written."""
        deadline = time.monotonic() + SEND_S
        while True:
            try:
                return attempt()
            except E_LIMIT:
                full = [p for p in self._port.peers() if p.full]
                if not full or not await self._port.wait_for(
                        lambda: not any(p.full and p.ptr for p in full), deadline - time.monotonic()):
                    raise

    @property
    def identity(self) -> IdentityInfo:
        """Who this socket is."""
        return self._port.identity

    @property
    def peers(self) -> List[Peer]:
        """The channels that are up."""
        return self._port.peers()

    @property
    def counters(self) -> Dict[str, int]:
        """Messages that did not reach the program."""
        return self._port.counters()

    async def close(self) -> None:
        """Close the socket; what waits in it ends. Twice is once."""
        with self._port.driver.lock:
            self._port.leave()
        self._port.put(E_CLOSED("the socket is closed"))

    async def __aenter__(self) -> "AsyncDBESocket":
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], value: Optional[BaseException],
                        trace: Optional[TracebackType]) -> None:
        await self.close()

    def __del__(self) -> None:
        port = getattr(self, "_port", None)
        if port is not None:
            port.driver.call_soon_from_anywhere(port.leave)
