"""Pages of the node's insight process (/health, /metrics, ...), asked for over its Unix socket.

It answers with HTTP, one request per connection; its own limits hold (actors/insight_http.py). What is asked beyond
ASKED_MAX at once is told that nobody knows.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from zkv.gateway.web.desk import Page

if TYPE_CHECKING:
    from collections.abc import Callable

ASKED_MAX: Final = 64
PATIENCE_S: Final = 20.0
START_S: Final = 3.0
PAGE_BYTES_MAX: Final = 16 << 20


class Insight:
    """`path`: of the socket."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._asked: set[asyncio.Task[None]] = set()

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
