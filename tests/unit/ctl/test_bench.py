"""`zkv benchmark`: its keys, its plan, its shares, and the arithmetic of its summary."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkv.client.ticket import FOREVER
from zkv.core.mvcc.engine import MemoryEngine
from zkv.core.mvcc.machine import StateMachine
from zkv.ctl import bench, bench_loads, bench_mvcc, bench_stm
from zkv.ctl.bench_lines import Connection, Pace
from zkv.ctl.bench_plan import Plan
from zkv.ctl.bench_report import (
    BUCKETS,
    Results,
    Section,
    as_text,
    histogram,
    percentile,
    report,
    seconds,
    sections_as_json,
    sections_as_text,
)
from zkv.ctl.options import CommandError, Values, parse
from zkv.errors import SessionExpired
from zkv.limits import Limits
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack

LATENCIES = st.lists(st.floats(0.0001, 10.0), min_size=1, max_size=50)


def given_flags(*arguments: str, kind: str = "put") -> Values:
    return bench.values_of(kind, parse(arguments, bench.benchmark.all_flags)[0])


# --- what is asked ---------------------------------------------------------------------------------


def test_one_key_is_written_unless_a_larger_space_is_asked_for() -> None:
    """As with etcd's tool: --key-space-size is 1 by default."""
    load = bench_loads.put_load(given_flags())
    assert {load(index).key for index in range(10)} == {b"00000000"}


def test_sequential_keys_go_through_their_space_in_order() -> None:
    """--sequential-keys writes each key once before any twice."""
    load = bench_loads.put_load(given_flags("--sequential-keys", "--key-space-size=3", "--key-size=4"))
    assert [load(index).key for index in range(4)] == [b"0000", b"0001", b"0002", b"0000"]


def test_random_keys_stay_in_their_space() -> None:
    """Without --sequential-keys any key of the space may come."""
    load = bench_loads.put_load(given_flags("--key-space-size=5"))
    assert {load(index).key for index in range(200)} <= {b"%08d" % number for number in range(5)}


def test_values_have_the_size_asked_for() -> None:
    """--val-size is in bytes; 0 is a value too."""
    assert len(bench_loads.put_load(given_flags("--val-size=256"))(0).value) == 256
    assert bench_loads.put_load(given_flags("--val-size=0"))(0).value == b""


def test_a_space_larger_than_its_keys_can_name_is_refused() -> None:
    """Keys that do not fit would silently grow."""
    bench_loads.put_load(given_flags("--key-size=2", "--key-space-size=100"))
    with pytest.raises(CommandError, match="raise --key-size"):
        bench_loads.put_load(given_flags("--key-size=2", "--key-space-size=101"))


def test_a_range_is_linearizable_unless_told_otherwise() -> None:
    """--consistency l is the default, s reads from one member."""
    serializable = given_flags("--consistency=s", kind="range")
    assert bench_loads.range_load(given_flags(kind="range"), [b"a"])(0) == m.Range(b"a")
    assert bench_loads.range_load(serializable, [b"a", b"b"])(7) == m.Range(b"a", b"b", serializable=True)
    with pytest.raises(CommandError, match="unknown consistency"):
        bench_loads.range_load(given_flags("--consistency=x", kind="range"), [b"a"])


@pytest.mark.parametrize("arguments", [[], [b"a", b"b", b"c"]])
def test_a_range_needs_a_key_and_takes_an_end(arguments: list[bytes]) -> None:
    """Nothing else."""
    with pytest.raises(CommandError, match="needs a key"):
        bench_loads.range_load(given_flags(kind="range"), arguments)


def test_a_transaction_of_puts_goes_on_where_the_last_ended() -> None:
    """--txn-ops keys each, through their space in turn; a transaction never writes a key twice."""
    load = bench_loads.txn_put_load(given_flags("--txn-ops=2", "--key-space-size=3", "--key-size=1", kind="txn-put"))
    written = [[put.key for _, put in load(index).success if isinstance(put, m.Put)] for index in range(3)]
    assert written == [[b"0", b"1"], [b"2", b"0"], [b"1", b"2"]]
    with pytest.raises(CommandError, match=r"txn-ops\(2\) key-space-size\(1\)"):
        bench_loads.txn_put_load(given_flags("--txn-ops=2", kind="txn-put"))


