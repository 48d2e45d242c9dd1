"""The connections between the members: one PULL socket that all peers push into, one PUSH socket per peer.

Raft tolerates loss, so a peer that is down or slow simply misses messages: `send` never blocks and queues only
onto completed connections (ZMQ_IMMEDIATE). Every message is one frame: a fixed header (who, to whom, in which
cluster), and behind it the encoded message. What is not for this member of this cluster is dropped; the log says so
once.

With `curve://` (or `https://`) peer urls the listening socket lets in only the CURVE keys it knows (`PeerCurve`).
Either all members share one key pair. Or each process makes its own, and the ushers of the members introduce them to
each other by certificates: then a link waits until its other end is known, is made anew when that has another key, and
what comes in by a key that was dismissed is dropped.
"""

from __future__ import annotations

import contextlib
import struct
from collections import Counter
from collections.abc import Callable, Container  # noqa: TC003 - compiled, a NamedTuple looks at the types of its fields
from functools import partial
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
import zmq
from zmq import backend

from zkv import identity
from zkv.errors import CorruptionError
from zkv.gauges import Histogram
from zkv.mailbox import monotonic_ms
from zkv.urls import socket_endpoint
from zkv.wire import codec
from zkv.wire.messages import Dismissed, Join, Message, MessageKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zkv.actors.acquaintances import Acquaintances
    from zkv.gauges import Value
    from zkv.mailbox import Mailbox
    from zkv.wire.messages import Member

_HEADER = struct.Struct(">4sQQQ")  # protocol, cluster id, sender, receiver
_PROTOCOL = b"zkv2"
_NOBODY = (0, 0, 0)
_NOBLOCK = int(zmq.NOBLOCK)
SEND_QUEUE_MESSAGES = 1000  # raft's own window (in_flight_appends_max) is far below
HANDSHAKE_MS = 5_000
DISMISS_MS = 2_000  # how often a former member that still speaks is told that it is one
DOOR = "peers"


class PeerCurve(NamedTuple):
    """How a member's CURVE sockets know the others. `key_of`: the key of who listens at a url, if it is known."""

    keys: identity.KeyPair
    allow: Container[bytes]
    key_of: Callable[[str], bytes | None]


class PeerMessage(NamedTuple):
    sender: int
    message: NamedTuple


def shared_keys(key_file: str) -> PeerCurve:
    """All members have this pair. Raises ConfigError."""
    keys = identity.load_secret(key_file)
    return PeerCurve(keys, frozenset({keys.public}), lambda _: keys.public)


def listening(
    context: zmq.Context[zmq.Socket[bytes]], urls: Sequence[str], curve: PeerCurve | None, message_bytes_max: int
) -> zmq.Socket[bytes]:
    """A socket bound to `urls`. Raises zmq.ZMQError when a port is taken."""
    socket = context.socket(zmq.PULL)
    socket.maxmsgsize = message_bytes_max
    socket.ipv6 = True
    socket.handshake_ivl = HANDSHAKE_MS
    if any(socket_endpoint(url).secure for url in urls):
        assert curve is not None, "checked with the configuration"
        identity.secure_server(socket, curve.keys, curve.allow)
    for url in urls:
        socket.bind(socket_endpoint(url).address)
    return socket


def connecting(
    context: zmq.Context[zmq.Socket[bytes]], url: str, curve: PeerCurve | None, *, immediate: bool
) -> zmq.Socket[bytes] | None:
    """A socket towards a peer; unless `immediate`, what is sent before it is connected waits in its queue.

    None where nobody knows yet who is there.
    """
    endpoint = socket_endpoint(url)
    server_key = None
    if endpoint.secure:
        assert curve is not None, "checked with the configuration"
        server_key = curve.key_of(url)
        if server_key is None:
            return None
    socket = context.socket(zmq.PUSH)
    socket.immediate = immediate
    socket.sndhwm = SEND_QUEUE_MESSAGES
    socket.linger = 100
    socket.ipv6 = True
    socket.reconnect_ivl = 50
    socket.reconnect_ivl_max = 500
    socket.heartbeat_ivl = 1000  # a peer that is gone without a word is noticed by ZMTP pings
    socket.heartbeat_timeout = 3000
    if curve is not None and server_key is not None:
        identity.secure_client(socket, server_key, curve.keys)
    socket.connect(endpoint.address)
    return socket


