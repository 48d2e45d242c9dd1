"""Answers as they lie in a message, to records.

Whatever does not have the shape of the answer that was asked for raises CorruptionError. Fields that a newer server has
added at the end are cut off; those an older one does not send yet take their defaults (docs/PROTOCOL.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from zkv.errors import CorruptionError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.wire.messages import AnswerBody

R = TypeVar("R", bound=tuple[Any, ...])

_made: Final[Callable[[type[R], tuple[Any, ...]], R]] = tuple.__new__
"""A record of just as many fields as it has; at a third of what its class takes, which looks for defaults too."""


def _cut(cls: type[R], fields: tuple[Any, ...]) -> R:
    """A record of as many of `fields` as it knows."""
    known: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]
    if type(fields) is not tuple:
        raise TypeError(cls.__name__)
    return cls(*fields[: len(known)])


def key_value(fields: Any) -> m.KeyValue:
    kv = _made(m.KeyValue, fields) if len(fields) == 6 else _cut(m.KeyValue, fields)
    if type(kv.key) is not bytes or type(kv.value) is not bytes:
        raise TypeError("key and value are bytes")
    return kv


def _range(fields: Any) -> m.RangeAnswer:
    kvs, more, count = fields if len(fields) == 3 else fields[:3]
    return _made(m.RangeAnswer, (tuple([key_value(kv) for kv in kvs]), bool(more), count))


_PUT = m.PutAnswer()


def _put(fields: Any) -> m.PutAnswer:
    if not fields or (fields[0] is None and len(fields) == 1):
        return _PUT
    prev_kv, lease = fields[0], fields[1] if len(fields) > 1 else 0
    return m.PutAnswer(None if prev_kv is None else key_value(prev_kv), _integer(lease))


def _delete_range(fields: Any) -> m.DeleteRangeAnswer:
    answer = _cut(m.DeleteRangeAnswer, fields)
    return answer._replace(prev_kvs=tuple([key_value(kv) for kv in answer.prev_kvs]))


def _txn(fields: Any) -> m.TxnAnswer:
    succeeded, responses = fields[:2]
    return m.TxnAnswer(bool(succeeded), tuple([(op, _in_txn(op, body)) for op, body in responses]))


def _in_txn(op: int, body: Any) -> Any:
    return _PARSE[op](body)


def _compact(fields: Any) -> m.CompactAnswer:
    return _cut(m.CompactAnswer, fields)


def _hash_kv(fields: Any) -> m.HashKVAnswer:
    return _cut(m.HashKVAnswer, fields)


def _status(fields: Any) -> m.StatusAnswer:
    return _cut(m.StatusAnswer, fields)


def _look(fields: Any) -> m.LookAnswer:
    for actor, values in fields[0]:
        for name, label, value in values:
            known = type(value) is int or (type(value) is tuple and all(type(number) is int for number in value))
            if not known or any(type(text) is not str for text in (actor, name, label)):
                raise TypeError("numbers by name")
    return m.LookAnswer(fields[0])


def _alarm(fields: Any) -> m.AlarmAnswer:
    return m.AlarmAnswer(tuple([(_integer(member), _integer(alarm)) for member, alarm in fields[0]]))


def _defragment(fields: Any) -> m.DefragmentAnswer:
    return _cut(m.DefragmentAnswer, fields)


def _snapshot(fields: Any) -> m.StorePart:
    pairs, size = fields[:2]
    if any(type(key) is not bytes or type(value) is not bytes for key, value in pairs):
        raise TypeError("pairs of bytes")
    return m.StorePart(pairs, _integer(size))


def _log(fields: Any) -> m.LogPart:
    commit, time, entries = fields[:3]
    if any(type(entry) is not bytes for entry in entries):
        raise TypeError("entries of bytes")
    return m.LogPart(_integer(commit), _integer(time), tuple(entries))


def _member_list(fields: Any) -> m.MemberListAnswer:
    (members,) = fields[:1]
    return m.MemberListAnswer(_members(members))


def _member_add(fields: Any) -> m.MemberAddAnswer:
    member, members = fields[:2]
    return m.MemberAddAnswer(_cut(m.Member, member), _members(members))


def _members_now(fields: Any) -> m.MembersAnswer:
    (members,) = fields[:1]
    return m.MembersAnswer(_members(members))


def _members(members: Any) -> tuple[m.Member, ...]:
    return tuple([_cut(m.Member, member) for member in members])


def _move_leader(fields: Any) -> m.MoveLeaderAnswer:
    return _cut(m.MoveLeaderAnswer, fields)


def _integer(number: Any) -> int:
    if type(number) is not int:
        raise TypeError("integer")
    return number


def _lease_grant(fields: Any) -> m.LeaseGrantAnswer:
    id_, ttl = fields[:2]
    return m.LeaseGrantAnswer(_integer(id_), _integer(ttl))


def _lease_revoke(fields: Any) -> m.LeaseRevokeAnswer:
    return _cut(m.LeaseRevokeAnswer, fields)


def _lease_keep_alive(fields: Any) -> m.LeaseKeepAliveAnswer:
    id_, ttl = fields[:2]
    return m.LeaseKeepAliveAnswer(_integer(id_), _integer(ttl))


def _lease_time_to_live(fields: Any) -> m.LeaseTimeToLiveAnswer:
    answer = _cut(m.LeaseTimeToLiveAnswer, fields)
    return answer._replace(keys=tuple(answer.keys))


def _lease_list(fields: Any) -> m.LeaseListAnswer:
    return m.LeaseListAnswer(tuple([_integer(lease) for lease in fields[0]]))


def _auth_changed(fields: Any) -> m.AuthChanged:
    return _cut(m.AuthChanged, fields)


def _auth_status(fields: Any) -> m.AuthStatusAnswer:
    enabled, revision = fields[:2]
    return m.AuthStatusAnswer(bool(enabled), _integer(revision))


def _authenticate(fields: Any) -> m.AuthenticateAnswer:
    return m.AuthenticateAnswer(_text(fields[0]))


def _text(word: Any) -> str:
    if type(word) is not str:
        raise TypeError("text")
    return word


def _user_get(fields: Any) -> m.UserGetAnswer:
    return m.UserGetAnswer(tuple([_text(role) for role in fields[0]]))


def _user_list(fields: Any) -> m.UserListAnswer:
    return m.UserListAnswer(tuple([_text(user) for user in fields[0]]))


def _role_get(fields: Any) -> m.RoleGetAnswer:
    permissions = [(_integer(kind), key, range_end) for kind, key, range_end in fields[0]]
    if any(type(key) is not bytes or type(range_end) is not bytes for _, key, range_end in permissions):
        raise TypeError("keys of a permission")
    return m.RoleGetAnswer(tuple(permissions))


def _role_list(fields: Any) -> m.RoleListAnswer:
    return m.RoleListAnswer(tuple([_text(role) for role in fields[0]]))


def _quota(fields: Any) -> m.Quota:
    quota = _cut(m.Quota, fields)
    if type(quota.prefix) is not bytes or any(type(number) is not int for number in quota[1:6]):
        raise TypeError("a quota")
    return quota


def _quota_one(fields: Any) -> m.QuotaAnswer:
    return m.QuotaAnswer(_quota(fields[0]))


def _quota_list(fields: Any) -> m.QuotaListAnswer:
    return m.QuotaListAnswer(tuple([_quota(quota) for quota in fields[0]]))


_PARSE: dict[int, Callable[[Any], AnswerBody]] = {
    m.Op.RANGE: _range,
    m.Op.PUT: _put,
    m.Op.DELETE_RANGE: _delete_range,
    m.Op.TXN: _txn,
    m.Op.COMPACT: _compact,
    m.Op.HASH_KV: _hash_kv,
    m.Op.STATUS: _status,
    m.Op.LOOK: _look,
    m.Op.SNAPSHOT: _snapshot,
    m.Op.LOG: _log,
    m.Op.DEFRAGMENT: _defragment,
    m.Op.ALARM: _alarm,
    m.Op.QUOTA_SET: _quota_one,
    m.Op.QUOTA_DELETE: _quota_one,
    m.Op.QUOTA_GET: _quota_one,
    m.Op.QUOTA_LIST: _quota_list,
    m.Op.MEMBER_LIST: _member_list,
    m.Op.MEMBER_ADD: _member_add,
    m.Op.MEMBER_REMOVE: _members_now,
    m.Op.MEMBER_UPDATE: _members_now,
    m.Op.MEMBER_PROMOTE: _members_now,
    m.Op.MOVE_LEADER: _move_leader,
    m.Op.LEASE_GRANT: _lease_grant,
    m.Op.LEASE_REVOKE: _lease_revoke,
    m.Op.LEASE_KEEP_ALIVE: _lease_keep_alive,
    m.Op.LEASE_TIME_TO_LIVE: _lease_time_to_live,
    m.Op.LEASE_LIST: _lease_list,
    m.Op.AUTH_ENABLE: _auth_changed,
    m.Op.AUTH_DISABLE: _auth_changed,
    m.Op.AUTH_STATUS: _auth_status,
    m.Op.AUTHENTICATE: _authenticate,
    m.Op.USER_ADD: _auth_changed,
    m.Op.USER_GET: _user_get,
    m.Op.USER_LIST: _user_list,
    m.Op.USER_DELETE: _auth_changed,
    m.Op.USER_CHANGE_PASSWORD: _auth_changed,
    m.Op.USER_GRANT_ROLE: _auth_changed,
    m.Op.USER_REVOKE_ROLE: _auth_changed,
    m.Op.ROLE_ADD: _auth_changed,
    m.Op.ROLE_GET: _role_get,
    m.Op.ROLE_LIST: _role_list,
    m.Op.ROLE_DELETE: _auth_changed,
    m.Op.ROLE_GRANT_PERMISSION: _auth_changed,
    m.Op.ROLE_REVOKE_PERMISSION: _auth_changed,
}


def parse(op: int, body: Any) -> AnswerBody:
    """The record that answers an `op`. Raises CorruptionError."""
    try:
        return _PARSE[op](body)
    except (TypeError, ValueError, LookupError, RecursionError) as error:
        raise CorruptionError(f"no answer to {m.Op(op).name}: {type(error).__name__}") from None
