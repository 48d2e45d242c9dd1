"""The store in a member's storage directory or in a copy of it, which may have been made while that member wrote.

A running store makes files, and removes those that it needs no more, all the while. Its manifest tells, state by state,
of which files it consisted; each state is what some flush left, consistent and at one revision. So:

- of a directory whose member may be running, tables are taken as links, within moments, and before and after the
  manifest, so that all are there that its newest states speak of;
- what was copied file by file meanwhile, by others, may lack some: it is taken back to the newest state that is whole.

The directory itself stays as it is: opening a store writes to it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from zkv.actors.rocks_engine import RocksEngine, take_back
from zkv.errors import CorruptionError

if TYPE_CHECKING:
    from pathlib import Path

TABLE = ".sst"
NOT_COPIED = frozenset({"LOCK"})


def opened(source: Path, scratch: Path) -> tuple[RocksEngine, bool]:
    """The store, to be closed, and whether it had to be taken back. `scratch`: a directory that is there to work in.

    Raises CorruptionError, OSError.
    """
    copy = scratch / "copy"
    copy.mkdir()
    _take_tables(source, copy)
    with os.scandir(source) as files:
        for file in files:
            if file.is_file() and not file.name.endswith(TABLE) and file.name not in NOT_COPIED:
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(file.path, copy / file.name)
    _take_tables(source, copy)
    if not (copy / "CURRENT").exists():
        raise CorruptionError(f"{source} holds no store: member/snap/db of a data directory does")
    try:
        return RocksEngine(copy, create=False), False
    except CorruptionError as error:
        if "No such file" not in error.detail:
            raise
    take_back(copy)
    return RocksEngine(copy, create=False), True


def _take_tables(source: Path, copy: Path) -> None:
    """They are never written to again. Those that are there already are passed over, and those that go meanwhile."""
    with os.scandir(source) as files:
        for file in files:
            if file.name.endswith(TABLE) and not (copy / file.name).exists():
                with contextlib.suppress(FileNotFoundError):
                    try:
                        os.link(file.path, copy / file.name)
                    except FileNotFoundError:
                        raise
                    except OSError:  # another file system, or not ours
                        shutil.copyfile(file.path, copy / file.name)
