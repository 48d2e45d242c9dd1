"""What a snapshot, a compaction and a defragmentation of a large store cost those who write meanwhile; zkv beside etcd.

    python tests/torture/housework.py --megabytes 1000
    python tests/torture/housework.py --side zkv --nodes 3 --rounds 3
    python tests/torture/housework.py --side zkv --nodes 3 --work "snapshot save"

Both are filled with the same, and written to through the same API by the same client: a steady trickle of puts, from
before to after. It asks for compaction and defragmentation, too; a snapshot is saved by each side's own command, whose
start takes its share of the machine. Told are the p99 of the seconds before each piece of housework and of those that
it took, over all rounds, and the memory of the processes. Bars: during, at most 1.5 times before; the snapshot leaves
memory as it is. On a shared disk single syncs may take half a second at any time: more rounds tell more, and a TMPDIR
in memory tells of what the processes take from each other alone.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import grpc

from tests.harness.etcd import EtcdCluster, binary
from tests.harness.etcd_api import EtcdApi
from tests.harness.processes import children, pss_bytes
from zkv.gateway.pb import rpc_pb2 as pb
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VALUE_BYTES = 8 << 10
KEYS_PER_TXN = 64
IN_FLIGHT = 4
WRITERS = 4
PAUSE_S = 0.02
"""Between the puts of one writer: some 150 a second in all, which leaves room on the machine for the housework."""


SETTLED, SETTLED_BYTES = 6, 1 << 20
"""Looks at the store's size, twice a second, that find it the same within this."""
LOOK_S = 0.2
PATIENCE_S = 120
HOUSEWORK = ("snapshot save", "compaction", "defrag")


class Side(NamedTuple):
    name: str
    url: str
    command: list[str]
    pids: Callable[[], dict[str, int]]


@contextmanager
def zkv_side(directory: Path, nodes: int) -> Iterator[Side]:
    with LocalCluster(nodes, data_dir=directory, etcd_api=True, arguments=["--quota-backend-bytes=-1"]) as cluster:
        leader = cluster.leader()
        command = [sys.executable, "-m", "zkv", "--endpoints", cluster.endpoints[leader]]
        yield Side("zkv", cluster.etcd_endpoints[leader], command, lambda: children(cluster.pid(leader)))


@contextmanager
def etcd_side(directory: Path, nodes: int) -> Iterator[Side]:
    with EtcdCluster(directory, nodes, extra=("--quota-backend-bytes", str(8 << 30))) as cluster:
        statuses = [EtcdApi(f"http://{endpoint}").Status() for endpoint in cluster.endpoints]
        leader = next(number for number, each in enumerate(statuses) if each.leader == each.header.member_id)
        process = cluster.nodes[leader].process
        assert process is not None
        endpoint = cluster.endpoints[leader]
        yield Side("etcd", endpoint, [str(binary("etcdctl")), "--endpoints", endpoint], lambda: {"etcd": process.pid})


def fill(api: EtcdApi, seed: int, keys: int) -> int:
    """So many keys of the same names, with values of their own that do not compress; the revision reached."""
    rng = random.Random(seed)
    under_way = []
    revision = 0
    for start in range(0, keys, KEYS_PER_TXN):
        puts = [
            pb.RequestOp(request_put=pb.PutRequest(key=b"fill/%09d" % number, value=rng.randbytes(VALUE_BYTES)))
            for number in range(start, min(keys, start + KEYS_PER_TXN))
        ]
        under_way.append(api.future("Txn", success=puts))
        if len(under_way) >= IN_FLIGHT:
            revision = under_way.pop(0).result().header.revision
    return max([revision, *(int(future.result().header.revision) for future in under_way)])


