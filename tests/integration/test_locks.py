"""Leases, locks, elections and recipes on real processes: holders are stopped or killed, leaders are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

import zkv
from tests.harness.lock_worker import Worker
from zkv import errors
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

TTL = 2  # the least there is: of those who are to lose it
LONG = 10  # of those who are not, however busy the machine
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(3, storage="memory") as found:
        yield found


@pytest.fixture
def kv(cluster: LocalCluster) -> Iterator[zkv.Client]:
    with zkv.Client(cluster.endpoints, timeout=20) as client:
        yield client


def sum_of(kv: zkv.Client, prefix: str) -> int:
    return sum(int(record.value) for record in kv.range(prefix=prefix))


class TestLeases:
    def test_a_lease_is_kept_alive_and_ends_with_its_block(self, cluster: LocalCluster, kv: zkv.Client) -> None:
        """Beyond its TTL the key is there, by either client; after the block it is gone."""
        ttl = 4

        async def main() -> None:
            async with zkv.AsyncClient(cluster.endpoints, timeout=20) as akv, akv.lease(ttl) as lease:
                await akv.put("async leased", "1", lease=lease)
                await asyncio.sleep(1.5 * ttl)
                lease.check()
                assert await akv.get("async leased")

        with kv.lease(ttl) as lease:
            kv.put("leased", "1", lease=lease)
            asyncio.run(main())
            lease.check()
            assert kv.get("leased")
            left = kv.time_to_live(lease, keys=True)
            assert (left.granted_ttl, left.keys) == (ttl, (b"leased",))
            assert lease.id in kv.leases().leases
        assert kv.get("leased") is None
        assert kv.get("async leased") is None
        assert not lease.alive

    def test_a_lease_that_is_revoked_elsewhere_is_lost(self, kv: zkv.Client) -> None:
        with kv.lease(TTL) as lease:
            kv.revoke(lease)
            while lease.alive:
                threading.Event().wait(0.02)
            with pytest.raises(errors.LeaseLost):
                lease.check()

    def test_a_key_with_a_ttl_ends_unless_it_is_touched(self, kv: zkv.Client) -> None:
        made = kv.put("short", "1", ttl=TTL)
        assert kv.touch("short").id == made.lease
        with kv.watch("short", puts=False) as watch:
            assert next(iter(watch)).events[0].type == "DELETE"
        with pytest.raises(errors.KeyNotFound):
            kv.touch("short")


class TestLocks:
    def test_a_holder_stopped_beyond_its_ttl_cannot_write(self, cluster: LocalCluster, kv: zkv.Client) -> None:
        """It wakes, knows that it may have lost the lock, and its write is refused; the next holder's stands."""
        with Worker("hold", "stopped", TTL, cluster.endpoints) as worker:
            assert worker.heard().startswith("held")
            worker.process.send_signal(signal.SIGSTOP)
            with kv.lock("stopped", LONG).acquire(PATIENCE_S) as lock:
                kv.put("stopped.written", "by the next", guard=lock)
                worker.process.send_signal(signal.SIGCONT)
                worker.go_on()
                assert [worker.heard(), worker.heard(), worker.heard()] == ["unsure", "refused", "lost"]
                lock.check()
            written = kv.get("stopped.written")
            assert written is not None
            assert written.value == b"by the next"

    def test_a_killed_holder_makes_room_when_its_lease_ends(self, cluster: LocalCluster, kv: zkv.Client) -> None:
        with Worker("hold", "killed", TTL, cluster.endpoints) as worker:
            assert worker.heard().startswith("held")
            worker.process.kill()
            kv.lock("killed", LONG).acquire(PATIENCE_S).release()

    def test_processes_hold_it_one_after_the_other(self, cluster: LocalCluster, kv: zkv.Client) -> None:
        """What they note while they hold it is not interleaved, and tokens only grow."""
        with ExitStack() as stack:
            workers = [stack.enter_context(Worker("compete", "many", LONG, cluster.endpoints)) for _ in range(4)]
            assert [worker.heard() for worker in workers] == ["done"] * 4
        log = kv.get("many.log")
        assert log is not None
        lines = [line.split() for line in log.value.decode().splitlines()]
        assert [what for what, _ in lines] == ["in", "out"] * 20
        tokens = [int(token) for _, token in lines[::2]]
        assert tokens == [int(token) for _, token in lines[1::2]] == sorted(tokens)

    def test_guarded_writes_exclude_each_other_while_leaders_are_killed(self) -> None:
        """Threads add to one counter, each by a read and a guarded put: no addition is lost. Nor is a lease."""
        with LocalCluster(3) as cluster:
            stop = threading.Event()

            def adding() -> int:
                added = 0
                with zkv.Client(cluster.endpoints, timeout=20) as kv:
                    while not stop.is_set():
                        try:
                            with kv.lock("counter", 5) as lock:
                                record = kv.get("counter")
                                kv.put("counter", str(int(record.value if record else 0) + 1), guard=lock)
                                added += 1
                        except errors.ClientError:
                            continue
                return added

            with ThreadPoolExecutor(4) as pool, zkv.Client(cluster.endpoints, timeout=20) as kv, kv.lease(15) as lease:
                kv.put("kept", "all the time", lease=lease)
                adders = [pool.submit(adding) for _ in range(4)]
                try:
                    for _ in range(2):
                        before = int(value.value) if (value := kv.get("counter")) else 0
                        leader = cluster.leader()
                        cluster.kill(leader)
                        kv.put("still", "here")
                        cluster.start(leader)
                        while (value := kv.get("counter")) is None or int(value.value) < before + 5:
                            assert not stop.wait(0.02)
                finally:
                    stop.set()
                added = sum(adder.result() for adder in adders)
                assert kv.get("kept")
                lease.check()
                record = kv.get("counter")
                assert record is not None
                assert int(record.value) == record.version >= added

    def test_an_interrupted_waiter_leaves_the_line(self, kv: zkv.Client) -> None:
        """Ctrl-C, while it waits."""

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        def interrupt_waiter() -> None:
            while kv.count(prefix="interrupted/") < 2:
                pass
            os.kill(os.getpid(), signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            with kv.lock("interrupted", LONG), ThreadPoolExecutor(1) as pool:
                interrupting = pool.submit(interrupt_waiter)
                with pytest.raises(KeyboardInterrupt):
                    kv.lock("interrupted", LONG).acquire(PATIENCE_S)
                interrupting.result()
                assert kv.count(prefix="interrupted/") == 1
        finally:
            signal.signal(signal.SIGUSR1, before)

    def test_a_block_takes_over_what_was_acquired_once(self, kv: zkv.Client) -> None:
        """`with lock.acquire(timeout)` reads well; but the same object held in a second block would be two holders."""
        lock = kv.lock("block", LONG)
        with lock.acquire(PATIENCE_S), pytest.raises(errors.InvalidRequest), lock:
            pass
        assert not lock.held
        with kv.lease(LONG).grant(PATIENCE_S) as lease, kv.lock("block", lease=lease):
            pass

    def test_a_timeout_leaves_the_line(self, kv: zkv.Client) -> None:
        """Nothing of the waiter stays."""
        with kv.lock("busy", LONG):
            with pytest.raises(errors.DeadlineExceeded):
                kv.lock("busy", LONG).acquire(0.2)
            assert not kv.lock("busy", LONG).try_acquire()
            assert kv.count(prefix="busy/") == 1


class TestElections:
    def test_a_killed_leader_is_followed_by_the_next(self, cluster: LocalCluster, kv: zkv.Client) -> None:
        observed: list[bytes] = []
        with Worker("lead", "chief", TTL, cluster.endpoints) as worker:
            assert worker.heard().startswith("leads")
            observer = kv.election("chief").observe(PATIENCE_S)
            observed.append(next(observer).value)
            worker.process.kill()
            with kv.election("chief", LONG) as election:
                election.campaign("second", PATIENCE_S)
                observed.append(next(observer).value)
                election.proclaim("second, still")
                observed.append(next(observer).value)
                assert (leader := election.leader()) is not None
                assert leader.value == b"second, still"
        assert observed == [b"chief", b"second", b"second, still"]
        assert kv.election("chief").leader() is None


class TestRecipes:
    def test_each_item_of_a_queue_is_taken_once(self, kv: zkv.Client) -> None:
        def taking(_: int) -> list[bytes]:
            queue = kv.queue("tasks")
            return [queue.dequeue(PATIENCE_S) for _ in range(10)]

        with ThreadPoolExecutor(4) as pool:
            taken = pool.map(taking, range(4))
            for number in range(40):
                kv.queue("tasks").enqueue(str(number))
            assert sorted(int(item) for items in taken for item in items) == list(range(40))

    def test_a_priority_queue_gives_the_most_urgent(self, kv: zkv.Client) -> None:
        queue = kv.priority_queue("urgent")
        for value, priority in (("later", 5), ("now", 1), ("then", 5)):
            queue.enqueue(value, priority)
        assert [queue.dequeue(PATIENCE_S) for _ in range(3)] == [b"now", b"later", b"then"]

    def test_a_barrier_lets_go_when_it_is_released(self, kv: zkv.Client) -> None:
        barrier = kv.barrier("gate")
        barrier.hold()
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(barrier.wait, PATIENCE_S) for _ in range(3)]
            with pytest.raises(errors.DeadlineExceeded):
                barrier.wait(0.2)
            assert not any(each.done() for each in waiting)
            barrier.release()
            for each in waiting:
                each.result()

    def test_a_double_barrier_lets_in_and_out_together(self, kv: zkv.Client) -> None:
        entered: list[int] = []
        left: list[int] = []

        def visit(number: int) -> tuple[int, int]:
            barrier = kv.double_barrier("party", 3)
            entered.append(number)
            barrier.enter(PATIENCE_S)
            found = len(entered)
            left.append(number)
            barrier.leave(PATIENCE_S)
            return found, len(left)

        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(visit, range(3))) == [(3, 3)] * 3
        assert kv.count(prefix="party/") == 0

    @pytest.mark.parametrize("isolation", ["serializable_snapshot", "serializable", "repeatable_reads"])
    def test_transfers_keep_the_sum(self, kv: zkv.Client, isolation: zkv.client.stm.Isolation) -> None:
        """Threads that move between few accounts: many conflicts, nothing lost."""
        prefix = f"{isolation}/"
        for number in range(3):
            kv.put(f"{prefix}{number}", "100")

        def moving(seed: int) -> None:
            for turn in range(15):
                giver, taker = f"{prefix}{(seed + turn) % 3}", f"{prefix}{(seed + 2 * turn + 1) % 3}"

                def move(txn: zkv.Stm, giver: str = giver, taker: str = taker) -> None:
                    txn.put(giver, str(int(txn.get(giver) or 0) - 1))
                    txn.put(taker, str(int(txn.get(taker) or 0) + 1))

                kv.stm(move, isolation=isolation, timeout=PATIENCE_S)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(moving, range(4)))
        assert sum_of(kv, prefix) == 300


