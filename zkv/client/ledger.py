"""Exactly once, the client's half.

A write is named by (session, id) for good. Sent again, on any member, it is applied once, because the cluster
remembers the answers of a session until the client's `floor` passes them. So
- a write keeps its name over all retries (reads need none);
- `floor` is the lowest id still waited for: what is below is answered, or given up; the cluster refuses a copy of it
  that arrives late;
- writes sent and not yet below the floor never number more than the cluster keeps answers for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from zkv.client.ticket import DONE

if TYPE_CHECKING:
    from zkv.client.ticket import Ticket


class Ledger:
    """The writes of one session, in the order of their ids."""

    __slots__ = ("open", "session", "used_at")

    def __init__(self, session: bytes, now: int) -> None:
        assert len(session) == 16
        self.session = session
        self.used_at = now
        self.open: deque[Ticket] = deque()

    def floor(self, next_id: int) -> int:
        """The lowest id waited for; `next_id` when there is none."""
        writes = self.open
        while writes and writes[0].state is DONE:
            writes.popleft()
        return writes[0].id if writes else next_id
