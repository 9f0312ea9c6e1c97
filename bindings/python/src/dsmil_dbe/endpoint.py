# SPDX-License-Identifier: Apache-2.0
"""One node of the library and what the protocol asks of its owner (docs/spec/dbe-v1.md, sections 11 and 12).

In:   a driver, a credential, callbacks of the socket that owns it
Out:  messages that policy let pass; calls, answers, forwarded requests in the form that the next receiver wants
Does: asks the gate of each channel about every message, refuses what it refuses, keeps the requests that wait for an
      answer, ends them at their deadline, on L7_CANCEL and when their channel ends
Not:  no waiting: the sockets wait. Everything here runs under the driver's lock.
"""
from __future__ import annotations

import collections
import ctypes
import itertools
import os
import time
import uuid
from typing import Any, Callable, Deque, Dict, Optional, Tuple, Union

from . import tlv as _tlv
from ._lib import (ON_DOWN, ON_DRAINED, ON_MALFORMED, ON_MESSAGE, ON_REPLY, ON_SWITCHED, ON_UP, Diag, Labels,
                   NodeConfig, NodeOps, Verdict, check, lib, text_of)
from .claim import ClaimToken
from .engine import Driver
from .errors import (E_ARGUMENT, E_CANCELLED, E_CLOSED, E_DUPLICATE, E_LIMIT, E_MALFORMED, E_NOT_FOUND, E_TIMEOUT,
                     DBEError, PeerError, error)
from .identity import Credential, IdentityInfo, Trust, info_of
from .message import DBEMessage, build, correlation_of, error_payload, from_view, payload_from_dict
from .registry import ANSWER_ONLY, REPLY_TYPE, TLV_BY_NAME, MessageFlag, MessageType, Role, TlvType

Outcome = Union[DBEMessage, DBEError]
Sink = Callable[[Outcome, bool], None]

WAITING_MAX = 1024  # requests of one endpoint that wait for an answer
ENDED_KEEP = 4096  # correlation ids of requests that ended, so that a late answer is told from a wrong one
TIMEOUT_DEFAULT_S, TIMEOUT_MAX_S = 60.0, 3600.0
LABELS = (TlvType.TENANT_ID, TlvType.COMPARTMENT_MASK, TlvType.CLASSIFICATION, TlvType.ROE_LEVEL)
_NS_PER_S = 1_000_000_000


class Peer:
    """The node at the other end of a channel."""

    def __init__(self, endpoint: "Endpoint", ptr: int) -> None:
        binding = ctypes.create_string_buffer(32)
        check(lib.dbe_peer_channel_binding(ptr, binding))
        self.ptr: Optional[int] = ptr
        self.binding = binding.raw
        self.gate = ctypes.c_void_p()
        self.full = False  # a send was refused; on_drained tells when to go on
        self.handshake_us = int(lib.dbe_peer_handshake_us(ptr))
        self.requests: Dict[int, "Request"] = {}
        self.learn(endpoint.credential)

    def learn(self, credential: Credential) -> None:
        """What the handshake agreed: the first one, and each that the channel makes while it lives."""
        gate = ctypes.c_void_p()
        check(lib.dbe_gate_new(self.ptr, credential.ptr, ctypes.byref(gate)))
        lib.dbe_gate_free(self.gate)
        self.gate = gate
        self.public_key = ctypes.string_at(lib.dbe_peer_public_key(self.ptr), 2592)
        self.identity: IdentityInfo = info_of(lib.dbe_peer_identity(self.ptr).contents)
        self.suite = text_of(lib.dbe_peer_suite(self.ptr))
        self.suite_id = int(lib.dbe_peer_suite_id(self.ptr))

    def down(self) -> None:
        """The channel has ended."""
        self.ptr = None
        lib.dbe_gate_free(self.gate)
        self.gate = ctypes.c_void_p()

    def __repr__(self) -> str:
        return f"<Peer {self.identity.spiffe_id} {self.suite if self.ptr else 'closed'}>"


