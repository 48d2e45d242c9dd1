"""The asyncio client: `Client`'s calls as coroutines, over the same session and the same transport.

The transport's descriptors hang on the event loop. Calls made in one turn of the loop leave together at its end.
"""

from __future__ import annotations

import asyncio
import os
from os import fspath
from select import POLLOUT
from typing import TYPE_CHECKING, TypeVar

from zkv.client import calls, ops
from zkv.client.administration import AsyncAdministration
from zkv.client.async_coordination import AsyncCoordination
from zkv.client.carrier import Carrier
from zkv.client.clock import TIMEOUT_S, deadline_ms, now_ms
from zkv.client.cursor import Cursor
from zkv.client.keeper import Keeper
from zkv.client.login import Login
from zkv.client.observation import AsyncObservation
from zkv.client.quotas import AsyncQuotaAdministration
from zkv.client.session import Session
from zkv.client.ticket import Ticket
from zkv.client.transport import Files, Transport
from zkv.client.users import AsyncUserAdministration

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from types import TracebackType
    from typing import Any, Self, SupportsIndex, Unpack

    from zkv.client.calls import Call, Guard, Txn
    from zkv.client.feed import Feed
    from zkv.client.keeper import Kept
    from zkv.client.records import (
        CompactResult,
        DeleteResult,
        HashKVResult,
        MembersResult,
        PutResult,
        StatusResult,
        TxnResult,
    )
    from zkv.client.retry import RetryPolicy
    from zkv.client.ticket import Header
    from zkv.client.transport import KeyFile
    from zkv.client.watch_events import Batch
    from zkv.limits import Limits
    from zkv.wire.messages import KeyValue, Range, RangeAnswer, Watch

T = TypeVar("T")


