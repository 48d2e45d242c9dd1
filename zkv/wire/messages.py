"""Every message of zkv, once.

Three families, told apart by who speaks:

1. **Client requests and answers** (`Range` .. `MemberList`, `KeyValue` ..): what travels between a client
   and a gateway and, unchanged, through the raft log into storage. etcd's names and meanings
   (https://etcd.io/docs/v3.5/learning/api/), as positional records.
2. **Raft messages** (`Message`, `Entry`, `ConfChange` ..): what the raft core of one member says to
   another's (etcd-io/raft's vocabulary).
3. **Actor mail** (`Hello`, `Propose`, `Apply` ..): what the processes of one node tell each other.

Every record is a `NamedTuple` of ints, bytes, bools, None and tuples of those (text only where people
write it: names, urls). On the wire a record is the msgpack array of its fields in this order; fields may be
added at the end with a default, never moved or removed. `wire/codec.py` does the packing.

A request's return address is its *group*: one client message is one group, which the gateway numbers
(`gid`). A group is validated, logged, applied and answered as a whole; only the gateway that made
it knows which client is behind it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

# --- 1. client requests and answers --------------------------------------------------------------


class Op(IntEnum):
    """What a request asks for: the second field of a request on the wire."""

    RANGE = 1
    PUT = 2
    DELETE_RANGE = 3
    TXN = 4
    COMPACT = 5
    HASH_KV = 6
    STATUS = 7
    MEMBER_LIST = 8
    PUBLISH = 9  # by members only: a client's is refused at the door
    LEASE_GRANT = 10
    LEASE_REVOKE = 11
    LEASE_KEEP_ALIVE = 12  # answered by the leader's lease actor
    LEASE_TIME_TO_LIVE = 13
    LEASE_LIST = 14
    LEASE_RENEW = 15  # by members only
    LEASE_EXPIRE = 16  # by members only
    MEMBER_ADD = 17
    MEMBER_REMOVE = 18
    MEMBER_UPDATE = 19
    MEMBER_PROMOTE = 20
    MOVE_LEADER = 21  # answered by the leader's raft actor, never in the log
    SNAPSHOT = 22
    DEFRAGMENT = 23
    ALARM = 24


class SortOrder(IntEnum):
    NONE = 0
    ASCEND = 1
    DESCEND = 2


class SortTarget(IntEnum):
    KEY = 0
    VERSION = 1
    CREATE = 2
    MOD = 3
    VALUE = 4


class CompareResult(IntEnum):
    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


class CompareTarget(IntEnum):
    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4


class AlarmAction(IntEnum):
    GET = 0
    ACTIVATE = 1
    DEACTIVATE = 2


class AlarmType(IntEnum):
    NONE = 0
    NOSPACE = 1
    CORRUPT = 2


class KeyValue(NamedTuple):
    key: bytes
    create_revision: int
    mod_revision: int
    version: int
    value: bytes
    lease: int


class Range(NamedTuple):
    r"""Keys in [key, range_end). An empty range_end means the one key; b"\0" means all keys from `key` on.

    `revision` 0 reads the present; `limit` 0 means no limit. `serializable` answers from this member's
    own state, possibly stale, without asking the others.
    """

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    revision: int = 0
    sort_order: int = SortOrder.NONE
    sort_target: int = SortTarget.KEY
    serializable: bool = False
    keys_only: bool = False
    count_only: bool = False
    min_mod_revision: int = 0
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0


class Put(NamedTuple):
    """`ttl` seconds, if not 0: the key lives so long, by a lease of its own (then `lease` is 0)."""

    key: bytes
    value: bytes
    lease: int = 0
    prev_kv: bool = False
    ignore_value: bool = False
    ignore_lease: bool = False
    ttl: int = 0


class DeleteRange(NamedTuple):
    key: bytes
    range_end: bytes = b""
    prev_kv: bool = False


class Compare(NamedTuple):
    """`target` of each key in [key, range_end) stands in relation `result` to `operand`.

    `operand` is bytes for VALUE and an int otherwise. A missing key has version, create and mod
    revision 0 and no value (a VALUE comparison with it is false).
    """

    result: int
    target: int
    key: bytes
    operand: int | bytes
    range_end: bytes = b""


class Txn(NamedTuple):
    """If all `compares` hold, `success`, otherwise `failure`: each a tuple of (Op, request)."""

    compares: tuple[Compare, ...]
    success: tuple[tuple[int, TxnRequest], ...]
    failure: tuple[tuple[int, TxnRequest], ...]


class Compact(NamedTuple):
    """Forget what was superseded at or before `revision`; `physical`: answer when it is gone from the disk too."""

    revision: int
    physical: bool = False


class HashKV(NamedTuple):
    """The hash of all revisions up to `revision` (0: the present one) that compaction has left."""

    revision: int = 0


class Status(NamedTuple):
    pass


class Alarm(NamedTuple):
    """What alarms there are, of one member and kind or (0) of all; or one more, or one less of them."""

    action: int = AlarmAction.GET
    member_id: int = 0
    alarm: int = AlarmType.NONE


class Defragment(NamedTuple):
    """Give back to the disk, on the member that is asked, what is not used of it; answered when that is done."""


class Snapshot(NamedTuple):
    """The whole store of the member that is asked, as it is now, in chunks."""


class MemberList(NamedTuple):
    linearizable: bool = True


class MemberAdd(NamedTuple):
    """A new member at `peer_urls`. One that shall vote begins as a learner, too, and votes once it has caught up."""

    peer_urls: tuple[str, ...]
    is_learner: bool = False


class MemberRemove(NamedTuple):
    id: int


class MemberUpdate(NamedTuple):
    id: int
    peer_urls: tuple[str, ...]


class MemberPromote(NamedTuple):
    """Let a learner that has caught up vote."""

    id: int


class MoveLeader(NamedTuple):
    """Hand the leadership over to the member `target`."""

    target: int


class Publish(NamedTuple):
    """A member tells the others its name and client urls, as etcd's members do once they run."""

    member_id: int
    name: str
    client_urls: tuple[str, ...]


