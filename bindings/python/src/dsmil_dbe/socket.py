# SPDX-License-Identifier: Apache-2.0
"""DBESocket: sealed messages to and from the nodes of the mesh, for programs with threads.

In:   a path to bind or to connect to; who this process is (dsmil_dbe.identity)
Out:  receive(), send(), send_and_receive(), stream()
Does: the whole handshake, rekeys, deadlines and policy behind these; reconnects
Not:  asyncio: that is dsmil_dbe.aio.
"""
from __future__ import annotations

import queue
import threading
import time
from types import TracebackType
from typing import Callable, Dict, Iterator, List, Optional, Tuple, Type, Union

from .endpoint import Call, Outcome, Peer, wants_answer
from .engine import Driver, thread_driver
from .errors import E_CLOSED, E_LIMIT, E_PROTOCOL, E_TIMEOUT, DBEError
from .identity import IdentityInfo
from .message import DBEMessage
from .port import CONNECT_S, HANDSHAKE_S, SEND_S, TIMEOUT_S, PathLike, Port, Where
from .registry import Role


class _ThreadPort(Port):
    """Wakes threads."""

    def __init__(self, driver: Driver, where: Where) -> None:
        self.inbox: "queue.SimpleQueue[Outcome]" = queue.SimpleQueue()
        self.condition = threading.Condition(driver.lock)
        super().__init__(driver, where)

    def waiting(self) -> int:
        return self.inbox.qsize()

    def put(self, outcome: Outcome) -> None:
        self.inbox.put(outcome)

    def changed(self) -> None:
        self.condition.notify_all()


