"""What the leader's storage does for the whole cluster without being asked: auto-compaction, the space alarm, and
counting what was there before its policy was (core/mvcc/quotas.py).

It only proposes; whether anything comes of it the log decides. So it does no harm that two members may both take
themselves for the leader for a moment.

The alarm goes by the bytes that are in use on the leader (what a defragmentation would leave). It goes on above the
quota, and off by itself below CLEAR_PERCENT of it, so that it does not flutter; etcd's must be disarmed by hand.

It goes on, too, when the leader's disk is short of space (space.py), but only once it has handed the leadership over
and got it back: for who has more room may lead. Members that are no leaders and have no room fall behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.actors.space import Space
    from zkv.core.auto_compaction import AutoCompaction
    from zkv.core.mvcc.machine import StateMachine

LOOK_MS = 500
HAND_OVER_AGAIN_MS = 60_000
"""Who has handed over for want of space and leads again before this much has passed is not alone with that."""
AGAIN_MS = 5_000
"""A proposal of which nothing came is made again after so long."""
CLEAR_PERCENT = 90
DEFAULT_QUOTA_BYTES = 2 << 30  # etcd's


class Housekeeper:
    """`quota_bytes`: 0 is etcd's default, below 0 there is none. `post` reaches raft."""

    def __init__(
        self,
        member_id: int,
        quota_bytes: int,
        compaction: AutoCompaction,
        post: Callable[[str, NamedTuple], bool],
        space: Space | None = None,
    ) -> None:
        self._member_id = member_id
        self.quota = DEFAULT_QUOTA_BYTES if quota_bytes == 0 else max(quota_bytes, 0)
        self._compaction = compaction
        self._post = post
        self._space = space
        self._hand_over_again_at = 0
        self._leading = False
        self._look_at = 0
        self._alarm_again_at = 0
        self._count_at: int | None = None
        self._slices = -1

    def leader_is(self, leader: int, now: int) -> None:
        leading = leader == self._member_id
        if leading and not self._leading:
            self._compaction.begin(now)
            self._look_at = self._alarm_again_at = now
        self._leading = leading

    def wakeup(self) -> int | None:
        if not self._leading:
            return None
        return self._look_at if self._count_at is None else min(self._look_at, self._count_at)

    def tend(self, machine: StateMachine, now: int) -> None:
        if not self._leading:
            return
        self._count(machine, now)
        if now < self._look_at:
            return
        self._look_at = now + LOOK_MS
        self._watch_space(machine, now)
        revision = self._compaction.due(now, machine.revision, machine.store.compacted)
        if revision is not None:
            self._propose(m.Op.COMPACT, m.Compact(revision))

    def _count(self, machine: StateMachine, now: int) -> None:
        """One slice at a time: the next is asked for when the one before has been counted, or nothing came of it."""
        quotas = machine.store.quotas
        if not quotas.is_counting:
            self._count_at = None
        elif self._count_at is None or now >= self._count_at or quotas.slices != self._slices:
            self._slices, self._count_at = quotas.slices, now + AGAIN_MS
            self._propose(m.Op.QUOTA_COUNT, m.QuotaCount())

    def _watch_space(self, machine: StateMachine, now: int) -> None:
        if now < self._alarm_again_at:
            return
        raised = machine.alarms.find(m.Alarm(alarm=m.AlarmType.NOSPACE))
        used = machine.engine.size_in_use()
        is_short = self._space is not None and self._space.is_short(machine.engine.size())
        proposals = []
        if is_short and now >= self._hand_over_again_at:
            self._hand_over_again_at = now + HAND_OVER_AGAIN_MS
            if self._hand_over(machine):
                return
        if not raised and (is_short or (self.quota and used > self.quota)):
            proposals = [m.Alarm(m.AlarmAction.ACTIVATE, self._member_id, m.AlarmType.NOSPACE)]
        elif raised and not is_short and (not self.quota or used * 100 < self.quota * CLEAR_PERCENT):
            proposals = [m.Alarm(m.AlarmAction.DEACTIVATE, member, alarm) for member, alarm in raised]
        for alarm in proposals:
            self._alarm_again_at = now + AGAIN_MS
            self._propose(m.Op.ALARM, alarm)

    def _hand_over(self, machine: StateMachine) -> bool:
        """To the next of the other voters, if there is one."""
        others = sorted(machine.members.conf.voters)
        after = [member for member in others if member > self._member_id] + others
        if after[0] != self._member_id:
            self._propose(m.Op.MOVE_LEADER, m.MoveLeader(after[0]), members=True)
        return after[0] != self._member_id

    def _propose(self, op: m.Op, request: m.Request, *, members: bool = False) -> None:
        group = codec.pack((m.PROTOCOL_VERSION, int(m.ClientKind.REQUESTS), b"", 0, ((1, int(op), request),), m.HOUSE))
        # incarnation 0 is no gateway's: nobody waits for the answer
        self._post("raft", m.Propose(codec.pack(m.Frame(self._member_id, 0, ((0, group),))), members))