class LeaseGrant(NamedTuple):
    """A lease of `ttl` seconds. `id` 0: one is chosen. `ttl_min` is the door's: a client's must be 0."""

    ttl: int
    id: int = 0
    ttl_min: int = 0


class LeaseRevoke(NamedTuple):
    """End a lease, and with it, at one revision, all its keys."""

    id: int


class LeaseKeepAlive(NamedTuple):
    """Let the lease live for its whole TTL from now on."""

    id: int


class LeaseTimeToLive(NamedTuple):
    id: int
    keys: bool = False


class LeaseList(NamedTuple):
    pass


class LeaseRenew(NamedTuple):
    """The leader's lease actor logs that leases may live `until` (cluster clock, ms): (id, until) each.

    Void unless its entry's term is `term`. Without leases it only carries the cluster clock on.
    """

    term: int
    leases: tuple[tuple[int, int], ...]


class LeaseExpire(NamedTuple):
    """The leader's lease actor ends leases, each only if it may still live just `until`: (id, until) each.

    Void unless its entry's term is `term`.
    """

    term: int
    leases: tuple[tuple[int, int], ...]


TxnRequest: TypeAlias = Range | Put | DeleteRange | Txn
Request: TypeAlias = (
    Range
    | Put
    | DeleteRange
    | Txn
    | Compact
    | HashKV
    | Status
    | Snapshot
    | Defragment
    | Alarm
    | MemberList
    | MemberAdd
    | MemberRemove
    | MemberUpdate
    | MemberPromote
    | MoveLeader
    | Publish
    | LeaseGrant
    | LeaseRevoke
    | LeaseKeepAlive
    | LeaseTimeToLive
    | LeaseList
    | LeaseRenew
    | LeaseExpire
)

REQUEST_CLASSES: dict[int, type[Request]] = {
    Op.RANGE: Range,
    Op.PUT: Put,
    Op.DELETE_RANGE: DeleteRange,
    Op.TXN: Txn,
    Op.COMPACT: Compact,
    Op.HASH_KV: HashKV,
    Op.STATUS: Status,
    Op.MEMBER_LIST: MemberList,
    Op.PUBLISH: Publish,
    Op.LEASE_GRANT: LeaseGrant,
    Op.LEASE_REVOKE: LeaseRevoke,
    Op.LEASE_KEEP_ALIVE: LeaseKeepAlive,
    Op.LEASE_TIME_TO_LIVE: LeaseTimeToLive,
    Op.LEASE_LIST: LeaseList,
    Op.LEASE_RENEW: LeaseRenew,
    Op.LEASE_EXPIRE: LeaseExpire,
    Op.MEMBER_ADD: MemberAdd,
    Op.MEMBER_REMOVE: MemberRemove,
    Op.MEMBER_UPDATE: MemberUpdate,
    Op.MEMBER_PROMOTE: MemberPromote,
    Op.MOVE_LEADER: MoveLeader,
    Op.SNAPSHOT: Snapshot,
    Op.DEFRAGMENT: Defragment,
    Op.ALARM: Alarm,
}


