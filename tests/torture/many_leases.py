"""Grant leases, keep some alive, and let many end at once; print how fast that goes, and how late they end.

    python tests/torture/many_leases.py                 three nodes of zkv, with CURVE
    python tests/torture/many_leases.py --etcd          and three of etcd 3.5.1 after them

Late is a lease by what passes between its due time and the event that tells of its key's deletion: its due time is its
TTL after the grant was asked for, or later; none may end before. All the leases are granted as fast as can be and so
end within about the same second.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import etcd_calls as calls
from tests.bench import etcd_frames, zkv_load
from tests.bench.http2_line import Line, Lines, Unpacker, dial
from tests.bench.measure import Load, Measure, cpu_seconds
from tests.harness.etcd import EtcdCluster
from zkv.client.transport import load_curve, normalize
from zkv.ctl.bench_engine import Engine
from zkv.ctl.bench_lines import Lines as NativeLines
from zkv.ctl.bench_plan import Plan, Workload
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack

CLIENTS = 100
CONNS = 10
TTL_MIN_S = 8  # time enough to put the keys before the first of their leases ends
PUTS_PER_S = 2_000  # what any cluster does
KEEP_ALIVES = 50_000
OVERDUE_S = 60.0
PREFIX, PREFIX_END = b"leased/", b"leased0"


class Found(NamedTuple):
    """`late`: seconds, of each lease. `us`: of the servers' CPU for a lease that ends by itself."""

    grants: float
    keep_alives: Measure
    late: list[float]
    us: float


class Asked(Workload):
    """Given requests, and when each was asked for."""

    def __init__(self, requests: list[m.Request]) -> None:
        self.requests = requests
        self.asked_at: list[float] = []

    def __call__(self, index: int) -> m.Request:
        self.asked_at.append(time.monotonic())
        return self.requests[index]


def key(lease: int) -> bytes:
    return b"%s%d" % (PREFIX, lease)


def lease_of(found: bytes) -> int:
    return int(found.removeprefix(PREFIX))


# --- zkv -------------------------------------------------------------------------------------------


def zkv(leases: int, ttl: int) -> Found:
    with tempfile.TemporaryDirectory(prefix="zkv-leases-") as directory, zkv_load.cluster(Path(directory)) as cluster:
        options = cluster.client_options
        curve = load_curve(options["server_key"], options["client_key"])
        endpoints = tuple(map(normalize, cluster.endpoints))
        plan = Plan(endpoints, dict.fromkeys(endpoints, curve), CONNS, CLIENTS, leases)
        with NativeLines(plan.endpoints[:1], plan.curves) as lines:
            lines.connect([b"watch"], 10.0)
            watch = m.Watches((m.Watch(1, PREFIX, PREFIX_END, no_put=True),))
            lines.send(b"watch", pack((m.PROTOCOL_VERSION, m.ClientKind.WATCH, watch.watches)))
            asked_at, seconds = _ask(plan, [m.LeaseGrant(ttl, lease) for lease in range(1, leases + 1)])
            _ask(plan, [m.Put(key(lease), b"", lease) for lease in range(1, leases + 1)])
            before = sum(cpu_seconds(zkv_load.pids(cluster)).values())
            ended = _ends_at_zkv(lines, leases, time.monotonic() + ttl + OVERDUE_S)
            spent = sum(cpu_seconds(zkv_load.pids(cluster)).values()) - before
        keep_alives = zkv_load.run(cluster, Load("keep-alives", "lease-keepalive", CLIENTS, CONNS, KEEP_ALIVES))
    return Found(leases / seconds, keep_alives, _late(asked_at, ended, ttl), spent / leases * 1e6)


def _ask(plan: Plan, requests: list[m.Request]) -> tuple[list[float], float]:
    """When each was asked for, and how long all took. Raises SystemExit when one failed."""
    asked = Asked(requests)
    with Engine(plan, asked) as engine:
        (results,) = engine.run(lambda _: None)
    if results.errors:
        raise SystemExit(str(results.errors))
    return asked.asked_at, results.seconds