class Trickle:
    """Puts all the while. One that failed took as long as it took to fail."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._took: list[tuple[float, float]] = []
        self.failed = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, writer: int) -> None:
        with EtcdApi(self._url) as api:
            for number in itertools.count():
                if self._stop.wait(PAUSE_S):
                    return
                begun = time.monotonic()
                try:
                    api.Put(key=b"beside/%d/%d" % (writer, number % 1000), value=b"v" * 256)
                except grpc.RpcError:
                    self.failed += 1
                self._took.append((begun, time.monotonic() - begun))

    def between(self, start: float, end: float) -> list[float]:
        """Of the puts that were under way at any moment of it."""
        return [took for begun, took in self._took if begun < end and begun + took > start]


def p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98] * 1e3


def memory(side: Side) -> int:
    """Of all processes of the member together, KiB."""
    return sum(pss_bytes(pid) for pid in side.pids().values()) // 1024


class Tally:
    """Of one kind of housework, over all rounds: what puts took in the quiet before, and during it."""

    def __init__(self, side: Side, trickle: Trickle, name: str, quiet_s: float) -> None:
        self._side, self._trickle, self._name, self._quiet_s = side, trickle, name, quiet_s
        self._before: list[float] = []
        self._during: list[float] = []
        self._lasted_s = 0.0
        self._failed = self._held = self._most = 0

    def round(self, work: Callable[[], object]) -> None:
        """Quiet, then the work."""
        settle(self._side)
        began = time.monotonic()
        held = 0
        while time.monotonic() < began + self._quiet_s:  # looking costs something: it does so before, too
            held = memory(self._side)
            time.sleep(LOOK_S)
        most, failed = held, self._trickle.failed
        start = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(work)
            while not wait([working], LOOK_S).done:
                most = max(most, memory(self._side))
            end = time.monotonic()
            working.result()
        time.sleep(0.5)
        self._before += self._trickle.between(began, start)
        self._during += self._trickle.between(start, end)
        self._lasted_s += end - start
        self._failed += self._trickle.failed - failed
        if most - held >= self._most - self._held:
            self._held, self._most = held, most

    def tell(self) -> None:
        before, during = self._before, self._during
        if len(during) < 2:
            during = [*during, *during, self._lasted_s][:2]
        print(
            f"{self._side.name} {self._name}: {self._lasted_s:.1f} s; p99 {p99(before):.1f} ms before, "
            f"{p99(during):.1f} ms during: {p99(during) / p99(before):.2f}x; "
            f"median {statistics.median(before) * 1e3:.1f} and {statistics.median(during) * 1e3:.1f} ms; "
            f"worst {max(before) * 1e3:.0f} and {max(during) * 1e3:.0f} ms; "
            f"{len(before)} and {len(during)} puts, {self._failed} failed; "
            f"memory {self._held >> 10} MiB, at most {self._most >> 10}",
            flush=True,
        )


def save(side: Side, path: Path) -> None:
    """A snapshot, by the side's own command."""
    command = [*side.command, "snapshot", "save", str(path), "--command-timeout", f"{PATIENCE_S}s"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def settle(side: Side) -> None:
    """Until the store's size has stood still for a while: what was written before is no housework of now."""
    with EtcdApi(side.url) as api:
        size, stood = -1, 0
        while stood < SETTLED:
            now = api.Status().dbSize
            stood = stood + 1 if abs(now - size) < SETTLED_BYTES else 0
            size = now
            time.sleep(0.5)


def play(side: Side, arguments: argparse.Namespace, directory: Path) -> None:
    keys = arguments.megabytes * 1_000_000 // VALUE_BYTES // 2
    if side.name == "etcd":
        keys *= 2  # zkv's store holds each value twice: for readers of the present, and of history
    with EtcdApi(side.url) as api:
        fill(api, 1, keys)
        status = api.Status()
        print(f"{side.name}: {keys} keys, {status.dbSize / 1e6:.0f} MB on the disk", flush=True)
        with Trickle(side.url) as trickle:
            tallies = {name: Tally(side, trickle, name, arguments.quiet) for name in arguments.work or HOUSEWORK}
            for number in range(arguments.rounds):
                for name, tally in tallies.items():
                    if name == "snapshot save":
                        tally.round(partial(save, side, directory / "backup"))
                    elif name == "compaction":
                        revision = fill(api, 2 + number, keys // 4)
                        tally.round(partial(api.Compact, revision=revision, physical=True, timeout=PATIENCE_S))
                    else:
                        tally.round(partial(api.Defragment, timeout=PATIENCE_S))
        for tally in tallies.values():
            tally.tell()
        print(f"{side.name}: {api.Status().dbSize / 1e6:.0f} MB on the disk in the end", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000, help="of the store, on the disk")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="of the housework")
    parser.add_argument("--quiet", type=float, default=8, help="seconds of puts before each piece of housework")
    parser.add_argument("--work", choices=HOUSEWORK, action="append", help="this alone; may be given twice [all]")
    parser.add_argument("--side", choices=("zkv", "etcd", "both"), default="both")
    arguments = parser.parse_args()
    for name, begin in (("zkv", zkv_side), ("etcd", etcd_side)):
        if arguments.side in {name, "both"}:
            with tempfile.TemporaryDirectory() as directory, begin(Path(directory), arguments.nodes) as side:
                play(side, arguments, Path(directory))


if __name__ == "__main__":
    main()
