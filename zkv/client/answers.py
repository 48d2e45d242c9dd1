"""Answers as they lie in a message, to records.

Whatever does not have the shape of the answer that was asked for raises CorruptionError. Fields that a newer server has
added at the end are cut off; those an older one does not send yet take their defaults (docs/PROTOCOL.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from zkv.errors import CorruptionError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.wire.messages import AnswerBody

R = TypeVar("R", bound=tuple[Any, ...])


def _cut(cls: type[R], fields: tuple[Any, ...]) -> R:
    """A record of as many of `fields` as it knows."""
    known: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]
    if type(fields) is not tuple:
        raise TypeError(cls.__name__)
    return cls(*fields[: len(known)])


def key_value(fields: Any) -> m.KeyValue:
    kv = m.KeyValue(*fields) if len(fields) == 6 else _cut(m.KeyValue, fields)
    if type(kv.key) is not bytes or type(kv.value) is not bytes:
        raise TypeError("key and value are bytes")
    return kv


def _range(fields: Any) -> m.RangeAnswer:
    kvs, more, count = fields if len(fields) == 3 else fields[:3]
    return m.RangeAnswer(tuple([key_value(kv) for kv in kvs]), bool(more), count)


_PUT = m.PutAnswer()


def _put(fields: Any) -> m.PutAnswer:
    if not fields or fields[0] is None:
        return _PUT
    return m.PutAnswer(key_value(fields[0]))


def _delete_range(fields: Any) -> m.DeleteRangeAnswer:
    answer = _cut(m.DeleteRangeAnswer, fields)
    return answer._replace(prev_kvs=tuple([key_value(kv) for kv in answer.prev_kvs]))


def _txn(fields: Any) -> m.TxnAnswer:
    succeeded, responses = fields[:2]
    return m.TxnAnswer(bool(succeeded), tuple([(op, cast("Any", _PARSE[op](body))) for op, body in responses]))


def _compact(fields: Any) -> m.CompactAnswer:
    return _cut(m.CompactAnswer, fields)


def _hash_kv(fields: Any) -> m.HashKVAnswer:
    return _cut(m.HashKVAnswer, fields)


def _status(fields: Any) -> m.StatusAnswer:
    return _cut(m.StatusAnswer, fields)


def _member_list(fields: Any) -> m.MemberListAnswer:
    (members,) = fields[:1]
    return m.MemberListAnswer(tuple([_cut(m.Member, member) for member in members]))


_PARSE: dict[int, Callable[[Any], AnswerBody]] = {
    m.Op.RANGE: _range,
    m.Op.PUT: _put,
    m.Op.DELETE_RANGE: _delete_range,
    m.Op.TXN: _txn,
    m.Op.COMPACT: _compact,
    m.Op.HASH_KV: _hash_kv,
    m.Op.STATUS: _status,
    m.Op.MEMBER_LIST: _member_list,
}


def parse(op: int, body: Any) -> AnswerBody:
    """The record that answers an `op`. Raises CorruptionError."""
    try:
        return _PARSE[op](body)
    except (TypeError, ValueError, LookupError, RecursionError) as error:
        raise CorruptionError(f"no answer to {m.Op(op).name}: {type(error).__name__}") from None
