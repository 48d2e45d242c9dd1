"""What a cache makes of lists and of what a watch tells."""

from __future__ import annotations

from zkv.client.cache import CacheState
from zkv.client.ticket import Header
from zkv.client.watch_events import WatchEvent, WatchResponse
from zkv.wire.messages import KeyValue


def kv(key: bytes, revision: int, value: bytes = b"") -> KeyValue:
    return KeyValue(key, revision, revision, 1, value, 0)


def deleted(key: bytes, revision: int) -> KeyValue:
    return KeyValue(key, 0, revision, 0, b"", 0)


def response(revision: int, *events: WatchEvent, progress: bool = False) -> WatchResponse:
    return WatchResponse(Header(1, 2, revision, 3), events, progress)


def test_a_first_list_is_news_as_a_whole() -> None:
    state = CacheState()
    assert state.load([kv(b"a", 3), kv(b"b", 4)], 9) == [
        WatchEvent("PUT", kv(b"a", 3), None),
        WatchEvent("PUT", kv(b"b", 4), None),
    ]
    assert (state.revision, set(state.kvs)) == (9, {b"a", b"b"})


def test_events_change_it_and_tell_what_they_superseded() -> None:
    state = CacheState()
    state.load([kv(b"a", 3)], 9)
    events = state.apply(response(10, WatchEvent("DELETE", deleted(b"a", 10)), WatchEvent("PUT", kv(b"b", 10))))
    assert [(event.type, event.prev_kv) for event in events] == [("DELETE", kv(b"a", 3)), ("PUT", None)]
    assert (state.revision, state.kvs) == (10, {b"b": kv(b"b", 10)})
    assert state.apply(response(20, progress=True)) == []
    assert state.revision == 20


def test_another_list_tells_what_has_changed_meanwhile() -> None:
    """Keys that are gone, new ones, and those put since; what was put and deleted in between, nobody learns of."""
    state = CacheState()
    state.load([kv(b"a", 3), kv(b"b", 4), kv(b"c", 5)], 9)
    assert state.load([kv(b"b", 4), kv(b"c", 30), kv(b"d", 31)], 40) == [
        WatchEvent("DELETE", deleted(b"a", 40), kv(b"a", 3)),
        WatchEvent("PUT", kv(b"c", 30), kv(b"c", 5)),
        WatchEvent("PUT", kv(b"d", 31), None),
    ]
    assert state.revision == 40
