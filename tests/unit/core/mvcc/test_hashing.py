"""One number for all that a store says: the same wherever the same was written, another wherever a record is not."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.harness.kv_log import Feeder, entries_of, everything, fed, group, machine
from tests.harness.random_requests import RandomRequests
from zkv.core.mvcc import layout
from zkv.core.mvcc.hashing import HASH_OF_NOTHING, hash_store
from zkv.core.mvcc.quotas import COUNT_KEYS
from zkv.wire.codec import pack, unpack
from zkv.wire.messages import Compact, DeleteRange, Put, QuotaSet

if TYPE_CHECKING:
    from zkv.core.mvcc.machine import StateMachine

TABLES = (layout.EVENT, layout.HISTORY, layout.CURRENT)


def hash_of(store: StateMachine, revision: int = 0) -> int:
    steps = hash_store(store.engine.snapshot(), revision or store.revision, store.store.compacted)
    return next(step for step in steps if step is not None)


def played(seed: int, *, batch: int, compact_as_it_goes: bool) -> StateMachine:
    """What random requests made of a store, all of it forgotten that may be."""
    requests = RandomRequests(random.Random(seed))
    groups = []
    for number in range(1, 120):
        requests.revision, requests.compacted = number, number // 2
        groups.append(group(*(requests.write() for _ in range(3)), session=b"%016d" % (number % 3), first=number * 10))
        if number % 40 == 0:
            groups.append(group(Compact(number // 2), first=number * 10 + 5))
    store, entries = machine(), entries_of(groups, 2)
    for each in entries if compact_as_it_goes else ():
        fed(store, [each], 1)
    fed(store, [entry for entry in entries if entry.index > store.applied], batch)
    return store


@pytest.mark.parametrize("seed", range(6))
def test_whoever_has_applied_the_same_has_the_same_hash(seed: int) -> None:
    """However it came in batches, and whenever compaction was done."""
    one, other = played(seed, batch=1, compact_as_it_goes=True), played(seed, batch=7, compact_as_it_goes=False)
    assert one.store.compacted > 0
    assert one.revision > 50
    for revision in (0, one.store.compacted, one.revision - 3):
        assert hash_of(one, revision) == hash_of(other, revision)


def test_a_hash_of_the_past_is_what_it_was_then() -> None:
    """Nothing wrong is found in a store that is well, so nothing but the events up to there is in it."""
    feeder = Feeder()
    hashes = {1: hash_of(feeder.machine)}
    assert hashes[1] == HASH_OF_NOTHING
    for number in range(30):
        feeder.ask(Put(b"k%d" % (number % 4), b"%d" % number), DeleteRange(b"k%d" % (number % 3)))
        hashes[feeder.machine.revision] = hash_of(feeder.machine)
    assert len(set(hashes.values())) == len(hashes)
    assert {revision: hash_of(feeder.machine, revision) for revision in hashes} == hashes


def test_any_flipped_bit_of_any_record_is_in_the_hash() -> None:
    """Of what is current and of where the past is found, as of what has happened; a record too few or too many, too."""
    store = played(3, batch=3, compact_as_it_goes=True)
    well, engine = hash_of(store), store.engine
    rng = random.Random(5)
    records = [pair for pair in everything(engine) if pair[0][:1] in TABLES]
    assert {name[:1] for name, _ in records} == set(TABLES)
    for name, record in records:
        at = rng.randrange(len(record))
        damaged = bytearray(record)
        damaged[at] ^= 1 << rng.randrange(8)
        engine.write([(name, bytes(damaged))], ())
        assert hash_of(store) != well, (name, record, at)
        engine.write((), [name])
        assert hash_of(store) != well, name
        engine.write([(name, record)], ())
    for name, record in records[:: len(records) // 20]:
        twin = name[:1] + b"\1" + name[2:]
        engine.write([(twin, record)], ())
        assert hash_of(store) != well, twin
        engine.write((), [twin])
    assert hash_of(store) == well


def test_a_current_record_that_was_true_once_is_in_the_hash() -> None:
    """It is what some event says; only not the newest one."""
    feeder = Feeder()
    feeder.ask(Put(b"a", b"old"))
    engine = feeder.machine.engine
    stale = engine.get(layout.CURRENT + b"a")
    assert stale is not None
    feeder.ask(Put(b"a", b"new"), Put(b"b", b"1"))
    well = hash_of(feeder.machine)
    engine.write([(layout.CURRENT + b"a", stale)], ())
    assert hash_of(feeder.machine) != well


def test_what_a_policy_has_counted_otherwise_is_in_the_hash() -> None:
    """Also while it is still counting; where it has counted what is there, its hash is that without it."""
    feeder = Feeder()
    feeder.ask(*(Put(b"%04d" % at, b"x") for at in range(COUNT_KEYS + 9)))
    well = hash_of(feeder.machine)
    feeder.ask(QuotaSet(b"", keys_max=1), QuotaSet(b"00", bytes_max=1), QuotaSet(b"none", keys_max=1))
    assert feeder.machine.store.quotas.is_counting
    assert hash_of(feeder.machine) == well
    engine = feeder.machine.engine
    for prefix in (b"", b"00", b"none"):
        record = engine.get(layout.QUOTA + prefix)
        assert record is not None
        fields = unpack(record)
        for at in (3, 4):
            engine.write([(layout.QUOTA + prefix, pack((*fields[:at], fields[at] + 1, *fields[at + 1 :])))], ())
            assert hash_of(feeder.machine) != well
        engine.write([(layout.QUOTA + prefix, record)], ())
    assert hash_of(feeder.machine) == well