@pytest.mark.parametrize(("ratio", "reads"), [("0", 0), ("1000000", 100)])
def test_the_ratio_of_reads_to_writes_is_kept(ratio: str, reads: int) -> None:
    """Each transaction reads or writes, and counts as what it is."""
    load = bench_loads.txn_mixed_load(given_flags(f"--rw-ratio={ratio}", "--limit=7", kind="txn-mixed"))
    asked = [load(index) for index in range(100)]
    assert [load.parts[load.part_of(request)] for request in asked].count("read") == reads
    if reads:
        assert asked[0].success == ((m.Op.RANGE, m.Range(b"\0", b"\0", limit=7)),)


@pytest.mark.parametrize("ratio", ["-1", "inf", "nan", "x", ""])
def test_a_ratio_is_a_number(ratio: str) -> None:
    """Not negative, and finite."""
    with pytest.raises(CommandError, match="--rw-ratio"):
        bench_loads.txn_mixed_load(given_flags(f"--rw-ratio={ratio}", kind="txn-mixed"))


def test_each_client_keeps_a_lease_alive() -> None:
    """As many leases as clients, granted first, and then in turn."""
    load = bench_loads.keep_alive_load()
    assert load.preparation(3) == [m.LeaseGrant(100)] * 3
    load.prepared([m.LeaseGrantAnswer(lease, 100) for lease in (7, 8, 9)])
    assert [load(index).id for index in range(4)] == [7, 8, 9, 7]


def test_the_store_alone_is_given_each_put_in_an_entry() -> None:
    """One put, or a transaction of --txn-ops puts, to an entry; entries follow each other without a gap."""
    plain = list(bench_mvcc.entries(given_flags("--total=3", kind="mvcc put")))
    assert [entry.index for entry in plain] == [1, 2, 3]
    words = ["--total=1", "--txn", "--txn-ops=4", "--key-size=5", "--value-size=6"]
    (entry,) = bench_mvcc.entries(given_flags(*words, kind="mvcc put"))
    engine = MemoryEngine()
    machine = StateMachine(engine, Limits(), cluster_id=1, member_id=1)
    machine.apply((*plain, entry._replace(index=4)), 1)
    assert machine.revision == 1 + 3 + 1
    found = machine.store.range(m.Range(b"\0", b"\0"))
    sizes = [(len(kv.key), len(kv.value)) for kv in found.kvs]
    assert sorted(sizes) == [(5, 6)] * 4 + [(64, 64)] * 3


def test_a_transaction_of_memory_reads_some_keys_and_writes_a_share_of_them() -> None:
    """--txn-wr-percent of --keys-per-txn, rounded down, out of --keys."""
    words = ["--keys=10", "--keys-per-txn=5", "--txn-wr-percent=50", "--isolation=ss", "--stm-locker=lock-client"]
    shape = bench_stm.shape(given_flags(*words, kind="stm"))
    assert shape == bench_stm.Shape("serializable_snapshot", 10, 5, 2, 8, locks=True)


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("--keys=0", "--keys"),
        ("--keys-per-txn=2", "between 0 and 1"),
        ("--txn-wr-percent=101", r"\[0, 100\]"),
        ("--isolation=x", "one of c, r, s, ss"),
        ("--stm-locker=lock-rpc", "one of stm, lock-client"),
    ],
)
def test_what_no_transaction_of_memory_can_be_is_refused(flag: str, problem: str) -> None:
    """Before anything is dialled."""
    with pytest.raises(CommandError, match=problem):
        bench_stm.shape(given_flags(flag, kind="stm"))


# --- which kind ------------------------------------------------------------------------------------


def test_each_kind_has_its_own_defaults_and_knows_no_others_flags() -> None:
    """The word behind `benchmark` says which kind; another kind's flag is a slip."""
    assert given_flags(kind="put").number("key-size") == 8
    assert given_flags(kind="watch").number("key-size") == 32
    assert given_flags("--key-size=5", kind="watch").number("key-size") == 5
    for kind, flag in (("put", "--consistency=s"), ("range", "--val-size=1"), ("mvcc put", "--clients=2")):
        with pytest.raises(CommandError, match=f"benchmark {kind} knows no {flag.partition('=')[0]}"):
            given_flags(flag, kind=kind)


@pytest.mark.parametrize("words", [[], ["txn"], ["mvcc"], ["mvcc", "get"]])
def test_a_kind_must_be_named(words: list[str]) -> None:
    """And the ones there are get listed where it is not."""
    with pytest.raises(CommandError, match="of what: put, range, txn-put"):
        bench.kind_of(words)


def test_a_kind_may_be_of_two_words() -> None:
    """What follows are arguments."""
    assert bench.kind_of(["mvcc", "put"]) == ("mvcc put", 2)
    assert bench.kind_of(["range", "a", "b"]) == ("range", 1)


