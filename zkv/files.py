"""What must be on the disk when it is said to be."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import IO, TypeVar

    Part = TypeVar("Part")

STEP_BYTES = 8 << 20
RESTS = 2
REST_S_MAX = 0.1


def sync_directory(path: Path) -> None:
    """Names made, changed or removed in this directory survive a power loss. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_open_to_others(path: str | Path) -> bool:
    """Users other than its owner and its group may read it, or others than its owner write it. Raises OSError."""
    return bool(stat.S_IMODE(os.stat(path).st_mode) & (stat.S_IRWXO | stat.S_IWGRP))


class Steady:
    """A large file on its way to the disk bit by bit, so that nobody else's sync waits for all of it at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._gathered = 0

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        self._file.write(data)
        self._gathered += len(data)
        if self._gathered >= STEP_BYTES:
            self.sync()

    def sync(self) -> None:
        """What was written is on stable storage. Raises OSError."""
        self._file.flush()
        os.fdatasync(self._file.fileno())
        self._gathered = 0


def unhurried(parts: Iterable[Part]) -> Iterator[Part]:
    """Those parts, with rests RESTS times as long as each took to come and to be worked on: who sends has others."""
    begun = time.monotonic()
    for part in parts:
        yield part
        time.sleep(min(REST_S_MAX, RESTS * (time.monotonic() - begun)))
        begun = time.monotonic()
