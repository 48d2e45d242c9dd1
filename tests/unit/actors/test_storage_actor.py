"""The storage actor without its sockets: what it is told and what it says, turn by turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from tests.harness.full_engine import FullEngine
from tests.harness.kv_log import answers_of, entry, everything, group
from tests.harness.simulated_node import Disk
from zkv.actors.flows import PATIENCE_MS
from zkv.actors.storage_actor import FULL_MS_MIN, LITTLE_BYTES, SAY_LITTLE_MS, SAY_MS, StorageActor
from zkv.core.mvcc import quotas
from zkv.core.mvcc.compaction import STEP_EVENTS
from zkv.core.mvcc.engine import MemoryEngine
from zkv.core.mvcc.gathering import GatheringEngine
from zkv.errors import Code, DiskFull, StreamLost, TooManyRequests, Unavailable
from zkv.limits import Limits
from zkv.mailbox import Stop
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.core.mvcc.engine import Engine

T = TypeVar("T")

INCARNATION = 1  # the gateway's, as in the frames of kv_log
ALL = m.Range(b"k", b"l", serializable=True)
MEMBERS = (m.Member(1, "", ("tcp://a:1",), (), is_learner=False), m.Member(2, "", ("tcp://b:1",), (), is_learner=False))


class HandFlusher:
    """A flush is done when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.done = False

    def begin(self, engine: Engine) -> None:
        self.begun += 1
        self.done = False
        engine.flush()

    def is_done(self) -> bool:
        return self.done


class House:
    """The actor of member 1, and what it has posted to whom."""

    def __init__(self, **limits: Any) -> None:
        self.posted: list[tuple[str, Any]] = []
        self.full: set[str] = set()  # whose queues take nothing
        self.disk = Disk()
        self.flusher = HandFlusher()
        self.now = 0
        self.applied = 0
        self.open(self.disk.engine, **limits)

    def open(self, engine: Engine, **limits: Any) -> None:
        """The actor begins, on this engine."""
        self.disk.engine = engine
        self.actor = StorageActor(
            store=self.disk,
            limits=Limits(**limits),
            cluster_id=9,
            member_id=1,
            bootstrap=MEMBERS,
            flusher=self.flusher,
            post=self._post,
        )

    def _post(self, to: str, message: Any) -> bool:
        if to in self.full:
            return False
        self.posted.append((to, message))
        return True

    def hear(self, *messages: object, after_ms: int = 0) -> None:
        self.now += after_ms
        self.actor.handle([("node", message) for message in messages], self.now)

    def write(self, *requests: Any) -> None:
        self.applied += 1
        self.hear(m.Apply(1, (entry(self.applied, group(*requests)),)))

    def read(self, request: Any, *, index: int = 0, gid: int = 7) -> None:
        frame = pack(m.Frame(1, INCARNATION, ((gid, group(request)),)))
        self.hear(m.StampedRead(index, None, (frame,)))

    def read_ahead(self, *requests: Any, index: int = 0) -> m.StampedRead:
        """The read."""
        read = m.StampedRead(index, None, (pack(m.Frame(1, INCARNATION, ((7, group(*requests)),))),))
        self.hear(m.ReadAhead(read))
        return read

    def take(self, to: str, kind: type[T]) -> list[T]:
        """What was posted of this kind to this neighbour, once."""
        taken = [message for neighbour, message in self.posted if neighbour == to and isinstance(message, kind)]
        self.posted = [(neighbour, message) for neighbour, message in self.posted if message not in taken]
        return taken

    def answers(self) -> list[tuple[int, Sequence[Any], bool]]:
        """(gid, [(revision, body or error) ..], is it the last) of each answer to the gateway."""
        found = [each for mail in self.take("gateway", m.GatewayAnswers) for each in mail.answers]
        return [(gid, answers_of(packed), last) for gid, packed, last in found]

    def chunks(self, turns: int = 20) -> list[tuple[int, int, bool]]:
        """(keys, code, is it the last) of the chunks that leave in so many turns."""
        for _ in range(turns):
            self.hear()
        found = [each for mail in self.take("gateway", m.GatewayAnswers) for each in mail.answers]
        parts = [(unpack(packed)[4], last) for _, packed, last in found]
        return [(len(body[0]), code, last) for (((_, code, _, body),), last) in parts]

    def fill(self, keys: int) -> None:
        self.write(*(m.Put(b"k%04d" % number, bytes(100)) for number in range(keys)))
        self.posted.clear()


