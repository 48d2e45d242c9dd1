"""What a request may be, and which way it goes. The answers were checked against etcd 3.5.1 where it has one."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkv import errors
from zkv.config import Limits
from zkv.gateway.validate import (
    FILLED,
    LEASE,
    LINEARIZABLE,
    LOCAL,
    STAMPED,
    STREAMED,
    WRITE,
    check,
)
from zkv.wire import messages as m
from zkv.wire.messages import Op
from zkv.wire.shapes import INT64_MAX

LIMITS = Limits()

Request = tuple[int, tuple[Any, ...]]


def put(key: bytes, *rest: Any) -> Request:
    return int(Op.PUT), (key, *(rest or (b"v",)))


def delete(key: bytes, end: bytes = b"") -> Request:
    return int(Op.DELETE_RANGE), (key, end)


def get(key: bytes, *rest: Any) -> Request:
    return int(Op.RANGE), (key, *rest)


def txn(then: tuple[Request, ...] = (), orelse: tuple[Request, ...] = (), compares: tuple[Any, ...] = ()) -> Request:
    return int(Op.TXN), (compares, then, orelse)


SERIALIZABLE = (b"", 0, 0, 0, 0, True)


@pytest.mark.parametrize(
    ("request_", "way"),
    [
        (put(b"a"), WRITE),
        (delete(b"a"), WRITE),
        ((Op.COMPACT, (5,)), WRITE),
        (get(b"a"), LINEARIZABLE),
        (get(b"a", *SERIALIZABLE), LOCAL),
        (get(b"a", b"b"), LINEARIZABLE | STREAMED),
        (get(b"a", b"b", 0, 0, 0, 0, True), LOCAL | STREAMED),
        (get(b"a", b"b", 0, 0, 0, 0, False, False, True), LINEARIZABLE),
        ((Op.STATUS, ()), STAMPED),
        ((Op.HASH_KV, ()), LOCAL),
        ((Op.HASH_KV, (7,)), LOCAL),
        ((Op.MEMBER_LIST, ()), LINEARIZABLE),
        ((Op.MEMBER_LIST, (False,)), LOCAL),
        ((Op.LEASE_GRANT, (5,)), WRITE | FILLED),
        ((Op.LEASE_GRANT, (5, -7, 0)), WRITE | FILLED),
        ((Op.LEASE_REVOKE, (7,)), WRITE),
        ((Op.LEASE_KEEP_ALIVE, (7,)), LEASE),
        ((Op.LEASE_TIME_TO_LIVE, (7, True)), LINEARIZABLE),
        ((Op.LEASE_LIST, ()), LINEARIZABLE),
        (txn(), LINEARIZABLE),
        (txn((get(b"a"),)), LINEARIZABLE),
        (txn((get(b"a", b"b"),)), LINEARIZABLE),
        (txn((get(b"a", *SERIALIZABLE),)), LOCAL),
        (txn((get(b"a", *SERIALIZABLE),), (get(b"a"),)), LINEARIZABLE),
        (txn((get(b"a"),), (put(b"a"),)), WRITE),
        (txn((txn((), (delete(b"a"),)),)), WRITE),
        (txn((txn((get(b"a", *SERIALIZABLE),)),)), LOCAL),
        (txn((txn(),)), LINEARIZABLE),
    ],
)
def test_the_way_of_a_request(request_: Request, way: int) -> None:
    """Writes go through the log, a txn the strictest way of its parts, and only a range of many keys is streamed."""
    assert check(*request_, LIMITS) == way


@pytest.mark.parametrize(
    "record",
    [
        m.Range(b"a", sort_order=m.SortOrder.DESCEND, sort_target=m.SortTarget.VALUE),
        m.Put(b"a", b"v"),
        m.DeleteRange(b"a"),
        m.Txn(
            (m.Compare(m.CompareResult.EQUAL, m.CompareTarget.VALUE, b"a", b"v"),), ((Op.PUT, m.Put(b"a", b"")),), ()
        ),
        m.Compact(3),
        m.HashKV(),
        m.Status(),
        m.MemberList(),
        m.LeaseGrant(5),
        m.LeaseGrant(5, remaining=3),
        m.LeaseTimeToLive(5),
    ],
)
def test_records_of_the_house_pass(record: m.Request) -> None:
    """A door that builds the records of messages.py, names for numbers included, may hand them in as they are."""
    op = {cls: op for op, cls in m.REQUEST_CLASSES.items()}[type(record)]
    check(op, record, LIMITS)


COMPARE = (0, 0, b"a", 0)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (put(b""), errors.EmptyKey),
        (put(b"", b"v", 0, False, True), errors.EmptyKey),
        (put(b"a", b"v", 0, False, True), errors.ValueProvided),
        (put(b"a", b"", 9, False, False, True), errors.LeaseProvided),
        (put(b"a", b"v", 9, False, True, True), errors.ValueProvided),
        (get(b""), errors.EmptyKey),
        (get(b"", b"\0"), errors.EmptyKey),
        (get(b"a", b"", 0, 0, 3), errors.InvalidSortOption),
        (get(b"a", b"", 0, 0, -1), errors.InvalidSortOption),
        (get(b"a", b"", 0, 0, 0, 5), errors.InvalidSortOption),
        (delete(b""), errors.EmptyKey),
        (txn(compares=((0, 0, b"", 0),)), errors.EmptyKey),
        (txn((put(b"a"), put(b"a")), (put(b""),)), errors.EmptyKey),  # every operation is looked at before the keys
        (txn((get(b"a", b"", 0, 0, 7),)), errors.InvalidSortOption),
        (txn(compares=(COMPARE,) * 129), errors.TooManyOps),
        (txn((get(b"a"),) * 129), errors.TooManyOps),
        (txn((), (get(b"a"),) * 129), errors.TooManyOps),
        (txn((txn((get(b"a"),)),) * 128), errors.TooManyOps),
        (txn((txn((get(b"a"),) * 65),) * 64), errors.TooManyOps),
        ((Op.PUBLISH, (1, "x", ())), errors.PermissionDenied),
        ((Op.LEASE_RENEW, (1, ())), errors.PermissionDenied),
        ((Op.LEASE_EXPIRE, (1, ())), errors.PermissionDenied),
    ],
)
def test_requests_that_etcd_refuses(request_: Request, error: type[errors.RequestError]) -> None:
    """Each fault has etcd's error; of two faults, the one etcd names."""
    with pytest.raises(error):
        check(*request_, LIMITS)


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        (0, ()), (99, ()), (True, (b"a",)), (1.0, (b"a",)), (None, ()), ("PUT", ()), ((), ()), ({}, ()),
        (Op.PUT, None), (Op.PUT, {}), (Op.PUT, [b"a", b"v"]), (Op.PUT, b"ab"), (Op.PUT, "ab"), (Op.PUT, 5),
        (Op.PUT, ()), (Op.PUT, (b"a",)), (Op.PUT, (b"a", "v")), (Op.PUT, ("a", b"v")), (Op.PUT, (b"a", None)),
        (Op.PUT, (b"a", b"v", True)), (Op.PUT, (b"a", b"v", 0, 1)), (Op.PUT, (b"a", b"v", 1.5)),
        (Op.PUT, (b"a", b"v", INT64_MAX + 1)), (Op.PUT, (b"a", b"v", 0, False, False, False, False)),
        (Op.RANGE, ()), (Op.RANGE, (b"a", None)), (Op.RANGE, (b"a", b"", True)), (Op.RANGE, (b"a",) + (b"",) * 13),
        (Op.RANGE, (b"a", b"", INT64_MAX + 1)), (Op.RANGE, (b"a", b"", 0, INT64_MAX + 1)),
        (Op.RANGE, (b"a", b"", 0, 0, 0, 0, 0)), (Op.RANGE, (b"a", b"", 0, 0, 0, 0, False, False, False, INT64_MAX + 1)),
        (Op.DELETE_RANGE, ()), (Op.DELETE_RANGE, (b"a", b"", 0)), (Op.DELETE_RANGE, (b"a", b"", True, True)),
        (Op.TXN, ()), (Op.TXN, ((), ())), (Op.TXN, ((), (), b"")), (Op.TXN, ((), (), (), ())),
        (Op.TXN, ((5,), (), ())), (Op.TXN, (((0, 0, b"a"),), (), ())), (Op.TXN, (((4, 0, b"a", 0),), (), ())),
        (Op.TXN, (((0, 5, b"a", 0),), (), ())), (Op.TXN, (((0, 0, b"a", b"v"),), (), ())),
        (Op.TXN, (((0, 3, b"a", 0),), (), ())), (Op.TXN, (((0, 0, b"a", True),), (), ())),
        (Op.TXN, (((0, 0, b"a", INT64_MAX + 1),), (), ())),
        (Op.TXN, ((), (5,), ())), (Op.TXN, ((), ((),), ())), (Op.TXN, ((), ((1,),), ())), (Op.TXN, ((), ((1, 5),), ())),
        (Op.TXN, ((), ((True, (b"a",)),), ())), (Op.TXN, ((), (({}, ()),), ())), (Op.TXN, ((), ((1, (b"a",), 0),), ())),
        (Op.TXN, ((), ((5, (1,)),), ())), (Op.TXN, ((), ((7, ()),), ())), (Op.TXN, ((), (), ((4, ()),))),
        (Op.COMPACT, ()), (Op.COMPACT, (True,)), (Op.COMPACT, (INT64_MAX + 1,)), (Op.COMPACT, (1, 1)),
        (Op.HASH_KV, (b"",)), (Op.HASH_KV, (INT64_MAX + 1,)), (Op.STATUS, (1,)), (Op.MEMBER_LIST, (1,)),
        (Op.PUT, (b"a", b"v", 0, False, False, False, -1)), (Op.PUT, (b"a", b"v", 0, False, False, False, True)),
        (Op.PUT, (b"a", b"v", 7, False, False, False, 1)), (Op.PUT, (b"a", b"v", 0, False, False, True, 1)),
        (Op.PUT, (b"a", b"v", 0, False, False, False, INT64_MAX + 1)),
        (Op.TXN, ((), ((2, (b"a", b"v", 7, False, False, False, 1)),), ())), (Op.TXN, ((), ((10, (1,)),), ())),
        (Op.LEASE_GRANT, ()), (Op.LEASE_GRANT, (5, 0, 0, -1)),
        (Op.LEASE_GRANT, (5, 0, 1)), (Op.LEASE_GRANT, (5, INT64_MAX + 1)),
        (Op.LEASE_GRANT, (b"5",)), (Op.LEASE_GRANT, (5, True)), (Op.LEASE_REVOKE, ()), (Op.LEASE_REVOKE, (1, 1)),
        (Op.LEASE_REVOKE, (INT64_MAX + 1,)), (Op.LEASE_TIME_TO_LIVE, (1, 1)), (Op.LEASE_TIME_TO_LIVE, ()),
        (Op.LEASE_LIST, (1,)), (Op.LEASE_KEEP_ALIVE, ()), (Op.LEASE_KEEP_ALIVE, (True,)), (Op.LEASE_KEEP_ALIVE, (7, 7)),
        (Op.LEASE_KEEP_ALIVE, (INT64_MAX + 1,)), (Op.TXN, ((), ((12, (7,)),), ())),
    ],
)  # fmt: skip
def test_what_is_no_request(op: object, fields: object) -> None:
    """A wrong type (True is no integer), a missing or unknown field, an integer beyond int64: InvalidRequest."""
    with pytest.raises(errors.InvalidRequest):
        check(op, fields, LIMITS)


