"""The connections between the members: one door (PULL) where all peers come in, one line (PUSH) to each peer.

Raft tolerates loss, so a peer that is down or slow simply misses messages: `send` never blocks, and takes only what
can leave at once or waits within bounds. Every message is one frame: a fixed header (who, to whom, in which cluster),
and behind it the encoded message. What is not for this member of this cluster is dropped; the log says so once.

With `curve://` (or `https://`) peer urls the door lets in only the CURVE keys it knows (`PeerCurve`).
Either all members share one key pair. Or each process makes its own, and the ushers of the members introduce them to
each other by certificates: then a line waits until its other end is known, is made anew when that has another key, and
what comes in by a key that was dismissed is dropped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container  # noqa: TC003 - compiled, a NamedTuple looks at the types of its fields
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from zkv import curve, identity
from zkv.door import Door
from zkv.errors import CorruptionError
from zkv.gauges import Histogram
from zkv.line import SILENCE_MS, Line
from zkv.monotonic import monotonic_ms
from zkv.urls import socket_endpoint
from zkv.wire import codec, raft_codec
from zkv.wire.messages import Dismissed, Join, Message, MessageKind
from zkv.wire.raft_codec import Pair

if TYPE_CHECKING:
    import select
    from collections.abc import Iterable, Sequence

    from zkv.actors.acquaintances import Acquaintances
    from zkv.gauges import Value
    from zkv.mailbox import Mailbox
    from zkv.wire.messages import Member

_HEADER: Final = struct.Struct(">4sQQQ")  # protocol, cluster id, sender, receiver
_HEADER_BYTES: Final = _HEADER.size
_PROTOCOL: Final = b"zkv2"
_NOBODY: Final = (0, 0, 0)
SEND_QUEUE_MESSAGES: Final = 1000  # raft's own window (in_flight_appends_max) is far below
TOLD_BYTES_MAX: Final = 4096  # of what comes by a line: nobody says anything to who pushes
DISMISS_MS: Final = 2_000  # how often a former member that still speaks is told that it is one
DOOR: Final = "peers"


class PeerCurve(NamedTuple):
    """How a member's CURVE sockets know the others. `key_of`: the key of who listens at a url, if it is known."""

    keys: identity.KeyPair
    allow: Container[bytes]
    key_of: Callable[[str], bytes | None]


class PeerMessage:
    """What another member has said. (Each message comes as one, and a tuple with names takes longer to make.)"""

    def __init__(self, sender: int, message: NamedTuple) -> None:
        self.sender = sender
        self.message = message


def shared_keys(key_file: str) -> PeerCurve:
    """All members have this pair. Raises ConfigError."""
    keys = identity.load_secret(key_file)
    return PeerCurve(keys, frozenset({keys.public}), lambda _: keys.public)


def listening(polls: select.epoll, urls: Sequence[str], peer_curve: PeerCurve | None, message_bytes_max: int) -> Door:
    """A door at `urls`. Raises OSError when a port is taken."""
    server: curve.Server | None = None
    if any(socket_endpoint(url).secure for url in urls):
        assert peer_curve is not None, "checked with the configuration"
        server = curve.Server(peer_curve.keys, peer_curve.allow)
    door = Door(
        b"PULL",
        server,
        polls,
        message_bytes_max=message_bytes_max,
        messages_max=SEND_QUEUE_MESSAGES,
        bytes_max=TOLD_BYTES_MAX,
    )
    for url in urls:
        endpoint = socket_endpoint(url)
        door.listen(endpoint.socket_host, endpoint.port)
    return door


def connecting(
    polls: select.epoll,
    url: str,
    peer_curve: PeerCurve | None,
    *,
    bytes_max: int,
    silence_ms: int = SILENCE_MS,
    keeps: bool = False,
) -> Line | None:
    """A line to a peer; if it `keeps`, what is sent before it is ready waits.

    None where nobody knows yet who is there.
    """
    endpoint = socket_endpoint(url)
    client: curve.Client | None = None
    if endpoint.secure:
        assert peer_curve is not None, "checked with the configuration"
        server_key = peer_curve.key_of(url)
        if server_key is None:
            return None
        client = curve.Client(peer_curve.keys, server_key)
    return Line(
        endpoint.socket_host,
        endpoint.port,
        b"PUSH",
        client,
        polls,
        messages_max=SEND_QUEUE_MESSAGES,
        bytes_max=bytes_max,
        message_bytes_max=TOLD_BYTES_MAX,
        silence_ms=silence_ms,
        keeps=keeps,
    )


