"""What clients and members say to each other: requests, answers, and the envelopes they travel in (PROTOCOL.md).

etcd's names and meanings (https://etcd.io/docs/v3.5/learning/api/), as positional records; they go unchanged through
the raft log into storage. How records lie on the wire: messages.py.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final, NamedTuple, TypeAlias

from zkv.wire.auth import AUTH_RECORDS, AuthAnswer, AuthRequest
from zkv.wire.quota import QUOTA_RECORDS, QuotaRequest, QuotaResponse
from zkv.wire.shapes import UNOPENED, Int64, Natural, UInt64

TXN_DEPTH_MAX: Final = 32
"""Txns within txns. etcd stops where its count of operations runs out (up to 128 deep); the stack is ours."""


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
    QUOTA_SET = 25
    QUOTA_DELETE = 26
    QUOTA_GET = 27
    QUOTA_LIST = 28
    QUOTA_COUNT = 29  # by members only
    AUTH_ENABLE = 40
    AUTH_DISABLE = 41
    AUTH_STATUS = 42
    AUTHENTICATE = 43  # answered by the door
    USER_ADD = 44
    USER_GET = 45
    USER_LIST = 46
    USER_DELETE = 47
    USER_CHANGE_PASSWORD = 48
    USER_GRANT_ROLE = 49
    USER_REVOKE_ROLE = 50
    ROLE_ADD = 51
    ROLE_GET = 52
    ROLE_LIST = 53
    ROLE_DELETE = 54
    ROLE_GRANT_PERMISSION = 55
    ROLE_REVOKE_PERMISSION = 56
    LOGIN = 57  # by doors only
    FENCE = 60  # by members only
    LOG = 61  # answered by the asked member's raft actor
    LOOK = 62


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
    limit: Int64 = 0
    revision: Int64 = 0
    sort_order: Annotated[int, SortOrder] = SortOrder.NONE
    sort_target: Annotated[int, SortTarget] = SortTarget.KEY
    serializable: bool = False
    keys_only: bool = False
    count_only: bool = False
    min_mod_revision: Int64 = 0
    max_mod_revision: Int64 = 0
    min_create_revision: Int64 = 0
    max_create_revision: Int64 = 0


class Put(NamedTuple):
    """`ttl` seconds, if not 0: the key lives so long, by a lease of its own (then `lease` is 0)."""

    key: bytes
    value: bytes
    lease: Int64 = 0
    prev_kv: bool = False
    ignore_value: bool = False
    ignore_lease: bool = False
    ttl: Natural = 0


class DeleteRange(NamedTuple):
    key: bytes
    range_end: bytes = b""
    prev_kv: bool = False


class Compare(NamedTuple):
    """`target` of each key in [key, range_end) stands in relation `result` to `operand`.

    `operand` is bytes for VALUE and an int otherwise. A missing key has version, create and mod
    revision 0 and no value (a VALUE comparison with it is false).
    """

    result: Annotated[int, CompareResult]
    target: Annotated[int, CompareTarget]
    key: bytes
    operand: int | bytes
    range_end: bytes = b""


class Txn(NamedTuple):
    """If all `compares` hold, `success`, otherwise `failure`: each a tuple of (Op, request)."""

    compares: tuple[Compare, ...]
    success: Branch
    failure: Branch


class Compact(NamedTuple):
    """Forget what was superseded at or before `revision`; `physical`: answer when it is gone from the disk too."""

    revision: Int64
    physical: bool = False


class HashKV(NamedTuple):
    """The hash of all revisions up to `revision` (0: the present one) that compaction has left."""

    revision: Int64 = 0


class Status(NamedTuple):
    pass


class Look(NamedTuple):
    """What the processes of the member that is asked tell of themselves; answered by its gateway."""


class Alarm(NamedTuple):
    """What alarms there are, of one member and kind or (0) of all; or one more, or one less of them."""

    action: Annotated[int, AlarmAction] = AlarmAction.GET
    member_id: UInt64 = 0
    alarm: Annotated[int, AlarmType] = AlarmType.NONE


class Fence(NamedTuple):
    """The leader's storage logs that `member_id` holds other data than the majority, as of `revision`."""

    member_id: UInt64
    revision: Natural


class Defragment(NamedTuple):
    """Give back to the disk, on the member that is asked, what is not used of it; answered when that is done."""


class Snapshot(NamedTuple):
    """The whole store of the member that is asked, as it is now, in chunks.

    `sessions`: with those of the clients, without which the log that follows cannot be applied to it.
    """

    sessions: bool = False


