"""A range of keys, kept here as it is in the cluster: listed once, then followed by a watch.

`CacheState` is the range and how it changes; `Cache` follows with a thread, `AsyncCache` with a task. Both go on for
ever: a watch goes on by itself, and when history is gone (Compacted) the range is listed again, and what has changed
meanwhile is made out by comparing.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zkv.client import ops
from zkv.client.watch_events import WatchEvent
from zkv.errors import ClientClosed, ClientError, Compacted, DeadlineExceeded, RetryableError, ZkvError
from zkv.wire.messages import KeyValue

if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
    from typing import Self

    from zkv.client.async_client import AsyncClient
    from zkv.client.client import Client
    from zkv.client.watch import AsyncWatch, Watch
    from zkv.client.watch_events import WatchResponse

RELIST_S = 0.5
"""A list that failed is tried again after this."""
ASK_S = 0.1
"""Who waits for a revision asks so often how far the watch is: a member may be behind."""


class CacheState:
    """Keys as of `revision`."""

    def __init__(self) -> None:
        self.kvs: dict[bytes, KeyValue] = {}
        self.revision = 0

    def load(self, kvs: Iterable[KeyValue], revision: int) -> list[WatchEvent]:
        """The range as it is at `revision`, which nothing here is newer than; what has happened, as far as it shows."""
        assert revision >= self.revision
        before, self.kvs, self.revision = self.kvs, {kv.key: kv for kv in kvs}, revision
        gone = [
            WatchEvent("DELETE", KeyValue(key, 0, revision, 0, b"", 0), kv)
            for key, kv in before.items()
            if key not in self.kvs
        ]
        new = [
            WatchEvent("PUT", kv, before.get(kv.key))
            for kv in self.kvs.values()
            if kv.key not in before or before[kv.key].mod_revision != kv.mod_revision
        ]
        return gone + new

    def apply(self, response: WatchResponse) -> list[WatchEvent]:
        """One revision further; its events, with what they superseded here."""
        events = []
        for event in response.events:
            events.append(event._replace(prev_kv=self.kvs.get(event.key)))
            if event.type == "PUT":
                self.kvs[event.key] = event.kv
            else:
                self.kvs.pop(event.key, None)
        self.revision = response.revision
        return events


class _Face(Mapping[bytes, KeyValue]):
    """A mapping from keys (bytes; text will do to ask) to `KeyValue`s. Iterations see one revision."""

    def __init__(self, prefix: ops.Data, on_event: Callable[[WatchEvent], object] | None) -> None:
        self.prefix = ops.to_bytes(prefix)
        self.error: Exception | None = None
        """Why it does not follow any more, if it does not; `wait` raises it."""
        self._on_event = on_event
        self._state = CacheState()
        self._lock: Any = contextlib.nullcontext()

    @property
    def revision(self) -> int:
        """All that happened up to it is in here."""
        return self._state.revision

    def __getitem__(self, key: ops.Data) -> KeyValue:
        return self._state.kvs[ops.to_bytes(key)]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str | bytes) and ops.to_bytes(key) in self._state.kvs

    def __len__(self) -> int:
        return len(self._state.kvs)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.snapshot())

    def keys(self) -> KeysView[bytes]:
        return self.snapshot().keys()

    def values(self) -> ValuesView[KeyValue]:
        return self.snapshot().values()

    def items(self) -> ItemsView[bytes, KeyValue]:
        return self.snapshot().items()

    def snapshot(self) -> dict[bytes, KeyValue]:
        """All of it, as of one revision."""
        with self._lock:
            return dict(self._state.kvs)

    def __repr__(self) -> str:
        return f"<zkv.{type(self).__name__} of {self.prefix!r}, {len(self)} keys at revision {self.revision}>"

    def _tell(self, events: Iterable[WatchEvent]) -> None:
        if self._on_event is not None:
            try:
                for event in events:
                    self._on_event(event)
            except Exception as error:
                self.error = error
                raise


class Cache(_Face):
    """See `Client.cache`. `on_event` holds up the thread that follows, and ends it by raising."""

    def __init__(
        self, client: Client, prefix: ops.Data, on_event: Callable[[WatchEvent], object] | None, timeout: float | None
    ) -> None:
        super().__init__(prefix, on_event)
        self._client = client
        self._lock = self._changed = threading.Condition()
        self._closed = threading.Event()
        self._watch: Watch | None = None
        self._list(timeout)
        self._thread = threading.Thread(target=self._follow, name="zkv-cache", daemon=True)
        self._thread.start()

    def _list(self, timeout: float | None = None) -> None:
        with self._client.range(prefix=self.prefix, timeout=timeout) as found:
            kvs = list(found)
            revision = found.header.revision
        with self._changed:
            events = self._state.load(kvs, revision)
            self._changed.notify_all()
        self._tell(events)

    def _follow(self) -> None:
        try:
            while not self._closed.is_set():
                try:
                    self._follow_watch()
                    self._list_again()
                except Compacted:
                    self._list_again()
        except ZkvError as error:
            if not self._closed.is_set():
                self.error = error
        finally:
            with self._changed:
                self._changed.notify_all()

    def _follow_watch(self) -> None:
        with self._client.watch(prefix=self.prefix, from_revision=self.revision + 1) as watch:
            self._watch = watch
            if self._closed.is_set():
                return
            for response in watch:
                with self._changed:
                    events = self._state.apply(response)
                    self._changed.notify_all()
                self._tell(events)

    def _list_again(self) -> None:
        while not self._closed.is_set():
            try:
                self._list()
            except (ClientError, RetryableError) as error:
                if isinstance(error, ClientClosed) or error is self.error:
                    raise
                self._closed.wait(RELIST_S)
            else:
                return

    def wait(self, revision: int, timeout: float | None = None) -> None:
        """Until all that happened up to `revision` (a put's, say) is in here.

        Raises DeadlineExceeded after `timeout` seconds (the client's, if None), and what ended the cache.
        """
        deadline = time.monotonic() + (self._client.timeout if timeout is None else timeout)
        with self._changed:
            while self.revision < revision:
                self._check()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise _late(revision)
                if self._watch is not None:
                    self._watch.request_progress()
                self._changed.wait(min(left, ASK_S))

    def _check(self) -> None:
        if self.error is not None:
            raise self.error
        if self._closed.is_set():
            raise ClientClosed("the cache is closed")

    def close(self) -> None:
        """Follow no more. What is in here stays. May be called twice."""
        self._closed.set()
        if self._watch is not None:
            self._watch.cancel()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncCache(_Face):
    """See `AsyncClient.cache`. `on_event` is called by the task that follows, and ends it by raising."""

    def __init__(
        self,
        client: AsyncClient,
        prefix: ops.Data,
        on_event: Callable[[WatchEvent], object] | None,
        timeout: float | None,
    ) -> None:
        super().__init__(prefix, on_event)
        self._client = client
        self._timeout = timeout
        self._changed = asyncio.Event()
        self._watch: AsyncWatch | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def _list(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 (the cluster's deadline)
        async with self._client.range(prefix=self.prefix, timeout=timeout) as found:
            kvs = [kv async for kv in found]
            revision = (await found.header()).revision
        self._change(self._state.load(kvs, revision))

    def _change(self, events: Iterable[WatchEvent]) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        self._tell(events)

    async def _follow(self) -> None:
        try:
            while True:
                with contextlib.suppress(Compacted):
                    await self._follow_watch()
                await self._list_again()
        except ZkvError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - of `on_event`, whatever it is: told as of a callback of the loop's
            told = {"message": f"{self!r} follows no more", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)
        finally:
            self._changed.set()

    async def _follow_watch(self) -> None:
        async with self._client.watch(prefix=self.prefix, from_revision=self.revision + 1) as watch:
            self._watch = watch
            async for response in watch:
                self._change(self._state.apply(response))

    async def _list_again(self) -> None:
        while True:
            try:
                await self._list()
            except (ClientError, RetryableError) as error:
                if isinstance(error, ClientClosed) or error is self.error:
                    raise
                await asyncio.sleep(RELIST_S)
            else:
                return

    async def wait(self, revision: int, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """See `Cache.wait`."""
        try:
            async with asyncio.timeout(self._client.timeout if timeout is None else timeout):
                while self.revision < revision:
                    self._check()
                    if self._watch is not None:
                        self._watch.request_progress()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), ASK_S)
        except TimeoutError:
            raise _late(revision) from None

    def _check(self) -> None:
        if self.error is not None:
            raise self.error
        if self._closed or self._task is None:
            raise ClientClosed("the cache is closed")

    async def close(self) -> None:
        """Follow no more. What is in here stays. May be called twice."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def __aenter__(self) -> Self:
        await self._list(self._timeout)
        self._task = asyncio.get_running_loop().create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _late(revision: int) -> DeadlineExceeded:
    error = DeadlineExceeded(f"revision {revision} has not come")
    error.maybe_applied = False
    return error
