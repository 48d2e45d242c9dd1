"""A client's session in the world of simulated nodes: to the doors of all of them, each message for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.harness.simulated_node import Letter
from zkv.client.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.harness.raft_world import World
    from zkv.client.ticket import Ticket
    from zkv.wire import messages as m


class SimulatedSession:
    """`carry` is to be called now and then: clients' own clocks tick there."""

    def __init__(self, world: World, address: bytes, members: Sequence[int]) -> None:
        self.address = address
        self.busy: list[tuple[Ticket, Callable[[Ticket], None]]] = []
        self._world = world
        self._members = members
        self._session = Session(len(members), world.rng.randbytes(16), world.rng.getrandbits(64), now=world.now)
        for endpoint in range(len(members)):
            self._session.connected(endpoint, world.now)
        world.processes[address] = self

    def submit(self, request: m.Request, patience_ms: int, done: Callable[[Ticket], None]) -> None:
        """It leaves with the next `carry`."""
        self.busy.append((self._session.submit(request, self._world.now + patience_ms), done))

    def deliver(self, letter: object) -> None:
        assert isinstance(letter, Letter)
        self._session.received(self._members.index(letter.sender), letter.content, self._world.now)
        self.carry()

    def reconnected(self, member: int) -> None:
        endpoint = self._members.index(member)
        self._session.disconnected(endpoint, self._world.now)
        self._session.connected(endpoint, self._world.now)

    def carry(self) -> None:
        now = self._world.now
        self._session.tick(now)
        for endpoint, data in self._session.outgoing(now):
            self._world.send(self.address, ("door", self._members[endpoint]), Letter(self.address, data))
        for each in [each for each in self.busy if each[0].done]:
            self.busy.remove(each)
            ticket, done = each
            done(ticket)
