"""Requests of etcd's API on their way: grouped, answered once, asked again when nobody led."""

from __future__ import annotations

from typing import Any

import pytest

from zkv import errors
from zkv.gateway.asking import Asking
from zkv.gateway.leaving import DEADLINE_STEP_MS
from zkv.limits import Limits
from zkv.wire import codec
from zkv.wire import messages as m

INCARNATION = 5 | m.ETCD_DOOR
PUT, RANGE = int(m.Op.PUT), int(m.Op.RANGE)
TIMEOUT_MS = 1_000


class Asker:
    def __init__(self) -> None:
        self.heard: list[tuple[int, Any]] = []

    def answered(self, op: int, code: int, revision: int, body: Any) -> None:
        self.heard.append((code, body))

    @property
    def codes(self) -> list[int]:
        return [code for code, _ in self.heard]


class House:
    """The door's requests, with raft and storage played by the test."""

    def __init__(self, **limits: Any) -> None:
        self.posted: list[tuple[str, Any]] = []
        self.full: set[str] = set()
        self.asking = Asking(
            limits=Limits(**limits),
            member_id=1,
            incarnation=INCARNATION,
            request_timeout_ms=TIMEOUT_MS,
            post=self._post,
        )

    def _post(self, to: str, message: Any) -> bool:
        if to in self.full:
            return False
        self.posted.append((to, message))
        return True

    def put(self, count: int = 1, now: int = 0) -> list[Asker]:
        askers = [Asker() for _ in range(count)]
        for at, asker in enumerate(askers):
            self.asking.ask(asker, PUT, (b"k%d" % at, b"v"), 10, now)
        return askers

    def groups(self) -> list[tuple[int, list[tuple[int, int, Any]]]]:
        """(gid, requests) of all that has left since the last time."""
        self.asking.flush()
        found = []
        for _, message in self.posted:
            if isinstance(message, m.StreamCredit):
                continue
            frames = message.frames if isinstance(message, m.StampedRead) else (message.frame,)
            for frame in map(codec.decode_frame, frames):
                assert (frame.member_id, frame.incarnation) == (1, INCARNATION)
                found += [(gid, list(codec.unpack(payload)[4])) for gid, payload in frame.groups]
        self.posted.clear()
        return found

    def answer(self, gid: int, ids: list[int], code: int = 0, body: Any = (), *, last: bool = True) -> None:
        parts = tuple((id_, code, 6, body) for id_ in ids)
        payload = codec.pack(m.Answers(m.PROTOCOL_VERSION, 9, 1, 3, parts))
        self.asking.mail(m.GatewayAnswers(INCARNATION, ((gid, payload, last),)), 0)


def ids(requests: list[tuple[int, int, Any]]) -> list[int]:
    return [request[0] for request in requests]


def test_what_is_asked_in_one_turn_leaves_as_one_group_per_way() -> None:
    """Puts in one, plain reads in another; a range of keys, whose chunks need a number, alone."""
    house = House()
    house.put(3)
    for _ in range(2):
        house.asking.ask(Asker(), RANGE, (b"a",), 10, 0)
    house.asking.ask(Asker(), RANGE, (b"a", b"b"), 10, 0)
    assert sorted(len(requests) for _, requests in house.groups()) == [1, 2, 3]
    assert all(m.door_of(gid) == "grpc" for gid, _ in house.groups())


def test_answers_may_come_in_parts_and_out_of_order() -> None:
    """Each asker hears its own, once; what comes twice or for nobody is dropped."""
    house = House()
    one, two, three = house.put(3)
    ((gid, requests),) = house.groups()
    first, second, third = ids(requests)
    house.answer(gid, [third], last=False)
    house.answer(gid, [first, second])
    house.answer(gid, [first, second, third])
    assert [asker.codes for asker in (one, two, three)] == [[0], [0], [0]]
    assert house.asking.in_flight == (0, 0)


def test_who_met_no_leader_is_asked_again_when_there_is_one() -> None:
    """Nothing had happened, so this is the first time; its deadline stays what it was."""
    house = House()
    (asker,) = house.put()
    ((gid, before),) = house.groups()
    house.asking.mail(m.Refused(INCARNATION, errors.NoLeader.code, (gid,)), 0)
    house.asking.mail(m.LeaderIs(4, 0), 0)
    assert house.groups() == []
    house.asking.mail(m.LeaderIs(5, 2), 0)
    ((again, after),) = house.groups()
    assert after == before
    house.answer(again, ids(after))
    assert asker.codes == [0]


