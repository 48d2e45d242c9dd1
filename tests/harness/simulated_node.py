"""One simulated node: the real actors on disks that forget, in a world of one thread.

What is a process of its own in life is one here too: it has an inbox, takes a turn some time after something came, may
be killed alone, and is started again. A post to it while it is down waits for its successor or is lost, as on a real
socket. The whole node may lose its power, at the worst moment too: in the middle of a sync of the log, when messages
that may leave before the disk is done have left. Its clock starts anew then; processes that restart keep it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tests.harness.raft_disk import FaultyLog
from zkv.actors.lease_actor import LeaseActor
from zkv.actors.peers import DOOR, PeerMessage
from zkv.actors.raft_actor import RaftActor
from zkv.actors.storage_actor import StorageActor
from zkv.actors.watch_actor import WatchActor
from zkv.core.mvcc.engine import MemoryEngine
from zkv.core.mvcc.gathering import GatheringEngine
from zkv.core.raft.raft import RaftConfig
from zkv.gateway.doors import PLAIN_DOOR
from zkv.gateway.native import NativeGateway
from zkv.mailbox import LOST
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.harness.raft_world import World
    from tests.harness.simulated_watchers import Connection
    from zkv.core.mvcc.engine import Engine
    from zkv.core.raft.clock import Anchor
    from zkv.limits import Limits

ACTORS = ("storage", "raft", "lease", "gateway", "watch")
NEIGHBOURS = {
    "storage": ("gateway", "watch", "lease"),
    "raft": ("storage", "gateway", "lease"),
    "lease": ("raft", "storage", "gateway"),
    "gateway": ("raft", "storage", "watch", "lease"),
    "watch": ("storage", "gateway"),
}
"""To whom an actor that starts says so."""
CLUSTER = 77
QUEUE_MAX = 20
"""Mail from neighbours waiting for one actor: more is not taken."""


class PowerLoss(Exception):
    """The node goes down in the middle of what it is doing."""


class Letter(NamedTuple):
    """What goes over the network to an address: a raft message to a member, bytes to its door or to a client."""

    sender: Any
    content: Any


class Disk:
    """The store's half: an engine, of which a power loss leaves what was flushed."""

    def __init__(self) -> None:
        self.engine: Engine
        self._serve(MemoryEngine())

    def _serve(self, platter: MemoryEngine) -> None:
        self.platter = platter
        self.engine = GatheringEngine(platter)

    def staging(self) -> Engine:
        return MemoryEngine()

    def swap_in(self, staging: Engine) -> None:
        assert isinstance(staging, MemoryEngine)
        staging.flush()
        self._serve(staging)

    def lose_power(self) -> None:
        self._serve(self.platter.power_loss())


class SlowFlusher:
    """A flush takes a while, and covers what was written before it began."""

    def __init__(self, world: World, flush_ms: int) -> None:
        self._world = world
        self._flush_ms = flush_ms
        self._done_at = 0
        self._engine: Any = None
        self._view: object = None

    def begin(self, engine: Engine) -> None:
        assert isinstance(engine, GatheringEngine)
        self._engine, self._view = engine.engine, engine.engine.snapshot()
        self._done_at = self._world.now + self._world.rng.randint(0, self._flush_ms)

    def is_done(self) -> bool:
        if self._world.now < self._done_at:
            return False
        self._engine._durable = self._view
        return True


class Shelf:
    """Where a member keeps its anchor of the cluster clock: processes find it again, another boot does not."""

    def __init__(self) -> None:
        self._anchor: Anchor | None = None

    def load(self) -> Anchor | None:
        return self._anchor

    def save(self, anchor: Anchor) -> None:
        self._anchor = anchor


