"""The connecting end of a ZeroMQ socket: it finds who listens at an address, and finds it again.

            ┌─────────── fails, or is lost: again after 50 to 500 ms ───────────┐
            ▼                                                                   │
    resolve and connect (a thread) ──▶ handshake (5 s) ──▶ ready: messages leave, and a PING each second;
                                                           nothing comes for `silence_ms`: lost

Who answers for names may take its time, and so may who is asked to connect. So both is done in a thread, which rings,
by a pipe that the owner polls, when it has a socket or none; nothing here ever blocks.

A line that is not ready takes no messages, unless it `keeps`: then they wait, within the bounds that hold anyway, until
they can leave. What a connection had been given when it broke is lost: no correctness rests on a socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import deque
from select import POLLIN, POLLOUT, poll
from typing import TYPE_CHECKING, Final

from zkv.connection import READ_BYTES, Connection
from zkv.limits import NEVER
from zkv.monotonic import monotonic_ms
from zkv.zmtp import End

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv import curve
    from zkv.connection import Polls

CONNECT_S: Final = 2.0  # to each address of a name: who says nothing at all is tried again soon
HANDSHAKE_MS: Final = 5_000
PING_MS: Final = 1_000
SILENCE_MS: Final = 3_000
RETRY_MS_MIN: Final = 50
RETRY_MS_MAX: Final = 500


class Line:
    """To who listens at `host`, a name or an address, and `port`. Not shared between threads.

    `kind`: PUSH or DEALER; `security`: this end of CURVE, or None. `messages_max`, `bytes_max`: what may wait to leave;
    `message_bytes_max`: who sends a longer one is left. `room`: scratch to read into, which lines may share.
    """

    def __init__(
        self,
        host: str,
        port: int,
        kind: bytes,
        security: curve.Client | None,
        polls: Polls,
        *,
        messages_max: int,
        bytes_max: int,
        message_bytes_max: int,
        silence_ms: int = SILENCE_MS,
        keeps: bool = False,
        room: memoryview | None = None,
    ) -> None:
        self.address = f"{host}:{port}"
        self.on_lost: Callable[[], None] | None = None
        """Told when a connection that had been made is gone, ready or not."""
        self._host = host
        self._port = port
        self._kind = kind
        self._security = security
        self._polls = polls
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._message_bytes_max = message_bytes_max
        self._silence_ms = silence_ms
        self._keeps = keeps
        self._room = memoryview(bytearray(READ_BYTES)) if room is None else room
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._call: _Call | None = None  # at most one of these two
        self._connection: Connection | None = None
        self._retry_ms = RETRY_MS_MIN
        self._next_at = NEVER  # the next call, or the next PING
        self._give_up_at = NEVER  # waiting for a word of the other end
        self._begin()

    @property
    def ready(self) -> bool:
        """What is put now can leave."""
        return self._connection is not None and self._connection.ready

    @property
    def due(self) -> int | None:
        """When `tend` is to be called at the latest (ms, monotonic); None: not before something comes."""
        due = min(self._next_at, self._give_up_at)
        return due if due < NEVER else None

    def __contains__(self, fd: int) -> bool:
        if self._connection is not None:
            return self._connection.fd == fd
        return self._call is not None and self._call.fd == fd

    def put(self, message: bytes) -> bool:
        """To leave with the next `flush`. False: too much waits, or the line is not ready and keeps nothing."""
        connection = self._connection
        if connection is not None and connection.ready and not self._kept:
            return connection.put(message)
        kept = self._kept
        if not self._keeps or len(kept) >= self._messages_max:
            return False
        if kept and self._kept_bytes + len(message) > self._bytes_max:
            return False
        kept.append(message)
        self._kept_bytes += len(message)
        return True

    def flush(self) -> None:
        """Let out what was put."""
        connection = self._connection
        if connection is None:
            return
        while self._kept and connection.put(self._kept[0]):
            self._kept_bytes -= len(self._kept.popleft())
        if connection.waits:
            connection.flush()
            if connection.lost:
                self._lose()

    def hear(self, fd: int) -> list[bytes | None]:
        """What has come at `fd`; None stands for a message of several frames."""
        if self._call is not None and self._call.fd == fd:
            self._called(self._call)
        elif (connection := self._connection) is not None:
            was_ready = connection.ready
            messages = connection.hear()
            if connection.lost:
                self._lose()
            elif connection.ready:
                self._give_up_at = NEVER  # it has spoken, or taken more of what it had no room for: it is there
                if not was_ready:
                    self._retry_ms = RETRY_MS_MIN
                    self._next_at = monotonic_ms() + PING_MS
                self.flush()
            return messages
        return []

    def tend(self, now: int) -> None:
        """Do what is due, after what has come was heard: else who answered may be taken to be silent."""
        connection = self._connection
        if connection is None:
            if now >= self._next_at:
                self._begin()
            return
        if now >= self._give_up_at:
            self._lose()
        elif now >= self._next_at:
            self._next_at = now + PING_MS
            self._give_up_at = min(self._give_up_at, now + self._silence_ms)
            connection.ping()
            if connection.lost:
                self._lose()

    def close(self, linger_ms: int = 0) -> None:
        """What was put has so long to leave."""
        if self._call is not None:
            self._polls.unregister(self._call.fd)
            self._call.abandon()
        elif (connection := self._connection) is not None:
            self.flush()
            until = monotonic_ms() + linger_ms
            while connection.waits and (left := until - monotonic_ms()) > 0:
                _wait_for_room(connection.fd, left)
                connection.hear()
            connection.close()
        self._call = self._connection = None
        self._next_at = self._give_up_at = NEVER

    def _begin(self) -> None:
        self._next_at = NEVER
        try:
            self._call = _Call(self._host, self._port)
        except (OSError, RuntimeError):  # no descriptor is left, or no thread
            self._try_later()
        else:
            self._polls.register(self._call.fd, POLLIN)

    def _called(self, call: _Call) -> None:
        self._call = None
        self._polls.unregister(call.fd)
        stream = call.answered()
        if stream is None:
            self._try_later()
            return
        self._connection = Connection(
            stream,
            End(self._kind, self._security, self._message_bytes_max),
            self._polls,
            self._room,
            messages_max=self._messages_max,
            bytes_max=self._bytes_max,
        )
        self._give_up_at = monotonic_ms() + HANDSHAKE_MS
        if self._connection.lost:
            self._lose()

    def _lose(self) -> None:
        assert self._connection is not None
        self._connection.close()
        self._connection = None
        self._try_later()
        if self.on_lost is not None:
            self.on_lost()

    def _try_later(self) -> None:
        self._give_up_at = NEVER
        self._next_at = monotonic_ms() + self._retry_ms
        self._retry_ms = min(2 * self._retry_ms, RETRY_MS_MAX)


class _Call:
    """One attempt to connect, in a thread of its own. `fd` is readable when it is over."""

    def __init__(self, host: str, port: int) -> None:
        """Raises OSError, RuntimeError: there is no pipe to be had, or no thread."""
        self._address = host, port
        self._stream: socket.socket | None = None
        self._is_abandoned = False
        self.fd, self._ring = os.pipe()
        try:
            threading.Thread(target=self._run, name="line", daemon=True).start()
        except RuntimeError:
            os.close(self.fd)
            os.close(self._ring)
            raise

    def answered(self) -> socket.socket | None:
        """Once, when `fd` is readable: the connected socket, if there is one."""
        os.close(self.fd)
        return self._stream

    def abandon(self) -> None:
        """Nobody waits for it any more. The thread may be late by minutes: whoever sees both closes the socket."""
        os.close(self.fd)
        self._is_abandoned = True
        if self._stream is not None:
            self._stream.close()

    def _run(self) -> None:
        try:
            # What else can go wrong is a name that cannot be one.
            with contextlib.suppress(OSError, UnicodeError):
                stream = socket.create_connection(self._address, CONNECT_S)
                self._stream = stream
                if self._is_abandoned:
                    stream.close()
                else:
                    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        finally:
            os.close(self._ring)


def _wait_for_room(fd: int, timeout_ms: int) -> None:
    one = poll()
    one.register(fd, POLLIN | POLLOUT)
    one.poll(timeout_ms)
