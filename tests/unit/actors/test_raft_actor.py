"""The raft actor without its sockets: what it takes, what it passes on, and to whom."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest

from zkv.actors.peers import DOOR, PeerMessage
from zkv.actors.raft_actor import AWAITED_MS, RaftActor
from zkv.actors.storage_feed import STORAGE_STALL_MS
from zkv.core.raft.leader import PATIENT
from zkv.core.raft.log import MemoryLog
from zkv.core.raft.raft import RaftConfig
from zkv.errors import Code, Compacted, ConfigError, CorruptionError, DiskFull, NoLeader, NoSpace
from zkv.limits import Limits
from zkv.mailbox import Stop
from zkv.wire import messages as m
from zkv.wire.codec import decode_entry, pack, unpack

T = TypeVar("T")

GATEWAY = 5  # its incarnation
ANSWER_TO = {
    m.MessageKind.PRE_VOTE: m.MessageKind.PRE_VOTE_ANSWER,
    m.MessageKind.VOTE: m.MessageKind.VOTE_ANSWER,
}


def frame(gid: int, size: int = 10, member: int = 1) -> bytes:
    return pack(m.Frame(member, GATEWAY, ((gid, bytes(size)),)))


def lone(gid: int) -> m.Read:
    return m.Read(frame(gid), lone=True)


class House:
    """Member `member` of `voters`, and what it has posted to whom: names are actors of its node, numbers peers."""

    def __init__(
        self,
        *voters: int,
        member: int = 1,
        snapshot_count: int = 1000,
        attributes: tuple[str, tuple[str, ...]] | None = None,
        log: type[MemoryLog] = MemoryLog,
        **limits: Any,
    ) -> None:
        self.posted: list[tuple[str | int, Any]] = []
        self.full: set[str | int] = set()  # whose queues take nothing
        self.log = log(m.ConfState(voters))
        self.now = 0
        self.actor = RaftActor(
            config=RaftConfig(member), log=self.log, limits=Limits(**limits), snapshot_count=snapshot_count, seed=1,
            post=self._post, post_peer=self._post, set_peers=lambda _: None, attributes=attributes,
        )  # fmt: skip

    def _post(self, to: str | int, message: Any) -> bool:
        if to in self.full:
            return False
        self.posted.append((to, message))
        return True

    def hear(self, *messages: object, after_ms: int = 0) -> None:
        self.now += after_ms
        self.actor.handle([("node", message) for message in messages], self.now)

    def hear_peer(self, sender: int, message: Any) -> None:
        self.actor.handle([(DOOR, PeerMessage(sender, message))], self.now)

    def take(self, to: str | int, kind: type[T]) -> list[T]:
        """What was posted of this kind to this neighbour, once."""
        taken = [message for other, message in self.posted if other == to and isinstance(message, kind)]
        self.posted = [each for each in self.posted if not (each[0] == to and isinstance(each[1], kind))]
        return taken

    def fed(self) -> list[m.Entry]:
        return [entry for apply in self.take("storage", m.Apply) for entry in apply.entries]

    def stored(self, applied: int, durable: int = 0, *, feed: bool = False) -> None:
        self.hear(m.StorageAt(applied, durable, feed))

    def begin(self) -> None:
        """Storage is there, and has nothing; alone, the member leads, and has its first entry fed."""
        self.stored(0, feed=True)
        self.posted.clear()
        if self.actor.next_wakeup(self.now) == self.now:
            self.hear()

    def commit(self, upto: int) -> None:
        """As a follower of member 2; a word of storage that it has applied them does not come."""
        last = self.log.last_index
        entries = tuple(m.Entry(index, 1, m.EntryKind.BATCH, 0, b"") for index in range(last + 1, upto + 1))
        self.hear_peer(2, m.Message(m.MessageKind.APPEND, 1, 2, 1, last, min(last, 1), upto, entries))
        self.hear_peer(2, m.Message(m.MessageKind.HEARTBEAT, 1, 2, 1, commit=upto))

    def question(self) -> int:
        """The number of the one that the leader is asked for a read."""
        (asked,) = [each for each in self.take(2, m.Message) if each.kind == m.MessageKind.READ_INDEX]
        return asked.context

    def confirm(self, question: int, index: int) -> None:
        self.hear_peer(2, m.Message(m.MessageKind.READ_INDEX_ANSWER, 1, 2, 1, index, context=question))

    def follow(self, leader: int) -> None:
        self.hear_peer(leader, m.Message(m.MessageKind.HEARTBEAT, 1, leader, 1))
        self.posted.clear()


@pytest.fixture
def leader() -> House:
    """Alone; its first entry, the empty one of a new leader, is applied."""
    house = House(1)
    house.begin()
    house.stored(1)
    house.posted.clear()
    return house


@pytest.fixture
def follower() -> House:
    """Member 1, that hears of leader 2."""
    house = House(1, 2, 3)
    house.begin()
    house.hear_peer(3, m.NewcomerAnswer(known=False))
    house.follow(2)
    return house


def test_it_takes_part_in_nothing_before_storage_has_said_where_it_stands() -> None:
    """A node that cannot apply must neither vote nor lead."""
    house = House(1, 2, 3)
    house.hear(m.Propose(frame(1)), m.Read(frame(2)), after_ms=60_000)
    house.hear_peer(2, m.Message(m.MessageKind.VOTE, 1, 2, 9))
    assert [refused.gids for refused in house.take("gateway", m.Refused)] == [(1,), (2,)]
    assert house.posted == []
    assert house.actor.next_wakeup(house.now) is None
    house.stored(0, feed=True)
    assert house.actor.next_wakeup(house.now) is not None


def test_with_an_empty_disk_it_takes_no_part_until_a_majority_has_not_heard_of_it() -> None:
    """Else one whose data were removed would vote again in a term it has voted in, or count for what it has lost."""
    house = House(1, 2, 3)
    house.begin()
    vote = m.Message(m.MessageKind.VOTE, 1, 2, 9)
    house.hear_peer(2, vote)
    house.hear(after_ms=60_000)
    assert len(house.take(2, m.Newcomer)) == len(house.take(3, m.Newcomer)) == 1
    assert house.posted == []
    house.hear_peer(3, m.NewcomerAnswer(known=False))
    house.hear_peer(2, vote)
    assert house.take(2, m.Message)


def test_with_an_empty_disk_it_ends_where_it_has_been_before() -> None:
    """As a member of etcd's does."""
    house = House(1, 2, 3)
    house.begin()
    with pytest.raises(ConfigError, match="already been bootstrapped"):
        house.hear_peer(2, m.NewcomerAnswer(known=True))


