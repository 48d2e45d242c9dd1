"""What has happened, read again for watchers that catch up: whole revisions, in bounded steps.

The events lie in the engine in the order they happened (layout.py), each naming what it superseded, so a slice is one
scan, and where prev_kv is wanted one more look per event.

What was superseded is told as long as it could be read, which is at the revision before: of the events of the
compacted revision itself, the first that can be watched, nobody learns any more what they superseded. As in etcd,
and whether the records are still there, physically, makes no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zkv.core.mvcc import layout
from zkv.wire.messages import Event, History, HistoryWanted, KeyValue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zkv.core.mvcc.engine import Reader
    from zkv.core.mvcc.layout import EventRecord

STEP_EVENTS: Final = 500
STEP_BYTES: Final = 256 << 10
EVENT_OVERHEAD_BYTES: Final = 48
"""What an event costs beside its key and value, and those it superseded."""


def event_bytes(event: Event) -> int:
    _, kv, prev_kv = event
    size = EVENT_OVERHEAD_BYTES + len(kv[0]) + len(kv[4])
    return size if prev_kv is None else size + EVENT_OVERHEAD_BYTES + len(prev_kv[4])


def read(reader: Reader, wanted: HistoryWanted, revision: int, compacted: int) -> Iterator[History | None]:
    """None after each bounded step, at last the slice.

    `reader` must stand still at `revision`, with `compacted` in force there. `wanted.first` is at most `revision`.
    """
    if wanted.first < compacted:
        yield History(wanted.ticket, wanted.first, 0, (), compacted)
        return
    if wanted.first < 0:  # -1, and nothing is compacted: etcd finds nothing there
        yield History(wanted.ticket, wanted.first, revision, ())
        return
    assert wanted.first <= revision
    events: list[tuple[int, tuple[Event, ...]]] = []
    now: list[Event] = []  # those of the revision that is being read
    at = held = 0
    start = layout.event_key(wanted.first, 0)
    for step in _steps(reader, start, layout.event_key(revision + 1, 0)):
        previous = _superseded(reader, step, compacted) if wanted.prev_kv else None
        for number, record in enumerate(step):
            if record.revision != at:
                if now:
                    events.append((at, tuple(now)))
                if held >= wanted.bytes_max:
                    yield History(wanted.ticket, wanted.first, at, tuple(events))
                    return
                now, at = [], record.revision
            event = Event(record.tombstone, record.kv, previous[number] if previous else None)
            held += event_bytes(event)
            now.append(event)
        yield None
    if now:
        events.append((at, tuple(now)))
    yield History(wanted.ticket, wanted.first, revision, tuple(events))


def _steps(reader: Reader, start: bytes, end: bytes) -> Iterator[list[EventRecord]]:
    step: list[EventRecord] = []
    held = 0
    for name, record in reader.scan(start, end):
        step.append(layout.event_record(name, record))
        held += len(record)
        if len(step) == STEP_EVENTS or held >= STEP_BYTES:
            yield step
            step, held = [], 0
    if step:
        yield step


def _superseded(reader: Reader, step: Sequence[EventRecord], compacted: int) -> list[KeyValue | None]:
    """Of each event, what its key was before."""
    wanted = [
        (number, layout.event_key(*record.superseded))
        for number, record in enumerate(step)
        if record.superseded != (0, 0) and record.revision > compacted
    ]
    found: list[KeyValue | None] = [None] * len(step)
    records = reader.get_many([name for _, name in wanted])
    for (number, name), record in zip(wanted, records, strict=True):
        if record is not None:
            found[number] = layout.event_record(name, record).kv
    return found