def ask(socket: zmq.Socket[bytes], question: Join) -> None:
    """From a server that does not know yet who it is, nor of which cluster."""
    with contextlib.suppress(zmq.Again):
        socket.send(_HEADER.pack(_PROTOCOL, *_NOBODY) + codec.encode(question), zmq.NOBLOCK)


def said_in(frame: bytes) -> NamedTuple:
    """The message behind the header. Raises CorruptionError."""
    return codec.decode(memoryview(frame)[_HEADER.size :])


class _Link:
    """To a member at `urls`. `header`: of every message to it; `send`: pyzmq's, without the layer for what is more."""

    def __init__(self, urls: tuple[str, ...], socket: zmq.Socket[bytes], header: bytes) -> None:
        self.urls = urls
        self.socket = socket
        self.header = header
        self.send: Callable[[bytes, int], object] = partial(backend.Socket.send, socket)


class PeerLinks:
    """Sockets to and from the other members of one cluster."""

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        member_id: int,
        cluster_id: int,
        curve: PeerCurve | None,
        message_bytes_max: int,
        acquaintances: Acquaintances | None = None,
    ) -> None:
        self._mailbox = mailbox
        self._member_id = member_id
        self._cluster_id = cluster_id
        self._curve = curve
        self._acquaintances = acquaintances
        self._certified = False  # who comes in has been introduced
        self._message_bytes_max = message_bytes_max
        self._log = structlog.get_logger().bind(actor="raft")
        self._wanted: dict[int, tuple[str, ...]] = {}  # all other members
        self._links: dict[int, _Link] = {}
        self._refused: set[tuple[int, int]] = set()
        self._dismissed_at: dict[int, int] = {}
        self._counts: Counter[tuple[str, int]] = Counter()  # (what, member): bytes, and messages that found no way
        self._beaten_at: dict[int, int] = {}  # ns: when a heartbeat left that is not answered yet
        self._round_trips: dict[int, Histogram] = {}

    def listen(self, urls: Sequence[str]) -> None:
        """Raises zmq.ZMQError when a port is taken."""
        socket = listening(self._mailbox.context, urls, self._curve, self._message_bytes_max)
        secure = any(socket_endpoint(url).secure for url in urls)
        self._certified = secure and self._acquaintances is not None
        self._mailbox.add_socket(DOOR, socket, certified=self._certified)

    def set_members(self, members: Iterable[Member]) -> None:
        """Connect to who is new or has moved, let go of who has left."""
        wanted = {member.id: member.peer_urls for member in members if member.id != self._member_id}
        for member_id in [known for known, link in self._links.items() if wanted.get(known) != link.urls]:
            self._mailbox.forget(self._links.pop(member_id).socket)
        self._wanted = wanted
        if self._acquaintances is not None:
            firsts = [urls[0] for urls in wanted.values() if urls]
            self._acquaintances.wanted(url for url in firsts if socket_endpoint(url).secure)
        for member_id in wanted:
            self._link(member_id)

    def _link(self, member_id: int) -> None:
        """Where there is none, and it is known who is there."""
        urls = self._wanted.get(member_id)
        if member_id not in self._links and urls:
            self._connect(member_id, urls)

    def _connect(self, member_id: int, urls: tuple[str, ...], *, immediate: bool = True) -> bool:
        socket = connecting(self._mailbox.context, urls[0], self._curve, immediate=immediate)
        if socket is None:
            return False
        self._mailbox.watch_connection(f"{member_id}", socket)
        header = _HEADER.pack(_PROTOCOL, self._cluster_id, self._member_id, member_id)
        self._links[member_id] = _Link(urls, socket, header)
        return True

    def lost(self, member_id: int) -> None:
        """Its connection: it may be another process by now, with another key."""
        link = self._links.get(member_id)
        self._counts["disconnected", member_id] += 1
        self._beaten_at.pop(member_id, None)
        if self._acquaintances is not None and link is not None:
            self._acquaintances.lost(link.urls[0])

    def from_usher(self, message: object) -> None:
        """What it says of keys, of others' and of our own."""
        assert self._acquaintances is not None
        url = self._acquaintances.heard(message)
        if url is None:
            return
        for member_id in [known for known, link in self._links.items() if link.urls[0] == url]:
            self._mailbox.forget(self._links.pop(member_id).socket)
        for member_id, urls in self._wanted.items():
            if urls and urls[0] == url:
                self._link(member_id)

    def dismiss(self, member: Member) -> None:
        """Tell a former member that it is one. Its link lives for as long as the word takes; now and then is enough."""
        now = monotonic_ms()
        if now < self._dismissed_at.get(member.id, 0) + DISMISS_MS:
            return
        self._dismissed_at[member.id] = now
        link = self._links.pop(member.id, None)
        if link is not None:
            self._mailbox.forget(link.socket)
        if member.peer_urls and self._connect(member.id, member.peer_urls, immediate=False):
            self.send(member.id, Dismissed())

    def send(self, member_id: int, message: NamedTuple) -> bool:
        """False when there is no connection to the member, or its queue is full: the message is dropped."""
        link = self._links.get(member_id)
        if link is None:
            return False
        frame = link.header + codec.encode(message)
        try:
            link.send(frame, _NOBLOCK)
        except zmq.Again:
            self._counts["sent failures", member_id] += 1
            return False
        self._counts["sent bytes", member_id] += len(frame)
        if type(message) is Message and message.kind == MessageKind.HEARTBEAT:
            self._beaten_at.setdefault(member_id, monotonic_ns())
        return True

    def gauges(self) -> list[Value]:
        """By member, in hex. Those who are no members any more are left out."""
        counts = [
            (f"peer {what}", f"{member:x}", number)
            for (what, member), number in self._counts.items()
            if member in self._links
        ]
        own = f"{self._member_id:x}"
        pairs = [("active peers", f"{own}|{member:x}", 1) for member in self._links]
        pairs += [("disconnected peers", f"{own}|{peer}", number) for what, peer, number in counts if "disc" in what]
        trips = [
            ("peer round trip", f"{member:x}", trip.counts)
            for member, trip in self._round_trips.items()
            if member in self._links
        ]
        return [("peers", "", len(self._links)), *counts, *pairs, *trips]

    def receive(self, frames: Sequence[Any]) -> PeerMessage | None:
        """What came in at the door, if it is a message for this member from a member of this cluster."""
        if self._certified:
            assert self._acquaintances is not None
            frames, key = frames[:-1], frames[-1]
            if not self._acquaintances.is_guest(key.encode()):
                self._refuse(0, 0, "is not believed any more")
                return None
        try:
            (frame,) = frames
            protocol, cluster_id, sender, receiver = _HEADER.unpack_from(frame)
        except (ValueError, struct.error):
            self._refuse(0, 0, "not a zkv peer")
            return None
        if protocol != _PROTOCOL:
            self._refuse(sender, 0, "speaks another peer protocol")
        elif (cluster_id, sender, receiver) == _NOBODY:
            return self._opened(sender, frame, Join)
        elif cluster_id != self._cluster_id:
            self._refuse(sender, cluster_id, "is of another cluster")
        elif receiver != self._member_id:
            self._refuse(sender, receiver, "takes this member for another")
        else:
            return self._opened(sender, frame)
        return None

    def _opened(self, sender: int, frame: bytes, only: type | None = None) -> PeerMessage | None:
        try:
            message = said_in(frame)
        except CorruptionError as error:
            self._refuse(sender, 0, str(error))
            return None
        if sender in self._links:
            self._counts["received bytes", sender] += len(frame)
            if type(message) is Message and message.kind == MessageKind.HEARTBEAT_ANSWER:
                self._answered(sender)
        return PeerMessage(sender, message) if only is None or type(message) is only else None

    def _answered(self, sender: int) -> None:
        """A heartbeat: how long was it under way? (Of those on their way at once, the first counts.)"""
        beaten_at = self._beaten_at.pop(sender, None)
        if beaten_at is not None:
            self._round_trips.setdefault(sender, Histogram()).observe(monotonic_ns() - beaten_at)

    def _refuse(self, sender: int, other: int, why: str) -> None:
        if (sender, other) in self._refused or len(self._refused) > 1000:
            return
        self._refused.add((sender, other))
        self._log.error(
            "refused a peer", peer=f"{sender:x}", why=why, its_id=f"{other:x}", our_cluster_id=f"{self._cluster_id:x}"
        )
