"""Barriers, as etcd's recipes build them: one holds all who come, the other lets a party in and out together."""

# ruff: noqa: ASYNC109 (a timeout here is the cluster's deadline, not the task's)
from __future__ import annotations

from contextlib import suppress
from operator import index
from typing import TYPE_CHECKING

from zkv.client import calls, ops
from zkv.client.contest import Place
from zkv.client.lease import AsyncLease, Lease
from zkv.client.steps import Await, Nanoseconds, ask, await_event, or_else
from zkv.errors import Compacted, InvalidRequest, KeyExists, LeaseLost, TooManyClients, ZkvError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, SupportsIndex

    from zkv.client.keeper import Kept
    from zkv.client.lease import AsyncDriver, Driver, Tenure
    from zkv.client.ops import Data
    from zkv.client.steps import Steps


def put_new(key: bytes, value: bytes, lease: int = 0) -> Steps[Place | None]:
    """Put a key that is not there yet; None: it is."""
    absent = m.Compare(m.CompareResult.EQUAL, m.CompareTarget.VERSION, key, 0)
    done = yield from ask(calls.txn(m.Txn((absent,), ((int(m.Op.PUT), m.Put(key, value, lease)),), ())))
    return Place(key, done.revision) if done.succeeded else None


def put_unique(prefix: bytes, value: bytes, lease: int = 0) -> Steps[Place]:
    """Put a key `prefix/<number>` that nobody else has."""
    while True:
        key = b"%s/%d" % (prefix, (yield Nanoseconds()))
        place = yield from put_new(key, value, lease)
        if place is not None:
            return place


class _Barrier:
    def __init__(self, key: Data) -> None:
        self._key = ops.to_bytes(key)

    def holding(self, lease: SupportsIndex) -> Steps[None]:
        if (yield from put_new(self._key, b"", index(lease))) is None:
            raise KeyExists(repr(self._key))

    def releasing(self) -> Steps[None]:
        yield from ask(calls.delete(m.DeleteRange(self._key)))

    def waiting(self) -> Steps[None]:
        while True:
            found = yield from ask(calls.range_of(m.Range(self._key)))
            if not found.kvs:
                return
            with suppress(Compacted):
                yield from await_event(Await(self._key, b"", found.revision + 1, puts=False))
                return


class Barrier(_Barrier):
    """Holds all who `wait`, from `hold` until `release`."""

    def __init__(self, client: Driver, key: Data) -> None:
        super().__init__(key)
        self._client = client

    def hold(self, lease: SupportsIndex = 0, timeout: float | None = None) -> None:
        """Set it up; on a lease, it falls with that. Raises KeyExists if it is held already."""
        self._client._drive(self.holding(lease), timeout)  # noqa: SLF001 (two halves of one thing)

    def release(self, timeout: float | None = None) -> None:
        """Let all go on."""
        self._client._drive(self.releasing(), timeout)  # noqa: SLF001

    def wait(self, timeout: float | None = None) -> None:
        """Return when nobody holds it. Raises DeadlineExceeded."""
        self._client._drive(self.waiting(), timeout)  # noqa: SLF001


class AsyncBarrier(_Barrier):
    """See `Barrier`; here its methods are coroutines."""

    def __init__(self, client: AsyncDriver, key: Data) -> None:
        super().__init__(key)
        self._client = client

    async def hold(self, lease: SupportsIndex = 0, timeout: float | None = None) -> None:
        await self._client._drive(self.holding(lease), timeout)  # noqa: SLF001

    async def release(self, timeout: float | None = None) -> None:
        await self._client._drive(self.releasing(), timeout)  # noqa: SLF001

    async def wait(self, timeout: float | None = None) -> None:
        await self._client._drive(self.waiting(), timeout)  # noqa: SLF001


