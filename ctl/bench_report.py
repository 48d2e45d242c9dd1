"""What a benchmark says in the end: the summary, histogram and percentiles that users of etcd's tool read.

Pure arithmetic on the latencies of the requests that were answered, and the texts of those that failed. A benchmark
that measures several things has a section for each.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PERCENTS = (10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
BUCKETS = 10
BAR_LENGTH = 40
BAR = "∎"


@dataclass(slots=True)
class Results:
    """Raw outcome of a run, in seconds. `starts` runs beside `latencies`, by the wall clock, and may be left empty."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Requests, answered or failed."""
        return len(self.latencies) + sum(self.errors.values())

    def fail(self, error: object) -> None:
        """Count a request that failed."""
        text = str(error)
        self.errors[text] = self.errors.get(text, 0) + 1

    def merge(self, other: Results) -> None:
        """Take in what another process measured over the same time."""
        self.seconds = max(self.seconds, other.seconds)
        self.latencies += other.latencies
        self.starts += other.starts
        for text, count in other.errors.items():
            self.errors[text] = self.errors.get(text, 0) + count


class Section(NamedTuple):
    """One of the things a benchmark measured: its name for programs, the line above its summary for people."""

    name: str
    title: str
    results: Results


class Bucket(NamedTuple):
    """`requests` of them took up to `seconds`, and longer than the bucket before."""

    seconds: float
    requests: int


class Second(NamedTuple):
    """The requests begun in one second of the wall clock; latencies in seconds."""

    unix_second: int
    fastest: float
    average: float
    slowest: float
    requests: int


class Report(NamedTuple):
    """Times in seconds. Without any answer all figures are 0."""

    total: float
    slowest: float
    fastest: float
    average: float
    stddev: float
    requests_per_second: float
    histogram: tuple[Bucket, ...]
    percentiles: tuple[tuple[float, float], ...]
    errors: tuple[tuple[str, int], ...]
    samples: tuple[Second, ...] = ()


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that `percent` of `ordered` (ascending, not empty) lie below."""
    return ordered[min(math.ceil(len(ordered) * percent / 100), len(ordered) - 1)]


def histogram(ordered: Sequence[float]) -> tuple[Bucket, ...]:
    """`ordered` (ascending, not empty) in eleven buckets of even width, the first holding the fastest alone."""
    fastest, slowest = ordered[0], ordered[-1]
    bounds = [fastest + (slowest - fastest) * step / BUCKETS for step in range(BUCKETS)] + [slowest]
    counts = [0] * len(bounds)
    bucket = 0
    for latency in ordered:
        while latency > bounds[bucket]:
            bucket += 1
        counts[bucket] += 1
    return tuple(map(Bucket, bounds, counts))


def seconds(starts: Iterable[float], latencies: Iterable[float]) -> tuple[Second, ...]:
    """One row per second from the first to the last request begun, empty seconds included."""
    rows: dict[int, list[float]] = {}
    for start, latency in zip(starts, latencies, strict=True):
        rows.setdefault(int(start), []).append(latency)
    ordered = sorted(rows)
    for before, after in pairwise(ordered):
        for empty in range(before + 1, after):
            rows[empty] = []
    return tuple(
        Second(second, min(row), sum(row) / len(row), max(row), len(row)) if row else Second(second, 0, 0, 0, 0)
        for second, row in sorted(rows.items())
    )


def report(results: Results) -> Report:
    ordered = sorted(results.latencies)
    errors = tuple(sorted(results.errors.items()))
    if not ordered:
        return Report(results.seconds, 0, 0, 0, 0, 0, (), (), errors)
    average = sum(ordered) / len(ordered)
    return Report(
        total=results.seconds,
        slowest=ordered[-1],
        fastest=ordered[0],
        average=average,
        stddev=math.sqrt(sum((latency - average) ** 2 for latency in ordered) / len(ordered)),
        requests_per_second=len(ordered) / results.seconds,
        histogram=histogram(ordered),
        percentiles=tuple((percent, percentile(ordered, percent)) for percent in PERCENTS),
        errors=errors,
        samples=seconds(results.starts, results.latencies) if results.starts else (),
    )


def as_text(found: Report, *, precise: bool = False) -> str:
    """The report for people, laid out as etcd's tool does; `precise` prints all digits."""

    def number(value: float) -> str:
        return f"{value:g}" if precise else f"{value:.4f}"

    lines: list[str] = []
    if found.histogram:
        lines += ["", "Summary:"]
        lines += [
            f"  {title}:\t{number(value)} secs."
            for title, value in (
                ("Total", found.total),
                ("Slowest", found.slowest),
                ("Fastest", found.fastest),
                ("Average", found.average),
                ("Stddev", found.stddev),
            )
        ]
        lines += [f"  Requests/sec:\t{number(found.requests_per_second)}", "", "Response time histogram:"]
        most = max(bucket.requests for bucket in found.histogram)
        lines += [
            f"  {number(bucket.seconds)} [{bucket.requests}]\t|{BAR * (bucket.requests * BAR_LENGTH // most)}"
            for bucket in found.histogram
        ]
        lines += ["", "Latency distribution:"]
        lines += [f"  {percent:g}% in {number(value)} secs." for percent, value in found.percentiles]
    if found.samples:
        lines += ["", "Sample in one second (unix latency throughput):"]
        lines += ["UNIX-SECOND,MIN-LATENCY-MS,AVG-LATENCY-MS,MAX-LATENCY-MS,AVG-THROUGHPUT"]
        lines += [
            f"{row.unix_second},{row.fastest * 1e3:.3f},{row.average * 1e3:.3f},{row.slowest * 1e3:.3f},{row.requests}"
            for row in found.samples
        ]
    if found.errors:
        lines += ["", "Error distribution:"]
        lines += [f"  [{count}]\t{text}" for text, count in found.errors]
    return "\n".join(lines)


def as_fields(found: Report) -> dict[str, object]:
    """The report for programs: times in seconds, under the names of `Report`."""
    fields: dict[str, object] = found._asdict()
    fields["histogram"] = [bucket._asdict() for bucket in found.histogram]
    fields["percentiles"] = {f"{percent:g}": value for percent, value in found.percentiles}
    fields["errors"] = dict(found.errors)
    fields["samples"] = [row._asdict() for row in found.samples]
    return fields


def sections_as_text(sections: Sequence[Section], *, precise: bool = False) -> str:
    """All reports for people, one below the other."""
    parts = []
    for section in sections:
        text = as_text(report(section.results), precise=precise)
        parts.append("\n".join(filter(None, (section.title, text))))
    return "\n\n".join(parts)


def sections_as_json(sections: Sequence[Section]) -> str:
    """All reports on one line: by the sections' names, or, where there is one section only, itself."""
    found = {section.name: as_fields(report(section.results)) for section in sections}
    return json.dumps(found if len(found) > 1 else next(iter(found.values())))
