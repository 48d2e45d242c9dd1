"""When the leader's next log entry sets out, alone and by the actor that leads three members."""

from __future__ import annotations

from tests.unit.actors.test_raft_actor import House, frame
from zkv.actors.pacing import COMMITS, PACE_MS_MAX, Pacing
from zkv.wire import messages as m
from zkv.wire.codec import unpack


def paced(commit_ms: int, *, crowded: bool) -> int:
    """How long the next entry waits, where commits take so long."""
    pacing = Pacing()
    now = 0
    for index in range(1, 100):
        pacing.set_out(index, now, crowded=crowded)
        pacing.committed(index, now + commit_ms)
        now += 1000
    pacing.set_out(100, now, crowded=crowded)
    return pacing.next_at - now


def test_who_comes_alone_never_waits() -> None:
    assert paced(1, crowded=False) == paced(50, crowded=False) == 0


def test_entries_that_crowd_keep_a_distance_of_some_commits() -> None:
    assert paced(1, crowded=True) in {int(COMMITS) - 1, int(COMMITS)}
    assert paced(0, crowded=True) == 0


def test_nobody_waits_for_longer_however_far_the_members_are() -> None:
    assert paced(200, crowded=True) == PACE_MS_MAX


def leader_of_three() -> House:
    house = House(1, 2, 3)
    house.begin()
    for other in (2, 3):
        house.hear_peer(other, m.NewcomerAnswer(known=False))
    while not house.take(2, m.Message):
        house.hear(after_ms=100)
    term = house.actor._core.term  # type: ignore[union-attr]
    house.hear_peer(2, m.Message(m.MessageKind.PRE_VOTE_ANSWER, 1, 2, term + 1))
    house.hear_peer(2, m.Message(m.MessageKind.VOTE_ANSWER, 1, 2, term + 1))
    acknowledge(house)
    return house


def acknowledge(house: House) -> None:
    """Member 2 holds all there is."""
    core = house.actor._core
    assert core is not None
    house.hear_peer(2, m.Message(m.MessageKind.APPEND_ANSWER, 1, 2, core.term, house.log.last_index))
    house.posted.clear()


def test_what_comes_meanwhile_sets_out_together() -> None:
    house = leader_of_three()
    for gid in range(20):  # so that it knows what a commit takes: 2 ms
        house.hear(m.Propose(frame(gid)), m.Propose(frame(gid)), after_ms=10)
        house.now += 2
        acknowledge(house)
    house.hear(m.Propose(frame(100)), m.Propose(frame(101)), after_ms=10)
    last = house.log.last_index
    house.hear(m.Propose(frame(102)), after_ms=1)
    house.hear(m.Propose(frame(103)), after_ms=1)
    assert house.log.last_index == last
    due = house.actor.next_wakeup(house.now)
    assert due is not None
    assert due <= house.now + PACE_MS_MAX
    house.hear(after_ms=due - house.now)
    (entry,) = house.log.entries(last + 1, last + 2, 0)
    assert unpack(entry.body) == (frame(102), frame(103))
    assert not house.take("gateway", m.Refused)


def test_what_waits_goes_to_the_next_leader_when_this_one_is_deposed() -> None:
    house = leader_of_three()
    for gid in range(20):
        house.hear(m.Propose(frame(gid)), m.Propose(frame(gid)), after_ms=10)
        house.now += 2
        acknowledge(house)
    house.hear(m.Propose(frame(100)), m.Propose(frame(101)), after_ms=10)
    house.hear(m.Propose(frame(102)), after_ms=1)
    core = house.actor._core
    assert core is not None
    house.hear_peer(3, m.Message(m.MessageKind.HEARTBEAT, 1, 3, core.term + 1))
    (forward,) = house.take(3, m.Forward)
    assert forward.frames == (frame(102),)