class _DoubleBarrier:
    """The keys: `key/waiters/<number>`, on a lease, for each who has entered; `key/ready` once all have."""

    def __init__(self, key: Data, count: int, lease: Tenure, *, lent: bool) -> None:
        if count < 1:
            raise InvalidRequest(f"a barrier for {count}")
        self._waiters = ops.to_bytes(key) + b"/waiters"
        self._ready = ops.to_bytes(key) + b"/ready"
        self._count = count
        self._lease = lease
        self._lent = lent
        self._place: Place | None = None

    def entering(self) -> Steps[None]:
        if self._place is not None:
            raise InvalidRequest("it is entered already")
        if len((yield from self._entered())) >= self._count:
            raise TooManyClients
        yield from or_else(self._enter(), self._cleaning_up)

    def leaving(self) -> Steps[None]:
        """Return when all have left. The first to have entered stays until the last, so that none waits for nobody.

        Raises LeaseLost where we had gone without our doing.
        """
        place = self._place
        if place is None:
            raise InvalidRequest("it is not entered")
        yield from or_else(self._leave(place), self._cleaning_up)
        yield from self._cleaning_up()

    def _entered(self) -> Steps[tuple[m.KeyValue, ...]]:
        """All who are inside, in the order in which they came."""
        start = self._waiters + b"/"
        request = m.Range(start, ops.prefix_end(start), sort_target=m.SortTarget.CREATE)
        return (yield from ask(calls.range_of(request._replace(sort_order=m.SortOrder.ASCEND)))).kvs

    def _enter(self) -> Steps[None]:
        if not self._lent:
            yield from self._lease.granting()
        kept = self._lease.kept
        self._place = place = yield from put_unique(self._waiters, b"", kept.id)
        entered = yield from self._entered()
        if len(entered) >= self._count:
            last = entered[self._count - 1]
            if place.token > last.create_revision:
                raise TooManyClients
            if place.key == last.key:
                yield from ask(calls.put(m.Put(self._ready, b"")))
                return
        while True:  # nobody takes the key away again while we are inside
            ready = yield from ask(calls.range_of(m.Range(self._ready)))
            if ready.kvs and ready.kvs[0].mod_revision > place.token:
                return
            with suppress(Compacted):
                yield from await_event(Await(self._ready, b"", ready.revision + 1, deletes=False, kept=kept))
                return

    def _leave(self, place: Place) -> Steps[None]:
        kept = self._lease.kept
        gone = False
        while True:
            inside = yield from self._entered()
            if not gone and place.key not in {kv.key for kv in inside}:
                raise LeaseLost(f"{kept.id:x}")
            if not inside:
                return
            first, last = inside[0], inside[-1]
            if first.key == place.key:
                if first is last:
                    yield from ask(calls.delete(m.DeleteRange(self._ready)))
                    yield from ask(calls.delete(m.DeleteRange(place.key)))
                    return
                awaited = last
            else:
                if not gone:
                    yield from ask(calls.delete(m.DeleteRange(place.key)))
                    gone = True
                awaited = first
            with suppress(Compacted):
                yield from self._until_gone(awaited, None if gone else kept)

    def _until_gone(self, kv: m.KeyValue, kept: Kept | None) -> Steps[None]:
        found = yield from ask(calls.range_of(m.Range(kv.key)))
        if found.kvs:
            yield from await_event(Await(kv.key, b"", found.revision + 1, puts=False, kept=kept))

    def _cleaning_up(self) -> Steps[None]:
        place, self._place = self._place, None
        if not self._lent:
            yield from self._lease.revoking(grace=True)
        elif place is not None:
            yield from ask(calls.delete(m.DeleteRange(place.key)), grace=True)


class DoubleBarrier(_DoubleBarrier):
    """Lets `count` participants in together, and out together.

        with kv.double_barrier("round/7", count=3):
            work()

    Who dies inside has left when its lease ends.
    """

    def __init__(self, client: Driver, key: Data, count: int, ttl: int, lease: Lease | None = None) -> None:
        super().__init__(key, count, lease or Lease(client, ttl), lent=lease is not None)
        self._client = client

    def enter(self, timeout: float | None = None) -> Self:
        """Return when all are there. Raises TooManyClients, and DeadlineExceeded, after which we are outside again."""
        self._client._drive(self.entering(), timeout)  # noqa: SLF001 (two halves of one thing)
        return self

    def leave(self, timeout: float | None = None) -> None:
        """Return when all have left."""
        self._client._drive(self.leaving(), timeout)  # noqa: SLF001

    def __enter__(self) -> Self:
        return self if self._place is not None else self.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*(() if error is None else (ZkvError,))):
            self.leave()


class AsyncDoubleBarrier(_DoubleBarrier):
    """See `DoubleBarrier`; here `async with`, and `enter` and `leave` are coroutines."""

    def __init__(self, client: AsyncDriver, key: Data, count: int, ttl: int, lease: AsyncLease | None = None) -> None:
        super().__init__(key, count, lease or AsyncLease(client, ttl), lent=lease is not None)
        self._client = client

    async def enter(self, timeout: float | None = None) -> Self:
        await self._client._drive(self.entering(), timeout)  # noqa: SLF001
        return self

    async def leave(self, timeout: float | None = None) -> None:
        await self._client._drive(self.leaving(), timeout)  # noqa: SLF001

    async def __aenter__(self) -> Self:
        return self if self._place is not None else await self.enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*(() if error is None else (ZkvError,))):
            await self.leave()
