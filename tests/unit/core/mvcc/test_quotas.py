"""Prefix policies: what is refused, what is counted, and that all members hold the same of both."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.harness.kv_log import (
    OP_OF,
    Crash,
    Crashing,
    Feeder,
    entries_of,
    entry,
    everything,
    fed,
    group,
    machine,
    same,
)
from tests.harness.kv_model import Model
from zkv import errors
from zkv.core.mvcc import quotas
from zkv.core.mvcc.engine import MemoryEngine
from zkv.core.mvcc.quotas import NESTED_MAX, QUOTAS_MAX
from zkv.limits import Limits
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.kv_model import State

KEYS = st.sampled_from([b"a", b"ab", b"ab\0", b"abc", b"abd", b"b", b"\xff", b"\xff\xff", b"\xff\xffz"])
PREFIXES = st.sampled_from([b"", b"a", b"ab", b"abc", b"\xff", b"\xff\xff", b"c"])
ENDS = st.just(b"") | st.just(b"\0") | KEYS
PUTS = st.tuples(KEYS, st.binary(max_size=4), st.sampled_from([0, 0, 0, 1, 2])).map(lambda fields: m.Put(*fields))
DELETES = st.tuples(KEYS, ENDS).map(lambda fields: m.DeleteRange(*fields))
LIMITED = st.sampled_from([m.KEPT, 0, 1, 2, 3, 5, 8, 20])
SETS = st.builds(m.QuotaSet, PREFIXES, LIMITED, LIMITED, st.sampled_from([m.KEPT, 0, 1, 2, 20]))
LEASES = (
    st.integers(1, 2).map(lambda id_: m.LeaseGrant(1, id_))
    | st.builds(m.LeaseRevoke, st.integers(1, 2))
    | st.builds(lambda id_, until: m.LeaseExpire(1, ((id_, until),)), st.integers(1, 2), st.integers(1750, 1760))
)


def _branch(requests: list[Any]) -> tuple[tuple[int, Any], ...]:
    """Each key is written once, as the doors see to it."""
    put = {request.key: request for request in requests if isinstance(request, m.Put)}
    gone = [m.DeleteRange(request.key) for request in requests if isinstance(request, m.DeleteRange)]
    taken: list[m.Put | m.DeleteRange] = [*put.values(), *(each for each in gone if each.key not in put)]
    return tuple((OP_OF[type(each)], each) for each in taken)


TXNS = st.lists(PUTS | DELETES, max_size=5).map(lambda requests: m.Txn((), _branch(requests), ()))
WRITES = PUTS | DELETES | TXNS | LEASES
MANY = st.lists(
    st.lists(WRITES | SETS | st.builds(m.QuotaDelete, PREFIXES) | st.just(m.QuotaCount()), min_size=1, max_size=4),
    min_size=1,
    max_size=12,
)
RATE = 1000  # tokens are thousandths


@dataclass
class Policy:
    keys_max: int = 0
    bytes_max: int = 0
    requests_max: int = 0
    tokens: int = 0

    def refuses(self, prefix: bytes, before: State, after: State) -> type[errors.ZkvError] | None:
        was, is_ = usage(prefix, before), usage(prefix, after)
        if any(
            0 < most < now and then < now
            for most, then, now in zip((self.keys_max, self.bytes_max), was, is_, strict=True)
        ):
            return errors.OverQuota
        return errors.OverRate if self.requests_max and self.tokens < RATE and touches(prefix, before, after) else None


def usage(prefix: bytes, state: State) -> tuple[int, int]:
    under = [kv for kv in state.values() if kv.key.startswith(prefix)]
    return len(under), sum(len(kv.key) + len(kv.value) for kv in under)


def touches(prefix: bytes, before: State, after: State) -> bool:
    return any(key.startswith(prefix) and before.get(key) != after.get(key) for key in before.keys() | after.keys())


class QuotasAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.feeder = Feeder()
        self.model = Model()
        self.policies: dict[bytes, Policy] = {}

    @rule(requests=st.lists(WRITES | PUTS, min_size=1, max_size=6))
    def write(self, requests: list[Any]) -> None:
        for request in requests:
            self._write(request)

    def _write(self, request: Any) -> None:
        answer = self.feeder.ask(request)[0]
        tried = deepcopy(self.model)
        expected = tried.request(OP_OF[type(request)], request)
        touched = [
            (prefix, each) for prefix, each in self.policies.items() if touches(prefix, self.model.now, tried.now)
        ]
        refusals = {each.refuses(prefix, self.model.now, tried.now) for prefix, each in touched} - {None}
        if refusals and not isinstance(request, m.LeaseRevoke | m.LeaseExpire):
            assert type(answer) in refusals, (request, answer, refusals)
            return
        assert same(answer, expected), (request, answer, expected)
        self.model = tried
        if not isinstance(request, m.LeaseRevoke | m.LeaseExpire):
            for _, policy in touched:
                policy.tokens -= RATE if policy.requests_max else 0

    @rule(request=SETS)
    def set_policy(self, request: m.QuotaSet) -> None:
        self.feeder.ask(request)
        policy = self.policies.setdefault(request.prefix, Policy())
        for name, limit in zip(("keys_max", "bytes_max", "requests_max"), request[1:], strict=True):
            if limit != m.KEPT:
                setattr(policy, name, limit)
        if request.requests_max != m.KEPT:
            policy.tokens = policy.requests_max * RATE

    @precondition(lambda self: len(self.policies) > 2)
    @rule(prefix=PREFIXES)
    def delete_policy(self, prefix: bytes) -> None:
        answer = self.feeder.ask(m.QuotaDelete(prefix))[0]
        assert isinstance(answer, errors.QuotaNotFound) == (self.policies.pop(prefix, None) is None)

    @rule(milliseconds=st.integers(1, 1500))
    def pass_time(self, milliseconds: int) -> None:
        self.feeder.time += milliseconds
        self.model.time += milliseconds
        for policy in self.policies.values():
            policy.tokens = min(policy.tokens + milliseconds * policy.requests_max, policy.requests_max * RATE)

    @rule()
    def open_again(self) -> None:
        self.feeder.machine = machine(self.feeder.machine.engine)

    @invariant()
    def what_lies_under_a_prefix_is_counted(self) -> None:
        told = self.feeder.read(m.QuotaList())[0]
        assert told == tuple(
            (prefix, each.keys_max, each.bytes_max, each.requests_max, *usage(prefix, self.model.now), False)
            for prefix, each in sorted(self.policies.items())
        )


TestQuotas = QuotasAgainstModel.TestCase
TestQuotas.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_just_as_much_as_may_be_is_let_in_and_no_more() -> None:
    feeder = Feeder()
    feeder.ask(m.QuotaSet(b"a", keys_max=2, bytes_max=10), m.QuotaSet(b"r", requests_max=2))
    puts = (m.Put(b"a1", b"123"), m.Put(b"a2", b"123"), m.Put(b"a2", b"1234"), m.Put(b"a2", b"12"), m.Put(b"a3", b""))
    refused = [isinstance(answer, errors.OverQuota) for answer in feeder.ask(*puts)]
    assert refused == [False, False, True, False, True]
    for time, wait in ((0, 500), (500, 500), (1250, 250)):  # a token each half second, from two on
        feeder.time = time
        answers = feeder.ask(*[m.Put(b"r", b"")] * 3)
        late = [answer.retry_after_ms for answer in answers if isinstance(answer, errors.OverRate)]
        assert late == [wait] * (1 if time == 0 else 2), time
    feeder.time = 100_000
    assert [isinstance(each, errors.OverRate) for each in feeder.ask(*[m.Put(b"r", b"")] * 3)] == [False, False, True]


def test_a_policy_that_is_gone_says_nothing_any_more_of_those_within_it() -> None:
    feeder = Feeder()
    feeder.ask(m.QuotaSet(b"a", keys_max=3), m.QuotaSet(b"aaa", keys_max=9), m.QuotaSet(b"aa", keys_max=1))
    puts = [m.Put(b"aaa%d" % at, b"") for at in range(4)]
    assert [isinstance(each, errors.OverQuota) for each in feeder.ask(*puts)] == [False, True, True, True]
    feeder.ask(m.QuotaDelete(b"aa"))
    assert [isinstance(each, errors.OverQuota) for each in feeder.ask(*puts)] == [False, False, False, True]


@pytest.fixture
def slices_of_two() -> Iterator[None]:
    """So that a few keys take several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotas, "COUNT_KEYS", 2)
        yield


