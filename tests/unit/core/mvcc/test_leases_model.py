"""Keys that change hands among a few leases, in whatever batches: the store does as the one-page model."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

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
from zkv.errors import ZkvError
from zkv.limits import Limits
from zkv.wire.messages import (
    DeleteRange,
    LeaseExpire,
    LeaseGrant,
    LeaseList,
    LeaseRenew,
    LeaseRevoke,
    LeaseTimeToLive,
    Put,
    Txn,
)

LIMITS = Limits()._replace(lease_keys_max=2)
KEYS = (b"a", b"b", b"c", b"d")
LEASES = (1, 2, 3)
FIRST_UNTIL = 1750
RENEWED = 50_000
EXPIRE = "expire"
"""All that the model knows, as the leader would."""
RESTART = "restart"
TICK = "tick"


def _then(*requests: Any) -> Txn:
    return Txn((), tuple((OP_OF[type(request)], request) for request in requests), ())


def _all(until: int) -> tuple[tuple[int, int], ...]:
    return tuple((lease, until) for lease in LEASES)


WRITES: tuple[Any, ...] = (
    *(Put(key, b"", lease, prev) for key in KEYS for lease in (0, *LEASES) for prev in (False, True)),
    *(Put(key, b"", ttl=1) for key in KEYS),
    *(Put(key, b"", ignore_lease=True) for key in KEYS),
    *(DeleteRange(key) for key in KEYS),
    DeleteRange(b"b", b"d"),
    DeleteRange(b"a", b"\0"),
    *(_then(DeleteRange(key), Put(b"e", b"", lease)) for key in KEYS for lease in LEASES),
    *(_then(Put(key, b"", 1), Put(b"e", b"", 2), Put(b"f", b"", ttl=2), Put(b"g", b"", ttl=2)) for key in KEYS),
    *(_then(Put(key, b""), Put(b"e", b"", 1), Put(b"f", b"", lease)) for key in KEYS for lease in LEASES),
    # Fails in the middle: the key it counts on is deleted by itself.
    *(_then(DeleteRange(b"b", b"\0"), Put(b"a", b"", ttl=1), Put(b"d", b"", ignore_lease=True)) for _ in LEASES),
    *(LeaseGrant(1, lease) for lease in LEASES),
    LeaseGrant(1),
    *(LeaseRevoke(lease) for lease in LEASES),
    *(LeaseRenew(1, ((lease, RENEWED),)) for lease in LEASES),
    *(LeaseExpire(1, _all(until)) for until in (FIRST_UNTIL, RENEWED, 0)),
    LeaseExpire(2, _all(RENEWED)),
)
STEPS = st.lists(st.sampled_from((*WRITES, *(EXPIRE, TICK, RESTART) * 4)), min_size=20, max_size=80)
GRANTS = [LeaseGrant(1, lease) for lease in LEASES]


@given(STEPS, st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_leases_and_their_keys_are_the_models(steps: list[Any], together: int) -> None:
    """Answers, records, index, times left, after each log entry of up to `together` requests."""
    feeder, model = Feeder(limits=LIMITS), Model(lease_keys_max=LIMITS.lease_keys_max)
    gathered: list[Any] = [*GRANTS]
    for step in (*steps, EXPIRE):
        if step == EXPIRE:
            known = [(lease, kept.until) for lease, kept in model.leases.items()]
            gathered.append(LeaseExpire(1, tuple(known)))
        elif step == TICK:
            feeder.time += 700
            model.time += 700
        elif step == RESTART:
            feeder.machine = machine(feeder.machine.engine, limits=LIMITS)
        else:
            gathered.append(step)
        if len(gathered) < together:
            continue
        for request, answer in zip(gathered, feeder.ask(*gathered), strict=True):
            model.chosen = list(chosen(request, answer))
            expected = model.request(OP_OF[type(request)], request)
            assert same(answer, expected), (request, answer, expected)
        gathered.clear()
        assert feeder.machine.revision == model.revision
        assert_same_leases(feeder.machine.engine, model)
        _assert_same_reads(feeder, model)


def _assert_same_reads(feeder: Feeder, model: Model) -> None:
    alive = {id_: kept for id_, kept in model.leases.items() if kept.until}
    assert feeder.read(LeaseList()) == (tuple(sorted(alive, key=lambda id_: (alive[id_].until, id_))),)
    for id_ in LEASES:
        _, left, granted, keys = feeder.read(LeaseTimeToLive(id_, True))
        if id_ in alive:
            assert (granted, keys) == (alive[id_].ttl, tuple(model.keys_of(id_)))
            assert 0 <= left <= granted
        else:
            assert (left, granted, keys) == (-1, 0, ())


def _groups(writes: list[Any], size: int) -> list[bytes]:
    cut = [writes[at : at + size] for at in range(0, len(writes), size)]
    return [group(*some, session=b"%016d" % (at % 3), first=1 + at * 9) for at, some in enumerate([GRANTS, *cut])]


ENTRIES = st.builds(
    lambda writes, size, groups: entries_of(_groups(writes, size), groups),
    st.lists(st.sampled_from(WRITES), min_size=15, max_size=60),
    st.integers(1, 8),
    st.integers(1, 4),
)


@given(ENTRIES, st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_members_hold_the_same_leases(entries: list[Any], batch: int) -> None:
    """Ids that the cluster chose included: whoever answers, and however entries come in batches."""
    one, other = machine(limits=LIMITS, want_events=True), machine(member=2, limits=LIMITS)
    fed(one, entries, 1)
    fed(other, entries, batch)
    assert list(everything(one.engine)) == list(everything(other.engine))


@given(ENTRIES, st.integers(0, 12), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_a_crash_changes_no_lease(entries: list[Any], crash_at: int, unflushed: int) -> None:
    """The entries that were not durable come again: to the same leases."""
    steady = machine(limits=LIMITS)
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


def test_a_crash_within_an_entry_makes_no_lease_twice() -> None:
    """A batch written early leaves the place of the next request: the leases behind it get the ids they would have."""
    first = [*GRANTS, *(Put(b"%06d" % at, b"", 1 + at % 3) for at in range(300)), Put(b"x", b"", ttl=5)]
    scan = DeleteRange(b"000000", b"000100", True)
    rest = [scan, Put(b"y", b"", ttl=5), LeaseGrant(5), LeaseRevoke(1), scan, LeaseExpire(1, ((2, FIRST_UNTIL),))]
    whole = entry(1, group(*first), group(*rest), group(scan, Put(b"x", b"", ttl=5)))
    steady = machine(limits=LIMITS)
    expected = [answers_of(answered.answers) for answered in steady.apply([whole], 1).answers]
    crashes = 0
    for crash_at in range(4):
        engine = Crashing()
        engine.writes_left = crash_at
        shaken = machine(engine, limits=LIMITS)
        try:
            outcome = shaken.apply([whole], 1)
        except Crash:
            crashes += 1
            engine.flush()
            shaken = machine(engine.power_loss(), limits=LIMITS)
            outcome = shaken.apply([whole], 1)
        assert list(everything(shaken.engine)) == list(everything(steady.engine))
        for answered, steadily in zip(outcome.answers, expected, strict=True):
            for (_, told), (_, would) in zip(answers_of(answered.answers), steadily, strict=True):
                assert same(told, would) or isinstance(told, ZkvError)  # Unavailable: done before the crash
    assert crashes >= 2