class Request:
    """A request that was received and waits for its answer."""

    def __init__(self, peer: Peer, message: DBEMessage) -> None:
        timeout_s = min(float(message.tlv_get("TIMEOUT_MS", TIMEOUT_DEFAULT_S * 1000)) / 1000, TIMEOUT_MAX_S)
        self.peer = peer
        self.correlation_id = message.correlation_id
        self.request_id = message._tlvs.get(TlvType.REQUEST_ID)
        self.labels = {number: message._tlvs[number] for number in LABELS if number in message._tlvs}
        self.arrived = time.monotonic()
        self.deadline = self.arrived + timeout_s
        self.over = False

    def left_s(self) -> float:
        """Seconds until the caller no longer waits."""
        return self.deadline - time.monotonic()


class Call:
    """A request that was sent."""

    def __init__(self, key: int, peer: Peer, labels: Optional[Labels], wire: bytes, sink: Sink) -> None:
        self.key = key
        self.wire = wire
        self.peer = peer
        self.labels = labels
        self.sink = sink
        self.endpoint: Optional["Endpoint"] = None  # while it is in flight
        self.call_id = 0


def wants_answer(message: DBEMessage) -> bool:
    """Is it a request (clause 12.1)?"""
    if message.msg_type in (MessageType.L7_CANCEL, *ANSWER_ONLY):
        return False
    return message.msg_type in REPLY_TYPE or TlvType.TIMEOUT_MS in message._tlvs


_endpoints: Dict[int, "Endpoint"] = {}
_calls: Dict[int, Tuple["Endpoint", Call]] = {}
_keys = itertools.count(1)


