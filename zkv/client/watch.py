"""Watches as a program holds them: iterators over what happens, for threads (`Watch`) and for asyncio (`AsyncWatch`).

All that is to be known about going on after a failure happens below, in `watching.py`: here is only who waits, and how.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from operator import index
from typing import TYPE_CHECKING

from zkv.client import ops
from zkv.client.session import INDEX_MAX
from zkv.errors import ClientClosed, DeadlineExceeded, InvalidRequest
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Self

    from zkv.client.async_client import AsyncClient
    from zkv.client.client import Client
    from zkv.client.feed import Feed
    from zkv.client.watch_events import Batch, WatchEvent, WatchResponse


def asked(
    key: ops.Data | None,
    *,
    range_end: ops.Data | None = None,
    prefix: ops.Prefix = None,
    from_key: bool = False,
    from_revision: int = 0,
    prev_kv: bool = False,
    puts: bool = True,
    deletes: bool = True,
    progress: bool = False,
) -> m.Watch:
    """What `Client.watch` is asked for, as it goes on the wire. Raises InvalidRequest."""
    start, end = ops.key_range(key, range_end, prefix, from_key=from_key)
    if not 0 <= index(from_revision) <= INDEX_MAX:
        raise InvalidRequest(f"revision {from_revision}")
    return m.Watch(0, start, end, index(from_revision), bool(prev_kv), not puts, not deletes, bool(progress), True)


class _Reader:
    """What both kinds share: the responses at hand, and how the watch ends."""

    _feed: Feed

    def __init__(self) -> None:
        self._ready: deque[WatchResponse] = deque()
        self._revision = 0
        self._cancelled = False

    @property
    def revision(self) -> int:
        """That of the last response that was read: all events up to it have been. 0: none was."""
        return self._revision

    def _at_hand(self) -> WatchResponse | None:
        if not self._ready or self._cancelled:
            return None
        response = self._ready.popleft()
        self._revision = response.revision
        return response

    def _got(self, batch: Batch | None) -> bool:
        """Is there something to be read? Raises what the watch has ended with."""
        if batch is not None:
            self._ready.extend(batch.responses)
            return True
        self._check()
        return False

    def _check(self) -> None:
        if self._cancelled:
            raise ClientClosed("the watch was cancelled")
        if self._feed.error is not None:
            raise self._feed.error

    def _is_begun(self) -> bool:
        self._check()
        return self._feed.begun

    def __repr__(self) -> str:
        watch = self._feed.asked
        return f"<zkv.{type(self).__name__} of {watch.key!r}{' ..' if watch.range_end else ''}>"


def _not_begun() -> DeadlineExceeded:
    error = DeadlineExceeded("no member has begun the watch")
    error.maybe_applied = False
    return error


class Watch(_Reader):
    """What happens to some keys: iterate, for one `WatchResponse` per revision, or over `events`, one by one.

        with kv.watch(prefix="/svc/") as watch:
            for response in watch:
                for event in response.events:
                    print(event.type, event.key, event.value)

    Events come in order, each once, none is left out: whatever happens to connections and members, it goes on from
    where it was. It ends by `cancel`, or by an error: Compacted when history that it still needs is gone (with the
    first revision kept, `compact_revision`), ClientClosed.

    What is not read waits, a little of it here and the rest at the member, as history; so memory stays bounded, and a
    watch that is not read does not hold up others. One thread reads; any may cancel.
    """

    def __init__(self, client: Client, watch: m.Watch) -> None:
        super().__init__()
        self._client = client
        self._news = threading.Event()
        self._feed = client._watch(watch, self._news.set)  # noqa: SLF001 (two halves of one thing)

    def next(self, timeout: float | None = None) -> WatchResponse | None:
        """The next response; None if there is none within `timeout` seconds (None: wait for it)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            response = self._at_hand()
            if response is not None:
                return response
            self._news.clear()
            if self._got(self._client._take(self._feed)):  # noqa: SLF001
                continue
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            self._news.wait(left)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> WatchResponse:
        try:
            response = self.next()
        except ClientClosed:
            if self._cancelled:
                raise StopIteration from None
            raise
        assert response is not None
        return response

    @property
    def events(self) -> Iterator[WatchEvent]:
        """All events, one by one."""
        for response in self:
            yield from response.events

    def wait_created(self, timeout: float | None = None) -> None:
        """Wait until a member has begun the watch: it will tell all that happens from then on.

        Raises DeadlineExceeded after `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._news.clear()
            if self._is_begun():
                return
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise _not_begun()
            self._news.wait(left)

    def request_progress(self) -> None:
        """Have a response with `progress` come, behind all events up to its revision: the store's of about now."""
        self._client._ask_progress(self._feed)  # noqa: SLF001

    def cancel(self) -> None:
        """Want no more of it; returns at once. May be called twice, and by any thread."""
        self._cancelled = True
        self._client._give_up(self._feed)  # noqa: SLF001
        self._news.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        if hasattr(self, "_feed"):
            self._client._give_up(self._feed)  # noqa: SLF001


class AsyncWatch(_Reader):
    """`Watch` for asyncio: `async for response in watch`, `async for event in watch.events`.

    Used by `async with`, it has begun when the block is entered; otherwise `wait_created` tells.
    """

    def __init__(self, client: AsyncClient, watch: m.Watch) -> None:
        super().__init__()
        self._client = client
        self._news = asyncio.Event()
        self._feed = client._watch(watch, self._news)  # noqa: SLF001 (two halves of one thing)

    async def next(self, timeout: float | None = None) -> WatchResponse | None:  # noqa: ASYNC109 (as in `Watch`)
        """See `Watch.next`."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    response = self._at_hand()
                    if response is not None:
                        return response
                    self._news.clear()
                    if not self._got(self._client._take(self._feed)):  # noqa: SLF001
                        await self._news.wait()
        except TimeoutError:
            return None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchResponse:
        while True:
            response = self._at_hand()
            if response is not None:
                return response
            self._news.clear()
            try:
                if self._got(self._client._take(self._feed)):  # noqa: SLF001
                    continue
            except ClientClosed:
                if self._cancelled:
                    raise StopAsyncIteration from None
                raise
            await self._news.wait()

    @property
    async def events(self) -> AsyncIterator[WatchEvent]:
        """All events, one by one."""
        async for response in self:
            for event in response.events:
                yield event

    async def wait_created(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """See `Watch.wait_created`."""
        try:
            async with asyncio.timeout(timeout):
                while not self._is_begun():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise _not_begun() from None

    def request_progress(self) -> None:
        """See `Watch.request_progress`."""
        self._client._ask_progress(self._feed)  # noqa: SLF001

    def cancel(self) -> None:
        """Want no more of it; returns at once. May be called twice."""
        self._cancelled = True
        self._client._give_up(self._feed)  # noqa: SLF001
        self._news.set()

    async def __aenter__(self) -> Self:
        try:
            if not self._feed.asked.start_revision:
                await self.wait_created(self._client.timeout)
        except BaseException:
            self.cancel()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        if hasattr(self, "_feed"):
            self._client._give_up(self._feed)  # noqa: SLF001
