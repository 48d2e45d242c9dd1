"""What the processes of one node tell each other. How records lie on the wire: messages.py."""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypeAlias

from zkv.wire.raft import Entry, SnapshotAck, SnapshotChunk, SnapshotMeta
from zkv.wire.requests import KeyValue, Member
from zkv.wire.shapes import UNOPENED


class Frame(NamedTuple):
    """Groups of one gateway. `groups`: (gid, the client's `Requests` as it was packed) each."""

    member_id: int
    incarnation: int
    groups: tuple[tuple[int, bytes], ...]


class Hello(NamedTuple):
    """An actor has (re)started: whatever its predecessor was sent is lost."""

    actor: str
    incarnation: int


class Propose(NamedTuple):
    """gateway -> raft: writes, to be logged. `frame` is a packed Frame.

    `members`: they change the membership, or move the leader: the leader's raft actor is to look at them first.
    """

    frame: bytes
    members: bool = False


class Read(NamedTuple):
    """gateway -> raft: reads that wait for a linearizable index (or, `local`, for raft's stamp only).

    `lone`: they are one group, and the gateway keeps its answer where that is found ahead (`AnsweredAhead`).
    """

    frame: bytes
    local: bool = False
    lone: bool = False


class Refused(NamedTuple):
    """raft, storage -> gateway: these groups failed whole, with this error."""

    incarnation: int
    code: int
    gids: tuple[int, ...]


class Stamp(NamedTuple):
    """What raft knows at the moment it lets a read pass. `time`: the cluster clock, ms, or a little less."""

    term: int
    leader: int
    commit: int
    is_learner: bool
    time: int = 0


class StampedRead(NamedTuple):
    """raft, gateway -> storage: to be answered once `index` is applied. `stamp` is None for serializable reads."""

    index: int  # type: ignore[assignment] # hides tuple's method, as meant
    stamp: Stamp | None
    frames: tuple[bytes, ...]


class ReadAhead(NamedTuple):
    """raft -> storage: a read of one group, to be made while raft still asks whether it may be; see `AnsweredAhead`."""

    read: StampedRead


class AnsweredAhead(NamedTuple):
    """storage -> gateway: what a `ReadAhead` found: half of an answer, which must not leave without the other half.

    `answers`: a packed `Answers`, the group's last; or none, where they are not all ready at once, or refused: then
    `read` is to go to storage again, once raft has let it pass.
    """

    incarnation: int
    gid: int
    answers: bytes
    read: StampedRead | None = None


class Confirmed(NamedTuple):
    """raft -> gateway: the other half: what was read ahead for this group is linearizable, and may leave."""

    incarnation: int
    gid: int


class StorageAt(NamedTuple):
    """storage -> raft: what is applied, what of it would survive power loss; `feed`: feed me from applied + 1.

    `base` (sent with `feed`) is the place the store has reached, as a snapshot's: what raft's log starts
    from where it ends before `applied`, as after a crash between installing a snapshot and noting it in the log.
    `full`: there is no room on the disk: send nothing, until told again. `awaited`: what is
    committed is waited for here, by watchers, or by who was given a token by another member.
    """

    applied: int
    durable: int
    feed: bool = False
    base: SnapshotMeta | None = None
    full: bool = False
    awaited: bool = False


class MembersAre(NamedTuple):
    """storage -> raft: the member table as applied, so that raft knows where its peers are, and who is to vote.

    `removed`: former members. `index`: the entry that is applied last.
    """

    members: tuple[Member, ...]
    removed: tuple[Member, ...] = ()
    index: int = 0  # type: ignore[assignment] # hides tuple's method, as meant


class Apply(NamedTuple):
    """raft -> storage: committed entries, in order and without a gap."""

    term: int
    entries: tuple[Entry, ...]


class GatewayAnswers(NamedTuple):
    """storage -> gateway: (gid, a packed `Answers`, is it the group's last) each.

    `index`: the last entry of the log that was applied with those that are answered; 0: they are no writes.
    """

    incarnation: int
    answers: tuple[tuple[int, bytes, bool], ...]
    index: int = 0  # type: ignore[assignment] # hides tuple's method, as meant