class AsyncClient(
    AsyncAdministration, AsyncUserAdministration, AsyncQuotaAdministration, AsyncCoordination, AsyncObservation
):
    """A connection to a zkv cluster, for one event loop: to be made inside it, and used from its tasks only.

        async with zkv.AsyncClient(["tcp://127.0.0.1:2378"]) as kv:
            await kv.put("a", "1")
            print((await kv.get("a")).value)

    Arguments, methods and errors are those of `zkv.Client`. A cancelled task's call is given up; a write may be
    applied all the same.
    """

    def __init__(
        self,
        endpoints: str | Iterable[str] = "tcp://127.0.0.1:2378",
        *,
        timeout: float = TIMEOUT_S,
        server_key: KeyFile | Mapping[str, KeyFile] | None = None,
        client_key: KeyFile | None = None,
        cacert: KeyFile | None = None,
        cert: KeyFile | None = None,
        key: KeyFile | None = None,
        insecure_skip_tls_verify: bool = False,
        user: str = "",
        password: str = "",
        retry: RetryPolicy | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.timeout = timeout
        policy = retry.checked() if retry is not None else None
        self._loop = asyncio.get_running_loop()
        given = [fspath(file or "") for file in (cacert, cert, key)]
        files = Files(given[0], given[1], given[2], insecure_skip_tls_verify)
        wanted = [endpoints] if isinstance(endpoints, str) else endpoints
        self._polls = _Polls(self._loop, self._hear)
        self._transport = Transport(self._polls, wanted, server_key, client_key, files)
        self._session = Session(
            len(self.endpoints),
            os.urandom(16),
            int.from_bytes(os.urandom(32)),
            now=now_ms(),
            limits=limits,
            retry=policy,
            login=Login(user, password) if user else None,
        )
        self._session.reasons = self._transport.reasons
        self._keeper = Keeper()
        self._carrier = Carrier(self._session, self._keeper, self._transport)
        self._closed = False
        self._turn: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._soon()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self._transport.endpoints

    @property
    def reasons(self) -> Mapping[int, str]:
        """Why endpoints (by their place in `endpoints`) refused our certificate, or we theirs, at the last attempt."""
        return self._transport.reasons

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<zkv.AsyncClient {' '.join(self.endpoints)}{' closed' if self._closed else ''}>"

    async def close(self) -> None:
        """End the calls under way with ClientClosed, and the connections. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._session.close()
        self._release()
        for handle in (self._turn, self._timer):
            if handle is not None:
                handle.cancel()
        self._turn = self._timer = None  # calls that come yet have to be told
        self._transport.close(self._session.outgoing(now_ms()))

    # --- keys ------------------------------------------------------------------------------------

    async def put(
        self,
        key: ops.Data,
        value: ops.Data = b"",
        *,
        lease: SupportsIndex = 0,
        ttl: int = 0,
        prev_kv: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
        guard: Guard | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (the cluster's deadline, not the task's)
    ) -> PutResult:
        """See `Client.put`."""
        request = ops.put(
            key, value, lease=lease, ttl=ttl, prev_kv=prev_kv, ignore_value=ignore_value, ignore_lease=ignore_lease
        )
        return await self._call(calls.put(request, guard), timeout)

    async def get(
        self,
        key: ops.Data,
        *,
        revision: int = 0,
        serializable: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> KeyValue | None:
        """See `Client.get`."""
        return await self._call(calls.get(key, revision=revision, serializable=serializable), timeout)

    def range(
        self, key: ops.Data | None = None, *, timeout: float | None = None, **options: Unpack[ops.RangeOptions]
    ) -> AsyncKeyValues:
        """See `Client.range`: `async for kv in client.range(prefix="/svc/")`."""
        return AsyncKeyValues(self, ops.get(key, **options), self._seconds(timeout))

    async def count(
        self,
        key: ops.Data | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
        **options: Unpack[ops.RangeOptions],
    ) -> int:
        """See `Client.count`."""
        return await self._call(calls.count(key, **options), timeout)

    async def delete(
        self,
        key: ops.Data | None = None,
        *,
        range_end: ops.Data | None = None,
        prefix: ops.Prefix = None,
        from_key: bool = False,
        prev_kv: bool = False,
        guard: Guard | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> DeleteResult:
        """See `Client.delete`."""
        request = ops.delete(key, range_end=range_end, prefix=prefix, from_key=from_key, prev_kv=prev_kv)
        return await self._call(calls.delete(request, guard), timeout)

    def txn(self, *, guard: Guard | None = None) -> Txn[Coroutine[Any, Any, TxnResult]]:
        """See `Client.txn`; here `await` the `.commit()`."""
        return calls.Txn(self._call, guard)

    value = staticmethod(ops.value)
    version = staticmethod(ops.version)
    create_revision = staticmethod(ops.create_revision)
    mod_revision = staticmethod(ops.mod_revision)
    lease_of = staticmethod(ops.lease_of)

    async def compact(
        self,
        revision: int,
        *,
        physical: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> CompactResult:
        """See `Client.compact`."""
        return await self._call(calls.compact(revision, physical=physical), timeout)

    # --- members ---------------------------------------------------------------------------------

    async def status(
        self,
        endpoint: str | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> StatusResult:
        """See `Client.status`."""
        return await self._call(calls.status(endpoint), timeout)

    async def members(
        self,
        *,
        linearizable: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> MembersResult:
        """See `Client.members`."""
        return await self._call(calls.members(linearizable=linearizable), timeout)

    async def hash_kv(
        self,
        endpoint: str | None = None,
        revision: int = 0,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> HashKVResult:
        """See `Client.hash_kv`."""
        return await self._call(calls.hash_kv(endpoint, revision), timeout)

    # --- how calls travel ------------------------------------------------------------------------

    def _seconds(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout

    async def _call(self, call: Call[T], timeout: float | None) -> T:  # noqa: ASYNC109
        done = self._loop.create_future()
        endpoint = None if call.endpoint is None else self._transport.index(call.endpoint)
        deadline = deadline_ms(self._seconds(timeout))
        ticket = self._session.submit(call.request, deadline, done, endpoint=endpoint)
        self._soon()
        try:
            await done
        except asyncio.CancelledError:
            self._give_up(ticket)
            raise
        if ticket.error is not None:
            raise ticket.error
        return call.result(ticket)

    def _keep(self, kept: Kept) -> None:
        """Keep a lease alive, until it is told to stop or found lost."""
        self._keeper.keep(kept)
        self._soon()

    def _open(self, request: Range, timeout: float, news: asyncio.Event) -> Ticket:
        ticket = self._session.submit(request, deadline_ms(timeout), news, stream=True)
        self._soon()
        return ticket

    def _next_chunk(self, ticket: Ticket, timeout: float) -> RangeAnswer | None:
        chunk: RangeAnswer | None = self._session.next_chunk(ticket, now_ms(), deadline_ms(timeout))
        self._soon()
        return chunk

    def _watch(self, watch: Watch, news: asyncio.Event) -> Feed:
        feed = self._session.watching.open(watch, news)
        self._soon()
        return feed

    def _take(self, feed: Feed) -> Batch | None:
        """What a watch is to read next."""
        watching = self._session.watching
        batch = watching.take(feed, now_ms())
        if watching.pressing:
            self._soon()
        return batch

    def _ask_progress(self, feed: Feed) -> None:
        self._session.watching.ask_progress(feed)
        self._soon()

    def _give_up(self, ticket: Ticket | Feed) -> None:
        if not (isinstance(ticket, Ticket) and ticket.done):
            self._session.cancel(ticket)
            if not self._loop.is_closed():
                self._soon()

    def _soon(self) -> None:
        """At the end of this turn of the loop, send what has gathered."""
        if self._turn is None:
            self._turn = self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._turn = None
        if self._closed:
            self._release()
            return
        now = now_ms()
        self._transport.tend(self._session, now)
        self._carrier.send(now)
        self._release()
        self._set_timer(now)

    def _hear(self, fd: int) -> None:
        self._transport.hear(fd, self._session, now_ms())
        self._release()  # so that whoever waited goes first, and what it asks for next leaves with this turn
        self._soon()

    def _release(self) -> None:
        for ticket in self._session.news():
            waiter = ticket.context
            if isinstance(waiter, asyncio.Event):
                waiter.set()
            elif isinstance(waiter, asyncio.Future) and not waiter.done():
                waiter.set_result(None)
            elif callable(waiter):
                waiter()

    def _set_timer(self, now: int) -> None:
        """Be called again when the session wants to be; a timer set too early does no harm, and is kept."""
        idle_ms = self._carrier.idle_ms(now)
        if idle_ms is None:
            return
        at = self._loop.time() + idle_ms / 1000
        if self._timer is not None:
            if not self._timer.cancelled() and self._loop.time() < self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._end_turn)


class _Polls:
    """What lines ask of an epoll set, asked of a loop. `heard` is called with each descriptor that has news."""

    def __init__(self, loop: asyncio.AbstractEventLoop, heard: Callable[[int], None]) -> None:
        self._loop = loop
        self._heard = heard

    def register(self, fd: int, events: int, /) -> None:
        self._loop.add_reader(fd, self._heard, fd)
        if events & POLLOUT:
            self._loop.add_writer(fd, self._heard, fd)

    def modify(self, fd: int, events: int, /) -> None:
        if events & POLLOUT:
            self._loop.add_writer(fd, self._heard, fd)
        else:
            self._loop.remove_writer(fd)

    def unregister(self, fd: int, /) -> None:
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)


class AsyncKeyValues(Cursor):
    """The keys of a range, streamed: see `zkv.client.client.KeyValues`. Leave early with `close` or `async with`."""

    def __init__(self, client: AsyncClient, request: Range, timeout: float) -> None:
        super().__init__()
        self._client = client
        self._timeout = timeout
        self._news = asyncio.Event()
        self._ticket = client._open(request, timeout, self._news)  # noqa: SLF001 (two halves of one thing)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> KeyValue:
        while True:
            for kv in self._kvs:
                return kv
            if not await self._advance():
                raise StopAsyncIteration

    async def _advance(self) -> bool:
        """Wait for the next chunk; False: there is none. Raises what the range failed with."""
        while True:
            self._news.clear()
            chunk = self._client._next_chunk(self._ticket, self._timeout)  # noqa: SLF001
            took = self._take(self._ticket, chunk)
            if took is not None:
                return took
            await self._news.wait()

    async def header(self) -> Header:
        """Who answered, at which revision. Waits for the first chunk."""
        if self._last is None:
            await self._advance()
        return self._ticket.header

    def close(self) -> None:
        """Want no more of it. May be called twice."""
        self._client._give_up(self._ticket)  # noqa: SLF001

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_ticket"):
            self.close()
