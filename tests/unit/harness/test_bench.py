"""The arithmetic under `make bench`, which no run would show to be wrong."""

from __future__ import annotations

import pytest

from tests.bench import etcd_load
from tests.bench.__main__ import ROWS, Row
from tests.bench.measure import Load, Measure, percentile

FAST, SLOW = Measure(200.0, 1.0, 2.0), Measure(100.0, 2.0, 4.0)


def test_requests_are_what_etcds_protobuf_says() -> None:
    """Prefix, then fields 1 and 2 as length-delimited bytes; serializable is field 7, a varint."""
    assert etcd_load.put_body(b"k", b"v" * 256) == b"\0\0\0\1\x06" + b"\x0a\1k" + b"\x12\x80\x02" + b"v" * 256
    assert etcd_load.range_body(b"k", serializable=True) == b"\0\0\0\0\5" + b"\x0a\1k" + b"\x38\1"
    assert etcd_load.range_body(b"k", serializable=False) == b"\0\0\0\0\3" + b"\x0a\1k"


def test_only_the_time_in_which_every_generator_ran_counts() -> None:
    """One began late and one ended early: what came in between was served under the whole load."""
    early = [(0.0, 1e6), (1e6, 1e6), (2e6, 1e6)]  # ends at 3 s
    late = [(1e6, 1e6), (2e6, 2e6)]  # begins at 1 s
    found = etcd_load.measure([early, late])
    assert found.rate == pytest.approx(4 / 2)  # at 1, 2, 2 and 3 s, in two seconds
    assert found.p50_ms == 1000


def test_shares_differ_by_one_at_most() -> None:
    """Three endpoints and 100 connections: 34, 33 and 33."""
    assert etcd_load.shares(100, 3) == [34, 33, 33]


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
