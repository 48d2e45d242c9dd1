"""The watch actor, storage's feed and a store in one thread, with the mail between them in the hands of the test."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from tests.harness.kv_log import entry, group, machine
from tests.harness.watch_checks import Listener, SeenWatch, Truth, brief
from zkv.actors.event_feed import EventFeed
from zkv.actors.watch_actor import WatchActor
from zkv.limits import Limits
from zkv.wire import codec
from zkv.wire import messages as m
from zkv.wire.messages import WatchKind

if TYPE_CHECKING:
    from zkv.core.mvcc.engine import MemoryEngine

GATEWAY = 55
QUEUE_MAX = 8


class WatchWorld:
    """Nothing moves but by `storage_turn` and `watch_turn`; `settle` lets all come to rest."""

    def __init__(self, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.now = 1000
        self.truth = Truth()
        self.listeners: dict[int, Listener] = {}
        self.to_storage: deque[Any] = deque()
        self.to_watch: deque[Any] = deque()
        self.full: set[str] = set()
        """Whose queues take nothing."""
        self.lossy = False
        """The next mail of storage for the watch actor is not taken."""
        self._log: list[m.Entry] = []
        self.store = machine(limits=self.limits)
        self._reference = machine(want_events=True, want_prev_kv=True)
        self.feed = EventFeed(self.store, self.limits.feed_bytes_max, self._post_of_storage)
        self.watch_actor = self._watch_actor()

    def _watch_actor(self) -> WatchActor:
        return WatchActor(limits=self.limits, cluster_id=9, member_id=1, post=self._post_of_watch)

    @property
    def watching(self) -> Any:
        return self.watch_actor.watching

    def _post_of_storage(self, to: str, message: Any) -> bool:
        assert to == "watch"
        if "watch" in self.full or len(self.to_watch) >= QUEUE_MAX:
            return False
        self.to_watch.append(codec.decode(codec.encode(message)))
        return True

    def _post_of_watch(self, to: str, message: Any) -> bool:
        if to in self.full:
            return False
        decoded: Any = codec.decode(codec.encode(message))
        if to == "storage":
            self.to_storage.append(decoded)
        else:
            assert decoded.incarnation == GATEWAY
            for stream, packed in decoded.answers:
                if stream in self.listeners:
                    self.listeners[stream].hear(packed)
        return True

    # --- what happens --------------------------------------------------------------------------------

    def write(self, *requests: Any) -> None:
        """One log entry."""
        applied = entry(self.store.applied + 1, group(*requests))
        self._log.append(applied)
        self.truth.add(self._reference.apply([applied], 1).events)
        self.truth.compacted = self._reference.store.compacted
        self.feed.applied(self.store.apply([applied], 1).events)

    def feed_again(self) -> None:
        """What storage has lost, it is given once more."""
        for lost in self._log[self.store.applied :]:
            self.feed.applied(self.store.apply([lost], 1).events)

    def storage_turn(self) -> None:
        while self.to_storage:
            message = self.to_storage.popleft()
            if isinstance(message, m.WatchNeeds):
                self.feed.needs(message)
            else:
                assert isinstance(message, m.HistoryWanted)
                self.feed.want(message)
        self.feed.step()
        if self.feed.is_due:
            self.feed.say()

    def watch_turn(self, *mail: Any, after_ms: int = 0) -> None:
        self.now += after_ms
        taken = [*self.to_watch, *mail]
        self.to_watch.clear()
        self.watch_actor.handle([("node", message) for message in taken], self.now)

    def say(self, stream: int, kind: int, *fields: Any) -> None:
        """A word of a client, through the gateway."""
        self.watch_turn(m.WatchWords(GATEWAY, ((stream, int(kind), fields),)))

    def watch(self, stream: int, *watches: m.Watch) -> list[SeenWatch]:
        listener = self.listeners.setdefault(stream, Listener(self.truth))
        seen = [listener.watch(watch) for watch in watches]
        self.say(stream, m.ClientKind.WATCH, tuple(tuple(watch) for watch in watches))
        return seen

    def take(self, stream: int) -> None:
        """The client says to have taken all."""
        listener = self.listeners[stream]
        taken, listener.untaken = listener.untaken, 0
        self.say(stream, m.ClientKind.WATCH_CREDIT, taken)

    def end(self, stream: int) -> None:
        del self.listeners[stream]
        self.say(stream, m.ClientKind.CANCEL)

    def restart_storage(self, engine: MemoryEngine | None = None) -> None:
        """A new process on the same disk."""
        self.to_storage.clear()
        self.store = machine(engine or self.store.engine, limits=self.limits)
        self.feed = EventFeed(self.store, self.limits.feed_bytes_max, self._post_of_storage)
        self.to_watch.append(m.Hello("storage", self.now))

    def settle(self, *, take: bool = True) -> None:
        """Until nobody has anything to do; clients take what they get."""
        self.full.clear()
        quiet = 0
        while quiet < 3:
            before = sum(listener.messages for listener in self.listeners.values())
            self.storage_turn()
            idle = not self.to_watch and not self.feed.can_step
            self.watch_turn()
            if take:
                for stream in [stream for stream, listener in self.listeners.items() if listener.untaken]:
                    self.take(stream)
            idle &= not self.to_watch and not self.to_storage
            idle &= before == sum(listener.messages for listener in self.listeners.values())
            quiet = quiet + 1 if idle else 0

    def check_all_told(self) -> None:
        """Who is alive has been told everything."""
        for stream, listener in self.listeners.items():
            for seen in listener.watches.values():
                if seen.ended is None:
                    assert seen.told is not None, f"stream {stream}: {seen.watch} was never created"
                    owed = seen.owed(seen.told, self.store.revision)
                    assert not owed, f"stream {stream}: {seen.watch} stays at {seen.told}, owed {brief(owed)}"

    def kept(self) -> tuple[int, ...]:
        """What the watch core holds, all in all; zeros when it holds nothing."""
        core = self.watching._roster
        outbox, places = core.outbox, core.places
        streams = core.streams.values()
        return (
            len(core.streams), len(core.index), len(core.index._ranges), core.count, core.prev_kvs, outbox.flight,
            len(places.behind), len(places.blocked), len(places._ahead),
            len(core.progress), len(outbox._speaking), len(core.holding),
            sum(len(stream.behind) for stream in streams),
        )  # fmt: skip


def kinds(world: WatchWorld, stream: int = 1) -> list[tuple[tuple[int, ...], int, int]]:
    return [entry[:3] for entry in world.listeners[stream].entries]


def events(world: WatchWorld, stream: int = 1) -> list[tuple[tuple[int, ...], int, list[tuple[str, bytes, int]]]]:
    """(ids, revision, [("+" or "-", key, mod revision) ..]) of each answer with events."""
    return [
        (ids, revision, [("-" if deleted else "+", kv[0], kv[2]) for deleted, kv, _ in body])
        for ids, kind, revision, body in world.listeners[stream].entries
        if kind in {WatchKind.EVENTS, WatchKind.FRAGMENT}
    ]