class SimulatedNode:
    """`doomed` is asked at each sync of the log whether the power goes just now; who is `forgetful` keeps nothing."""

    def __init__(
        self,
        world: World,
        member: int,
        members: Sequence[m.Member],
        limits: Limits,
        *,
        snapshot_count: int,
        flush_ms: int,
        forgetful: bool,
        doomed: Callable[[], bool],
        told: Callable[[str], None],
    ) -> None:
        self.id = member
        self._doomed = doomed
        self._forgetful = forgetful
        self.actors: dict[str, Any] = {}
        self.connections: dict[bytes, Connection] = {}
        """Of watchers to the door, by the names the gateway knows them by."""
        self.committed: Callable[[Sequence[m.Entry]], None] = lambda _: None
        """Told what storage is given to apply."""
        self.overheard: Callable[[SimulatedNode, str, Any], None] = lambda *_: None
        """Told what each actor posts."""
        self.booted_at = 0
        self.held: list[tuple[int, int]] = []
        """When raft was held up: from, until."""
        self._world = world
        self._members = tuple(members)
        self._limits = limits
        self._snapshot_count = snapshot_count
        self._flush_ms = flush_ms
        self._told = told
        self._mail: dict[str, list[tuple[str, object]]] = {name: [] for name in ACTORS}
        self._lives = dict.fromkeys(ACTORS, 0)
        self._turn_planned = dict.fromkeys(ACTORS, False)
        self._wakeup_planned = dict.fromkeys(ACTORS, 0)
        self._held_until = dict.fromkeys(ACTORS, 0)
        self._linked = False  # raft knows its peers
        self._new_disks()
        self._boot()
        world.processes[member] = self
        world.processes["door", member] = _Door(self)

    def _new_disks(self) -> None:
        self.disk = Disk()
        self.log = FaultyLog(m.ConfState(tuple(sorted(each.id for each in self._members))))
        sync = self.log.sync

        def sync_or_die() -> None:
            if self._doomed():
                raise PowerLoss
            sync()

        self.log.sync = sync_or_die  # type: ignore[method-assign]

    # --- life and death ------------------------------------------------------------------------------

    def _boot(self) -> None:
        self.booted_at = self._world.now
        self.ahead = self._world.rng.randrange(1 << 30)
        """What this machine's clock shows more than the world's."""
        self._shelf = Shelf()

    def start(self) -> None:
        for name in ACTORS:
            if name not in self.actors:
                self.start_actor(name)

    def crash(self) -> None:
        """The power goes."""
        self.stop()
        self._boot()

    def stop(self) -> None:
        """All its processes are killed."""
        for name in list(self.actors):
            self.kill(name)
        for mail in self._mail.values():
            mail.clear()
        if self._forgetful:
            self._new_disks()

    @property
    def counts(self) -> bool:
        """Does it take part, with a vote?"""
        raft = self.actors.get("raft")
        return raft is not None and raft._core is not None and raft._passivity is None and not raft._core.is_learner

    @property
    def leads(self) -> bool:
        raft = self.actors.get("raft")
        return raft is not None and raft._core is not None and raft._core.leader == self.id

    def kill(self, name: str) -> None:
        """`kill -9` of one process. Of what it had not made durable some or all is lost."""
        if self.actors.pop(name, None) is None:
            return
        self._lives[name] += 1
        self._turn_planned[name] = False
        self._wakeup_planned[name] = 0
        if name == "storage":
            self.disk.lose_power()
        elif name == "raft":
            self.log.crash(self._world.rng)
            self._linked = False
        elif name == "gateway":
            for connection in list(self.connections.values()):
                connection.break_off()
        if self._world.rng.random() < 0.5:
            self._mail[name].clear()

    def hold_up(self, name: str, hold_ms: int) -> None:
        """The process is busy, or not scheduled: its mail gathers."""
        self._held_until[name] = max(self._held_until[name], self._world.now + hold_ms)
        if name == "raft":
            self.held.append((self._world.now, self._held_until[name]))

    def is_held_up(self, name: str) -> bool:
        return self._world.now <= self._held_until[name]

    def start_actor(self, name: str) -> None:
        if name in self.actors:
            return
        incarnation = self._world.rng.getrandbits(60) + 1
        life = self._lives[name]

        def post(to: Any, message: Any) -> bool:
            assert life == self._lives[name], "a dead process posts"
            self.overheard(self, name, message)
            return self._post(to, message)

        try:
            self.actors[name] = self._made(name, incarnation, post)
        except PowerLoss:
            self._power_lost()
            return
        for neighbour in NEIGHBOURS[name]:
            post(neighbour, m.Hello(name, incarnation))
        self._plan_turn(name)

    def _made(self, name: str, incarnation: int, post: Callable[[Any, Any], bool]) -> object:
        if name == "storage":
            return StorageActor(
                store=self.disk,
                limits=self._limits,
                cluster_id=CLUSTER,
                member_id=self.id,
                bootstrap=self._members,
                flusher=SlowFlusher(self._world, self._flush_ms),
                post=post,
            )
        if name == "gateway":
            return NativeGateway(
                limits=self._limits,
                member_id=self.id,
                cluster_id=CLUSTER,
                incarnation=incarnation,
                request_timeout_ms=5000,
                leaderless_ms=3000,
                post=post,
            )
        if name == "lease":
            return LeaseActor(
                limits=self._limits, cluster_id=CLUSTER, member_id=self.id, incarnation=incarnation, post=post
            )
        if name == "watch":
            return WatchActor(limits=self._limits, cluster_id=CLUSTER, member_id=self.id, post=post)
        return RaftActor(
            config=RaftConfig(self.id, append_bytes_max=self._limits.append_bytes_max),
            log=self.log,
            limits=self._limits,
            snapshot_count=self._snapshot_count,
            seed=incarnation,
            post=post,
            post_peer=self._post_peer,
            set_peers=self._set_peers,
            attributes=(f"n{self.id}", (f"tcp://n{self.id}:1",)),
            forgetful=self._forgetful,
            anchors=None if self._forgetful else self._shelf,
        )

    # --- mail --------------------------------------------------------------------------------------------

    def deliver(self, letter: object) -> None:
        """A peer's message."""
        assert isinstance(letter, Letter)
        self._take("raft", (DOOR, PeerMessage(letter.sender, codec.decode(letter.content))))

    def knock(self, letter: Letter) -> None:
        """A client's message; lost where nobody is at the door."""
        if "gateway" in self.actors:
            self._take("gateway", (PLAIN_DOOR, (letter.sender, letter.content)))

    def lost(self, member: int) -> None:
        """The connection to a peer broke."""
        if "raft" in self.actors:
            self._take("raft", (LOST, f"{member}"))

    def knock_of(self, name: bytes, payload: bytes) -> bool:
        """A message over a connection; False where nobody is at the door."""
        if "gateway" in self.actors:
            self._take("gateway", (PLAIN_DOOR, (name, payload)))
        return "gateway" in self.actors

    def _take(self, name: str, mail: tuple[str, object]) -> None:
        if name not in self.actors and mail[0] != "node":
            return
        self._mail[name].append(mail)
        self._plan_turn(name)

    def _post(self, to: Any, message: Any) -> bool:
        if isinstance(to, tuple) and to[1].startswith(b"watcher"):
            return to[1] in self.connections and self.connections[to[1]].send(message, up=False)
        if isinstance(to, tuple):
            self._world.send(("door", self.id), to[1], Letter(self.id, message))
        elif to in ACTORS:
            if type(message) is m.Apply:
                self.committed(message.entries)
            full = sum(source == "node" for source, _ in self._mail[to]) >= QUEUE_MAX
            if full and type(message) is not m.Hello:  # which goes first through a queue of its own
                return False
            self._take(to, ("node", codec.decode(codec.encode(message))))
        return True

    def _post_peer(self, member: int, message: Any) -> bool:
        if not self._linked:
            return False
        self._world.send(self.id, member, Letter(self.id, codec.encode(message)))
        return True

    def _set_peers(self, members: Sequence[m.Member]) -> None:
        self._linked = bool(members)

    # --- turns -------------------------------------------------------------------------------------------

    def _plan_turn(self, name: str, delay: int | None = None) -> None:
        if name in self.actors and not self._turn_planned[name]:
            self._turn_planned[name] = True
            life = self._lives[name]
            delay = self._world.rng.choice((0, 0, 0, 1, 5)) if delay is None else delay
            delay = max(delay, self._held_until[name] - self._world.now)
            self._world.plan(delay, lambda: self._turn(name) if life == self._lives[name] else None)

    def _turn(self, name: str) -> None:
        self._turn_planned[name] = False
        actor, now = self.actors[name], self._world.now + self.ahead
        mail, self._mail[name] = self._mail[name], []
        try:
            actor.handle(mail, now)
        except PowerLoss:
            self._power_lost()
            return
        wakeup = actor.next_wakeup(now)
        if wakeup is not None:
            self._plan_wakeup(name, max(wakeup, now + 1) - self.ahead)

    def _plan_wakeup(self, name: str, at: int) -> None:
        if self._world.now < self._wakeup_planned[name] <= at:
            return
        self._wakeup_planned[name] = at
        life = self._lives[name]
        self._world.plan(at - self._world.now, lambda: self._plan_turn(name, 0) if life == self._lives[name] else None)

    def _power_lost(self) -> None:
        self._told(f"power lost in a sync of {self.id}")
        self.crash()
        self._world.plan(self._world.rng.choice((5, 300, 2000)), self.start)


class _Door:
    def __init__(self, node: SimulatedNode) -> None:
        self._node = node

    def deliver(self, letter: object) -> None:
        assert isinstance(letter, Letter)
        self._node.knock(letter)
