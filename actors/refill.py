"""A member that is not to be trusted any more, and how it gets its data anew without being removed.

    member/fenced           a line: why this member may serve nothing any more (written by its storage)
    member/refill           its data are to be thrown away, or have been and are not complete again
    member/refilled-from    what it held before, until it is complete again

`zkv member refill --data-dir DIR` makes `refill`. The next start, before it touches anything, asks the others (join.py)
whether they still know this member; then wal, store and clock move to `refilled-from`, and the member starts with
nothing, as one that has forgotten (rejoin.py): the leader makes it a learner, which takes its vote, its alarm and
whatever it once said out of the count; it is sent a snapshot, catches up, and gets its vote back. Then `refill` goes,
and what it held before. A crash in between finds `refill` and goes on; until then nothing is lost that could be needed.

Why so, and not a flag of the server: who must be refilled often cannot start, and what starts it is a unit file or an
orchestrator that always gives the same flags; a flag that stays there would throw data away at each start.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

import structlog

from zkv.errors import CorruptionError
from zkv.files import sync_directory

if TYPE_CHECKING:
    from pathlib import Path

FENCED: Final = "fenced"
WANTED: Final = "refill"
FORMER: Final = "refilled-from"
REMEDY: Final = "refill it from the others (zkv member refill --data-dir DIR), then start it again"
_PARTS: Final = ("wal", "snap", "clock")
_BEGUN: Final = b"begun\n"


def fence(member_dir: Path) -> None:
    """Raises CorruptionError, and so will each start from now on; but not for a member that is being refilled."""
    if is_wanted(member_dir):
        return
    reason = f"this member holds other data than the majority (alarm CORRUPT) and serves nothing any more: {REMEDY}"
    _write(member_dir / FENCED, f"{reason}\n".encode())
    raise CorruptionError(reason)


def check(member_dir: Path) -> None:
    """Raises CorruptionError when the member is fenced, and nobody has asked for it to be refilled."""
    if (member_dir / FENCED).exists() and not is_wanted(member_dir):
        raise CorruptionError((member_dir / FENCED).read_text().strip())


def want(member_dir: Path) -> None:
    """Of a member that does not run. May be repeated."""
    if not is_wanted(member_dir):
        _write(member_dir / WANTED, b"asked\n")


def is_wanted(member_dir: Path) -> bool:
    """Is the member to be refilled, or being refilled?"""
    return (member_dir / WANTED).exists()


def is_begun(member_dir: Path) -> bool:
    """Have the data been set aside?"""
    return is_wanted(member_dir) and (member_dir / WANTED).read_bytes() == _BEGUN


def set_aside(member_dir: Path) -> None:
    """The data move out of the way. May be repeated after a crash."""
    former = member_dir / FORMER
    former.mkdir(mode=0o700, exist_ok=True)
    for part in _PARTS:
        if (member_dir / part).exists():
            if (former / part).exists():  # of a refill before that did not come to its end
                shutil.rmtree(member_dir / part) if (member_dir / part).is_dir() else (member_dir / part).unlink()
            else:
                (member_dir / part).rename(former / part)
    (member_dir / FENCED).unlink(missing_ok=True)
    sync_directory(former)
    _write(member_dir / WANTED, _BEGUN)
    structlog.get_logger().warning("this member is refilled from the others", set_aside=str(former))


def complete(member_dir: Path) -> None:
    """The member holds what the others hold, and counts again."""
    (member_dir / WANTED).unlink(missing_ok=True)
    sync_directory(member_dir)
    shutil.rmtree(member_dir / FORMER, ignore_errors=True)
    structlog.get_logger().info("this member has been refilled")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)
