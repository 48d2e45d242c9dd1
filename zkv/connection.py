"""One connection to the outside: a stream socket that never blocks, and what is spoken on it (zmtp.py).

Its owner, a door (door.py) or a line (line.py), has it in its epoll set, level-triggered, and calls

    hear        when something has become of `fd`: take what has come, let out what waits
    put         for each message of a turn, and
    flush       at its end: all of them leave in one system call, or wait until the other end takes more

A connection that breaks, or at whose other end somebody speaks another language, closes itself, and `lost` says why.
What it had been given goes with it: nothing rests on a message having arrived.

What waits is bounded in messages and in bytes. So a reader that is slow costs its own messages only; and who asks for
more answers of the protocol (PONG) than it reads gets no more of them.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from select import POLLIN, POLLOUT
from typing import Final, Protocol

from zkv import zmtp

READ_BYTES: Final = 256 << 10
"""What a `room` to read into ought to have: so much is taken from one connection before the others get their turn."""
SEND_BYTES: Final = 256 << 10  # to the kernel in one call; when so much has gathered, it leaves before the turn is over
_AGAIN: Final = (errno.EAGAIN, errno.EWOULDBLOCK)


class Polls(Protocol):
    """What is asked of an epoll set; an owner with another kind of loop makes one of that."""

    def register(self, fd: int, eventmask: int, /) -> None: ...

    def modify(self, fd: int, eventmask: int, /) -> None: ...

    def unregister(self, fd: int, /) -> None: ...


class Connection:
    """`stream` is connected; `room` is scratch, which connections of one thread share. Not shared between threads.

    `messages_max`, `bytes_max`: what may wait to leave. One message is taken whatever its size where none waits.
    """

    def __init__(
        self,
        stream: socket.socket,
        end: zmtp.End,
        polls: Polls,
        room: memoryview,
        *,
        messages_max: int,
        bytes_max: int,
    ) -> None:
        stream.setblocking(False)
        self.fd = stream.fileno()
        self.lost = ""
        """Why it is gone; "" while it is not."""
        self.took = 0
        """Bytes that `hear` found, the last time."""
        self.has_spoken = True
        """Something has come since its owner has set this to False: it is alive."""
        self._stream = stream
        self._end = end
        self._polls = polls
        self._room = room
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0  # with what is left of the batch that was begun
        self._begun: bytes | memoryview | None = None  # what is left of a batch that the kernel took a part of, if any
        self._is_full = False  # the kernel takes no more until it says so
        self._events = POLLIN
        polls.register(self.fd, self._events)
        self._answer()
        self.flush()

    @property
    def ready(self) -> bool:
        """Messages may be put."""
        return self._end.ready and not self.lost

    @property
    def key(self) -> bytes:
        """The CURVE key (Z85) that the other end has shown; b"" if none."""
        return self._end.key

    def core(self) -> int | None:
        """Where the other end is on this machine: the core that worked off what came last, its sender's."""
        stream = self._stream
        try:
            if stream.getpeername()[0] != stream.getsockname()[0]:
                return None
            return stream.getsockopt(socket.SOL_SOCKET, socket.SO_INCOMING_CPU)
        except OSError:
            return None  # it has just gone

    @property
    def waits(self) -> bool:
        """Something was put and has not left."""
        return self._waiting_bytes > 0

    def hear(self, bytes_max: int = READ_BYTES) -> list[bytes | None]:
        """Messages that so many bytes of what has come have completed; None for one that was no single frame."""
        messages: list[bytes | None] = []
        self.took = 0
        try:
            self.took = size = self._stream.recv_into(self._room, min(bytes_max, len(self._room)))
            if size:
                self.has_spoken = True
                messages = self._end.feed(self._room[:size].tobytes())
                self._answer()
            else:
                self._lose("closed by the other end")
        except OSError as error:
            if error.errno not in _AGAIN:
                self._lose(error.strerror or "broken")
        except zmtp.NotZmtp as error:
            self._answer()
            self.flush()  # a last word, if there is one
            self._lose(str(error))
        if self._waiting_bytes:
            self._is_full = False
            self.flush()
        return messages

    def put(self, message: bytes) -> bool:
        """False before the handshake is over, when the connection is gone, or too much waits."""
        if self.lost or not self._end.ready or not self._has_room(len(message)):
            return False
        self._wait(self._end.message(message))
        return True

    def ping(self) -> None:
        """Have the other end say something."""
        if self.ready and self._has_room(0):
            self._wait(self._end.ping())
            self.flush()

    def flush(self) -> None:
        """Give the kernel what it takes."""
        if self._is_full or self.lost:
            return
        try:
            self._send()
        except OSError as error:
            if error.errno not in _AGAIN:
                self._lose(error.strerror or "broken")
                return
            self._is_full = True
        self._want(POLLIN | POLLOUT if self._is_full else POLLIN)

    def close(self) -> None:
        """What was put and has not left is dropped."""
        self._lose("closed")

    def _has_room(self, size: int) -> bool:
        waiting = len(self._waiting)
        return waiting < self._messages_max and (not waiting or self._waiting_bytes + size <= self._bytes_max)

    def _answer(self) -> None:
        """What the protocol itself has to say."""
        words = self._end.answer()
        if words and self._has_room(len(words)):
            self._wait(words)

    def _wait(self, words: bytes) -> None:
        self._waiting.append(words)
        self._waiting_bytes += len(words)
        if self._waiting_bytes >= SEND_BYTES and not self._is_full:
            self.flush()

    def _send(self) -> None:
        """Until all is gone, or the kernel has taken only a part. Raises OSError."""
        while self._waiting_bytes:
            batch = self._begun
            if batch is None:
                batch = self._next_batch()
                self._begun = batch
            sent = self._stream.send(batch)
            self._waiting_bytes -= sent
            if sent < len(batch):
                self._begun = memoryview(batch)[sent:]
                self._is_full = True
                return
            self._begun = None

    def _next_batch(self) -> bytes:
        waiting = self._waiting
        first = waiting.popleft()
        if not waiting:
            return first
        size = len(first)
        batch = [first]
        while waiting and size < SEND_BYTES:
            words = waiting.popleft()
            size += len(words)
            batch.append(words)
        return b"".join(batch)

    def _want(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._polls.modify(self.fd, events)

    def _lose(self, why: str) -> None:
        if self.lost:
            return
        self.lost = why
        self._waiting.clear()
        self._waiting_bytes = 0
        self._begun = None
        self._polls.unregister(self.fd)
        self._stream.close()
