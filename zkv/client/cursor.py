"""What a range being iterated knows of itself, whichever way its client waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zkv.client.ticket import Ticket
    from zkv.wire.messages import KeyValue, RangeAnswer


class Cursor:
    def __init__(self) -> None:
        self._kvs: Iterator[KeyValue] = iter(())
        self._last: RangeAnswer | None = None

    def _take(self, ticket: Ticket, chunk: RangeAnswer | None) -> bool | None:
        """A chunk to iterate over (True), the end (False), or nothing yet (None). Raises what the range failed with."""
        if chunk is not None:
            self._last = chunk
            self._kvs = iter(chunk.kvs)
            return True
        if not ticket.done:
            return None
        if ticket.error is not None:
            raise ticket.error
        return False

    @property
    def count(self) -> int:
        """How many keys the range holds, limit or not. Certain once the iteration has ended."""
        return self._last.count if self._last else 0

    @property
    def more(self) -> bool:
        """Did the limit cut the range? Certain once the iteration has ended."""
        return self._last.more if self._last else False
