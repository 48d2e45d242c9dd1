"""Driving zkv: three nodes with CURVE on, and the `zkv benchmark` command against them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.bench import etcd_calls, etcd_frames, etcd_h2load
from tests.bench.measure import VALUE_BYTES, Load, Measure
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

NODES = 3
READ_KEY = "00000000"
TIMEOUT_S = 300
PROCESSES_FROM_CONNS = 100
SECTION = {"watch": "events", "watch-latency": "put_to_watch"}
"""Where a benchmark measures several things, which of them counts."""


def cluster(directory: Path) -> LocalCluster:
    return LocalCluster(nodes=NODES, curve=True, data_dir=directory, etcd_api=True)


def pids(nodes: LocalCluster) -> list[int]:
    return [nodes.pid(number) for number in range(NODES)]


def run(nodes: LocalCluster, load: Load) -> Measure:
    """Run one load to its end.

    Raises RuntimeError when not every request succeeded.
    """
    if load.etcd_door:
        return _run_etcd_door(nodes, load)
    options = nodes.client_options
    where = [f"--endpoints={','.join(nodes.endpoints)}", "--dial-timeout=10s", "--write-out=json"]
    keys = [f"--curve-server-key={options['server_key']}", f"--curve-key={options['client_key']}"]
    if not load.writes:
        with nodes.client() as kv:
            kv.put(READ_KEY, "v" * VALUE_BYTES)
    scope = [f"--conns={load.conns}", f"--clients={load.clients}"]
    leader = ["--target-leader"] if load.target_leader else []
    command = [sys.executable, "-m", "zkv", "benchmark", *where, *keys, *scope, *leader, *words(load)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{load.name}: zkv benchmark failed\n{done.stdout}\n{done.stderr}")
    found = json.loads(done.stdout)
    found = found.get(SECTION.get(load.kind), found)
    percentiles = found["percentiles"]
    return Measure(found["requests_per_second"], percentiles["50"] * 1e3, percentiles["99"] * 1e3)


def driver(load: Load) -> str:
    """What drives zkv under this load."""
    if not load.etcd_door:
        return "zkv benchmark"
    return "h2load" if etcd_h2load.available() else "frames"


def _run_etcd_door(nodes: LocalCluster, load: Load) -> Measure:
    endpoints = [url.removeprefix("http://") for url in nodes.etcd_endpoints]
    endpoints = [endpoints[nodes.leader()]] if load.target_leader else endpoints[: load.conns]
    with nodes.client() as kv:
        if not load.writes:
            for endpoint in endpoints:
                kv.put(etcd_h2load.key_of(endpoint), etcd_calls.VALUE)
        if driver(load) == "frames":
            return etcd_frames.run(load, endpoints)
        return etcd_h2load.run(lambda: kv.range(READ_KEY, limit=1).header.revision, load, endpoints)


def words(load: Load) -> list[str]:
    """The kind of benchmark, and its flags."""
    total, fill = f"--total={load.total}", f"--val-size={VALUE_BYTES}"
    keys = ["--sequential-keys", f"--key-space-size={load.total}"] if load.fresh_keys else []
    # One process of ours is outrun by three members that answer gets; etcd's driver has one for each of them.
    many = ["--processes=2"] if load.conns >= PROCESSES_FROM_CONNS else []
    return {
        "put": ["put", *keys, fill, total],
        "txn-put": ["txn-put", fill, total],
        "lease-keepalive": ["lease-keepalive", total],
        "watch": [
            "watch", f"--streams={load.streams}", f"--watch-per-stream={load.per_stream}", f"--put-total={load.total}",
        ],
        "watch-latency": ["watch-latency", f"--put-rate={load.rate}", total],
        "l": ["range", READ_KEY, "--consistency=l", *many, total],
        "s": ["range", READ_KEY, "--consistency=s", *many, total],
    }[load.kind]  # fmt: skip
