"""Storages of three members ask each other whether they hold the same; no socket, no clock."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.kv_log import entry, group
from zkv.actors.auditor import AGAIN_MS, ASK_MS, BELL_MS, SPLITS_MAX, START_MS, Auditor, Checks
from zkv.core.mvcc import layout
from zkv.core.mvcc.engine import MemoryEngine
from zkv.core.mvcc.machine import StateMachine
from zkv.errors import CorruptionError
from zkv.limits import Limits
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from typing import NamedTuple

MEMBERS = tuple(m.Member(number, "", (f"tcp://a:{number}",), (), is_learner=False) for number in (1, 2, 3))
LEADER = 1


class World:
    """Three members; what one storage tells another arrives at once, unless it is away or not there yet."""

    def __init__(self, checks: Checks = Checks(), *, starting: int = 0) -> None:  # noqa: B008
        self.now = 0
        self.applied = 0
        self.away: set[int] = set()
        self.proposed: list[tuple[int, tuple[Any, ...]]] = []
        self.machines = {}
        self.auditors: dict[int, Auditor] = {}
        for member in (1, 2, 3):
            machine = StateMachine(MemoryEngine(), Limits(), cluster_id=9, member_id=member)
            machine.bootstrap(MEMBERS)
            self.machines[member] = machine
        self.write(m.Put(b"a", b"1"), m.Put(b"b", b"1"))
        for member, machine in self.machines.items():
            own = checks if member == starting or not starting else Checks()
            self.auditors[member] = Auditor(member, own, partial(self._post, member), machine, 0)
            if not starting:
                self.auditors[member].leader_is(LEADER, 0)

    def _post(self, sender: int, _neighbour: str, message: NamedTuple) -> bool:
        if isinstance(message, m.Propose):
            for _, payload in codec.decode_frame(message.frame).groups:
                self.proposed += [(op, fields) for _, op, fields in codec.unpack(payload)[4]]
        elif isinstance(message, m.Relay) and {sender, message.member} <= self.auditors.keys() - self.away:
            letter = codec.decode(message.message)
            self.auditors[message.member].mail(letter, self.machines[message.member], self.now)
        return True

    def write(self, *requests: Any) -> None:
        self.applied += 1
        for machine in self.machines.values():
            machine.apply([entry(self.applied, group(*requests))], 1)

    def differ(self, member: int, value: bytes = b"9") -> None:
        """Other data in the newest event of b, which no checksum tells."""
        machine = self.machines[member]
        name = layout.event_key(machine.revision, 0)
        record = machine.engine.get(name)
        assert record is not None
        machine.engine.write([(name, record[:-1] + value)], ())

    def run(self, ms: int) -> None:
        until = self.now + ms
        while self.now < until:
            self.now += 100
            for member, auditor in self.auditors.items():
                if member not in self.away:
                    auditor.step(self.machines[member], self.now)


EACH_SECOND = Checks(periodic_ms=1_000)


def test_members_that_hold_the_same_are_left_alone() -> None:
    world = World(EACH_SECOND)
    world.run(5_000)
    assert not world.proposed


@pytest.mark.parametrize("odd", [1, 3])
def test_the_odd_one_is_fenced_whether_it_leads_or_not(odd: int) -> None:
    world = World(EACH_SECOND)
    world.differ(odd)
    world.run(2_500)
    assert world.proposed[0] == (m.Op.FENCE, (odd, world.machines[1].revision))
    assert {op for op, _ in world.proposed} == {m.Op.FENCE}


def test_nobody_is_judged_without_a_majority_and_if_that_lasts_all_refuse() -> None:
    """A member may come back in time to tell who is right."""
    world = World(EACH_SECOND)
    world.differ(2)
    world.away = {3}
    world.run(SPLITS_MAX * 20_000)
    assert world.proposed
    assert {(op, fields[1:]) for op, fields in world.proposed} == {(m.Op.ALARM, (2, m.AlarmType.CORRUPT))}
    world.proposed.clear()
    for machine in world.machines.values():
        machine.alarms.change(m.Alarm(m.AlarmAction.ACTIVATE, 3, m.AlarmType.CORRUPT))
    world.away = set()
    world.run(20_000 + AGAIN_MS)
    assert (m.Op.FENCE, (2, world.machines[1].revision)) in world.proposed
    assert (m.Op.ALARM, (m.AlarmAction.DEACTIVATE, 3, m.AlarmType.CORRUPT)) in world.proposed


def test_an_entry_that_wrote_other_data_rings_and_hashes_judge() -> None:
    """Without any check being asked for: member 2 counts another version, and writes it into history."""
    world = World()
    key = layout.CURRENT + b"a"
    engine = world.machines[2].engine
    record = engine.get(key)
    assert record is not None
    revision, sub, create, _, _ = layout.current_head(record)
    engine.write([(key, layout.packed_current(revision, sub, create=create, version=7, lease=0, value=b"1"))], ())
    world.run(2 * BELL_MS)
    assert not world.proposed
    world.write(m.Put(b"a", b"2"))
    world.run(3 * BELL_MS)
    assert world.proposed[0] == (m.Op.FENCE, (2, world.machines[1].revision))


def test_after_a_compaction_what_it_left_is_compared() -> None:
    """Once for each; members that have not come so far have no say."""
    world = World(Checks(compaction_ms=1_000))
    world.differ(2)
    world.run(3_000)
    assert not world.proposed
    world.write(m.Compact(world.machines[1].revision))
    world.run(3_000)
    assert not world.proposed, "nobody has forgotten yet what it may"
    for machine in world.machines.values():
        while machine.compaction_step():
            pass
    world.run(3_000)
    assert world.proposed[0] == (m.Op.FENCE, (2, world.machines[1].store.compacted))


def test_one_that_differs_from_a_majority_does_not_start() -> None:
    world = World(Checks(initial=True), starting=2)
    world.differ(2)
    with pytest.raises(CorruptionError, match="found data inconsistency with peers"):
        world.run(START_MS)


def started(world: World) -> bool:
    return not world.auditors[2].is_starting


def test_one_that_agrees_starts_and_one_that_hears_nobody_after_a_while() -> None:
    """What was asked before there was a connection is asked again."""
    world, lonely = (World(Checks(initial=True), starting=2) for _ in range(2))
    lonely.away = {1, 3}
    assert not started(world)
    world.run(2 * ASK_MS)
    lonely.run(START_MS - 100)
    assert (started(world), started(lonely)) == (True, False)
    lonely.run(200)
    assert started(lonely)