@given(MANY, st.integers(1, 4), st.integers(1, 5), st.integers(0, 30), st.integers(0, 4))
@settings(max_examples=100, deadline=None)
def test_members_hold_the_same_of_policies(
    many: list[list[Any]], groups_each: int, batch: int, crash_at: int, unflushed: int
) -> None:
    """However entries come in batches, and whatever a crash has lost; with policies that are still counting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotas, "COUNT_KEYS", 2)
        puts = group(*(m.Put(b"a%d" % each, b"v") for each in range(7)))
        groups = [puts, *(group(*each, session=b"%016d" % (at % 3), first=1 + at * 9) for at, each in enumerate(many))]
        entries = entries_of(groups, groups_each)
        one, other = machine(), machine(member=2)
        fed(one, entries, 1)
        fed(other, entries, batch)
        assert list(everything(one.engine)) == list(everything(other.engine))
        assert one.digests == other.digests
        engine = Crashing()
        engine.writes_left, engine.flush_at = crash_at, unflushed
        shaken = machine(engine)
        try:
            fed(shaken, entries, 1)
        except Crash:
            shaken = machine(engine.power_loss())
            fed(shaken, entries, 2)
        assert list(everything(shaken.engine)) == list(everything(one.engine))


@given(st.lists(WRITES | st.just(m.QuotaCount()), max_size=30), PREFIXES)
@settings(max_examples=100, deadline=None)
def test_what_was_there_before_is_counted_while_it_changes(writes: list[Any], prefix: bytes) -> None:
    """Slices of two keys, and between them whatever clients do: what is counted at the end is what is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotas, "COUNT_KEYS", 2)
        feeder = Feeder()
        feeder.ask(
            *(m.Put(key, b"before") for key in (b"a", b"ab", b"ab\0x", b"abc", b"abd", b"b", b"\xff\xff", b"\xffz"))
        )
        feeder.ask(m.QuotaSet(prefix, keys_max=1))
        for request in writes:
            feeder.ask(request)
            if not feeder.machine.store.quotas.is_counting:
                break
        while feeder.machine.store.quotas.is_counting:
            feeder.ask(m.QuotaCount())
        kvs = feeder.read(m.Range(b"\0", b"\0"))[0]
        under = [(key, value) for key, _, _, _, value, _ in kvs if key.startswith(prefix)]
        quota = m.Quota(*feeder.read(m.QuotaGet(prefix))[0])
        assert (quota.keys_used, quota.bytes_used) == (len(under), sum(len(k) + len(v) for k, v in under))


