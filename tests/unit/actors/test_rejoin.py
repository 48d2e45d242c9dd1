"""A member that forgets all at a restart: when it may vote again, and what the others do for it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from zkv.actors.rejoin import Passivity, Readmission
from zkv.core.raft.log import MemoryLog
from zkv.core.raft.raft import Raft, RaftConfig
from zkv.wire.messages import ConfState, Message, MessageKind, Rejoin, RejoinAnswer

if TYPE_CHECKING:
    from typing import NamedTuple

BOOTSTRAP = ConfState((1, 2, 3))


def passive(posted: list[tuple[int, NamedTuple]] | None = None) -> Passivity:
    def post(member: int, message: NamedTuple) -> bool:
        if posted is not None:
            posted.append((member, message))
        return True

    return Passivity(1, 77, post)


def test_all_starting_together_may_vote_once_each_has_heard_all_others() -> None:
    """An answer "I am fresh too" and a question of one's own say the same."""
    member = passive()
    member.answered(2, RejoinAnswer(fresh=True))
    assert not member.is_over(BOOTSTRAP)
    member.asked(3, Rejoin(5, fresh=False))
    assert not member.is_over(BOOTSTRAP), "who has voted since may ask as well"
    member.asked(3, Rejoin(5, fresh=True))
    assert member.is_over(BOOTSTRAP)


def test_one_that_is_not_fresh_keeps_it_passive() -> None:
    """Somebody has voted since: this member may have been asked to, and have forgotten it."""
    member = passive()
    member.answered(2, RejoinAnswer(fresh=True))
    member.answered(3, RejoinAnswer(fresh=False))
    assert not member.is_over(BOOTSTRAP)


def test_it_votes_again_in_a_configuration_after_the_one_that_made_it_a_learner() -> None:
    """A configuration in which it votes counts only if it is newer: older ones come by while the log is replayed."""
    member = passive()
    assert not member.is_over(ConfState((1, 2, 3), index=5)), "an old promotion, met while the log is replayed"
    member.answered(2, RejoinAnswer(fresh=False, learner_as_of=7))
    assert not member.is_over(ConfState((1, 2, 3), index=5))
    assert not member.is_over(ConfState((2, 3), (1,), index=7))
    assert member.is_over(ConfState((1, 2, 3), index=9))


def test_it_takes_entries_but_has_no_say_in_elections() -> None:
    member = passive()
    for kind in range(MessageKind.APPEND, MessageKind.TIMEOUT_NOW + 1):
        says = kind in {MessageKind.VOTE, MessageKind.PRE_VOTE, MessageKind.TIMEOUT_NOW}
        assert member.may_step(Message(kind, 1, 2, 1)) is not says


def test_it_asks_all_others_and_not_at_every_turn() -> None:
    posted: list[tuple[int, NamedTuple]] = []
    member = passive(posted)
    member.ask(BOOTSTRAP, 2, 1000, fresh=True)
    member.ask(BOOTSTRAP, 2, 1001, fresh=True)
    assert posted == [(2, Rejoin(77, fresh=True)), (3, Rejoin(77, fresh=True))]


def test_one_that_does_not_know_the_members_asks_who_leads() -> None:
    posted: list[tuple[int, NamedTuple]] = []
    member = passive(posted)
    member.ask(ConfState(()), 0, 1000, fresh=False)
    assert not posted
    member.ask(ConfState(()), 3, 2000, fresh=False)
    assert posted == [(3, Rejoin(77))]


def test_one_that_is_to_stay_a_learner_need_not_wait_for_a_vote() -> None:
    member = passive()
    member.answered(2, RejoinAnswer(fresh=False, learner_as_of=7))
    learning = ConfState((2, 3), (1,), index=7)
    assert not member.is_over(learning)
    assert member.is_over(learning, stays_learner=True)
    assert not member.is_over(learning._replace(index=6), stays_learner=True)


def test_who_was_heard_while_all_were_fresh_is_told_so_again() -> None:
    """The first answer met no connection; meanwhile there is a leader. Another start of the same member is not told."""
    posted: list[tuple[int, NamedTuple]] = []

    def post(member: int, message: NamedTuple) -> bool:
        posted.append((member, message))
        return True

    core = Raft(RaftConfig(member=1), MemoryLog(BOOTSTRAP), random.Random(1), 0)
    others = Readmission(post)
    others.asked(core, 3, 77, 1, 0, fresh=True)
    others.asked(core, 3, 77, 2, 200, fresh=False)
    assert posted == [(3, RejoinAnswer(fresh=True))] * 2
    others.asked(core, 3, 78, 3, 400, fresh=False)
    others.asked(core, 2, 5, 4, 400, fresh=False)
    assert len(posted) == 2