def test_a_flag_of_several_kinds_is_read_in_one_way() -> None:
    """One table reads them all, so that flags and kind may come in any order; only defaults differ."""
    kinds: dict[str, set[str]] = {}
    for kind in bench.KINDS.values():
        for flag in kind.all_flags:
            kinds.setdefault(flag.name, set()).add(flag.kind)
    assert all(len(found) == 1 for found in kinds.values())
    (key_size,) = [flag for flag in bench.benchmark.flags if flag.name == "key-size"]
    assert key_size.help.endswith("(watch: 32, watch-latency: 32, mvcc put: 64)")


# --- the plan --------------------------------------------------------------------------------------


def test_no_connection_is_without_a_client() -> None:
    """More connections than clients would idle, so there are none."""
    flags = given_flags("--conns=10", "--clients=4", "--endpoints=127.0.0.1:1,tcp://127.0.0.1:2")
    plan = bench.make_plan(flags, total=1)
    assert (plan.conns, plan.clients) == (4, 4)
    assert plan.endpoints == ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")


@pytest.mark.parametrize("flag", ["--clients", "--conns"])
def test_counts_are_positive(flag: str) -> None:
    """A load of nothing is a slip."""
    with pytest.raises(CommandError, match=f"expected positive {flag}"):
        bench.make_plan(given_flags(f"{flag}=0"), total=1)


def test_curve_endpoints_need_the_servers_key() -> None:
    """It is said before anything is dialled."""
    with pytest.raises(CommandError, match="--curve-server-key"):
        bench.make_plan(given_flags("--endpoints=curve://127.0.0.1:1"), total=1)


@given(st.integers(1, 50), st.integers(1, 200), st.integers(1, 10_000), st.integers(1, 8))
def test_shares_of_a_plan_make_up_the_whole(conns: int, clients: int, total: int, parts: int) -> None:
    """Several processes send each request once, from all the clients, each over no more connections than clients."""
    plan = Plan(("a", "b", "c"), {}, min(conns, clients), clients, total)
    shares = [plan.share(part, min(parts, plan.conns)) for part in range(min(parts, plan.conns))]
    assert sum(share.clients for share in shares) == clients
    assert [index for share in shares for index in range(share.first, share.first + share.total)] == list(range(total))
    assert all(0 < share.conns <= share.clients for share in shares)


def test_a_rate_is_kept_and_never_made_up_for() -> None:
    """A bucket: what a stall kept from passing is lost, but for a burst."""
    pace = Pace(64, 5)
    pace.begin(10.0)
    assert pace.allowed(50, 10.0) == 1
    pace.spend(1)
    assert pace.allowed(50, 10.0 + 1 / 32) == 2
    pace.spend(2)
    assert pace.allowed(50, 20.0) == 5
    assert pace.allowed(3, 20.0) == 3
    assert Pace(0, 1).allowed(50, 0.0) == 50


def test_no_two_connections_ever_share_a_session() -> None:
    """Neither their first nor a later one: the cluster would answer the writes of one with what it told the other."""
    seen = set()
    for _ in range(2):
        session = Connection(0).session
        session.connected(0, 0)
        session.submit(m.Put(b"a", b"b"), FOREVER)
        for _ in range(2):
            ((_, message),) = session.outgoing(0)
            _, _, name, _, ((request, _, _),) = unpack(message)
            seen.add(name)
            expired = (request, SessionExpired.code, 1, ("7",))
            session.received(0, pack(m.Answers(m.PROTOCOL_VERSION, 1, 1, 1, (expired,))), 0)
            session.tick(1000)
    assert len(seen) == 4


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
    found = json.loads(sections_as_json([Section("", "", Results(1.0, [0.5], starts=[7.0], errors={"x": 1}))]))
    assert found["requests_per_second"] == 1.0
    assert found["percentiles"]["99.9"] == 0.5
    assert found["errors"] == {"x": 1}
    assert found["samples"] == [{"unix_second": 7, "fastest": 0.5, "average": 0.5, "slowest": 0.5, "requests": 1}]


def test_what_was_measured_apart_is_reported_apart() -> None:
    """Each part under its title; in JSON by its name."""
    sections = [Section("read", "Reads:", Results(1.0, [0.5])), Section("write", "Writes:", Results(1.0, [0.5, 0.5]))]
    text = sections_as_text(sections)
    assert text.startswith("Reads:\n\nSummary:\n")
    assert "\n\nWrites:\n\nSummary:\n" in text
    found = json.loads(sections_as_json(sections))
    assert {name: each["requests_per_second"] for name, each in found.items()} == {"read": 1.0, "write": 2.0}
