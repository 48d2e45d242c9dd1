"""Fill one member with keys, restart it, and read all of it while clients write; print what it costs.

    python tests/torture/many_keys.py --keys 1000000

The bars: ready to serve within 3 s of start, however many keys there are; a range over everything neither stalls puts
nor lets memory grow with the store. `--keys 100000` shows what a node holds after so many puts (bar: 250 MB).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import zkv
from tests.harness.processes import children, pss_bytes
from zkv.testing import LocalCluster

CLIENTS = 500
VALUE = b"v" * 256
READY_BAR_S = 3.0


async def fill(endpoint: str, keys: int) -> None:
    """As many clients at once put one key after the other."""
    numbers = iter(range(keys))

    async def put_some(kv: zkv.AsyncClient) -> None:
        for number in numbers:
            await kv.put(b"key/%09d" % number, VALUE, timeout=60)

    async with zkv.AsyncClient(endpoint) as kv:
        await asyncio.gather(*(put_some(kv) for _ in range(CLIENTS)))


def puts_for(cluster: LocalCluster, stop: threading.Event) -> list[float]:
    """Seconds that each put took, one after the other until `stop`."""
    took: list[float] = []
    with zkv.Client(cluster.endpoints) as kv:
        while not stop.is_set():
            begun = time.monotonic()
            kv.put("beside", VALUE)
            took.append(time.monotonic() - begun)
    return took


def shown(took: list[float]) -> str:
    cuts = statistics.quantiles(took, n=100)
    return f"{len(took)} puts, p50 {cuts[49] * 1e3:.1f} ms, p99 {cuts[98] * 1e3:.1f} ms, worst {max(took) * 1e3:.1f} ms"


def memory(cluster: LocalCluster) -> dict[str, int]:
    """MiB of each process of the member."""
    processes = {"supervisor": cluster.pid(0), **children(cluster.pid(0))}
    return {name: pss_bytes(pid) >> 20 for name, pid in processes.items()}


def scan_beside_puts(cluster: LocalCluster) -> None:
    alone, beside = threading.Event(), threading.Event()
    threading.Timer(3.0, alone.set).start()
    print("without the range:", shown(puts_for(cluster, alone)), flush=True)
    found: list[list[float]] = []
    peak = 0
    putter = threading.Thread(target=lambda: found.append(puts_for(cluster, beside)))
    putter.start()
    begun, count = time.monotonic(), 0
    with zkv.Client(cluster.endpoints, timeout=60) as kv:
        for count, _ in enumerate(kv.range(prefix=""), 1):
            if count % 20_000 == 0:
                peak = max(peak, memory(cluster)["storage"])
    seconds = time.monotonic() - begun
    beside.set()
    putter.join()
    print(f"range: {count} keys in {seconds:.1f} s, storage at most {peak} MiB", flush=True)
    print("beside the range:", shown(found[0]), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with LocalCluster(nodes=1) as cluster:
        begun = time.monotonic()
        asyncio.run(fill(cluster.endpoints[0], arguments.keys))
        seconds = time.monotonic() - begun
        print(f"{arguments.keys} puts in {seconds:.0f} s ({arguments.keys / seconds:.0f}/s)", flush=True)
        held = memory(cluster)
        print(f"memory: {sum(held.values())} MiB, of which {held}", flush=True)
        begun = time.monotonic()
        status = cluster.stop(0)
        print(f"stopped with {status} after {time.monotonic() - begun:.2f} s", flush=True)
        begun = time.monotonic()
        cluster.start(0)
        ready = time.monotonic() - begun
        print(f"ready {ready:.2f} s after the start; memory: {sum(memory(cluster).values())} MiB", flush=True)
        scan_beside_puts(cluster)
        cluster.kill(0)
        begun = time.monotonic()
        cluster.start(0)
        print(f"ready {time.monotonic() - begun:.2f} s after a kill", flush=True)
    return 0 if ready <= READY_BAR_S else 1


if __name__ == "__main__":
    sys.exit(main())
