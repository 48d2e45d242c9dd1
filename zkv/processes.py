"""What Linux tells of the processes of a node."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zkv.gauges import Value


def resources(pids: Mapping[str, int]) -> list[Value]:
    """What Linux tells of the processes, by actor; nothing where there is no /proc, nor of one that has just died.

    The memory of all is that of each, and what they share, their program above all, once.
    """
    values: list[Value] = []
    cpu = memory = shared_most = files = virtual = 0
    tick_ns, page = 1_000_000_000 // os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for actor, pid in pids.items():
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            resident, shared = (int(word) * page for word in _read(f"/proc/{pid}/statm").split()[1:3])
            virtual += int(words[20])
            used = (int(words[11]) + int(words[12])) * tick_ns
            values += [("cpu of", actor, used), ("memory of", actor, resident)]
            cpu += used
            memory += resident - shared
            shared_most = max(shared, shared_most)
            files += len(os.listdir(f"/proc/{pid}/fd"))
            if actor == "supervisor":
                uptime_ns = int(float(_read("/proc/uptime").split()[0]) * 1e9)
                values.append(("started", "", time.time_ns() - uptime_ns + int(words[19]) * tick_ns))
    if values:
        values += [
            ("cpu", "", cpu),
            ("memory", "", memory + shared_most),
            ("files", "", files),
            ("virtual", "", virtual),
        ]
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    values.append(("virtual max", "", most if most != resource.RLIM_INFINITY else (1 << 64) - 1))
    values.append(("files max", "", resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    return values


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()
