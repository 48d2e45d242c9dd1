"""Where strangers come in: listening sockets, and the connections that were made there (connection.py).

    accepted --greeting, handshake--> ready --> messages come and go --> gone, and its id is in `gone`

What a stranger can make of it:

- Who has not finished its handshake after LOOKED_AFTER_MS is cut off, and so is at once who speaks another language. Of
  the greatest number under way at once the oldest gives way to a newcomer, or the newcomer waits in the kernel's queue,
  for an honest one is done in milliseconds. So half-open ones, however many, hold up nobody for long.
- A handshake with CURVE costs some 100 us a step, 300 in all. In one turn STEPS_A_TURN are taken, so that a flood of
  them leaves the actor time for whom it knows; who has to wait comes first in the next.
- What one turn takes of a connection is a share that grows with what it sends, up to its part of BYTES_A_TURN, and
  shrinks where that is more than MESSAGES_OF_ONE: for what a turn costs is messages. So nobody makes turns long.
- Who says nothing is asked whether it is still there, and let go after three silent rounds.

An id is never given twice: what it means does not change under whoever keeps it.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from zkv.connection import READ_BYTES, Connection
from zkv.monotonic import monotonic_ms
from zkv.zmtp import End

if TYPE_CHECKING:
    from zkv import curve

LOOKED_AFTER_MS: Final = 5_000
"""How long a handshake may take, and how often is looked who is silent."""
SILENT_ROUNDS_MAX: Final = 3
LOOKED_AFTER_MAX: Final = 64
"""Connections that are looked after in one turn."""
HANDSHAKES_MAX: Final = 1_000
"""Under way at once."""
GIVES_WAY_MS: Final = 250
"""A handshake as old as this is given up when there is no room for others."""
PAUSE_MS: Final = 50
"""So long nobody is accepted when there is no room, nor a file descriptor to be had."""
BACKLOG: Final = 1024
ACCEPTED_A_TURN: Final = 8
STEPS_A_TURN: Final = 16
BYTES_A_TURN: Final = 16 << 20
SHARE_BYTES: Final = 4 << 10
"""Taken from a connection at first."""
SHARE_BYTES_MIN: Final = 256
MESSAGES_OF_ONE: Final = 64
"""About so many of one connection in one turn."""
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Door:
    """`kind`: ROUTER (answers whom it hears) or PULL; `security`: of all who come in here, None for plain connections.

    `messages_max`, `bytes_max`: what may wait for one connection to read. Not shared between threads.
    """

    def __init__(
        self,
        kind: bytes,
        security: curve.Server | None,
        polls: select.epoll,
        *,
        message_bytes_max: int,
        messages_max: int,
        bytes_max: int,
    ) -> None:
        self.gone: list[bytes] = []
        """Connections that had been ready and are no more; what is known of them is, until `take_gone`."""
        self._kind = kind
        self._security = security
        self._polls = polls
        self._message_bytes_max = message_bytes_max
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._room = memoryview(bytearray(READ_BYTES))
        self._listeners: dict[int, socket.socket] = {}
        self._resume_at = 0  # ms; 0: whoever comes is accepted
        self._guests: dict[bytes, _Guest] = {}
        self._by_fd: dict[int, _Guest] = {}
        self._arriving: dict[bytes, _Guest] = {}  # not ready, the oldest first
        self._rounds: deque[tuple[int, bytes]] = deque()  # ms when to look after it, and who
        self._posted: list[_Guest] = []
        self._last_id = 0
        self._steps = 0  # of handshakes, in this turn

    def listen(self, host: str, port: int) -> None:
        """Raises OSError when the address is taken, or none of ours."""
        is_v6 = ":" in host
        listener = socket.create_server(
            (host, port),
            family=socket.AF_INET6 if is_v6 else socket.AF_INET,
            backlog=BACKLOG,
            dualstack_ipv6=is_v6,
        )
        listener.setblocking(False)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # who is accepted has it, too
        self._listeners[listener.fileno()] = listener
        self._polls.register(listener.fileno(), select.EPOLLIN)

    def __contains__(self, fd: int) -> bool:
        return fd in self._by_fd or fd in self._listeners

    def hear(self, fd: int) -> list[tuple[bytes, bytes | None]]:
        """What has come there: connections and their messages; None for one that was no single frame."""
        guest = self._by_fd.get(fd)
        if guest is None:
            self._accept(fd)
            return []
        if guest.is_arriving:
            if self._steps >= STEPS_A_TURN:
                return []  # it is told of again
            self._steps += 1
        connection = guest.connection
        share = min(guest.share, max(SHARE_BYTES, BYTES_A_TURN // len(self._by_fd)))
        messages = connection.hear(share)
        if len(messages) > MESSAGES_OF_ONE:
            guest.share = max(SHARE_BYTES_MIN, share * MESSAGES_OF_ONE // len(messages))
        elif connection.took == share < READ_BYTES:
            guest.share = 2 * share
        if guest.is_arriving and connection.ready:
            guest.is_arriving = False
            del self._arriving[guest.id]
        if connection.lost:
            self._leave(guest)
        return [(guest.id, message) for message in messages]

    def send(self, connection: bytes, payload: bytes) -> bool:
        """By `flush`, at the latest. False when that connection is gone, or has too much to read."""
        guest = self._guests.get(connection)
        if guest is None:
            return False
        is_put = guest.connection.put(payload)
        if guest.connection.lost:
            self._leave(guest)
            return False
        if not is_put:
            return False
        if not guest.is_posted:
            guest.is_posted = True
            self._posted.append(guest)
        return True

    def flush(self) -> None:
        """The end of a turn: let out what was sent."""
        for guest in self._posted:
            guest.is_posted = False
            guest.connection.flush()
            if guest.connection.lost:
                self._leave(guest)
        self._posted.clear()
        self._steps = 0

    def take_gone(self) -> list[bytes]:
        """And forget them."""
        gone, self.gone = self.gone, []
        for id_ in gone:
            del self._guests[id_]
        return gone

    def key_of(self, connection: bytes) -> bytes:
        """The CURVE key (Z85) it has come in by; b"" for a plain one, or one that nothing is known of."""
        guest = self._guests.get(connection)
        return guest.connection.key if guest is not None else b""

    def address_of(self, connection: bytes) -> str:
        """HOST:PORT where it has come from; "" if nothing is known of it."""
        guest = self._guests.get(connection)
        return guest.address if guest is not None else ""

    def core_of(self, connection: bytes) -> int | None:
        """Where it has come from this machine: the core that worked off what came last, its sender's."""
        guest = self._guests.get(connection)
        return guest.connection.core() if guest is not None else None

    @property
    def due(self) -> int | None:
        """When (ms, monotonic) to `tend` to it; None: there is nobody."""
        due = self._rounds[0][0] if self._rounds else None
        if self._resume_at and (due is None or self._resume_at < due):
            return self._resume_at
        return due

    def tend(self, now: int) -> None:
        """Look after those whose time has come."""
        if self._resume_at and now >= self._resume_at:
            self._resume_at = 0
            for fd in self._listeners:
                self._polls.modify(fd, select.EPOLLIN)
        for _ in range(LOOKED_AFTER_MAX):
            if not self._rounds or self._rounds[0][0] > now:
                break
            guest = self._guests.get(self._rounds.popleft()[1])
            if guest is not None and not guest.connection.lost:
                self._look_after(guest, now)

    def close(self, linger_ms: int) -> None:
        """What was sent has so long to leave."""
        for fd, listener in self._listeners.items():
            self._polls.unregister(fd)
            listener.close()
        self._listeners.clear()
        self.flush()
        give_up_at = time.monotonic() + linger_ms / 1000
        while waiting := [guest for guest in self._by_fd.values() if guest.connection.waits]:
            left_s = give_up_at - time.monotonic()
            if left_s <= 0:
                break
            writable = select.poll()
            for guest in waiting:
                writable.register(guest.connection.fd, select.POLLOUT)
            for fd, _ in writable.poll(left_s * 1000):
                self._by_fd[fd].connection.hear()
        for guest in tuple(self._by_fd.values()):
            self._leave(guest)

    def _accept(self, fd: int) -> None:
        for _ in range(ACCEPTED_A_TURN):
            if len(self._arriving) >= HANDSHAKES_MAX and not self._make_room():
                self._pause()
                return
            try:
                stream, address = self._listeners[fd].accept()
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._make_room()
                    self._pause()
                return  # there is none any more
            self._admit(stream, "{}:{}".format(address[0].removeprefix("::ffff:"), address[1]))

    def _admit(self, stream: socket.socket, address: str) -> None:
        end = End(self._kind, self._security, self._message_bytes_max)
        connection = Connection(
            stream,
            end,
            self._polls,
            self._room,
            messages_max=self._messages_max,
            bytes_max=self._bytes_max,
        )
        self._last_id += 1
        id_ = self._last_id.to_bytes(8, "big")
        guest = _Guest(id_, address, connection, monotonic_ms())
        self._guests[id_] = self._arriving[id_] = self._by_fd[connection.fd] = guest
        self._rounds.append((guest.since + LOOKED_AFTER_MS, id_))
        if connection.lost:
            self._leave(guest)

    def _make_room(self) -> bool:
        """By the oldest handshake under way, if it has had its time."""
        for oldest in self._arriving.values():
            if monotonic_ms() < oldest.since + GIVES_WAY_MS:
                return False
            self._leave(oldest)
            return True
        return False

    def _pause(self) -> None:
        self._resume_at = monotonic_ms() + PAUSE_MS
        for fd in self._listeners:
            self._polls.modify(fd, 0)

    def _look_after(self, guest: _Guest, now: int) -> None:
        connection = guest.connection
        if guest.is_arriving:
            self._leave(guest)
            return
        if connection.has_spoken:
            guest.silent_rounds = 0
            connection.has_spoken = False
        else:
            guest.silent_rounds += 1
            if guest.silent_rounds >= SILENT_ROUNDS_MAX:
                self._leave(guest)
                return
            connection.ping()
            if connection.lost:
                self._leave(guest)
                return
        self._rounds.append((now + LOOKED_AFTER_MS, guest.id))

    def _leave(self, guest: _Guest) -> None:
        if guest.has_left:
            return
        guest.has_left = True
        guest.connection.close()
        del self._by_fd[guest.connection.fd]
        if guest.is_arriving:
            del self._arriving[guest.id]
            del self._guests[guest.id]
        else:
            self.gone.append(guest.id)


class _Guest:
    """A connection, and what the door notes of it. `since`: ms, monotonic."""

    def __init__(self, id_: bytes, address: str, connection: Connection, since: int) -> None:
        self.id = id_
        self.address = address
        self.connection = connection
        self.since = since
        self.is_arriving = True  # its handshake is not over
        self.has_left = False
        self.is_posted = False  # something was sent that has not been flushed
        self.silent_rounds = 0
        self.share = SHARE_BYTES  # of a turn's bytes
