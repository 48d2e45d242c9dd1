"""The membership: what the member table says is meant, brought about by the leader.

The table (core/mvcc/members.py) tells who is meant to belong to the cluster, raft's configuration who does. Wherever
they differ, the leader proposes the next conf change, one at a time:

    in the table, not in the configuration        make it a learner
    meant to vote, a learner, has caught up       give it a vote
    in the configuration, not in the table        remove it (the leader itself: hand over first)

Nothing is done before the table is as new as the configuration: an older one would undo what is newer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.core.raft import membership
from zkv.errors import InvalidRequest, NoLeader, NotCapable, TooManyRequests
from zkv.wire.messages import ConfChange, ConfChangeKind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from zkv.core.raft.raft import Raft
    from zkv.wire.messages import Member

HEALTH_MS = 5_000
"""A member not heard from for so long counts as down (etcd's HealthInterval)."""
CAUGHT_UP_ENTRIES = 100
"""How far behind the commit index a learner may be when it is given its vote."""
LOOK_MS = 100
"""How often a learner that is meant to vote is looked at."""


class Reconciler:
    """The leader's part; on other members it does nothing."""

    def __init__(self) -> None:
        self._look_at = 0
        self._seen: tuple[object, object] | None = None  # the configuration and the table that were found to agree

    def step(
        self, core: Raft, table: Mapping[int, Member], table_index: int, forgetful: Collection[int], now: int
    ) -> None:
        """Propose the next conf change, if one is due. `forgetful`: who came back with an empty memory (rejoin.py)."""
        conf = core.conf
        if core.leader != core.id or table_index < conf.index or conf.voters_outgoing or not table:
            return
        if self._seen == (conf, table) or now < self._look_at:
            return
        change = self._next(core, table, forgetful, now)
        if change is None:
            if all(member.is_learner or id_ in conf.voters for id_, member in table.items()):
                self._seen = (conf, table)
            self._look_at = now + LOOK_MS
            return
        kind, member = change
        try:
            if kind == ConfChangeKind.REMOVE and member == core.id:
                if successor := core.successor():
                    core.transfer_leadership(successor, now)
            else:
                core.propose_conf_change(ConfChange(((kind, member, ()),)), now)
        except (NoLeader, NotCapable, TooManyRequests, InvalidRequest):
            self._look_at = now + LOOK_MS  # another change is under way, or we lead no more

    def _next(
        self, core: Raft, table: Mapping[int, Member], forgetful: Collection[int], now: int
    ) -> tuple[ConfChangeKind, int] | None:
        conf = core.conf
        present = membership.members(conf)
        for member in sorted(present - table.keys(), key=lambda member: (member == core.id, member)):
            return ConfChangeKind.REMOVE, member
        for member in sorted(table.keys() - present):
            return ConfChangeKind.ADD_LEARNER, member
        for member in conf.learners:
            known = table[member]
            # who has not published itself yet could lose its disk, and nobody would know that it had one (rejoin.py)
            may_vote = not known.is_learner and bool(known.client_urls) and member not in forgetful
            if may_vote and self._in_sync(core, member, now):
                return ConfChangeKind.ADD_VOTER, member
        return None

    def _in_sync(self, core: Raft, member: int, now: int) -> bool:
        lag = core.lag(member)
        near = lag is not None and lag <= CAUGHT_UP_ENTRIES and core.match(member) > 0
        return near and core.silence_ms(member, now) < HEALTH_MS