@pytest.mark.patches
@pytest.mark.usefixtures("slices_of_two")
def test_a_policy_is_in_force_once_all_is_counted() -> None:
    feeder = Feeder()
    feeder.ask(*(m.Put(b"a%d" % at, b"") for at in range(5)))
    quota = m.Quota(*feeder.ask(m.QuotaSet(b"a", keys_max=5))[0][0])
    assert (quota.counting, quota.keys_used) == (True, 2)
    assert not isinstance(feeder.ask(m.Put(b"a9", b""))[0], Exception)
    feeder.ask(m.QuotaCount(), m.QuotaCount())
    assert not feeder.machine.store.quotas.is_counting
    assert isinstance(feeder.ask(m.Put(b"aa", b""))[0], errors.OverQuota)
    assert not isinstance(feeder.ask(m.Put(b"a9", b"again"))[0], Exception)


def test_a_txn_may_put_as_much_as_it_deletes() -> None:
    """What counts is what it leaves, in whatever order it is written."""
    feeder = Feeder()
    feeder.ask(m.Put(b"a1", b""), m.Put(b"a2", b""), m.QuotaSet(b"a", keys_max=2))
    both = ((m.Op.PUT, m.Put(b"a3", b"")), (m.Op.DELETE_RANGE, m.DeleteRange(b"a1")))
    refused, passed = feeder.ask(m.Txn((), both[:1], ()), m.Txn((), both, ()))
    assert isinstance(refused, errors.OverQuota)
    assert not isinstance(passed, Exception)
    assert [kv[0] for kv in feeder.read(m.Range(b"a", b"b"))[0]] == [b"a2", b"a3"]


