"""`zkv benchmark`: its keys, its plan, its shares, and the arithmetic of its summary."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkv.ctl import bench
from zkv.ctl.bench_engine import Plan
from zkv.ctl.bench_report import BUCKETS, Results, as_json, as_text, histogram, percentile, report, seconds
from zkv.ctl.options import CommandError, Values, parse
from zkv.wire import messages as m

LATENCIES = st.lists(st.floats(0.0001, 10.0), min_size=1, max_size=50)


def given_flags(*arguments: str) -> Values:
    return parse(arguments, bench.benchmark.all_flags)[0]


# --- what is asked ---------------------------------------------------------------------------------


def test_one_key_is_written_unless_a_larger_space_is_asked_for() -> None:
    """As with etcd's tool: --key-space-size is 1 by default."""
    load = bench.put_load(given_flags())
    assert {load(index).key for index in range(10)} == {b"00000000"}


def test_sequential_keys_go_through_their_space_in_order() -> None:
    """--sequential-keys writes each key once before any twice."""
    load = bench.put_load(given_flags("--sequential-keys", "--key-space-size=3", "--key-size=4"))
    assert [load(index).key for index in range(4)] == [b"0000", b"0001", b"0002", b"0000"]


def test_random_keys_stay_in_their_space() -> None:
    """Without --sequential-keys any key of the space may come."""
    load = bench.put_load(given_flags("--key-space-size=5"))
    assert {load(index).key for index in range(200)} <= {b"%08d" % number for number in range(5)}


def test_values_have_the_size_asked_for() -> None:
    """--val-size is in bytes; 0 is a value too."""
    assert len(bench.put_load(given_flags("--val-size=256"))(0).value) == 256
    assert bench.put_load(given_flags("--val-size=0"))(0).value == b""


def test_a_space_larger_than_its_keys_can_name_is_refused() -> None:
    """Keys that do not fit would silently grow."""
    bench.put_load(given_flags("--key-size=2", "--key-space-size=100"))
    with pytest.raises(CommandError, match="raise --key-size"):
        bench.put_load(given_flags("--key-size=2", "--key-space-size=101"))


def test_a_range_is_linearizable_unless_told_otherwise() -> None:
    """--consistency l is the default, s reads from one member."""
    assert bench.range_load(given_flags(), [b"a"])(0) == m.Range(b"a")
    assert bench.range_load(given_flags("--consistency=s"), [b"a", b"b"])(7) == m.Range(b"a", b"b", serializable=True)
    with pytest.raises(CommandError, match="unknown consistency"):
        bench.range_load(given_flags("--consistency=x"), [b"a"])


@pytest.mark.parametrize("arguments", [[], [b"a", b"b", b"c"]])
def test_a_range_needs_a_key_and_takes_an_end(arguments: list[bytes]) -> None:
    """Nothing else."""
    with pytest.raises(CommandError, match="needs a key"):
        bench.range_load(given_flags(), arguments)


def test_a_load_is_of_puts_or_of_a_range() -> None:
    """The word behind `benchmark` says so, and another kind's flags are a slip."""
    assert isinstance(bench.workload(given_flags("--val-size=1"), [b"put"]), bench.PutLoad)
    assert isinstance(bench.workload(given_flags("--consistency=s"), [b"range", b"a"]), bench.RangeLoad)
    for words, flags, problem in (
        ([], [], "of what"),
        ([b"txn"], [], "of what"),
        ([b"put", b"a"], [], "no arguments"),
        ([b"put"], ["--consistency=s"], "benchmark put knows no --consistency"),
        ([b"range", b"a"], ["--val-size=1"], "benchmark range knows no --val-size"),
    ):
        with pytest.raises(CommandError, match=problem):
            bench.workload(given_flags(*flags), words)


# --- the plan --------------------------------------------------------------------------------------


def test_no_connection_is_without_a_client() -> None:
    """More connections than clients would idle, so there are none."""
    plan = bench.make_plan(given_flags("--conns=10", "--clients=4", "--endpoints=127.0.0.1:1,tcp://127.0.0.1:2"))
    assert (plan.conns, plan.clients) == (4, 4)
    assert plan.endpoints == ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")


@pytest.mark.parametrize("flag", ["--clients", "--conns", "--total"])
def test_counts_are_positive(flag: str) -> None:
    """A load of nothing is a slip."""
    with pytest.raises(CommandError, match=f"expected positive {flag}"):
        bench.make_plan(given_flags(f"{flag}=0"))


