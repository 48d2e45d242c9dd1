"""Which revision is to be compacted, without anybody asking: etcd's two modes (etcd:server/etcdserver/api/v3compactor).

- *periodic*: what was superseded longer ago than `retention` goes. The revision is noted ten times in a period (the
  retention, an hour at most), and once in a period the one noted a retention ago is compacted;
- *revision*: all but the newest `retention` revisions go, looked at every five minutes.

Only the leader compacts; a new one begins to note when it becomes one, so that after a change of leaders
a compaction comes later, never earlier than its time.
"""

from __future__ import annotations

from collections import deque
from typing import Final

HOUR_MS: Final = 3_600_000
REVISION_CHECK_MS: Final = 300_000
SAMPLES: Final = 10
"""Notes taken in a period."""


class AutoCompaction:
    """`retention`: ms, or revisions; 0: nothing is ever compacted."""

    def __init__(self, mode: str, retention: int) -> None:
        assert mode in {"periodic", "revision"}
        self._periodic = mode == "periodic"
        self._retention = retention
        self._period = min(retention, HOUR_MS) if self._periodic else REVISION_CHECK_MS
        self._notes: deque[tuple[int, int]] = deque()  # (when, the revision then)
        self._next_note = self._next_look = 0

    def begin(self, now: int) -> None:
        """This member leads from now on."""
        self._notes.clear()
        self._next_note = now
        self._next_look = now + self._period

    def due(self, now: int, revision: int, compacted: int) -> int | None:
        """The revision to compact, if it is time to. To be called now and then while leading."""
        if not self._retention:
            return None
        if self._periodic and now >= self._next_note:
            self._notes.append((now, revision))
            self._next_note = now + max(1, self._period // SAMPLES)
        if now < self._next_look:
            return None
        self._next_look = now + self._period
        target = revision - self._retention
        if self._periodic:
            target = 0
            while self._notes and self._notes[0][0] <= now - self._retention:
                target = self._notes.popleft()[1]
        return target if target > max(compacted, 1) else None
