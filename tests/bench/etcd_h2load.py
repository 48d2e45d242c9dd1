"""Driving etcd, and zkv through the same API, with h2load: gRPC calls prepared once, posted as fast as etcd takes them.

A gRPC unary call is an HTTP/2 POST whose body is a five-byte prefix and a protobuf message. h2load (nghttp2, C) posts
such a body for 6 to 12 us of CPU, which is about what zkv's own load generator spends on a request; so of a machine
shared by load and servers both leave the same to the servers. That is generous to etcd: with its own tool, in Go with
etcd's full client, it reaches 0.6 to 0.9 of these puts and about half of these gets (side by side on 2 cores, etcd
3.5.1); who has that tool can name it with --etcd-benchmark. A Python gRPC client would measure itself. Streams h2load
cannot drive, for it posts a body and waits for the end: those are etcd_frames.py's.

- **Endpoints.** etcd's tool deals connections round robin over its endpoints. h2load knows one, so one h2load runs
  per endpoint with its share of connections and requests. Only the time in which all of them were running counts:
  rate and latencies come from the answers within it, so that the tail of the last to finish does not weigh on etcd.
- **Keys.** h2load posts one body only, so each h2load writes one key again and again, and reads that key: what etcd's
  tool does too unless told otherwise (--key-space-size 1), and what `zkv benchmark` does in the same rows. In the row
  of fresh keys etcd is put the one key nonetheless, zkv a new one with every put. etcd stores by revision, so its disk
  writes are the same whichever key it is, and its in-memory index stays small: the kinder pattern, never the harder.
- **Answers.** gRPC tells failure in the trailers, which h2load does not read. So a put load is checked by the
  revision it has reached, and a get load by the bytes that came back.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import etcd_calls
from tests.bench.measure import VALUE_BYTES, Load, Measure, percentile, shares

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_S = 300


def available() -> bool:
    return shutil.which("h2load") is not None


def run(revision: Callable[[], int], load: Load, endpoints: list[str]) -> Measure:
    """Run one load to its end; `revision` tells the newest of the cluster.

    Raises RuntimeError when not every request succeeded.
    """
    with tempfile.TemporaryDirectory(prefix="zkv-bench-") as name:
        directory = Path(name)
        before = revision()
        processes = [
            _start(endpoint, load, conns, total, directory / f"{i}")
            for i, (endpoint, conns, total) in enumerate(
                zip(endpoints, shares(load.conns, len(endpoints)), shares(load.total, len(endpoints)), strict=True)
            )
        ]
        reports = [process.communicate(timeout=TIMEOUT_S)[0] for process in processes]
        _check(load, reports, revision() - before)
        return measure([_log(directory / f"{i}.log") for i in range(len(processes))])


def key_of(endpoint: str) -> bytes:
    """That is put, and got, there."""
    return b"bench-" + endpoint.encode()


def _start(endpoint: str, load: Load, conns: int, total: int, stem: Path) -> subprocess.Popen[str]:
    path, prepared = etcd_calls.unary(load.kind, key_of(endpoint))
    body = stem.with_suffix(".body")
    body.write_bytes(prepared)
    return subprocess.Popen(
        [
            "h2load", "-c", str(conns), "-m", str(load.clients // load.conns), "-n", str(total),
            "--data", str(body), "--log-file", str(stem.with_suffix(".log")),
            "-H", "content-type: application/grpc", "-H", "te: trailers",
            f"http://{endpoint}{path.decode()}",
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def _check(load: Load, reports: list[str], revisions: int) -> None:
    succeeded = sum(int(count) for report in reports for count in re.findall(r"(\d+) succeeded", report))
    data = sum(int(count) for report in reports for count in re.findall(r"\((\d+)\) data", report))
    if succeeded != load.total:
        raise RuntimeError(f"{load.name}: {succeeded} of {load.total} requests succeeded\n{reports[0]}")
    if load.writes and revisions != load.total:
        raise RuntimeError(f"{load.name}: {load.total} writes, but {revisions} revisions")
    if not load.writes and data < load.total * VALUE_BYTES:
        raise RuntimeError(f"{load.name}: {data} bytes came back, fewer than the values hold")


def _log(path: Path) -> list[tuple[float, float]]:
    """(start, duration) of each request in microseconds, from h2load's log: start, status, duration."""
    return [(float(start), float(took)) for start, _, took in map(str.split, path.read_text().splitlines())]


def measure(logs: list[list[tuple[float, float]]]) -> Measure:
    begin = max(min(start for start, _ in log) for log in logs)
    end = min(max(start + took for start, took in log) for log in logs)
    counted = sorted(took for log in logs for start, took in log if begin <= start + took <= end)
    return Measure(
        rate=len(counted) / (end - begin) * 1e6,
        p50_ms=percentile(counted, 50) / 1e3,
        p99_ms=percentile(counted, 99) / 1e3,
    )