class RangeAnswer(NamedTuple):
    """`count` is how many keys the range holds, limit or not; `more`: the limit cut the answer."""

    kvs: tuple[KeyValue, ...]
    more: bool
    count: int  # type: ignore[assignment] # hides tuple's method, as meant


class PutAnswer(NamedTuple):
    """`lease`: the one that a put with a `ttl` made."""

    prev_kv: KeyValue | None = None
    lease: int = 0


class DeleteRangeAnswer(NamedTuple):
    deleted: int
    prev_kvs: tuple[KeyValue, ...] = ()


class TxnAnswer(NamedTuple):
    """`responses`: (Op, answer) for each request of the branch that ran."""

    succeeded: bool
    responses: tuple[tuple[int, TxnAnswerBody], ...]


class CompactAnswer(NamedTuple):
    pass


class HashKVAnswer(NamedTuple):
    hash: int
    compact_revision: int


class StatusAnswer(NamedTuple):
    version: str
    db_size: int
    db_size_in_use: int
    leader: int
    raft_term: int
    raft_index: int
    raft_applied_index: int
    errors: tuple[str, ...]
    is_learner: bool


class AlarmAnswer(NamedTuple):
    """(member id, AlarmType) each: those asked for, or the one changed."""

    alarms: tuple[tuple[int, int], ...]


class DefragmentAnswer(NamedTuple):
    pass


class StorePart(NamedTuple):
    """A chunk of a store: engine keys and values, in their order. `size`: the whole store's on disk, in bytes."""

    pairs: tuple[tuple[bytes, bytes], ...]
    size: int


class Member(NamedTuple):
    """`name` and `client_urls` are empty until the member has published them.

    `is_learner` tells clients that it does not vote now. In the member table of storage and raft it says that it is not
    meant to: a member that is meant to vote and does not yet is catching up.
    """

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool


class MemberListAnswer(NamedTuple):
    members: tuple[Member, ...]


class LeaseGrantAnswer(NamedTuple):
    id: int
    ttl: int


class LeaseRevokeAnswer(NamedTuple):
    pass


class LeaseKeepAliveAnswer(NamedTuple):
    id: int
    ttl: int


class LeaseTimeToLiveAnswer(NamedTuple):
    """`ttl` is what is left, in whole seconds; -1: there is no such lease."""

    id: int
    ttl: int
    granted_ttl: int
    keys: tuple[bytes, ...] = ()


class LeaseListAnswer(NamedTuple):
    leases: tuple[int, ...]


class MemberAddAnswer(NamedTuple):
    member: Member
    members: tuple[Member, ...]


class MembersAnswer(NamedTuple):
    """To MemberRemove, MemberUpdate and MemberPromote: who belongs to the cluster now."""

    members: tuple[Member, ...]


class MoveLeaderAnswer(NamedTuple):
    pass


TxnAnswerBody: TypeAlias = RangeAnswer | PutAnswer | DeleteRangeAnswer | TxnAnswer
AnswerBody: TypeAlias = (
    TxnAnswerBody
    | CompactAnswer
    | HashKVAnswer
    | StatusAnswer
    | StorePart
    | DefragmentAnswer
    | AlarmAnswer
    | MemberListAnswer
    | LeaseGrantAnswer
    | LeaseRevokeAnswer
    | LeaseKeepAliveAnswer
    | LeaseTimeToLiveAnswer
    | LeaseListAnswer
    | MemberAddAnswer
    | MembersAnswer
    | MoveLeaderAnswer
)

