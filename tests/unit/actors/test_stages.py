"""Where a slow request's time went: the stages that raft and storage add, found by time and index."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from zkv.actors import stages
from zkv.actors.stages import Marks, RaftStages, SlowLog
from zkv.sparingly import Sparingly
from zkv.wire.messages import Slow

MS = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_000 * MS

    def __call__(self) -> int:
        return self.now

    def go(self, ms: float) -> None:
        self.now += int(ms * MS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stages, "monotonic_ns", clock)
    return clock


def test_marks_tell_when_an_index_was_reached_to_a_millisecond(clock: Clock) -> None:
    marks = Marks()
    assert marks.at(1) is None
    for index in range(1, 101):
        clock.go(0.1)
        marks.reach(index, clock.now)
    for index in (1, 50, 100):
        at = marks.at(index)
        assert at is not None
        assert abs(at - (1_000 * MS + index * MS // 10)) <= MS
    assert marks.at(101) is None
    assert len(marks._kept) == 10


def test_marks_are_bounded_and_the_oldest_are_forgotten(clock: Clock) -> None:
    marks = Marks()
    for index in range(1, 3 * stages.MARKS_MAX):
        clock.go(2)
        marks.reach(index, clock.now)
    assert len(marks._kept) == stages.MARKS_MAX


def test_a_slow_write_is_told_stage_by_stage(clock: Clock) -> None:
    """One that waited 5 ms for raft, 40 for the disk, 30 for a quorum, 20 for storage, and took 10 to be applied."""
    raft = RaftStages()
    raft.appended(6)
    raft.turned(6, 6)
    clock.go(50)
    taken = clock.now
    clock.go(5)
    raft.appended(7)
    clock.go(40)
    raft.turned(7, 6)
    clock.go(30)
    raft.turned(7, 7)
    explained = raft.explained(Slow("gateway", "write", 3, 99, taken, taken + 107 * MS, 7))
    assert [(name, duration // MS) for name, duration in explained.stages] == [
        ("raft", 5),
        ("fsync", 40),
        ("quorum", 30),
    ]
    log = SlowLog(100, 300)
    clock.go(20)
    assert not log.applied(7, clock.now, clock.now + 10 * MS, 1, 99)
    with capture_logs() as lines:
        log.tell(explained)
    (line,) = lines
    assert line == {
        "event": "slow request", "log_level": "warning", "actor": "storage", "way": "write", "door": "gateway",
        "requests": 3, "bytes": 99, "took": "107.0ms", "expected": "300ms", "raft": "5.0ms", "fsync": "40.0ms",
        "quorum": "30.0ms", "queue": "20.0ms", "apply": "10.0ms", "gateway": "2.0ms", "index": 7, "left_out": 0,
    }  # fmt: skip


def test_of_a_batch_the_entry_is_told_that_was_appended_first_after_the_request_came(clock: Clock) -> None:
    """Storage was busy, and applied entries 5 to 9 at once; the request was in 7."""
    raft = RaftStages()
    taken = 0
    for index in range(5, 10):
        clock.go(5)
        if index == 7:
            taken = clock.now
        clock.go(10)
        raft.appended(index)
        raft.turned(index, index)
    explained = raft.explained(Slow("gateway", "write", 1, 9, taken, taken + 400 * MS, 9))
    assert explained.index == 7
    assert explained.stages == (("raft", 10 * MS), ("fsync", 0), ("quorum", 0))


def test_what_is_not_known_any_more_belongs_to_the_next_stage_that_is(clock: Clock) -> None:
    raft = RaftStages()
    clock.go(500)
    raft.turned(7, 7)
    taken = clock.now - 400 * MS
    explained = raft.explained(Slow("gateway", "write", 1, 9, taken, clock.now, 7))
    assert explained.stages == (("fsync", 400 * MS), ("quorum", 0))
    nothing = RaftStages().explained(Slow("gateway", "write", 1, 9, taken, clock.now, 7))
    assert nothing.stages == ()


def test_a_slow_read_is_told_by_the_round_that_confirmed_it(clock: Clock) -> None:
    raft = RaftStages()
    raft.read_asked(1)
    raft.read_ended(1, confirmed=True)
    clock.go(10)
    taken = clock.now
    clock.go(3)
    raft.read_asked(2)
    clock.go(200)
    raft.read_ended(2, confirmed=True)
    explained = raft.explained(Slow("grpc", "linearizable", 1, 9, taken, clock.now + 150 * MS, 0))
    assert explained.stages == (("raft", 3 * MS), ("quorum", 200 * MS))
    with capture_logs() as lines:
        SlowLog(100, 300).tell(explained)
        SlowLog(100, 300).tell(Slow("grpc", "local", 1, 9, taken, taken + 400 * MS, 0))
    assert (lines[0]["storage"], lines[0]["took"]) == ("150.0ms", "353.0ms")
    assert (lines[1]["storage"], lines[1]["way"]) == ("400.0ms", "local")
    assert not raft._rounds


def test_rounds_nobody_confirmed_are_forgotten(clock: Clock) -> None:
    raft = RaftStages()
    raft.read_asked(1)
    raft.read_ended(1, confirmed=False)
    raft.read_ended(7, confirmed=True)
    assert (raft._rounds, len(raft._confirmed)) == ({}, 0)


def test_a_slow_apply_is_logged_and_counted_and_a_flood_is_not_all_logged() -> None:
    log = SlowLog(100, 300)
    with capture_logs() as lines:
        slow = [log.applied(index, 0, 101 * MS + index, 2, 99) for index in range(1, 31)]
        assert log.applied(31, 0, 5_000 * MS, 2, 99)
        assert not log.applied(32, 0, 100 * MS, 2, 99)
    assert slow == [True] * 30
    assert len(lines) == Sparingly.PER_SECOND + 1
    assert (lines[0]["took"], lines[0]["expected"], lines[0]["entries"]) == ("101.0ms", "100ms", 2)
    assert lines[-1]["left_out"] == 20
