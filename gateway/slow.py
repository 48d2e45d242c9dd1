"""Requests that took long: they are told of when they are answered, and looked into on the way that they took.

    gateway -- Slow --> raft -- Slow, with its stages --> storage, which logs it (actors/stages.py)

What costs something happens for slow ones alone, and for a few of them a second. Of what was asked only kind, number
and size are told, never a key or a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog

from zkv.gateway.tally import WAYS
from zkv.sparingly import Sparingly
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

MS_NS: Final = 1_000_000


class SlowRequests:
    """Of one door. `limit_ms`: what takes longer is slow."""

    def __init__(self, door: str, limit_ms: int, post: Callable[[Any, Any], bool]) -> None:
        self.limit_ms = limit_ms
        self._door = door
        self._post = post
        self._may_log = Sparingly()
        self._logger = structlog.get_logger().bind(actor=door)

    def answered(self, way: int, requests: int, size: int, *, taken: int, now: int, index: int) -> None:
        """`taken`, `now`: ms, monotonic. `index`: of the log, as the answer said it; 0: it was no write."""
        left_out = self._may_log.ask(now)
        if left_out is None:
            return
        name = WAYS.get(way, "other")
        self._post("raft", m.Slow(self._door, name, requests, size, taken * MS_NS, now * MS_NS, index, left_out))

    def timed_out(self, way: int, requests: int, size: int, *, taken: int, now: int) -> None:
        """Nobody answered in time. Raft and storage may be what is stuck: they are not asked."""
        left_out = self._may_log.ask(now)
        if left_out is not None:
            self._logger.warning(
                "request timed out", way=WAYS.get(way, "other"), requests=requests, bytes=size,
                after=f"{now - taken}ms", left_out=left_out,
            )  # fmt: skip
