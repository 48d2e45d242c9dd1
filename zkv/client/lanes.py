"""Which way a request goes through a member: the requests of one message all go the same."""

from __future__ import annotations

from enum import IntEnum

from zkv.wire import messages as m


class Lane(IntEnum):
    WRITE = 0
    """Through the log."""
    READ = 1
    """Past a quorum, then to storage."""
    LOCAL = 2
    """Straight to the member's own storage."""


OP_OF: dict[type, int] = {cls: int(op) for op, cls in m.REQUEST_CLASSES.items()}
LANE_OF: dict[type, int] = {
    m.Put: int(Lane.WRITE),
    m.DeleteRange: int(Lane.WRITE),
    m.Compact: int(Lane.WRITE),
    m.HashKV: int(Lane.LOCAL),
    m.Status: int(Lane.LOCAL),
}
"""For those whose class says it all."""


def lane_of(request: m.Request) -> int:
    match request:
        case m.Range():
            return Lane.LOCAL if request.serializable else Lane.READ
        case m.MemberList():
            return Lane.READ if request.linearizable else Lane.LOCAL
        case m.Txn():
            return Lane.WRITE if writes(request) else Lane.READ
        case _:
            return LANE_OF[type(request)]


def writes(txn: m.Txn) -> bool:
    """Does any branch, at any depth, write?"""
    return any(
        writes(request) if isinstance(request, m.Txn) else not isinstance(request, m.Range)
        for _, request in (*txn.success, *txn.failure)
    )