class Endpoint:
    """A node: listens or connects, or both."""

    def __init__(self, driver: Driver, credential: Credential, trust: Trust, store: str,
                 deliver: Callable[[DBEMessage], Optional[DBEError]], changed: Callable[[], None]) -> None:
        self.driver = driver
        self.credential = credential
        self.device = credential.identity.device
        self.peers: Dict[int, Peer] = {}
        self.link: Optional[ctypes.c_void_p] = None
        self.counters: Dict[str, int] = collections.Counter()
        self.last_problem: Optional[DBEError] = None
        self._trust = trust
        self._deliver = deliver
        self._changed = changed
        self._ended: Deque[int] = collections.deque(maxlen=ENDED_KEEP)
        self._sweep_at = float("inf")
        self._key = next(_keys)
        self._node: Optional[ctypes.c_void_p] = ctypes.c_void_p()
        config = NodeConfig(credential=credential.ptr, trust=trust.ptr, ops=ctypes.pointer(_OPS), ctx=self._key,
                            policy_digest=lib.dbe_policy_default())
        driver.alive()
        check(lib.dbe_node_new(driver.loop, ctypes.byref(config), ctypes.byref(self._node)))
        _endpoints[self._key] = self
        driver.closing.append(self.close)
        # Obey the store's revocation list; one that cannot be watched is no reason not to speak.
        self.counters["unwatched"] = int(lib.dbe_node_watch_keys(self._node, os.fsencode(store), None) != 0)

    # ---- life

    def listen(self, address: str) -> None:
        """Be reachable."""
        diag = Diag()
        check(lib.dbe_node_listen(self._node, os.fsencode(address), ctypes.byref(diag)), diag)

    def connect(self, address: str, role: int, device: int) -> None:
        """Keep a channel up."""
        link = ctypes.c_void_p()
        check(lib.dbe_node_link(self._node, os.fsencode(address), role, device, ctypes.byref(link)))
        self.link = link

    def link_problem(self) -> Optional[DBEError]:
        """Why the link is down; None: it is up or was not tried yet."""
        diag = Diag()
        err = lib.dbe_link_last_error(self.link, ctypes.byref(diag)) if self.link is not None else 0
        return error(err, text_of(diag.text)) if err else None

    def close(self) -> None:
        """End all channels; calls end with E_CANCELLED."""
        node, self._node = self._node, None
        if node is None:
            return
        if self.close in self.driver.closing:
            self.driver.closing.remove(self.close)
        self.link = None
        lib.dbe_node_free(node)
        for peer in list(self.peers.values()):
            self._forget(peer)
        _endpoints.pop(self._key, None)

    @property
    def closed(self) -> bool:
        """close() was called, or the driver has ended."""
        return self._node is None

    # ---- channels

    def _up(self, ptr: int) -> None:
        try:
            self.peers[ptr] = Peer(self, ptr)
        except DBEError as problem:
            self.last_problem = problem
            lib.dbe_peer_close(ptr, problem.number)
            return
        self.last_problem = None
        self._changed()

    def _drained(self, ptr: int) -> None:
        peer = self.peers.get(ptr)
        if peer is not None:
            peer.full = False
            self._changed()

    def _switched(self, ptr: int, err: int) -> None:
        peer = self.peers.get(ptr)
        if peer is not None and err == 0:
            peer.learn(self.credential)
            self._changed()

    def _forget(self, peer: Peer) -> None:
        self.peers.pop(peer.ptr or 0, None)
        for request in list(peer.requests.values()):
            self._end(request)
        peer.down()

    def _down(self, ptr: int, why: int, text: str) -> None:
        peer = self.peers.get(ptr)
        self.last_problem = error(why, text)
        if peer is not None:
            self._forget(peer)
        self._changed()

    # ---- messages in

    def _message(self, ptr: int, view: Any) -> None:
        peer = self.peers.get(ptr)
        if peer is None:
            return
        verdict = Verdict()
        err = lib.dbe_gate_message(peer.gate, view, int(time.time() * 1000), ctypes.byref(verdict))
        message = from_view(view.contents)
        message.peer, message._arrived = peer, True
        if err != 0:
            self.counters["refused"] += 1
            self._refuse(peer, message, error(err, text_of(verdict.reason), rule=text_of(verdict.rule)))
        elif message.msg_type == MessageType.L7_CANCEL:
            self._cancelled(peer, message)
        else:
            self._admit(peer, message)

    def _admit(self, peer: Peer, message: DBEMessage) -> None:
        token = message._tlvs.get(TlvType.L7_CLAIM_TOKEN)
        if isinstance(token, bytes):
            message._tlvs[TlvType.L7_CLAIM_TOKEN] = ClaimToken(token=token, origin=(peer.public_key, peer.binding))
        if not wants_answer(message):
            if self._deliver(message) is not None:
                self.counters["dropped"] += 1
            return
        request_id = message._tlvs.get(TlvType.REQUEST_ID)
        if not isinstance(request_id, bytes) or correlation_of(request_id) != message.correlation_id:
            self._refuse(peer, message, E_MALFORMED("REQUEST_ID is missing or is not the correlation id's"))
            return
        if self._find(message.correlation_id) is not None:
            self._refuse(peer, message, E_DUPLICATE("this correlation id is in flight"))
            return
        request = Request(peer, message)
        if sum(len(p.requests) for p in self.peers.values()) >= WAITING_MAX:
            self._refuse(peer, message, E_LIMIT(f"{WAITING_MAX} requests wait for an answer"))
            return
        message._request = request
        peer.requests[request.correlation_id] = request
        problem = self._deliver(message)
        if problem is not None:
            self._end(request)
            self._refuse(peer, message, problem)
            return
        self._watch_deadline(request.deadline)

    def _find(self, correlation_id: int) -> Optional[Request]:
        for peer in self.peers.values():
            if correlation_id in peer.requests:
                return peer.requests[correlation_id]
        return None

    def _end(self, request: Request) -> None:
        request.over = True
        if request.peer.requests.pop(request.correlation_id, None) is not None:
            self._ended.append(request.correlation_id)

    def _watch_deadline(self, deadline: float) -> None:
        """Look at the deadlines when the first of them passes: one task, however many requests wait."""
        if deadline < self._sweep_at:
            self._sweep_at = deadline
            self.driver.call_later(max(0.0, deadline - time.monotonic()), self._sweep)
            self.driver.kick()

    def _sweep(self) -> None:
        if time.monotonic() < self._sweep_at or self.closed:
            return  # of an earlier plan
        self._sweep_at = float("inf")
        waiting = [request for peer in self.peers.values() for request in peer.requests.values()]
        for request in waiting:
            if request.left_s() > 0:
                self._watch_deadline(request.deadline)
            else:
                self._end(request)
                self.counters["expired"] += 1
                self._send_error(request.peer, request.correlation_id, request.request_id,
                                 E_TIMEOUT("the deadline passed here"))

    def _cancelled(self, peer: Peer, message: DBEMessage) -> None:
        request = peer.requests.get(message.correlation_id)
        if request is not None:
            self.counters["cancelled"] += 1
            self._end(request)

    def _refuse(self, peer: Peer, message: DBEMessage, problem: DBEError) -> None:
        """Answer with an ERROR, but never an answer, a cancel or bytes that are no message (clause 9.5)."""
        if message.msg_type != MessageType.L7_CANCEL and message.msg_type not in ANSWER_ONLY:
            self._send_error(peer, message.correlation_id, message._tlvs.get(TlvType.REQUEST_ID), problem)

    def _send_error(self, peer: Peer, correlation_id: int, request_id: Any, problem: DBEError) -> None:
        tlvs = self._stamps(peer)
        if request_id is not None:
            tlvs[TlvType.REQUEST_ID] = bytes(request_id)
        payload = payload_from_dict(MessageType.ERROR, error_payload(problem, self.device))
        wire = build(MessageType.ERROR, MessageFlag.REPLAY_PROTECTED, correlation_id, tlvs, payload)
        if peer.ptr is not None and lib.dbe_send(peer.ptr, wire, len(wire)) != 0:
            self.counters["unsent"] += 1

    # ---- messages out

    def _stamps(self, peer: Peer) -> Dict[int, bytes]:
        """What every hop writes anew (clause 12.11)."""
        return {TlvType.DEVICE_ID_SRC: bytes([self.device]), TlvType.DEVICE_ID_DST: bytes([peer.identity.device]),
                TlvType.TIMESTAMP: _tlv.encode(TLV_BY_NAME["TIMESTAMP"], time.time())}

    def _bytes_of(self, message: DBEMessage, peer: Peer) -> Dict[int, bytes]:
        """TLVs of a message, its claim token bound to the channel."""
        out: Dict[int, bytes] = {}
        for number, value in message._tlvs.items():
            if isinstance(value, ClaimToken):
                request_id = message._tlvs.get(TlvType.REQUEST_ID)
                value = value.issue(peer.binding, self.credential.fingerprint,
                                    request_id if isinstance(request_id, bytes) else None)
            out[number] = value
        return out

    def _request_wire(self, message: DBEMessage, peer: Peer, timeout_s: Optional[float]) -> bytes:
        """A message of ours, or one that came from elsewhere and is forwarded."""
        stamps, own_layer = self._stamps(peer), bytes([self.credential.identity.layer])
        if message._arrived:
            message._tlvs.pop(TlvType.L7_CLAIM_TOKEN, None)  # checked here, worth nothing elsewhere (clause 10.8)
            tlvs = {**self._bytes_of(message, peer), **stamps}
            path = tlvs.get(TlvType.LAYER_PATH, b"") + own_layer
            if len(path) > 32:
                raise E_LIMIT("LAYER_PATH is full: the message goes in a circle")
            tlvs[TlvType.LAYER_PATH] = path
        else:
            tlvs = {TlvType.LAYER_PATH: own_layer, **stamps, **self._bytes_of(message, peer)}
        if timeout_s is not None:
            if message._request is not None:
                timeout_s = min(timeout_s, message._request.left_s())
            if timeout_s <= 0:
                raise E_TIMEOUT("nothing is left of the request's time")
            tlvs[TlvType.TIMEOUT_MS] = max(1, int(min(timeout_s, TIMEOUT_MAX_S) * 1000)).to_bytes(4, "big")
        return build(message.msg_type, message.flags | MessageFlag.REPLAY_PROTECTED, message.correlation_id, tlvs,
                     message.payload_bytes())

    def _may_send(self, peer: Peer, message: DBEMessage) -> Optional[Labels]:
        """The labels, once the peer may have content of theirs (clause 11.13); None: the message has not all four."""
        if any(number not in message._tlvs for number in LABELS):
            return None
        values = [bytes(message._tlvs[number]) for number in LABELS]
        labels = Labels(tenant=values[0], compartments=int.from_bytes(values[1], "big"),
                        classification=values[2][0], roe_level=values[3][0])
        verdict = Verdict()
        err = lib.dbe_gate_send(peer.gate, ctypes.byref(labels), ctypes.byref(verdict))
        if err != 0:
            raise error(err, text_of(verdict.reason), rule=text_of(verdict.rule))
        return labels

    def call(self, peer: Peer, message: DBEMessage, timeout_s: float, sink: Sink) -> Call:
        """Send a request; `sink` hears each answer and whether it is the last, or why the call ended."""
        if TlvType.REQUEST_ID not in message._tlvs:
            if message.correlation_id:
                raise E_ARGUMENT("a request needs a REQUEST_ID, whose first eight bytes are the correlation id")
            message.tlv_set("REQUEST_ID", uuid.uuid4())
        if correlation_of(bytes(message._tlvs[TlvType.REQUEST_ID])) != message.correlation_id:
            raise E_ARGUMENT("the correlation id is not that of REQUEST_ID")
        labels = self._may_send(peer, message)
        wire = self._request_wire(message, peer, timeout_s)
        call = Call(next(_keys), peer, labels, wire, sink)
        call_id = ctypes.c_uint64()
        deadline_ns = time.monotonic_ns() + int(timeout_s * _NS_PER_S)
        _calls[call.key] = (self, call)
        err = lib.dbe_call(peer.ptr, wire, len(wire), deadline_ns, _ON_REPLY, call.key, ctypes.byref(call_id))
        if err != 0:
            del _calls[call.key]
            self._unsent(peer, err)
        call.call_id, call.endpoint = call_id.value, self
        self.driver.kick()
        return call

    @staticmethod
    def _over(call: Call) -> None:
        call.endpoint = None
        _calls.pop(call.key, None)

    def abort(self, call: Call) -> None:
        """Forget a call, and tell the peer."""
        if call.endpoint is None:
            return
        self._over(call)
        if call.peer.ptr is not None:
            lib.dbe_call_abort(call.peer.ptr, call.call_id, call.wire, len(call.wire))  # an error ends it as well
        self.driver.kick()

    def send(self, peer: Peer, message: DBEMessage) -> None:
        """Send a message that expects no answer."""
        self._may_send(peer, message)
        wire = self._request_wire(message, peer, None)
        self._unsent(peer, lib.dbe_send(peer.ptr, wire, len(wire)))
        self.driver.kick()

    @staticmethod
    def _unsent(peer: Peer, err: int) -> None:
        peer.full = err == E_LIMIT.number
        check(err)

    def answer(self, message: DBEMessage) -> bool:
        """Send an answer to whoever asked with its correlation id. False: nobody waits for it any more."""
        request = self._find(message.correlation_id)
        if request is None:
            if message.correlation_id in self._ended:
                return False
            raise E_NOT_FOUND(f"no request with the correlation id {message.correlation_id:016x} waits for an answer")
        problem = message.refusal()
        if problem is not None and message.msg_type != MessageType.ERROR:
            message = message.as_error(problem)
        last = not message.flags & MessageFlag.STREAMING
        wire = self._answer_wire(message, request, last)
        self._unsent(request.peer, lib.dbe_send(request.peer.ptr, wire, len(wire)))
        if last:
            self._end(request)
        self.driver.kick()
        return True

    def _answer_wire(self, message: DBEMessage, request: Request, last: bool) -> bytes:
        stamps = self._stamps(request.peer)
        labels: Dict[int, bytes] = {number: bytes(value) for number, value in request.labels.items()}
        own = {number: bytes(value) for number, value in message._tlvs.items() if number != TlvType.L7_CLAIM_TOKEN}
        tlvs = {**labels, **own, **stamps} if message._arrived else {**labels, **stamps, **own}
        if request.request_id is not None:
            tlvs[TlvType.REQUEST_ID] = bytes(request.request_id)
        if last:
            spent_us = min(int((time.monotonic() - request.arrived) * 1e6), 0xFFFFFFFF)
            hop = _tlv.Hop(self.device, spent_us, request.peer.suite_id)
            before = tlvs.get(TlvType.HOP_TRACE, b"")
            tlvs[TlvType.HOP_TRACE] = before + _tlv.encode(TLV_BY_NAME["HOP_TRACE"], [hop])
        return build(message.msg_type, message.flags | MessageFlag.REPLAY_PROTECTED, request.correlation_id, tlvs,
                     message.payload_bytes())

    def _reply(self, call: Call, view: Any, last: bool, err: int) -> None:
        if not view:
            self._over(call)
            call.sink(_ended(err), True)
            return
        message = from_view(view.contents)
        message.peer, message._arrived = call.peer, True
        verdict = Verdict()
        if call.labels is not None:
            err = lib.dbe_gate_answer(call.peer.gate, ctypes.byref(call.labels), view, ctypes.byref(verdict))
        if err != 0:
            if last:
                self._over(call)
            else:
                self.abort(call)
            call.sink(error(err, text_of(verdict.reason), rule=text_of(verdict.rule)), True)
            return
        if last:
            self._over(call)
        call.sink(message, last)


