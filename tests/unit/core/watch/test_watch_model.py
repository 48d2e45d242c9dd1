"""Watches of every kind, writes, slow clients, lost mail and restarts in any order: each watch gets what it is owed."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.harness.watch_world import WatchWorld
from zkv.errors import Compacted, SlowWatcher
from zkv.wire.messages import ClientKind, Compact, DeleteRange, Put, Txn, Watch

KEYS = st.sampled_from([b"a", b"ab", b"b", b"c"])
ENDS = st.sampled_from([b"", b"", b"\0", b"b", b"ac", b"d"])
VALUES = st.sampled_from([b"", b"v", bytes(300)])
PUTS = st.tuples(KEYS, VALUES).map(lambda fields: Put(*fields))
DELETES = st.tuples(KEYS, ENDS).map(lambda fields: DeleteRange(*fields))
BOTH = st.tuples(VALUES, st.sampled_from([b"", b"d"])).map(
    lambda drawn: Txn((), ((2, Put(b"a", drawn[0])), (3, DeleteRange(b"b", drawn[1]))), ())
)
WRITES = PUTS | DELETES | BOTH
STREAMS = st.integers(1, 3)


class Watches(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.last_id = 0
        self.ends = 0

    @initialize(
        window=st.sampled_from([300, 2000, 1 << 20]),
        chunk=st.sampled_from([200, 1 << 18]),
        history=st.sampled_from([1, 700, 1 << 20]),
        feed=st.sampled_from([600, 1 << 20]),
        flight=st.sampled_from([50, 500, 1 << 28]),
    )
    def begin(self, window: int, chunk: int, history: int, feed: int, flight: int) -> None:
        self.world = WatchWorld(
            watch_window_bytes=window, chunk_bytes=chunk, history_bytes=history, feed_bytes_max=feed,
            watch_flight_bytes_max=flight, watch_silence_ms=60_000,
        )  # fmt: skip

    def number(self, stream: int) -> int:
        return stream + 10 * self.ends

    @rule(writes=st.lists(WRITES, min_size=1, max_size=3))
    def write(self, writes: list[Any]) -> None:
        self.world.write(*writes)

    @rule(stream=STREAMS, key=KEYS, end=ENDS, back=st.sampled_from([None, None, 0, 1, 3, 100, -1, -4]),
          options=st.tuples(*[st.booleans()] * 5))  # fmt: skip
    def watch(self, stream: int, key: bytes, end: bytes, back: int | None, options: tuple[bool, ...]) -> None:
        """From now on, from a past revision, or from one to come."""
        if end and end != b"\0" and end <= key:
            return
        start = 0 if back is None else max(1, self.world.store.revision + 1 - back)
        self.last_id += 1
        self.world.watch(self.number(stream), Watch(self.last_id, key, end, start, *options))

    @rule(stream=STREAMS, data=st.data())
    def unwatch(self, stream: int, data: st.DataObject) -> None:
        number = self.number(stream)
        listener = self.world.listeners.get(number)
        alive = [seen.watch.id for seen in listener.watches.values() if seen.ended is None] if listener else []
        if alive:
            self.world.say(number, ClientKind.UNWATCH, data.draw(st.sampled_from(alive)))

    @rule(stream=STREAMS)
    def take(self, stream: int) -> None:
        if self.number(stream) in self.world.listeners:
            self.world.take(self.number(stream))

    @rule(stream=STREAMS)
    def ask_progress(self, stream: int) -> None:
        if self.number(stream) in self.world.listeners:
            self.world.say(self.number(stream), ClientKind.WATCH_PROGRESS)

    @rule(stream=STREAMS)
    def end(self, stream: int) -> None:
        """A client goes; the next one has another number, as the gateway never gives one twice."""
        if self.number(stream) in self.world.listeners:
            self.world.end(self.number(stream))
            self.ends += 1

    @rule()
    def storage_turn(self) -> None:
        self.world.storage_turn()

    @rule(after=st.sampled_from([0, 0, 0, 2000, 700_000]))
    def watch_turn(self, after: int) -> None:
        self.world.watch_turn(after_ms=after)

    @rule(queue=st.sampled_from(["watch", "storage", "gateway"]))
    def fill(self, queue: str) -> None:
        """Its queue takes nothing for a while."""
        self.world.full ^= {queue}

    @rule()
    def restart_storage(self) -> None:
        self.world.restart_storage()

    @rule()
    def settle(self) -> None:
        self.world.settle()
        self.world.check_all_told()

    @precondition(lambda self: self.world.store.revision > 3)
    @rule(back=st.integers(0, 3))
    def compact(self, back: int) -> None:
        self.world.write(Compact(self.world.store.revision - back))
        while self.world.store.compaction_step():
            pass

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.settle()
        world.check_all_told()
        for listener in world.listeners.values():
            for seen in listener.watches.values():
                code, compacted, _ = seen.ended or (0, 0, 0)
                assert code in {0, Compacted.code, SlowWatcher.code}
                assert (code == Compacted.code) == bool(compacted)
        for stream in list(world.listeners):
            world.end(stream)
        assert not any(world.kept())


TestWatches = Watches.TestCase
TestWatches.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