@pytest.fixture
def house() -> House:
    return House(chunk_bytes=1000, flush_bytes=10_000)


def test_it_says_where_it_stands_when_it_starts_and_when_raft_does(house: House) -> None:
    """Raft feeds it from there, and knows its peers from the member table."""
    for _ in range(2):
        (at,) = house.take("raft", m.StorageAt)
        assert (at.applied, at.durable, at.feed) == (house.applied, 0, True)
        assert at.base is not None
        assert at.base.index == house.applied
        assert house.take("raft", m.MembersAre) == [m.MembersAre(MEMBERS, index=house.applied)]
        house.write(m.Put(b"a", b"1"))
        house.posted.clear()
        house.hear(m.Hello("raft", 5))


def test_a_write_is_answered_when_it_is_applied_and_raft_hears_of_it_soon(house: House) -> None:
    """Its own gateway's only: a frame of another member's is that member's to answer."""
    house.write(m.Put(b"a", b"1"))
    assert [(gid, revision) for gid, ((revision, _),), _ in house.answers()] == [(1000, 2)]
    house.posted.clear()
    house.hear(m.Apply(1, (entry(2, group(m.Put(b"a", b"2")), member=2),)))
    assert house.answers() == []
    assert house.actor.next_wakeup(house.now) == SAY_LITTLE_MS
    house.hear(after_ms=SAY_LITTLE_MS)
    assert house.take("raft", m.StorageAt) == [m.StorageAt(2, 0)]
    assert house.take("watch", m.Applied)[0].revision == 3


def test_what_little_was_applied_since_does_not_put_off_the_word_of_it(house: House) -> None:
    """However steadily a lone writer writes, raft hears of the first write after SAY_LITTLE_MS, and of the others."""
    house.hear()
    house.hear(after_ms=SAY_MS)
    house.write(m.Put(b"a", b"1"))
    house.posted.clear()
    due = house.now + SAY_LITTLE_MS
    while house.now < due - 10:
        house.now += 10
        house.write(m.Put(b"a", b"1"))
    assert house.actor.next_wakeup(house.now) == due
    assert house.take("raft", m.StorageAt) == []
    house.now = due
    house.write(m.Put(b"a", b"1"))
    assert house.take("raft", m.StorageAt) == [m.StorageAt(house.applied, 0)]
    assert house.actor.next_wakeup(house.now) is None


