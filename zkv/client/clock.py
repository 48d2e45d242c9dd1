"""The clients' clock: monotonic milliseconds, as the session wants them."""

from __future__ import annotations

import time

from zkv.client.ticket import FOREVER
from zkv.errors import InvalidRequest

TIMEOUT_S = 5.0
"""The deadline of a call that brings none, in seconds (etcdctl's --command-timeout)."""


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def deadline_ms(timeout: float) -> int:
    """`timeout` seconds from now. Raises InvalidRequest for a timeout that is none."""
    if not timeout > 0:
        raise InvalidRequest(f"timeout {timeout}")
    return now_ms() + int(timeout * 1000) if timeout < FOREVER else FOREVER