def test_a_member_is_known_once_it_has_published_itself(follower: House) -> None:
    """What a newcomer is told."""
    follower.hear_peer(3, m.Newcomer())
    follower.hear(m.MembersAre((m.Member(3, "three", (), ("tcp://c",), is_learner=False),)))
    follower.hear_peer(3, m.Newcomer())
    assert [answer.known for answer in follower.take(3, m.NewcomerAnswer)] == [False, True]


def test_it_publishes_nothing_before_its_disk_holds_something() -> None:
    """Or it would be known, and after a crash at that moment have nothing to show for it."""
    house = House(1, 2, 3, attributes=("one", ("tcp://c",)))
    house.begin()
    house.hear_peer(3, m.NewcomerAnswer(known=False))
    house.hear(m.MembersAre((m.Member(1, "", (), (), is_learner=False),)))
    house.follow(2)
    house.hear()
    assert not house.take(2, m.Forward)
    entry = m.Entry(1, 1, m.EntryKind.BATCH, 0, b"")
    house.hear_peer(2, m.Message(m.MessageKind.APPEND, 1, 2, 1, 0, 0, 1, (entry,)))
    house.hear()
    assert house.take(2, m.Forward)


def test_the_writes_of_a_turn_become_one_entry(leader: House) -> None:
    """As the frames they came in, unopened; large ones a few entries."""
    leader.hear(m.Propose(frame(1)), m.Propose(frame(2)))
    (entry,) = leader.fed()
    assert (entry.index, unpack(entry.body)) == (2, (frame(1), frame(2)))
    house = House(1, entry_bytes_max=100)
    house.begin()
    house.hear(*(m.Propose(frame(gid, 40)) for gid in range(4)), m.Propose(frame(9, 500)))
    assert [len(unpack(entry.body)) for entry in house.fed() if entry.body] == [2, 2, 1]


