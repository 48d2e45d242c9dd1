"""One seed, one play of whole nodes: real actors, clients with sessions, and everything that can go wrong between them.

Act one is trouble: nodes lose their power, single processes are killed, the network loses, delays and cuts, disks
are slow; clients write keys of their own, each once, and read. Act two: all is healed, every client must get done.

What must hold:
- a write that was acknowledged is there at the end, at the revision its answer named;
- none was made twice: every key has version 1;
- a linearizable read shows at least the newest revision that any client had been told of before it was asked;
- stores that have come to the same place in the log hold the same bytes;
- watchers are told what happened, all of it, in order and once, through every reconnection
  (`tests/harness/simulated_watchers.py`);
- leases end when they should, not before, and with their keys (`tests/harness/simulated_leases.py`).

    python -m tests.simulation --play nodes --seed 4711 --trace
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.harness.raft_world import Weather, World
from tests.harness.simulated_leases import Leases
from tests.harness.simulated_node import ACTORS, SimulatedNode
from tests.harness.simulated_session import SimulatedSession
from tests.harness.simulated_watchers import Watchers
from zkv.limits import Limits
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.client.ticket import Ticket
    from zkv.core.mvcc.machine import StateMachine

TROUBLE_MS = 10_000
HEALING_MS = 40_000
DEADLINE_MS = 8_000
WATCH_EVERY_MS = 250


class BrokenPromise(AssertionError):
    """What the cluster owes its clients, it did not do."""


class SimulatedClient(SimulatedSession):
    """Writes keys of its own, a few at a time, and reads in between; remembers what it was told."""

    def __init__(self, world: World, number: int, members: list[int], play: NodePlay) -> None:
        super().__init__(world, b"client %d" % number, members)
        self.acknowledged: dict[bytes, int] = {}
        self._asked = 0
        self._play = play

    def ask(self) -> None:
        rng = self._world.rng
        for _ in range(rng.choice((1, 1, 4))):
            if rng.random() < 0.3:
                owed = self._play.newest
                read = m.Range(b"w/", b"w0", limit=1)
                self.submit(read, DEADLINE_MS, lambda ticket, owed=owed: _check(ticket, owed))  # type: ignore[misc]
            else:
                self.write()
        self.carry()

    def write(self) -> bytes:
        """The key."""
        rng = self._world.rng
        self._asked += 1
        key = b"w/%s/%d" % (self.address, self._asked)
        put = m.Put(key, rng.randbytes(rng.choice((8, 8, 300))))
        self.submit(put, DEADLINE_MS, lambda ticket: self._written(ticket, key))
        return key

    def send(self, request: m.Request) -> None:
        """Whatever becomes of it."""
        self.submit(request, DEADLINE_MS, lambda _: None)
        self.carry()

    def _written(self, ticket: Ticket, key: bytes) -> None:
        if ticket.error is None:
            self.acknowledged[key] = ticket.revision
            self._play.newest = max(self._play.newest, ticket.revision)


def _check(ticket: Ticket, owed: int) -> None:
    if ticket.error is None and ticket.revision < owed:
        raise BrokenPromise(f"stale read: revision {ticket.revision} after {owed} was known")


class NodePlay:
    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        """`tell` hears of each mishap."""
        self._rng = rng = random.Random(seed)
        self._tell = tell
        self._world = World(rng)
        self.newest = 0  # the newest revision that any client has been told of
        self._in_memory = rng.random() < 0.2
        self._doom = 0.0 if self._in_memory else rng.choice((0.0, 0.0, 0.002, 0.01))
        ids = list(range(1, rng.choice((1, 3, 3, 3, 5)) + 1))
        members = tuple(m.Member(each, "", (f"tcp://{each}",), (), False) for each in ids)
        limits = Limits()._replace(
            flush_bytes=rng.choice((500, 5_000, 100_000)),
            feed_bytes_max=rng.choice((400, 100_000)),
            entry_bytes_max=rng.choice((300, 100_000)),
            append_bytes_max=rng.choice((300, 100_000)),
            chunk_bytes=rng.choice((200, 2_000)),
            watch_window_bytes=rng.choice((500, 5_000, 1 << 20)),
            watch_flight_bytes_max=rng.choice((20_000, 1 << 28)),
            watch_silence_ms=rng.choice((2_000, 10_000)),
            watch_progress_ms=rng.choice((300, 600_000)),
            history_bytes=rng.choice((300, 5_000, 1 << 20)),
            lease_ttl_min=1,
            lease_keys_max=rng.choice((3, 1_000)),
            leases_per_entry_max=rng.choice((2, 1_000)),
        )
        count, flush_ms = rng.choice((2, 10, 1000)), rng.choice((0, 30, 500))
        self._nodes = {
            each: SimulatedNode(
                self._world, each, members, limits,
                snapshot_count=count, flush_ms=flush_ms, forgetful=self._in_memory,
                doomed=self._is_doomed, told=self._say,
            )
            for each in ids
        }  # fmt: skip
        self._world.weather = self._weather = Weather(
            lost=rng.choice((0.0, 0.01, 0.1)), late=rng.choice((0.0, 0.05)), late_ms=rng.choice((20, 300, 1500))
        )
        self._clients = [SimulatedClient(self._world, number, ids, self) for number in range(3)]
        self._watchers = Watchers(self._world, self._nodes, limits)
        self._leases = Leases(self._world, self._nodes, self._watchers.oracle)

    def _is_doomed(self) -> bool:
        return self._world.now < TROUBLE_MS and self._rng.random() < self._doom

    def _say(self, what: str) -> None:
        if self._tell:
            self._tell(f"{self._world.now:6} {what}")

    # --- act one ---------------------------------------------------------------------------------------

    def run(self) -> int:
        """How many writes were acknowledged. Raises BrokenPromise."""
        rng = self._rng
        for node in self._nodes.values():
            node.start()
        pace = rng.choice((1, 1, 1, 30))  # where little is written, leases alone keep the clock going
        self._every(30 * pace, self._ask)
        self._every(60 * pace, self._scribble)
        self._every(rng.choice((500, 3_000)), self._compact)
        self._watchers.begin(self._every)
        self._leases.begin(self._every)
        for mean, mishap in (
            (rng.choice((0, 1000, 3000)), self._crash),
            (rng.choice((0, 500, 2000)), self._kill),
            (rng.choice((0, 1500, 4000)), self._cut),
            (rng.choice((0, 800, 3000)), self._hold_up),
            (rng.choice((0, 0, 2000)), self._restart),
            (rng.choice((0, 0, 1500)), self._pause),
        ):
            if mean:
                self._every(mean, mishap)
        self._watch()
        self._world.run(TROUBLE_MS)
        return self._heal()

    def _every(self, mean: int, mishap: Callable[[], None]) -> None:
        def happen() -> None:
            if self._world.now < TROUBLE_MS:
                mishap()
                self._every(mean, mishap)

        self._world.plan(1 + int(self._rng.expovariate(1 / mean)), happen)

    def _ask(self) -> None:
        client = self._rng.choice(self._clients)
        if len(client.busy) < 10:
            client.ask()

    def _scribble(self) -> None:
        """What several clients change again and again, for those that watch."""
        rng = self._rng
        keys = (b"s/a", b"s/b", b"s/bb", b"s/c")
        put = m.Put(rng.choice(keys[:2]), rng.randbytes(rng.choice((1, 8, 200))))
        gone = m.DeleteRange(b"s/bb", rng.choice((b"", b"s/d")))
        both = m.Txn((), ((int(m.Op.PUT), put), (int(m.Op.PUT), m.Put(b"s/c", b""))), ())
        self._send(rng.choice((put, put, put, gone, both, m.DeleteRange(b"s/", b"s0"))))

    def _compact(self) -> None:
        self._send(m.Compact(max(1, self.newest - self._rng.choice((0, 3, 30)))))

    def _send(self, request: m.Request) -> None:
        client = self._rng.choice(self._clients)
        if len(client.busy) < 10:
            client.send(request)

    def _crash(self) -> None:
        rng = self._rng
        nodes = list(self._nodes.values())
        if self._in_memory:  # one at a time: what a majority forgets is gone
            nodes = [rng.choice(nodes)] if all(node.counts for node in nodes) and len(nodes) > 1 else []
        for node in nodes if rng.random() < 0.2 else nodes and [rng.choice(nodes)]:
            self._say(f"crash {node.id}")
            node.crash()
            self._world.plan(rng.choice((1, 100, 1000, 4000)), node.start)
            self._disconnect(node.id)

    def _kill(self) -> None:
        node = self._rng.choice(list(self._nodes.values()))
        name = "gateway" if self._in_memory else self._rng.choice(ACTORS)
        self._say(f"kill {name} of {node.id}")
        node.kill(name)
        self._world.plan(self._rng.choice((1, 20, 300)), lambda: node.start_actor(name))
        self._disconnect(node.id)

    def _hold_up(self) -> None:
        """Storage must not wait for who is slow to tell others, and they must miss nothing for it."""
        node, hold_ms = self._rng.choice(list(self._nodes.values())), self._rng.choice((200, 2000))
        self._say(f"hold up watch of {node.id} for {hold_ms} ms")
        node.hold_up("watch", hold_ms)

    def _restart(self) -> None:
        """All processes of a node, or of all, start again; the machines go on."""
        rng = self._rng
        nodes = [] if self._in_memory else list(self._nodes.values())
        for node in nodes if rng.random() < 0.3 else nodes and [rng.choice(nodes)]:
            self._say(f"restart {node.id}")
            node.stop()
            self._world.plan(rng.choice((1, 100, 1000)), node.start)
            self._disconnect(node.id)

    def _pause(self) -> None:
        """One that leads gets no processor for a while, and does not know; or the stores of all others fall behind."""
        rng, hold_ms = self._rng, self._rng.choice((300, 1200, 3000))
        leaders = [node for node in self._nodes.values() if node.leads]
        if leaders and rng.random() < 0.5:
            node, names = rng.choice(leaders), rng.choice((ACTORS, ACTORS, ("raft",), ("lease",), ("storage",)))
            self._say(f"pause {', '.join(names)} of {node.id} for {hold_ms} ms")
            for name in names:
                node.hold_up(name, hold_ms)
        else:
            self._say(f"hold up stores for {hold_ms} ms")
            for node in self._nodes.values():
                if node not in leaders:
                    node.hold_up("storage", hold_ms)

    def _disconnect(self, member: int) -> None:
        for other in self._nodes.values():
            if other.id != member:
                other.lost(member)
        for session in (*self._clients, *self._leases.sessions):
            session.reconnected(member)

    def _cut(self) -> None:
        every = list(self._nodes)
        some = self._rng.sample(every, self._rng.randint(1, len(every)))
        others = [member for member in every if member not in some]
        self._say(f"cut {some} | {others}")
        self._world.weather.cut.clear()
        self._world.cut_off(some, others, both_ways=self._rng.random() < 0.7)
        self._world.plan(self._rng.randint(100, 5000), self._mend)
        self._leases.clocks.cut_at = self._world.now

    def _mend(self) -> None:
        self._world.weather.cut.clear()
        self._leases.clocks.cut_at = self._world.now

    # --- act two ---------------------------------------------------------------------------------------

    def _heal(self) -> int:
        self._say("heal")
        self._world.weather = Weather()
        self._watchers.heal()
        for node in self._nodes.values():
            node.start()
        deadline = self._world.now + HEALING_MS
        client = self._clients[0]
        written = client.write()
        while not (self._are_idle() and written in client.acknowledged):
            self._world.run(self._world.now + 200)
            for each in self._clients:
                each.carry()
            if self._are_idle() and written not in client.acknowledged:
                written = client.write()
            if self._world.now > deadline:
                raise BrokenPromise(f"no progress: healed for {HEALING_MS} ms, and clients wait")
        while len({machine.applied for machine in self._machines()}) > 1:
            self._world.run(self._world.now + 200)
            if self._world.now > deadline:
                places = {node.id: node.actors["storage"]._machine.applied for node in self._nodes.values()}
                raise BrokenPromise(f"no progress: members stay behind: {places}")
        while (owed := self._watchers.owed()) is not None:
            self._world.run(self._world.now + 200)
            if self._world.now > deadline:
                raise BrokenPromise(f"no progress: a watch is owed events: {owed}")
        while (owed := self._leases.owed) is not None:
            self._world.run(self._world.now + 200)
            if self._world.now > deadline:
                raise BrokenPromise(f"no progress: leases are owed {owed}")
        self._compare()
        return self._check_writes()

    def _are_idle(self) -> bool:
        return not any(client.busy for client in self._clients)

    def _machines(self) -> list[StateMachine]:
        return [node.actors["storage"]._machine for node in self._nodes.values() if "storage" in node.actors]

    def _watch(self) -> None:
        """At any time: stores at the same place are the same. Clients' own clocks tick here, too."""
        self._compare()
        for client in self._clients:
            client.carry()
        if self._world.now < TROUBLE_MS:
            self._world.plan(WATCH_EVERY_MS, self._watch)

    def _compare(self) -> None:
        stores: dict[int, tuple[int, list[tuple[bytes, bytes]]]] = {}
        for node in self._nodes.values():
            if "storage" not in node.actors:
                continue
            machine = node.actors["storage"]._machine
            if machine.compaction.is_due(machine.store.compacted):
                continue  # how far it has come in the background is each one's own
            held = list(machine.engine.scan(b"", b"\xff" * 8))
            other, theirs = stores.setdefault(machine.applied, (node.id, held))
            if theirs != held:
                differ = sorted(set(theirs) ^ set(held))[:4]
                raise BrokenPromise(f"{other} and {node.id} differ at place {machine.applied}: {differ}")

    def _check_writes(self) -> int:
        node = next(iter(self._nodes.values()))
        answer = node.actors["storage"]._machine.store.range(m.Range(b"w/", b"w0"))
        found = {kv.key: kv for kv in (m.KeyValue(*kv) for kv in answer[0])}
        told = {key: revision for client in self._clients for key, revision in client.acknowledged.items()}
        for key, revision in told.items():
            if key not in found:
                raise BrokenPromise(f"lost: {key!r}, acknowledged at revision {revision}")
            if found[key].mod_revision != revision:
                raise BrokenPromise(f"{key!r} was made at {found[key].mod_revision}, its answer said {revision}")
        if twice := [kv for kv in found.values() if kv.version != 1]:
            raise BrokenPromise(f"made twice: {twice}")
        return len(told)
