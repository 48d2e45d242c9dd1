"""Raft's way to its storage: committed entries go there in order, at most a window ahead of what is applied.

    fed       entries up to here were sent to storage; `_outstanding` of them are not known to be applied
    applied   storage has applied up to here, and what it has of it on the disk is `durable`

After a restart storage says where it stands (`begin`), and is fed again from there. While it owes an answer for longer
than STORAGE_STALL_MS, it is `stalled`. What it has made durable the log may forget, and does once it is much
(`keep_from`): entries as etcd counts them, or bytes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.core.raft.log import LogPort

STORAGE_STALL_MS: Final = 10_000  # a delete of a million keys takes seconds; a disk that is stuck takes longer
CATCH_UP_ENTRIES: Final = 5_000  # kept behind the applied ones for slow followers (as etcd's), snapshot_count at most
LOG_KEPT_BYTES: Final = 128 << 20  # and of these at most so many bytes


class StorageFeed:
    def __init__(
        self, log: LogPort, window_bytes: int, snapshot_count: int, post: Callable[[str, NamedTuple], bool]
    ) -> None:
        self.applied = self.fed = self.fed_bytes = 0
        self.outstanding_bytes = 0
        self.is_full = False
        """Storage has no room on its disk: it takes nothing now, and will begin anew when it has."""
        self._log = log
        self._window_bytes = window_bytes
        self._snapshot_count = snapshot_count
        self._post = post
        self._durable = 0
        self._outstanding: deque[tuple[int, int]] = deque()  # (last index, bytes) of what was sent at once
        self._owes_since: int | None = None
        # log size: (index, log bytes fed up to it), a mark per MiB or so, to know where to cut
        self._marks: deque[tuple[int, int]] = deque()
        self.fed_bytes = 0

    def begin(self, applied: int, durable: int) -> None:
        """Storage has (re)started, or taken a snapshot for its store: it wants what follows `applied`."""
        self.fed = self.applied = applied
        self._durable = durable
        self._outstanding.clear()
        self.outstanding_bytes = 0
        self._owes_since = None

    def at(self, applied: int, durable: int, now: int) -> None:
        """Storage says how far it has come."""
        self.applied = max(self.applied, applied)
        self._durable = max(self._durable, durable)
        while self._outstanding and self._outstanding[0][0] <= applied:
            self.outstanding_bytes -= self._outstanding.popleft()[1]
        self._owes_since = now if self._outstanding else None

    def feed(self, commit: int, term: int, now: int) -> None:
        """Send what is committed, as far as the window goes."""
        while not self.is_full and self.fed < commit and self.outstanding_bytes < self._window_bytes:
            entries = self._log.entries(self.fed + 1, commit + 1, self._window_bytes // 4)
            if not self._post("storage", tuple.__new__(m.Apply, (term, tuple(entries)))):
                break  # its queue is full; it will say where it stands when it has emptied it
            size = 0
            for entry in entries:
                size += len(entry.body)
            self.fed = entries[-1].index
            self.fed_bytes += size
            if not self._marks or self.fed_bytes - self._marks[-1][1] > LOG_KEPT_BYTES // 128:
                self._marks.append((self.fed, self.fed_bytes))
            self._outstanding.append((self.fed, size))
            self.outstanding_bytes += size
            if self._owes_since is None:
                self._owes_since = now

    def stalled(self, now: int) -> bool:
        return not self.is_full and self._owes_since is not None and now - self._owes_since > STORAGE_STALL_MS

    def keep_from(self, commit: int) -> int:
        """The log may forget what is at or before this index; what it begins behind, if it is to forget nothing."""
        base = self._log.first_index
        keep_from = base
        kept = min(CATCH_UP_ENTRIES, self._snapshot_count)
        if self._durable - keep_from >= self._snapshot_count + kept:
            keep_from = self._durable - kept
        while self._marks and self.fed_bytes - self._marks[0][1] > LOG_KEPT_BYTES:
            keep_from = max(keep_from, self._marks.popleft()[0])
        if keep_from <= base:  # as nearly each time
            return base
        # not what is still to be fed: a storage that has just said where it began may be further already
        return max(base, min(keep_from, self._durable, commit, self.fed))
