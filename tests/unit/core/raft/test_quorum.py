"""Majorities, plain and joint (Raft sections 5.3 and 6)."""

from __future__ import annotations

import pytest

from zkv.core.raft import quorum
from zkv.core.raft.quorum import Vote
from zkv.wire.messages import ConfState


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((4,), 4),
        ((4, 7), 4),
        ((4, 7, 9), 7),
        ((9, 0, 0), 0),
        ((1, 2, 3, 4), 2),
        ((7, 3, 9, 3, 5), 5),
    ],
)
def test_reached_is_what_a_majority_has_passed(numbers: tuple[int, ...], expected: int) -> None:
    """Raft 5.3: an entry is committed when a majority of the servers hold it."""
    conf = ConfState(tuple(range(len(numbers))))
    assert quorum.reached(conf, dict(enumerate(numbers))) == expected


def test_a_joint_configuration_has_reached_what_both_its_halves_have() -> None:
    """Raft 6: agreement requires separate majorities from both the old and new configurations."""
    held = {1: 9, 2: 9, 3: 9, 4: 2, 5: 3, 6: 1}
    assert quorum.reached(ConfState((4, 5, 6), (), (1, 2, 3)), held) == 2
    assert quorum.reached(ConfState((1, 2, 3), (), (4, 5, 6)), held) == 2


def test_learners_do_not_count() -> None:
    """Thesis 4.2.1: new servers join as non-voting members, not counted towards majorities."""
    held = {1: 5, 2: 9, 3: 9}
    assert quorum.reached(ConfState((1,), (2, 3)), held) == 5


@pytest.mark.parametrize(
    ("conf", "votes", "expected"),
    [
        (ConfState((1,)), {}, Vote.PENDING),
        (ConfState((1,)), {1: True}, Vote.WON),
        (ConfState((1, 2, 3)), {1: True}, Vote.PENDING),
        (ConfState((1, 2, 3)), {1: True, 3: True}, Vote.WON),
        (ConfState((1, 2, 3)), {1: True, 2: False}, Vote.PENDING),
        (ConfState((1, 2, 3)), {1: True, 2: False, 3: False}, Vote.LOST),
        (ConfState((1, 2, 3, 4)), {1: True, 2: True, 3: False}, Vote.PENDING),
        (ConfState((1, 2, 3, 4)), {1: True, 2: True, 3: False, 4: False}, Vote.LOST),
        (ConfState((1, 2, 3)), {1: True, 8: True, 9: True}, Vote.PENDING),
        (ConfState((1, 2), (), (3, 4)), {1: True, 2: True}, Vote.PENDING),
        (ConfState((1, 2), (), (3, 4)), {1: True, 2: True, 3: False}, Vote.LOST),
        (ConfState((1, 2), (), (3, 4)), {1: True, 2: True, 3: True, 4: True}, Vote.WON),
    ],
)
def test_an_election_is_won_lost_or_open(conf: ConfState, votes: dict[int, bool], expected: Vote) -> None:
    """Raft 5.2: a candidate wins with votes from a majority; 6: of both halves of a joint configuration."""
    assert quorum.tally(conf, votes) is expected
