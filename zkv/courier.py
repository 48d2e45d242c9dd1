"""Mail between the processes of a node: ZeroMQ's PUSH and PULL over Unix sockets, spoken by the processes themselves.

libzmq serves its sockets from a thread of its own, so that each message wakes two threads more than it has ends, and
every look at a socket is two system calls. Between machines that is little; between processes that share a few cores it
was a fifth of all CPU (docs/decisions/0014). So what stays within a node is written and read here, by the protocol that
libzmq speaks (zmtp.py): whatever speaks ZeroMQ can be at the other end.

No socket here ever blocks. All are in one epoll set, in which the owner of a `Courier` waits for its other things, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, NamedTuple

from zkv import zmtp

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES: Final = 256 << 10
READS_A_TURN: Final = 4  # from one connection, before the others get their turn
SEND_BYTES: Final = 256 << 10  # to the kernel in one call; when so much has gathered, it leaves before the turn is over
SEND_BUFFER_BYTES: Final = 1 << 20  # asked of the kernel
BACKLOG: Final = 64
RETRY_MS: Final = 20
_AGAIN: Final = (errno.EAGAIN, errno.EWOULDBLOCK)


class Courier:
    """All mail of one process: what comes to its inbox at RUNDIR/NAME.sock, and what it puts for its neighbours.

    `opened` makes mail of a message's bytes.
    """

    def __init__(self, rundir: str, name: str, opened: Callable[[bytes], NamedTuple]) -> None:
        self.polls = select.epoll()
        self._rundir = rundir
        self._inbox = Inbox(_path_of(rundir, name), self.polls, opened)
        self._outboxes: dict[str, Outbox] = {}
        self._posted: list[Outbox] = []  # what was put there has not been flushed
        self.is_down = False
        """A neighbour is not there: `flush` ought to be called again in RETRY_MS."""

    def connect(self, neighbour: str, messages_max: int) -> None:
        self._outboxes[neighbour] = Outbox(_path_of(self._rundir, neighbour), self.polls, messages_max)
        self.is_down = True

    def knows(self, neighbour: str) -> bool:
        return neighbour in self._outboxes

    def put(self, neighbour: str, message: bytes) -> bool:
        """To a neighbour that `connect` was called for; False when its queue is full."""
        outbox = self._outboxes[neighbour]
        if outbox not in self._posted:
            self._posted.append(outbox)
        return outbox.put(message)

    def flush(self) -> None:
        """Let out what was put, and look for who was not there."""
        if self.is_down:
            self._posted.clear()
            for outbox in self._outboxes.values():
                outbox.flush()
            self._look()
        elif self._posted:
            for outbox in self._posted:
                outbox.flush()
            self._posted.clear()

    def hear(self, fd: int) -> list[NamedTuple] | None:
        """The mail that has come at `fd`, if any; None where it is none of the courier's.

        Raises what `opened` raises.
        """
        if fd in self._inbox:
            return self._inbox.receive(fd)
        for outbox in self._outboxes.values():
            if outbox.fd == fd:
                outbox.hear()
                self._look()
                return []
        return None

    def _look(self) -> None:
        self.is_down = any(outbox.is_down for outbox in self._outboxes.values())

    def close(self) -> None:
        """What was put and has not left is dropped."""
        self._inbox.close()
        for outbox in self._outboxes.values():
            outbox.close()
        self.polls.close()


def _path_of(rundir: str, name: str) -> str:
    return f"{rundir}/{name}.sock"


class Inbox:
    """Listens at a path, and takes the mail of all who connect there.

    `opened` makes mail of a message's bytes.
    """

    def __init__(self, path: str, polls: select.epoll, opened: Callable[[bytes], NamedTuple]) -> None:
        self._polls = polls
        self._opened = opened
        self._connections: dict[int, tuple[socket.socket, zmtp.Mail]] = {}
        self._room = memoryview(bytearray(READ_BYTES))
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of who had this name before
        self._listener.bind(path)
        self._listener.listen(BACKLOG)
        polls.register(self._listener.fileno(), select.EPOLLIN)

    def __contains__(self, fd: int) -> bool:
        return fd in self._connections or fd == self._listener.fileno()

    def receive(self, fd: int) -> list[NamedTuple]:
        """What has come there: everything, or so much of it as one turn may take.

        Raises what `opened` raises.
        """
        connection = self._connections.get(fd)
        if connection is None:
            self._accept()
            return []
        end, reader = connection
        mail: list[NamedTuple] = []
        for _ in range(READS_A_TURN):
            try:
                size = end.recv_into(self._room)
                messages = reader.feed(self._room[:size].tobytes())
            except BlockingIOError:
                break
            except (OSError, zmtp.NotZmtp):
                self._drop(fd)
                break
            if not size:
                self._drop(fd)
                break
            for message in messages:
                mail.append(self._opened(message))  # noqa: PERF401 - what came before a failure is lost with the process
            if size < READ_BYTES:
                break
        return mail

    def _accept(self) -> None:
        try:
            end, _ = self._listener.accept()
            end.setblocking(False)
            end.send(zmtp.hello(b"PULL"))  # a new socket takes so little at once
        except OSError:
            return  # it is gone already
        self._connections[end.fileno()] = (end, zmtp.Mail(b"PUSH"))
        self._polls.register(end.fileno(), select.EPOLLIN)

    def _drop(self, fd: int) -> None:
        self._polls.unregister(fd)
        self._connections.pop(fd)[0].close()

    def close(self) -> None:
        for fd in tuple(self._connections):
            self._drop(fd)
        self._polls.unregister(self._listener.fileno())
        self._listener.close()


class Outbox:
    """Mail for who listens at a path, now or later: what is put there leaves with `flush`, in order.

    What the other end has not taken waits, up to `messages_max` messages. A connection that breaks takes along what it
    had taken over; the next one is tried for by `flush`, every RETRY_MS.
    """

    def __init__(self, path: str, polls: select.epoll, messages_max: int) -> None:
        self._path = path
        self._polls = polls
        self._messages_max = messages_max
        self._waiting: deque[bytes] = deque()  # messages with their heads
        self._waiting_bytes = 0
        self._begun: memoryview | None = None  # what is left of a message that the kernel took a part of
        self._end: socket.socket | None = None
        self._reader = zmtp.Mail(b"PULL")
        self._events = 0
        self._retry_at = 0
        self.fd = -1

    @property
    def is_down(self) -> bool:
        """There is no connection, and `flush` ought to be called when it may be tried for."""
        return self._end is None

    def put(self, message: bytes) -> bool:
        """False when its queue is full."""
        if len(self._waiting) >= self._messages_max:
            return False
        self._waiting.append(zmtp.head(len(message)) + message)
        self._waiting_bytes += len(message)
        if self._waiting_bytes >= SEND_BYTES:
            self.flush()
        return True

    def flush(self) -> None:
        """Give the kernel what it takes."""
        end = self._end
        if end is None:
            self._connect()
        elif self._reader.ready:
            self._waiting_bytes = 0
            try:
                self._send(end)
            except OSError as error:
                if error.errno not in _AGAIN:
                    self._drop()
                    return
            self._want(select.EPOLLIN if self._is_empty else select.EPOLLIN | select.EPOLLOUT)

    def hear(self) -> None:
        """Something has become of the connection: the other end has spoken, takes more, or is gone."""
        end = self._end
        if end is None:
            return
        try:
            data = end.recv(READ_BYTES)
            self._reader.feed(data)
        except BlockingIOError:
            pass
        except (OSError, zmtp.NotZmtp):
            self._drop()
            return
        else:
            if not data:
                self._drop()
                return
        self.flush()

    def close(self) -> None:
        if self._end is not None:
            self._drop()

    @property
    def _is_empty(self) -> bool:
        return self._begun is None and not self._waiting

    def _send(self, end: socket.socket) -> None:
        """Until all is gone. Raises OSError: EAGAIN when the kernel takes no more."""
        while self._begun is not None:
            sent = end.send(self._begun)  # by itself: where this is compiled, what bounds a slice may be done twice
            left = self._begun[sent:]
            self._begun = left or None
        waiting = self._waiting
        while waiting:
            batch = [waiting.popleft()]
            size = len(batch[0])
            while waiting and size < SEND_BYTES:
                batch.append(waiting.popleft())
                size += len(batch[-1])
            words = b"".join(batch)
            try:
                sent = end.send(words)
            except OSError:
                waiting.extendleft(reversed(batch))
                raise
            if sent < size:
                self._begun = memoryview(words)[sent:]
                return

    def _connect(self) -> None:
        now = monotonic_ns()
        if now < self._retry_at:
            return
        self._retry_at = now + RETRY_MS * 1_000_000
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            end.connect(self._path)
            end.send(zmtp.hello(b"PUSH"))
        except OSError:
            end.close()  # nobody listens there yet
            return
        self._end, self.fd = end, end.fileno()
        self._reader = zmtp.Mail(b"PULL")
        self._events = select.EPOLLIN
        self._polls.register(self.fd, self._events)

    def _want(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._polls.modify(self.fd, events)

    def _drop(self) -> None:
        """What the kernel had a part of is gone with the rest that it had."""
        end, self._end = self._end, None
        self._begun = None
        if end is not None:
            self._polls.unregister(self.fd)
            end.close()
        self.fd = -1
