"""Whatever clients ask for, in whatever batches it comes, the store answers as the one-page model does."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.harness.kv_log import (
    OP_OF,
    Crash,
    Crashing,
    Feeder,
    answers_of,
    entries_of,
    entry,
    everything,
    fed,
    group,
    machine,
    same,
)
from tests.harness.kv_model import Model, assert_same_leases, chosen
from zkv.core.mvcc.engine import MemoryEngine
from zkv.limits import Limits
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack

KEYS = st.sampled_from([b"a", b"a\0", b"a\0\xff", b"ab", b"b", b"\0", b"\xff", b"\xff\xff"])
ENDS = st.just(b"") | st.just(b"\0") | KEYS
VALUES = st.binary(max_size=3)
REVISIONS = st.just(0) | st.integers(-2, 12)
BOUNDS = st.just(0) | st.integers(1, 8)
NO = st.just(False)
RANGES = st.tuples(
    KEYS,
    ENDS,
    st.just(0) | st.integers(-1, 4),
    REVISIONS,
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0, 0, 1, 2, 3, 4]),
    NO,
    st.booleans(),
    st.sampled_from([False, False, True]),
    BOUNDS,
    BOUNDS,
    BOUNDS,
    BOUNDS,
).map(m.Range._make) | st.tuples(KEYS, ENDS, st.integers(0, 3), REVISIONS).map(lambda fields: m.Range(*fields))
FLAGS = st.sampled_from([(False, False, False)] * 3 + [(True, False, False), (False, True, False), (True, True, True)])
LEASE_IDS = st.integers(1, 3)
HOLDS = st.sampled_from([(0, 0)] * 4 + [(1, 0), (1, 0), (2, 0), (3, 0), (0, 1)])  # lease, ttl
PUTS = st.tuples(KEYS, VALUES, FLAGS, HOLDS).map(
    lambda fields: (
        m.Put(fields[0], fields[1], 0, *fields[2])
        if fields[2][2]
        else m.Put(fields[0], fields[1], fields[3][0], *fields[2], ttl=fields[3][1])
    )
)
DELETES = st.tuples(KEYS, ENDS, st.booleans()).map(m.DeleteRange._make)
COMPARES = st.builds(
    lambda result, target, key, number, value, end: m.Compare(
        result, target, key, value if target == m.CompareTarget.VALUE else number, end
    ),
    st.integers(0, 3),
    st.integers(0, 4),
    KEYS,
    st.integers(0, 6),
    VALUES,
    ENDS,
)


def _branch(requests: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(requests.map(lambda request: (OP_OF[type(request)], request)), max_size=3).map(_once).map(tuple)


def _once(requests: list[Any]) -> list[Any]:
    """The doors let no txn write a key twice; keep to that with the first write of each branch."""
    writes = [request for request in requests if not isinstance(request[1], m.Range)]
    return [request for request in requests if isinstance(request[1], m.Range) or request is writes[0]]


FLAT = st.tuples(st.lists(COMPARES, max_size=2).map(tuple), *[_branch(PUTS | RANGES | DELETES)] * 2).map(m.Txn._make)
NESTED = st.tuples(st.lists(COMPARES, max_size=1).map(tuple), *[_branch(RANGES | FLAT)] * 2).map(m.Txn._make)
TXNS = FLAT | NESTED
SOON = st.sampled_from([0, 50_000, *range(1850, 2450, 100)])  # also when leases granted by the first entries end
LEASES = (
    st.integers(0, 3).map(lambda lease: m.LeaseGrant(1, lease))
    | LEASE_IDS.map(m.LeaseRevoke)
    | st.builds(lambda lease, until: m.LeaseRenew(1, ((lease, until),)), LEASE_IDS, SOON)
    | st.builds(lambda some: m.LeaseExpire(1, tuple(some)), st.lists(st.tuples(LEASE_IDS, SOON), max_size=8))
)
WRITES = PUTS | DELETES | TXNS | LEASES | st.integers(0, 8).map(m.Compact)
LIMITS = Limits()._replace(chunk_bytes=64, lease_keys_max=2)
MANY = st.lists(st.lists(WRITES | PUTS | PUTS, min_size=1, max_size=4), min_size=1, max_size=12)


class StoreAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.feeder = Feeder(limits=LIMITS)
        self.model = Model(lease_keys_max=LIMITS.lease_keys_max)

    @rule(requests=st.lists(WRITES | PUTS, min_size=1, max_size=4))
    def write(self, requests: list[Any]) -> None:
        answers = self.feeder.ask(*requests)
        for request, answer in zip(requests, answers, strict=True):
            self.model.chosen = list(chosen(request, answer))
            expected = self.model.request(OP_OF[type(request)], request)
            assert same(answer, expected), (request, answer, expected)
        assert self.feeder.machine.revision == self.model.revision

    @rule(request=RANGES)
    def read(self, request: m.Range) -> None:
        answer, expected = self.feeder.read(request), self.model.request(m.Op.RANGE, request)
        assert same(answer, expected), (request, answer, expected)

    @rule()
    def forget(self) -> None:
        while self.feeder.machine.compaction_step():
            pass

    @rule()
    def open_again(self) -> None:
        self.feeder.machine = machine(self.feeder.machine.engine, limits=LIMITS)

    @rule(milliseconds=st.integers(1, 3000))
    def pass_time(self, milliseconds: int) -> None:
        self.feeder.time += milliseconds
        self.model.time += milliseconds

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """As the leader does, who knows until when each may live."""
        known = [(lease, kept.until) for lease, kept in sorted(self.model.leases.items())]
        self.write([m.LeaseExpire(1, tuple(data.draw(st.lists(st.sampled_from(known), max_size=4))))])

    @invariant()
    def leases_are_kept_and_their_keys_found(self) -> None:
        assert_same_leases(self.feeder.machine.engine, self.model)


TestStore = StoreAgainstModel.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)


@given(MANY, st.integers(1, 4), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_members_hold_the_same_bytes(many: list[list[Any]], groups_each: int, batch: int) -> None:
    """Neither how entries come in batches, nor who answers, nor when compaction is done, shows in what is kept."""
    groups = [group(*requests, session=b"%016d" % (at % 3), first=1 + at * 9) for at, requests in enumerate(many)]
    entries = entries_of(groups, groups_each)
    one, other = machine(want_events=True, want_prev_kv=True, limits=LIMITS), machine(member=2, limits=LIMITS)
    for each in entries:
        one.apply([each], 1)
        one.compaction_step()
    fed(one, [], 1)
    fed(other, entries, batch)
    assert list(everything(one.engine)) == list(everything(other.engine))


@given(MANY, st.integers(0, 30), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_a_crash_at_any_write_changes_nothing(many: list[list[Any]], crash_at: int, unflushed: int) -> None:
    """Fed again from where it stands, a store that lost its last writes comes to the same bytes."""
    groups = [group(*requests, session=b"%016d" % (at % 3), first=1 + at * 9) for at, requests in enumerate(many)]
    entries = entries_of(groups, 2)
    steady = machine(MemoryEngine(), limits=LIMITS)
    fed(steady, entries, 1)
    engine = Crashing()
    engine.writes_left, engine.flush_at = crash_at, unflushed
    shaken = machine(engine, limits=LIMITS)
    try:
        fed(shaken, entries, 1)
    except Crash:
        shaken = machine(engine.power_loss(), limits=LIMITS)
        fed(shaken, entries, 2)
    assert list(everything(shaken.engine)) == list(everything(steady.engine))


def test_a_crash_within_an_entry_skips_what_is_done() -> None:
    """A batch written early leaves the place of the next request; the entry fed again goes on from there."""
    puts = [m.Put(b"%06d" % i, b"v", prev_kv=True) for i in range(300)]
    scan = m.DeleteRange(b"000000", b"000100", True)
    name = b"s" * 16
    whole = entry(
        1,
        group(*puts, session=name),
        group(scan, m.Put(b"x", b""), scan, session=name, first=1000),
        group(scan, m.Put(b"000001", b""), session=name, first=2000),
    )
    steady = machine()
    expected = steady.apply([whole], 1)
    for crash_at in range(4):
        engine = Crashing()
        engine.writes_left = crash_at
        shaken = machine(engine)
        try:
            outcome = shaken.apply([whole], 1)
        except Crash:
            engine.flush()
            shaken = machine(engine.power_loss())
            assert shaken.applied == 0
            outcome = shaken.apply([whole], 1)
        assert list(everything(shaken.engine)) == list(everything(steady.engine))
        assert answers_of(outcome.answers[-1].answers) == answers_of(expected.answers[-1].answers)


def test_an_answer_to_a_txn_is_packed_as_any_other() -> None:
    """Though it is put together of parts."""
    inner = m.Txn((), ((2, m.Put(b"n", b"", prev_kv=True)), (2, m.Put(b"m", b"")), (4, m.Txn((), (), ()))), ())
    many = ((2, m.Put(b"%d" % number, b"")) for number in range(20))
    never = m.Compare(0, m.CompareTarget.VERSION, b"a", 7)
    outer = m.Txn((never,), (), ((1, m.Range(b"a")), (3, m.DeleteRange(b"a")), (4, inner), *many))
    [answered] = machine().apply([entry(1, group(outer))], 1).answers
    assert pack(unpack(answered.answers)) == answered.answers