ANSWER_CLASSES: dict[int, type[AnswerBody]] = {
    Op.RANGE: RangeAnswer,
    Op.PUT: PutAnswer,
    Op.DELETE_RANGE: DeleteRangeAnswer,
    Op.TXN: TxnAnswer,
    Op.COMPACT: CompactAnswer,
    Op.HASH_KV: HashKVAnswer,
    Op.STATUS: StatusAnswer,
    Op.MEMBER_LIST: MemberListAnswer,
    Op.PUBLISH: CompactAnswer,
    Op.LEASE_GRANT: LeaseGrantAnswer,
    Op.LEASE_REVOKE: LeaseRevokeAnswer,
    Op.LEASE_KEEP_ALIVE: LeaseKeepAliveAnswer,
    Op.LEASE_TIME_TO_LIVE: LeaseTimeToLiveAnswer,
    Op.LEASE_LIST: LeaseListAnswer,
    Op.LEASE_RENEW: CompactAnswer,
    Op.LEASE_EXPIRE: CompactAnswer,
    Op.MEMBER_ADD: MemberAddAnswer,
    Op.MEMBER_REMOVE: MembersAnswer,
    Op.MEMBER_UPDATE: MembersAnswer,
    Op.MEMBER_PROMOTE: MembersAnswer,
    Op.MOVE_LEADER: MoveLeaderAnswer,
    Op.SNAPSHOT: StorePart,
    Op.DEFRAGMENT: DefragmentAnswer,
    Op.ALARM: AlarmAnswer,
}

# The native protocol's envelopes (docs/PROTOCOL.md). Client to gateway:

PROTOCOL_VERSION = 1


class ClientKind(IntEnum):
    """What a client's message is: its second field."""

    REQUESTS = 1
    CREDIT = 2
    CANCEL = 3
    PING = 4
    WATCH = 5
    UNWATCH = 6
    WATCH_CREDIT = 7
    WATCH_PROGRESS = 8


class Requests(NamedTuple):
    """Requests made at once. `requests`: (id, Op, fields) each.

    `session` (16 bytes, or b"" for a client that takes no care of retries) and `id` together name a write for
    good: sent again, on any member, it is applied once. `floor` is the lowest id the client still waits for:
    what lies below is answered and may be forgotten.

    A session's first eight bytes are, big endian, the index of a log entry that some member had applied before the
    session was made up (StatusAnswer.raft_applied_index, or the detail of a SessionExpired), or zeros; the other
    eight are random. So the cluster can tell a new session from one that it has forgotten (core/mvcc/sessions.py).
    """

    session: bytes
    floor: int
    requests: tuple[tuple[int, int, tuple[object, ...]], ...]


class Credit(NamedTuple):
    """The client has taken `chunks` more chunks of the range it asked for as request `id`."""

    id: int
    chunks: int


class Cancel(NamedTuple):
    """The client wants no more chunks of the range it asked for as request `id`."""

    id: int


class Ping(NamedTuple):
    token: int


class Watch(NamedTuple):
    """Tell me what happens in [key, range_end) from `start_revision` on (0: from now on).

    `id`, 1 or more, is the client's; no two watches of one connection share it. `no_put`, `no_delete`: events not
    wanted. `progress_notify`: say now and then how far the store is, when nothing else was to be said. `fragment`: the
    events of one revision may come in several answers where they are large.
    """

    id: int
    key: bytes
    range_end: bytes = b""
    start_revision: int = 0
    prev_kv: bool = False
    no_put: bool = False
    no_delete: bool = False
    progress_notify: bool = False
    fragment: bool = False


class Watches(NamedTuple):
    """Client to gateway, kind WATCH: watches begun at once."""

    watches: tuple[Watch, ...]


class Unwatch(NamedTuple):
    """The client wants no more of the watch `id`; answered by CANCELLED."""

    id: int


class WatchCredit(NamedTuple):
    """The client has taken so many more bytes of messages with watch answers; 0: it is still there."""

    taken: int


class WatchProgress(NamedTuple):
    """How far are all watches of this connection? Answered by PROGRESS, once nothing older is owed to any of them."""


class WatchKind(IntEnum):
    """What a watch answer is: its second field, and what its body is."""

    CREATED = 0  # ()
    EVENTS = 1  # the events of one revision or several, whole and in order: (deleted, KeyValue, prev_kv or None) each
    FRAGMENT = 2  # the same, but more events of the last revision follow
    PROGRESS = 3  # (): all events up to `revision` have been told
    CANCELLED = 4  # (code, compact revision or 0, the revision to resume from): 0 when the client asked for it