class Log(NamedTuple):
    """Committed entries of the log from index `first` on, a bounded part; 0: none, only tell how far it is."""

    first: Natural = 0


class MemberList(NamedTuple):
    linearizable: bool = True


class MemberAdd(NamedTuple):
    """A new member at `peer_urls`. One that shall vote begins as a learner, too, and votes once it has caught up."""

    peer_urls: tuple[str, ...]
    is_learner: bool = False


class MemberRemove(NamedTuple):
    id: UInt64


class MemberUpdate(NamedTuple):
    id: UInt64
    peer_urls: tuple[str, ...]


class MemberPromote(NamedTuple):
    """Let a learner that has caught up vote."""

    id: UInt64


class MoveLeader(NamedTuple):
    """Hand the leadership over to the member `target`."""

    target: UInt64


class Publish(NamedTuple):
    """A member tells the others its name and client urls, as etcd's members do once they run."""

    member_id: UInt64
    name: str
    client_urls: tuple[str, ...]


class LeaseGrant(NamedTuple):
    """A lease of `ttl` seconds. `id` 0: one is chosen. `ttl_min` is the door's: a client's must be 0.

    `remaining`: it has so many seconds left, as one that was granted before, elsewhere; 0: all of them.
    """

    ttl: Int64
    id: Int64 = 0
    ttl_min: Int64 = 0
    remaining: Int64 = 0


class LeaseRevoke(NamedTuple):
    """End a lease, and with it, at one revision, all its keys."""

    id: Int64


class LeaseKeepAlive(NamedTuple):
    """Let the lease live for its whole TTL from now on."""

    id: Int64


class LeaseTimeToLive(NamedTuple):
    id: Int64
    keys: bool = False


class LeaseList(NamedTuple):
    pass


class LeaseRenew(NamedTuple):
    """The leader's lease actor logs that leases may live `until` (cluster clock, ms): (id, until) each.

    Void unless its entry's term is `term`. Without leases it only carries the cluster clock on.
    """

    term: Natural
    leases: tuple[tuple[Int64, Natural], ...]


class LeaseExpire(NamedTuple):
    """The leader's lease actor ends leases, each only if it may still live just `until`: (id, until) each.

    Void unless its entry's term is `term`.
    """

    term: Natural
    leases: tuple[tuple[Int64, Natural], ...]


TxnRequest: TypeAlias = Range | Put | DeleteRange | Txn
Branch: TypeAlias = Annotated[tuple[tuple[int, TxnRequest], ...], UNOPENED]
"""What each of its requests is, its Op says (groups.py)."""
Request: TypeAlias = (
    Range
    | Put
    | DeleteRange
    | Txn
    | Compact
    | HashKV
    | Status
    | Look
    | Snapshot
    | Log
    | Defragment
    | Alarm
    | Fence
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
    | AuthRequest
    | QuotaRequest
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
    Op.FENCE: Fence,
    Op.LOG: Log,
    Op.LOOK: Look,
    **{Op.QUOTA_SET + at: request for at, (request, _) in enumerate(QUOTA_RECORDS)},
    **{Op.AUTH_ENABLE + at: request for at, (request, _) in enumerate(AUTH_RECORDS)},
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


class LookAnswer(NamedTuple):
    """(process, values) each, as in zkv/gauges.py; "processes" is what the system tells of them. For people: which
    values there are may change with any version.
    """

    told: tuple[tuple[str, tuple[tuple[str, str, int | tuple[int, ...]], ...]], ...]


class AlarmAnswer(NamedTuple):
    """(member id, AlarmType) each: those asked for, or the one changed."""

    alarms: tuple[tuple[int, int], ...]


class DefragmentAnswer(NamedTuple):
    pass


class LogPart(NamedTuple):
    """`commit`: the last one committed. `time`: what the cluster clock shows, ms. `entries`: as they lie in the log."""

    commit: int
    time: int
    entries: tuple[bytes, ...]


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
    | LookAnswer
    | StorePart
    | LogPart
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
    | AuthAnswer
    | QuotaResponse
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
    Op.FENCE: AlarmAnswer,
    Op.LOG: LogPart,
    Op.LOOK: LookAnswer,
    **{Op.QUOTA_SET + at: answer for at, (_, answer) in enumerate(QUOTA_RECORDS)},
    **{Op.AUTH_ENABLE + at: answer for at, (_, answer) in enumerate(AUTH_RECORDS)},
}
