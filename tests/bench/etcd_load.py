"""Driving etcd: by what, and why that is fair.

| load | driven by |
| --- | --- |
| put, get, txn-put | h2load (etcd_h2load.py) where it is installed, else our own frames (etcd_frames.py) |
| watch, keep-alive | our own frames |
| all but watch latency | etcd's benchmark tool, where `--etcd-benchmark` names it |

Each of the first two leaves more of the machine to etcd than etcd's own tool does, and the output says how much of it
the load took on either side.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from tests.bench import etcd_frames, etcd_h2load
from tests.bench.measure import UNARY, VALUE_BYTES, Load, Measure

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.etcd import EtcdCluster

TIMEOUT_S = 300


def driver(load: Load, tool: Path | None) -> str:
    """What drives etcd under this load."""
    if tool is not None and load.kind != "watch-latency":
        return "etcd's benchmark tool"
    return "h2load" if load.kind in UNARY and etcd_h2load.available() else "frames"


def leader_endpoint(cluster: EtcdCluster) -> str:
    for i, node in enumerate(cluster.nodes):
        status = cluster.call("/v3/maintenance/status", {}, i)
        if status["leader"] == status["header"]["member_id"]:
            return node.endpoint
    raise RuntimeError("etcd has no leader")


def run(cluster: EtcdCluster, load: Load, tool: Path | None = None) -> Measure:
    """Run one load to its end, with what `driver` says.

    Raises RuntimeError when not every request succeeded.
    """
    chosen = driver(load, tool)
    endpoints = [leader_endpoint(cluster)] if load.target_leader else cluster.endpoints[: load.conns]
    if chosen == "h2load":
        return etcd_h2load.run(cluster.revision, load, endpoints)
    if chosen == "frames":
        return etcd_frames.run(load, endpoints)
    assert tool is not None
    return _run_own(cluster, load, tool, endpoints)


def _run_own(cluster: EtcdCluster, load: Load, tool: Path, endpoints: list[str]) -> Measure:
    """etcd's benchmark command, a program of its own that comes with etcd's source (tools/benchmark)."""
    fill = f"--val-size={VALUE_BYTES}"
    keys = ["--sequential-keys", f"--key-space-size={load.total}"] if load.fresh_keys else []
    kind = {
        "put": ["put", *keys, fill, f"--total={load.total}"],
        "txn-put": ["txn-put", fill, f"--total={load.total}"],
        "lease-keepalive": ["lease-keepalive", f"--total={load.total}"],
        "watch": [
            "watch", f"--streams={load.streams}", f"--watch-per-stream={load.per_stream}", f"--put-total={load.total}",
        ],
        "l": ["range", "00000000", "--consistency=l", f"--total={load.total}"],
        "s": ["range", "00000000", "--consistency=s", f"--total={load.total}"],
    }[load.kind]  # fmt: skip
    if not load.writes:
        cluster.ctl("put", "00000000", "v" * VALUE_BYTES)
    scope = [f"--endpoints={','.join(endpoints)}", f"--conns={load.conns}", f"--clients={load.clients}"]
    command = [str(tool), *scope, *kind]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S).stdout
    found = [re.findall(pattern, text) for pattern in (r"Requests/sec:\s+(\S+)", r" 50% in (\S+)", r" 99% in (\S+)")]
    if "Error distribution" in text or [] in found:
        raise RuntimeError(f"{load.name}: not every request succeeded\n{text}")
    rate, p50, p99 = (float(each[-1]) for each in found)  # the last of several summaries is the one that counts
    return Measure(rate, p50 * 1e3, p99 * 1e3)
