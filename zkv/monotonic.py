"""The clock of sockets, timers and elections. A client's session has another, which goes on in sleep."""

from __future__ import annotations

from time import monotonic_ns


def monotonic_ms() -> int:
    return monotonic_ns() // 1_000_000