def asking(question: Join) -> bytes:
    """What a server says that does not know yet who it is, nor of which cluster."""
    return _HEADER.pack(_PROTOCOL, *_NOBODY) + codec.encode(question)


def said_in(frame: bytes) -> NamedTuple:
    """The message behind the header. Raises CorruptionError."""
    return codec.decode(frame[_HEADER_BYTES:])


class _Tally:
    """What is counted of one member, whatever becomes of the link to it."""

    def __init__(self) -> None:
        self.sent_bytes = self.received_bytes = 0
        self.sent_failures = 0  # messages that found no way
        self.disconnected = 0
        self.beaten_at = 0  # ns: when a heartbeat left that is not answered yet; 0: there is none
        self.round_trips = Histogram()


class _Link:
    """To a member at `urls`. `header`: of every message to it; `cores`: ours speaks to its own."""

    def __init__(self, urls: tuple[str, ...], line: Line, header: bytes, cores: Pair, tally: _Tally) -> None:
        self.urls = urls
        self.line = line
        self.header = header
        self.core_header = header + raft_codec.HEAD
        self.cores = cores
        self.tally = tally
        self.came_by = b""
        """The connection by which the member has spoken last."""


class PeerLinks:
    """To and from the other members of one cluster.

    `election_ms`: a member may be stuck on its disk for as long as it takes to elect another leader, and its silence
    is not taken for a loss before.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        member_id: int,
        cluster_id: int,
        curve: PeerCurve | None,
        message_bytes_max: int,
        election_ms: int = 0,
        acquaintances: Acquaintances | None = None,
    ) -> None:
        self._mailbox = mailbox
        self._member_id = member_id
        self._cluster_id = cluster_id
        self._curve = curve
        self._acquaintances = acquaintances
        self._certified = False  # who comes in has been introduced
        self._message_bytes_max = message_bytes_max
        self._silence_ms = max(SILENCE_MS, election_ms)
        self._door: Door | None = None
        self._log = structlog.get_logger().bind(actor="raft")
        self._wanted: dict[int, tuple[str, ...]] = {}  # all other members
        self._links: dict[int, _Link] = {}
        self._refused: set[tuple[int, int]] = set()
        self._dismissed_at: dict[int, int] = {}
        self._tallies: dict[int, _Tally] = {}
        self._senders: dict[bytes, Pair] = {}
        """By a header that was found to be right: of members that there has been a link to."""

    def listen(self, urls: Sequence[str]) -> None:
        """Raises OSError when a port is taken."""
        self._door = listening(self._mailbox.polls, urls, self._curve, self._message_bytes_max)
        secure = any(socket_endpoint(url).secure for url in urls)
        self._certified = secure and self._acquaintances is not None
        self._mailbox.add_door(DOOR, self._door)

    def set_members(self, members: Iterable[Member]) -> None:
        """Connect to who is new or has moved, let go of who has left."""
        wanted = {member.id: member.peer_urls for member in members if member.id != self._member_id}
        for member_id in [known for known, link in self._links.items() if wanted.get(known) != link.urls]:
            self._mailbox.forget(self._links.pop(member_id).line)
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

    def _connect(self, member_id: int, urls: tuple[str, ...], *, keeps: bool = False) -> bool:
        line = connecting(
            self._mailbox.polls,
            urls[0],
            self._curve,
            bytes_max=self._message_bytes_max,
            silence_ms=self._silence_ms,
            keeps=keeps,
        )
        if line is None:
            return False
        self._mailbox.add_line(f"{member_id}", line)
        header = _HEADER.pack(_PROTOCOL, self._cluster_id, self._member_id, member_id)
        tally = self._tallies.setdefault(member_id, _Tally())
        self._links[member_id] = _Link(urls, line, header, Pair(member_id, self._member_id), tally)
        return True

    def lost(self, member_id: int) -> None:
        """Its connection: it may be another process by now, with another key."""
        link = self._links.get(member_id)
        if link is None:
            return
        link.tally.disconnected += 1
        link.tally.beaten_at = 0
        if self._acquaintances is not None:
            self._acquaintances.lost(link.urls[0])

    def from_usher(self, message: object) -> None:
        """What it says of keys, of others' and of our own."""
        assert self._acquaintances is not None
        url = self._acquaintances.heard(message)
        if url is None:
            return
        for member_id in [known for known, link in self._links.items() if link.urls[0] == url]:
            self._mailbox.forget(self._links.pop(member_id).line)
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
            self._mailbox.forget(link.line)
        if member.peer_urls and self._connect(member.id, member.peer_urls, keeps=True):
            self.send(member.id, Dismissed())

    def send(self, member_id: int, message: NamedTuple) -> bool:
        """To leave by the end of the turn, or when the mailbox is flushed.

        False when there is no connection to the member, or its queue is full: the message is dropped.
        """
        link = self._links.get(member_id)
        if link is None:
            return False
        kind = 0
        if type(message) is Message:
            kind = message.kind
            frame = raft_codec.encoded(message, link.cores, link.core_header)
        else:
            frame = link.header + codec.encode(message)
        tally = link.tally
        if not link.line.put(frame):
            tally.sent_failures += 1
            return False
        tally.sent_bytes += len(frame)
        if kind == MessageKind.HEARTBEAT and not tally.beaten_at:
            tally.beaten_at = monotonic_ns()
        return True

    def core_of(self, member_id: int) -> int | None:
        """The core on which a member works, if it is a process of this machine that has spoken."""
        link = self._links.get(member_id)
        if link is None or self._door is None:
            return None
        return self._door.core_of(link.came_by)

    def gauges(self) -> list[Value]:
        """By member, in hex. Those who are no members any more are left out."""
        own = f"{self._member_id:x}"
        values: list[Value] = [("peers", "", len(self._links))]
        for member, link in self._links.items():
            peer, tally = f"{member:x}", link.tally
            values += [
                ("active peers", f"{own}|{peer}", 1),
                ("disconnected peers", f"{own}|{peer}", tally.disconnected),
                ("peer sent bytes", peer, tally.sent_bytes),
                ("peer received bytes", peer, tally.received_bytes),
                ("peer sent failures", peer, tally.sent_failures),
                ("peer round trip", peer, tally.round_trips.counts),
            ]
        return values

    def receive(self, connection: bytes, frame: bytes | None) -> PeerMessage | None:
        """What came in at the door (`Door.hear`), if it is a message for this member from a member of this cluster."""
        if self._certified:
            assert self._acquaintances is not None
            assert self._door is not None
            if not self._acquaintances.is_guest(self._door.key_of(connection)):
                self._refuse(0, 0, "is not believed any more")
                return None
        if frame is None or len(frame) < _HEADER_BYTES:
            self._refuse(0, 0, "not a zkv peer")
            return None
        known = self._senders.get(frame[:_HEADER_BYTES])
        if known is not None:
            return self._opened(connection, known.sender, frame, known)
        protocol, cluster_id, sender, receiver = _HEADER.unpack_from(frame)
        if protocol != _PROTOCOL:
            self._refuse(sender, 0, "speaks another peer protocol")
        elif (cluster_id, sender, receiver) == _NOBODY:
            return self._opened(connection, sender, frame, only=Join)
        elif cluster_id != self._cluster_id:
            self._refuse(sender, cluster_id, "is of another cluster")
        elif receiver != self._member_id:
            self._refuse(sender, receiver, "takes this member for another")
        else:
            if sender in self._links:
                self._senders[frame[:_HEADER_BYTES]] = Pair(receiver, sender)
            return self._opened(connection, sender, frame)
        return None

    def _opened(
        self, connection: bytes, sender: int, frame: bytes, cores: Pair | None = None, only: type | None = None
    ) -> PeerMessage | None:
        """`cores`: the sender's, which may speak to ours; with `only`, nothing but such a message is heard."""
        message: NamedTuple | None = None
        if cores is not None:
            message = raft_codec.read(frame, _HEADER_BYTES, cores)
        if message is None:
            try:
                message = said_in(frame)
            except CorruptionError as error:
                self._refuse(sender, 0, str(error))
                return None
        link = self._links.get(sender)
        if link is not None:
            tally = link.tally
            tally.received_bytes += len(frame)
            link.came_by = connection
            if tally.beaten_at and type(message) is Message and message.kind == MessageKind.HEARTBEAT_ANSWER:
                # How long was it under way? (Of those on their way at once, the first counts.)
                tally.round_trips.observe(monotonic_ns() - tally.beaten_at)
                tally.beaten_at = 0
        return PeerMessage(sender, message) if only is None or type(message) is only else None

    def _refuse(self, sender: int, other: int, why: str) -> None:
        if (sender, other) in self._refused or len(self._refused) > 1000:
            return
        self._refused.add((sender, other))
        self._log.error(
            "refused a peer", peer=f"{sender:x}", why=why, its_id=f"{other:x}", our_cluster_id=f"{self._cluster_id:x}"
        )
