"""Single cases, each tried on etcd 3.5.1's JSON gateway: the expectations are what it answered."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.kv_log import Feeder
from zkv.errors import Compacted, FutureRevision, KeyNotFound, LeaseNotFound, RangeTooLarge
from zkv.limits import Limits
from zkv.wire import messages as m
from zkv.wire.messages import Compact, Compare, HashKV, Put, Range, SortOrder, SortTarget, Txn

FIVE = [
    Put(key, value) for key, value in zip([b"a", b"b", b"c", b"d", b"e"], [b"9", b"8", b"7", b"6", b"5"], strict=True)
]


@pytest.fixture
def five() -> Feeder:
    """a=9 .. e=5 at revisions 2 to 6."""
    feeder = Feeder()
    feeder.ask(*FIVE)
    return feeder


def keys(answer: Any) -> tuple[bytes, bool, int]:
    kvs, more, count = answer
    return b"".join(kv[0] for kv in kvs), more, count


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Range(b"a", b"\0", 2), (b"ab", True, 5)),
        (Range(b"a", b"\0", 2, sort_target=SortTarget.VALUE), (b"cb", True, 5)),  # of the first limit + 1 keys
        (Range(b"a", b"\0", 2, 0, SortOrder.ASCEND, SortTarget.VALUE), (b"ed", True, 5)),
        (Range(b"a", b"\0", 0, 0, SortOrder.DESCEND, SortTarget.VERSION), (b"abcde", False, 5)),
        (Range(b"a", b"\0", 2, min_mod_revision=4), (b"cd", True, 5)),
        (Range(b"a", b"\0", 3, min_mod_revision=4), (b"cde", False, 5)),
        (Range(b"a", b"\0", 2, count_only=True), (b"", False, 5)),
        (Range(b"a", b"\0", -1), (b"abcde", False, 5)),
        (Range(b"c", b"a"), (b"", False, 0)),
        (Range(b"a", revision=-5), (b"a", False, 1)),
        (Range(b"a", b"\0", revision=3), (b"ab", False, 2)),
    ],
)
def test_ranges(five: Feeder, request_: Range, expected: tuple[bytes, bool, int]) -> None:
    assert keys(five.read(request_)) == expected


def test_compaction_has_its_bounds(five: Feeder) -> None:
    outcomes = five.ask(Compact(-1), Compact(0), Compact(0), Compact(7), Compact(3))
    assert [type(outcome) for outcome in outcomes] == [Compacted, tuple, Compacted, FutureRevision, tuple]
    assert keys(five.read(Range(b"a", b"\0", revision=3))) == (b"ab", False, 2)
    assert isinstance(five.read(Range(b"a", revision=2)), Compacted)
    assert isinstance(five.read(Range(b"a", revision=99)), FutureRevision)
    assert keys(five.read(Range(b"a", revision=-1))) == (b"a", False, 1)
    assert isinstance(five.read(HashKV(3)), Compacted)
    assert isinstance(five.read(HashKV(99)), FutureRevision)


def test_a_txn_takes_a_negative_revision_for_a_compacted_one(five: Feeder) -> None:
    """Unlike a range of its own; on a store never compacted -1 still passes."""
    txn = Txn((), ((1, Range(b"a", revision=-1)),), ())
    assert five.read(txn)[0] is True
    five.ask(Compact(0))
    assert isinstance(five.read(txn), Compacted)


def test_a_txn_is_checked_whole_before_it_is_applied(five: Feeder) -> None:
    keep = Put(b"x", b"", 0, False, True)
    future = Range(b"a", revision=7)
    [error] = five.ask(Txn((), ((2, Put(b"n", b"")), (1, future)), ()))
    assert isinstance(error, FutureRevision)
    [error] = five.ask(Txn((), ((1, future), (2, keep)), ()))
    assert isinstance(error, KeyNotFound)  # puts are checked before ranges
    [error] = five.ask(Txn((), ((2, Put(b"n", b"")), (2, Put(b"m", b"", 5))), ()))
    assert isinstance(error, LeaseNotFound)
    assert five.machine.revision == 6
    assert keys(five.read(Range(b"n")))[2] == 0


def test_a_nested_txn_compares_with_what_was_before_the_outer_one(five: Feeder) -> None:
    """And its ranges see what the outer one has written."""
    absent = Compare(m.CompareResult.EQUAL, m.CompareTarget.VERSION, b"n", 0)
    inner = Txn((absent,), ((1, Range(b"n", keys_only=True)),), ())
    [answer] = five.ask(Txn((), ((2, Put(b"n", b"v")), (4, inner)), ()))
    assert answer == (True, ((2, (None, 0)), (4, (True, ((1, (((b"n", 7, 7, 1, b"", 0),), False, 1)),)))))


def test_a_txn_sees_its_writes_now_and_not_in_the_past(five: Feeder) -> None:
    ranges = ((1, Range(b"a", b"\0", count_only=True)), (1, Range(b"a", b"\0", revision=6, count_only=True)))
    [answer] = five.ask(Txn((), ((2, Put(b"f", b"")), (3, m.DeleteRange(b"a", b"c")), *ranges), ()))
    assert answer[1][1:] == ((3, (2, ())), (1, ((), False, 4)), (1, ((), False, 5)))


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (Compare(0, m.CompareTarget.VERSION, b"A", 0, b"B"), True),
        (Compare(3, m.CompareTarget.VALUE, b"A", b"x", b"B"), False),  # no key has no value, not even an unequal one
        (Compare(1, m.CompareTarget.CREATE, b"c", 0, b"\0"), True),
        (Compare(0, m.CompareTarget.LEASE, b"c", 0), True),
        (Compare(2, m.CompareTarget.VALUE, b"a", b"9", b"c"), False),
    ],
)
def test_compares(five: Feeder, compare: Compare, holds: bool) -> None:
    assert five.read(Txn((compare,), (), ()))[0] is holds


def test_what_changes_nothing_takes_no_revision(five: Feeder) -> None:
    five.ask(m.DeleteRange(b"none"), Txn((), ((3, m.DeleteRange(b"x", b"z")), (1, Range(b"a"))), ()))
    assert five.machine.revision == 6


def test_a_range_too_large_for_a_txn_undoes_it(five: Feeder) -> None:
    small = Feeder(limits=Limits()._replace(answer_bytes_max=100, chunk_bytes=50))
    small.ask(*FIVE)
    [error] = small.ask(Txn((), ((2, Put(b"f", b"")), (1, Range(b"a", b"\0"))), ()))
    assert isinstance(error, RangeTooLarge)
    assert small.machine.revision == 6
    assert keys(small.read(Range(b"a", b"\0"))) == (b"abcde", False, 5)


def test_a_malformed_request_is_refused_and_leaves_no_trace(five: Feeder) -> None:
    """The doors let none through; one that got into the log must not bring down whoever applies it."""
    broken: list[Any] = [Put(b"x", 5), Put("x", b""), Put(b"x", b"", 1.5), m.DeleteRange(5), Range(b"x", 7)]  # type: ignore[arg-type]
    broken += [Txn((), ((2, Put(b"x", b"")), (2, Put(b"y", 7))), ()), Txn(5, (), ())]  # type: ignore[arg-type]
    before = five.machine.revision
    for request in broken:
        five.ask(request)
    assert five.machine.revision == before
    assert five.ask(Put(b"x", b"")) == [(None, 0)]
