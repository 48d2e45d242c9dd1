"""Every check of a request, shared by the doors.

A request arrives as (op, fields): what a client's bytes unpacked to, or a record of wire/messages.py, which is a
tuple too. `check` either raises a RequestError, and nothing else whatever came in, or tells which way
the request takes through the node. Behind this module requests are trusted: types are exact, integers fit into 64
bits, every key is there.

Three layers of checks, in etcd's order, so that a request with two faults gets etcd's answer:

1. *Shape* (wire/shapes.py): as many fields as the record has, each of exactly its type (True is no integer) and in its
   bounds; fields with defaults may be left off at the end.
2. *Fields*: what etcd's checkPutRequest and its sisters refuse.
3. *Keys of a txn*: no run of it may write a key twice (a txn is one revision, and a key has one value
   there). Found as in etcd, by walking the tree of branches with the sets of keys put and ranges deleted;
   its order matters in one place, see `_written`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

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
from zkv.wire.groups import is_one_key, is_plain, is_sound_compare, suits
from zkv.wire.shapes import INT64_MAX, INT64_MIN, Shape, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.config import Limits

    Check: TypeAlias = Callable[[tuple[Any, ...], Limits], int]
    """The way of a request with these fields."""

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

PEER_URLS_MAX: Final = 16
URL_CHARS_MAX: Final = 512
NAME_CHARS_MAX: Final = 1024
"""Of users and roles."""
PASSWORD_CHARS_MAX: Final = 4096

_SORT_ORDERS = frozenset(map(int, m.SortOrder))
_SORT_TARGETS = frozenset(map(int, m.SortTarget))
_FROM_KEY = b"\0"
_OP_PUT: Final = int(m.Op.PUT)
_OP_DELETE_RANGE: Final = int(m.Op.DELETE_RANGE)
_OP_TXN: Final = int(m.Op.TXN)


def check(op: object, fields: object, limits: Limits) -> int:
    """The way a client's request takes: WRITE to LOOK, perhaps with STREAMED, FILLED or PASSWORD.

    Raises a RequestError for whatever is no request or may not be asked.
    """
    checker = _CHECKS.get(op) if not isinstance(op, bool) and isinstance(op, int) else None
    if checker is None:
        raise InvalidRequest("unknown operation")
    if not isinstance(fields, tuple):
        raise InvalidRequest("fields are no array")
    return checker(fields, limits)


# --- shapes --------------------------------------------------------------------------------------


_RANGE = shape_of(m.Range)
_PUT = shape_of(m.Put)
_DELETE_RANGE = shape_of(m.DeleteRange)
_COMPARE = shape_of(m.Compare)
_ALARM = shape_of(m.Alarm)
_QUOTA_SET = shape_of(m.QuotaSet)
_QUOTA_PREFIX = shape_of(m.QuotaGet)
_MEMBER_LIST = shape_of(m.MemberList)
_MEMBER_ADD = shape_of(m.MemberAdd)
_MEMBER_UPDATE = shape_of(m.MemberUpdate)
_LEASE_GRANT = shape_of(m.LeaseGrant)
_WATCH = shape_of(m.Watch)


def check_watch(fields: object) -> None:
    """A watch that a client asks for. Raises InvalidRequest. (Which ids are in use, the watch actor knows.)"""
    if not isinstance(fields, tuple):
        raise InvalidRequest("a watch is no array")
    _check_shape(fields, _WATCH, "watch")


def _check_shape(fields: tuple[Any, ...], shape: Shape, what: str) -> None:
    """Raises InvalidRequest."""
    if tuple(map(type, fields)) not in shape.types:
        _misfit(fields, shape, what)
    if not shape.is_within(fields):
        raise InvalidRequest(f"a field of a {what} is out of bounds")


def _misfit(fields: tuple[Any, ...], shape: Shape, what: str) -> None:
    """For what has not the types of `shape` at first sight: a door of ours may use names of messages.py for numbers.

    Raises InvalidRequest if it does not fit either way.
    """
    if tuple(int if issubclass(cls, IntEnum) else cls for cls in map(type, fields)) not in shape.types:
        raise InvalidRequest(f"fields of a {what}")


# --- fields --------------------------------------------------------------------------------------

_SERIALIZABLE: Final = m.Range._fields.index("serializable")
_RANGE_DEFAULTS = (0, 0, 0, 0, False, False, False, 0, 0, 0, 0)
# What follows key and range_end in a range that asks for nothing special, and its way: nearly all there are.
_PLAIN_RANGES = {_RANGE_DEFAULTS[:count]: LINEARIZABLE for count in range(len(_RANGE_DEFAULTS) + 1)} | {
    (*_RANGE_DEFAULTS[:4], True, *_RANGE_DEFAULTS[5:count]): LOCAL for count in range(5, len(_RANGE_DEFAULTS) + 1)
}


def _range(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _RANGE.types:
        _misfit(fields, _RANGE, "range")
    if not fields[0]:
        raise EmptyKey
    way = _PLAIN_RANGES.get(fields[2:])
    if way is not None:
        return way
    if (len(fields) > 4 and fields[4] not in _SORT_ORDERS) or (len(fields) > 5 and fields[5] not in _SORT_TARGETS):
        raise InvalidSortOption
    if not _RANGE.is_within(fields):
        raise InvalidRequest("an integer of a range is out of bounds")
    return LOCAL if len(fields) > 6 and fields[6] else LINEARIZABLE


def _range_alone(fields: tuple[Any, ...], limits: Limits) -> int:
    if is_one_key(fields) and fields[0]:  # nearly all there are
        return LOCAL if len(fields) > _SERIALIZABLE and fields[_SERIALIZABLE] else LINEARIZABLE
    way = _range(fields, limits)
    many = len(fields) > 1 and fields[1] and not (len(fields) > 8 and fields[8])  # more than one key, not only counted
    return way | STREAMED if many else way


def _put(fields: tuple[Any, ...], _limits: Limits) -> int:
    if is_plain(fields) and fields[0]:  # nearly all there are
        return WRITE
    if tuple(map(type, fields)) not in _PUT.types:
        _misfit(fields, _PUT, "put")
    if not fields[0]:
        raise EmptyKey
    if not _PUT.is_within(fields):
        raise InvalidRequest("lease or ttl of a put is out of bounds")
    if len(fields) > 4 and fields[4] and fields[1]:
        raise ValueProvided
    if len(fields) > 5 and fields[5] and fields[2]:
        raise LeaseProvided
    if len(fields) > 6 and fields[6] and (fields[2] or fields[5]):
        raise InvalidRequest("a put with a ttl has a lease of its own")
    return WRITE


def _delete_range(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _DELETE_RANGE.types:
        _misfit(fields, _DELETE_RANGE, "delete")
    if not fields[0]:
        raise EmptyKey
    return WRITE


def _compare(fields: Any) -> None:
    if is_sound_compare(fields) and fields[2]:
        return
    if not isinstance(fields, tuple):
        raise InvalidRequest("a compare is no array")
    if tuple(map(type, fields)) not in _COMPARE.types:
        _misfit(fields, _COMPARE, "compare")
    if not fields[2]:
        raise EmptyKey
    if not _COMPARE.is_within(fields):
        raise InvalidRequest("result or target of a compare")
    if not suits(fields) or (isinstance(fields[3], int) and not INT64_MIN <= fields[3] <= INT64_MAX):
        raise InvalidRequest("operand of a compare")


def _txn_alone(fields: tuple[Any, ...], limits: Limits) -> int:
    way = _txn(fields, limits, limits.txn_ops_max, 0)
    if way == WRITE:
        for branch in fields[1:]:
            if len(branch) > 1 or (branch and branch[0][0] == _OP_TXN):  # else there is nothing to be written twice
                _written(branch)
    return way


def _txn(fields: tuple[Any, ...], limits: Limits, ops_max: int, depth: int) -> int:
    """`ops_max`: what the txns around this one have left of its operations (etcd:checkTxnRequest)."""
    if len(fields) != 3 or not type(fields[0]) is type(fields[1]) is type(fields[2]) is tuple:
        raise InvalidRequest("fields of a txn")
    compares, success, failure = fields
    ops = max(len(compares), len(success), len(failure))
    if ops > ops_max or depth > m.TXN_DEPTH_MAX:
        raise TooManyOps
    for compare in compares:
        _compare(compare)
    strictest = LOCAL if success or failure else LINEARIZABLE  # compares alone still want the present
    for branch in (success, failure):
        for request in branch:
            if not isinstance(request, tuple) or len(request) != 2 or not isinstance(request[1], tuple):
                raise InvalidRequest("an operation of a txn")
            op, inner = request
            checker = _CHECKS_IN_TXN.get(op) if not isinstance(op, bool) and isinstance(op, int) else None
            if checker is not None:
                way = checker(inner, limits)
            elif op == _OP_TXN:
                way = _txn(inner, limits, ops_max - ops, depth + 1)
            else:
                raise InvalidRequest("an operation no txn can hold")
            strictest = min(strictest, way)
    return strictest


def _plain(op: m.Op, way: int) -> Check:
    """A check of requests that any will do of whose shape is right."""
    shape, what = shape_of(m.REQUEST_CLASSES[op]), _name_of(op)

    def check_plain(fields: tuple[Any, ...], _limits: Limits) -> int:
        _check_shape(fields, shape, what)
        return way

    return check_plain


def _name_of(op: m.Op) -> str:
    return op.name.lower().replace("_", " ")


def _alarm(fields: tuple[Any, ...], _limits: Limits) -> int:
    _check_shape(fields, _ALARM, "alarm")
    return WRITE if fields and fields[0] != m.AlarmAction.GET else LINEARIZABLE


def _member_list(fields: tuple[Any, ...], _limits: Limits) -> int:
    _check_shape(fields, _MEMBER_LIST, "member list")
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
    if tuple(map(type, fields)) not in _MEMBER_ADD.types:
        _misfit(fields, _MEMBER_ADD, "member add")
    _peer_urls(fields[0])
    return MEMBERS


def _member_update(fields: tuple[Any, ...], _limits: Limits) -> int:
    if tuple(map(type, fields)) not in _MEMBER_UPDATE.types:
        _misfit(fields, _MEMBER_UPDATE, "member update")
    _peer_urls(fields[1])
    if not _MEMBER_UPDATE.is_within(fields):
        raise InvalidRequest("a member id is out of bounds")
    return MEMBERS


def _lease_grant(fields: tuple[Any, ...], _limits: Limits) -> int:
    _check_shape(fields, _LEASE_GRANT, "lease grant")
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


# --- users and roles -----------------------------------------------------------------------------


def _names(op: m.Op, way: int) -> Check:
    """A check of a request about users or roles."""
    shape, what = shape_of(m.REQUEST_CLASSES[op]), _name_of(op)
    password = m.REQUEST_CLASSES[op]._fields.index("password") if way & PASSWORD else -1

    def check_names(fields: tuple[Any, ...], _limits: Limits) -> int:
        _check_shape(fields, shape, what)
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


_user_add_names = _names(m.Op.USER_ADD, WRITE | PASSWORD)
_user_change_password_names = _names(m.Op.USER_CHANGE_PASSWORD, WRITE | PASSWORD)


def _members_only(_fields: tuple[Any, ...], _limits: Limits) -> NoReturn:
    raise PermissionDenied("members only")


_PLAIN_WAYS: dict[m.Op, int] = {
    m.Op.COMPACT: WRITE,
    m.Op.HASH_KV: LOCAL,
    m.Op.STATUS: STAMPED,
    m.Op.LOOK: LOOK,
    m.Op.SNAPSHOT: LOCAL | STREAMED,
    m.Op.DEFRAGMENT: LOCAL | STREAMED,  # it may take longer than any deadline
    m.Op.QUOTA_SET: WRITE,
    m.Op.QUOTA_DELETE: WRITE,
    m.Op.QUOTA_GET: LINEARIZABLE,
    m.Op.QUOTA_LIST: LINEARIZABLE,
    m.Op.MEMBER_REMOVE: MEMBERS,
    m.Op.MEMBER_PROMOTE: MEMBERS,
    m.Op.MOVE_LEADER: RAFT,
    m.Op.LEASE_REVOKE: WRITE,
    m.Op.LEASE_KEEP_ALIVE: LEASE,
    m.Op.LEASE_TIME_TO_LIVE: LINEARIZABLE,
    m.Op.LEASE_LIST: LINEARIZABLE,
    m.Op.LOG: RAFT,
}
_NAMES_WAYS: dict[m.Op, int] = {
    m.Op.AUTH_ENABLE: WRITE,
    m.Op.AUTH_DISABLE: WRITE,
    m.Op.AUTH_STATUS: LINEARIZABLE,
    m.Op.AUTHENTICATE: WRITE | PASSWORD,
    m.Op.USER_GET: LINEARIZABLE,
    m.Op.USER_LIST: LINEARIZABLE,
    m.Op.USER_DELETE: WRITE,
    m.Op.USER_GRANT_ROLE: WRITE,
    m.Op.USER_REVOKE_ROLE: WRITE,
    m.Op.ROLE_ADD: WRITE,
    m.Op.ROLE_GET: LINEARIZABLE,
    m.Op.ROLE_LIST: LINEARIZABLE,
    m.Op.ROLE_DELETE: WRITE,
    m.Op.ROLE_GRANT_PERMISSION: WRITE,
    m.Op.ROLE_REVOKE_PERMISSION: WRITE,
}
_MEMBERS_ONLY = (m.Op.PUBLISH, m.Op.LEASE_RENEW, m.Op.LEASE_EXPIRE, m.Op.FENCE, m.Op.QUOTA_COUNT, m.Op.LOGIN)
_CHECKS: dict[int, Check] = {
    int(m.Op.RANGE): _range_alone,
    int(m.Op.PUT): _put,
    int(m.Op.DELETE_RANGE): _delete_range,
    int(m.Op.TXN): _txn_alone,
    int(m.Op.ALARM): _alarm,
    int(m.Op.MEMBER_LIST): _member_list,
    int(m.Op.MEMBER_ADD): _member_add,
    int(m.Op.MEMBER_UPDATE): _member_update,
    int(m.Op.LEASE_GRANT): _lease_grant,
    int(m.Op.USER_ADD): _user_add,
    int(m.Op.USER_CHANGE_PASSWORD): _user_change_password,
    **{int(op): _plain(op, way) for op, way in _PLAIN_WAYS.items()},
    **{int(op): _names(op, way) for op, way in _NAMES_WAYS.items()},
    **{int(op): _members_only for op in _MEMBERS_ONLY},
}
_CHECKS_IN_TXN: dict[int, Check] = {
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
        if op == _OP_DELETE_RANGE:
            key = fields[0]
            end = fields[1] if len(fields) > 1 and fields[1] else key + b"\0"
            if end != _FROM_KEY and key < end:
                deleted.add(key, end)
    for op, fields in branch:
        if op != _OP_TXN:
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
        if op == _OP_PUT:
            key = fields[0]
            if key in put or key in deleted:
                raise DuplicateKey
            put.add(key)
    return put, deleted
