"""Every check of a request, shared by the doors.

A request arrives as (op, fields): what a client's bytes unpacked to, or a record of wire/messages.py, which is a
tuple too. `check` either raises a RequestError, and nothing else whatever came in, or tells which way
the request takes through the node. Behind this module requests are trusted: types are exact, integers fit into 64
bits, every key is there.

Three layers of checks, in etcd's order, so that a request with two faults gets etcd's answer:

1. *Shape*: as many fields as the record has, each of exactly its type (True is no integer). All shapes a
   request may have are computed once, as a set of tuples of types; fields with defaults may be left off at the end.
2. *Fields*: what etcd's checkPutRequest and its sisters refuse.
3. *Keys of a txn*: no run of it may write a key twice (a txn is one revision, and a key has one value
   there). Found as in etcd, by walking the tree of branches with the sets of keys put and ranges deleted;
   its order matters in one place, see `_written`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NoReturn

from zkv.errors import (
    BadMemberUrls,
    ConfigError,
    DuplicateKey,
    EmptyKey,
    InvalidRequest,
    InvalidSortOption,
    LeaseProvided,
    PermissionDenied,
    TooManyOps,
    ValueProvided,
)
from zkv.urls import socket_endpoint
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zkv.config import Limits

# The ways through a node, the strictest first: a txn goes the strictest way of its parts. Plain
# integers, because they are compared for every request.
WRITE: Final = 1
"""Into the log."""
LINEARIZABLE: Final = 2
"""Past raft, which makes sure that this member's state is not older than the request."""
STAMPED: Final = 3
"""Past raft, which adds what it knows and asks nobody."""
LOCAL: Final = 4
"""Straight to this member's storage."""
LEASE: Final = 5
"""To the leader's lease actor: what keeps leases alive."""
MEMBERS: Final = 6
"""Into the log, once the leader's raft has looked at it: what changes the membership."""
RAFT: Final = 7
"""To the leader's raft, or this member's, which answers itself."""
LOOK: Final = 8
"""To the gateway, which gathers what the processes of the member tell."""
STREAMED: Final = 16
"""Added to LINEARIZABLE or LOCAL for a range whose answer may come in chunks."""
FILLED: Final = 32
"""Added to WRITE for a request that `filled` is to complete before it goes on."""
PASSWORD: Final = 64
"""Added to WRITE for a request with a password, which goes on without it, or not at all (logins.py)."""

GRANTING: Final = 128
"""Added to WRITE, by envelope.py, for a group that asks for leases among other things."""

INT64_MAX: Final = (1 << 63) - 1
INT64_MIN: Final = -(1 << 63)
PEER_URLS_MAX: Final = 16
URL_CHARS_MAX: Final = 512
NAME_CHARS_MAX: Final = 1024
"""Of users and roles."""
PASSWORD_CHARS_MAX: Final = 4096
TXN_DEPTH_MAX: Final = 32
"""Txns within txns. etcd stops where its count of operations runs out (up to 128 deep); the stack is ours."""

_SORT_ORDERS = frozenset(map(int, m.SortOrder))
_SORT_TARGETS = frozenset(map(int, m.SortTarget))
_COMPARE_RESULTS = frozenset(map(int, m.CompareResult))
_COMPARE_TARGETS = frozenset(map(int, m.CompareTarget))
_FROM_KEY = b"\0"


def check(op: object, fields: object, limits: Limits) -> int:
    """The way a client's request takes: WRITE to LOOK, perhaps with STREAMED, FILLED or PASSWORD.

    Raises a RequestError for whatever is no request or may not be asked.
    """
    checker = _CHECKS.get(op) if isinstance(op, int) and op is not True else None
    if checker is None:
        raise InvalidRequest("unknown operation")
    if not isinstance(fields, tuple):
        raise InvalidRequest("fields are no array")
    return checker(fields, limits)


# --- shapes --------------------------------------------------------------------------------------


def _shapes(record: Any, *types: type) -> frozenset[tuple[type, ...]]:
    """Every tuple of types `record` may be sent as."""
    assert len(types) == len(record._fields)
    required = len(types) - len(record._field_defaults)
    return frozenset(types[:count] for count in range(required, len(types) + 1))


