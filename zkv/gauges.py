"""What an actor tells of itself, for metrics: numbers, by name and label, that it keeps anyway or counts per batch.

Counts are since the process began, so that a report that is lost is made good by the next. A duration is counted in the
buckets of etcd's histograms: a millisecond, and fourteen doublings.
"""

from __future__ import annotations

from typing import Final, TypeAlias

Value: TypeAlias = tuple[str, str, int | tuple[int, ...]]
"""Name, label (or ""), and a number, or what `Histogram.counts` gives."""

BUCKETS: Final = 15
"""The last one is for all that took longer than the bound of the one before."""
BOUNDS_S: Final = tuple(0.001 * 2**i for i in range(BUCKETS - 1))
_MILLISECOND_NS: Final = 1_000_000


class Histogram:
    """How often something took how long."""

    __slots__ = ("_counts", "_sum_ns")

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self._sum_ns = 0

    def observe(self, duration_ns: int) -> None:
        self._counts[min((max(duration_ns - 1, 0) // _MILLISECOND_NS).bit_length(), BUCKETS - 1)] += 1
        self._sum_ns += duration_ns

    @property
    def counts(self) -> tuple[int, ...]:
        """The sum of all durations in ns, then how many fell into each bucket."""
        return (self._sum_ns, *self._counts)
