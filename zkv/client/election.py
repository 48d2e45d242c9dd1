"""Elections, as etcd's `concurrency.Election` holds them: its clients and ours compete in the same ones.

A candidate's key holds what it proclaims; the candidate whose turn it is leads until it resigns or its lease ends.
"""

# ruff: noqa: ASYNC109 (a timeout here is the cluster's deadline, not the task's)
from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from zkv.client import calls, ops
from zkv.client.contest import Contest, first_of
from zkv.client.lease import AsyncLease, Lease
from zkv.client.steps import Await, ask, await_event
from zkv.errors import Compacted, ElectionNotLeader, ZkvError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType
    from typing import Self

    from zkv.client.lease import AsyncDriver, Driver
    from zkv.client.ops import Data
    from zkv.client.steps import Steps
    from zkv.wire.messages import KeyValue


class _Observer:
    """Who led last, as far as we were told: what `observe` keeps from one to the next."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._key: bytes | None = None
        self._revision = 0
        self._told: tuple[bytes, int] | None = None

    def following(self) -> Steps[KeyValue]:
        """The next leader, or what the same one proclaims next."""
        while True:
            kv = yield from self._look() if self._key is None else self._watch(self._key)
            if kv is not None and (kv.key, kv.mod_revision) != self._told:
                self._told = (kv.key, kv.mod_revision)
                return kv

    def _look(self) -> Steps[KeyValue | None]:
        first = yield from ask(calls.range_of(first_of(self._prefix)))
        self._revision = first.revision
        if first.kvs:
            self._key = first.kvs[0].key
            return first.kvs[0]
        with suppress(Compacted):
            yield from await_event(Await(self._prefix, ops.prefix_end(self._prefix), self._revision + 1, deletes=False))
        return None  # somebody stands for it: look again

    def _watch(self, key: bytes) -> Steps[KeyValue | None]:
        try:
            event = yield from await_event(Await(key, b"", self._revision + 1))
        except Compacted:
            self._key = None  # we were away for long
            return None
        self._revision = event.revision
        if event.type == "PUT":
            return event.kv
        self._key = None
        return None


class _Election(Contest):
    def lost(self) -> ElectionNotLeader:
        return ElectionNotLeader()

    def proclaiming(self, value: bytes) -> Steps[None]:
        yield from self._say(self.place, value)

    def leading(self) -> Steps[KeyValue | None]:
        first = yield from ask(calls.range_of(first_of(self._prefix)))
        return first.kvs[0] if first.kvs else None

    def resigning(self) -> Steps[None]:
        """No error if there is nothing to resign from, as in etcd."""
        with suppress(ElectionNotLeader):
            yield from self.leaving()


class Election(_Election):
    """An election that one candidate at a time wins.

        with kv.election("service/primary", ttl=10) as election:
            election.campaign("10.0.0.7:80")
            kv.put("service/epoch", "7", guard=election)

    The leader stays it until it resigns (also: leaves the block), or was not heard of for `ttl` seconds. One object is
    one candidate; with `lease`, one that was granted before, it lives by that.
    """

    def __init__(self, client: Driver, name: Data, ttl: int, lease: Lease | None = None) -> None:
        super().__init__(name, lease or Lease(client, ttl), lent=lease is not None)
        self._client = client

    def campaign(self, value: Data = b"", timeout: float | None = None) -> Self:
        """Wait until we lead, for `timeout` seconds (None: for as long as it takes), and proclaim `value`.

        Raises DeadlineExceeded, and LeaseLost if our own lease ended while we waited; then we are no candidate any
        more.
        """
        self._client._drive(self.entering(ops.to_bytes(value), wait=True), timeout)  # noqa: SLF001 (two halves of one)
        return self

    def proclaim(self, value: Data, timeout: float | None = None) -> None:
        """As the leader, say something else. Raises ElectionNotLeader."""
        self._client._drive(self.proclaiming(ops.to_bytes(value)), timeout)  # noqa: SLF001

    def leader(self, timeout: float | None = None) -> KeyValue | None:
        """Who leads: its key, and what it proclaims as value. None: nobody."""
        return self._client._drive(self.leading(), timeout)  # noqa: SLF001

    def observe(self, timeout: float | None = None) -> Iterator[KeyValue]:
        """Each leader, and all it proclaims, from the present one on; ends only by an error.

        `timeout` bounds each wait, by DeadlineExceeded. A leader that comes and goes in between may be left out.
        """
        observer = _Observer(self._prefix)
        while True:
            yield self._client._drive(observer.following(), timeout)  # noqa: SLF001

    def resign(self, timeout: float | None = None) -> None:
        """Lead no longer, so that the next candidate does. No error if we do not."""
        self._client._drive(self.resigning(), timeout)  # noqa: SLF001

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*(() if error is None else (ZkvError,))):
            self.resign()


class AsyncElection(_Election):
    """See `Election`; here `async with`, `async for` over `observe`, and the others are coroutines."""

    def __init__(self, client: AsyncDriver, name: Data, ttl: int, lease: AsyncLease | None = None) -> None:
        super().__init__(name, lease or AsyncLease(client, ttl), lent=lease is not None)
        self._client = client

    async def campaign(self, value: Data = b"", timeout: float | None = None) -> Self:
        await self._client._drive(self.entering(ops.to_bytes(value), wait=True), timeout)  # noqa: SLF001
        return self

    async def proclaim(self, value: Data, timeout: float | None = None) -> None:
        await self._client._drive(self.proclaiming(ops.to_bytes(value)), timeout)  # noqa: SLF001

    async def leader(self, timeout: float | None = None) -> KeyValue | None:
        return await self._client._drive(self.leading(), timeout)  # noqa: SLF001

    async def observe(self, timeout: float | None = None) -> AsyncIterator[KeyValue]:
        observer = _Observer(self._prefix)
        while True:
            yield await self._client._drive(observer.following(), timeout)  # noqa: SLF001

    async def resign(self, timeout: float | None = None) -> None:
        await self._client._drive(self.resigning(), timeout)  # noqa: SLF001

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*(() if error is None else (ZkvError,))):
            await self.resign()
