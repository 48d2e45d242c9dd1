"""The clients' clock: monotonic milliseconds, as the session wants them.

It goes on while the machine sleeps, where the system has such a clock (Linux: CLOCK_BOOTTIME; elsewhere CLOCK_MONOTONIC
is the one). A holder of a lease must not believe, after its laptop was opened again, that no time has passed.
"""

from __future__ import annotations

import time

from zkv.client.ticket import FOREVER
from zkv.errors import InvalidRequest

TIMEOUT_S = 5.0
"""The deadline of a call that brings none, in seconds (etcdctl's --command-timeout)."""

POLL_MS_MAX = 60_000
"""So long at most sleeps who waits for descriptors."""

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_ms() -> int:
    return time.clock_gettime_ns(_CLOCK) // 1_000_000


def deadline_ms(timeout: float) -> int:
    """`timeout` seconds from now. Raises InvalidRequest for a timeout that is none."""
    if not timeout > 0:
        raise InvalidRequest(f"timeout {timeout}")
    return now_ms() + int(timeout * 1000) if timeout < FOREVER else FOREVER


def earliest(one: int | None, other: int | None) -> int | None:
    """Of two times, either of which may be never."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