# Gateway to client:


class Answers(NamedTuple):
    """`answers`: (id, code, revision, body) each; `code` as in errors.py, `body` its fields (or an error's).

    An error's fields are () or (detail,). Id 0: what came in could not be read as far as a request's id.
    `token` answers a Ping (then `answers` is empty). `watches`: (watch ids, WatchKind, revision, body) each; no message
    holds both answers and watches.
    """

    version: int
    cluster_id: int
    member_id: int
    raft_term: int
    answers: tuple[tuple[int, int, int, object], ...]
    token: int = 0
    watches: tuple[tuple[tuple[int, ...], int, int, object], ...] = ()


# --- 2. raft -------------------------------------------------------------------------------------


class EntryKind(IntEnum):
    BATCH = 0  # body: frames of requests, opened by storage only; empty for a new leader's first entry
    CONF_CHANGE = 1  # body: a packed ConfChange


class Entry(NamedTuple):
    """One slot of the log. `time` is the cluster clock in ms, stamped by the leader; it never runs backwards."""

    index: int  # type: ignore[assignment] # hides tuple's method, as meant
    term: int
    kind: int
    time: int
    body: bytes


class HardState(NamedTuple):
    """What must be on disk before any message that rests on it leaves (Raft, figure 2)."""

    term: int = 0
    vote: int = 0
    commit: int = 0


class ConfState(NamedTuple):
    """Who votes and who only listens, as of the conf change at `index` (0: as bootstrapped).

    `voters_outgoing` is not empty while a joint configuration is in force (Raft section 6).
    """

    voters: tuple[int, ...]
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    index: int = 0  # type: ignore[assignment] # hides tuple's method, as meant


class ConfChangeKind(IntEnum):
    ADD_VOTER = 0
    ADD_LEARNER = 1
    REMOVE = 2
    UPDATE = 3  # same rights, other peer urls


class ConfChange(NamedTuple):
    """`changes`: (ConfChangeKind, member id, peer urls). More than one go through a joint configuration.

    No changes at all means: leave the joint configuration. `context` travels along for the proposer.
    """

    changes: tuple[tuple[int, int, tuple[str, ...]], ...]
    context: bytes = b""


class SnapshotMeta(NamedTuple):
    """The state machine as of `index`: what a follower starts from when the log before it is gone."""

    index: int  # type: ignore[assignment] # hides tuple's method, as meant
    term: int
    time: int
    conf: ConfState


class MessageKind(IntEnum):
    APPEND = 1
    APPEND_ANSWER = 2
    HEARTBEAT = 3
    HEARTBEAT_ANSWER = 4
    PRE_VOTE = 5
    PRE_VOTE_ANSWER = 6
    VOTE = 7
    VOTE_ANSWER = 8
    SNAPSHOT = 9  # "I need a snapshot": a joining member answers an append so; SnapshotChunks follow
    READ_INDEX = 10
    READ_INDEX_ANSWER = 11
    TIMEOUT_NOW = 12


class Message(NamedTuple):
    """What one raft core says to another. Unused fields keep their defaults.

    `index` and `log_term` name a place in the log (of the entry before `entries`, of the candidate's last
    entry, of the follower's match); `reject_hint` and `log_term` of a rejecting append answer tell where to
    look next; `context` ties a read or heartbeat answer to its question.
    """

    kind: int
    to: int
    sender: int
    term: int
    index: int = 0  # type: ignore[assignment] # hides tuple's method, as meant
    log_term: int = 0
    commit: int = 0
    entries: tuple[Entry, ...] = ()
    reject: bool = False
    reject_hint: int = 0
    context: int = 0


# Beside raft's own messages, members tell each other (all inside a PeerFrame):


class Rejoin(NamedTuple):
    """From a member that keeps nothing on disk and has started: whatever it once acknowledged, it has forgotten.

    `incarnation` is another after each start: who was given its vote back and asks on has but not heard of it yet.
    `fresh`: it has not voted since it started, and its log is empty.
    """

    incarnation: int = 0
    fresh: bool = False


