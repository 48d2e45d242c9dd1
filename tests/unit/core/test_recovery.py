"""Whose log holds the most, and when that is all there ever was."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from tests.harness.raft_cores import Cores
from zkv.core.recovery import LogEnd, judge, most
from zkv.wire.messages import ConfState


def end(member: int, term: int = 1, last: int = 1, commit: int = 0) -> LogEnd:
    return LogEnd(member, term, last, commit)


def test_a_later_term_goes_before_a_longer_log() -> None:
    """A leader that nobody followed may have filled its log; what the others agreed on since is in the shorter ones."""
    assert most([end(1, term=2, last=900), end(2, term=3, last=10), end(3, term=3, last=11)]) == 2


def test_of_equals_the_one_counts_that_knows_most_to_be_agreed_on() -> None:
    assert most([end(1, commit=3), end(2, commit=4), end(3, commit=4)]) == 1


@pytest.mark.parametrize(
    ("voters", "here", "quorum", "complete"),
    [
        (1, {1}, True, True),
        (3, {1, 2}, True, True),
        (3, {1}, False, False),
        (4, {1, 2}, False, True),
        (4, {1}, False, False),
        (5, {1, 2, 3}, True, True),
        (5, {1, 2}, False, False),
        (3, {7}, False, False),  # a learner
    ],
)
def test_who_is_missing_decides_what_may_be_lost(voters: int, here: set[int], quorum: bool, complete: bool) -> None:
    verdict = judge([end(member) for member in sorted(here)], [ConfState(tuple(range(1, voters + 1)))])
    assert (verdict.quorum, verdict.complete) == (quorum, complete)
    assert set(verdict.missing) == set(range(1, voters + 1)) - here


def test_of_two_configurations_in_force_both_must_agree() -> None:
    """So one of them is enough to have all that was agreed on, and both are needed to elect."""
    joint = ConfState((4, 5, 6), voters_outgoing=(1, 2, 3))
    one_half = judge([end(1), end(2)], [joint])
    assert (one_half.quorum, one_half.complete) == (False, True)
    assert judge([end(1), end(2), end(4), end(5)], [joint]).quorum


def test_a_change_that_may_or_may_not_be_in_force_counts_both_ways() -> None:
    """Of four, two are enough to know all; of the two that are to stay, one of them is not."""
    before, after = ConfState((1, 2, 3, 4)), ConfState((3, 4, 5))
    assert judge([end(1), end(2)], [before]).complete
    verdict = judge([end(1), end(2)], [before, after])
    assert (verdict.complete, verdict.missing) == (False, (3, 4, 5))


@pytest.mark.parametrize("seed", range(25))
def test_what_was_agreed_on_is_in_the_log_that_holds_the_most(seed: int) -> None:
    """Leaders come and go, cut off from any of the others; then any members are left: told complete, it is."""
    rng = random.Random(seed)
    voters = rng.choice((2, 3, 4, 5))
    cores = Cores(voters)
    agreed: dict[int, int] = {}
    everyone = list(cores.cores)
    for _ in range(40):
        leaders = [member for member, core in cores.cores.items() if core.leader == member]
        if leaders and rng.random() < 0.7:  # one that is cut off leads on for a while, and fills its log
            core = cores.cores[rng.choice(leaders)]
            core.propose([b"x"] * rng.randint(1, 3), cores.now)
        else:
            cores.cut = {member for member in everyone if rng.random() < 0.3}
            cores.run(rng.choice((10, 300, 3_000)))
        cores.deliver()
        for member, core in cores.cores.items():
            log = cores.logs[member]
            agreed |= {index: log.term(index) for index in range(1, core.commit + 1)}
    told_complete = 0
    for count in range(1, voters + 1):
        for left in combinations(everyone, count):
            ends = [
                LogEnd(member, log.term(log.last_index), log.last_index, cores.cores[member].commit)
                for member in left
                for log in (cores.logs[member],)
            ]
            verdict = judge(ends, [cores.conf])
            best = cores.logs[left[verdict.best]]
            if verdict.complete:
                told_complete += 1
                assert all(index <= best.last_index and best.term(index) == term for index, term in agreed.items())
            assert not verdict.quorum or verdict.complete
    assert told_complete
    assert agreed