def _ended(err: int) -> DBEError:
    """Why a call ended without an answer."""
    if err == E_TIMEOUT.number:
        return E_TIMEOUT("no answer came in time")
    if err == E_CANCELLED.number:
        return E_CANCELLED("the socket was closed")
    if err == E_CLOSED.number:
        return E_CLOSED("the peer went away before it answered")
    return error(err)


# ---- from the library. A callback must not raise: what goes wrong is kept for who waits.


def _guard(key: Any, what: Callable[["Endpoint"], None]) -> None:
    endpoint = _endpoints.get(key or 0)
    if endpoint is None:
        return
    try:
        what(endpoint)
    except DBEError as problem:
        endpoint.counters["failed"] += 1
        endpoint.last_problem = problem


def _on_message(key: Any, peer: Any, view: Any) -> None:
    _guard(key, lambda endpoint: endpoint._message(peer, view))


def _on_malformed(key: Any, _peer: Any, _err: int, _diag: Any) -> None:
    _guard(key, lambda endpoint: endpoint.counters.update({"malformed": endpoint.counters["malformed"] + 1}))


def _on_up(key: Any, peer: Any) -> None:
    _guard(key, lambda endpoint: endpoint._up(peer))


def _on_down(key: Any, peer: Any, why: int, diag: Any) -> None:
    text = text_of(diag.contents.text) if diag else ""
    _guard(key, lambda endpoint: endpoint._down(peer, why, text))


