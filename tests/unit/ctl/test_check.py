"""The verdict of `zkv check perf`: etcdctl's bounds, words and exit codes."""

from __future__ import annotations

import io

import pytest

from zkv.ctl import check
from zkv.ctl.bench_report import Results
from zkv.ctl.command import Call, Streams
from zkv.ctl.options import Values

LOAD = check.Perf(rate=100, clients=5, seconds=10)


def judged(results: Results) -> tuple[int, list[str]]:
    out = io.BytesIO()
    code = check._judge(Call(Values({}), (), Streams(io.BytesIO(), out, io.BytesIO())), LOAD, results)
    return code, out.getvalue().decode().splitlines()


def test_a_cluster_that_keeps_up_passes() -> None:
    results = Results(seconds=10.0, latencies=[0.01] * 500 + [0.03] * 450)
    code, lines = judged(results)
    assert code == 0
    assert lines == [
        "PASS: Throughput is 96 writes/s",
        "PASS: Slowest request took 0.030000s",
        "PASS: Stddev is 0.009986s",
        "PASS",
    ]


@pytest.mark.parametrize(
    ("latencies", "errors", "line"),
    [
        ([0.01] * 900, {}, "FAIL: Throughput too low: 91 writes/s"),
        ([0.01] * 999 + [0.6], {}, "Slowest request took too long: 0.600000s"),
        ([0.01] * 500 + [0.4] * 500, {}, "Stddev too high: 0.195000s"),
        ([0.01] * 999, {"boom": 1}, "FAIL: ERROR(boom) -> 1"),
        ([], {"boom": 7}, "FAIL: Throughput too low: 1 writes/s"),
    ],
)
def test_each_fault_fails_it(latencies: list[float], errors: dict[str, int], line: str) -> None:
    code, lines = judged(Results(seconds=10.0, latencies=latencies, errors=errors))
    assert (code, lines[-1]) == (1, "FAIL")
    assert line in lines
    assert (lines[0] == "FAIL: too many errors") == bool(errors)


def test_loads_are_etcds() -> None:
    assert check.PERF == {"s": (150, 50, 60), "m": (1_000, 200, 60), "l": (8_000, 500, 60), "xl": (15_000, 1_000, 60)}
    assert {name: scale[:2] for name, scale in check.SCALE.items()} == {
        "s": (10_000, 50), "m": (100_000, 200), "l": (1_000_000, 500), "xl": (3_000_000, 1_000),
    }  # fmt: skip