_RANGE = _shapes(m.Range, bytes, bytes, int, int, int, int, bool, bool, bool, int, int, int, int)
_PUT = _shapes(m.Put, bytes, bytes, int, bool, bool, bool, int)
_DELETE_RANGE = _shapes(m.DeleteRange, bytes, bytes, bool)
_TXN = _shapes(m.Txn, tuple, tuple, tuple)
_COMPARE = _shapes(m.Compare, int, int, bytes, int, bytes) | _shapes(m.Compare, int, int, bytes, bytes, bytes)
_COMPACT = _shapes(m.Compact, int, bool)
_HASH_KV = _shapes(m.HashKV, int)
_STATUS = _shapes(m.Status)
_LOOK = _shapes(m.Look)
_SNAPSHOT = _shapes(m.Snapshot, bool)
_LOG = _shapes(m.Log, int)
_MEMBER_LIST = _shapes(m.MemberList, bool)
_LEASE_GRANT = _shapes(m.LeaseGrant, int, int, int, int)
_LEASE_REVOKE = _shapes(m.LeaseRevoke, int)
_LEASE_KEEP_ALIVE = _shapes(m.LeaseKeepAlive, int)
_LEASE_TIME_TO_LIVE = _shapes(m.LeaseTimeToLive, int, bool)
_LEASE_LIST = _shapes(m.LeaseList)
_MEMBER_ADD = _shapes(m.MemberAdd, tuple, bool)
_MEMBER_UPDATE = _shapes(m.MemberUpdate, int, tuple)
_ALARM = _shapes(m.Alarm, int, int, int)
_ALARM_ACTIONS = frozenset(map(int, m.AlarmAction))
_ALARM_TYPES = frozenset(map(int, m.AlarmType))
_QUOTA_SET = _shapes(m.QuotaSet, bytes, int, int, int)
_QUOTA_PREFIX = _shapes(m.QuotaGet, bytes)
_ONE_MEMBER = _shapes(m.MemberRemove, int)
_WATCH = _shapes(m.Watch, int, bytes, bytes, int, bool, bool, bool, bool, bool)


def check_watch(fields: object) -> None:
    """A watch that a client asks for. Raises InvalidRequest. (Which ids are in use, the watch actor knows.)"""
    if not isinstance(fields, tuple):
        raise InvalidRequest("a watch is no array")
    if tuple(map(type, fields)) not in _WATCH:
        _misfit(fields, _WATCH, "watch")
    if not 0 < fields[0] <= INT64_MAX or (len(fields) > 3 and not 0 <= fields[3] <= INT64_MAX):
        raise InvalidRequest("an integer of a watch is out of bounds")


def _misfit(fields: tuple[Any, ...], shapes: frozenset[tuple[type, ...]], what: str) -> None:
    """For what is not in `shapes` at first sight: a door of ours may use names of messages.py for numbers.

    Raises InvalidRequest if it does not fit either way.
    """
    if tuple(int if issubclass(cls, IntEnum) else cls for cls in map(type, fields)) not in shapes:
        raise InvalidRequest(f"fields of a {what}")


def _check_int64(numbers: Iterable[int]) -> None:
    for number in numbers:
        if not INT64_MIN <= number <= INT64_MAX:
            raise InvalidRequest("an integer is out of bounds")


# --- fields --------------------------------------------------------------------------------------

_RANGE_DEFAULTS = (0, 0, 0, 0, False, False, False, 0, 0, 0, 0)
# What follows key and range_end in a range that asks for nothing special, and its way: nearly all there are.
_PLAIN_RANGES = {_RANGE_DEFAULTS[:count]: LINEARIZABLE for count in range(len(_RANGE_DEFAULTS) + 1)} | {
    (*_RANGE_DEFAULTS[:4], True, *_RANGE_DEFAULTS[5:count]): LOCAL for count in range(5, len(_RANGE_DEFAULTS) + 1)
}


