"""A group: what a client's `Requests` has become behind the door, as it lies in the log or comes to be read.

`judged` looks at all of it before anybody acts on any of it: who asks, in which session, and whether each request has
the shape that its record says (shapes.py). Doors have checked what clients sent (gateway/validate.py) and members know
what they log; and still a log may hold, by a slip or by malice, what no door would let pass. Every member must
then do the same, which is: answer that it is no request, and not try. So what follows can rely on what it is given,
whatever checks types where.
"""

from __future__ import annotations

from typing import Any, Final

from zkv.errors import CorruptionError
from zkv.wire import messages as m
from zkv.wire.codec import decode_frame, pack, unpack
from zkv.wire.shapes import INT64_MAX, INT64_MIN, Misfit, shape_of

_OP_PUT: Final = int(m.Op.PUT)
_OP_RANGE: Final = int(m.Op.RANGE)
_OP_TXN: Final = int(m.Op.TXN)
_PUT_FIELDS: Final = len(m.Put._fields)
_NO_OPTIONS: Final[tuple[Any, ...]] = m.Put(b"", b"")[2:]
_ONE_KEY: Final[tuple[Any, ...]] = unpack(pack(m.Range(b"")))
"""A range of one key as it is now. What stands at its end may be left off."""
_OF_KEYS: Final = frozenset((_OP_PUT, int(m.Op.DELETE_RANGE)))
_SERIALIZABLE: Final = m.Range._fields.index("serializable")
_CALLER: Final = (str, int)


class Group:
    """`asked`: (id, op, what) each; what: the request's record, or None, where it has not that record's shape.

    What is plain, as nearly all is, stays the tuple of fields that it came as, and is no record: a put of a value to a
    key, without any option; a range that is one key as it is now. `keys`: those that are put or deleted, whichever
    branch a txn will take.
    """

    __slots__ = ("asked", "caller", "floor", "keys", "session")

    def __init__(
        self, session: bytes, floor: int, asked: list[tuple[int, int, Any]], keys: list[bytes], caller: m.Caller | None
    ) -> None:
        self.session = session
        self.floor = floor
        self.asked = asked
        self.keys = keys
        self.caller = caller


def judged(payload: bytes) -> Group:
    """Raises CorruptionError for what is made as no group is, up to the fields of its requests."""
    group = unpack(payload)
    if type(group) is not tuple or not 5 <= len(group) <= 6:
        raise CorruptionError("not a group")
    session, floor, requests = group[2:5]
    if type(session) is not bytes or len(session) not in {0, 16}:
        raise CorruptionError("session of a group")
    if type(floor) is not int or not 0 <= floor <= INT64_MAX or type(requests) is not tuple:
        raise CorruptionError("floor or requests of a group")
    caller = None
    if len(group) == 6:
        caller = group[5]
        if type(caller) is not tuple or tuple(map(type, caller)) != _CALLER:
            raise CorruptionError("caller of a group")
    asked: list[tuple[int, int, Any]] = []
    keys: list[bytes] = []
    for request in requests:
        if type(request) is not tuple or len(request) != 3:
            raise CorruptionError("a request of a group")
        id_, op, fields = request
        if type(id_) is not int or type(op) is not int or type(fields) is not tuple:
            raise CorruptionError("a request of a group")
        if op == _OP_PUT and is_plain(fields):
            asked.append(request)
            keys.append(fields[0])
        elif op == _OP_RANGE and is_one_key(fields):
            asked.append(request)
        else:
            asked.append((id_, op, judged_request(op, fields, keys)))
    return Group(session, floor, asked, keys, caller)


def are_requests(frame: bytes) -> bool:
    """Of a frame that another member forwards, and that is opened before it is logged: has all of it its shape?"""
    try:
        groups = [judged(payload) for _, payload in decode_frame(frame).groups]
    except CorruptionError:
        return False
    return all(asked is not None for group in groups for _, _, asked in group.asked)


def is_plain(fields: tuple[Any, ...]) -> bool:
    """A put of bytes to a key, and nothing else to it."""
    if len(fields) == 2:
        return type(fields[0]) is type(fields[1]) is bytes
    if len(fields) != _PUT_FIELDS:
        return False
    key, value, lease, prev_kv, ignore_value, ignore_lease, ttl = fields
    return (
        prev_kv is ignore_value is ignore_lease is False
        and lease == ttl == 0
        and type(lease) is type(ttl) is int
        and type(key) is type(value) is bytes
    )


