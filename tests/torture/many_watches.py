"""Give one member many watches and many leases, and print what it holds in memory, and what a put costs then.

    python tests/torture/many_watches.py --watches 100000 --leases 100000

The bars: all processes of the member together stay below 500 MB (proportional set size); a put costs what it costs
with ten watchers.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.measure import cpu_seconds
from tests.harness.processes import children, pss_bytes
from zkv.client.transport import normalize
from zkv.ctl.bench_engine import Engine
from zkv.ctl.bench_loads import Keys, PutLoad
from zkv.ctl.bench_plan import Plan, Workload
from zkv.ctl.bench_watchers import Arrivals, Putting, Watchers
from zkv.ctl.bench_watching import shares
from zkv.testing import LocalCluster
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMORY_BAR_BYTES = 500_000_000
TTL_S = 3600
KEY_BYTES = 32
VALUE = b"v" * 256
TOLD = 200  # of the watched keys, so many are put
PUTS = 20_000
FEW = 10
REST_S = 10.0


class Grants(Workload):
    """A lease with each request."""

    def __call__(self, index: int) -> m.LeaseGrant:
        return m.LeaseGrant(TTL_S, index + 1)


def load(endpoints: Sequence[str], workload: Workload, total: int) -> float:
    """So many requests a second."""
    plan = Plan(tuple(map(normalize, endpoints)), {}, min(10, total), min(200, total), total)
    with Engine(plan, workload) as engine:
        (results,) = engine.run(lambda _: None)
    if results.errors:
        raise SystemExit(f"{results.errors}")
    return total / results.seconds


def cost(cluster: LocalCluster) -> tuple[float, float]:
    """Of puts of keys nobody watches: (a second, us of the member's CPU for each)."""
    before = sum(cpu_seconds([cluster.pid(0)]).values())
    rate = load(cluster.endpoints, PutLoad(Keys(size=KEY_BYTES, count=PUTS, sequential=True), VALUE), PUTS)
    return rate, (sum(cpu_seconds([cluster.pid(0)]).values()) - before) / PUTS * 1e6


def rest(cluster: LocalCluster) -> None:
    """What the member costs while nobody asks for anything."""
    before = cpu_seconds([cluster.pid(0)])
    time.sleep(REST_S)
    used = {name: spent - before[name] for name, spent in cpu_seconds([cluster.pid(0)]).items()}
    parts = ", ".join(f"{name} {spent / REST_S:.2%}" for name, spent in used.items() if spent)
    print(f"at rest: {sum(used.values()) / REST_S:.2%} of a core = {parts}", flush=True)


def tell(cluster: LocalCluster, when: str) -> int:
    """Print the member's memory by process; all of it in bytes."""
    processes = {"supervisor": cluster.pid(0), **children(cluster.pid(0))}
    sizes = {name: pss_bytes(pid) for name, pid in processes.items()}
    total = sum(sizes.values())
    parts = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in sizes.items())
    print(f"{when}: {total / 1e6:.0f} MB = {parts}", flush=True)
    return total


def watched_key(number: int) -> bytes:
    return b"watched/%0*d" % (KEY_BYTES - 8, number)


def begin(watchers: Watchers, count: int) -> float:
    """Give each stream its share of watches of a key each; so many a second."""
    began = time.monotonic()
    first = 0
    for stream, own in zip(watchers.streams, shares(count, len(watchers.streams)), strict=True):
        watchers.begin(stream, [m.Watch(0, watched_key(number)) for number in range(first, first + own)])
        first += own
    while sum(stream.created for stream in watchers.streams) < count:
        watchers.turn()
    return count / (time.monotonic() - began)


def put_watched(watchers: Watchers, arrivals: Arrivals, keys: Sequence[bytes]) -> None:
    """Each put must be told to its one watcher."""
    putting = Putting(watchers, keys, VALUE, arrivals)
    putting.begin()
    while arrivals.events < len(keys) or putting.results.count < len(keys):
        putting.ask(1)
        _, tickets = watchers.turn()
        putting.answered(tickets)


def watch(cluster: LocalCluster, watches: int, streams: int) -> int:
    """Have so many watches for a while, and put beside them, and what they watch; bytes that the member held."""
    keys = [watched_key(number * watches // TOLD) for number in range(min(TOLD, watches))]
    plan = Plan(tuple(map(normalize, cluster.endpoints)), {}, 1, 1, len(keys))
    arrivals = Arrivals()
    with Watchers(plan, min(streams, watches), arrivals.told) as watchers:
        print(f"{watches:,} watches begun: {begin(watchers, watches):,.0f}/s")
        held = tell(cluster, f"with {watches:,} watches")
        rest(cluster)
        rate, each_us = cost(cluster)
        print(f"puts of other keys: {rate:,.0f}/s, {each_us:.0f} us of the member's CPU each")
        put_watched(watchers, arrivals, keys)
        print(f"{len(keys)} watched keys put, {arrivals.events} events told")
        return max(held, tell(cluster, "in the end"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watches", type=int, default=100_000)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--leases", type=int, default=100_000)
    options = parser.parse_args()
    with LocalCluster(nodes=1) as cluster:
        tell(cluster, "empty")
        if options.leases:
            print(f"{options.leases:,} leases granted: {load(cluster.endpoints, Grants(), options.leases):,.0f}/s")
            tell(cluster, "with leases")
        watch(cluster, FEW, 1)
        held = watch(cluster, options.watches, options.streams)
    print(f"memory below {MEMORY_BAR_BYTES / 1e6:.0f} MB: {'ok' if held < MEMORY_BAR_BYTES else 'MISSED'}")
    return 0 if held < MEMORY_BAR_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
