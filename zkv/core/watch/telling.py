"""A batch of events, to everybody whom it concerns: matched, gathered by party, packed by stream.

One pass serves one *turn* (LIVE, or the number of a slice of history): an event concerns the parties that watch its
key, whose cohort has this turn and stands before the event's revision. A stream whose window is full when the first
event of a revision concerns it is stopped there: its cohorts of this turn stay at the revision before. So windows are
overrun by one revision at most, and a revision is never torn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zkv.core.watch import packing
from zkv.core.watch.packing import Packed
from zkv.wire import messages as m
from zkv.wire.codec import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zkv.core.watch.index import Index
    from zkv.core.watch.parties import Party, Stream

_EVENTS: Final = int(m.WatchKind.EVENTS)
_ENTRY_OVERHEAD: Final = 16
"""What an answer costs beside its ids and events, about."""


def tell(
    batch: Iterable[tuple[int, Iterable[Any]]],
    *,
    turn: int,
    index: Index,
    window: int,
    budget: int,
    flight: int,
    stop: Callable[[Stream, int], None],
) -> list[Stream]:
    """Gather (revision, events) each, in order; the streams that got something, to be given to `flush` each.

    `window`: what may be in flight to one stream; `budget`: to all of them, and twice that for streams that have
    nothing; `flight`: what is. In bytes, all.

    `stop(stream, place)` must take the stream's cohorts out of this turn, at `place` (or where they are, if further).
    """
    streams: list[Stream] = []
    for revision, events in batch:
        for deleted, kv, prev_kv in events:
            plain: Packed | None = None
            full: Packed | None = None
            for party in index.matching(kv[0]):
                cohort = party.cohort
                if cohort.turn != turn or revision <= cohort.place:
                    continue
                _, _, wants_previous, no_put, no_delete, _, _ = party.claim
                if no_delete if deleted else no_put:
                    continue
                stream = cohort.stream
                if stream.open != revision:
                    used = stream.flight + stream.pending
                    if used >= window or flight >= (budget if used else 2 * budget):
                        stop(stream, revision - 1)
                        continue
                    stream.open = revision
                    if not stream.touched:
                        streams.append(stream)
                if wants_previous and prev_kv is not None:
                    if full is None:
                        full = Packed(revision, pack((deleted, kv, prev_kv)))
                    packed = full
                else:
                    if plain is None:
                        plain = Packed(revision, pack((deleted, kv, None)))
                    packed = plain
                size = len(packed.data)
                if party.pending is None:
                    party.pending = [packed]
                    stream.touched.append(party)
                    size += _ENTRY_OVERHEAD
                else:
                    party.pending.append(packed)
                stream.pending += size
                flight += size
    return streams


def flush(streams: Iterable[Stream], told: int, stopped: dict[Stream, int], bytes_max: int) -> int:
    """Make answers of what was gathered for these streams, which brings each to `told`, or where it was stopped.

    Returns the answers' bytes. Streams that are told of one and the same event by the same ids, one behind the other,
    get one and the same entry: so do all that have one watch of a key each.
    """
    total = lone_told = 0
    lone = lone_names = lone_entry = b""
    for stream in streams:
        upto = stopped.get(stream, told) if stopped else told
        touched = stream.touched
        pending = touched[0].pending
        if len(touched) > 1 or pending is None or len(pending) > 1:
            total += _flush(stream, upto, bytes_max)
            continue
        party, packed = touched[0], pending[0].data  # most are so, and this way costs a fraction
        names = party.names()
        if packed is not lone or upto != lone_told or names != lone_names:
            lone, lone_told, lone_names = packed, upto, names
            lone_entry = packing.entry(names, _EVENTS, upto, b"\x91" + packed)
        stream.entries.append(lone_entry)
        _told(party)
        touched.clear()
        stream.pending = stream.open = 0
        size = len(lone_entry)
        stream.flight += size
        total += size
    return total


def _told(party: Party) -> None:
    party.pending = None
    party.quiet = False


def _flush(stream: Stream, told: int, bytes_max: int) -> int:
    """One stream's answers; parties that got the same share one."""
    before = len(stream.entries)
    for parties in _alike(stream.touched):
        first = parties[0]
        names = first.names()
        if len(parties) > 1:
            names = packing.ids(sorted(watch for party in parties for watch in party.ids))
        assert first.pending
        for kind, upto, body in packing.bodies(first.pending, told, bytes_max, fragment=first.claim.fragment):
            stream.entries.append(packing.entry(names, kind, upto, body))
    for party in stream.touched:
        _told(party)
    stream.touched.clear()
    stream.pending = stream.open = 0
    size = sum(map(len, stream.entries[before:]))
    stream.flight += size
    return size


def _alike(parties: list[Party]) -> Iterable[list[Party]]:
    """Together those that got the same events: the very same, as each is packed once."""
    if len(parties) == 1:
        return [parties]
    groups: dict[tuple[int, ...], list[Party]] = {}
    for party in parties:
        assert party.pending
        groups.setdefault((party.claim.fragment, *map(id, party.pending)), []).append(party)
    return groups.values()