class DBESocket:
    """A socket of the mesh. Paths are Unix socket paths; "shm:/path" is shared memory.

    bind_path: listen there, for any number of peers. connect_path: keep a channel to whoever listens there; several
    sockets of a process share it. The channel is made in the background: a send waits for it, at most 2 seconds.
    keys, device_id, role, name: who this is, else DSMIL_KEYS, DSMIL_DEVICE_ID and DSMIL_ROLE (see identity).
    peer_role, peer_device: the only peer that a connecting socket accepts.

    Errors are exceptions named as in the registry (dsmil_dbe.errors). A socket may be used by several threads at once.
    """

    def __init__(self, bind_path: Optional[PathLike] = None, connect_path: Optional[PathLike] = None, *,
                 keys: Optional[PathLike] = None, device_id: Optional[int] = None, role: Union[Role, str, None] = None,
                 name: Optional[str] = None, peer_role: Union[Role, str, None] = None,
                 peer_device: Optional[int] = None) -> None:
        where = Where(bind_path, connect_path, keys, device_id, role, name, peer_role, peer_device)
        self._port = _ThreadPort(thread_driver(), where)

    # ---- receiving

    def receive(self, timeout: Optional[float] = None) -> Optional[DBEMessage]:
        """The next message, None when `timeout` seconds (None: for ever) passed without one.

        A request has to be answered by send() with its correlation id. Only what policy lets pass arrives here; the
        rest was refused with its reason. On a connected socket, answers to requests that send() sent come here too, and
        a request that failed raises its error.
        """
        port = self._port
        with port.driver.lock:
            port.endpoint()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                outcome = port.inbox.get(timeout=left)
            except queue.Empty:
                return None
            if isinstance(outcome, DBEError):
                if port.left:
                    port.put(outcome)  # for the next thread that waits
                raise outcome
            if outcome._request is None or not outcome._request.over:  # else nobody waits for its answer any more
                return outcome

    # ---- sending

    def send(self, message: DBEMessage, peer: Optional[Peer] = None) -> bool:
        """Send an answer, a request or a one-way message.

        An answer goes to the peer whose request has its correlation id; False if that peer no longer waits. What the
        protocol wants on an answer and the program left out is filled in: destination, time, the request's labels. A
        request goes to the connected peer, and its answer comes by receive(). `peer`: whom a listening socket sends to.
        """
        port = self._port
        if port.bound and peer is None:
            return bool(self._when_room(lambda: port.endpoint().answer(message)))
        if wants_answer(message) and not message._arrived:
            self._when_room(lambda: self._start(message, TIMEOUT_S, lambda outcome, last: port.put(outcome), peer))
            return True
        target = peer or self._connected(HANDSHAKE_S)
        if peer is None and message.correlation_id in target.requests:
            return bool(self._when_room(lambda: port.endpoint().answer(message)))
        self._when_room(lambda: port.endpoint().send(target, message))
        return True

    def send_and_receive(self, message: DBEMessage, timeout: float = TIMEOUT_S) -> DBEMessage:
        """Send a request and wait for its answer. E_TIMEOUT, E_CLOSED, E_UNAVAILABLE; an ERROR of the other side is
        raised as that error, with `remote` set. A message that was received is forwarded: clause 12.11 of the
        specification.
        """
        outcome, last = next(self._outcomes(message, timeout))
        if isinstance(outcome, DBEError):
            raise outcome
        if not last:
            raise E_PROTOCOL("the answer is streamed: stream() takes those")
        return outcome

    def stream(self, message: DBEMessage, timeout: float = TIMEOUT_S) -> Iterator[DBEMessage]:
        """Send a request and yield its answers until the last. Leaving early cancels the request."""
        for outcome, _ in self._outcomes(message, timeout):
            if isinstance(outcome, DBEError):
                raise outcome
            yield outcome

    def _outcomes(self, message: DBEMessage, timeout: float) -> Iterator[Tuple[Outcome, bool]]:
        answers: "queue.SimpleQueue[Tuple[Outcome, bool]]" = queue.SimpleQueue()
        deadline = time.monotonic() + timeout
        call = self._when_room(lambda: self._start(message, timeout, lambda *answer: answers.put(answer), None))
        try:
            while True:
                try:  # the library ends the call at its deadline; the second more is for a machine that is busy
                    outcome, last = answers.get(timeout=max(0.0, deadline - time.monotonic()) + 1)
                except queue.Empty:
                    raise E_TIMEOUT("no answer came in time") from None
                problem = outcome.refusal() if isinstance(outcome, DBEMessage) else None
                yield problem or outcome, last
                if last:
                    return
        finally:
            with self._port.driver.lock:
                if call.endpoint is not None:
                    call.endpoint.abort(call)

    def _connected(self, wait_s: float) -> Peer:
        """The peer, after waiting for the channel. Takes the lock."""
        with self._port.driver.lock:
            self._port.condition.wait_for(self._port.settled, min(wait_s, CONNECT_S))
            if self._port.trying():
                self._port.condition.wait_for(self._port.settled, max(0.0, wait_s - CONNECT_S))
            return self._port.peer()

    def _start(self, message: DBEMessage, timeout: float, sink: Callable[[Outcome, bool], None],
               peer: Optional[Peer]) -> Call:
        with self._port.driver.lock:
            target = peer or self._connected(min(timeout, HANDSHAKE_S))
            return self._port.endpoint().call(target, message, timeout, sink)

    def _when_room(self, attempt: "Callable[[], object]") -> "Call":
        """Do it, and again when too much waited to be written."""
        deadline = time.monotonic() + SEND_S
        with self._port.driver.lock:
            while True:
                try:
                    return attempt()  # type: ignore[return-value]
                except E_LIMIT:
                    full = [p for p in self._port.peers() if p.full]
                    if not full or not self._port.condition.wait_for(
                            lambda: not any(p.full and p.ptr for p in full), deadline - time.monotonic()):
                        raise

    # ---- state

    @property
    def identity(self) -> IdentityInfo:
        """Who this socket is."""
        return self._port.identity

    @property
    def peers(self) -> List[Peer]:
        """The channels that are up."""
        with self._port.driver.lock:
            return self._port.peers()

    @property
    def counters(self) -> Dict[str, int]:
        """Messages that did not reach the program: refused, malformed, dropped, expired, cancelled, unsent, failed."""
        with self._port.driver.lock:
            return self._port.counters()

    def close(self) -> None:
        """Close the socket; receive() and calls in other threads end. Twice is once."""
        with self._port.driver.lock:
            self._port.leave()
        self._port.put(E_CLOSED("the socket is closed"))

    def __enter__(self) -> "DBESocket":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], value: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def __del__(self) -> None:
        port = getattr(self, "_port", None)
        if port is not None:
            port.driver.call_soon_from_anywhere(port.leave)

    def __repr__(self) -> str:
        return f"<DBESocket {self.identity.spiffe_id} {len(self.peers)} channels>"