def test_the_reads_of_a_turn_share_one_round(leader: House) -> None:
    """And go on with the index that must be applied, and who leads."""
    leader.hear(m.Propose(frame(1)))
    leader.hear(m.Read(frame(2)), m.Read(frame(3)))
    (stamped,) = leader.take("storage", m.StampedRead)
    assert (stamped.index, stamped.frames) == (2, (frame(2), frame(3)))
    assert stamped.stamp == m.Stamp(1, 1, 2, is_learner=False)


def test_a_lone_read_is_made_while_the_leader_is_asked(follower: House) -> None:
    """Of all that storage has been fed; its answer may leave when the leader has not committed more."""
    follower.commit(3)
    follower.hear(lone(7))
    stamp = m.Stamp(1, 2, 3, is_learner=False)
    assert follower.take("storage", m.ReadAhead) == [m.ReadAhead(m.StampedRead(3, stamp, (frame(7),)))]
    assert follower.take("gateway", m.Confirmed) == []
    question = follower.question()
    follower.commit(4)  # what comes later does not matter
    follower.confirm(question, 3)
    assert follower.take("gateway", m.Confirmed) == [m.Confirmed(GATEWAY, 7)]
    follower.confirm(question, 3)
    assert not follower.take("gateway", m.Confirmed)
    assert not follower.take("storage", m.StampedRead)


def test_what_was_read_ahead_of_too_little_never_leaves(follower: House) -> None:
    """The leader has committed what storage had not been fed: it is read again, as if it had not been."""
    follower.commit(3)
    follower.hear(lone(7))
    assert [ahead.read.index for ahead in follower.take("storage", m.ReadAhead)] == [3]
    question = follower.question()
    follower.commit(4)
    follower.confirm(question, 4)
    assert [(read.index, read.frames) for read in follower.take("storage", m.StampedRead)] == [(4, (frame(7),))]
    assert follower.take("gateway", m.Confirmed) == []
    follower.hear(lone(8))
    (ahead,) = follower.take("storage", m.ReadAhead)
    assert (ahead.read.index, ahead.read.frames) == (4, (frame(8),))
    follower.confirm(follower.question(), 4)
    assert follower.take("gateway", m.Confirmed) == [m.Confirmed(GATEWAY, 8)]


def test_what_was_read_ahead_under_a_leader_of_before_never_leaves(follower: House) -> None:
    """Another has been elected, and nobody answers for the state of then."""
    follower.commit(3)
    follower.hear(lone(7))
    question = follower.question()
    follower.hear_peer(3, m.Message(m.MessageKind.HEARTBEAT, 1, 3, 2))
    follower.confirm(question, 3)
    assert follower.take("gateway", m.Refused) == [m.Refused(GATEWAY, NoLeader.code, (7,))]
    assert not follower.take("gateway", m.Confirmed)
    assert not follower.take("storage", m.StampedRead)


@pytest.mark.parametrize(
    "reads",
    [(lone(7), lone(8)), (m.Read(frame(7)), lone(8)), (m.Read(frame(7)),)],
    ids=["two", "of two doors", "not said to be lone"],
)
def test_only_what_is_alone_is_read_ahead(follower: House, reads: tuple[m.Read, ...]) -> None:
    """Where many ask, nothing is done twice; and it needs a door that keeps what was found."""
    follower.commit(3)
    follower.hear(*reads)
    assert follower.take("storage", m.ReadAhead) == []
    follower.confirm(follower.question(), 3)
    (stamped,) = follower.take("storage", m.StampedRead)
    assert stamped.frames == tuple(read.frame for read in reads)
    assert follower.take("gateway", m.Confirmed) == []


def test_what_comes_while_a_read_waits_is_not_read_ahead(follower: House) -> None:
    """The first was alone, and stays what it is."""
    follower.commit(3)
    follower.hear(lone(7))
    follower.hear(lone(8))
    assert [ahead.read.frames for ahead in follower.take("storage", m.ReadAhead)] == [(frame(7),)]
    follower.confirm(follower.question(), 3)
    assert follower.take("gateway", m.Confirmed) == [m.Confirmed(GATEWAY, 7)]
    follower.confirm(follower.question(), 3)
    assert [read.frames for read in follower.take("storage", m.StampedRead)] == [(frame(8),)]
    assert follower.take("gateway", m.Confirmed) == []


