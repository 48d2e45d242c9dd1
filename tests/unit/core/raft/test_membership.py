"""A configuration and a change make the next configuration (Raft section 6, thesis chapter 4)."""

from __future__ import annotations

import pytest

from zkv.core.raft import membership
from zkv.errors import InvalidRequest
from zkv.wire.messages import ConfChange, ConfChangeKind, ConfState

ADD, LEARN, REMOVE, UPDATE = (
    ConfChangeKind.ADD_VOTER,
    ConfChangeKind.ADD_LEARNER,
    ConfChangeKind.REMOVE,
    ConfChangeKind.UPDATE,
)


def change(*changes: tuple[ConfChangeKind, int]) -> ConfChange:
    return ConfChange(tuple((kind, member, ()) for kind, member in changes))


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        pytest.param(((1,), ()), [(ADD, 2)], ((1, 2), (), ()), id="a voter joins"),
        pytest.param(((1,), ()), [(LEARN, 2)], ((1,), (2,), ()), id="a learner joins"),
        pytest.param(((1,), (2,)), [(ADD, 2)], ((1, 2), (), ()), id="a learner is promoted"),
        pytest.param(((1, 2), ()), [(LEARN, 2)], ((1,), (2,), ()), id="a voter is demoted"),
        pytest.param(((1, 2, 3), ()), [(REMOVE, 2)], ((1, 3), (), ()), id="a voter leaves"),
        pytest.param(((1,), (2,)), [(REMOVE, 2)], ((1,), (), ()), id="a learner leaves"),
        pytest.param(((1, 2), ()), [(UPDATE, 2)], ((1, 2), (), ()), id="new urls change no rights"),
        pytest.param(((1,), ()), [(LEARN, 2), (LEARN, 3)], ((1,), (2, 3), ()), id="learners need no joint conf"),
        pytest.param(((1,), ()), [(ADD, 2), (LEARN, 3)], ((1, 2), (3,), ()), id="nor does one voter beside them"),
        pytest.param(((1, 2), ()), [(ADD, 3), (REMOVE, 1)], ((2, 3), (), (1, 2)), id="two voters change jointly"),
        pytest.param(((1, 2), ()), [(ADD, 3), (LEARN, 1)], ((2, 3), (1,), (1, 2)), id="joint with a demotion"),
    ],
)
def test_changes(
    before: tuple[tuple[int, ...], tuple[int, ...]],
    asked: list[tuple[ConfChangeKind, int]],
    after: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
) -> None:
    """Thesis 4.1: one voter at a time keeps majorities overlapping; Raft 6: more go through a joint configuration."""
    assert membership.changed(ConfState(*before), change(*asked), 9) == ConfState(*after, 9)


def test_the_empty_change_leaves_a_joint_configuration() -> None:
    """Raft 6: once C-old,new is committed, the leader creates C-new."""
    joint = ConfState((2, 3), (), (1, 2), 9)
    assert membership.changed(joint, change(), 10) == ConfState((2, 3), (), (), 10)


@pytest.mark.parametrize(
    ("conf", "asked"),
    [
        pytest.param(ConfState((1,)), [(REMOVE, 1)], id="nobody left to vote"),
        pytest.param(ConfState((1,)), [(LEARN, 1)], id="nobody left to vote, only to learn"),
        pytest.param(ConfState((1,)), [(REMOVE, 2)], id="an unknown member cannot leave"),
        pytest.param(ConfState((1,)), [(UPDATE, 2)], id="nor change its urls"),
        pytest.param(ConfState((1,)), [(ADD, 2), (REMOVE, 2)], id="a member named twice"),
        pytest.param(ConfState((1,)), [(ADD, 0)], id="0 is nobody"),
        pytest.param(ConfState((1,)), [], id="no joint configuration to leave"),
        pytest.param(ConfState((1, 2), (), (1, 3)), [(ADD, 4)], id="the joint configuration comes first"),
    ],
)
def test_what_makes_no_sense_is_refused(conf: ConfState, asked: list[tuple[ConfChangeKind, int]]) -> None:
    """A refused change never reaches the log, so applying a logged one cannot fail."""
    with pytest.raises(InvalidRequest):
        membership.changed(conf, change(*asked), 9)
