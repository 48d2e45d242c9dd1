"""Where raft's log lies: the port that the core writes to, and its twin in memory.

An append is *visible* at once and *durable* after the next `sync`. So the core keeps no second, unstable
log of its own: it appends, says which messages must wait for the sync (votes, append answers, its own count
towards the quorum), and the actor syncs once for all that gathered (Raft figure 2: "updated on stable
storage before responding to RPCs").

A crash loses what was not synced, from any byte on, but *in order*: what survives is what the first so many calls
since the last sync would have made (of an append perhaps only the first entries). The core builds on that: it sets a
configuration after appending its entry, so a configuration on disk proves its entry to be there.

The adapter on disk is `actors/wal.py`; `MemoryLog` is its twin for tests. The twin's twin, with a disk that forgets, is
in `tests/harness/raft_disk.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from zkv.wire.messages import ConfState, Entry, HardState, SnapshotMeta

if TYPE_CHECKING:
    from collections.abc import Sequence


class LogCompacted(LookupError):
    """The entry asked for lies before the first one kept."""


class LogPort(Protocol):
    """A log of entries `first_index .. last_index`, resting on `base`, the snapshot before them."""

    @property
    def hard_state(self) -> HardState: ...
    @property
    def conf(self) -> ConfState:
        """The configuration as of the newest conf change set by `set_conf` (it may lie behind `base`)."""

    @property
    def base(self) -> SnapshotMeta:
        """What came before `first_index`: base.index == first_index - 1, and base.term is its term.

        Its `conf` is exact after `reset`, and may be an older one after `compact`.
        """

    @property
    def first_index(self) -> int: ...
    @property
    def last_index(self) -> int: ...

    def term(self, index: int) -> int:
        """The term of entry `index`, base.index included.

        Raises LogCompacted before that, IndexError after `last_index`.
        """

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        """Entries low <= index < high, as many as bodies fit into `bytes_max`, at least one (if there is one).

        Raises LogCompacted when `low` < first_index.
        """

    def append(self, entries: Sequence[Entry]) -> None:
        """Put entries at the end; what lies at or behind the first one's index is cut off before."""

    def set_hard_state(self, hard_state: HardState) -> None: ...
    def set_conf(self, conf: ConfState) -> None: ...

    def sync(self) -> None:
        """All of the above is on stable storage when this returns."""

    def compact(self, index: int) -> None:
        """Entries up to `index` may be forgotten (they are applied and durable elsewhere); base moves there at most."""

    def reset(self, base: SnapshotMeta) -> None:
        """A snapshot has become the state: the log is empty behind it, its conf in force. Durable on return."""


class MemoryLog:
    """The port, kept in memory: `sync` has nothing to do, and a crash loses everything.

    A new cluster's log starts with the bootstrap configuration, the same one on all its first members; the log of a
    member that joins later with an empty one (`ConfState(())`): it is sent a snapshot, which brings the configuration.
    """

    def __init__(self, conf: ConfState) -> None:
        self.hard_state = HardState()
        self.conf = conf
        self.base = SnapshotMeta(0, 0, 0, conf)
        self._entries: list[Entry] = []

    @property
    def first_index(self) -> int:
        return self.base.index + 1

    @property
    def last_index(self) -> int:
        return self.base.index + len(self._entries)

    def term(self, index: int) -> int:
        if index == self.base.index:
            return self.base.term
        return self._entries[self._position(index)].term

    def _position(self, index: int) -> int:
        if index <= self.base.index:
            raise LogCompacted(index)
        return index - self.base.index - 1

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        position = self._position(low)
        taken: list[Entry] = []
        size = 0
        for entry in self._entries[position : position + high - low]:
            size += len(entry.body)
            if taken and size > bytes_max:
                break
            taken.append(entry)
        return taken

    def append(self, entries: Sequence[Entry]) -> None:
        position = self._position(entries[0].index)
        assert position <= len(self._entries), "a log has no gap"
        self._entries[position:] = entries

    def set_hard_state(self, hard_state: HardState) -> None:
        self.hard_state = hard_state

    def set_conf(self, conf: ConfState) -> None:
        self.conf = conf

    def sync(self) -> None:
        """Nothing is more durable than it was."""

    def compact(self, index: int) -> None:
        index = min(index, self.last_index)
        if index <= self.base.index:
            return
        last = self._entries[self._position(index)]
        del self._entries[: index - self.base.index]
        conf = self.conf if self.conf.index <= index else self.base.conf
        self.base = SnapshotMeta(index, last.term, last.time, conf)

    def reset(self, base: SnapshotMeta) -> None:
        self.base, self.conf = base, base.conf
        self._entries.clear()
