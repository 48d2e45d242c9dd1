"""A compaction beside other work: at once where there is none, with rests where there is, and never outrun."""

from __future__ import annotations

from tests.harness.kv_log import Feeder
from zkv.actors.compactor import HASTE_MS, PATIENCE_MS, REST_MS, Compactor
from zkv.wire.messages import Compact, Put


def test_it_rests_after_each_step_while_others_write() -> None:
    feeder, compactor = Feeder(), Compactor()
    for number in range(800):
        feeder.ask(Put(b"k", b"%d" % number))
    feeder.ask(Compact(800))
    compactor.step(feeder.machine, 1000)
    assert compactor.at == 1000 + REST_MS
    compactor.step(feeder.machine, 1020)
    assert compactor.at == 1020, "nothing was applied since"
    feeder.ask(Put(b"k", b"more"))
    compactor.step(feeder.machine, 1000 + 3 * HASTE_MS)
    assert compactor.at == 1000 + 3 * HASTE_MS + REST_MS - 3
    feeder.ask(Put(b"k", b"more"))
    compactor.step(feeder.machine, 1000 + 30 * HASTE_MS)
    assert compactor.at == 1000 + 30 * HASTE_MS + 1


def test_where_somebody_waits_it_rests_no_longer_than_their_patience_allows() -> None:
    """Some 3,000 events are left when a command has a fifth of a second left: a dozen steps, and a rest between."""
    feeder, compactor = Feeder(), Compactor()
    for number in range(3_500):
        feeder.ask(Put(b"k", b"%d" % number))
    feeder.ask(Compact(3_500))
    compactor.step(feeder.machine, 0, waited_for=True)
    assert compactor.at == REST_MS, "there is time enough"
    now, ended = PATIENCE_MS - 200, False
    while not ended:
        feeder.ask(Put(b"k", b"more"))
        compactor.step(feeder.machine, now, waited_for=True)
        ended = not feeder.machine.compaction.is_due(feeder.machine.store.compacted)
        assert now <= compactor.at < now + REST_MS
        now = compactor.at
    assert now <= PATIENCE_MS + REST_MS


def test_it_counts_steps_and_compactions() -> None:
    feeder, compactor = Feeder(), Compactor()
    for number in range(800):
        feeder.ask(Put(b"k", b"%d" % number))
    feeder.ask(Compact(800))
    steps, now = 0, 0
    while feeder.machine.compaction.is_due(feeder.machine.store.compacted):
        compactor.step(feeder.machine, now)
        steps, now = steps + 1, now + 5
    told = {name: value for name, _, value in compactor.gauges()}
    took, counts = told["compaction"], told["compaction step"]
    assert isinstance(took, tuple)
    assert isinstance(counts, tuple)
    assert took[0] == (now - 5) * 1_000_000
    assert sum(counts[1:]) == steps > 2
    assert told["compaction ended"]
