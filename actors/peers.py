"""The connections between the members: one PULL socket that all peers push into, one PUSH socket per peer.

Raft tolerates loss, so a peer that is down or slow simply misses messages: `send` never blocks and queues only
onto completed connections (ZMQ_IMMEDIATE). Every message is two frames, a fixed header (who, to whom, in
which cluster) and the encoded message. What is not for this member of this cluster is dropped; the log says so once.

With `curve://` peer urls all members share one CURVE key pair: whoever does not hold it gets no byte in
(the listening socket's ZAP domain allows this one key only).
"""

from __future__ import annotations

import contextlib
import struct
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import structlog
import zmq

from zkv import identity
from zkv.errors import CorruptionError
from zkv.mailbox import monotonic_ms
from zkv.urls import socket_endpoint
from zkv.wire import codec
from zkv.wire.messages import Dismissed, Join

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zkv.gauges import Value
    from zkv.mailbox import Mailbox
    from zkv.wire.messages import Member

_HEADER = struct.Struct(">4sQQQ")  # protocol, cluster id, sender, receiver
_PROTOCOL = b"zkv1"
_NOBODY = (0, 0, 0)
SEND_QUEUE_MESSAGES = 1000  # raft's own window (in_flight_appends_max) is far below
DISMISS_MS = 2_000  # how often a former member that still speaks is told that it is one
DOOR = "peers"


class PeerMessage(NamedTuple):
    sender: int
    message: NamedTuple


def listening(
    context: zmq.Context[zmq.Socket[bytes]], urls: Sequence[str], key_file: str, message_bytes_max: int
) -> zmq.Socket[bytes]:
    """A socket bound to `urls`. Raises zmq.ZMQError when a port is taken."""
    socket = context.socket(zmq.PULL)
    socket.maxmsgsize = message_bytes_max
    socket.ipv6 = True
    if any(socket_endpoint(url).secure for url in urls):
        assert key_file, "checked with the configuration"
        identity.secure_server(socket, key_file, identity.only_key_of(key_file))
    for url in urls:
        socket.bind(socket_endpoint(url).address)
    return socket


def connecting(
    context: zmq.Context[zmq.Socket[bytes]], url: str, key_file: str, *, immediate: bool
) -> zmq.Socket[bytes]:
    """A socket towards a peer; unless `immediate`, what is sent before it is connected waits in its queue."""
    endpoint = socket_endpoint(url)
    socket = context.socket(zmq.PUSH)
    socket.immediate = immediate
    socket.sndhwm = SEND_QUEUE_MESSAGES
    socket.linger = 100
    socket.ipv6 = True
    socket.reconnect_ivl = 50
    socket.reconnect_ivl_max = 500
    socket.heartbeat_ivl = 1000  # a peer that is gone without a word is noticed by ZMTP pings
    socket.heartbeat_timeout = 3000
    if endpoint.secure:
        assert key_file, "checked with the configuration"
        identity.secure_client(socket, identity.load_public(key_file), key_file)
    socket.connect(endpoint.address)
    return socket


def ask(socket: zmq.Socket[bytes], question: Join) -> None:
    """From a server that does not know yet who it is, nor of which cluster."""
    with contextlib.suppress(zmq.Again):
        socket.send_multipart((_HEADER.pack(_PROTOCOL, *_NOBODY), codec.encode(question)), zmq.NOBLOCK)


