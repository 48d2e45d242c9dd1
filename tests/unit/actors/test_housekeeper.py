"""A disk that is short of space: the leader hands over first, and raises the alarm if that did not help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.harness.kv_log import entry, group
from zkv.actors.housekeeper import AGAIN_MS, HAND_OVER_AGAIN_MS, LOOK_MS, Housekeeper
from zkv.actors.space import RESERVE_BYTES_MAX, RESERVE_BYTES_MIN, Space
from zkv.core.auto_compaction import AutoCompaction
from zkv.core.mvcc.engine import MemoryEngine
from zkv.core.mvcc.machine import StateMachine
from zkv.core.mvcc.quotas import COUNT_KEYS
from zkv.limits import Limits
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from typing import NamedTuple


class Disk(Space):
    def __init__(self, free: int) -> None:
        super().__init__(())
        self.room = free

    def free(self) -> int:
        return self.room


class House:
    """The leader of so many members."""

    def __init__(self, voters: int) -> None:
        self.machine = StateMachine(MemoryEngine(), Limits(), cluster_id=9, member_id=1)
        self.machine.bootstrap(
            [m.Member(number, "", (f"tcp://a:{number}",), (), is_learner=False) for number in range(1, voters + 1)]
        )
        self.disk = Disk(0)
        self.proposed: list[tuple[int, Any]] = []
        self.keeper = Housekeeper(1, -1, AutoCompaction("periodic", 0), self._post, self.disk)
        self.keeper.leader_is(1, 0)
        self.now = 0

    def _post(self, to: str, message: NamedTuple) -> bool:
        assert to == "raft"
        assert isinstance(message, m.Propose)
        for _, payload in codec.decode_frame(message.frame).groups:
            self.proposed += [(op, fields) for _, op, fields in codec.unpack(payload)[4]]
        return True

    def after(self, ms: int) -> list[tuple[int, Any]]:
        self.now += ms
        self.proposed.clear()
        self.keeper.tend(self.machine, self.now)
        return self.proposed


NOSPACE = (1, int(m.AlarmType.NOSPACE))


def test_alone_it_raises_the_alarm_and_ends_it_when_there_is_space() -> None:
    house = House(1)
    assert house.after(LOOK_MS) == [(m.Op.ALARM, (m.AlarmAction.ACTIVATE, *NOSPACE))]
    house.machine.alarms.change(m.Alarm(m.AlarmAction.ACTIVATE, *NOSPACE))
    house.disk.room = RESERVE_BYTES_MIN
    assert house.after(AGAIN_MS) == [], "just enough may be too little in a moment"
    house.disk.room = 2 * RESERVE_BYTES_MIN
    assert house.after(AGAIN_MS) == [(m.Op.ALARM, (m.AlarmAction.DEACTIVATE, *NOSPACE))]


def test_among_others_it_hands_over_and_raises_the_alarm_only_if_it_leads_again() -> None:
    """Then they have no room either."""
    house = House(3)
    assert house.after(LOOK_MS) == [(m.Op.MOVE_LEADER, (2,))]
    house.keeper.leader_is(2, house.now)
    assert house.after(LOOK_MS) == []
    house.keeper.leader_is(1, house.now)
    assert house.after(LOOK_MS) == [(m.Op.ALARM, (m.AlarmAction.ACTIVATE, *NOSPACE))]
    house.machine.alarms.change(m.Alarm(m.AlarmAction.ACTIVATE, *NOSPACE))
    assert house.after(HAND_OVER_AGAIN_MS) == [(m.Op.MOVE_LEADER, (2,))]


def test_a_large_store_needs_more_room() -> None:
    disk = Disk(RESERVE_BYTES_MAX - 1)
    assert [disk.is_short(size) for size in (0, 1 << 30, 1 << 40)] == [False, False, True]


def test_what_was_there_before_its_policy_is_counted_a_slice_at_a_time() -> None:
    """The next when the one before is counted; again when nothing came of it; and no more when all is."""
    house = House(1)
    house.disk.room = RESERVE_BYTES_MAX * 4
    puts = [m.Put(b"a%04d" % at, b"") for at in range(2 * COUNT_KEYS + 1)]
    house.machine.apply([entry(1, group(*puts, m.QuotaSet(b"a", keys_max=9)))], 1)
    count = (m.Op.QUOTA_COUNT, ())
    assert house.after(0) == [count]
    assert house.after(20) == []
    assert house.after(AGAIN_MS) == [count]
    for index in (2, 3):
        house.machine.apply([entry(index, group(m.QuotaCount()))], 1)
        assert house.after(20) == [count] * (index == 2)
    assert not house.machine.store.quotas.is_counting
    assert house.after(LOOK_MS) == []
