"""What both halves of the benchmark speak: a load, and what came of it."""

from __future__ import annotations

import os
from typing import NamedTuple

VALUE_BYTES = 256
TITLE_LENGTH = 40  # what is longer is a command line


class Load(NamedTuple):
    """`clients` requests outstanding over `conns` connections until `total` are answered. `name` is its row's title."""

    name: str
    kind: str  # "put", or a get's consistency: "l" or "s"
    clients: int
    conns: int
    total: int
    target_leader: bool = False


class Measure(NamedTuple):
    """Answers per second, and latencies in milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float


def percentile(ordered: list[float], percent: float) -> float:
    """The value below which `percent` of `ordered` (ascending, not empty) lie."""
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def pss_bytes(pid: int) -> int:
    """Memory of one process, pages it shares counted in parts (proportional set size)."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def descendants(pid: int) -> list[int]:
    """`pid` and every process below it."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as line:
        children = [int(child) for child in line.read().split()]
    return [pid, *(found for child in children for found in descendants(child))]


def tree_pss_bytes(pid: int) -> int:
    return sum(pss_bytes(each) for each in descendants(pid))


def cpu_seconds(pids: list[int]) -> dict[str, float]:
    """CPU time that each of these processes, and each below them, has used so far, by its title."""
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    for pid in (each for root in pids for each in descendants(root)):
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as line:
            user, system = line.read().rsplit(")", 1)[1].split()[11:13]
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as words:
            title = words.read().replace("\0", " ").removeprefix("zkv: ").strip()
        found[title if len(title) < TITLE_LENGTH else f"node {pids.index(pid) + 1}"] = (int(user) + int(system)) / ticks
    return found
