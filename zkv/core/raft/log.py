"""Where raft's log lies: the port that the core writes to, and its twin in memory.

An append is *visible* at once and *durable* after the next `sync`. So the core keeps no second, unstable
log of its own: it appends, says which messages must wait for the sync (votes, append answers, its own count
towards the quorum), and the actor syncs once for all that gathered (Raft figure 2: "updated on stable
storage before responding to RPCs"). A crash loses what was not synced, from any byte on.

The adapter on disk is `actors/wal.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.wire.messages import ConfState, Entry, HardState, SnapshotMeta


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
        """What came before `first_index`: base.index == first_index - 1, and base.term is its term."""

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