class RejoinAnswer(NamedTuple):
    """`fresh`: neither has the member asked voted, nor does its log hold anything; it is starting as well.

    `learner_as_of` (from the leader): the asking member is a learner, in the configuration of that index.
    """

    fresh: bool
    learner_as_of: int | None = None


class Join(NamedTuple):
    """From a server that was added as a member and starts with nothing: who am I? Told by its peer urls."""

    peer_urls: tuple[str, ...]


class JoinAnswer(NamedTuple):
    """Sent to the member's own peer url, which the member table has."""

    cluster_id: int
    member_id: int
    members: tuple[Member, ...]


class Dismissed(NamedTuple):
    """To a member that was removed and does not know it yet: it is to end."""


class Newcomer(NamedTuple):
    """From a member whose disk is empty: have I been here before?"""


class NewcomerAnswer(NamedTuple):
    """`known`: the asking member has once been at work in this cluster, and said so through the log."""

    known: bool


class Forward(NamedTuple):
    """Frames of proposals that came in at a follower, for the leader's log. `members`: as in Propose."""

    frames: tuple[bytes, ...]
    members: bool = False


class ForwardRefused(NamedTuple):
    """The leader did not take these frames into its log: nothing of them will ever be applied."""

    code: int
    frames: tuple[bytes, ...]


class SnapshotChunk(NamedTuple):
    """Part `sequence` (from 0) of the snapshot `meta` of the sender; `pairs`: engine keys and values.

    `digest` runs over all chunks so far, so that chunk `sequence` proves those before it.
    """

    meta: SnapshotMeta
    stream: int
    sequence: int
    pairs: tuple[tuple[bytes, bytes], ...]
    digest: int
    last: bool


class SnapshotAck(NamedTuple):
    """The receiver wants chunk `wanted` of `stream` next, and no longer needs those before it."""

    stream: int
    wanted: int
    refused: bool = False


# --- 3. actor mail -------------------------------------------------------------------------------


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
    """gateway -> raft: reads that wait for a linearizable index (or, `local`, for raft's stamp only)."""

    frame: bytes
    local: bool = False


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


class StorageAt(NamedTuple):
    """storage -> raft: what is applied, what of it would survive power loss; `feed`: feed me from applied + 1.

    `base` (sent with `feed`) is the place the store has reached, as a snapshot's: what raft's log starts
    from where it ends before `applied`, as after a crash between installing a snapshot and noting it in the log.
    """

    applied: int
    durable: int
    feed: bool = False
    base: SnapshotMeta | None = None


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
    """storage -> gateway: (gid, a packed `Answers`, is it the group's last) each."""

    incarnation: int
    answers: tuple[tuple[int, bytes, bool], ...]


class StreamCredit(NamedTuple):
    """gateway -> storage: the client behind group `gid` takes `chunks` more chunks of request `id`; 0: none ever."""

    gid: int
    id: int
    chunks: int


class LeaderIs(NamedTuple):
    """raft -> gateway, lease: who leads, in which term (leader 0: nobody).

    `clock`: what to add to this machine's monotonic clock (ms) to have the cluster clock, where this member leads.
    """

    term: int
    leader: int
    clock: int = 0


class Event(NamedTuple):
    """What happened to one key: a put (kv as it is now) or, `deleted`, its end (kv holds key and mod_revision)."""

    deleted: bool
    kv: KeyValue
    prev_kv: KeyValue | None


class Applied(NamedTuple):
    """storage -> watch: the revision reached, and the events of all revisions after `since`: (revision, events) each.

    A `since` beyond what the watch actor knows means that events between were not told (nobody had asked for them yet,
    or a queue was full): they are to be read as history. `term` goes into answers. `at_once` and `prev_kv`: as storage
    knows what is needed (`WatchNeeds`), it tells events at once, and with what they superseded.
    """

    revision: int
    events: tuple[tuple[int, tuple[Event, ...]], ...]
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
    events: tuple[tuple[int, tuple[Event, ...]], ...]
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
    """gateway -> lease, and from there to the leader's lease actor: keep-alives. `frame` is a packed Frame."""

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
    """lease -> raft, then raft -> raft: an encoded message for another member's `actor` ("lease" or "gateway")."""

    member: int
    actor: str
    message: bytes


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