def _range(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _RANGE:
        _misfit(fields, _RANGE, "range")
    if not fields[0]:
        raise EmptyKey
    way = _PLAIN_RANGES.get(fields[2:])
    if way is not None:
        return way
    _check_int64(fields[2:6])
    _check_int64(fields[9:])
    if len(fields) > 4 and fields[4] not in _SORT_ORDERS:
        raise InvalidSortOption
    if len(fields) > 5 and fields[5] not in _SORT_TARGETS:
        raise InvalidSortOption
    return LOCAL if len(fields) > 6 and fields[6] else LINEARIZABLE


def _range_alone(fields: tuple[Any, ...], limits: Limits) -> int:
    way = _range(fields, limits)
    many = len(fields) > 1 and fields[1] and not (len(fields) > 8 and fields[8])  # more than one key, not only counted
    return way | STREAMED if many else way


def _put(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _PUT:
        _misfit(fields, _PUT, "put")
    if not fields[0]:
        raise EmptyKey
    if len(fields) > 2:
        _check_int64(fields[2:3])
        if len(fields) > 4 and fields[4] and fields[1]:
            raise ValueProvided
        if len(fields) > 5 and fields[5] and fields[2]:
            raise LeaseProvided
        if len(fields) > 6 and fields[6]:
            _check_int64(fields[6:])
            if fields[6] < 0:
                raise InvalidRequest("a ttl below 0")
            if fields[2] or fields[5]:
                raise InvalidRequest("a put with a ttl has a lease of its own")
    return WRITE


def _delete_range(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _DELETE_RANGE:
        _misfit(fields, _DELETE_RANGE, "delete")
    if not fields[0]:
        raise EmptyKey
    return WRITE


def _compare(fields: object) -> None:
    if not isinstance(fields, tuple):
        raise InvalidRequest("a compare is no array")
    if tuple(map(type, fields)) not in _COMPARE:
        _misfit(fields, _COMPARE, "compare")
    if not fields[2]:
        raise EmptyKey
    if fields[0] not in _COMPARE_RESULTS or fields[1] not in _COMPARE_TARGETS:
        raise InvalidRequest("fields of a compare")
    if isinstance(fields[3], bytes) != (fields[1] == m.CompareTarget.VALUE):
        raise InvalidRequest("operand of a compare")
    if isinstance(fields[3], int):
        _check_int64(fields[3:4])


def _txn_alone(fields: tuple[Any, ...], limits: Limits) -> int:
    way = _txn(fields, limits, limits.txn_ops_max, 0)
    if way == WRITE:
        _written(fields[1])
        _written(fields[2])
    return way


def _txn(fields: tuple[Any, ...], limits: Limits, ops_max: int, depth: int) -> int:
    """`ops_max`: what the txns around this one have left of its operations (etcd:checkTxnRequest)."""
    if tuple(map(type, fields)) not in _TXN:
        _misfit(fields, _TXN, "txn")
    compares, success, failure = fields
    ops = max(len(compares), len(success), len(failure))
    if ops > ops_max or depth > TXN_DEPTH_MAX:
        raise TooManyOps
    for compare in compares:
        _compare(compare)
    strictest = LOCAL if success or failure else LINEARIZABLE  # compares alone still want the present
    for branch in (success, failure):
        for request in branch:
            if not isinstance(request, tuple) or len(request) != 2 or not isinstance(request[1], tuple):
                raise InvalidRequest("an operation of a txn")
            op, inner = request
            checker = _CHECKS_IN_TXN.get(op) if isinstance(op, int) and op is not True else None
            if checker is not None:
                way = checker(inner, limits)
            elif op == m.Op.TXN:
                way = _txn(inner, limits, ops_max - ops, depth + 1)
            else:
                raise InvalidRequest("an operation no txn can hold")
            strictest = min(strictest, way)
    return strictest


def _compact(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _COMPACT:
        _misfit(fields, _COMPACT, "compaction")
    _check_int64(fields[:1])
    return WRITE


def _hash_kv(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _HASH_KV:
        _misfit(fields, _HASH_KV, "hash")
    _check_int64(fields)
    return LOCAL


def _status(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _STATUS:
        _misfit(fields, _STATUS, "status")
    return STAMPED


def _look(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _LOOK:
        _misfit(fields, _LOOK, "look")
    return LOOK


def _alarm(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _ALARM:
        _misfit(fields, _ALARM, "alarm")
    if fields and fields[0] not in _ALARM_ACTIONS:
        raise InvalidRequest("an alarm's action")
    if len(fields) > 1:
        _check_member_id(fields[1])
    if len(fields) > 2 and fields[2] not in _ALARM_TYPES:
        raise InvalidRequest("an alarm's kind")
    return WRITE if fields and fields[0] != m.AlarmAction.GET else LINEARIZABLE


def _defragment(fields: tuple[Any, ...], _limits: Limits) -> int:
    if fields:
        raise InvalidRequest("fields of a defragment")
    return LOCAL | STREAMED  # it may take longer than any deadline


def _snapshot(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _SNAPSHOT:
        _misfit(fields, _SNAPSHOT, "snapshot")
    return LOCAL | STREAMED


def _log(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _LOG:
        _misfit(fields, _LOG, "log")
    if len(fields) > 0 and not 0 <= fields[0] <= INT64_MAX:
        raise InvalidRequest("an index is out of bounds")
    return RAFT


def _member_list(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _MEMBER_LIST:
        _misfit(fields, _MEMBER_LIST, "member list")
    return LINEARIZABLE if not fields or fields[0] else LOCAL


def _peer_urls(urls: object) -> None:
    if not isinstance(urls, tuple) or not 0 < len(urls) <= PEER_URLS_MAX:
        raise BadMemberUrls
    for url in urls:
        if not isinstance(url, str) or len(url) > URL_CHARS_MAX:
            raise BadMemberUrls
        try:
            socket_endpoint(url)
        except ConfigError as error:
            raise BadMemberUrls(error.detail) from None


def _member_add(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _MEMBER_ADD:
        _misfit(fields, _MEMBER_ADD, "member add")
    _peer_urls(fields[0])
    return MEMBERS


def _member_update(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _MEMBER_UPDATE:
        _misfit(fields, _MEMBER_UPDATE, "member update")
    _check_member_id(fields[0])
    _peer_urls(fields[1])
    return MEMBERS


def _one_member(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _ONE_MEMBER:
        _misfit(fields, _ONE_MEMBER, "member id")
    _check_member_id(fields[0])
    return MEMBERS


def _move_leader(fields: tuple[Any, ...], limits: Limits) -> int:
    _one_member(fields, limits)
    return RAFT


def _check_member_id(member: int) -> None:
    if not 0 <= member < 1 << 64:
        raise InvalidRequest("a member id is out of bounds")


def _lease_grant(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _LEASE_GRANT:
        _misfit(fields, _LEASE_GRANT, "lease grant")
    _check_int64(fields)
    if len(fields) > 2 and fields[2]:
        raise InvalidRequest("the least TTL is the member's to say")
    if len(fields) > 3 and fields[3] < 0:
        raise InvalidRequest("a lease has no less than nothing left")
    return WRITE | FILLED


def filled(op: int, fields: tuple[Any, ...], limits: Limits) -> tuple[Any, ...]:
    """The fields that a checked request whose way is FILLED goes on with."""
    assert op == m.Op.LEASE_GRANT, "nothing else is to be filled in"
    grant = m.LeaseGrant(*fields)._replace(ttl_min=limits.lease_ttl_min)
    return grant if grant.remaining else grant[:3]  # as members have it that know no more


def _lease_revoke(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _LEASE_REVOKE:
        _misfit(fields, _LEASE_REVOKE, "lease revoke")
    _check_int64(fields)
    return WRITE


def _lease_keep_alive(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _LEASE_KEEP_ALIVE:
        _misfit(fields, _LEASE_KEEP_ALIVE, "keep-alive")
    _check_int64(fields)
    return LEASE


def _lease_time_to_live(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _LEASE_TIME_TO_LIVE:
        _misfit(fields, _LEASE_TIME_TO_LIVE, "lease time to live")
    _check_int64(fields[:1])
    return LINEARIZABLE


def _lease_list(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _LEASE_LIST:
        _misfit(fields, _LEASE_LIST, "lease list")
    return LINEARIZABLE


# --- prefix policies -------------------------------------------------------------------------------


def _quota_set(fields: tuple[Any, ...], limits: Limits) -> int:
    if tuple(map(type, fields)) not in _QUOTA_SET:
        _misfit(fields, _QUOTA_SET, "quota")
    if not all(m.KEPT <= limit <= INT64_MAX for limit in fields[1:]):
        raise InvalidRequest("a limit of a quota is out of bounds")
    _quota_prefix(fields[:1], limits)
    return WRITE


def _quota_delete(fields: tuple[Any, ...], limits: Limits) -> int:
    _quota_prefix(fields, limits)
    return WRITE


def _quota_prefix(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _QUOTA_PREFIX:
        _misfit(fields, _QUOTA_PREFIX, "quota's prefix")
    if len(fields[0]) > m.QUOTA_PREFIX_BYTES_MAX:
        raise InvalidRequest(f"the prefix of a quota is longer than {m.QUOTA_PREFIX_BYTES_MAX} bytes")
    return LINEARIZABLE


def _quota_list(fields: tuple[Any, ...], _limits: Limits) -> int:
    if fields:
        raise InvalidRequest("fields of a list of quotas")
    return LINEARIZABLE


# --- users and roles -----------------------------------------------------------------------------


def _names(op: m.Op, *types: type, way: int = WRITE) -> Callable[[tuple[Any, ...], Limits], int]:
    """A check of a request about users or roles, whose fields are of these types."""
    shapes = _shapes(m.REQUEST_CLASSES[op], *types)
    what = op.name.lower().replace("_", " ")
    password = m.REQUEST_CLASSES[op]._fields.index("password") if way & PASSWORD else -1

    def check_names(fields: tuple[Any, ...], _limits: Limits) -> int:
        if tuple(map(type, fields)) not in shapes:
            _misfit(fields, shapes, what)
        for at, field in enumerate(fields):
            if isinstance(field, str) and len(field) > (PASSWORD_CHARS_MAX if at == password else NAME_CHARS_MAX):
                raise InvalidRequest(f"a name or password of a {what} is too long")
            if isinstance(field, str) and at != password and not _is_text(field):
                raise InvalidRequest(f"a name of a {what} is no text")
        return way

    return check_names


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _user_add(fields: tuple[Any, ...], limits: Limits) -> int:
    way = _user_add_names(fields, limits)
    if len(fields) > 3 and fields[3]:
        raise InvalidRequest("the hash of a password is the member's to say")
    return way


def _user_change_password(fields: tuple[Any, ...], limits: Limits) -> int:
    way = _user_change_password_names(fields, limits)
    if len(fields) > 2 and fields[2]:
        raise InvalidRequest("the hash of a password is the member's to say")
    return way


def _role_grant(fields: tuple[Any, ...], limits: Limits) -> int:
    way = _role_grant_names(fields, limits)
    if fields[1] not in _PERMISSION_KINDS:
        raise InvalidRequest("kind of a permission")
    return way


_user_add_names = _names(m.Op.USER_ADD, str, str, bool, bytes, way=WRITE | PASSWORD)
_user_change_password_names = _names(m.Op.USER_CHANGE_PASSWORD, str, str, bytes, way=WRITE | PASSWORD)
_role_grant_names = _names(m.Op.ROLE_GRANT_PERMISSION, str, int, bytes, bytes)
_PERMISSION_KINDS = frozenset(map(int, m.PermissionKind))


def _members_only(_fields: tuple[Any, ...], _limits: Limits) -> NoReturn:
    raise PermissionDenied("members only")


_CHECKS: dict[int, Callable[[tuple[Any, ...], Limits], int]] = {
    int(m.Op.RANGE): _range_alone,
    int(m.Op.PUT): _put,
    int(m.Op.DELETE_RANGE): _delete_range,
    int(m.Op.TXN): _txn_alone,
    int(m.Op.COMPACT): _compact,
    int(m.Op.HASH_KV): _hash_kv,
    int(m.Op.STATUS): _status,
    int(m.Op.LOOK): _look,
    int(m.Op.SNAPSHOT): _snapshot,
    int(m.Op.DEFRAGMENT): _defragment,
    int(m.Op.ALARM): _alarm,
    int(m.Op.QUOTA_SET): _quota_set,
    int(m.Op.QUOTA_DELETE): _quota_delete,
    int(m.Op.QUOTA_GET): _quota_prefix,
    int(m.Op.QUOTA_LIST): _quota_list,
    int(m.Op.QUOTA_COUNT): _members_only,
    int(m.Op.MEMBER_LIST): _member_list,
    int(m.Op.MEMBER_ADD): _member_add,
    int(m.Op.MEMBER_REMOVE): _one_member,
    int(m.Op.MEMBER_UPDATE): _member_update,
    int(m.Op.MEMBER_PROMOTE): _one_member,
    int(m.Op.MOVE_LEADER): _move_leader,
    int(m.Op.PUBLISH): _members_only,
    int(m.Op.LEASE_GRANT): _lease_grant,
    int(m.Op.LEASE_REVOKE): _lease_revoke,
    int(m.Op.LEASE_KEEP_ALIVE): _lease_keep_alive,
    int(m.Op.LEASE_TIME_TO_LIVE): _lease_time_to_live,
    int(m.Op.LEASE_LIST): _lease_list,
    int(m.Op.LEASE_RENEW): _members_only,
    int(m.Op.LEASE_EXPIRE): _members_only,
    int(m.Op.FENCE): _members_only,
    int(m.Op.LOG): _log,
    int(m.Op.AUTH_ENABLE): _names(m.Op.AUTH_ENABLE),
    int(m.Op.AUTH_DISABLE): _names(m.Op.AUTH_DISABLE),
    int(m.Op.AUTH_STATUS): _names(m.Op.AUTH_STATUS, way=LINEARIZABLE),
    int(m.Op.AUTHENTICATE): _names(m.Op.AUTHENTICATE, str, str, way=WRITE | PASSWORD),
    int(m.Op.USER_ADD): _user_add,
    int(m.Op.USER_GET): _names(m.Op.USER_GET, str, way=LINEARIZABLE),
    int(m.Op.USER_LIST): _names(m.Op.USER_LIST, way=LINEARIZABLE),
    int(m.Op.USER_DELETE): _names(m.Op.USER_DELETE, str),
    int(m.Op.USER_CHANGE_PASSWORD): _user_change_password,
    int(m.Op.USER_GRANT_ROLE): _names(m.Op.USER_GRANT_ROLE, str, str),
    int(m.Op.USER_REVOKE_ROLE): _names(m.Op.USER_REVOKE_ROLE, str, str),
    int(m.Op.ROLE_ADD): _names(m.Op.ROLE_ADD, str),
    int(m.Op.ROLE_GET): _names(m.Op.ROLE_GET, str, way=LINEARIZABLE),
    int(m.Op.ROLE_LIST): _names(m.Op.ROLE_LIST, way=LINEARIZABLE),
    int(m.Op.ROLE_DELETE): _names(m.Op.ROLE_DELETE, str),
    int(m.Op.ROLE_GRANT_PERMISSION): _role_grant,
    int(m.Op.ROLE_REVOKE_PERMISSION): _names(m.Op.ROLE_REVOKE_PERMISSION, str, bytes, bytes),
    int(m.Op.LOGIN): _members_only,
}
_CHECKS_IN_TXN: dict[int, Callable[[tuple[Any, ...], Limits], int]] = {
    int(m.Op.RANGE): _range,
    int(m.Op.PUT): _put,
    int(m.Op.DELETE_RANGE): _delete_range,
}


# --- keys of a txn ---------------------------------------------------------------------------------


class _Intervals:
    """Half-open intervals of keys, kept disjoint and in order; intervals that meet become one."""

    def __init__(self) -> None:
        self.starts: list[bytes] = []
        self.ends: list[bytes] = []

    def add(self, start: bytes, end: bytes) -> None:
        first = bisect_left(self.ends, start)
        last = bisect_right(self.starts, end)
        if first < last:
            start = min(start, self.starts[first])
            end = max(end, self.ends[last - 1])
        self.starts[first:last] = [start]
        self.ends[first:last] = [end]

    def add_all(self, other: _Intervals) -> None:
        for start, end in zip(other.starts, other.ends, strict=True):
            self.add(start, end)

    def __contains__(self, key: bytes) -> bool:
        at = bisect_right(self.starts, key) - 1
        return at >= 0 and key < self.ends[at]


def _written(branch: tuple[tuple[int, Any], ...]) -> tuple[set[bytes], _Intervals]:
    """What a branch may write: keys put, and intervals deleted, its own and its inner txns'.

    The operations of one level count as simultaneous, but inner txns come one after another: one may delete what an
    earlier one has put, not put what an earlier one has deleted. The two branches of one txn never both run, so
    they may put the same key. Deletes of the same key do not disturb each other. A delete that runs to the end of the
    keyspace is held against nobody: etcd lets "delete everything from x on, put x" pass, and so do we.

    Raises DuplicateKey.
    """
    deleted = _Intervals()
    put: set[bytes] = set()
    for op, fields in branch:
        if op == m.Op.DELETE_RANGE:
            key = fields[0]
            end = fields[1] if len(fields) > 1 and fields[1] else key + b"\0"
            if end != _FROM_KEY and key < end:
                deleted.add(key, end)
    for op, fields in branch:
        if op != m.Op.TXN:
            continue
        put_then, deleted_then = _written(fields[1])
        put_else, deleted_else = _written(fields[2])
        for key in put_then | put_else:
            if key in put or key in deleted:
                raise DuplicateKey
        put |= put_then
        put |= put_else
        deleted.add_all(deleted_then)
        deleted.add_all(deleted_else)
    for op, fields in branch:
        if op == m.Op.PUT:
            key = fields[0]
            if key in put or key in deleted:
                raise DuplicateKey
            put.add(key)
    return put, deleted
