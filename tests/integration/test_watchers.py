"""Watches on real processes: through kills, past stopped clients, and what they leave behind.

The long form of the kills is tests/torture/watchers.py.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING

import pytest
import zmq

import zkv
from tests.harness.processes import children, heap_bytes, wait_until
from tests.harness.watch_worker import END, WatchWorker, told
from tests.torture.watchers import play
from zkv.client.feed import ASIDE
from zkv.testing import LocalCluster
from zkv.wire.codec import unpack
from zkv.wire.messages import ClientKind

if TYPE_CHECKING:
    from collections.abc import Iterator

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def single() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=1, storage="memory") as cluster:
        yield cluster


def test_a_hundred_watchers_are_told_everything_whoever_is_killed() -> None:
    """The leader's whole tree, then each actor of a member in turn, by kill -9: every event once, in order."""
    with LocalCluster(nodes=3) as cluster:
        owed, results = play(cluster, watchers=100, connections=10, processes=2, leader_kills=1, writes=20)
    assert owed.count > 100
    assert set(results) == {owed}
    assert len(results) == 100


def test_a_stopped_client_costs_a_window_and_hurts_nobody(single: LocalCluster) -> None:
    """Its process is stopped, much happens, others are told at once; when it goes on it is told everything."""
    actors = children(single.pid(0))
    with single.client() as kv:
        first = kv.status().revision + 1
        options = {"watchers": 20, "connections": 2, "from_revision": first}
        with WatchWorker(single.endpoints, **options) as stopped, WatchWorker(single.endpoints, **options) as other:
            stopped.wait_ready()
            other.wait_ready()
            kv.put("w/first", bytes(1000))
            before = {name: heap_bytes(actors[name]) for name in ("gateway", "watch")}
            stopped.pause()
            try:
                with kv.watch(prefix="w/", from_revision=first) as mine:
                    for number in range(2500):
                        kv.put(f"w/{number:05}", bytes(4000))
                    revision = kv.put(END).revision
                    while mine.next(10).revision < revision:  # type: ignore[union-attr] # it comes in time
                        pass
                owed = told((kv_.mod_revision, kv_.key) for kv_ in _in_order(kv) if kv_.key != END)
                assert set(other.results()) == {owed}
                grown = {name: heap_bytes(actors[name]) - before[name] for name in before}
            finally:
                stopped.resume()
            assert set(stopped.results()) == {owed}
    assert max(grown.values()) < 6 * MEBIBYTE, f"10 MiB were told, two connections may hold a MiB each: {grown}"


def _in_order(kv: zkv.Client) -> list[zkv.KeyValue]:
    return sorted(kv.range(prefix="w/"), key=lambda record: record.mod_revision)


def test_thousands_of_watches_that_come_and_go_leave_nothing_behind(single: LocalCluster) -> None:
    """Neither in the node's processes nor in the client."""
    actors = children(single.pid(0))
    sizes = []
    with single.client() as kv:
        for _ in range(4):
            for _ in range(20):
                watches = [kv.watch(f"x/{number}", from_revision=1) for number in range(100)]
                watches[-1].wait_created(10)
                for watch in watches:
                    watch.cancel()
            with kv.watch("x") as last:  # words keep their order: when this one is there, the others are gone
                del watches, watch
            assert last.revision == 0
            sizes.append(sum(heap_bytes(actors[name]) for name in ("gateway", "watch")))
        watching = kv._session.watching
        wait_until(
            lambda: not watching._feeds and not any(line.ending for line in watching._lines.values()), "all gone"
        )
        assert [*watching._sent, *watching._news, watching._shelf.held] == [0]
    growths = [later - earlier for earlier, later in itertools.pairwise(sizes)]
    # A heap under load grows now and then, a leak each time.
    assert min(growths) < MEBIBYTE, f"each 2,000 watches that came and went left something behind: {sizes}"


def test_a_watch_that_is_not_read_does_not_hold_up_another(single: LocalCluster) -> None:
    """They share a connection and its window; later it is told everything all the same."""
    with single.client() as kv:
        first = kv.status().revision + 1
        with kv.watch(prefix="s/", from_revision=first) as slow, kv.watch(prefix="q/", from_revision=first) as quick:
            for number in range(800):
                kv.put(f"s/{number}", bytes(4000))
            kv.put("q/1")
            response = quick.next(20)
            assert response is not None
            assert [event.key for event in response.events] == [b"q/1"]
            keys = [next(slow).events[0].key for _ in range(800)]
    assert keys == [b"s/%d" % number for number in range(800)]


def test_cancel_waits_for_nobody_and_wakes_who_waits(single: LocalCluster) -> None:
    """The member it is at need not even be able to hear of it."""
    with single.client() as kv:
        watch = kv.watch("nobody puts this")
        found: list[object] = []
        reader = threading.Thread(target=lambda: found.append(list(watch)))
        reader.start()
        single.pause(0)
        try:
            watch.cancel()
            reader.join(10)
            assert found == [[]]
        finally:
            single.resume(0)


def test_a_client_that_closes_says_so_to_the_member() -> None:
    """Or it would keep the place of a connection with watches until its silence is noticed."""
    context = zmq.Context()
    member = context.socket(zmq.ROUTER)
    member.linger = 0
    member.rcvtimeo = 10_000
    port = member.bind_to_random_port("tcp://127.0.0.1")
    try:
        with zkv.Client(f"tcp://127.0.0.1:{port}") as kv:
            watch = kv.watch("a", from_revision=1)
            kinds = [unpack(member.recv_multipart()[1])[1]]
        kinds.append(unpack(member.recv_multipart()[1])[1:])
        assert kinds == [ClientKind.WATCH, (ClientKind.UNWATCH, 0)]
        with pytest.raises(zkv.errors.ClientClosed):
            next(watch)
    finally:
        member.close()
        context.term()


