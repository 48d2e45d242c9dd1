"""What the load generators stand on: many connections in one epoll set, and a rate kept.

The load speaks the protocol itself, as members do (`zkv/line.py`): so a client's latency is the member's, and not that
of a thread between the two.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Final, Self

from zkv.client.login import Login
from zkv.client.session import Session
from zkv.connection import READ_BYTES
from zkv.errors import ConnectionFailed
from zkv.line import Line
from zkv.monotonic import monotonic_ms
from zkv.urls import socket_endpoint
from zkv.wire import codec
from zkv.wire import messages as m
from zkv.zmtp import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zkv.client.transport import Curve

LINES_A_TURN: Final = 256
TEND_MS: Final = 50
UNBOUNDED: Final = 1 << 61
"""What waits to leave is bounded by what the clients have outstanding."""


class Lines:
    """A context manager. Each line, known by its name, has a TCP stream and a CURVE handshake of its own.

    `endpoints` with their scheme; `curves` for those that are curve://. Lines are dealt round robin over them. One that
    breaks is tried for again; what was to leave by it waits.
    """

    def __init__(self, endpoints: Sequence[str], curves: Mapping[str, Curve]) -> None:
        self._endpoints = endpoints
        self._curves = curves
        self._polls = select.epoll()
        self._room = memoryview(bytearray(READ_BYTES))
        self._lines: dict[bytes, Line] = {}
        self._by_fd: dict[int, tuple[bytes, Line]] = {}  # as they were last: a line changes its descriptor
        self._tend_at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, linger_ms: int = 0) -> None:
        """What was sent has so long to leave."""
        for line in self._lines.values():
            line.close(linger_ms)
        self._lines.clear()
        self._polls.close()

    def connect(self, names: Sequence[bytes], dial_timeout: float) -> None:
        """Open lines, and wait until each has had an answer.

        Raises ConnectionFailed when one has had none within `dial_timeout` seconds.
        """
        ping = codec.pack((m.PROTOCOL_VERSION, m.ClientKind.PING, *m.Ping(1)))
        dialled = {}
        for name in names:
            endpoint = dialled[name] = self._endpoints[len(self._lines) % len(self._endpoints)]
            self._lines[name] = self._line(endpoint)
            self.send(name, ping)
        deadline = time.monotonic() + dial_timeout
        while dialled:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ConnectionFailed(next(iter(dialled.values())))
            for name, _ in self.wait(milliseconds(left) + 1):
                dialled.pop(name, None)

    def _line(self, endpoint: str) -> Line:
        host, port, secure = socket_endpoint(endpoint)
        return Line(
            host,
            port,
            b"DEALER",
            self._curves[endpoint].security if secure else None,
            self._polls,
            messages_max=UNBOUNDED,
            bytes_max=UNBOUNDED,
            message_bytes_max=MESSAGE_BYTES_MAX,
            keeps=True,
            room=self._room,
        )

    def send(self, name: bytes, data: bytes) -> None:
        line = self._lines[name]
        line.put(data)
        line.flush()

    def wait(self, timeout_ms: int) -> list[tuple[bytes, bytes]]:
        """Until something has come, so long at most: (name of the line, message) each, up to a bound."""
        come: list[tuple[bytes, bytes]] = []
        for fd, _ in self._polls.poll(min(timeout_ms, TEND_MS) / 1000, LINES_A_TURN):
            name, line = self._of(fd)
            come += [(name, message) for message in line.hear(fd) if message is not None]
        now = monotonic_ms()
        if now >= self._tend_at:
            self._tend_at = now + TEND_MS
            for line in self._lines.values():
                if line.due is not None and now >= line.due:
                    line.tend(now)
        return come

    def _of(self, fd: int) -> tuple[bytes, Line]:
        """Whose descriptor it is."""
        found = self._by_fd.get(fd)
        if found is None or fd not in found[1]:
            found = self._by_fd[fd] = next(each for each in self._lines.items() if fd in each[1])
        return found


class Connection:
    """A line with a session on it, so that its requests are retried as any user's of the library are.

    `idle`: how many of its clients have nothing outstanding. `login`: who asks, if anybody said so.
    """

    __slots__ = ("idle", "login", "name", "session")

    def __init__(self, number: int, credentials: tuple[str, str] | None = None) -> None:
        self.name = b"c%d" % number
        # All by chance: a seed that comes again names later sessions whose writes the cluster has answered already.
        self.login = Login(*credentials) if credentials is not None else None
        self.session = Session(1, os.urandom(16), int.from_bytes(os.urandom(32)), login=self.login)
        self.idle = 0


class Pace:
    """Lets `rate` things a second pass (0: any number), `burst` at once: what a stall kept back is not made up for."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self._burst = max(1.0, burst)
        self._tokens = 1.0
        self._at = 0.0

    def begin(self, now: float) -> None:
        self._at = now

    def allowed(self, wanted: int, now: float) -> int:
        """How many of `wanted` may pass now; `spend` says how many did."""
        if not self.rate:
            return wanted
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        return min(wanted, int(self._tokens))

    def spend(self, count: int) -> None:
        self._tokens -= count


def milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
