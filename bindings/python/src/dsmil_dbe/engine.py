# SPDX-License-Identifier: Apache-2.0
"""Who drives the library's event loop: a thread of its own, or an asyncio loop.

In:   the descriptor and the next timer of a dbe_loop
Out:  its turns; call_later() for what this package itself waits for
Does: one lock for each dbe_loop. The library wants one thread at a time, not always the same one: whoever calls it
      holds the lock, and callbacks run under it.
Not:  no sockets, no messages.
"""
from __future__ import annotations

import asyncio
import atexit
import collections
import ctypes
import heapq
import itertools
import os
import select
import threading
import time
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from ._lib import check, lib
from .errors import E_CLOSED

_NEVER = (1 << 64) - 1


class Driver:
    """A dbe_loop and what waits for it. Base of the two that know how to wait."""

    def __init__(self) -> None:
        loop = ctypes.c_void_p()
        check(lib.dbe_loop_new(ctypes.byref(loop)))
        self.lock = threading.RLock()
        self.loop: Optional[ctypes.c_void_p] = loop
        self.closing: List[Callable[[], None]] = []
        self._fd = lib.dbe_loop_fd(loop)
        self._tasks: List[Tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._orphans: Deque[Callable[[], None]] = collections.deque()

    def kick(self) -> None:
        """Under the lock: something was asked of the library, and a timer may be due earlier than was known."""
        raise NotImplementedError

    def call_later(self, delay_s: float, task: Callable[[], None]) -> None:
        """Run `task` under the lock, once."""
        heapq.heappush(self._tasks, (time.monotonic() + delay_s, next(self._count), task))

    def call_soon_from_anywhere(self, task: Callable[[], None]) -> None:
        """Run `task` under the lock, soon. Takes no lock: for finalizers, which run wherever they run."""
        self._orphans.append(task)
        self._wake()

    def _wake(self) -> None:
        raise NotImplementedError

    def _due_s(self) -> Optional[float]:
        """Seconds until the library or a task wants a turn; None: nothing is waited for."""
        wait_ns = lib.dbe_loop_next_ns(self.loop)
        waits = [] if wait_ns == _NEVER else [wait_ns / 1e9]
        if self._tasks:
            waits.append(max(0.0, self._tasks[0][0] - time.monotonic()))
        return min(waits) if waits else None

    def _turn(self) -> Optional[float]:
        """One turn, under the lock; seconds until the next is due, None: nothing is waited for."""
        if self.loop is None:
            return None
        check(lib.dbe_loop_turn(self.loop, 0))
        while self._orphans:
            self._orphans.popleft()()
        now = time.monotonic()
        while self._tasks and self._tasks[0][0] <= now:
            heapq.heappop(self._tasks)[2]()
        return self._due_s()

    def _free(self) -> None:
        """End what uses the loop, then the loop. Under the lock."""
        for close in list(self.closing):
            close()
        self.closing.clear()
        if self.loop is not None:
            lib.dbe_loop_free(self.loop)
            self.loop = None

    def alive(self) -> None:
        """E_CLOSED once the driver is at its end."""
        if self.loop is None:
            raise E_CLOSED("the event loop of this socket has ended")


class ThreadDriver(Driver):
    """The thread that answers handshakes, rekeys and receives while the program does something else."""

    def __init__(self) -> None:
        super().__init__()
        self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._stop = False
        self._planned = 0.0  # when the thread wakes by itself
        self._thread = threading.Thread(target=self._run, name="dsmil-dbe", daemon=True)
        self._thread.start()

    def kick(self) -> None:
        if threading.current_thread() is self._thread:
            return
        wait_s = self._due_s() if self.loop is not None else None
        if self._stop or (wait_s is not None and time.monotonic() + wait_s < self._planned):
            self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._pipe[1], b"!")
        except BlockingIOError:
            pass  # it is awake already

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._pipe[0], select.POLLIN)
        while True:
            with self.lock:
                if self._stop:
                    self._free()
                    return
                wait_s = self._turn()
                self._planned = float("inf") if wait_s is None else time.monotonic() + wait_s
            for fd, _ in poll.poll(None if wait_s is None else wait_s * 1000 + 0.999):
                if fd == self._pipe[0]:
                    os.read(fd, 4096)

    def stop(self) -> None:
        """Close every channel properly and end the thread."""
        with self.lock:
            self._stop = True
            self.kick()
        self._thread.join(timeout=2)


class AsyncDriver(Driver):
    """The same inside an asyncio loop: no thread, everything on the loop's own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._timer: Optional[asyncio.TimerHandle] = None
        self._soon = False
        loop.add_reader(self._fd, self._ready)

    def _ready(self) -> None:
        self._soon = False
        with self.lock:
            wait_s = self._turn()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait_s is not None and not self._loop.is_closed():
            self._timer = self._loop.call_later(wait_s, self._ready)

    def kick(self) -> None:
        if not self._soon and not self._loop.is_closed():
            self._soon = True
            self._loop.call_soon(self._ready)

    def _wake(self) -> None:
        if self._loop.is_closed():
            self.stop()
        else:
            self._loop.call_soon_threadsafe(self._ready)

    def stop(self) -> None:
        """Close every channel and leave the loop."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        with self.lock:
            self._free()


_lock = threading.Lock()
_thread_driver: Optional[ThreadDriver] = None
_async_drivers: "Dict[asyncio.AbstractEventLoop, AsyncDriver]" = {}  # those of closed loops end with the next one
_leaked: Dict[int, Any] = {}


def thread_driver() -> ThreadDriver:
    """The process's driver, started by the first socket."""
    global _thread_driver
    with _lock:
        if _thread_driver is None:
            _thread_driver = ThreadDriver()
        return _thread_driver


def async_driver() -> AsyncDriver:
    """The driver of the running asyncio loop."""
    loop = asyncio.get_running_loop()
    with _lock:
        if loop not in _async_drivers:
            for old in [old for old in _async_drivers if old.is_closed()]:
                _async_drivers.pop(old).stop()
            _async_drivers[loop] = AsyncDriver(loop)
        return _async_drivers[loop]


def _after_fork() -> None:
    """A child has the parent's channels and no thread to drive them: it starts anew, and touches nothing of those."""
    global _thread_driver, _lock
    _lock = threading.Lock()
    if _thread_driver is not None:
        _leaked[id(_thread_driver)] = _thread_driver
    _thread_driver = None


def _at_exit() -> None:
    if _thread_driver is not None:
        _thread_driver.stop()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
