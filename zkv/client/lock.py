"""Locks, as etcd's `concurrency.Mutex` makes them: its clients and ours compete for the same ones.

What such a lock guarantees, and what it cannot, says docs/CLIENT.md. In short: it tells who *should* be at work; only a
guard, or a resource that compares tokens, makes sure that nobody else is.
"""

# ruff: noqa: ASYNC109 (a timeout here is the cluster's deadline, not the task's)
from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from zkv.client.contest import Contest
from zkv.client.lease import AsyncLease, Lease
from zkv.errors import LockLost, ZkvError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from zkv.client.lease import AsyncDriver, Driver
    from zkv.client.ops import Data


class _Lock(Contest):
    _entered = 0

    def lost(self) -> LockLost:
        return LockLost(repr(self._name))

    def _adopts(self) -> bool:
        """Does a `with` take over what `acquire` has acquired? Once; a second one has to wait like anybody."""
        if self._place is None or self._entered == self._place.token:
            return False
        self._entered = self._place.token
        return True


class Lock(_Lock):
    """A lock that one participant at a time holds, in the order in which they asked.

        with kv.lock("jobs/nightly", ttl=10) as lock:
            kv.put("reports/last", "today", guard=lock)

        with kv.lock("jobs/nightly").acquire(timeout=30): ...

    It ends by itself `ttl` seconds after its holder was last heard of. One object is one participant: each thread that
    competes needs one of its own. With `lease`, one that was granted before, the lock lives by that; two locks of one
    name on one lease are the same lock. The line stands below `jobs/nightly/`: no other keys should lie there.
    """

    def __init__(self, client: Driver, name: Data, ttl: int, lease: Lease | None = None) -> None:
        super().__init__(name, lease or Lease(client, ttl), lent=lease is not None)
        self._client = client

    def acquire(self, timeout: float | None = None) -> Self:
        """Wait until it is ours, for `timeout` seconds (None: for as long as it takes).

        Raises DeadlineExceeded, and LeaseLost if our own lease ended while we waited; then we no longer stand in line.
        """
        self._client._drive(self.entering(b"", wait=True), timeout)  # noqa: SLF001 (two halves of one thing)
        return self

    def try_acquire(self, timeout: float | None = None) -> bool:
        """Take it if it is free now."""
        return self._client._drive(self.entering(b"", wait=False), timeout)  # noqa: SLF001

    def release(self, timeout: float | None = None) -> None:
        """Let the next one have it. Raises LockLost if it was no longer ours."""
        self._client._drive(self.leaving(), timeout)  # noqa: SLF001

    def __enter__(self) -> Self:
        if not self._adopts():
            self.acquire()
            self._adopts()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*(() if error is None else (ZkvError,))):
            self.release()


class AsyncLock(_Lock):
    """See `Lock`; here `async with`, and `acquire`, `try_acquire` and `release` are coroutines."""

    def __init__(self, client: AsyncDriver, name: Data, ttl: int, lease: AsyncLease | None = None) -> None:
        super().__init__(name, lease or AsyncLease(client, ttl), lent=lease is not None)
        self._client = client

    async def acquire(self, timeout: float | None = None) -> Self:
        await self._client._drive(self.entering(b"", wait=True), timeout)  # noqa: SLF001
        return self

    async def try_acquire(self, timeout: float | None = None) -> bool:
        return await self._client._drive(self.entering(b"", wait=False), timeout)  # noqa: SLF001

    async def release(self, timeout: float | None = None) -> None:
        await self._client._drive(self.leaving(), timeout)  # noqa: SLF001

    async def __aenter__(self) -> Self:
        if not self._adopts():
            await self.acquire()
            self._adopts()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*(() if error is None else (ZkvError,))):
            await self.release()
