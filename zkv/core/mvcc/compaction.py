"""Forgetting what compaction has put out of sight.

Compaction is *logical* at once: `store.compacted` moves, and nothing before it can be read. It becomes *physical*
by and by, in steps between which the owner does other work. A step walks some events up to `compacted`. Each event
names the one that it superseded, which nobody can see any more, so that goes, with its history entry; a tombstone
goes too, but those of `compacted` itself: who watches from there on must be told of them (etcd 3.5.1 forgets them, and
later versions do not). No seek, no look-up; and where the walk has come to is written with what it deleted, so a crash
costs nothing. The next compaction walks the revision of this one again, for the tombstones it left.

What is left when it is done: all events from `compacted` on, and of each key alive at `compacted` the newest one until
then. That is the same on all members, so `hashing.hash_store` gives the same hash wherever it is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zkv.core.mvcc import layout
from zkv.wire.codec import pack, unpack

if TYPE_CHECKING:
    from zkv.core.mvcc.engine import Engine

STEP_EVENTS: Final = 250
STEP_BYTES: Final = 256 << 10
"""A step is what a write may have to wait for."""


class Compaction:
    """The physical half: where it stands, and one step more."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        record = engine.get(layout.COMPACTION)
        revision, sub, target = unpack(record) if record else (0, 0, 0)
        self._next: tuple[int, int] = (revision, sub)
        self._target: int = target
        """The walk goes on at `_next`, to the end of this revision."""
        self.removed = 0
        """Versions of keys, since this store was opened."""

    @property
    def revision(self) -> int:
        """Where the walk goes on."""
        return self._next[0]

    def is_due(self, compacted: int) -> bool:
        return self._next[0] <= compacted

    def step(self, compacted: int) -> bool:
        """Forget a bounded part of what `compacted` allows. Is there more?"""
        if not self.is_due(compacted):
            return False
        if compacted > self._target:
            self._next, self._target = min(self._next, (self._target, 0)), compacted
        deletes: list[bytes] = []
        held = 0
        following = (compacted + 1, 0)
        # read once and never again: nothing that others read makes way for it in a cache
        reader = self._engine.snapshot(once=True)
        events = reader.scan(layout.event_key(*self._next), layout.event_key(*following))
        for seen, (name, record) in enumerate(events):
            event = layout.event_record(name, record)
            if seen == STEP_EVENTS or held >= STEP_BYTES:
                following = (event.revision, event.sub)
                break
            held += len(record)
            key = event.kv.key
            if event.superseded != (0, 0):
                deletes += (layout.event_key(*event.superseded), layout.history_key(key, *event.superseded))
            if event.tombstone and event.revision < compacted:
                deletes += (name, layout.history_key(key, event.revision, event.sub))
        self._engine.write(((layout.COMPACTION, pack((*following, compacted))),), deletes)
        self.removed += len(deletes) // 2
        self._next = following
        return self.is_due(compacted)