def _ends_at_zkv(lines: NativeLines, leases: int, deadline: float) -> dict[int, float]:
    """When the event of each lease's key came."""
    ended: dict[int, float] = {}
    while len(ended) < leases and time.monotonic() < deadline:
        taken = 0
        for _, data in lines.wait(100):
            now = time.monotonic()
            taken += len(data)
            for _, kind, _, body in m.Answers(*unpack(data)).watches:
                if kind == m.WatchKind.CANCELLED:
                    raise SystemExit(f"the watch was cancelled: {body}")
                if kind in {m.WatchKind.EVENTS, m.WatchKind.FRAGMENT}:
                    ended |= {lease_of(kv[0]): now for _, kv, _ in body}  # type: ignore[attr-defined]
        lines.send(b"watch", pack((m.PROTOCOL_VERSION, m.ClientKind.WATCH_CREDIT, *m.WatchCredit(taken))))
    return ended


# --- etcd ------------------------------------------------------------------------------------------


def etcd(leases: int, ttl: int) -> Found:
    with tempfile.TemporaryDirectory(prefix="zkv-leases-") as directory, EtcdCluster(Path(directory)) as cluster:
        endpoints = [cluster.endpoints[number % len(cluster.endpoints)] for number in range(CONNS)]
        pids = [node.process.pid for node in cluster.nodes if node.process is not None]
        ended = _Ends()
        with Lines() as lines:
            line = Line(dial(endpoints[0]), endpoints[0], ended.heard, lambda *_: None)
            lines.add(line)
            line.call(calls.WATCH, calls.watch_body(PREFIX, PREFIX_END), end=False)
            lines.turn(1.0)
            began = time.monotonic()
            grants = [calls.lease_grant_body(ttl, lease) for lease in range(1, leases + 1)]
            asked = etcd_frames.ask_all(endpoints, calls.LEASE_GRANT, grants, CLIENTS)
            seconds = time.monotonic() - began
            puts = [calls.put_body(key(lease), b"", lease) for lease in range(1, leases + 1)]
            etcd_frames.ask_all(endpoints, calls.PUT, puts, CLIENTS)
            before = sum(cpu_seconds(pids).values())
            deadline = time.monotonic() + ttl + OVERDUE_S
            while len(ended.at) < leases and time.monotonic() < deadline:
                lines.turn(0.1)
            spent = sum(cpu_seconds(pids).values()) - before
        load = Load("keep-alives", "lease-keepalive", CLIENTS, CONNS, KEEP_ALIVES)
        keep_alives = etcd_frames.run(load, cluster.endpoints)
    return Found(leases / seconds, keep_alives, _late(asked.asked_at, ended.at, ttl), spent / leases * 1e6)


class _Ends:
    """When the event of each lease's key came."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}
        self._unpacker = Unpacker()

    def heard(self, stream: int, payload: memoryview) -> None:
        now = time.monotonic()
        for answer in self._unpacker.messages(payload):
            self.at |= {lease_of(found): now for found in calls.deleted_keys(answer)}


# --- both ------------------------------------------------------------------------------------------


def _late(asked_at: list[float], ended: dict[int, float], ttl: int) -> list[float]:
    missing = [lease for lease in range(1, len(asked_at) + 1) if lease not in ended]
    if missing:
        print(f"{len(missing)} leases have not ended {OVERDUE_S:g} s after their time, {missing[0]} the first")
    return [at - asked_at[lease - 1] - ttl for lease, at in ended.items()]


def tell(name: str, found: Found) -> bool:
    """Print it; is it as it should be?"""
    cuts = statistics.quantiles(found.late, n=100)
    print(f"{name}: {found.grants:,.0f} grants/s, {found.keep_alives.rate:,.0f} keep-alives/s", end="")
    print(f" (p50 {found.keep_alives.p50_ms:.1f} ms, p99 {found.keep_alives.p99_ms:.1f} ms), {CLIENTS} clients")
    print(
        f"  {len(found.late):,} leases ended {min(found.late):+.3f} s to {max(found.late):+.3f} s after their time",
        end="",
    )
    print(f" (p50 {cuts[49]:.3f}, p99 {cuts[98]:.3f}); {found.us:.0f} us of CPU for each", flush=True)
    return min(found.late) >= 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leases", type=int, default=10_000)
    parser.add_argument("--etcd", action="store_true", help="measure etcd too")
    options = parser.parse_args()
    ttl = TTL_MIN_S + 2 * options.leases // PUTS_PER_S
    good = tell("zkv", zkv(options.leases, ttl))
    if options.etcd:
        tell("etcd", etcd(options.leases, ttl))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
