"""What `zkv benchmark watch` counts, and how it is told apart which put an event is of."""

from __future__ import annotations

import pytest

from zkv.ctl.bench_watchers import ALIVE_S, CREDIT_BYTES, Arrivals, Stream
from zkv.ctl.bench_watching import shares
from zkv.errors import Compacted, StreamLost, ZkvError
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack

KEY = b"k" * 8


def said(*watches: tuple[tuple[int, ...], int, int, object]) -> bytes:
    return pack(m.Answers(m.PROTOCOL_VERSION, 1, 1, 1, (), 0, watches))


def event(revision: int) -> tuple[bool, m.KeyValue, None]:
    return False, m.KeyValue(KEY, 1, revision, 1, b"v", 0), None


def created(stream: Stream, count: int) -> None:
    stream.begin([m.Watch(0, KEY)] * count, 0.0)
    assert stream.received(said((tuple(range(1, count + 1)), m.WatchKind.CREATED, 7, ()))) == []
    assert stream.created == stream.begun == count


def test_watches_of_a_stream_are_numbered_on() -> None:
    """Ids are never used twice on a connection."""
    stream = Stream(0)
    ids = []
    for _ in range(2):
        _, kind, watches = unpack(stream.begin([m.Watch(0, KEY), m.Watch(0, KEY)], 0.0))
        assert kind == m.ClientKind.WATCH
        ids += [watch[0] for watch in watches]
    assert ids == [1, 2, 3, 4]


def test_what_many_watchers_are_told_at_once_is_counted_at_once() -> None:
    """Two events told to three watchers are six; a fragment counts as what it holds."""
    stream = Stream(0)
    created(stream, 3)
    told = stream.received(said(((1, 2, 3), m.WatchKind.EVENTS, 9, (event(8), event(9)))))
    assert told == [(3, (8, 9))]
    assert stream.received(said(((1,), m.WatchKind.FRAGMENT, 9, (event(9),)))) == [(1, (9,))]
    assert stream.received(said(((1,), m.WatchKind.PROGRESS, 9, ()))) == []


@pytest.mark.parametrize(("code", "error"), [(Compacted.code, Compacted), (0, StreamLost)])
def test_a_watch_that_is_cancelled_ends_the_run(code: int, error: type[ZkvError]) -> None:
    """Its events would never come."""
    stream = Stream(0)
    created(stream, 1)
    with pytest.raises(error):
        stream.received(said(((1,), m.WatchKind.CANCELLED, 0, (code, 0, 0))))


def test_a_message_that_is_refused_ends_the_run() -> None:
    """With what the server says."""
    refused = m.Answers(m.PROTOCOL_VERSION, 1, 1, 1, ((0, Compacted.code, 0, ("why",)),))
    with pytest.raises(Compacted, match="why"):
        Stream(0).received(pack(refused))


def test_what_was_taken_is_said_before_the_window_is_full() -> None:
    """And a stream that takes nothing says now and then that it is there; before it has watches, nothing."""
    stream = Stream(0)
    assert stream.due(ALIVE_S * 2) is None
    created(stream, 1)
    data = said(
        ((1,), m.WatchKind.EVENTS, 9, (event(9), (False, m.KeyValue(KEY, 1, 9, 1, b"v" * CREDIT_BYTES, 0), None)))
    )
    assert stream.due(ALIVE_S / 2) is None
    stream.received(data)
    message = stream.due(ALIVE_S / 2)
    assert message is not None
    _, kind, taken = unpack(message)
    assert kind == m.ClientKind.WATCH_CREDIT
    assert taken > len(data)
    assert stream.due(ALIVE_S / 2) is None
    message = stream.due(ALIVE_S * 2)
    assert message is not None
    assert unpack(message)[2] == 0


def test_an_event_waits_for_the_answer_that_tells_which_put_it_was() -> None:
    """Whichever comes first: the time since asking is the same, that since the answer never below nothing."""
    arrivals = Arrivals()
    arrivals.told((2, (5,)), 1.5)
    assert arrivals.after_asking.latencies == []
    arrivals.answered(5, 1.0, 2.0)
    arrivals.told((1, (5,)), 4.0)
    assert arrivals.events == 3
    assert arrivals.after_asking.latencies == [0.5, 0.5, 3.0]
    assert arrivals.after_answer.latencies == [0.0, 0.0, 2.0]


def test_watchers_are_dealt_evenly() -> None:
    """Over streams, none with two more than another."""
    assert shares(10, 4) == [3, 3, 2, 2]
