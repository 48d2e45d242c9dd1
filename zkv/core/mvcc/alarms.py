"""Alarms: what must not go on as usual, until it is put right. Replicated state, so that all members refuse alike.

    NOSPACE   the store has outgrown its quota: nothing is taken that makes it grow; deletes, compaction and the end of
              leases are (etcd:server/etcdserver/apply.go, applierV3Capped)
    CORRUPT   a member holds other data than the rest: nothing is served (applierV3Corrupt); but where a majority knows
              which one it is, that one is *fenced*: it ends, and the others serve on

The leader raises NOSPACE, and ends it when there is room again (actors/housekeeper.py); anybody may do so by hand. It
raises CORRUPT, too (actors/auditor.py). A fence is over when the member has been made a learner, for then it
is being refilled (actors/refill.py); or when somebody disarms it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zkv.core.mvcc import layout
from zkv.errors import Corrupt, NoSpace
from zkv.wire.messages import Alarm, AlarmAction, AlarmType, Op, Put, Txn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zkv.core.mvcc.engine import Reader
    from zkv.wire.messages import TxnRequest

ALARMS_MAX: Final = 1_000
"""A further one changes nothing: clients may raise them for members that do not exist."""
_FENCED: Final = b"\1"
"""The record of an alarm that fences its member; that of any other is empty."""
_REFUSED_WHEN_CORRUPT: Final = frozenset(
    (Op.PUT, Op.RANGE, Op.DELETE_RANGE, Op.TXN, Op.COMPACT, Op.LEASE_GRANT, Op.LEASE_REVOKE)
)


class Alarms:
    """(member id, AlarmType) each; what changed is written with the batch that changed it."""

    def __init__(self, reader: Reader) -> None:
        records = reader.scan(layout.ALARM, layout.after_prefix(layout.ALARM))
        self._on = {layout.alarm_of(key): record for key, record in records}
        self._changed: set[tuple[int, int]] = set()
        self._note()

    def _note(self) -> None:
        kinds = {alarm for (_, alarm), record in self._on.items() if record != _FENCED}
        self.no_space = int(AlarmType.NOSPACE) in kinds
        self.corrupt = int(AlarmType.CORRUPT) in kinds
        self.any = self.no_space or self.corrupt

    def find(self, asked: Alarm) -> tuple[tuple[int, int], ...]:
        """Those that are on, in order."""
        return tuple(
            (member, alarm)
            for member, alarm in sorted(self._on)
            if asked.member_id in {0, member} and asked.alarm in {0, alarm}
        )

    def change(self, asked: Alarm) -> tuple[tuple[int, int], ...]:
        """Switch one on or off; it, where that made a difference."""
        one = asked.member_id, asked.alarm
        wanted = asked.action == AlarmAction.ACTIVATE
        if asked.alarm == AlarmType.NONE or (one in self._on) == wanted or (wanted and len(self._on) >= ALARMS_MAX):
            return ()
        if wanted:
            self._set(one, b"")
        else:
            self._set(one, None)
        return (one,)

    def is_fenced(self, member: int) -> bool:
        return bool(self._on) and self._on.get((member, int(AlarmType.CORRUPT))) == _FENCED

    def fence(self, member: int) -> None:
        """It holds other data than the majority: no reason for the others to serve no more."""
        self._set((member, int(AlarmType.CORRUPT)), _FENCED)

    def unfence(self, members: Iterable[int]) -> None:
        for member in members:
            if self.is_fenced(member):
                self._set((member, int(AlarmType.CORRUPT)), None)

    def _set(self, one: tuple[int, int], record: bytes | None) -> None:
        if record is None:
            del self._on[one]
        else:
            self._on[one] = record
        self._changed.add(one)
        self._note()

    def check(self, op: int, asked: object) -> None:
        """May the request be applied? Raises NoSpace, Corrupt."""
        if self.corrupt and op in _REFUSED_WHEN_CORRUPT:
            raise Corrupt
        if self.no_space and (op in {Op.PUT, Op.LEASE_GRANT} or (isinstance(asked, Txn) and _puts(asked))):
            raise NoSpace

    def flush(self, puts: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        """Add what has changed since the last call."""
        if not self._changed:
            return
        changed, self._changed = sorted(self._changed), set()
        puts += [(layout.alarm_key(*one), self._on[one]) for one in changed if one in self._on]
        deletes += [layout.alarm_key(*one) for one in changed if one not in self._on]


def _puts(txn: Txn) -> bool:
    """Does a branch of it put something, whichever runs?"""
    branches: tuple[tuple[int, TxnRequest], ...] = (*txn.success, *txn.failure)
    return any(isinstance(inner, Put) or (isinstance(inner, Txn) and _puts(inner)) for _, inner in branches)