def test_a_watch_of_compacted_history_says_from_where_it_is_kept(single: LocalCluster) -> None:
    with single.client() as kv:
        kv.put("c", "1")
        revision = kv.put("c", "2").revision
        kv.compact(revision)
        with pytest.raises(zkv.errors.Compacted) as caught, kv.watch("c", from_revision=1) as watch:
            next(watch)
    assert caught.value.compact_revision == revision


def test_a_cache_follows_the_cluster(single: LocalCluster) -> None:
    events: list[tuple[str, bytes]] = []
    with single.client() as kv, single.client() as other:
        kv.put("k/a", "1")
        with other.cache("k/", on_event=lambda event: events.append((event.type, event.key))) as cache:
            assert cache["k/a"].value == b"1"
            kv.put("k/b", "2")
            kv.delete("k/a")
            revision = kv.put("elsewhere").revision
            cache.wait(revision)
            assert dict(cache.items()) == {b"k/b": kv.get("k/b")}
            assert (cache.get(b"k/a"), cache["k/b"].value, len(cache), list(cache)) == (None, b"2", 1, [b"k/b"])
            with pytest.raises(zkv.errors.DeadlineExceeded):
                cache.wait(revision + 1000, timeout=0.1)
    assert events == [("PUT", b"k/a"), ("PUT", b"k/b"), ("DELETE", b"k/a")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its traceback is told, too
@pytest.mark.parametrize("failure", [RuntimeError("ours"), zkv.errors.DeadlineExceeded("ours")])
def test_a_cache_whose_callback_fails_does_not_pass_for_current(single: LocalCluster, failure: Exception) -> None:
    """It follows no more, and says so to who waits, with what the callback raised."""

    def fail(event: zkv.WatchEvent) -> None:
        if event.key == b"c/b":
            raise failure

    async def main() -> None:
        async with zkv.AsyncClient(single.endpoints) as kv, kv.cache("c/", on_event=fail) as cache:
            revision = (await kv.put("c/b", "2")).revision
            with pytest.raises(type(failure), match="ours"):
                await cache.wait(revision + 1)
            assert cache.error is failure

    with single.client() as kv:
        kv.delete(prefix="c/")
        kv.put("c/a", "1")
        with kv.cache("c/", on_event=fail) as cache:
            revision = kv.put("c/b", "2").revision
            with pytest.raises(type(failure), match="ours"):
                cache.wait(revision + 1)
            assert cache.error is failure
        kv.delete(prefix="c/")
    asyncio.run(main())


def test_a_cache_whose_history_is_gone_lists_again(single: LocalCluster) -> None:
    """Its reader was away for so long that its watch was put aside, and the history compacted."""
    go_on = threading.Event()
    go_on.set()
    with single.client() as kv, single.client() as other:
        kv.put("l/gone", "1")
        with other.watch("nobody puts this"), other.cache("l/", on_event=lambda _: go_on.wait()) as cache:
            go_on.clear()
            for number in range(400):
                kv.put("l/many", bytes(4000) + b"%d" % number)
            (feed,) = [feed for feed in other._session.watching._feeds if feed.asked.key == b"l/"]
            wait_until(lambda: feed.state is ASIDE, "the watch of the cache is put aside")
            kv.delete("l/gone")
            revision = kv.put("l/new", "2").revision
            kv.compact(revision)
            go_on.set()
            cache.wait(revision, timeout=10)
            assert cache.snapshot() == {record.key: record for record in kv.range(prefix="l/")}
            assert set(cache) == {b"l/many", b"l/new"}


def test_the_asynchronous_client_watches_in_the_same_way(single: LocalCluster) -> None:
    """Responses, single events, waits with a timeout, the end, and a cache."""

    async def main() -> None:
        async with zkv.AsyncClient(single.endpoints) as kv:
            async with kv.watch(prefix="y/") as watch:
                assert await watch.next(0.01) is None
                revision = (await kv.put("y/a", "1")).revision
                await kv.delete("y/a")
                response = await watch.next(10)
                assert response is not None
                assert (response.revision, response.events[0].value, watch.revision) == (revision, b"1", revision)
                async for event in watch.events:
                    assert (event.type, event.key) == ("DELETE", b"y/a")
                    break
                watch.request_progress()
                progress = await watch.next(10)
                assert progress is not None
                assert progress.progress
                reader = asyncio.create_task(_all_of(watch))
                watch.cancel()
                assert await reader == []
            async with kv.cache("y/") as cache:
                await cache.wait((await kv.put("y/b", "2")).revision)
                assert cache["y/b"].value == b"2"
            await kv.compact((await kv.put("y/c")).revision)
            with pytest.raises(zkv.errors.Compacted):
                await _all_of(kv.watch("y/c", from_revision=1))
            late = kv.watch("y/c", from_revision=1)
        with pytest.raises(zkv.errors.ClientClosed):
            await late.next()

    asyncio.run(main())


async def _all_of(watch: zkv.AsyncWatch) -> list[zkv.WatchResponse]:
    return [response async for response in watch]