def test_nothing_is_read_ahead_where_storage_is_not_fed_what_is_committed() -> None:
    """The leader has committed as much at least, so it would be in vain."""
    house = House(1, 2, 3, feed_bytes_max=1)
    house.begin()
    house.hear_peer(3, m.NewcomerAnswer(known=False))
    house.follow(2)
    entries = tuple(m.Entry(index, 1, m.EntryKind.BATCH, 0, b"full") for index in (1, 2))
    house.hear_peer(2, m.Message(m.MessageKind.APPEND, 1, 2, 1, 0, 0, 2, entries))
    assert [entry.index for entry in house.fed()] == [1]
    house.hear(lone(7))
    assert house.take("storage", m.ReadAhead) == []


def test_a_read_that_storage_had_no_room_for_is_none_ahead(follower: House) -> None:
    follower.commit(3)
    follower.full.add("storage")
    follower.hear(lone(7))
    follower.full.clear()
    follower.confirm(follower.question(), 3)
    assert [read.frames for read in follower.take("storage", m.StampedRead)] == [(frame(7),)]
    assert follower.take("gateway", m.Confirmed) == []


def test_what_a_storage_of_before_was_to_read_ahead_its_successor_is_asked(follower: House) -> None:
    """It may have gone with its predecessor."""
    follower.commit(3)
    follower.hear(lone(7))
    follower.stored(0, feed=True)
    follower.confirm(follower.question(), 3)
    assert [read.frames for read in follower.take("storage", m.StampedRead)] == [(frame(7),)]
    assert follower.take("gateway", m.Confirmed) == []


def test_a_leader_reads_ahead_while_it_asks_whether_it_leads() -> None:
    """And not where it is alone and knows at once."""
    house = House(1, 2, 3)
    house.begin()
    house.hear_peer(3, m.NewcomerAnswer(known=False))
    house.hear(after_ms=60_000)
    for kind in (m.MessageKind.PRE_VOTE, m.MessageKind.VOTE):
        asked = next(each for each in house.take(2, m.Message) if each.kind == kind)
        house.hear_peer(2, m.Message(ANSWER_TO[kind], 1, 2, asked.term))
    term = house.log.hard_state.term
    house.hear_peer(2, m.Message(m.MessageKind.APPEND_ANSWER, 1, 2, term, 1))
    assert [entry.index for entry in house.fed()] == [1]
    house.take(2, m.Message)
    house.hear(lone(7))
    (ahead,) = house.take("storage", m.ReadAhead)
    assert ahead.read.index == 1
    assert house.take("gateway", m.Confirmed) == []
    asked = next(each for to in (2, 3) for each in house.take(to, m.Message) if each.kind == m.MessageKind.HEARTBEAT)
    house.hear_peer(asked.to, m.Message(m.MessageKind.HEARTBEAT_ANSWER, 1, asked.to, term, context=asked.context))
    assert house.take("gateway", m.Confirmed) == [m.Confirmed(GATEWAY, 7)]
    assert house.take("storage", m.StampedRead) == []
    alone = House(1)
    alone.begin()
    alone.stored(1)
    alone.hear(lone(7))
    assert alone.take("storage", m.ReadAhead) == []
    assert len(alone.take("storage", m.StampedRead)) == 1


def test_a_local_read_is_stamped_at_once_whoever_leads(follower: House) -> None:
    """Status must tell of a member that has no leader as well."""
    follower.hear(m.Read(frame(1), local=True))
    assert follower.take("storage", m.StampedRead) == [
        m.StampedRead(0, m.Stamp(1, 2, 0, is_learner=False), (frame(1),))
    ]
    house = House(1, 2, 3)
    house.hear(m.Read(frame(1), local=True))
    assert house.take("storage", m.StampedRead) == [m.StampedRead(0, m.Stamp(0, 0, 0, is_learner=False), (frame(1),))]


