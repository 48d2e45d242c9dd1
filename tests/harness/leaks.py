"""What a test left behind: processes, sockets, socket files.

Seen from /proc, so on Linux only; elsewhere nothing is ever found. An orphan (a node's process whose supervisor was
killed) is no child of ours any more, but the socket it is bound to lies under our temporary directory, which nobody
else uses, and that gives it away.
"""

from __future__ import annotations

import gc
import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
GRACE_S = 3.0  # what was told to end may take this long to be gone
POLL_S = 0.02
HELPERS = (
    b"multiprocessing.resource_tracker",
    b"multiprocessing.forkserver",
)  # of Python itself, kept for the next use


class Leftovers(NamedTuple):
    """Each a set of lines for people; processes by id."""

    processes: frozenset[tuple[int, str]] = frozenset()
    sockets: frozenset[str] = frozenset()
    socket_files: frozenset[str] = frozenset()

    def since(self, before: Leftovers) -> Leftovers:
        """A node that was there before may still have been starting: what it has bound since, beside what it had
        bound, is no leftover."""
        homes = {os.path.dirname(each) for each in before.socket_files}
        files = {each for each in self.socket_files - before.socket_files if os.path.dirname(each) not in homes}
        return Leftovers(self.processes - before.processes, self.sockets - before.sockets, frozenset(files))

    def __str__(self) -> str:
        lines = [f"process {pid}: {title}" for pid, title in sorted(self.processes)]
        lines += [f"open socket: {each}" for each in sorted(self.sockets)]
        lines += [f"socket file: {each}" for each in sorted(self.socket_files)]
        return "\n".join(lines)


def look(temporary: Path) -> Leftovers:
    """What there is now below this process, in it, and under `temporary`."""
    if not PROC.exists():
        return Leftovers()
    return Leftovers(
        frozenset(_descendants(os.getpid())),
        frozenset(_open_sockets()),
        frozenset(_socket_files(temporary)) | frozenset(_bound_under(temporary)),
    )


def wait_none_since(before: Leftovers, temporary: Path) -> Leftovers:
    """What is left of a test that began with `before`, once all that was on its way out is gone."""
    deadline = time.monotonic() + GRACE_S
    found = look(temporary).since(before)
    while any(found) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(POLL_S)
        found = look(temporary).since(before)
    return found


def _descendants(pid: int) -> list[tuple[int, str]]:
    found = []
    for children in PROC.glob(f"{pid}/task/*/children"):
        for child in map(int, _read(children).split()):
            title = _read(PROC / str(child) / "cmdline").replace(b"\0", b" ").strip()
            if not any(helper in title for helper in HELPERS):
                found.append((child, title.decode(errors="replace") or "not waited for"))
                found += _descendants(child)
    return found


def _open_sockets() -> list[str]:
    found = []
    for fd in PROC.glob("self/fd/*"):
        try:
            target = str(fd.readlink())
        except OSError:
            continue
        if target.startswith("socket:"):
            found.append(target)
    return found


def _socket_files(temporary: Path) -> list[str]:
    found = []
    for directory, _, names in os.walk(temporary):
        for name in names:
            path = Path(directory, name)
            try:
                if stat.S_ISSOCK(path.lstat().st_mode):
                    found.append(str(path))
            except OSError:
                continue
    return found


def _bound_under(temporary: Path) -> list[str]:
    lines = _read(PROC / "net" / "unix").decode(errors="replace").splitlines()
    paths = [fields[7] for fields in map(str.split, lines) if len(fields) > 7]
    return [path for path in paths if path.startswith(f"{temporary}/")]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended while we looked
        return b""
