"""Groups are judged whole: what they are asked is a record, or known to be none, before anybody acts on it."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

import pytest

from tests.harness import hostile
from zkv import errors
from zkv.config import Limits
from zkv.gateway.validate import check
from zkv.wire import messages as m
from zkv.wire.groups import is_sound_compare, judged, judged_request, suits
from zkv.wire.shapes import INT64_MAX, INT64_MIN, shape_of

KEY = (1, 2, (b"k", b"v"))
GOOD: tuple[Any, ...] = (1, 1, bytes(16), 5, (KEY,), ("root", 3))


def test_a_group_says_who_asks_what() -> None:
    group = judged(hostile.packed(GOOD))
    assert (group.session, group.floor, group.asked, group.keys) == (bytes(16), 5, [KEY], [b"k"])
    assert group.caller == ("root", 3)
    assert judged(hostile.packed(GOOD[:5])).caller is None


@pytest.mark.parametrize(
    "group",
    [
        5, (), GOOD[:4], (*GOOD, 1), {1: GOOD},
        (1, 1, "x" * 16, *GOOD[3:]), (1, 1, b"x", *GOOD[3:]), (1, 1, b"", -1, (KEY,)), (1, 1, b"", 1 << 63, (KEY,)),
        (1, 1, b"", True, (KEY,)), (1, 1, b"", 5, b"abc"), (1, 1, b"", 5, {1: KEY}),
        *((*GOOD[:4], (KEY, bad)) for bad in (5, b"abc", (), (1, 2), (*KEY, 1))),
        *((*GOOD[:4], (KEY, bad)) for bad in ((True, 2, ()), (1, "2", ()), (1, 2, b""), {1: 2, 3: 4, 5: 6})),
        *((*GOOD[:5], bad) for bad in (None, (), ("root",), ("root", True), (b"root", 3), ("root", 3, 4), b"ab")),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_group(group: Any) -> None:
    with pytest.raises(errors.CorruptionError):
        judged(hostile.packed(group))


@pytest.mark.parametrize("op", m.Op, ids=lambda op: op.name)
def test_what_is_asked_is_a_record(op: m.Op) -> None:
    for fields in hostile.one_of_each()[op]:
        record = judged_request(op, fields, [])
        assert type(record) is m.REQUEST_CLASSES[op]
        assert op == m.Op.TXN or record[: len(fields)] == fields
        assert judged_request(op, (*record, 1), []) is None


@pytest.mark.parametrize("serializable", [False, True])
def test_a_range_of_one_key_is_plain_however_much_is_left_off(serializable: bool) -> None:
    ranged = (b"k", b"", 0, 0, 0, 0, serializable, False, False, 0, 0, 0, 0)
    for count in range(7 if serializable else 1, len(ranged) + 1):
        asked = (1, 1, ranged[:count])
        assert judged(hostile.packed((1, 1, b"", 0, (asked,)))).asked == [asked]
        number = (*ranged[: count - 1], 5)
        ((_, _, other),) = judged(hostile.packed((1, 1, b"", 0, ((1, 1, number),)))).asked
        assert other is None or type(other) is m.Range


def test_a_range_with_no_for_nothing_is_no_request() -> None:
    ((_, _, asked),) = judged(hostile.packed((1, 1, b"", 0, ((1, 1, (b"k", b"", False)),)))).asked
    assert asked is None


def test_an_operation_that_there_is_not_is_none() -> None:
    assert judged_request(0, (), []) is None
    assert judged_request(max(m.Op) + 1, (), []) is None


@pytest.mark.parametrize(
    "inner",
    [
        ((0, 0, b"k", b"v"),), ((0, 3, b"k", 0),), ((0, 0, b"k", True),), ((4, 0, b"k", 0),), (5,), b"", None,
    ],
    ids=repr,
)  # fmt: skip
def test_compares_that_compare_nothing(inner: Any) -> None:
    assert judged_request(m.Op.TXN, (inner, (), ()), []) is None


def test_what_is_a_compare_at_first_sight_is_one() -> None:
    """And all that a door is asked in earnest are."""
    few: tuple[Any, ...] = (True, -1, 0, 3, 4, 5, b"", b"v", "v", None, INT64_MAX, INT64_MAX + 1, INT64_MIN - 1)
    sound = 0
    for result, target, key, operand in product(few, few, (b"", b"k", "k", 5), few):
        for end in ((), (b"",), (b"l",), (0,), (b"", b"")):
            compare = (result, target, key, operand, *end)
            if is_sound_compare(compare):
                sound += 1
                ((record,), _, _) = judged_request(m.Op.TXN, ((compare,), (), ()), [])
                assert record == shape_of(m.Compare).read(compare)
                assert suits(record)
    assert sound == 2 * (2 + 2 * 6) * 2 * 3  # results; a value's operands, and those of two numbers; keys; ends
    assert not is_sound_compare(5)


@pytest.mark.parametrize(
    "request_",
    [
        5, (), (2,), (True, (b"k",)), (2, (b"k",)), (2, b"kv"), (2, (b"k", b"v"), 1), (5, (1,)), (4, ()), (4, b"abc"),
        (2, (b"k", b"v", False, False, False, False, 0)), (2, (b"k", b"v", 0, 0, 0, 0, 0)), (1, (b"k", b"", 0, 0, 9)),
        (1, ()), (3, (b"k", {})),
    ],
    ids=repr,
)  # fmt: skip
def test_a_txn_with_something_in_it_that_is_no_request_is_none(request_: Any) -> None:
    """However deep."""
    good = (1, (b"k",))
    assert judged_request(m.Op.TXN, ((), (good,), ()), []) is not None
    assert judged_request(m.Op.TXN, ((), (good, request_), ()), []) is None
    assert judged_request(m.Op.TXN, ((), ((4, ((), (), (good, request_))),), ()), []) is None


def test_txns_are_nested_as_deep_as_doors_let_them_be() -> None:
    txn: tuple[Any, ...] = ((), (), ())
    for _ in range(m.TXN_DEPTH_MAX):
        txn = ((), ((int(m.Op.TXN), txn),), ())
    assert judged_request(m.Op.TXN, txn, []) is not None
    assert judged_request(m.Op.TXN, ((), (), ((int(m.Op.TXN), txn),)), []) is None


def test_what_doors_let_pass_is_judged_to_be_a_request() -> None:
    """And what stays plain has no option."""
    chance, passed = Random(1), 0
    for _ in range(5000):
        op, fields = hostile.request(chance) if chance.random() < 0.5 else hostile.rare(chance)
        for _ in range(chance.choice((0, 1, 1))):
            fields = hostile.changed(chance, fields)
        try:
            check(op, fields, Limits())
        except errors.RequestError:
            continue
        passed += 1
        record = judged_request(op, fields, [])
        assert record is not None, (op, fields)
        ((_, _, asked),) = judged(hostile.packed((1, 1, b"", 0, ((1, op, fields),)))).asked
        if type(asked) is not tuple:
            assert asked == record
        elif op == m.Op.PUT:
            assert m.Put(*asked) == record == m.Put(record.key, record.value)
        else:
            assert m.Range(*asked) == record
            assert record._replace(serializable=False) == m.Range(record.key)
    assert passed > 1000
