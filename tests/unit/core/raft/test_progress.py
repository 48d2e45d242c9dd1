"""What a leader may send one follower, by what it knows of it (thesis section 10.2.2: pipelining)."""

from __future__ import annotations

import pytest

from zkv.core.raft.progress import Progress, State


def probing(next_index: int, *, window: int = 4) -> Progress:
    return Progress(next_index, 0, appends_max=window, bytes_max=100)


def replicating(match: int, *, window: int = 4) -> Progress:
    progress = probing(match + 1, window=window)
    progress.accepted(match)
    progress.replicate()
    return progress


def test_a_probe_waits_for_its_answer() -> None:
    """Where the logs agree is unknown: one append at a time."""
    progress = probing(5)
    assert progress.may_append()
    progress.sent(6, 1, 0)
    assert not progress.may_append()
    assert progress.next == 5, "nothing says that it arrived"
    progress.accepted(6)
    assert progress.may_append()


def test_a_sign_of_life_lets_a_probe_be_repeated() -> None:
    """The append or its answer may have been lost."""
    progress = probing(5)
    progress.sent(6, 1, 0)
    progress.alive(9)
    assert progress.may_append()
    assert progress.nudged


def test_replication_runs_ahead_up_to_the_window() -> None:
    """Thesis 10.2.2: the leader need not wait for an answer before it sends the next entries."""
    progress = replicating(4, window=2)
    progress.sent(5, 1, 0)
    assert (progress.next, progress.may_append()) == (6, True)
    progress.sent(8, 1, 0)
    assert (progress.next, progress.may_append()) == (9, False)


def test_replication_runs_ahead_up_to_so_many_bytes() -> None:
    """What a follower that catches up costs in memory is bounded, though one append may go beyond."""
    progress = replicating(4)
    progress.sent(5, 99, 0)
    assert progress.may_append()
    progress.sent(6, 99, 0)
    assert not progress.may_append()
    progress.accepted(5)
    assert progress.may_append()


def test_one_answer_frees_all_it_speaks_for() -> None:
    """An answer for index 8 says that 5 arrived too."""
    progress = replicating(4, window=2)
    progress.sent(5, 1, 0)
    progress.sent(8, 1, 0)
    progress.accepted(8)
    assert progress.match == 8
    assert progress.may_append()


def test_an_old_answer_changes_nothing() -> None:
    """Answers may come late and doubled; match never falls by them."""
    progress = replicating(4)
    assert not progress.accepted(2)
    assert (progress.match, progress.next) == (4, 5)


@pytest.mark.parametrize(
    ("index", "agree", "next_index"),
    [
        pytest.param(9, 6, 7, id="the hint tells where to look"),
        pytest.param(9, 20, 9, id="but never beyond what was refused"),
        pytest.param(9, 4, 5, id="nor before what is known to match"),
    ],
)
def test_a_rejection_goes_back_to_probing(index: int, agree: int, next_index: int) -> None:
    """Raft 5.3: after a rejection the leader decrements nextIndex and retries."""
    progress = replicating(4)
    for last in (6, 9, 10):
        progress.sent(last, 1, 0)
    progress.rejected(index, agree)
    assert (progress.state, progress.next) == (State.PROBE, next_index)


def test_an_old_rejection_is_ignored() -> None:
    """A rejection of what has been confirmed since, or not of the last probe, says nothing new."""
    progress = replicating(4)
    progress.rejected(3, 4)
    assert progress.state is State.REPLICATE
    progress.probe(8)
    progress.rejected(5, 4)
    assert progress.next == 8


def test_a_follower_that_lost_its_disk_starts_over() -> None:
    """A member that keeps nothing on disk and restarts holds less than it once confirmed."""
    progress = replicating(4)
    progress.rejected(4, 0)
    assert (progress.state, progress.match, progress.next) == (State.PROBE, 0, 1)


def test_while_a_snapshot_is_sent_there_are_no_appends() -> None:
    """Raft 7: the entries it needs next are gone."""
    progress = replicating(4)
    progress.snapshot()
    assert not progress.may_append()
    progress.probe(12, waits=True)
    assert not progress.may_append(), "not before it gives a sign of life"
    progress.alive(11)
    assert progress.may_append()