@pytest.mark.parametrize(
    "requests",
    [
        (m.Put(b"a", bytes(LITTLE_BYTES)),),
        (m.LeaseGrant(id=1, ttl=60), m.LeaseRevoke(1)),
        (m.MemberAdd(("tcp://c:1",)),),
        pytest.param((m.QuotaSet(b"k", 10, 0),), marks=pytest.mark.patches),
    ],
)
def test_what_may_give_cause_for_something_is_looked_after_soon(
    requests: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Much that was written, leases, members, keys to be counted: none of it waits as long as a lone write's word."""
    monkeypatch.setattr(quotas, "COUNT_KEYS", 1)
    house = House()
    house.hear()
    house.hear(after_ms=SAY_MS)
    house.write(m.Put(b"k", b""), m.Put(b"k2", b""))
    assert house.actor.next_wakeup(house.now) == house.now + SAY_LITTLE_MS
    house.write(*requests)
    assert house.actor.next_wakeup(house.now) == house.now + SAY_MS


def test_raft_comes_to_know_where_the_store_stands_though_its_queue_was_full(house: House) -> None:
    """It feeds no more than a window, and its own life begins with that word: it must not get lost."""
    house.full.add("raft")
    house.hear(m.Hello("raft", 5))
    house.write(m.Put(b"a", b"1"))
    house.posted.clear()
    house.hear(after_ms=SAY_MS)
    house.full.clear()
    assert house.actor.next_wakeup(house.now) == house.now + SAY_MS
    house.hear(after_ms=SAY_MS)
    assert [(at.applied, at.feed) for at in house.take("raft", m.StorageAt)] == [(1, True), (1, False)]
    assert house.take("raft", m.MembersAre) == [m.MembersAre(MEMBERS, index=1)]
    assert house.actor.next_wakeup(house.now) is None


def test_a_read_waits_until_its_index_is_applied(house: House) -> None:
    """And then sees what was written there; one that waits for less is answered before."""
    house.write(m.Put(b"a", b"1"))
    house.answers()
    house.read(m.Range(b"a"), index=3, gid=30)
    house.read(m.Range(b"a"), index=2, gid=20)
    house.read(m.Range(b"a"), index=1, gid=10)
    assert [gid for gid, *_ in house.answers()] == [10]
    house.write(m.Put(b"a", b"2"))
    assert [gid for gid, *_ in house.answers()] == [2000, 20]
    house.write(m.Put(b"a", b"3"))
    _, (gid, ((revision, body),), last) = house.answers()
    assert (gid, revision, body[0][0][4], last) == (30, 4, b"3", True)


def test_reads_that_wait_are_forgotten_with_the_raft_that_let_them_pass(house: House) -> None:
    """Their index meant something in its life only; the gateway has ended them."""
    house.read(m.Range(b"a"), index=1)
    house.hear(m.Hello("raft", 5))
    house.write(m.Put(b"a", b"1"))
    assert [gid for gid, *_ in house.answers()] == [1000]


def test_what_is_read_ahead_goes_to_its_door_marked_as_such(house: House) -> None:
    """Once its index is applied, as any read, and at the door it is no answer yet."""
    house.write(m.Put(b"a", b"1"))
    house.answers()
    house.read_ahead(m.Range(b"a"), m.Range(b"a", b"b", limit=1), index=2)
    assert house.take("gateway", m.AnsweredAhead) == []
    house.write(m.Put(b"a", b"2"))
    (ahead,) = house.take("gateway", m.AnsweredAhead)
    assert (ahead.incarnation, ahead.gid, ahead.read) == (INCARNATION, 7, None)
    assert [(revision, body[0][0][4]) for revision, body in answers_of(ahead.answers)] == [(3, b"2"), (3, b"2")]
    assert [gid for gid, *_ in house.answers()] == [2000]


@pytest.mark.parametrize("request_", [ALL, m.HashKV(), m.Defragment()], ids=lambda request: type(request).__name__)
def test_what_takes_more_than_an_answer_is_not_begun_ahead(request_: Any) -> None:
    """It is handed on, to be asked again when it may be; nothing flows, nothing is under way."""
    house = House(chunk_bytes=1000)
    for _ in range(5):
        house.fill(1000)
    read = house.read_ahead(request_)
    for _ in range(50):
        house.hear()
    assert house.take("gateway", m.AnsweredAhead) == [m.AnsweredAhead(INCARNATION, 7, b"", read)]
    assert house.answers() == []
    house.hear(read)
    for _ in range(50):
        house.hear()
    assert house.answers()


def test_what_is_refused_ahead_is_refused_when_it_may_be(house: House) -> None:
    """A refusal is an answer as well, and must not leave before."""
    read = m.StampedRead(0, None, (pack(m.Frame(1, INCARNATION, ((7, b"no message"),))),))
    house.hear(m.ReadAhead(read))
    assert house.take("gateway", m.Refused) == []
    assert house.take("gateway", m.AnsweredAhead) == [m.AnsweredAhead(INCARNATION, 7, b"", read)]


def test_what_waits_to_be_read_ahead_is_forgotten_with_its_raft(house: House) -> None:
    house.read_ahead(m.Range(b"a"), index=1)
    house.hear(m.Hello("raft", 5))
    house.write(m.Put(b"a", b"1"))
    assert house.take("gateway", m.AnsweredAhead) == []


def test_what_lies_between_is_fed_again(house: House) -> None:
    """An entry after a gap is not applied; entries that were applied already are passed over."""
    house.write(m.Put(b"a", b"1"))
    house.posted.clear()
    house.hear(m.Apply(1, (entry(3, group(m.Put(b"a", b"3"))),)))
    (at,) = house.take("raft", m.StorageAt)
    assert (at.applied, at.feed) == (1, True)
    assert house.answers() == []
    house.hear(m.Apply(1, tuple(entry(index, group(m.Put(b"a", b"x"))) for index in (1, 2, 3))))
    assert [gid for gid, *_ in house.answers()] == [2000, 3000]


def test_a_chunk_that_the_gateway_had_no_room_for_leaves_later(house: House) -> None:
    """A range with a hole must not look whole, and one that stood still must not stand still for ever."""
    house.fill(30)
    house.full.add("gateway")
    house.read(ALL)
    assert house.chunks() == []
    house.full.clear()
    house.hear(m.StreamCredit(7, 1, 100))
    chunks = house.chunks()
    assert sum(keys for keys, *_ in chunks) == 30
    assert [last for *_, last in chunks] == [False] * (len(chunks) - 1) + [True]


def test_a_big_range_leaves_in_chunks_as_credit_comes(house: House) -> None:
    """No more than the client has room for, and all of it in the end."""
    house.fill(50)
    house.read(ALL)
    first = house.chunks()
    assert [code for _, code, _ in first] == [Code.CHUNK] * Limits().chunk_credit
    assert house.chunks() == []
    house.hear(m.StreamCredit(7, 1, 2))
    assert len(house.chunks()) == 2
    house.hear(m.StreamCredit(7, 1, 100))
    rest = house.chunks()
    assert [last for *_, last in rest] == [False] * (len(rest) - 1) + [True]
    assert rest[-1][1] == Code.OK
    house.read(ALL)
    house.hear(m.StreamCredit(7, 1, 100))
    assert sum(keys for keys, *_ in house.chunks()) == 50


def test_what_takes_long_beside_many_quick_reads_is_answered_without_credit() -> None:
    """A hash comes in one piece, and nobody gives credit for it."""
    house = House()
    for _ in range(5):
        house.fill(1000)
    quick = [m.Range(b"k0001", serializable=True)] * 6
    frame = pack(m.Frame(1, INCARNATION, ((7, group(*quick, m.HashKV())),)))
    house.hear(m.StampedRead(0, None, (frame,)))
    for _ in range(50):
        house.hear()
    answers = house.answers()
    assert [len(parts) for _, parts, _ in answers] == [6, 1]
    assert [last for *_, last in answers] == [False, True]


def test_writes_go_on_while_a_stream_waits_and_do_not_show_in_it(house: House) -> None:
    """A stream is of one revision."""
    house.fill(50)
    house.read(ALL)
    shown = sum(keys for keys, *_ in house.chunks())
    house.write(m.DeleteRange(b"k", b"l"))
    assert [gid for gid, *_ in house.answers()] == [2000]
    house.hear(m.StreamCredit(7, 1, 100))
    assert shown + sum(keys for keys, *_ in house.chunks()) == 50


def test_a_stream_ends_when_nobody_wants_more() -> None:
    """By word (credit 0), or by silence, which the gateway is told."""
    house = House(chunk_bytes=1000)
    house.fill(50)
    house.read(ALL, gid=7)
    house.read(ALL, gid=8)
    house.chunks()
    house.hear(m.StreamCredit(7, 1, 0))
    house.hear(m.StreamCredit(7, 1, 100), after_ms=SAY_LITTLE_MS)
    assert house.chunks() == []
    assert house.actor.next_wakeup(house.now) == PATIENCE_MS
    house.hear(after_ms=PATIENCE_MS + 1)
    assert house.take("gateway", m.Refused) == [m.Refused(INCARNATION, StreamLost.code, (8,))]


def test_the_end_of_a_stream_is_told_when_there_is_room_for_it() -> None:
    """Its group has no deadline at the door any more: nobody else would end it."""
    house = House(chunk_bytes=1000, chunk_credit=1)
    house.fill(100)
    house.read(ALL, gid=8)
    house.full.add("gateway")
    house.hear(after_ms=PATIENCE_MS + 1)
    house.hear(after_ms=PATIENCE_MS + 1)
    assert house.take("gateway", m.Refused) == []
    house.full.clear()
    assert house.actor.next_wakeup(house.now) == house.now + SAY_MS
    house.hear(after_ms=SAY_MS)
    assert house.take("gateway", m.Refused) == [m.Refused(INCARNATION, StreamLost.code, (8,))]
    house.hear(after_ms=PATIENCE_MS + 1)
    assert house.take("gateway", m.Refused) == []


def test_too_many_streams_are_refused() -> None:
    """Each holds a snapshot of the store."""
    house = House(chunk_bytes=1000, streams_max=1)
    house.fill(50)
    house.read(ALL, gid=7)
    house.read(ALL, gid=8)
    assert house.take("gateway", m.Refused) == [m.Refused(INCARNATION, TooManyRequests.code, (8,))]


def test_streams_and_held_answers_go_with_their_gateway(house: House) -> None:
    house.fill(50)
    house.read(ALL)
    house.chunks()
    house.hear(m.Hello("gateway", 6), m.StreamCredit(7, 1, 100))
    assert house.chunks() == []


def test_a_physical_compaction_is_answered_when_it_has_come_to_its_end(house: House) -> None:
    """A plain one at once; the work is done beside, step by step, with rests while others have work.

    The door is told at once that it is under way, so that it waits however long it takes.
    """
    for number in range(300):
        house.write(*(m.Put(b"k%d" % key, b"%d" % number) for key in range(4)))
    house.posted.clear()
    house.write(m.Compact(100))
    assert [gid for gid, *_ in house.answers()] == [301_000]
    house.write(m.Compact(1200, physical=True))
    assert house.answers() == [(302_000, [], False)]
    turns = 0
    while not (found := house.answers()):
        wakeup = house.actor.next_wakeup(house.now)
        assert wakeup is not None
        house.hear(after_ms=wakeup - house.now)
        turns += 1
    assert turns
    assert [(gid, last) for gid, _, last in found] == [(302_000, True)]


def test_raft_hears_at_once_whether_anybody_watches(house: House) -> None:
    """So that the leader lets no watcher here wait for what is committed."""
    house.posted.clear()
    for events in (True, False):
        house.hear(m.WatchNeeds(events=events, prev_kv=False))
        assert [at.awaited for at in house.take("raft", m.StorageAt)] == [events]


def test_where_users_are_asked_who_they_are_somebody_always_waits(house: House) -> None:
    """Who was given a token by one member shows it to the next at once."""
    house.write(m.UserAdd("root", hashed=b"hash"), m.UserGrantRole("root", "root"), m.AuthEnable())
    house.posted.clear()
    house.hear(after_ms=SAY_LITTLE_MS)
    assert [at.awaited for at in house.take("raft", m.StorageAt)] == [True]


def test_what_is_applied_is_durable_when_its_flush_is_done(house: House) -> None:
    """Flushes begin by bytes written; one covers what was applied when it began, and raft hears when it has ended."""
    house.write(m.Put(b"a", bytes(5000)))
    assert house.flusher.begun == 1
    house.write(m.Put(b"b", b""))
    house.posted.clear()
    house.hear(after_ms=SAY_LITTLE_MS)
    assert house.take("raft", m.StorageAt) == [m.StorageAt(2, 0)]
    house.flusher.done = True
    house.hear()
    assert house.take("raft", m.StorageAt) == [m.StorageAt(2, 1)]


def test_it_stops_when_all_is_flushed(house: House) -> None:
    house.write(m.Put(b"a", b""))
    house.actor.handle([("supervisor", Stop())], house.now)
    assert not house.actor.finished
    house.flusher.done = True
    house.hear()
    assert house.actor.finished


def test_nothing_is_looked_after_once_the_store_is_closed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it would be time to look at its size: RocksDB answers nothing any more."""
    house.hear(m.LeaderIs(1, 1))
    house.write(m.Put(b"a", b""))
    house.actor.handle([("supervisor", Stop())], house.now)
    house.flusher.done = True
    monkeypatch.setattr(MemoryEngine, "size_in_use", lambda _engine: pytest.fail("it was asked"))
    house.hear(after_ms=60_000)
    assert house.actor.finished


def carried(source: House, target: House, stream: int = 99) -> m.SnapshotTaken:
    """A snapshot from one to the other, chunk by chunk as it is asked for; what the last chunk came to."""
    wanted = 0
    while True:
        source.hear(m.SnapshotWanted(2, stream, wanted))
        (out,) = source.take("raft", m.SnapshotOut)
        target.hear(m.SnapshotIn(1, out.chunk))
        (taken,) = target.take("raft", m.SnapshotTaken)
        assert taken.ack == m.SnapshotAck(stream, wanted + 1)
        if out.chunk.last:
            return taken
        assert taken.installed is None
        wanted += 1


def test_a_snapshot_makes_the_other_store_the_same(house: House) -> None:
    """As of when it was begun, whatever is written meanwhile; it is in force, and durable, with its last chunk."""
    house.fill(100)
    house.hear(m.SnapshotWanted(2, 99, 0))
    house.take("raft", m.SnapshotOut)
    before = list(everything(house.disk.engine))
    house.write(m.DeleteRange(b"k", b"l"))
    other = House(chunk_bytes=1000)
    taken = carried(house, other)
    assert taken.installed is not None
    assert taken.installed.index == 1
    assert list(everything(other.disk.engine)) == before
    other.hear(m.Apply(1, (entry(2, group(m.DeleteRange(b"k", b"l"))),)))
    assert list(everything(other.disk.engine)) == list(everything(house.disk.engine))


def test_streams_of_a_store_that_is_replaced_are_lost_and_told_so(house: House) -> None:
    house.fill(100)
    house.write(m.Put(b"z", b""))
    other = House(chunk_bytes=1000)
    other.fill(50)
    other.read(ALL)
    other.chunks()
    assert carried(house, other).installed is not None
    assert other.take("gateway", m.Refused) == [m.Refused(INCARNATION, StreamLost.code, (7,))]


def test_a_snapshot_that_is_not_ahead_is_not_installed(house: House) -> None:
    """The log came first."""
    house.fill(10)
    other = House(chunk_bytes=1000)
    other.fill(10)
    assert carried(house, other).installed is None


def test_the_lease_actor_hears_of_a_grant_before_the_client_does(house: House) -> None:
    """So that who has been granted a lease can keep it alive with his next word."""
    house.hear()
    house.posted.clear()
    house.write(m.LeaseGrant(10, 7))
    to = [neighbour for neighbour, _ in house.posted]
    assert to.index("lease") < to.index("gateway")


def test_the_lease_table_is_told_at_the_start_and_when_the_lease_actor_or_the_store_is_another(house: House) -> None:
    """The store may come as a snapshot: it carries leases as all else."""
    house.hear()
    assert [news.fresh for news in house.take("lease", m.LeaseNews)] == [True]
    house.write(m.LeaseGrant(10, 7))
    house.take("lease", m.LeaseNews)
    house.hear(m.Hello("lease", 5))
    assert [(news.fresh, news.leases) for news in house.take("lease", m.LeaseNews)] == [(True, ((7, 10, 10_750),))]
    other = House(chunk_bytes=1000)
    other.hear()
    other.take("lease", m.LeaseNews)
    assert carried(house, other).installed is not None
    other.hear()
    assert [(news.fresh, news.leases) for news in other.take("lease", m.LeaseNews)] == [(True, ((7, 10, 10_750),))]


def test_chunks_of_an_unknown_stream_are_not_made_up(house: House) -> None:
    """What a predecessor was sending cannot be gone on with: raft is told at the start, and begins another."""
    house.fill(10)
    house.hear(m.SnapshotWanted(2, 99, 3))
    assert house.take("raft", m.SnapshotOut) == []
    house.hear(m.SnapshotIn(1, m.SnapshotChunk(m.SnapshotMeta(9, 1, 0, m.ConfState(())), 5, 3, (), 0, last=False)))
    assert house.take("raft", m.SnapshotTaken) == [m.SnapshotTaken(1, m.SnapshotAck(5, 0))]


@pytest.mark.parametrize("keys", [100, 10_000])
def test_opening_reads_as_much_whatever_the_store_holds(keys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few records: a restart takes no time that grows with the number of keys."""
    house = House(flush_bytes=1 << 30)
    house.fill(keys)
    house.disk.engine.settle()
    engine: Any = house.disk.platter
    touched = 0

    def counted(name: str) -> None:
        original = getattr(engine, name)

        def read(*arguments: Any, **options: Any) -> Any:
            nonlocal touched
            found = original(*arguments, **options)
            touched += 1
            if not hasattr(found, "__next__"):
                return found

            def steps() -> Any:
                nonlocal touched
                for each in found:
                    touched += 1
                    yield each

            return steps()

        monkeypatch.setattr(engine, name, read)

    for name in ("get", "get_many", "scan", "keys", "cursor"):
        counted(name)
    house.actor = StorageActor(
        store=house.disk, limits=Limits(), cluster_id=9, member_id=1, bootstrap=(), flusher=house.flusher,
        post=lambda *_: True,
    )  # fmt: skip
    assert 0 < touched < 20


def test_without_room_on_the_disk_it_applies_nothing_more_and_reads_go_on() -> None:
    """Raft is told where it stands, that it is full, and feeds it again when there is room: to another process."""
    house = House()
    engine = FullEngine()
    house.open(engine)
    house.write(m.Put(b"ka", b"1"))
    house.posted.clear()
    engine.is_full = True
    house.write(m.Put(b"ka", b"2"))
    (at,) = house.take("raft", m.StorageAt)
    assert (at.applied, at.feed, at.full) == (1, True, True)
    assert house.answers() == []
    house.write(m.Put(b"ka", b"3"))
    house.read(ALL)
    [(_, [(revision, body)], _)] = house.answers()
    assert (revision, body[0][0][4]) == (2, b"1")
    engine.is_full = False
    with pytest.raises(DiskFull, match="space on the disk again"):
        house.hear(after_ms=FULL_MS_MIN)


def test_without_room_for_what_was_kept_back_the_store_goes_back_and_refuses_who_needs_more() -> None:
    """A put that was answered is in the log: a read that is to see it is refused, one of no index sees the disk's."""
    house = House()
    engine = FullEngine()
    house.open(GatheringEngine(engine))
    house.write(m.Put(b"ka", b"1"))
    house.read(ALL)
    house.write(m.Put(b"ka", b"2"))
    assert [[revision for revision, _ in parts] for _, parts, _ in house.answers()] == [[2], [2], [3]]
    house.posted.clear()
    engine.is_full = True
    house.read(m.Range(b"ka"), index=2)
    [(_, [(revision, body)], _)] = house.answers()
    assert (revision, body[0][0][4]) == (3, b"2")
    house.read(ALL, index=2)
    assert house.take("gateway", m.Refused) == [m.Refused(INCARNATION, Unavailable.code, (7,))]
    (at,) = house.take("raft", m.StorageAt)
    assert (at.applied, at.feed, at.full) == (1, True, True)
    house.read(ALL, index=2)
    assert house.answers() == []
    house.read(ALL)
    [(_, [(revision, body)], _)] = house.answers()
    assert (revision, body[0][0][4]) == (2, b"1")


def test_nothing_that_waits_for_compaction_is_told_of_a_store_that_has_gone_back() -> None:
    """Its end was kept back, and lost: a hash would be of other data than its revision and compaction say."""
    house = House()
    engine = FullEngine()
    house.open(GatheringEngine(engine))
    first, last_step = 2, 2 + 2 * STEP_EVENTS
    for number in range(first, last_step + 5):
        house.write(m.Put(b"k%d" % (number % 3), b""))
    house.write(m.Compact(last_step + 2, physical=True))
    house.read(m.HashKV())
    while house.actor._machine.compaction.revision < last_step:
        house.hear(after_ms=SAY_MS)
    house.posted.clear()
    engine.is_full = True
    house.hear(after_ms=SAY_MS)
    house.hear(after_ms=SAY_MS)
    assert house.answers() == []
    assert house.take("gateway", m.Refused) == [m.Refused(INCARNATION, StreamLost.code, (7,))]
    assert house.actor.next_wakeup(house.now) != house.now


def test_the_end_of_a_defragmentation_is_looked_for_where_nothing_else_comes(house: House) -> None:
    """Asked of a store at rest: it is to wake by itself, and answer."""
    house.write(m.Put(b"a", b"1"))
    while (wakeup := house.actor.next_wakeup(house.now)) is not None:
        house.hear(after_ms=max(0, wakeup - house.now))
    house.answers()
    house.read(m.Defragment())
    found = house.answers()
    while not found[-1][2]:
        wakeup = house.actor.next_wakeup(house.now)
        assert wakeup is not None
        house.actor._defragmenter.wait()
        house.hear(after_ms=max(0, wakeup - house.now))
        found += house.answers()
    assert [last for _, _, last in found] == [False, True]


def test_requests_are_counted_as_etcd_counts_them(house: House) -> None:
    """Of a txn what it holds, too; one that is refused is one, and nothing of it was done."""
    puts = tuple((int(m.Op.PUT), m.Put(b"k%d" % key, b"v")) for key in range(3))
    deletion = int(m.Op.DELETE_RANGE), m.DeleteRange(b"k", b"l")
    bad = m.Txn((), (deletion, (int(m.Op.PUT), m.Put(b"x", b"", lease=9))), ())
    house.write(m.Txn((), puts, ()), m.Put(b"a", b""), bad, m.DeleteRange(b"k", b"l"), m.LeaseGrant(60, 1))
    house.read(m.Range(b"a"), index=1)
    house.read(ALL, index=1)
    house.read(m.Txn((), ((int(m.Op.RANGE), m.Range(b"a")),), ()), index=1)
    told = {name: value for name, _, value in house.actor.gauges()}
    counted = {name: told[name] for name in ("puts", "deletions", "ranges", "txns", "changes")}
    assert counted == {"puts": 4, "deletions": 1, "ranges": 3, "txns": 3, "changes": 7}
