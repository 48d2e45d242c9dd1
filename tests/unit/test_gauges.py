"""What actors tell of themselves."""

from __future__ import annotations

import pytest

from zkv.gauges import BOUNDS_S, BUCKETS, Histogram


def test_the_bounds_are_those_of_etcds_histograms() -> None:
    assert BOUNDS_S == (
        0.001,
        0.002,
        0.004,
        0.008,
        0.016,
        0.032,
        0.064,
        0.128,
        0.256,
        0.512,
        1.024,
        2.048,
        4.096,
        8.192,
    )


@pytest.mark.parametrize("bucket", range(BUCKETS - 1))
def test_a_bound_belongs_to_its_bucket_and_what_is_beyond_to_the_next(bucket: int) -> None:
    """As Prometheus means `le`."""
    bound_ns = round(BOUNDS_S[bucket] * 1e9)
    for duration, expected in ((bound_ns, bucket), (bound_ns + 1, bucket + 1)):
        histogram = Histogram()
        histogram.observe(duration)
        total, *counts = histogram.counts
        assert (total, counts) == (duration, [int(i == expected) for i in range(BUCKETS)])


def test_what_takes_no_time_and_what_takes_hours_is_counted_too() -> None:
    histogram = Histogram()
    histogram.observe(0)
    histogram.observe(10**13)
    assert histogram.counts == (10**13, 1, *[0] * (BUCKETS - 2), 1)
