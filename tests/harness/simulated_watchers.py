"""Clients that watch, in the world of simulated nodes; each answer is held against what the log says has happened.

A connection keeps the order of what goes over it and loses nothing until it breaks, as TCP does; both ends hear of the
break at times of their own. A watcher whose connection broke, or whose watches were lost, begins anew at another node
with the revision after the last one it was told of. `Oracle` is a state machine outside of all nodes: it applies what
any raft hands to its storage, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.harness.kv_log import machine
from tests.harness.watch_checks import SeenWatch, Truth, WrongEvents
from zkv.errors import Compacted, NoLeader, SlowWatcher, TooManyRequests
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.harness.raft_world import World
    from tests.harness.simulated_node import SimulatedNode
    from zkv.core.mvcc.machine import Outcome
    from zkv.limits import Limits

RANGES = (
    (b"s/a", b""), (b"s/b", b""), (b"s/", b"s0"), (b"s/b", b"\0"), (b"", b"\0"), (b"w/", b"w0"), (b"nobody", b""),
)  # fmt: skip
ELSEWHERE = {NoLeader.code, TooManyRequests.code}
"""Watches refused so are begun again at another node."""
STAY_MS = 500


class Oracle:
    """What has happened, by the log alone."""

    def __init__(self, limits: Limits) -> None:
        self.truth = Truth()
        self.told: Callable[[m.Entry, Outcome], None] = lambda *_: None
        """Told what each entry has made."""
        self._machine = machine(member=0, limits=limits, want_events=True, want_prev_kv=True)
        self._early: dict[int, m.Entry] = {}

    @property
    def revision(self) -> int:
        return self._machine.revision

    def committed(self, entries: Sequence[m.Entry]) -> None:
        """Handed to some storage. Nodes are fed at their own pace, and again after they restarted."""
        for entry in entries:
            if entry.index > self._machine.applied:
                self._early[entry.index] = entry
        while (following := self._early.pop(self._machine.applied + 1, None)) is not None:
            outcome = self._machine.apply([following], 1)
            self.truth.add(outcome.events)
            self.told(following, outcome)
        self.truth.compacted = self._machine.store.compacted


class Connection:
    """Of a watcher to the door of a node: ordered both ways, and whole, until it breaks."""

    def __init__(self, world: World, watcher: Watcher, node: SimulatedNode, name: bytes) -> None:
        self.alive = True
        self.name = name
        self._world = world
        self._watcher = watcher
        self._node = node
        self._free_at = {True: 0, False: 0}  # per direction: when the message before arrives
        node.connections[name] = self

    def send(self, payload: bytes, *, up: bool) -> bool:
        """False when there is nobody to send it to, as far as this end knows."""
        world, rng = self._world, self._world.rng
        if not self.alive:
            return False
        if rng.random() < world.weather.lost / 5:
            self.break_off()
            return True
        delay = rng.randint(0, 3) + (rng.randrange(world.weather.late_ms) if rng.random() < world.weather.late else 0)
        at = self._free_at[up] = max(self._free_at[up], world.now + delay)
        world.plan(at - world.now, lambda: self._arrive(payload, up=up))
        return True

    def _arrive(self, payload: bytes, *, up: bool) -> None:
        if not self.alive:
            return
        if not up:
            self._watcher.hear(self, payload)
        elif not self._node.knock_of(self.name, payload):
            self.break_off()

    def break_off(self) -> None:
        """The gateway learns of it when it sends the next message, or by silence; the client soon."""
        if self.alive:
            self.alive = False
            del self._node.connections[self.name]
            self._world.plan(self._world.rng.choice((0, 5, 300)), lambda: self._watcher.lost(self))


class Watcher:
    """A client with a few watches of its own, on one connection at a time."""

    def __init__(
        self, world: World, nodes: dict[int, SimulatedNode], oracle: Oracle, number: int, slow_ms: int
    ) -> None:
        self.watches: dict[int, SeenWatch] = {}
        self.healed = False
        self._world = world
        self._nodes = nodes
        self._oracle = oracle
        self._slow_ms = slow_ms
        self._name = number
        self._connections = 0
        self._connection: Connection | None = None
        self._last_id = 0
        self._untaken = 0
        self._taking = False
        self.count = 0
        """Events told, of watches that are no more included."""

    def begin(self) -> None:
        for _ in range(self._world.rng.randint(1, 4)):
            self.watch()

    def watch(self) -> None:
        rng = self._world.rng
        key, range_end = rng.choice(RANGES)
        start = rng.choice((0, 0, 1, self._oracle.revision + rng.randint(-20, 3)))
        options = [rng.random() < chance for chance in (0.5, 0.1, 0.1, 0.3, 0.3)]
        self._last_id += 1
        watch = m.Watch(self._last_id, key, range_end, max(start, 0), *options)
        self.watches[watch.id] = SeenWatch(watch, self._oracle.truth)
        self._create([watch])

    def unwatch(self) -> None:
        if len(self.watches) > 1:
            chosen = self._world.rng.choice(list(self.watches))
            self._forget(chosen)
            self._say(m.ClientKind.UNWATCH, (chosen,))

    def _forget(self, watch: int) -> None:
        self.count += self.watches.pop(watch).count

    def ask_progress(self) -> None:
        self._say(m.ClientKind.WATCH_PROGRESS, ())

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.break_off()

    def _create(self, watches: Sequence[m.Watch]) -> None:
        self._say(m.ClientKind.WATCH, (tuple(tuple(watch) for watch in watches),))

    def _say(self, kind: int, fields: tuple[object, ...]) -> None:
        if self._connection is None:
            self._connect()
        elif self._connection.alive:
            self._connection.send(pack((m.PROTOCOL_VERSION, int(kind), *fields)), up=True)

    def _connect(self) -> None:
        """To any node; every watch begins anew behind what it has been told."""
        node = self._nodes[self._world.rng.choice(list(self._nodes))]
        self._connections += 1
        name = b"watcher %d on its connection %d" % (self._name, self._connections)
        self._connection = Connection(self._world, self, node, name)
        self._untaken = 0
        again = []
        for number, seen in list(self.watches.items()):
            watch = seen.watch if seen.told is None else seen.watch._replace(start_revision=seen.told + 1)
            self.count += seen.count
            self.watches[number] = SeenWatch(watch, self._oracle.truth)
            again.append(watch)
        self._create(again)

    def lost(self, connection: Connection) -> None:
        if connection is self._connection:
            self._connection = None
            self._world.plan(self._world.rng.choice((0, 20, 300)), self._reconnect)

    def _reconnect(self) -> None:
        if self._connection is None:
            self._connect()

    def hear(self, connection: Connection, packed: bytes) -> None:
        if connection is not self._connection:
            return
        self._untaken += len(packed)
        for ids, kind, revision, body in unpack(packed)[6]:
            if kind == m.WatchKind.CANCELLED and (ids == (0,) or body[0] in ELSEWHERE):
                connection.break_off()
                return
            for number in list(self.watches) if ids == (0,) else ids:
                if (seen := self.watches.get(number)) is not None:
                    self._hear(seen, kind, revision, body)
        if not self._taking:
            self._taking = True
            wait = 1 if self.healed else self._world.rng.choice((0, 1, 50, self._slow_ms))
            self._world.plan(wait, self._take)

    def _hear(self, seen: SeenWatch, kind: int, revision: int, body: Any) -> None:
        if revision > self._oracle.revision:
            raise WrongEvents(f"{seen.watch}: told of revision {revision}, which is not committed")
        if kind == m.WatchKind.CREATED:
            seen.created(revision)
        elif kind == m.WatchKind.PROGRESS:
            seen.progress(revision)
        elif kind == m.WatchKind.CANCELLED:
            seen.cancelled(*body)
            self._cancelled(seen, *body)
        else:
            seen.events(revision, body, whole=kind == m.WatchKind.EVENTS)

    def _cancelled(self, seen: SeenWatch, code: int, compacted: int, resume: int) -> None:
        """Begin anew, under another id, where the answer says."""
        start = {Compacted.code: compacted, SlowWatcher.code: resume}.get(code)
        if start is None:
            raise WrongEvents(f"{seen.watch}: cancelled with {code}")
        if code == Compacted.code and seen.told is not None and seen.told + 1 >= compacted:
            raise WrongEvents(f"{seen.watch}: told up to {seen.told}, compacted at {compacted}")
        self._forget(seen.watch.id)
        self._last_id += 1
        watch = seen.watch._replace(id=self._last_id, start_revision=start)
        self.watches[watch.id] = SeenWatch(watch, self._oracle.truth)
        self._create([watch])

    def stay(self) -> None:
        """Say that it is there."""
        self._say(m.ClientKind.WATCH_CREDIT, (0,))

    def _take(self) -> None:
        self._taking = False
        taken, self._untaken = self._untaken, 0
        if taken:
            self._say(m.ClientKind.WATCH_CREDIT, (taken,))

    def owed(self) -> str | None:
        """Something that it has not been told, though it happened."""
        for seen in self.watches.values():
            if seen.told is None or seen.owed(seen.told, self._oracle.revision):
                return f"{seen.watch} told up to {seen.told}"
        return None


class Watchers:
    """All of a play."""

    def __init__(self, world: World, nodes: dict[int, SimulatedNode], limits: Limits) -> None:
        rng = world.rng
        self.oracle = Oracle(limits)
        for node in nodes.values():
            node.committed = self.oracle.committed
        self._rng = rng
        self._world = world
        self._all = [
            Watcher(world, nodes, self.oracle, number, rng.choice((20, 500, 4000)))
            for number in range(rng.randint(1, 4))
        ]

    def begin(self, every: Callable[[int, Callable[[], None]], None]) -> None:
        """`every(mean, deed)`: until the trouble is over."""
        for watcher in self._all:
            watcher.begin()
        self._stay()
        deeds = ((700, Watcher.watch), (900, Watcher.unwatch), (600, Watcher.ask_progress), (1500, Watcher.disconnect))
        for mean, deed in deeds:
            every(mean, lambda deed=deed: deed(self._rng.choice(self._all)))  # type: ignore[misc]

    def _stay(self) -> None:
        for watcher in self._all:
            watcher.stay()
        self._world.plan(STAY_MS, self._stay)

    def heal(self) -> None:
        for watcher in self._all:
            watcher.healed = True

    def owed(self) -> str | None:
        return next((owed for watcher in self._all if (owed := watcher.owed()) is not None), None)

    @property
    def count(self) -> int:
        """Events told."""
        return sum(watcher.count + sum(seen.count for seen in watcher.watches.values()) for watcher in self._all)