class TestAsyncClient:
    def test_locks(self, cluster: LocalCluster) -> None:
        """Tasks hold it one after the other; one that is cancelled leaves the line at once."""

        async def main() -> None:
            async with zkv.AsyncClient(cluster.endpoints, timeout=20) as kv:
                inside: list[int] = []

                async def work() -> None:
                    async with kv.lock("tasks", LONG) as lock:
                        inside.append(1)
                        assert len(inside) == 1
                        await kv.put("tasks.by", str(lock.token), guard=lock)
                        inside.clear()

                await asyncio.gather(*(work() for _ in range(8)))
                async with kv.lock("tasks", LONG):
                    waiting = asyncio.create_task(kv.lock("tasks", LONG).acquire())
                    async with asyncio.timeout(PATIENCE_S):
                        while await kv.count(prefix="tasks/") < 2:
                            pass
                    waiting.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await waiting
                    assert await kv.count(prefix="tasks/") == 1
                assert await kv.count(prefix="tasks/") == 0

        asyncio.run(main())

    def test_elections_and_recipes(self, cluster: LocalCluster) -> None:
        async def main() -> None:
            async with zkv.AsyncClient(cluster.endpoints, timeout=20) as kv:
                async with kv.election("async chief", LONG) as election:
                    await election.campaign("me")
                    async for leader in election.observe(PATIENCE_S):
                        assert leader.value == b"me"
                        break
                await kv.queue("async tasks").enqueue("1")
                assert await kv.queue("async tasks").dequeue(PATIENCE_S) == b"1"
                await kv.priority_queue("async urgent").enqueue("1", 3)
                assert await kv.priority_queue("async urgent").dequeue(PATIENCE_S) == b"1"
                barrier = kv.barrier("async gate")
                await barrier.hold()
                waiting = asyncio.create_task(barrier.wait(PATIENCE_S))
                await barrier.release()
                await waiting

                async def visit() -> None:
                    async with kv.double_barrier("async party", 3):
                        pass

                await asyncio.gather(*(visit() for _ in range(3)))
                assert await kv.compare_and_swap("async n", None, "1")
                assert await kv.compare_and_delete("async n", "1")

        asyncio.run(main())

    def test_transfers_keep_the_sum(self, cluster: LocalCluster) -> None:
        async def main() -> int:
            async with zkv.AsyncClient(cluster.endpoints, timeout=20) as kv:
                for name in ("x", "y"):
                    await kv.put(f"async/{name}", "50")

                async def move(txn: zkv.AsyncStm) -> None:
                    txn.put("async/x", str(int(await txn.get("async/x") or 0) - 1))
                    txn.put("async/y", str(int(await txn.get("async/y") or 0) + 1))

                await asyncio.gather(*(kv.stm(move, timeout=PATIENCE_S) for _ in range(10)))
                return sum([int(record.value) async for record in kv.range(prefix="async/")])

        assert asyncio.run(main()) == 100