class StreamCredit(NamedTuple):
    """gateway -> storage: the client behind group `gid` takes `chunks` more chunks of request `id`; 0: none ever."""

    gid: int
    id: int
    chunks: int


class LeaderIs(NamedTuple):
    """raft -> gateway, lease: who leads, in which term (leader 0: nobody).

    `clock`: what to add to this machine's monotonic clock (ms) to have the cluster clock, where this member leads.
    `is_learner`: this member has no vote.
    """

    term: int
    leader: int
    clock: int = 0
    is_learner: bool = False


class Event(NamedTuple):
    """What happened to one key: a put (kv as it is now) or, `deleted`, its end (kv holds key and mod_revision)."""

    deleted: bool
    kv: KeyValue
    prev_kv: KeyValue | None


Events: TypeAlias = Annotated[tuple[tuple[int, tuple[Event, ...]], ...], UNOPENED]
"""(revision, events) each, which stay plain tuples: there are many, and nobody asks them for their fields by name."""


class Applied(NamedTuple):
    """storage -> watch: the revision reached, and the events of all revisions after `since`: (revision, events) each.

    A `since` beyond what the watch actor knows means that events between were not told (nobody had asked for them yet,
    or a queue was full): they are to be read as history. `term` goes into answers. `at_once` and `prev_kv`: as storage
    knows what is needed (`WatchNeeds`), it tells events at once, and with what they superseded.
    """

    revision: int
    events: Events
    since: int = 0
    term: int = 0
    at_once: bool = False
    prev_kv: bool = False


class WatchNeeds(NamedTuple):
    """watch -> storage: are there watchers, so that events are wanted, and at once; does one of them want prev_kv?

    `taken`: so many more `Applied` with events have been worked off; storage sends no more than a window of them.
    """

    events: bool
    prev_kv: bool
    taken: int = 0


class HistoryWanted(NamedTuple):
    """watch -> storage: events from `first` on, whole revisions, up to about `bytes_max` (one revision at least)."""

    ticket: int
    first: int
    bytes_max: int
    prev_kv: bool


class History(NamedTuple):
    """storage -> watch: all events of [first, upto], or, where `first` is no longer kept, `compacted` and none."""

    ticket: int
    first: int
    upto: int
    events: Events
    compacted: int = 0


class WatchWords(NamedTuple):
    """gateway -> watch: what clients said, checked: (stream, ClientKind, fields) each. A stream is one connection.

    ClientKind CANCEL ends the stream: the client is gone, or its answers could not be sent.
    """

    incarnation: int
    words: tuple[tuple[int, int, tuple[object, ...]], ...]


class WatchOut(NamedTuple):
    """watch -> gateway: (stream, a packed `Answers` with watches) each."""

    incarnation: int
    answers: tuple[tuple[int, bytes], ...]


class LeaseRequests(NamedTuple):
    """gateway -> the leader's lease actor, by Relay where that is another member's: keep-alives.

    `frame` is a packed Frame.
    """

    frame: bytes


class LeaseNews(NamedTuple):
    """storage -> lease: leases granted or renewed, (id, ttl in s, until) each, and ids of those that ended.

    `until` 0: the lease has ended, but keys of it are left; the leader is to expire it again. `fresh`: this is the
    first slice of the whole table, and what was known before is void; `more`: further slices of it follow.
    `revision`: the store's. `term`: no entry of a greater one is applied.
    """

    applied: int
    leases: tuple[tuple[int, int, int], ...]
    gone: tuple[int, ...] = ()
    fresh: bool = False
    more: bool = False
    revision: int = 0
    term: int = 0


class Relay(NamedTuple):
    """gateway, lease, storage -> raft, then raft -> raft: an encoded message for another member's `actor`."""

    member: int
    actor: str
    message: bytes


class Slow(NamedTuple):
    """gateway -> raft -> storage: requests that took long, and where the time went as far as that is known.

    `taken`, `answered`: when, ns of the monotonic clock. `index`: of the log; 0: no write. `left_out`: how many such
    were not told of before. `stages`: name and ns each, one behind the other, up to `at`.
    """

    door: str
    way: str
    requests: int
    bytes: int
    taken: int
    answered: int
    index: int  # type: ignore[assignment] # hides tuple's method, as meant
    left_out: int = 0
    stages: tuple[tuple[str, int], ...] = ()
    at: int = 0


