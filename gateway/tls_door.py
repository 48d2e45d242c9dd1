"""Where https:// clients come in: connections become a protocol's once they have shown who they are.

Handshakes under way are bounded, and cost memory. When there is no room, the one that has stood longest gives way if it
has had its time, for an honest client is done in milliseconds; else the newcomers wait in the kernel's queue. So
connections that never finish, however many, hold up nobody for long. Who is refused in his is told so, and counts until
he has hung up.

When files change, new connections meet the new ones; those that stand are judged again, a few at a time, and go on
unless they would not be let in any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from zkv import tls
from zkv.errors import ConfigError, NotTrusted
from zkv.gateway.doors import Shown
from zkv.monotonic import monotonic_ms
from zkv.papers import LOOK_MS, Papers

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator

    from zkv.config import NodeConfig

HANDSHAKES_MAX: Final = 1_000
"""Under way at once; each costs some 50 kB."""
HANDSHAKE_S: Final = 5.0
GIVES_WAY_S: Final = 0.25
"""A handshake as old as this is given up when there is no room for others."""
PARTING_S: Final = 1.0
"""For reading why one is refused and hanging up: a socket that is closed before that may take the word back."""
PARTING_BYTES: Final = 64 * 1024
"""Said by the other side meanwhile, and not heard."""
PAUSE_S: Final = 0.05
ACCEPTED_MAX: Final = 64
"""Taken from the kernel's queue in one turn."""
BACKLOG: Final = 1024
JUDGED_MAX: Final = 32
"""Connections that are judged again in one turn."""
COMPLAINT_S: Final = 1.0
"""One log line in this time at most about who is refused."""


class Guest(Protocol):
    """A connection that stands."""

    shown: Shown

    def dismiss(self) -> None: ...


def now_ms() -> int:
    """By the calendar."""
    return time.time_ns() // 1_000_000


class TlsDoor:
    """Driven by one event loop. Raises ConfigError for files that cannot be used."""

    def __init__(self, config: NodeConfig) -> None:
        self.refused = 0
        self._config = config
        self._papers = Papers(config.client_security, now_ms())
        self._context = tls.server_context(config, self._papers)
        self._pending: dict[asyncio.Task[None], float] = {}  # handshakes, oldest first
        self._sockets: list[socket.socket] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look_at = 0
        self._judging: Iterator[Guest] | None = None
        self._complain_at = 0.0
        self._log = structlog.get_logger().bind(actor="grpc")

    @property
    def handshakes(self) -> int:
        return len(self._pending)

    def listen(
        self, loop: asyncio.AbstractEventLoop, host: str, port: int, made: Callable[[], asyncio.Protocol]
    ) -> None:
        """Raises OSError when the address is taken."""
        self._loop = loop
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        listener.setblocking(False)
        self._sockets.append(listener)
        loop.add_reader(listener.fileno(), self._accept, listener, made)

    def close(self) -> None:
        """Nobody comes in any more."""
        assert self._loop is not None
        for listener in self._sockets:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._sockets.clear()
        for task in list(self._pending):
            task.cancel()

    def admit(self, connection: ssl.SSLObject) -> tuple[str, Shown]:
        """The common name that a new connection has shown ("": none was wanted), and what it has come in by.

        Raises NotTrusted; the log then says whom, and why.
        """
        chain = tls.shown(connection) if self._papers.trust is not None else ()
        try:
            identity = tls.judge(self._papers, chain, now_ms())
        except NotTrusted as error:
            self._complain(str(error))
            raise
        if identity is None:
            return "", Shown()
        return identity.common_name, Shown(chain, monotonic_ms() + identity.until - now_ms())

    def tick(self, now: int, guests: Callable[[], Iterable[Guest]]) -> None:
        """`now`: monotonic, ms. `guests`: those that stand."""
        if now >= self._look_at:
            self._look_at = now + LOOK_MS
            if self._papers.refresh(now_ms()):
                self._renew()
                self._judging = iter(list(guests()))
        if self._judging is not None:
            for _ in range(JUDGED_MAX):
                guest = next(self._judging, None)
                if guest is None:
                    self._judging = None
                    return
                self._judge_again(guest)

    @property
    def is_busy(self) -> bool:
        return self._judging is not None

    def _renew(self) -> None:
        try:
            self._context = tls.server_context(self._config, self._papers)
        except ConfigError as error:
            self._log.error("certificates cannot be read again", reason=error.detail)
        else:
            self._log.info("certificates were read again", door="https")

    def _judge_again(self, guest: Guest) -> None:
        try:
            tls.judge(self._papers, guest.shown.chain, now_ms())
        except NotTrusted as error:
            self._complain(str(error))
            guest.dismiss()

    def _accept(self, listener: socket.socket, made: Callable[[], asyncio.Protocol]) -> None:
        assert self._loop is not None
        for _ in range(ACCEPTED_MAX):
            if len(self._pending) >= HANDSHAKES_MAX and not self._make_room():
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(PAUSE_S, self._resume, listener, made)
                return
            try:
                connection, _ = listener.accept()
            except OSError:  # there is none any more; or no file is free, and those who wait wait on
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._shake_hands(connection, made))
            self._pending[task] = time.monotonic()
            task.add_done_callback(self._pending.pop)

    def _resume(self, listener: socket.socket, made: Callable[[], asyncio.Protocol]) -> None:
        assert self._loop is not None
        if listener in self._sockets:
            self._loop.add_reader(listener.fileno(), self._accept, listener, made)

    def _make_room(self) -> bool:
        oldest = next(iter(self._pending))
        if time.monotonic() - self._pending[oldest] < GIVES_WAY_S:
            return False
        del self._pending[oldest]
        oldest.remove_done_callback(self._pending.pop)
        oldest.cancel()
        return True

    async def _shake_hands(self, connection: socket.socket, made: Callable[[], asyncio.Protocol]) -> None:
        assert self._loop is not None
        kept: socket.socket | None = None
        try:
            kept = connection.dup()  # the loop closes its own at once
            await self._loop.connect_accepted_socket(
                made, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_S
            )
        except tls.Refused as error:
            assert kept is not None
            self._complain(error.why)
            await self._part(kept, error.alert)
        except OSError:
            self.refused += 1  # it has gone, or took too long
        finally:
            if kept is not None:
                kept.close()
            with contextlib.suppress(OSError):
                connection.close()

    async def _part(self, connection: socket.socket, alert: bytes) -> None:
        """Say why, and wait until that was read."""
        assert self._loop is not None
        with contextlib.suppress(OSError):  # it has gone, or takes too long
            async with asyncio.timeout(PARTING_S):
                await self._loop.sock_sendall(connection, alert)
                connection.shutdown(socket.SHUT_WR)
                heard = 0
                while heard < PARTING_BYTES and (data := await self._loop.sock_recv(connection, PARTING_BYTES)):
                    heard += len(data)

    def _complain(self, why: str) -> None:
        """Strangers do not fill the log."""
        self.refused += 1
        now = time.monotonic()
        if now >= self._complain_at:
            self._complain_at = now + COMPLAINT_S
            self._log.warning("refused a connection", door="https", reason=why, refused_so_far=self.refused)