@pytest.mark.parametrize(
    "request_",
    [
        put(b"a", b"v", -5),
        put(b"a", b"", 0, False, True, True),
        put(b"a", b"", 0, True, True, False, 5),
        (Op.LEASE_GRANT, (-1, -1)),
        get(b"a", b"", -1, -4),
        get(b"b", b"a"),
        txn((get(b"a"),) * 128),
        txn((txn(),) * 128),
        txn((txn((get(b"a"),) * 64),) * 64),
        (Op.COMPACT, (-1,)),
    ],
)
def test_odd_requests_that_pass(request_: Request) -> None:
    """Whether a lease or revision makes sense is for the store to say, and limits may be reached."""
    check(*request_, LIMITS)


def test_txns_are_nested_to_a_bounded_depth() -> None:
    """The deepest txn passes, one more level is too much."""
    request = txn((get(b"a"),))
    for _ in range(m.TXN_DEPTH_MAX):
        request = txn((request,))
    check(*request, LIMITS)
    with pytest.raises(errors.TooManyOps):
        check(*txn((request,)), LIMITS)


@pytest.mark.parametrize(
    "then",
    [
        (put(b"a"), put(b"a")),
        (put(b"a"), delete(b"a")),
        (delete(b"a"), put(b"a")),
        (put(b"c"), delete(b"b", b"d")),
        (put(b"b"), delete(b"b", b"d")),
        (put(b"c"), delete(b"a", b"b"), delete(b"e", b"f"), delete(b"b", b"d")),
        (put(b"a"), txn((put(b"a"),))),
        (put(b"a"), txn((delete(b"a"),))),
        (delete(b"a"), txn((put(b"a"),))),
        (txn((delete(b"a"),)), txn((put(b"a"),))),
        (txn((put(b"a"),), (put(b"a"),)), txn((put(b"a"),))),
        (txn((put(b"a"),), (put(b"b"),)), txn((put(b"c"),), (put(b"a"),))),
        (txn((put(b"b"),), (delete(b"a"),)), txn((put(b"a"),))),
        (txn((), (txn((txn((put(b"a"),)),)), put(b"a"))),),
    ],
)
def test_a_txn_may_not_write_a_key_twice(then: tuple[Request, ...]) -> None:
    """In either branch, whether put twice or put and deleted, across levels of nesting."""
    for request in (txn(then), txn((), then), txn((get(b"x"), txn(then)))):
        with pytest.raises(errors.DuplicateKey):
            check(*request, LIMITS)