def test_a_refused_request_leaves_no_trace_but_its_answer() -> None:
    feeder = Feeder()
    feeder.ask(m.QuotaSet(b"a", keys_max=1, requests_max=1), m.LeaseGrant(60, 7))
    before = list(everything(feeder.machine.engine))
    txn = m.Txn((), tuple((int(m.Op.PUT), m.Put(b"a%d" % at, b"", 7)) for at in range(3)), ())
    answer = feeder.ask(txn)[0]
    assert str(answer) == "zkv: over quota: prefix 'a' may hold 1 keys"
    changed = set(everything(feeder.machine.engine)) ^ set(before)
    assert {name for name, _ in changed} == {b"xplace"}


def test_a_lease_is_granted_its_end_whatever_the_rate() -> None:
    feeder = Feeder()
    feeder.ask(m.LeaseGrant(1, 7), m.QuotaSet(b"a", requests_max=1))
    assert not isinstance(feeder.ask(m.Put(b"a", b"", 7))[0], Exception)
    assert isinstance(feeder.ask(m.DeleteRange(b"a"))[0], errors.OverRate)
    assert not isinstance(feeder.ask(m.LeaseRevoke(7))[0], Exception)
    assert feeder.read(m.Range(b"a"))[2] == 0
    feeder.ask(m.QuotaSet(b"a", requests_max=1), m.LeaseGrant(1, 8), m.Put(b"a", b"", 8))
    until = feeder.machine.store.leases.check(8).until
    assert feeder.ask(m.DeleteRange(b"a"), m.LeaseExpire(1, ((8, until),)))[1] == ()
    assert feeder.read(m.Range(b"a"))[2] == 0


def test_a_write_that_came_too_early_is_done_when_it_comes_again() -> None:
    """Under the number it had: what was refused for its rate is not remembered, and says when it may come."""
    feeder = Feeder()
    name = b"s" * 16
    feeder.ask(m.QuotaSet(b"a", requests_max=4))
    answers = feeder.ask(*(m.Put(b"a", b"%d" % at) for at in range(5)), session=name)
    assert isinstance(answers[4], errors.OverRate)
    assert answers[4].retry_after_ms == 250
    feeder.time = 249
    assert isinstance(feeder.ask(m.Put(b"a", b"4"), session=name, first=5)[0], errors.OverRate)
    feeder.time = 250
    assert feeder.ask(m.Put(b"a", b"4"), session=name, first=5)[0] == (None, 0)
    assert feeder.read(m.Range(b"a"))[0][0][3] == 5
    txn = m.Txn((), ((int(m.Op.PUT), m.Put(b"a", b"6")),), ())
    assert isinstance(feeder.ask(txn, session=name, first=6)[0], errors.OverRate)
    feeder.time = 500
    assert feeder.ask(txn, session=name, first=6)[0][0] is True


def test_what_was_refused_for_its_quota_is_remembered_so() -> None:
    """As all that the request itself is the reason for: sent again, the same answer."""
    feeder = Feeder()
    name = b"s" * 16
    feeder.ask(m.Put(b"a1", b""), m.QuotaSet(b"a", keys_max=1))
    assert isinstance(feeder.ask(m.Put(b"a2", b""), session=name)[0], errors.OverQuota)
    feeder.ask(m.QuotaDelete(b"a"))
    assert isinstance(feeder.ask(m.Put(b"a2", b""), session=name)[0], errors.OverQuota)
    assert not isinstance(feeder.ask(m.Put(b"a2", b""), session=name, first=2)[0], Exception)


