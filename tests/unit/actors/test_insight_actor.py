"""The insight actor: how it finds out, and that it asks no more than it must."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

import pytest

from zkv import errors
from zkv.actors.insight_actor import QUESTIONS_MAX, SILENCE_MS, Found, InsightActor, Question
from zkv.actors.node import INSIGHT_ASKS
from zkv.core.health import Findings
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from typing import NamedTuple

READ_MS = 3_000
ACTORS = ("storage", "raft")
BELL = ("bell", None)


class House:
    """The actor, what it has posted, and whether there is room for it."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, NamedTuple]] = []
        self.room = True
        self.questions: queue.SimpleQueue[Question] = queue.SimpleQueue()
        self.actor = InsightActor(
            member_id=7, incarnation=99, read_ms=READ_MS, actors=ACTORS, questions=self.questions, post=self.post, now=0
        )

    def post(self, to: str, message: NamedTuple) -> bool:
        if self.room:
            self.posted.append((to, message))
        return self.room

    def ask(self, now: int, *, local: bool = False, quorum: bool = False) -> Question:
        question = Question(local=local, quorum=quorum)
        self.questions.put(question)
        self.actor.handle([BELL], now)
        return question

    def gid(self, position: int = -1) -> int:
        to, message = self.posted[position]
        packed = message.frame if isinstance(message, m.Read) else message.frames[0]  # type: ignore[attr-defined]
        frame = codec.decode_frame(packed)
        assert (frame.member_id, frame.incarnation) == (7, INSIGHT_ASKS)
        assert to == ("raft" if isinstance(message, m.Read) else "storage")
        return frame.groups[0][0]

    def answer(self, gid: int, now: int, alarms: tuple[tuple[int, int], ...] = (), code: int = 0) -> None:
        parts = ((1, 0, 5, m.AlarmAnswer(alarms)), (2, code, 5, ((), False, 0) if code == 0 else ()))
        payload = codec.pack(m.Answers(1, 1, 7, 1, parts))
        self.actor.handle([("node", m.GatewayAnswers(INSIGHT_ASKS, ((gid, payload, True),)))], now)


def told(question: Question) -> Findings | None:
    return found.findings if (found := _found(question)) else None


def _found(question: Question) -> Found | None:
    try:
        return question.reply.get_nowait()
    except queue.Empty:
        return None


def test_a_question_for_both_reads_is_answered_when_both_are() -> None:
    house = House()
    question = house.ask(10, local=True, quorum=True)
    local, quorum = (house.gid(position) for position in range(2))
    house.answer(local, 20, alarms=((7, 1),))
    assert told(question) is None
    house.answer(quorum, 30, alarms=((7, 1),))
    assert told(question) == Findings(ACTORS, (), ((7, 1),), "", "")


def test_a_read_that_fails_tells_its_error() -> None:
    house = House()
    question = house.ask(10, local=True)
    house.answer(house.gid(), 20, code=errors.Corrupt.code)
    assert told(question) == Findings(ACTORS, (), (), errors.Corrupt.text, None)


def test_a_refusal_of_raft_is_told_at_once() -> None:
    house = House()
    question = house.ask(10, quorum=True)
    house.actor.handle([("node", m.Refused(INSIGHT_ASKS, errors.NoLeader.code, (house.gid(),)))], 20)
    assert told(question) == Findings(ACTORS, (), (), None, errors.NoLeader.text)


def test_what_nobody_answers_is_told_to_have_taken_too_long_and_the_next_question_is_asked_anew() -> None:
    house = House()
    question = house.ask(10, quorum=True)
    assert house.actor.next_wakeup(11) == 10 + READ_MS
    house.actor.handle([], 10 + READ_MS - 1)
    assert told(question) is None
    house.actor.handle([], 10 + READ_MS)
    assert told(question) == Findings(ACTORS, (), (), None, errors.RequestTimeout.text)
    assert house.actor.next_wakeup(10 + READ_MS) is None
    late = house.gid()
    again = house.ask(20_000, quorum=True)
    house.answer(late, 20_001)
    assert told(again) is None, "the answer to the question before is not one to this"
    house.answer(house.gid(), 20_002)
    assert told(again) is not None


def test_however_many_ask_one_read_is_under_way_and_who_came_meanwhile_waits_for_the_next() -> None:
    """A read that was begun before the question says nothing of the time after it."""
    house = House()
    first = house.ask(10, quorum=True)
    others = [house.ask(11, quorum=True) for _ in range(10)]
    assert len(house.posted) == 1
    house.answer(house.gid(), 20)
    assert told(first) is not None
    assert [told(other) for other in others] == [None] * 10
    assert len(house.posted) == 2
    house.answer(house.gid(), 30)
    assert all(told(other) is not None for other in others)
    assert len(house.posted) == 2


def test_a_neighbours_full_queue_is_told_and_not_waited_for() -> None:
    house = House()
    house.room = False
    assert told(house.ask(10, local=True)) == Findings(ACTORS, (), (), errors.TooManyRequests.text, None)
    assert house.actor.next_wakeup(10) is None


def test_questions_beyond_the_limit_are_refused() -> None:
    house = House()
    kept = [house.ask(10, quorum=True) for _ in range(QUESTIONS_MAX)]
    assert told(house.ask(11, quorum=True)) == Findings(ACTORS, (), (), None, errors.TooManyRequests.text)
    house.answer(house.gid(), 12)
    assert told(kept[0]) is not None


def test_a_process_that_has_told_nothing_for_long_is_silent_and_its_numbers_are_not_shown() -> None:
    house = House()
    house.actor.handle([("node", m.Gauges("raft", 4, (("term", "", 3),)))], 10)
    house.actor.handle([("node", m.Gauges("storage", 5, ()))], 10 + SILENCE_MS)
    found = _found(house.ask(10 + SILENCE_MS))
    assert found is not None
    assert (found.findings.silent, set(found.reports)) == ((), {"raft", "storage"})
    found = _found(house.ask(11 + SILENCE_MS))
    assert found is not None
    assert (found.findings.silent, set(found.reports)) == (("raft",), {"storage"})


def test_answers_that_belong_to_no_question_are_passed_over() -> None:
    house = House()
    house.answer(12345, 10)
    house.actor.handle([("node", m.Refused(INSIGHT_ASKS, errors.NoLeader.code, (12345,)))], 11)
    with pytest.raises(AssertionError):
        house.actor.handle([("node", m.Hello("gateway", 1))], 12)