def test_a_follower_says_whether_somebody_waits_for_what_is_committed(follower: House) -> None:
    """Who has sent a write through it, or watches."""

    def context(index: int) -> int:
        entry = m.Entry(index, 1, m.EntryKind.BATCH, 0, b"")
        follower.hear_peer(2, m.Message(m.MessageKind.APPEND, 1, 2, 1, index - 1, index > 1, 0, (entry,)))
        (answer,) = follower.take(2, m.Message)
        return answer.context

    follower.now += AWAITED_MS + 1
    assert context(1) == PATIENT
    follower.hear(m.StorageAt(0, 0, awaited=True))
    assert context(2) == 0
    follower.hear(m.StorageAt(0, 0))
    assert context(3) == PATIENT
    follower.hear(m.Propose(frame(1)))
    follower.posted.clear()
    assert context(4) == 0
    follower.now += AWAITED_MS + 1
    assert context(5) == PATIENT


def test_a_follower_forwards_what_is_its_own(follower: House) -> None:
    """What another forwarded to it goes back: it does not lead any more."""
    follower.hear(m.Propose(frame(1)), m.Propose(frame(2)))
    assert follower.take(2, m.Forward) == [m.Forward((frame(1), frame(2)))]
    follower.hear_peer(3, m.Forward((frame(7, member=3),)))
    assert follower.take(3, m.ForwardRefused) == [m.ForwardRefused(NoLeader.code, (frame(7, member=3),))]
    assert follower.take(2, m.Forward) == []


def test_what_the_leader_refuses_its_gateway_is_told(follower: House) -> None:
    follower.hear_peer(2, m.ForwardRefused(NoLeader.code, (frame(1),)))
    assert follower.take("gateway", m.Refused) == [m.Refused(GATEWAY, NoLeader.code, (1,))]


@pytest.mark.parametrize("frames", [(b"",), (b"\xc1",), (frame(1), pack((1, GATEWAY, ((1, "text"),))))], ids=repr)
def test_what_a_member_forwards_and_is_no_frame_comes_into_no_log(leader: House, frames: tuple[bytes, ...]) -> None:
    leader.hear_peer(2, m.Forward(frames))
    leader.hear_peer(2, m.ForwardRefused(NoLeader.code, frames))
    leader.hear()
    assert leader.log.last_index == 1
    assert leader.posted == []


@pytest.mark.parametrize(
    "asked", [(1, int(m.Op.MEMBER_REMOVE), ("text",)), (1, int(m.Op.LOG), ()), (1, 2, 3)], ids=repr
)
def test_what_a_member_forwards_to_be_looked_into_has_its_shape(leader: House, asked: tuple[object, ...]) -> None:
    """Whosever door it names: the leader's own, here."""
    group = pack((1, int(m.ClientKind.REQUESTS), b"", 0, (asked,)))
    leader.hear_peer(2, m.Forward((pack(m.Frame(1, GATEWAY, ((33, group),))),), members=True))
    leader.hear()
    assert leader.log.last_index == 1
    assert not [message for _, message in leader.posted if not isinstance(message, m.GatewayAnswers)]


def test_without_a_leader_all_is_refused() -> None:
    house = House(1, 2, 3)
    house.begin()
    house.hear(m.Propose(frame(1)), m.Read(frame(2)))
    assert [refused.gids for refused in house.take("gateway", m.Refused)] == [(1,), (2,)]


def test_storage_is_fed_no_more_than_a_window_ahead() -> None:
    """What it has not applied stays in the log; in order and without a gap."""
    house = House(1, feed_bytes_max=400, entry_bytes_max=1)
    house.begin()
    house.hear(*(m.Propose(frame(gid, 100)) for gid in range(20)))
    indices = [entry.index for entry in house.fed()]
    assert len(indices) < 10
    while indices[-1] < 21:
        house.stored(indices[-1])
        indices += [entry.index for entry in house.fed()]
    assert indices == list(range(2, 22))


def test_a_restarted_storage_is_fed_from_where_it_stands(leader: House) -> None:
    leader.hear(m.Propose(frame(1)))
    leader.hear(m.Propose(frame(2)))
    leader.stored(3, 1)
    leader.posted.clear()
    leader.stored(1, 1, feed=True)
    assert [entry.index for entry in leader.fed()] == [2, 3]


