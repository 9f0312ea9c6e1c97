# SPDX-License-Identifier: Apache-2.0
"""What stands behind a socket: its endpoint, alone or shared, and what waits to be received.

In:   a path to bind or to connect to, a credential
Out:  peer(), leave(); deliver() and changed() are called under the driver's lock
Does: one channel for all sockets of a driver that connect to the same path as the same node, kept for LINGER_S after
      the last of them is closed
Not:  no waiting. A port knows no socket, so that a socket that is forgotten is collected, and its port let go.
"""
from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Optional, Tuple, Union

from . import identity as _identity
from .endpoint import Endpoint, Peer, address_of, fatal_for_link, role_number
from .engine import Driver
from .errors import E_ARGUMENT, E_CLOSED, E_LIMIT, E_UNAVAILABLE, DBEError
from .identity import Credential, IdentityInfo
from .message import DBEMessage
from .registry import Role

PathLike = Union[str, "os.PathLike[str]"]

TIMEOUT_S = 60.0  # of a call that does not say
CONNECT_S = 2.0  # how long a call waits for a channel that is down
HANDSHAKE_S = 10.0  # how long it waits while nothing says that there will be none
SEND_S = 30.0  # how long send() waits while too much waits to be written
LINGER_S = 60.0
RECEIVE_MAX = 1024  # messages that wait for receive()


class Where:
    """What a socket is asked for."""

    def __init__(self, bind_path: Optional[PathLike], connect_path: Optional[PathLike], store: Optional[PathLike],
                 device: Optional[int], role: Union[Role, str, None], name: Optional[str],
                 peer_role: Union[Role, str, None], peer_device: Optional[int]) -> None:
        if (bind_path is None) == (connect_path is None):
            raise E_ARGUMENT("a socket has either bind_path or connect_path")
        path = bind_path if bind_path is not None else connect_path
        assert path is not None
        self.bind = bind_path is not None
        self.address = address_of(path)
        self.store = os.fspath(store) if store is not None else _identity.default_store()
        self.credential: Credential = _identity.credential(self.store, device, role, name)
        self.peer_role = role_number(peer_role)
        self.peer_device = -1 if peer_device is None else int(peer_device)

    def key(self, driver: Driver) -> Tuple[Any, ...]:
        """Sockets with the same key share a channel."""
        return (id(driver), self.address, self.store, self.credential.fingerprint, self.peer_role, self.peer_device)


class _Shared:
    """An endpoint that connects, and the ports that share it."""

    def __init__(self, driver: Driver, where: Where) -> None:
        self.key = where.key(driver)
        self.ports: List["Port"] = []
        self.idle_since = 0.0
        self.endpoint = Endpoint(driver, where.credential, _identity.trust(where.store), where.store, self._deliver,
                                 self._changed)
        self.endpoint.connect(where.address, where.peer_role, where.peer_device)

    def _deliver(self, message: DBEMessage) -> Optional[DBEError]:
        """What the other side asks of its own: for the newest socket."""
        return self.ports[-1].deliver(message) if self.ports else E_UNAVAILABLE("nobody receives here")

    def _changed(self) -> None:
        for port in self.ports:
            port.changed()

    def linger(self) -> None:
        """Close a channel that nobody has used for a while."""
        if not self.ports and time.monotonic() - self.idle_since >= LINGER_S - 0.1:
            if _pool.get(self.key) is self:
                del _pool[self.key]
            self.endpoint.close()


_pool: Dict[Tuple[Any, ...], _Shared] = {}


class Port:
    """Base of the two kinds, which differ in how they wake who waits."""

    def __init__(self, driver: Driver, where: Where) -> None:
        self.driver = driver
        self.bound = where.bind
        self.identity: IdentityInfo = where.credential.identity
        self.left = False
        self._shared: Optional[_Shared] = None
        self._endpoint: Optional[Endpoint] = None
        with driver.lock:
            driver.alive()
            if where.bind:
                self._bind(where)
            else:
                self._join(where)
            driver.kick()

    def _bind(self, where: Where) -> None:
        endpoint = Endpoint(self.driver, where.credential, _identity.trust(where.store), where.store, self.deliver,
                            self.changed)
        try:
            endpoint.listen(where.address)
        except DBEError:
            endpoint.close()
            raise
        self._endpoint = endpoint

    def _join(self, where: Where) -> None:
        shared = _pool.get(where.key(self.driver))
        if shared is None or shared.endpoint.closed:
            shared = _pool[where.key(self.driver)] = _Shared(self.driver, where)
        shared.ports.append(self)
        self._shared, self._endpoint = shared, shared.endpoint

    # ---- for the kinds

    def waiting(self) -> int:
        """Messages that wait to be received."""
        raise NotImplementedError

    def put(self, outcome: Union[DBEMessage, DBEError]) -> None:
        """Hand something to who receives."""
        raise NotImplementedError

    def changed(self) -> None:
        """A channel came, went, or can be written to again."""
        raise NotImplementedError

    # ---- under the driver's lock

    def deliver(self, message: DBEMessage) -> Optional[DBEError]:
        """A message that may pass; the error if there is no room for it."""
        if self.waiting() >= RECEIVE_MAX:
            return E_LIMIT(f"{RECEIVE_MAX} messages wait to be received")
        self.put(message)
        return None

    def endpoint(self) -> Endpoint:
        """The endpoint of an open port."""
        if self._endpoint is None or self._endpoint.closed:
            raise E_CLOSED("the socket is closed")
        return self._endpoint

    def peers(self) -> List[Peer]:
        """The channels that are up."""
        return list(self._endpoint.peers.values()) if self._endpoint is not None else []

    def counters(self) -> Dict[str, int]:
        """The endpoint's."""
        return dict(self._endpoint.counters) if self._endpoint is not None else {}

    def settled(self) -> bool:
        """There is a channel, or there will be none, so that waiting ends."""
        return self._endpoint is None or self._endpoint.closed or bool(self._endpoint.peers) or (
            fatal_for_link(self._reason()))

    def trying(self) -> bool:
        """There is no channel, and no attempt has failed so far."""
        return not self.settled() and self.endpoint().link_problem() is None

    def _reason(self) -> Optional[DBEError]:
        endpoint = self.endpoint()
        return endpoint.link_problem() or endpoint.last_problem

    def peer(self) -> Peer:
        """The connected peer. Raises why there is none."""
        peer = next(iter(self.endpoint().peers.values()), None)
        if peer is not None:
            return peer
        reason = self._reason()
        if reason is not None and fatal_for_link(reason):
            raise reason
        raise E_UNAVAILABLE(f"no channel: {reason.reason if reason is not None else 'nobody answers there'}")

    def leave(self) -> None:
        """End what is this port's own, let go of what is shared."""
        self.left = True
        endpoint, self._endpoint = self._endpoint, None
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.ports.remove(self)
            if not shared.ports:
                shared.idle_since = time.monotonic()
                self.driver.call_later(LINGER_S, shared.linger)
        elif endpoint is not None:
            endpoint.close()
        self.changed()