class Gauges(NamedTuple):
    """every actor -> insight, where there is one: (name, label, number or histogram) each; see zkv/gauges.py.

    `actor` runs as process `pid`.
    """

    actor: str
    pid: int
    values: tuple[tuple[str, str, int | tuple[int, ...]], ...]


class AuthNews(NamedTuple):
    """storage -> gateways, watch: what is new of users and roles; sent before the answers to what made it so.

    `users`: (name, hash, no_password, roles) each, the hash only to gateways; `roles`: (name, permissions) each, only
    to watch; `tokens`, to gateways: (SHA-256, user) of those given. `fresh`: all there is; what was known is void.
    """

    enabled: bool
    revision: int
    users: tuple[tuple[str, bytes, bool, tuple[str, ...]], ...] = ()
    users_gone: tuple[str, ...] = ()
    roles: tuple[tuple[str, tuple[tuple[int, bytes, bytes], ...]], ...] = ()
    roles_gone: tuple[str, ...] = ()
    tokens: tuple[tuple[bytes, str], ...] = ()
    fresh: bool = False


class SnapshotWanted(NamedTuple):
    """raft -> storage: stream your state to `member`, which asks for chunk `wanted` of `stream` (stream 0: begin)."""

    member: int
    stream: int = 0
    wanted: int = 0
    refused: bool = False


class SnapshotOut(NamedTuple):
    """storage -> raft: the next chunk for `member`."""

    member: int
    chunk: SnapshotChunk


class SnapshotIn(NamedTuple):
    """raft -> storage: a chunk from `member`'s storage."""

    member: int
    chunk: SnapshotChunk


class SnapshotTaken(NamedTuple):
    """storage -> raft: chunk taken (`ack`, for `member`); `installed` when the snapshot has become the store."""

    member: int
    ack: SnapshotAck
    installed: SnapshotMeta | None = None


class HashWanted(NamedTuple):
    """storage -> another member's storage, by Relay: the hash of all your events up to `revision`, once you have them.

    `asker` is to be told; `ticket` comes back with the answer.
    """

    asker: int
    ticket: int
    revision: int


class HashIs(NamedTuple):
    """The answer. Hashes can be compared where `compacted` is the same."""

    member: int
    ticket: int
    revision: int
    compacted: int
    hash: int


class DigestsWanted(NamedTuple):
    """storage of the leader -> another member's storage, by Relay: what did entries first .. last write with you?"""

    asker: int
    first: int
    last: int


class DigestsAre(NamedTuple):
    """The answer: a checksum for each entry from `first` on; UNKNOWN_DIGEST where it is not known (any more)."""

    member: int
    first: int
    digests: tuple[int, ...]


UNKNOWN_DIGEST = -1


class CurveKeyIs(NamedTuple):
    """gateway, raft -> usher: the CURVE key (32 bytes) of the socket of this process, to be introduced."""

    actor: str
    key: bytes


class Admit(NamedTuple):
    """usher -> gateway, raft: let in who holds this key, for so long. To be answered by `Admitted`, with the ticket."""

    ticket: int
    key: bytes
    common_name: str
    address: str
    lasts_ms: int


class Admitted(NamedTuple):
    """gateway, raft -> usher. `is_in` False: there are too many."""

    ticket: int
    is_in: bool


class Dismiss(NamedTuple):
    """usher -> gateway, raft: nobody with this key is let in, or heard, any more."""

    key: bytes


class Acquaint(NamedTuple):
    """raft -> usher: the peer urls whose owners it wants to speak to. `lost`: of these, where a connection was lost."""

    urls: tuple[str, ...]
    lost: tuple[str, ...] = ()


class PeerKeyIs(NamedTuple):
    """usher -> raft: who listens at a peer url has shown this CURVE key to be its own; or (no key) is not believed."""

    url: str
    key: bytes