def test_a_store_that_does_not_fit_the_log_stops_the_node(leader: House) -> None:
    """It has what the log lost, or lacks what the log has cut: nobody may serve from that."""
    with pytest.raises(CorruptionError, match="the log lost entries"):
        leader.stored(9, feed=True)
    leader.log.reset(m.SnapshotMeta(50, 1, 0, m.ConfState((1,))))
    with pytest.raises(CorruptionError, match="the store lost data"):
        leader.stored(9, feed=True)


def test_a_snapshot_that_became_the_store_is_where_the_log_begins() -> None:
    """The node went down after the one and before the other."""
    house = House(1, 2, 3)
    base = m.SnapshotMeta(50, 3, 7, m.ConfState((1, 2, 3)))
    house.hear(m.StorageAt(50, 50, feed=True, base=base))
    assert (house.log.base, house.log.last_index) == (base, 50)


def test_the_log_is_cut_behind_what_is_durable() -> None:
    """Once it is longer than wanted; some is kept for who is a little behind."""
    house = House(1, snapshot_count=10)
    house.begin()
    for gid in range(40):
        house.hear(m.Propose(frame(gid)))
    last = house.log.last_index
    house.stored(last, 0)
    assert house.log.first_index == 1
    house.stored(last, 15)
    assert house.log.first_index == 1
    house.stored(last, 30)
    assert house.log.first_index in {20, 21}


def test_what_is_to_be_fed_is_not_cut() -> None:
    """A restarted storage says where it began, then how far it has come by mail that waited for it; both at once."""
    house = House(1, snapshot_count=2)
    house.begin()
    for gid in range(20):
        house.hear(m.Propose(frame(gid)))
    house.fed()
    house.hear(m.StorageAt(5, 5, feed=True), m.StorageAt(20, 20))
    assert [entry.index for entry in house.fed()] == list(range(6, 22))


def test_a_member_whose_storage_is_stuck_falls_silent() -> None:
    """So the others elect one that can serve; it comes back with its storage."""
    house = House(1)
    house.begin()
    house.hear(m.Propose(frame(1)), after_ms=STORAGE_STALL_MS + 1)
    house.posted.clear()
    house.hear(m.Propose(frame(2)), m.Read(frame(3)))
    assert [refused.gids for refused in house.take("gateway", m.Refused)] == [(2,), (3,)]
    house.stored(house.log.last_index)
    house.hear(m.Propose(frame(4)))
    assert house.take("gateway", m.Refused) == []


def test_who_asks_is_told_who_leads(follower: House) -> None:
    """A gateway that has just started has missed it."""
    follower.hear(m.Hello("gateway", 6))
    assert follower.take("gateway", m.LeaderIs) == [m.LeaderIs(1, 2)]


def test_chunks_go_to_storage_while_they_are_of_use(follower: House) -> None:
    """A snapshot of what is committed here anyway is refused, so that its sender stops."""
    meta = m.SnapshotMeta(9, 1, 0, m.ConfState((1, 2, 3)))
    chunk = m.SnapshotChunk(meta, 4, 0, (), 0, last=True)
    follower.hear_peer(2, chunk)
    assert follower.take("storage", m.SnapshotIn) == [m.SnapshotIn(2, chunk)]
    follower.hear(m.SnapshotTaken(2, m.SnapshotAck(4, 1), installed=meta))
    assert follower.take(2, m.SnapshotAck) == [m.SnapshotAck(4, 1)]
    assert follower.log.base == meta
    follower.hear_peer(2, chunk)
    assert follower.take("storage", m.SnapshotIn) == []
    assert follower.take(2, m.SnapshotAck) == [m.SnapshotAck(4, 0, refused=True)]


def test_a_leader_alone_stops_at_once(leader: House) -> None:
    leader.actor.handle([("supervisor", Stop())], leader.now)
    assert leader.actor.finished