class PeerLinks:
    """Sockets to and from the other members of one cluster."""

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        member_id: int,
        cluster_id: int,
        key_file: str,
        message_bytes_max: int,
    ) -> None:
        self._mailbox = mailbox
        self._member_id = member_id
        self._cluster_id = cluster_id
        self._key_file = key_file
        self._message_bytes_max = message_bytes_max
        self._log = structlog.get_logger().bind(actor="raft")
        self._links: dict[int, tuple[tuple[str, ...], zmq.Socket[bytes]]] = {}
        self._refused: set[tuple[int, int]] = set()
        self._dismissed_at: dict[int, int] = {}
        self._counts: Counter[tuple[str, int]] = Counter()  # (what, member): bytes, and messages that found no way

    def listen(self, urls: Sequence[str]) -> None:
        """Raises zmq.ZMQError when a port is taken."""
        self._mailbox.add_door(DOOR, listening(self._mailbox.context, urls, self._key_file, self._message_bytes_max))

    def set_members(self, members: Iterable[Member]) -> None:
        """Connect to who is new or has moved, let go of who has left."""
        wanted = {member.id: member.peer_urls for member in members if member.id != self._member_id}
        for member_id in [known for known, (urls, _) in self._links.items() if wanted.get(known) != urls]:
            self._mailbox.forget(self._links.pop(member_id)[1])
        for member_id, urls in wanted.items():
            if member_id not in self._links and urls:
                self._links[member_id] = (urls, self._connect(member_id, urls[0]))

    def _connect(self, member_id: int, url: str, *, immediate: bool = True) -> zmq.Socket[bytes]:
        socket = connecting(self._mailbox.context, url, self._key_file, immediate=immediate)
        self._mailbox.watch_connection(f"{member_id}", socket)
        return socket

    def dismiss(self, member: Member) -> None:
        """Tell a former member that it is one. Its link lives for as long as the word takes; now and then is enough."""
        now = monotonic_ms()
        if now < self._dismissed_at.get(member.id, 0) + DISMISS_MS:
            return
        self._dismissed_at[member.id] = now
        link = self._links.pop(member.id, None)
        if link is not None:
            self._mailbox.forget(link[1])
        if member.peer_urls:
            self._links[member.id] = (member.peer_urls, self._connect(member.id, member.peer_urls[0], immediate=False))
            self.send(member.id, Dismissed())

    def send(self, member_id: int, message: NamedTuple) -> bool:
        """False when there is no connection to the member, or its queue is full: the message is dropped."""
        link = self._links.get(member_id)
        if link is None:
            return False
        header = _HEADER.pack(_PROTOCOL, self._cluster_id, self._member_id, member_id)
        payload = codec.encode(message)
        try:
            link[1].send_multipart((header, payload), zmq.NOBLOCK)
        except zmq.Again:
            self._counts["sent failures", member_id] += 1
            return False
        self._counts["sent bytes", member_id] += len(payload)
        return True

    def gauges(self) -> list[Value]:
        """By member, in hex. Those who are no members any more are left out."""
        counts = [
            (f"peer {what}", f"{member:x}", number)
            for (what, member), number in self._counts.items()
            if member in self._links
        ]
        return [("peers", "", len(self._links)), *counts]

    def receive(self, frames: Sequence[bytes]) -> PeerMessage | None:
        """What came in at the door, if it is a message for this member from a member of this cluster."""
        try:
            header, payload = frames
            protocol, cluster_id, sender, receiver = _HEADER.unpack(header)
        except (ValueError, struct.error):
            self._refuse(0, 0, "not a zkv peer")
            return None
        if protocol != _PROTOCOL:
            self._refuse(sender, 0, "speaks another peer protocol")
        elif (cluster_id, sender, receiver) == _NOBODY:
            return self._opened(sender, payload, Join)
        elif cluster_id != self._cluster_id:
            self._refuse(sender, cluster_id, "is of another cluster")
        elif receiver != self._member_id:
            self._refuse(sender, receiver, "takes this member for another")
        else:
            return self._opened(sender, payload)
        return None

    def _opened(self, sender: int, payload: bytes, only: type | None = None) -> PeerMessage | None:
        try:
            message = codec.decode(payload)
        except CorruptionError as error:
            self._refuse(sender, 0, str(error))
            return None
        if sender in self._links:
            self._counts["received bytes", sender] += len(payload)
        return PeerMessage(sender, message) if only is None or type(message) is only else None

    def _refuse(self, sender: int, other: int, why: str) -> None:
        if (sender, other) in self._refused or len(self._refused) > 1000:
            return
        self._refused.add((sender, other))
        self._log.error(
            "refused a peer", peer=f"{sender:x}", why=why, its_id=f"{other:x}", our_cluster_id=f"{self._cluster_id:x}"
        )