def test_policies_and_how_they_nest_are_bounded() -> None:
    feeder = Feeder()
    nested = [m.QuotaSet(b"n" * depth, keys_max=1) for depth in (*range(2, NESTED_MAX + 2),)]
    assert not any(isinstance(answer, Exception) for answer in feeder.ask(*nested))
    for further in (b"n", b"n" * (NESTED_MAX + 2)):
        assert isinstance(feeder.ask(m.QuotaSet(further, keys_max=1))[0], errors.TooManyQuotas)
    for at in range(0, QUOTAS_MAX - NESTED_MAX, 1000):
        upto = min(at + 1000, QUOTAS_MAX - NESTED_MAX)
        feeder.ask(*(m.QuotaSet(b"p%05d" % each, keys_max=1) for each in range(at, upto)))
    assert isinstance(feeder.ask(m.QuotaSet(b"q", keys_max=1))[0], errors.TooManyQuotas)
    assert not isinstance(feeder.ask(m.QuotaSet(b"p00000", keys_max=2))[0], Exception)


def test_the_greatest_limits_can_be_kept() -> None:
    """Tokens are counted in thousandths, and have to fit into a record."""
    most = m.QuotaSet(b"a", (1 << 63) - 1, (1 << 63) - 1, m.QUOTA_REQUESTS_MAX)
    feeder = Feeder()
    feeder.ask(most)
    reopened = machine(feeder.machine.engine)
    assert next(reopened.store.quotas.first(1))[0][:4] == most
    more = most._replace(requests_max=m.QUOTA_REQUESTS_MAX + 1)
    assert isinstance(feeder.ask(more)[0], errors.InvalidRequest)


def test_a_store_that_counts_otherwise_is_found_out_by_its_digest() -> None:
    """Members compare what each entry has written: of policies, too."""
    one, other = machine(), machine(member=2)
    first = entry(1, group(m.Put(b"a1", b""), m.QuotaSet(b"a", keys_max=9)))
    for each in (one, other):
        each.apply([first], 1)
    policy = other.store.quotas.cover(b"a")
    assert policy is not None
    policy.keys_used += 1
    for each in (one, other):
        each.apply([entry(2, group(m.Put(b"a2", b"")))], 1)
    assert one.digests[0] == other.digests[0]
    assert one.digests[1] != other.digests[1]


def test_only_root_sets_policies_and_who_reads_a_prefix_may_ask_for_its_own() -> None:
    feeder = Feeder()
    feeder.ask(m.UserAdd("root"), m.RoleAdd("root"), m.UserGrantRole("root", "root"))
    feeder.ask(m.UserAdd("ann"), m.RoleAdd("r"), m.RoleGrantPermission("r", m.PermissionKind.READ, b"a", b"b"))
    feeder.ask(m.UserGrantRole("ann", "r"), m.AuthEnable())
    revision = feeder.machine.users.book.revision
    root, ann = ("root", revision), ("ann", revision)
    assert not isinstance(
        feeder.ask(m.QuotaSet(b"a", keys_max=1), m.QuotaSet(b"c", keys_max=1), caller=root)[0], Exception
    )
    for change in (m.QuotaSet(b"a", keys_max=2), m.QuotaDelete(b"a")):
        assert isinstance(feeder.ask(change, caller=ann)[0], errors.PermissionDenied)
    for request in (m.QuotaList(), m.QuotaGet(b"c"), m.QuotaGet(b"")):
        assert isinstance(feeder.read(request, caller=ann), errors.PermissionDenied)
    assert feeder.read(m.QuotaGet(b"a"), caller=ann)[0][:2] == (b"a", 1)


def test_without_policies_a_store_holds_nothing_of_them() -> None:
    feeder = Feeder(engine=MemoryEngine(), limits=Limits())
    feeder.ask(m.Put(b"a", b""), m.QuotaSet(b"a", keys_max=1), m.QuotaDelete(b"a"), m.QuotaCount())
    assert not [name for name, _ in everything(feeder.machine.engine) if name.startswith(b"p")]
