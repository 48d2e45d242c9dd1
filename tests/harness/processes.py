"""The processes of a node, seen from outside through /proc."""

from __future__ import annotations

import ctypes
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ACTORS = ("storage", "raft", "lease", "watch", "gateway")


def children(pid: int) -> dict[str, int]:
    """Actor name -> process id, of the actors whose supervisor is `pid`."""
    found: dict[str, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            title = (entry / "cmdline").read_bytes().rstrip(b"\0").decode()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid and title.startswith("zkv: "):
            found[title.split()[1]] = int(entry.name)
    return found


def alive(pid: int) -> bool:
    """Is the process there, and no zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def signal_beside(pid: int, signum: int) -> None:
    """To a thread that is not the main one, as the system may choose where that has a signal pending already."""
    tasks = [task for task in Path(f"/proc/{pid}/task").iterdir() if int(task.name) != pid]
    heeding = [task for task in tasks if re.search(r"^SigBlk:\s+0+$", (task / "status").read_text(), re.MULTILINE)]
    assert ctypes.CDLL(None).tgkill(pid, int(heeding[0].name), signum) == 0


def wait_until(claim: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        time.sleep(0.02)


def pss_bytes(pid: int) -> int:
    """Proportional set size: private memory, and its share of what is shared."""
    return _smaps(pid, "Pss")


def heap_bytes(pid: int) -> int:
    """Of that, what is no file's. Files' part grows when anybody else who maps them ends: a test beside this one."""
    return _smaps(pid, "Pss_Anon")


def _smaps(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(os.strerror(0))
