"""A raft log on a disk that forgets: the twin of MemoryLog for whoever crashes.

Every call since the last sync is journaled. A crash keeps the first so many of them, drawn by chance - of an append
that was under way perhaps only the first entries - and loses the rest. A sync may cover only what was
written before it began (`sync_until`), as one that runs in a thread does.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from zkv.core.raft.log import MemoryLog

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from zkv.wire.messages import ConfState, Entry, HardState, SnapshotMeta


class FaultyLog(MemoryLog):
    def __init__(self, conf: ConfState) -> None:
        super().__init__(conf)
        self.durable = MemoryLog(conf)
        """What would be left if all that was not synced were lost."""
        self._journal: deque[tuple[Callable[[], None], tuple[Entry, ...]]] = deque()  # (the call, what it appends)
        self._written = 0  # calls so far
        self.on_append: Callable[[Sequence[Entry]], object] = len
        """Shown every append before it is made."""

    def append(self, entries: Sequence[Entry]) -> None:
        self.on_append(entries)
        super().append(entries)
        kept = tuple(entries)
        self._write(lambda: self.durable.append(kept), kept)

    def _write(self, call: Callable[[], None], appends: tuple[Entry, ...] = ()) -> None:
        self._written += 1
        self._journal.append((call, appends))

    def set_hard_state(self, hard_state: HardState) -> None:
        super().set_hard_state(hard_state)
        self._write(lambda: self.durable.set_hard_state(hard_state))

    def set_conf(self, conf: ConfState) -> None:
        super().set_conf(conf)
        self._write(lambda: self.durable.set_conf(conf))

    def compact(self, index: int) -> None:
        super().compact(index)
        self._write(lambda: self.durable.compact(index))

    def reset(self, base: SnapshotMeta) -> None:
        super().reset(base)
        self._write(lambda: self.durable.reset(base))
        self.sync()

    def sync(self) -> None:
        self.sync_until(self.written)

    @property
    def written(self) -> int:
        """How much has been written: what `sync_until` takes."""
        return self._written

    def sync_until(self, written: int) -> None:
        while self._journal and self._written - len(self._journal) < written:
            call, _ = self._journal.popleft()
            call()

    def crash(self, rng: random.Random) -> None:
        """Lose the power; the log is then what a restarted member finds."""
        self.sync_until(self._written - rng.randint(0, len(self._journal)))
        torn = self._journal[0][1] if self._journal else ()
        if survivors := torn[: rng.randint(0, len(torn))]:
            self.durable.append(survivors)
        self._journal.clear()
        self.hard_state, self.conf, self.base = self.durable.hard_state, self.durable.conf, self.durable.base
        self._entries = list(self.durable._entries)
