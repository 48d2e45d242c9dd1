"""Exactly once, the client's half.

A write is named by (session, id) for good. Sent again, on any member, it is applied once, because the cluster
remembers the answers of a session until the client's `floor` passes them. So
- a write keeps its name over all retries (reads need none);
- `floor` is the lowest id still waited for: what is below is answered, or given up; the cluster refuses a copy of it
  that arrives late;
- writes sent and not yet below the floor never number more than the cluster keeps answers for.

A session's own name says when it was born (zkv/core/mvcc/sessions.py): the index of a log entry, 8 bytes, and then
8 bytes of chance. So the cluster, which forgets idle sessions, never takes a forgotten one for new. A client that
knows no index says 0; should that be too old, SessionExpired tells it a newer one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from zkv.client.ticket import DONE

if TYPE_CHECKING:
    from zkv.client.ticket import Ticket


def session_name(born: int, chance: bytes) -> bytes:
    """The name of a session born when entry `born` was known to be applied; `chance`: 8 bytes nobody else has."""
    assert len(chance) == 8
    return born.to_bytes(8, "big") + chance


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
