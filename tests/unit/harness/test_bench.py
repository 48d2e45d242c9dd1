"""The arithmetic under `make bench`, which no run would show to be wrong."""

from __future__ import annotations

import pytest

from tests.bench import etcd_calls, etcd_h2load, protobuf, zkv_load
from tests.bench.__main__ import ROWS, Row
from tests.bench.measure import Load, Measure, of, percentile, shares
from zkv.ctl import bench
from zkv.ctl.options import parse

FAST, SLOW = Measure(200.0, 1.0, 2.0), Measure(100.0, 2.0, 4.0)


def test_requests_are_what_etcds_protobuf_says() -> None:
    """Prefix, then fields 1 and 2 as length-delimited bytes; serializable is field 7, a varint."""
    put = b"\x0a\1k" + b"\x12\x80\x02" + b"v" * 256
    assert etcd_calls.put_body(b"k", b"v" * 256) == b"\0\0\0\1\x06" + put
    assert etcd_calls.range_body(b"k", serializable=True) == b"\0\0\0\0\5" + b"\x0a\1k" + b"\x38\1"
    assert etcd_calls.range_body(b"k", serializable=False) == b"\0\0\0\0\3" + b"\x0a\1k"
    assert etcd_calls.txn_put_body(b"k", b"v" * 256)[5:] == b"\x12\x89\x02" + b"\x12\x86\x02" + put
    assert etcd_calls.watch_body(b"k", b"l")[5:] == b"\x0a\6" + b"\x0a\1k" + b"\x12\1l"
    assert etcd_calls.lease_grant_body(100, 7)[5:] == b"\x08\x64\x10\7"
    assert etcd_calls.keep_alive_body(7)[5:] == b"\x08\7"


def test_of_answers_the_load_reads_what_it_needs() -> None:
    """Revisions, whether a watch was created or cancelled, how long a lease lives; what is not there is 0."""
    header = protobuf.field(1, protobuf.field(1, 1 << 63) + protobuf.field(3, 300))
    kv = protobuf.field(1, b"k") + protobuf.field(2, 5) + protobuf.field(3, 70_000)
    event = protobuf.field(etcd_calls.EVENTS, protobuf.field(2, kv))
    told = memoryview(header + protobuf.field(2, 9) + event + event)
    assert etcd_calls.header_revision(told) == 300
    assert etcd_calls.revisions_told(told) == [70_000, 70_000]
    deleted = protobuf.field(etcd_calls.EVENTS, protobuf.field(1, 1) + protobuf.field(2, kv))
    assert etcd_calls.deleted_keys(memoryview(header + event + deleted)) == [b"k"]
    assert not etcd_calls.is_created(told)
    assert etcd_calls.is_created(memoryview(header + protobuf.field(3, 1)))
    assert etcd_calls.is_cancelled(memoryview(header + protobuf.field(4, 1)))
    assert etcd_calls.keep_alive_ttl(memoryview(header + protobuf.field(2, 7) + protobuf.field(3, 100))) == 100
    assert etcd_calls.keep_alive_ttl(memoryview(header)) == 0


def test_only_the_time_in_which_every_generator_ran_counts() -> None:
    """One began late and one ended early: what came in between was served under the whole load."""
    early = [(0.0, 1e6), (1e6, 1e6), (2e6, 1e6)]  # ends at 3 s
    late = [(1e6, 1e6), (2e6, 2e6)]  # begins at 1 s
    found = etcd_h2load.measure([early, late])
    assert found.rate == pytest.approx(4 / 2)  # at 1, 2, 2 and 3 s, in two seconds
    assert found.p50_ms == 1000


def test_shares_differ_by_one_at_most() -> None:
    """Three endpoints and 100 connections: 34, 33 and 33."""
    assert shares(100, 3) == [34, 33, 33]


def test_a_rate_is_to_be_high_and_a_latency_low() -> None:
    """The bar of a rate is a floor, that of a latency a ceiling; both ratios are zkv : etcd."""
    rate = Row(Load("", "put", 1, 1, 1), bar=2.0)
    latency = Row(Load("", "put", 1, 1, 1), bar=1.2, latency=True)
    assert rate.passed(rate.ratio(FAST, SLOW))
    assert not rate.passed(rate.ratio(SLOW, FAST))
    assert latency.passed(latency.ratio(FAST, SLOW))
    assert not latency.passed(latency.ratio(SLOW, FAST))


def test_loads_divide_evenly_over_their_connections() -> None:
    """h2load gives each connection the same number of clients."""
    assert all(row.load.clients % row.load.conns == 0 for row in ROWS)


def test_percentiles_come_from_the_list() -> None:
    """The largest is the 100th."""
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 3.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 100) == 4.0


def test_a_measure_is_of_all_that_was_answered() -> None:
    """A rate over the whole time; latencies in milliseconds."""
    assert of([0.003, 0.001, 0.002], 2.0) == Measure(1.5, 2.0, 3.0)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.load.name)
def test_each_load_is_one_that_zkv_benchmark_knows(row: Row) -> None:
    """Its words name a kind, and that kind has these flags."""
    values, arguments = parse(zkv_load.words(row.load), bench.benchmark.all_flags)
    bench.values_of(bench.kind_of(arguments)[0], values)
