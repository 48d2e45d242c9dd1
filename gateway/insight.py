"""Pages of the node's insight process (/health, /metrics, ...), asked for over its Unix socket.

It answers with HTTP, one request per connection, and has threads for some (actors/insight_http.py): so AT_ONCE are
asked, and the others wait their turn. What is asked beyond ASKED_MAX is told that nobody knows.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from zkv.gateway.web.desk import Page

if TYPE_CHECKING:
    from collections.abc import Callable

ASKED_MAX: Final = 256
AT_ONCE: Final = 8
"""Of the threads there, half."""
PATIENCE_S: Final = 20.0
START_S: Final = 3.0
PAGE_BYTES_MAX: Final = 16 << 20


class Insight:
    """`path`: of the socket."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._asked: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.on_told: Callable[[], object] = int
        """Called behind `told`, which comes when it comes: there is something to send."""

    def ask(self, target: str, told: Callable[[Page | None], None]) -> None:
        if len(self._asked) >= ASKED_MAX:
            told(None)
            return
        task = asyncio.get_running_loop().create_task(self._ask(target, told))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _ask(self, target: str, told: Callable[[Page | None], None]) -> None:
        try:
            page = await asyncio.wait_for(self._fetch(target), PATIENCE_S)
        except (OSError, TimeoutError, ValueError):
            page = None
        told(page)
        self.on_told()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """It may be about to start, or to start again. Raises OSError."""
        until = time.monotonic() + START_S
        while True:
            try:
                return await asyncio.open_unix_connection(self._path)
            except OSError:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(0.05)

    async def _fetch(self, target: str) -> Page:
        """Raises OSError, ValueError."""
        async with self._turns:
            reader, writer = await self._connect()
            try:
                writer.write(f"GET {target} HTTP/1.0\r\n\r\n".encode())
                answer = await reader.read(-1)
            finally:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *fields = head.decode("latin-1").split("\r\n")
        kind = next((field[14:] for field in fields if field.lower().startswith("content-type: ")), "")
        return Page(int(status.split()[1]), kind, body)