def is_one_key(fields: tuple[Any, ...]) -> bool:
    """A range of one key as it is now, of this member's own state or not.

    Fields are told apart as objects: each of the few values that they may have here is one, with its type (False is 0,
    but no number). Should one be so in value only, it is taken for another range, which is as right, and slower.
    """
    count = len(fields)
    if not 0 < count <= len(_ONE_KEY) or type(fields[0]) is not bytes:
        return False
    for at in range(1, count):
        if fields[at] is not _ONE_KEY[at] and not (at == _SERIALIZABLE and fields[at] is True):
            return False
    return True


def judged_request(op: int, fields: tuple[Any, ...], keys: list[bytes]) -> Any:
    """The record that an operation's fields are, or None. What it puts or deletes is added to `keys`."""
    try:
        if op == _OP_TXN:
            return _txn(fields, 0, keys)
        cls = m.REQUEST_CLASSES.get(op)
        if cls is None:
            return None
        record = shape_of(cls).read(fields)
    except Misfit:
        return None
    if op in _OF_KEYS:
        keys.append(record.key)
    return record


# --- txns ------------------------------------------------------------------------------------------


_COMPARE: Final = shape_of(m.Compare)
_IN_TXN: Final = {int(op): shape_of(m.REQUEST_CLASSES[op]) for op in (m.Op.RANGE, m.Op.PUT, m.Op.DELETE_RANGE)}
_COMPARE_FIELDS: Final = len(m.Compare._fields)
_RESULT_MAX: Final = int(max(m.CompareResult))
_TARGET_MAX: Final = int(max(m.CompareTarget))
_VALUE: Final = int(m.CompareTarget.VALUE)


def _txn(fields: tuple[Any, ...], depth: int, keys: list[bytes]) -> m.Txn:
    """Raises Misfit. (By hand, as half the time of a txn of one put goes into looking at it.)"""
    if depth > m.TXN_DEPTH_MAX or len(fields) != 3:
        raise Misfit
    compares, success, failure = fields
    if not type(compares) is type(success) is type(failure) is tuple:
        raise Misfit
    made = tuple([_compare(compare) for compare in compares])
    branches = _branch(success, depth, keys), _branch(failure, depth, keys)
    return tuple.__new__(m.Txn, (made, *branches))  # as shapes.py makes them, and those of its branches


def _branch(requests: tuple[Any, ...], depth: int, keys: list[bytes]) -> tuple[tuple[int, m.TxnRequest], ...]:
    made: list[tuple[int, m.TxnRequest]] = []
    for request in requests:
        if type(request) is not tuple or len(request) != 2:
            raise Misfit
        op, fields = request
        if type(op) is not int or type(fields) is not tuple:
            raise Misfit
        if op == _OP_PUT and is_plain(fields):
            keys.append(fields[0])
            made.append((op, tuple.__new__(m.Put, fields if len(fields) == _PUT_FIELDS else fields + _NO_OPTIONS)))
        elif op == _OP_RANGE and is_one_key(fields):
            made.append((op, tuple.__new__(m.Range, fields + _ONE_KEY[len(fields) :])))
        elif op == _OP_TXN:
            made.append((op, _txn(fields, depth + 1, keys)))
        elif op in _IN_TXN:
            record = _IN_TXN[op].read(fields)
            made.append((op, record))
            if op in _OF_KEYS:
                keys.append(record.key)
        else:
            raise Misfit
    return tuple(made)


def _compare(fields: Any) -> m.Compare:
    """Raises Misfit."""
    if is_sound_compare(fields):
        return tuple.__new__(m.Compare, fields if len(fields) == _COMPARE_FIELDS else (*fields, b""))
    compare: m.Compare = _COMPARE.read(fields)
    if not suits(compare):
        raise Misfit
    return compare


def is_sound_compare(fields: Any) -> bool:
    """As nearly all are. Of another it is still to be found out whether it is one, and what is wrong with it."""
    if type(fields) is not tuple or not _COMPARE_FIELDS - 1 <= len(fields) <= _COMPARE_FIELDS:
        return False
    result, target, key, operand = fields[0], fields[1], fields[2], fields[3]
    if not (type(result) is type(target) is int and type(key) is bytes):
        return False
    if len(fields) == _COMPARE_FIELDS and type(fields[4]) is not bytes:
        return False
    if not (0 <= result <= _RESULT_MAX and 0 <= target <= _TARGET_MAX):
        return False
    if target == _VALUE:
        return type(operand) is bytes
    return type(operand) is int and INT64_MIN <= operand <= INT64_MAX


def suits(compare: tuple[Any, ...]) -> bool:
    """Is the operand (of the fields of a Compare) one for what it is compared with?"""
    return isinstance(compare[3], bytes) == bool(compare[1] == _VALUE)