def test_what_storage_says_is_under_way_has_no_deadline_and_outlives_its_leader() -> None:
    """A defragmentation, or a physical compaction, which has long been applied."""
    house = House()
    (asker,) = house.put()
    ((gid, requests),) = house.groups()
    house.asking.mail(m.LeaderIs(4, 1), 0)
    house.answer(gid, [], last=False)
    house.asking.mail(m.LeaderIs(5, 2), 0)
    house.asking.tick(2 * (TIMEOUT_MS + DEADLINE_STEP_MS))
    assert asker.codes == []
    house.answer(gid, ids(requests))
    assert asker.codes == [0]


def test_who_never_meets_a_leader_times_out() -> None:
    """As in etcd, and without a trace."""
    house = House()
    (asker,) = house.put()
    ((gid, _),) = house.groups()
    house.asking.mail(m.Refused(INCARNATION, errors.NoLeader.code, (gid,)), 0)
    house.asking.tick(TIMEOUT_MS + DEADLINE_STEP_MS)
    assert asker.codes == [errors.RequestTimeout.code]
    house.asking.mail(m.LeaderIs(5, 2), 0)
    assert house.groups() == []


def test_writes_given_to_a_leader_that_leads_no_more_are_in_doubt() -> None:
    """Not those that it never had."""
    house = House()
    house.asking.mail(m.LeaderIs(4, 1), 0)
    (given,) = house.put()
    house.groups()
    (waiting,) = house.put()
    ((gid, _),) = house.groups()
    house.asking.mail(m.Refused(INCARNATION, errors.NoLeader.code, (gid,)), 0)
    house.asking.mail(m.LeaderIs(5, 2), 0)
    assert given.codes == [errors.LeaderChanged.code]
    assert waiting.codes == []
    assert len(house.groups()) == 1


@pytest.mark.parametrize("actor", ["raft", "storage"])
def test_what_a_neighbour_held_is_lost_with_it(actor: str) -> None:
    """Its Hello, with another incarnation, is the news."""
    house = House()
    house.asking.mail(m.Hello(actor, 3), 0)
    (asker,) = house.put()
    house.groups()
    house.asking.mail(m.Hello(actor, 3), 0)
    assert asker.codes == []
    house.asking.mail(m.Hello(actor, 4), 0)
    assert asker.codes == [errors.Unavailable.code]


def test_more_than_fits_is_refused() -> None:
    """By number, by bytes, and when a neighbour's queue is full; nothing of it is kept."""
    house = House(in_flight_groups_max=2)
    house.put(2)
    with pytest.raises(errors.TooManyRequests):
        house.put()
    house = House()
    house.full.add("raft")
    (asker,) = house.put()
    house.asking.flush()
    assert asker.codes == [errors.TooManyRequests.code]
    assert house.asking.in_flight == (0, 0)
    with pytest.raises(errors.RequestTooLarge):
        house.asking.ask(Asker(), PUT, (b"k", b"v"), Limits().request_bytes_max + 1, 0)


def test_a_range_in_chunks_is_paced_and_can_be_dropped() -> None:
    """Its deadline counts until the first chunk; credit and its end go to storage."""
    house = House()
    asker = Asker()
    id_ = house.asking.ask(asker, RANGE, (b"a", b"z"), 10, 0)
    ((gid, _),) = house.groups()
    house.answer(gid, [id_], errors.Code.CHUNK, ((), False, 0), last=False)
    house.asking.credit(id_)
    house.asking.tick(10 * TIMEOUT_MS)
    assert asker.codes == [errors.Code.CHUNK]
    house.asking.drop(id_)
    house.answer(gid, [id_], errors.Code.CHUNK, ((), False, 0), last=False)
    assert [message for _, message in house.posted] == [
        m.StreamCredit(gid, id_, 1),
        m.StreamCredit(gid, id_, 0),
        m.StreamCredit(gid, id_, 0),
    ]
    assert asker.codes == [errors.Code.CHUNK]


def read_ahead(house: House, *asked: Any) -> tuple[Asker, int, m.AnsweredAhead]:
    """Who asks for a range, its group, and what storage has found."""
    asker = Asker()
    id_ = house.asking.ask(asker, RANGE, asked, 10, 0)
    ((gid, _),) = house.groups()
    payload = codec.pack(m.Answers(m.PROTOCOL_VERSION, 9, 1, 3, ((id_, 0, 6, ((), False, 0)),)))
    return asker, gid, m.AnsweredAhead(INCARNATION, gid, payload)