def test_curve_endpoints_need_the_servers_key() -> None:
    """It is said before anything is dialled."""
    with pytest.raises(CommandError, match="--curve-server-key"):
        bench.make_plan(given_flags("--endpoints=curve://127.0.0.1:1"))


@given(st.integers(1, 50), st.integers(1, 200), st.integers(1, 10_000), st.integers(1, 8))
def test_shares_of_a_plan_make_up_the_whole(conns: int, clients: int, total: int, parts: int) -> None:
    """Several processes send each request once, from all the clients, each over no more connections than clients."""
    plan = Plan(("a", "b", "c"), None, min(conns, clients), clients, total)
    shares = [plan.share(part, min(parts, plan.conns)) for part in range(min(parts, plan.conns))]
    assert sum(share.clients for share in shares) == clients
    assert [index for share in shares for index in range(share.first, share.first + share.total)] == list(range(total))
    assert all(0 < share.conns <= share.clients for share in shares)


# --- the summary -----------------------------------------------------------------------------------


@given(LATENCIES)
def test_every_latency_is_in_one_bucket(latencies: list[float]) -> None:
    """The histogram loses none, and ends with the slowest."""
    ordered = sorted(latencies)
    buckets = histogram(ordered)
    assert len(buckets) == BUCKETS + 1
    assert sum(bucket.requests for bucket in buckets) == len(ordered)
    assert buckets[-1].seconds == ordered[-1]


@given(LATENCIES, st.floats(0, 100))
def test_a_percentile_has_that_share_below_it(latencies: list[float], percent: float) -> None:
    """Nearest rank: at most `percent` of all are smaller."""
    ordered = sorted(latencies)
    found = percentile(ordered, percent)
    assert found in ordered
    assert sum(latency < found for latency in ordered) <= -(-len(ordered) * percent // 100)


def test_a_second_without_requests_has_a_row() -> None:
    """A stall shows as a row of nothing."""
    rows = seconds([10.1, 10.9, 12.0], [0.1, 0.3, 0.2])
    assert [(row.unix_second, row.requests) for row in rows] == [(10, 2), (11, 0), (12, 1)]
    assert rows[0].average == pytest.approx(0.2)


def test_results_of_processes_merge() -> None:
    """All latencies, all errors, the longest time."""
    merged = Results(2.0, [0.1], errors={"lost": 1})
    merged.merge(Results(3.0, [0.2, 0.3], errors={"lost": 1, "late": 2}))
    assert (merged.seconds, merged.latencies, merged.errors) == (3.0, [0.1, 0.2, 0.3], {"lost": 2, "late": 2})


def test_the_summary_reads_as_that_of_etcds_tool() -> None:
    """Scripts that cut figures out of it go on working."""
    text = as_text(report(Results(2.0, [0.001 * step for step in range(1, 11)])))
    lines = text.splitlines()
    assert lines[:8] == [
        "",
        "Summary:",
        "  Total:\t2.0000 secs.",
        "  Slowest:\t0.0100 secs.",
        "  Fastest:\t0.0010 secs.",
        "  Average:\t0.0055 secs.",
        "  Stddev:\t0.0029 secs.",
        "  Requests/sec:\t5.0000",
    ]
    assert lines[9] == "Response time histogram:"
    assert lines[10].startswith("  0.0010 [1]\t|∎")
    assert "  50% in 0.0060 secs." in lines
    assert "  99.9% in 0.0100 secs." in lines


def test_errors_are_counted_by_their_text() -> None:
    """And do not count as requests answered."""
    assert as_text(report(Results(1.0, errors={"etcdserver: no leader": 3}))).splitlines() == [
        "",
        "Error distribution:",
        "  [3]\tetcdserver: no leader",
    ]


def test_json_carries_every_figure() -> None:
    """For programs, on one line."""
    found = json.loads(as_json(report(Results(1.0, [0.5], starts=[7.0], errors={"x": 1}))))
    assert found["requests_per_second"] == 1.0
    assert found["percentiles"]["99.9"] == 0.5
    assert found["errors"] == {"x": 1}
    assert found["samples"] == [{"unix_second": 7, "fastest": 0.5, "average": 0.5, "slowest": 0.5, "requests": 1}]
