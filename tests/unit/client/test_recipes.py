"""Barriers, queues, compare-and-swap, touch: step by step, in a world that a seed turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.client.recipe_world import World
from zkv import errors
from zkv.client import calls
from zkv.client.barrier import Barrier, DoubleBarrier
from zkv.client.queue import PriorityQueue, Queue
from zkv.client.recipes import compare_and_delete, compare_and_swap, touching
from zkv.client.steps import Pause, ask
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.client.steps import Steps

NOBODY: Any = None  # the client: here the world drives
TTL = 5
SEEDS = range(20)


def put(world: World, key: bytes, value: bytes = b"", lease: int = 0) -> Any:
    return world.run(ask(calls.put(m.Put(key, value, lease))))


class TestBarrier:
    def test_it_holds_all_until_it_is_released(self) -> None:
        world, barrier = World(), Barrier(NOBODY, "b")
        world.run(barrier.waiting())
        world.run(barrier.holding(0))
        with pytest.raises(errors.KeyExists, match="key already exists"):
            world.run(barrier.holding(0))
        waiting = [world.start(barrier.waiting()) for _ in range(5)]
        world.settle()
        assert not any(process.done for process in waiting)
        world.run(barrier.releasing())
        world.settle()
        assert all(process.done and not process.error for process in waiting)

    def test_one_that_was_away_beyond_compaction_looks_again(self) -> None:
        world, barrier = World(), Barrier(NOBODY, "b")
        world.run(barrier.holding(0))
        waiting = world.start(barrier.waiting())
        world.settle()
        waiting.stopped = True
        world.run(barrier.releasing())
        world.compact()
        waiting.stopped = False
        world.until(lambda: waiting.done)
        assert waiting.error is None


class TestDoubleBarrier:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_none_is_in_before_all_are_and_none_out_before_all_are(self, seed: int) -> None:
        world = World(seed)
        entered, left, returned = [0], [0], [0]

        def visiting() -> Steps[None]:
            barrier = DoubleBarrier(NOBODY, "d", 4, TTL)
            yield Pause(world.rng.randrange(1, 500))
            entered[0] += 1
            yield from barrier.entering()
            assert entered[0] == 4
            yield Pause(world.rng.randrange(1, 500))
            left[0] += 1
            yield from barrier.leaving()
            assert left[0] == 4
            returned[0] += 1

        visitors = [world.start(visiting()) for _ in range(4)]
        world.until(lambda: all(each.done for each in visitors))
        assert [each.error for each in visitors] == [None] * 4
        assert not world.store.kvs
        assert not world.store.leases

    @pytest.mark.parametrize("seed", SEEDS)
    def test_one_too_many_is_sent_away(self, seed: int) -> None:
        """And leaves nothing behind that the others would wait for."""
        world = World(seed)
        visitors = [world.start(DoubleBarrier(NOBODY, "d", 3, TTL).entering()) for _ in range(5)]
        world.until(lambda: all(each.done for each in visitors))
        refused = [each.error for each in visitors if each.error]
        assert [type(error) for error in refused] == [errors.TooManyClients] * 2
        assert sum(key.startswith(b"d/waiters/") for key in world.store.kvs) == 3

    @pytest.mark.parametrize("seed", SEEDS)
    def test_who_dies_inside_has_left_when_its_lease_ends(self, seed: int) -> None:
        world = World(seed)

        def visiting() -> Steps[None]:
            barrier = DoubleBarrier(NOBODY, "d", 4, TTL)
            yield from barrier.entering()
            yield Pause(300)
            yield from barrier.leaving()

        visitors = [world.start(visiting()) for _ in range(4)]
        world.until(lambda: any(isinstance(each.effect, Pause) for each in visitors))
        victim = visitors.pop(world.rng.randrange(4))
        world.until(lambda: isinstance(victim.effect, Pause))
        world.kill(victim)
        world.until(lambda: all(each.done for each in visitors))
        assert [each.error for each in visitors] == [None] * 3

    def test_who_gives_up_waiting_is_outside_again(self) -> None:
        world, barrier = World(), DoubleBarrier(NOBODY, "d", 2, TTL)
        alone = world.start(barrier.entering(), timeout_ms=1000)
        world.until(lambda: alone.done)
        assert isinstance(alone.error, errors.DeadlineExceeded)
        assert not world.store.kvs
        with pytest.raises(errors.InvalidRequest):
            world.run(barrier.leaving())


class TestQueue:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_each_item_is_taken_once_and_they_come_in_order(self, seed: int) -> None:
        """Several producers, several consumers; what one producer put comes in its order."""
        world = World(seed)
        taken: list[bytes] = []

        def producing(name: int) -> Steps[None]:
            queue = Queue(NOBODY, "q")
            for number in range(10):
                yield from queue.putting(b"%d:%02d" % (name, number))

        def consuming() -> Steps[None]:
            queue = Queue(NOBODY, "q")
            while True:
                item = yield from queue.taking()
                taken.append(item)

        consumers = [world.start(consuming()) for _ in range(3)]
        producers = [world.start(producing(name)) for name in range(3)]
        world.until(lambda: len(taken) == 30)
        world.settle()
        assert all(each.done for each in producers)
        assert sorted(taken) == [b"%d:%02d" % (name, number) for name in range(3) for number in range(10)]
        assert not world.store.kvs
        assert not any(each.done for each in consumers)

    def test_one_consumer_takes_the_oldest_first(self) -> None:
        world, queue = World(), Queue(NOBODY, "q")
        for number in range(20):
            world.run(queue.putting(b"%d" % number))
        assert [world.run(queue.taking()) for _ in range(20)] == [b"%d" % number for number in range(20)]

    def test_consumers_that_meet_take_one_trip_each(self) -> None:
        """Who finds the first item gone has the next one by the same transaction."""
        world, queue = World(), Queue(NOBODY, "q")
        for number in range(4):
            world.run(queue.putting(b"%d" % number))
        consumers = [world.start(queue.taking()) for _ in range(4)]
        before = world.calls
        world.settle()
        assert sorted(each.result for each in consumers) == [b"0", b"1", b"2", b"3"]
        assert world.calls - before == 8

    def test_the_keys_are_those_of_etcd(self) -> None:
        """`name/<number>`; those of a queue whose name only begins like it are not touched."""
        world, queue = World(), Queue(NOBODY, "q")
        put(world, b"qq/1", b"other")
        put(world, b"q/1700000000000000000", b"etcd's")
        assert world.run(queue.taking()) == b"etcd's"
        assert list(world.store.kvs) == [b"qq/1"]


class TestPriorityQueue:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_the_lowest_number_first_and_in_order_within(self, seed: int) -> None:
        world, queue = World(seed), PriorityQueue(NOBODY, "p")

        def producing(name: int) -> Steps[None]:
            for number in range(5):
                yield from queue.putting_at(b"%d:%d" % (name, number), 9 - number % 2)

        producers = [world.start(producing(name)) for name in range(4)]
        world.until(lambda: all(each.done for each in producers))
        taken = [world.run(queue.taking()) for _ in range(20)]
        odd = [int(item[2:]) % 2 for item in taken]
        assert odd == [1] * 8 + [0] * 12
        for name in b"0123":
            mine = [item for item in taken if item[0] == name]
            assert mine == sorted(mine, key=lambda item: (-(int(item[2:]) % 2), item))

    def test_the_keys_are_those_of_etcd(self) -> None:
        """`name/<priority, 5 digits>/<number, 16 digits>`, and one beside each priority that tells of changes."""
        world, queue = World(), PriorityQueue(NOBODY, "p")
        world.run(queue.putting_at(b"a", 7))
        world.run(queue.putting_at(b"b", 7))
        assert sorted(world.store.kvs) == [
            b"__p/00007",
            b"p/00007/0000000000000000",
            b"p/00007/0000000000000001",
        ]

    def test_a_priority_out_of_bounds_is_refused(self) -> None:
        for priority in (-1, 65_536):
            with pytest.raises(errors.InvalidRequest):
                World().run(PriorityQueue(NOBODY, "p").putting_at(b"", priority))


class TestCompareAndSwap:
    def test_a_value(self) -> None:
        world = World()
        put(world, b"k", b"1")
        assert world.run(ask(compare_and_swap("k", "1", "2", 0, None)))
        failed = world.run(ask(compare_and_swap("k", "1", "3", 0, None)))
        assert not failed
        assert failed.kv.value == b"2"

    def test_nothing(self) -> None:
        world = World()
        assert world.run(ask(compare_and_swap("k", None, "1", 0, None)))
        assert not world.run(ask(compare_and_swap("k", None, "2", 0, None)))
        assert world.store.kvs[b"k"].value == b"1"
        missing = world.run(ask(compare_and_swap("gone", "1", "2", 0, None)))
        assert (missing.succeeded, missing.kv) == (False, None)

    def test_a_record_is_its_very_version(self) -> None:
        """The same value put again is another one."""
        world = World()
        put(world, b"k", b"1")
        read = world.store.kvs[b"k"]
        put(world, b"k", b"1")
        assert not world.run(ask(compare_and_swap("k", read, "2", 0, None)))
        assert world.run(ask(compare_and_swap("k", world.store.kvs[b"k"], "2", 0, None)))

    def test_delete(self) -> None:
        world = World()
        put(world, b"k", b"1")
        assert not world.run(ask(compare_and_delete("k", "2", None)))
        assert world.run(ask(compare_and_delete("k", "1", None)))
        assert not world.store.kvs


def test_touching_a_key_renews_its_lease() -> None:
    world = World()
    lease = world.run(ask(calls.grant(TTL))).id
    put(world, b"k", lease=lease)
    put(world, b"bare")
    for _ in range(3):
        world.pass_ms(TTL * 900)
        assert world.run(touching("k")).id == lease
    with pytest.raises(errors.LeaseNotFound):
        world.run(touching("bare"))
    with pytest.raises(errors.KeyNotFound):
        world.run(touching("missing"))
