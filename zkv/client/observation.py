"""What the clients do to see what happens: watches, and caches made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from zkv.client.cache import AsyncCache, Cache
    from zkv.client.ops import Data, Prefix
    from zkv.client.watch import AsyncWatch, Watch
    from zkv.client.watch_events import WatchEvent


class WatchOptions(TypedDict, total=False):
    """What `watch` takes by keyword.

    Which keys: `range_end`, `prefix` or `from_key`, as for `range`. `from_revision`: the first revision whose events
    are wanted, past or future; 0: from now on. `prev_kv`: events tell what they superseded. `puts`, `deletes`: which
    events are wanted. `progress`: when there were no events for long, a response tells how far the watch is.
    """

    range_end: Data | None
    prefix: Prefix
    from_key: bool
    from_revision: int
    prev_kv: bool
    puts: bool
    deletes: bool
    progress: bool


class Observation:
    """Part of `Client`."""

    timeout: float

    def watch(self, key: Data | None = None, *, timeout: float | None = None, **options: Unpack[WatchOptions]) -> Watch:
        """What happens to a key, or to many: an iterator, see `zkv.Watch`. `zkv.WatchOptions` says what it takes.

        Without `from_revision` it returns when a member has begun the watch, so that nothing that happens afterwards is
        missed; raises DeadlineExceeded if none has within `timeout` seconds.
        """
        from zkv.client.watch import Watch, asked

        watch = Watch(self, asked(key, **options))  # type: ignore[arg-type] # the client that this is a part of
        if not options.get("from_revision"):
            try:
                watch.wait_created(self.timeout if timeout is None else timeout)
            except BaseException:
                watch.cancel()
                raise
        return watch

    def cache(
        self,
        prefix: Data,
        *,
        on_event: Callable[[WatchEvent], object] | None = None,
        timeout: float | None = None,
    ) -> Cache:
        """All keys that begin with `prefix`, kept here as they are in the cluster: a mapping, see `zkv.Cache`.

        It is there whole when this returns. `on_event` is called for each key before that, and for each change later,
        by a thread of the cache: for each event, or, after a gap in the history, for what has changed. Raises what the
        listing fails with.
        """
        from zkv.client.cache import Cache

        return Cache(self, prefix, on_event, timeout)  # type: ignore[arg-type]


class AsyncObservation:
    """Part of `AsyncClient`."""

    timeout: float

    def watch(self, key: Data | None = None, **options: Unpack[WatchOptions]) -> AsyncWatch:
        """See `Client.watch`: `async with client.watch(prefix="/svc/") as watch: async for response in watch: ...`."""
        from zkv.client.watch import AsyncWatch, asked

        return AsyncWatch(self, asked(key, **options))  # type: ignore[arg-type]

    def cache(
        self,
        prefix: Data,
        *,
        on_event: Callable[[WatchEvent], object] | None = None,
        timeout: float | None = None,
    ) -> AsyncCache:
        """See `Client.cache`: `async with client.cache("/svc/") as cache: ...`."""
        from zkv.client.cache import AsyncCache

        return AsyncCache(self, prefix, on_event, timeout)  # type: ignore[arg-type]
