"""When a leader's next log entry sets out: where many ask at once, not before the clients just answered can be in it.

An entry costs each member about the same whether it holds one write or a hundred: turns of raft and storage, a sync,
messages. Left alone, the writes of a hundred clients come in three streams, one from each gateway, and set out in
entries of a quarter of them. So while entries crowd, one sets out one and a half commit times after the one before was
committed: by then those who were answered have asked again.

Entries crowd when frames come together, or come while the last entry is not committed. One client, or a few
that seldom meet, never wait; neither does anyone for longer than PACE_MS_MAX, however far the members are.
"""

from __future__ import annotations

from typing import Final

PACE_MS_MAX: Final = 8
COMMITS: Final = 2.5
"""From one entry's setting out to the next: so many times what a commit takes."""
SMOOTHED_OVER: Final = 8  # commits


class Pacing:
    def __init__(self) -> None:
        self.next_at = 0
        """When the next entry may set out, ms."""
        self._index = self._since = 0  # the entry that is timed, and when it set out
        self._commit_ms = 0.0

    def set_out(self, index: int, now: int, *, crowded: bool) -> None:
        """Entries up to `index` were proposed."""
        if not self._index:
            self._index, self._since = index, now
        self.next_at = now + min(PACE_MS_MAX, int(COMMITS * self._commit_ms)) if crowded else now

    def committed(self, index: int, now: int) -> None:
        if self._index and self._index <= index:
            self._commit_ms += (now - self._since - self._commit_ms) / SMOOTHED_OVER
            self._index = 0
