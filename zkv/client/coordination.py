"""What `Client` does beyond keys and members: leases, and what is built of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from zkv.client import calls, recipes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import SupportsIndex

    from zkv.client.barrier import Barrier, DoubleBarrier
    from zkv.client.calls import Call, Guard
    from zkv.client.election import Election
    from zkv.client.lease import Lease
    from zkv.client.lock import Lock
    from zkv.client.ops import Data
    from zkv.client.queue import PriorityQueue, Queue
    from zkv.client.records import (
        GrantResult,
        KeepAliveResult,
        LeasesResult,
        RevokeResult,
        SwapResult,
        TimeToLiveResult,
    )
    from zkv.client.steps import Steps
    from zkv.client.stm import Isolation, Stm
    from zkv.wire.messages import KeyValue

T = TypeVar("T")


class Coordination:
    """Part of `Client`. What is built of leases is imported when first used: a command pays for what it uses."""

    timeout: float

    def _call(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError

    def _drive(self, steps: Steps[T], timeout: float | None) -> T:
        from zkv.client.drive import drive

        return drive(self, steps, timeout)  # type: ignore[arg-type] # the client that this is a part of

    # --- leases ----------------------------------------------------------------------------------

    def grant(
        self,
        ttl: int,
        *,
        id: int = 0,  # noqa: A002 (as in etcd)
        remaining: int = 0,
        timeout: float | None = None,
    ) -> GrantResult:
        """A lease of `ttl` seconds (or the shortest there is), which nobody keeps alive. `id` 0: one is chosen.

        `remaining`: it has only so many seconds left until it is kept alive, as one that comes from another cluster.

        Raises LeaseExists, LeaseTTLTooLarge.
        """
        return self._call(calls.grant(ttl, id, remaining), timeout)

    def revoke(self, lease: SupportsIndex, *, timeout: float | None = None) -> RevokeResult:
        """End a lease, and delete its keys. Raises LeaseNotFound."""
        return self._call(calls.revoke(lease), timeout)

    def keep_alive(self, lease: SupportsIndex, *, timeout: float | None = None) -> KeepAliveResult:
        """Let a lease live for its whole TTL from now on. Raises LeaseNotFound."""
        return self._call(calls.keep_alive(lease), timeout)

    def time_to_live(
        self, lease: SupportsIndex, *, keys: bool = False, timeout: float | None = None
    ) -> TimeToLiveResult:
        """How many seconds a lease has left, and which keys are on it; a `ttl` of -1: there is no such lease."""
        return self._call(calls.time_to_live(lease, keys=keys), timeout)

    def leases(self, *, timeout: float | None = None) -> LeasesResult:
        """The ids of all leases."""
        return self._call(calls.leases(), timeout)

    def touch(self, key: Data, *, timeout: float | None = None) -> KeepAliveResult:
        """Renew the lease that a key is on (as by `put(ttl=...)`). Raises KeyNotFound, LeaseNotFound."""
        return self._drive(recipes.touching(key), timeout)

    def lease(self, ttl: int = 10) -> Lease:
        """A lease that is kept alive in the background: a context manager, see `zkv.Lease`."""
        from zkv.client.lease import Lease

        return Lease(self, ttl)

    # --- one at a time ---------------------------------------------------------------------------

    def lock(self, name: Data, ttl: int = 10, *, lease: Lease | None = None) -> Lock:
        """A lock: a context manager, see `zkv.Lock`."""
        from zkv.client.lock import Lock

        return Lock(self, name, ttl, lease)

    def election(self, name: Data, ttl: int = 10, *, lease: Lease | None = None) -> Election:
        """A candidacy, see `zkv.Election`."""
        from zkv.client.election import Election

        return Election(self, name, ttl, lease)

    def compare_and_swap(
        self,
        key: Data,
        expected: Data | KeyValue | None,
        value: Data,
        *,
        lease: SupportsIndex = 0,
        guard: Guard | None = None,
        timeout: float | None = None,
    ) -> SwapResult:
        """Put `value` if the key holds `expected`: a value, or a record as it was read, or None for nothing.

        A record stands for its very version, not only its value. The result is true if it did; otherwise its `kv` is
        what is there.
        """
        return self._call(recipes.compare_and_swap(key, expected, value, lease, guard), timeout)

    def compare_and_delete(
        self,
        key: Data,
        expected: Data | KeyValue,
        *,
        guard: Guard | None = None,
        timeout: float | None = None,
    ) -> SwapResult:
        """Delete a key if it holds `expected`; as `compare_and_swap`."""
        return self._call(recipes.compare_and_delete(key, expected, guard), timeout)

    def stm(
        self,
        function: Callable[[Stm], T],
        *,
        isolation: Isolation = "serializable_snapshot",
        prefetch: Iterable[Data] = (),
        attempts_max: int | None = None,
        timeout: float | None = None,
    ) -> T:
        """Run `function(transaction)`, which reads and writes keys as if alone, until it meets no conflict.

        Returns what it returned. See zkv/client/stm.py for the levels of isolation. `prefetch`: keys it is likely to
        read, fetched together. `timeout`, in seconds, is for all attempts together (the client's, if None).

        Raises DeadlineExceeded, Conflict after `attempts_max` attempts, and whatever the function raises; then none of
        its writes was made.
        """
        from zkv.client.stm import Stm

        result: T = Stm(self, isolation, prefetch, attempts_max).run(
            function, self.timeout if timeout is None else timeout
        )
        return result

    # --- meeting points --------------------------------------------------------------------------

    def barrier(self, key: Data) -> Barrier:
        """See `zkv.client.barrier.Barrier`."""
        from zkv.client.barrier import Barrier

        return Barrier(self, key)

    def double_barrier(self, key: Data, count: int, ttl: int = 10, *, lease: Lease | None = None) -> DoubleBarrier:
        """See `zkv.client.barrier.DoubleBarrier`."""
        from zkv.client.barrier import DoubleBarrier

        return DoubleBarrier(self, key, count, ttl, lease)

    def queue(self, name: Data) -> Queue:
        """See `zkv.client.queue.Queue`."""
        from zkv.client.queue import Queue

        return Queue(self, name)

    def priority_queue(self, name: Data) -> PriorityQueue:
        """See `zkv.client.queue.PriorityQueue`."""
        from zkv.client.queue import PriorityQueue

        return PriorityQueue(self, name)
