"""What both halves of the benchmark speak: a load, and what came of it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

VALUE_BYTES = 256
TITLE_LENGTH = 40  # what is longer is a command line


UNARY = frozenset({"put", "l", "s", "txn-put"})
WRITES = frozenset({"put", "txn-put", "watch", "watch-latency"})


class Load(NamedTuple):
    """`clients` requests outstanding over `conns` connections until `total` are answered. `name` is its row's title.

    `kind`: a kind of `zkv benchmark`, or a get's consistency: "l" or "s". Of a watch, `clients` put `total` times, and
    `streams` times `per_stream` watchers are told each time; of watch-latency `clients` watch, and each put, at `rate`
    puts a second, waits until all have been told of the last.
    """

    name: str
    kind: str
    clients: int
    conns: int
    total: int
    target_leader: bool = False
    streams: int = 0
    per_stream: int = 0
    rate: int = 0
    etcd_door: bool = False
    """zkv is asked through etcd's API too, by the same tool as etcd."""
    fresh_keys: bool = False
    """No key is put twice, where the driver can do that; else one again and again, as etcd's tool does by default."""

    @property
    def writes(self) -> bool:
        return self.kind in WRITES

    @property
    def units(self) -> int:
        """What is counted by a rate: requests, or events told."""
        if self.kind == "watch-latency":
            return self.total * self.clients
        return self.total * max(1, self.streams * self.per_stream)


class Measure(NamedTuple):
    """Answers (or events) per second, latencies in milliseconds, and the cores that the load kept busy by itself."""

    rate: float
    p50_ms: float
    p99_ms: float
    load_cores: float = 0.0


def of(latencies: list[float], seconds: float) -> Measure:
    """From seconds, as they came."""
    ordered = sorted(latencies)
    return Measure(len(ordered) / seconds, percentile(ordered, 50) * 1e3, percentile(ordered, 99) * 1e3)


def watched(run: Callable[[], Measure]) -> Measure:
    """What `run` measures, and how much of the machine this process and those it started (and waited for) took."""
    began, before = time.monotonic(), sum(os.times()[:4])
    found = run()
    return found._replace(load_cores=(sum(os.times()[:4]) - before) / (time.monotonic() - began))


def shares(total: int, parts: int) -> list[int]:
    """`total` in parts that differ by one at most."""
    return [total // parts + (i < total % parts) for i in range(parts)]


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