@pytest.mark.parametrize(
    ("then", "orelse"),
    [
        ((put(b"a"),), (put(b"a"),)),
        ((put(b"d"), delete(b"b", b"d")), ()),
        ((put(b"a"), delete(b"b", b"d")), ()),
        ((put(b"c"), delete(b"d", b"b")), ()),
        ((put(b"c"), delete(b"b", b"\0")), ()),
        ((put(b"c"), delete(b"\0", b"\0")), ()),
        ((delete(b"a"), delete(b"a")), ()),
        ((txn((put(b"a"),)), txn((delete(b"a"),))), ()),
        ((txn((put(b"a"),), (put(b"a"),)),), ()),
        ((txn((put(b"a"),), (delete(b"a"),)),), ()),
    ],
)
def test_writes_of_a_txn_that_do_not_meet(then: tuple[Request, ...], orelse: tuple[Request, ...]) -> None:
    """Branches of which one runs, ranges that end before the key, and what etcd lets pass (to the end of all keys)."""
    assert check(*txn(then, orelse), LIMITS) == WRITE


# --- properties ------------------------------------------------------------------------------------------

_keys = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
_writes = st.recursive(
    st.one_of(st.builds(put, _keys), st.builds(delete, _keys), st.builds(delete, _keys, _keys)),
    lambda inner: st.builds(
        txn, st.lists(inner, max_size=3).map(tuple), st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=8,
)  # fmt: skip


def _duplicate(branch: tuple[Request, ...]) -> tuple[set[bytes], list[tuple[bytes, bytes]]] | None:
    """etcd's rule, told with plain lists: what a branch puts and deletes, or None if a key is written twice."""
    puts: set[bytes] = set()
    deletes = [(f[0], f[1] or f[0] + b"\0") for op, f in branch if op == Op.DELETE_RANGE]
    for _, (_, then, orelse) in (request for request in branch if request[0] == Op.TXN):
        ran = _duplicate(then), _duplicate(orelse)
        if ran[0] is None or ran[1] is None:
            return None
        inner = ran[0][0] | ran[1][0]
        if inner & puts or any(start <= key < end for key in inner for start, end in deletes):
            return None
        puts |= inner
        deletes += ran[0][1] + ran[1][1]
    for key in [f[0] for op, f in branch if op == Op.PUT]:
        if key in puts or any(start <= key < end for start, end in deletes):
            return None
        puts.add(key)
    return puts, deletes


@given(st.lists(_writes, max_size=5).map(tuple))
def test_duplicates_are_found_as_by_looking_at_every_pair(then: tuple[Request, ...]) -> None:
    """The sorted intervals give the answer that plain lists give."""
    try:
        check(*txn(then), LIMITS)
        passed = True
    except errors.DuplicateKey:
        passed = False
    assert passed == (_duplicate(then) is not None)


_scalars = (
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats()
    | st.binary(max_size=3) | st.text(max_size=3)
)  # fmt: skip
_trees = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=6).map(tuple) | st.dictionaries(st.binary(max_size=2), inner, max_size=2)
    ),
    max_leaves=20,
)  # fmt: skip
_WAYS = {WRITE, WRITE | FILLED, LINEARIZABLE, STAMPED, LOCAL, LINEARIZABLE | STREAMED, LOCAL | STREAMED}


@given(op=st.integers(0, 10) | _trees, fields=st.lists(_trees, max_size=14).map(tuple) | _trees)
def test_nothing_but_request_errors(op: object, fields: object) -> None:
    """Whatever tree a client's bytes unpack to, it is a request or a RequestError."""
    with contextlib.suppress(errors.RequestError):
        assert check(op, fields, LIMITS) in _WAYS
