"""A real file system of a few megabytes, which others may fill."""

from __future__ import annotations

import contextlib
import errno
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEBIBYTE = 1 << 20


@contextlib.contextmanager
def suppressed(number: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != number:
            raise


class SmallDisk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, leave: int = 0) -> None:
        """Take all the space there is, but for about `leave` bytes."""
        with self._filler.open("ab", buffering=0) as file:
            for piece in (MEBIBYTE, 4096):
                with suppressed(errno.ENOSPC):
                    while True:
                        file.write(bytes(piece))
            file.truncate(max(0, file.tell() - leave))

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(path: Path, size: int) -> Iterator[SmallDisk]:
    """Mounted at `path`; skips the test where nothing may be mounted."""
    path.mkdir(parents=True, exist_ok=True)
    options = ("-t", "tmpfs", "-o", f"size={size},mode=0700", "zkv-test", str(path))
    try:
        done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False, timeout=10)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=False, timeout=10)
