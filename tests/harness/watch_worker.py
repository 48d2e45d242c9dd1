"""A process full of watchers, as tests start them: `WatchWorker` is its other end.

    python -m tests.harness.watch_worker WATCHERS CONNECTIONS FROM_REVISION ENDPOINT..

Each watcher watches all keys under "w/", and ends with the key "w/~". The process says "ready" once all have begun, and
at the end a line of JSON for each watcher: how many events it was told of, those events folded (`fold`), and what was
wrong with them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zkv.client.async_client import AsyncClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

PREFIX, END = "w/", b"w/~"
ROOT = Path(__file__).resolve().parents[2]
END_S = 120.0


class Told(NamedTuple):
    count: int  # type: ignore[assignment] # hides tuple's method, as meant
    fold: int
    wrong: str


def fold(before: int, revision: int, key: bytes) -> int:
    """A checksum over all events so far, in their order."""
    return zlib.crc32(b"%d %b" % (revision, key), before)


def told(events: Iterable[tuple[int, bytes]]) -> Told:
    """What a watcher should have been told."""
    count = folded = 0
    for revision, key in events:
        count += 1
        folded = fold(folded, revision, key)
    return Told(count, folded, "")


class WatchWorker:
    """The process, from outside. To be closed; a context manager."""

    def __init__(self, endpoints: Sequence[str], *, watchers: int, connections: int, from_revision: int) -> None:
        command = [sys.executable, "-m", "tests.harness.watch_worker", str(watchers), str(connections)]
        self._process = subprocess.Popen(
            [*command, str(from_revision), *endpoints], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == "ready\n", f"a watch worker said {line!r}"

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def results(self) -> list[Told]:
        """Of all watchers; waits for them to end."""
        output, _ = self._process.communicate(timeout=END_S)
        return [Told(*json.loads(line)) for line in output.splitlines()]

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- the process ---------------------------------------------------------------------------------------------


async def _watch(client: AsyncClient, from_revision: int, begun: asyncio.Semaphore) -> Told:
    count = folded = before = 0
    wrong = ""
    async with client.watch(prefix=PREFIX, from_revision=from_revision) as watch:
        await watch.wait_created()
        begun.release()
        async for response in watch:
            if response.revision <= before:
                wrong = wrong or f"revision {response.revision} after {before}"
            before = response.revision
            for event in response.events:
                if event.key == END:
                    return Told(count, folded, wrong)
                count += 1
                folded = fold(folded, response.revision, event.key)
                if event.revision != response.revision:
                    wrong = wrong or f"an event of {event.revision} at {response.revision}"
    return Told(count, folded, wrong or "the watch ended")


async def _main(watchers: int, connections: int, from_revision: int, endpoints: list[str]) -> None:
    clients = [AsyncClient(endpoints) for _ in range(connections)]
    begun = asyncio.Semaphore(0)
    tasks = [
        asyncio.create_task(_watch(clients[number % connections], from_revision, begun)) for number in range(watchers)
    ]
    for _ in range(watchers):
        await begun.acquire()
    print("ready", flush=True)
    for result in await asyncio.gather(*tasks):
        print(json.dumps(result))
    for client in clients:
        await client.close()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