def test_a_stopping_leader_hands_over() -> None:
    """Another leads when it leaves."""
    houses = {member: House(1, 2, 3, member=member) for member in (1, 2, 3)}
    for house in houses.values():
        house.begin()

    def play(until_ms: int) -> None:
        """Let time pass; what is posted to a peer arrives, and storage applies at once."""
        for _ in range(until_ms // 10):
            for member, house in houses.items():
                house.hear(after_ms=10)
                while house.posted:
                    to, message = house.posted.pop(0)
                    if isinstance(to, int):
                        houses[to].hear_peer(member, message)
                    elif isinstance(message, m.Apply):
                        house.stored(message.entries[-1].index)

    play(3000)
    (leading,) = {house.actor._stamp(0).leader for house in houses.values()}
    house = houses[leading]
    house.actor.handle([("supervisor", Stop())], house.now)
    play(100)
    assert house.actor.finished
    (successor,) = {other.actor._stamp(0).leader for member, other in houses.items() if member != leading}
    assert successor not in {0, leading}


class FullLog(MemoryLog):
    """A disk has no room for what is to be synced, as long as `is_full`."""

    is_full = False

    def sync(self) -> None:
        if self.is_full:
            raise DiskFull
        super().sync()


def test_a_member_whose_log_has_no_room_says_nothing_and_refuses_until_it_has() -> None:
    """What it had taken is made durable then, and goes its way."""
    house = House(1, log=FullLog)
    log = house.log
    assert isinstance(log, FullLog)
    house.begin()
    house.stored(1)
    house.posted.clear()
    log.is_full = True
    house.hear(m.Propose(frame(1)))
    house.hear(m.Propose(frame(2)), m.Read(frame(3)), after_ms=100)
    assert [(refused.code, refused.gids) for refused in house.take("gateway", m.Refused)] == [
        (NoSpace.code, (2,)),
        (NoLeader.code, (3,)),
    ]
    assert house.posted == []
    log.is_full = False
    house.hear(after_ms=100)
    assert [entry.index for entry in house.fed()] == [2]


def test_a_storage_without_room_is_fed_nothing_and_writes_are_refused(leader: House) -> None:
    """Nor does the member count as stuck; when storage begins anew it is fed from where it is."""
    leader.hear(m.Propose(frame(1)))
    assert [entry.index for entry in leader.fed()] == [2]
    leader.hear(m.StorageAt(1, 1, feed=True, full=True))
    leader.hear(m.Propose(frame(2)), after_ms=2 * STORAGE_STALL_MS)
    assert [(refused.code, refused.gids) for refused in leader.take("gateway", m.Refused)] == [(NoSpace.code, (2,))]
    assert leader.fed() == []
    leader.stored(1, 1, feed=True)
    leader.hear()
    assert [entry.index for entry in leader.fed()] == [2]


def asked(*requests: tuple[int, int, tuple[Any, ...]], gid: int = 1) -> bytes:
    group = pack((m.PROTOCOL_VERSION, int(m.ClientKind.REQUESTS), b"", 0, requests))
    return pack(m.Frame(1, GATEWAY, ((gid, group),)))


def test_whoever_is_asked_hands_out_what_is_committed_of_the_log(leader: House) -> None:
    """A bounded part, from the index that is named; without one it tells how far it is; what was cut is compacted."""
    for gid in range(3):
        leader.hear(m.Propose(frame(gid)))
    leader.stored(4, 4)
    leader.posted.clear()
    leader.log.compact(2)
    for first, code, indexes in ((0, Code.OK, []), (3, Code.OK, [3, 4]), (9, Code.OK, []), (2, Compacted.code, None)):
        leader.hear(m.Propose(asked((7, m.Op.LOG, (first,))), members=True))
        [answer] = leader.take("gateway", m.GatewayAnswers)
        [(gid, payload, last)] = answer.answers
        [(request, found, _, body)] = unpack(payload)[4]
        assert (gid, last, request, found) == (1, True, 7, code)
        if indexes is not None:
            commit, _, entries = body
            assert commit == 4
            assert [decode_entry(entry)[0].index for entry in entries] == indexes
    assert leader.fed() == []


def test_a_follower_answers_for_the_log_itself_and_passes_on_the_rest(follower: House) -> None:
    move = asked((8, m.Op.MOVE_LEADER, (3,)), gid=2)
    follower.hear(m.Propose(asked((7, m.Op.LOG, (0,))), members=True), m.Propose(move, members=True))
    [answer] = follower.take("gateway", m.GatewayAnswers)
    assert [gid for gid, *_ in answer.answers] == [1]
    assert follower.take(2, m.Forward) == [m.Forward((move,), members=True)]
