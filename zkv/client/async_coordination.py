"""What `AsyncClient` does beyond keys and members: leases, and what is built of them. See `coordination.py`."""

# ruff: noqa: ASYNC109 (a timeout here is the cluster's deadline, not the task's)
from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from zkv.client import calls, recipes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import SupportsIndex

    from zkv.client.barrier import AsyncBarrier, AsyncDoubleBarrier
    from zkv.client.calls import Call, Guard
    from zkv.client.election import AsyncElection
    from zkv.client.lease import AsyncLease
    from zkv.client.lock import AsyncLock
    from zkv.client.ops import Data
    from zkv.client.queue import AsyncPriorityQueue, AsyncQueue
    from zkv.client.records import (
        GrantResult,
        KeepAliveResult,
        LeasesResult,
        RevokeResult,
        SwapResult,
        TimeToLiveResult,
    )
    from zkv.client.steps import Steps
    from zkv.client.stm import AsyncStm, Isolation
    from zkv.wire.messages import KeyValue

T = TypeVar("T")


class AsyncCoordination:
    """Part of `AsyncClient`. What is built of leases is imported when first used: a command pays for what it uses."""

    timeout: float

    async def _call(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError

    async def _drive(self, steps: Steps[T], timeout: float | None) -> T:
        from zkv.client.async_drive import drive

        return await drive(self, steps, timeout)  # type: ignore[arg-type] # the client that this is a part of

    # --- leases ----------------------------------------------------------------------------------

    async def grant(
        self,
        ttl: int,
        *,
        id: int = 0,  # noqa: A002
        remaining: int = 0,
        timeout: float | None = None,
    ) -> GrantResult:
        """See `Client.grant`."""
        return await self._call(calls.grant(ttl, id, remaining), timeout)

    async def revoke(self, lease: SupportsIndex, *, timeout: float | None = None) -> RevokeResult:
        """See `Client.revoke`."""
        return await self._call(calls.revoke(lease), timeout)

    async def keep_alive(self, lease: SupportsIndex, *, timeout: float | None = None) -> KeepAliveResult:
        """See `Client.keep_alive`."""
        return await self._call(calls.keep_alive(lease), timeout)

    async def time_to_live(
        self, lease: SupportsIndex, *, keys: bool = False, timeout: float | None = None
    ) -> TimeToLiveResult:
        """See `Client.time_to_live`."""
        return await self._call(calls.time_to_live(lease, keys=keys), timeout)

    async def leases(self, *, timeout: float | None = None) -> LeasesResult:
        """See `Client.leases`."""
        return await self._call(calls.leases(), timeout)

    async def touch(self, key: Data, *, timeout: float | None = None) -> KeepAliveResult:
        """See `Client.touch`."""
        return await self._drive(recipes.touching(key), timeout)

    def lease(self, ttl: int = 10) -> AsyncLease:
        """See `Client.lease`."""
        from zkv.client.lease import AsyncLease

        return AsyncLease(self, ttl)

    # --- one at a time ---------------------------------------------------------------------------

    def lock(self, name: Data, ttl: int = 10, *, lease: AsyncLease | None = None) -> AsyncLock:
        """See `Client.lock`."""
        from zkv.client.lock import AsyncLock

        return AsyncLock(self, name, ttl, lease)

    def election(self, name: Data, ttl: int = 10, *, lease: AsyncLease | None = None) -> AsyncElection:
        """See `Client.election`."""
        from zkv.client.election import AsyncElection

        return AsyncElection(self, name, ttl, lease)

    async def compare_and_swap(
        self,
        key: Data,
        expected: Data | KeyValue | None,
        value: Data,
        *,
        lease: SupportsIndex = 0,
        guard: Guard | None = None,
        timeout: float | None = None,
    ) -> SwapResult:
        """See `Client.compare_and_swap`."""
        return await self._call(recipes.compare_and_swap(key, expected, value, lease, guard), timeout)

    async def compare_and_delete(
        self,
        key: Data,
        expected: Data | KeyValue,
        *,
        guard: Guard | None = None,
        timeout: float | None = None,
    ) -> SwapResult:
        """See `Client.compare_and_delete`."""
        return await self._call(recipes.compare_and_delete(key, expected, guard), timeout)

    async def stm(
        self,
        function: Callable[[AsyncStm], Awaitable[T]],
        *,
        isolation: Isolation = "serializable_snapshot",
        prefetch: Iterable[Data] = (),
        attempts_max: int | None = None,
        timeout: float | None = None,
    ) -> T:
        """See `Client.stm`."""
        from zkv.client.stm import AsyncStm

        result: T = await AsyncStm(self, isolation, prefetch, attempts_max).run(
            function, self.timeout if timeout is None else timeout
        )
        return result

    # --- meeting points --------------------------------------------------------------------------

    def barrier(self, key: Data) -> AsyncBarrier:
        """See `zkv.client.barrier.AsyncBarrier`."""
        from zkv.client.barrier import AsyncBarrier

        return AsyncBarrier(self, key)

    def double_barrier(
        self, key: Data, count: int, ttl: int = 10, *, lease: AsyncLease | None = None
    ) -> AsyncDoubleBarrier:
        """See `zkv.client.barrier.AsyncDoubleBarrier`."""
        from zkv.client.barrier import AsyncDoubleBarrier

        return AsyncDoubleBarrier(self, key, count, ttl, lease)

    def queue(self, name: Data) -> AsyncQueue:
        """See `zkv.client.queue.AsyncQueue`."""
        from zkv.client.queue import AsyncQueue

        return AsyncQueue(self, name)

    def priority_queue(self, name: Data) -> AsyncPriorityQueue:
        """See `zkv.client.queue.AsyncPriorityQueue`."""
        from zkv.client.queue import AsyncPriorityQueue

        return AsyncPriorityQueue(self, name)
