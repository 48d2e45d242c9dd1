"""The whole way of a watch in one thread: clients' sessions, doors, watch actors, storage; and what may go wrong.

Two nodes apply the same writes, one of them later than the other. What goes over a connection keeps its order and is
lost with it. A seed decides who has his turn, what breaks, and who reads what when. Everything a reader gets is held
against what has happened (`SeenWatch`).
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING, Any

from tests.harness.kv_log import entry, group, machine
from tests.harness.watch_checks import SeenWatch, Truth
from tests.harness.watch_world import WatchWorld
from zkv.client.session import Session
from zkv.errors import Compacted
from zkv.gateway.doors import PLAIN_DOOR
from zkv.gateway.native import NativeGateway
from zkv.limits import Limits
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.client.feed import Feed

KEYS = (b"a", b"ab", b"b", b"c")
ENDS = (b"", b"", b"\0", b"b", b"d")
LIMITS: dict[str, int] = {
    "watch_window_bytes": 1500, "chunk_bytes": 400, "history_bytes": 700, "watch_silence_ms": 3000,
}  # fmt: skip
QUEUE_MAX = 6
"""Messages that wait for one client; more are not taken."""


class Link:
    def __init__(self, name: bytes) -> None:
        self.name = name
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()


class Node(WatchWorld):
    """A door in front of it."""

    def __init__(self, limits: dict[str, int]) -> None:
        self.letters: list[Any] = []
        self.links: dict[bytes, Link] = {}
        self.behind: deque[tuple[Any, ...]] = deque()
        self.incarnation = 0
        self.actor_incarnation = 1
        self.term = 1
        super().__init__(**limits)
        self.gateway = self._gateway()

    def _gateway(self) -> NativeGateway:
        self.incarnation += 1
        self.letters = [m.LeaderIs(self.term, 1), m.Hello("watch", self.actor_incarnation)]
        self.to_watch.append(m.Hello("gateway", self.incarnation))
        return NativeGateway(
            limits=self.limits, member_id=1, cluster_id=9, incarnation=self.incarnation, request_timeout_ms=5000,
            leaderless_ms=3000, post=self._post_of_gateway,
        )  # fmt: skip

    def _post_of_watch(self, to: str, message: Any) -> bool:
        if to != "gateway":
            return super()._post_of_watch(to, message)
        if to in self.full:
            return False
        self.letters.append(codec.decode(codec.encode(message)))
        return True

    def _post_of_gateway(self, to: Any, message: Any) -> bool:
        if to in self.full:
            return False
        if to == "watch":
            self.to_watch.append(codec.decode(codec.encode(message)))
        elif isinstance(to, tuple):
            link = self.links.get(to[1])
            if link is None or len(link.down) >= QUEUE_MAX:
                return False
            link.down.append(message)
        return True

    def gateway_turn(self) -> None:
        inbox: list[tuple[str, Any]] = [("node", letter) for letter in self.letters]
        self.letters = []
        for link in self.links.values():
            inbox += [(PLAIN_DOOR, (link.name, payload)) for payload in link.up]
            link.up.clear()
        self.gateway.handle(inbox, self.now)

    def restart_watch(self) -> None:
        self.actor_incarnation += 1
        self.to_watch.clear()
        self.to_storage.clear()
        self.feed.restarted()
        self.watch_actor = self._watch_actor()
        self.to_watch += [m.Hello("storage", self.now), m.Hello("gateway", self.incarnation)]
        self.letters.append(m.Hello("watch", self.actor_incarnation))

    def restart_gateway(self) -> None:
        """All connections are gone with it."""
        self.links.clear()
        self.gateway = self._gateway()

    def catch_up(self, count: int) -> None:
        for _ in range(min(count, len(self.behind))):
            self.write(*self.behind.popleft())


class Reader:
    def __init__(self, feed: Feed, seen: SeenWatch) -> None:
        self.feed = feed
        self.seen = seen
        self.pace = 1.0


class Chain:
    def __init__(self, seed: int, clients: int = 3) -> None:
        self.rng = Random(seed)
        self.now = 1000
        self.truth = Truth()
        self._reference = machine(limits=Limits(**LIMITS), want_events=True, want_prev_kv=True)
        self.nodes = [Node(LIMITS), Node(LIMITS)]
        self.sessions = [
            Session(2, self.rng.randbytes(16), self.rng.getrandbits(64), now=self.now, limits=Limits(**LIMITS))
            for _ in range(clients)
        ]
        self.links: dict[tuple[int, int], Link | None] = {(c, n): None for c in range(clients) for n in range(2)}
        self.readers: list[list[Reader]] = [[] for _ in range(clients)]
        self.compacted = self.events = self.begun = 0
        self.asleep = dict.fromkeys(range(clients), 0)
        """Until when a client's process is stopped."""

    # --- turns -----------------------------------------------------------------------------------------

    def write(self) -> None:
        rng = self.rng
        key = rng.choice(KEYS)
        request: Any = m.Put(key, bytes(rng.choice((0, 5, 60, 300))))
        if rng.random() < 0.2:
            request = m.DeleteRange(key, rng.choice(ENDS))
        if rng.random() < 0.2:
            request = m.Txn((), ((2, m.Put(b"a", b"x")), (3, m.DeleteRange(b"b", b"d"))), ())
        if rng.random() < 0.02 and self._reference.revision > 60:
            request = m.Compact(self._reference.revision - rng.choice((0, 20, 50)))
        applied = entry(self._reference.applied + 1, group(request))
        self.truth.add(self._reference.apply([applied], 1).events)
        self.truth.compacted = self._reference.store.compacted
        for node in self.nodes:
            node.behind.append((request,))

    def node_turn(self, node: Node) -> None:
        rng = self.rng
        node.now = self.now
        node.catch_up(rng.choice((0, 1, 5)))
        for turn in rng.sample((node.gateway_turn, node.watch_turn, node.storage_turn), 3):
            if rng.random() < 0.8:
                turn()

    def client_turn(self, client: int, *, all_of_it: bool = False) -> None:
        if self.now < self.asleep[client]:
            return
        session = self.sessions[client]
        for (owner, endpoint), link in self.links.items():
            if owner != client:
                continue
            if link is None:
                if all_of_it or self.rng.random() < 0.3:
                    self._connect(client, endpoint)
                continue
            gone = self.nodes[endpoint].links.get(link.name) is not link
            while link.down and (all_of_it or self.rng.random() < 0.8):
                session.received(endpoint, link.down.popleft(), self.now)
                self._notice(client)
            if gone and not link.down:
                self.links[client, endpoint] = None
                session.disconnected(endpoint, self.now)
        session.tick(self.now)
        for endpoint, data in session.outgoing(self.now):
            link = self.links[client, endpoint]
            if link is not None and self.nodes[endpoint].links.get(link.name) is link:
                link.up.append(data)
        session.news()

    def _connect(self, client: int, endpoint: int) -> None:
        link = Link(self.rng.randbytes(5))
        self.links[client, endpoint] = self.nodes[endpoint].links[link.name] = link
        self.sessions[client].connected(endpoint, self.now)

    def _notice(self, client: int) -> None:
        """Watches from now on begin, and from then on are owed everything."""
        for reader in self.readers[client]:
            feed = reader.feed
            if reader.seen.told is None and feed.begun:
                first = feed.queue[0].first if feed.queue else feed.pieces[0].first if feed.pieces else feed.next
                reader.seen.created(first - 1)

    def watch(self, client: int) -> None:
        rng = self.rng
        key, end = rng.choice(KEYS), rng.choice(ENDS)
        if end and end != b"\0" and end <= key:
            end = b""
        newest = self._reference.revision
        start = rng.choice((0, 0, max(1, newest - rng.randrange(60)), newest + 3))
        flags = [rng.random() < 0.2 for _ in range(4)]
        asked = m.Watch(0, key, end, start, *flags)._replace(fragment=True)
        seen = SeenWatch(asked, self.truth)
        if start:
            seen.created(0)
        self.readers[client].append(Reader(self.sessions[client].watching.open(asked, None), seen))
        self.begun += 1

    def cancel(self, client: int) -> None:
        if len(self.readers[client]) > 1:
            reader = self.readers[client].pop(self.rng.randrange(len(self.readers[client])))
            self.sessions[client].cancel(reader.feed)

    def read(self, client: int, *, all_of_it: bool = False) -> None:
        if self.now < self.asleep[client]:
            return
        watching = self.sessions[client].watching
        for reader in list(self.readers[client]):
            if self.rng.random() < 0.02:
                reader.pace = self.rng.choice((0.0, 0.05, 1.0))
            if self.rng.random() < 0.02:
                watching.ask_progress(reader.feed)
            while all_of_it or self.rng.random() < reader.pace:
                batch = watching.take(reader.feed, self.now)
                if batch is None:
                    self._see_end(client, reader)
                    break
                for response in batch.responses:
                    if response.progress:
                        reader.seen.progress(response.revision)
                        continue
                    body = [(event.type == "DELETE", event.kv, event.prev_kv) for event in response.events]
                    reader.seen.events(response.revision, body, whole=True)
                    self.events += len(body)

    def _see_end(self, client: int, reader: Reader) -> None:
        feed = reader.feed
        if feed.done:
            assert isinstance(feed.error, Compacted), f"{feed} ended with {feed.error!r}"
            assert feed.next < feed.error.compact_revision <= self.truth.compacted + 1
            self.compacted += 1
            self.readers[client].remove(reader)

    # --- faults ----------------------------------------------------------------------------------------

    def fault(self) -> None:
        rng = self.rng
        node = rng.choice(self.nodes)
        node.now = self.now
        kind = rng.randrange(10)
        if kind < 3 and node.links:
            del node.links[rng.choice(list(node.links))]
        elif kind == 3:
            node.restart_gateway()
        elif kind == 4:
            node.restart_watch()
        elif kind == 5:
            node.restart_storage()
            node.feed_again()
        elif kind == 6:
            node.full ^= {rng.choice(("watch", "gateway"))}
        elif kind == 7:
            node.term += 1
            node.letters.append(m.LeaderIs(node.term, rng.choice((0, 1))))
        elif kind == 8:
            self.asleep[rng.randrange(len(self.sessions))] = self.now + rng.choice((500, 5000, 20_000))
        else:
            self.now += rng.choice((100, 1000, 8000))

    def step(self) -> None:
        rng = self.rng
        self.now += rng.choice((0, 1, 5, 20))
        if rng.random() < 0.6:
            self.write()
        for node in self.nodes:
            self.node_turn(node)
        for client in range(len(self.sessions)):
            if rng.random() < 0.04 and len(self.readers[client]) < 6:
                self.watch(client)
            if rng.random() < 0.01:
                self.cancel(client)
            self.client_turn(client)
            self.read(client)
        if rng.random() < 0.04:
            self.fault()

    def heal(self, ms: int = 8000) -> None:
        """Nothing fails any more, everybody reads; then all have been told everything."""
        for node in self.nodes:
            node.full.clear()
            node.term += 1
            node.letters.append(m.LeaderIs(node.term, 1))
        self.asleep = dict.fromkeys(self.asleep, 0)
        for _ in range(ms // 20 + 100):
            self.now += 20
            for node in self.nodes:
                node.now = self.now
                node.catch_up(len(node.behind))
                node.gateway_turn()
                node.storage_turn()
                node.watch_turn()
            for client in range(len(self.sessions)):
                self.client_turn(client, all_of_it=True)
                self.read(client, all_of_it=True)

    def owed(self) -> list[str]:
        """What was not told."""
        newest = self._reference.revision
        return [
            f"{reader.feed} told up to {reader.seen.told}, {reader.seen.watch}"
            for readers in self.readers
            for reader in readers
            if reader.seen.told is None or reader.seen.owed(reader.seen.told, newest)
        ]
