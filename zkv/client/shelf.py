"""What came for a client's watches and was not read yet, and how much of it there is.

Bytes are acknowledged to the member as they are read, so of one line no more than `watch_window_bytes` lie here. All
watches of a client share a line, so one that is not read would stop the others. Therefore: when half a window has lain
here for SLOW_MS, while some watch has read all there was for it, those whose readers took nothing for as long are
*slow*: what lies here for them is to be dropped, and they are to be put aside until their readers come back. Watches
that are all slow just wait: nobody is hurt, and nothing is sent twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.client.ticket import FOREVER

if TYPE_CHECKING:
    from zkv.client.feed import Feed, Line
    from zkv.client.watch_events import Batch
    from zkv.limits import Limits

SLOW_MS = 1_000
"""A reader that took nothing for so long, while events for it lie here, is slow."""


class Shelf:
    def __init__(self, limits: Limits) -> None:
        self._window = limits.watch_window_bytes
        self.held = 0
        """Bytes of all lines, those that are gone included."""

    @property
    def is_half_full(self) -> bool:
        return self.held > self._window // 2

    def unacknowledged(self, line: Line, now: int) -> int:
        """What the member is to be told to have been taken, if that is worth a message by now; otherwise 0.

        Little of it is told after a while, for its window may be another than we think.
        """
        taken = line.received - line.held
        worth = taken >= self._window // 8 or now >= line.tell_at or not line.feeds
        return taken if worth and taken > 0 else 0

    def has_room(self, line: Line) -> bool:
        """Could the member send what it owes?"""
        return line.received < self._window // 2

    def hold(self, line: Line, size: int, now: int) -> None:
        line.held += size
        self.held += size
        if line.full_since == FOREVER and line.held > self._window // 2:
            line.full_since = now

    def put(self, feed: Feed, batch: Batch, now: int) -> None:
        """To be read; what it holds is held already."""
        if not feed.queue:
            feed.read_at = now  # from now on its reader lets wait
        feed.queue.append(batch)
        feed.buffered += batch.size

    def take(self, feed: Feed, now: int) -> Batch | None:
        """What is to be read next; what was taken before now counts as read."""
        self.put_back(feed)
        if not feed.queue:
            return None
        batch = feed.queue.popleft()
        feed.buffered -= batch.size
        feed.reading = batch
        feed.read_at = now
        return batch

    def put_back(self, feed: Feed) -> None:
        """The reader has read what he was given."""
        if feed.reading is not None:
            self._release(feed.reading)
            feed.reading = None

    def drop(self, feed: Feed) -> None:
        """What was not read is to be told anew, should the feed go on."""
        if feed.queue:
            feed.next = feed.queue[0].first
        for batch in feed.queue:
            self._release(batch)
        feed.queue.clear()
        feed.buffered = 0
        self.drop_pieces(feed)

    def drop_pieces(self, feed: Feed) -> None:
        for piece in feed.pieces:
            self._release(piece)
        feed.pieces = []

    def _release(self, batch: Batch) -> None:
        for part in batch.parts or (batch,):
            part.left -= 1
            if part.left == 0:
                line: Line = part.line
                self.held -= part.size
                line.held -= part.size
                if line.held <= self._window // 2:
                    line.full_since = FOREVER

    def slow(self, line: Line, now: int) -> list[Feed]:
        """Those to be put aside, for the sake of others; the largest first, as many as needed to have room again."""
        feeds = line.feeds.values()
        if all(feed.queue or feed.reading for feed in feeds):
            return []
        late = [feed for feed in feeds if feed.queue and now - feed.read_at >= SLOW_MS]
        late.sort(key=lambda feed: -feed.buffered)
        found: list[Feed] = []
        excess = line.held - self._window // 4
        for feed in late:
            if excess <= 0:
                break
            excess -= sum(batch.size // max(1, batch.left) for batch in feed.queue)
            found.append(feed)
        return found