def _on_drained(key: Any, peer: Any) -> None:
    _guard(key, lambda endpoint: endpoint._drained(peer))


def _on_switched(key: Any, peer: Any, err: int, _diag: Any) -> None:
    _guard(key, lambda endpoint: endpoint._switched(peer, err))


def _on_reply(key: Any, view: Any, last: bool, err: int) -> None:
    found = _calls.get(key or 0)
    if found is not None:
        endpoint, call = found
        try:
            endpoint._reply(call, view, last, err)
        except DBEError as problem:
            call.sink(problem, True)


# ctypes must find these alive for as long as the library may call them.
_OPS = NodeOps(on_message=ON_MESSAGE(_on_message), on_malformed=ON_MALFORMED(_on_malformed), on_up=ON_UP(_on_up),
               on_down=ON_DOWN(_on_down), on_drained=ON_DRAINED(_on_drained), on_switched=ON_SWITCHED(_on_switched))
_ON_REPLY = ON_REPLY(_on_reply)


def address_of(path: Union[str, "os.PathLike[str]"]) -> str:
    """A transport's address: a path is a Unix socket's, "shm:/path" and the like are taken as they are."""
    text = os.fspath(path)
    head = text.split(":", 1)[0]
    return text if ":" in text and head.isalnum() and "/" not in head else "uds:" + text


def fatal_for_link(problem: Optional[DBEError]) -> bool:
    """Would waiting help? Not where the other side is the wrong one."""
    return isinstance(problem, PeerError) and not isinstance(problem, E_CLOSED)


def role_number(role: Union[Role, str, int, None]) -> int:
    """A role for dbe_node_link: 0 is any."""
    if role is None:
        return 0
    if isinstance(role, str):
        if role.upper() not in Role.__members__:
            raise E_ARGUMENT(f"no role is called {role!r}")
        return int(Role[role.upper()])
    return int(role)