@pytest.mark.parametrize("raft_first", [True, False])
def test_what_was_read_ahead_leaves_when_raft_has_let_it_pass(raft_first: bool) -> None:
    """Whichever of the two comes second lets it out."""
    house = House()
    asker, gid, ahead = read_ahead(house, b"a")
    halves = [ahead, m.Confirmed(INCARNATION, gid)]
    first, second = reversed(halves) if raft_first else halves
    house.asking.mail(first, 0)
    assert asker.codes == []
    house.asking.mail(second, 0)
    assert asker.codes == [0]
    assert house.asking.in_flight == (0, 0)
    assert not house.asking._groups


@pytest.mark.parametrize("actor", ["raft", "storage"])
def test_what_was_read_ahead_leaves_no_more_when_a_neighbour_has_restarted(actor: str) -> None:
    """Its group is over: a word that comes later is for nobody, and an answer is for no later group."""
    house = House()
    house.asking.mail(m.Hello(actor, 3), 0)
    asker, gid, ahead = read_ahead(house, b"a")
    house.asking.mail(ahead, 0)
    house.asking.mail(m.Hello(actor, 4), 0)
    house.asking.mail(m.Confirmed(INCARNATION, gid), 0)
    assert asker.codes == [errors.Unavailable.code]
    other, other_gid, _ = read_ahead(house, b"a")
    house.asking.mail(m.Confirmed(INCARNATION, other_gid), 0)
    assert other.codes == []


def test_who_met_no_leader_is_told_nothing_that_was_read_ahead() -> None:
    """He is asked for again, under another number: what was found for the first is for nobody."""
    house = House()
    asker, gid, ahead = read_ahead(house, b"a")
    house.asking.mail(ahead, 0)
    house.asking.mail(m.Refused(INCARNATION, errors.NoLeader.code, (gid,)), 0)
    house.asking.mail(m.LeaderIs(5, 2), 0)
    ((again, requests),) = house.groups()
    house.asking.mail(m.Confirmed(INCARNATION, again), 0)
    house.asking.mail(ahead, 0)
    assert asker.codes == []
    house.asking.mail(ahead._replace(gid=again), 0)
    assert asker.codes == [0]
    assert ids(requests)


@pytest.mark.parametrize("raft_first", [True, False])
def test_what_was_not_begun_ahead_is_asked_of_storage_when_it_may_be(raft_first: bool) -> None:
    """A range in chunks: the read comes back, and goes there as one that has been stamped."""
    house = House()
    asker, gid, _ = read_ahead(house, b"a", b"z")
    read = m.StampedRead(4, m.Stamp(3, 1, 4, is_learner=False), (b"frame",))
    halves = [m.AnsweredAhead(INCARNATION, gid, b"", read), m.Confirmed(INCARNATION, gid)]
    for half in reversed(halves) if raft_first else halves:
        assert house.posted == []
        house.asking.mail(half, 0)
    assert house.posted == [("storage", read)]
    house.answer(gid, [1], errors.Code.CHUNK, ((), False, 0), last=False)
    assert asker.codes == [errors.Code.CHUNK]


def test_what_storage_has_no_room_for_the_second_time_is_refused() -> None:
    house = House()
    asker, gid, _ = read_ahead(house, b"a", b"z")
    house.full.add("storage")
    house.asking.mail(m.Confirmed(INCARNATION, gid), 0)
    house.asking.mail(m.AnsweredAhead(INCARNATION, gid, b"", m.StampedRead(4, None, (b"frame",))), 0)
    assert asker.codes == [errors.TooManyRequests.code]


def test_the_end_waits_for_what_is_in_flight() -> None:
    """Nothing new is taken; then it is drained, or the time is over."""
    house = House()
    house.put()
    ((gid, requests),) = house.groups()
    house.asking.stop(0)
    with pytest.raises(errors.Stopped):
        house.put()
    assert not house.asking.drained(1)
    house.answer(gid, ids(requests))
    assert house.asking.drained(1)


def test_groups_whose_answers_were_lost_are_forgotten() -> None:
    """Or they would pile up."""
    house = House()
    for at in range(5):
        house.put(now=at * DEADLINE_STEP_MS * 3)
        house.groups()
    house.asking.tick(10 * TIMEOUT_MS)
    assert house.asking.in_flight == (0, 0)
    assert not house.asking._groups
