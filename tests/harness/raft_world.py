"""A world in one thread: a clock, what will happen when, and a network that loses, delays, doubles and cuts.

Nothing here knows raft. A *process* lives at an address (any hashable), is given messages and says where others go;
`raft_member.py` has the one that wraps a bare core, and one that wraps a whole actor fits as well.
All chance comes from the one random source the world is made with, and things due at the same moment
happen in the order they were planned, so one seed makes one history.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Hashable, Iterable


class Process(Protocol):
    def deliver(self, message: object) -> None:
        """A message has arrived; handled at once or, if the process is busy, later, in this order."""


@dataclass
class Weather:
    """How bad the network is. Chances are per message, times ms."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    late_ms: int = 1
    cut: set[tuple[Hashable, Hashable]] = field(default_factory=set)
    """(from, to) that no message passes: one-way unless the reverse is there too."""


class World:
    def __init__(self, rng: random.Random) -> None:
        self.now = 0
        self.rng = rng
        self.weather = Weather()
        self.processes: dict[Hashable, Process] = {}
        self._planned: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()

    def plan(self, delay: int, deed: Callable[[], None]) -> None:
        heapq.heappush(self._planned, (self.now + delay, next(self._order), deed))

    def run(self, until: int) -> None:
        """Let everything happen that is due at or before `until`."""
        planned = self._planned
        while planned and planned[0][0] <= until:
            self.now, _, deed = heapq.heappop(planned)
            deed()
        self.now = until

    def send(self, sender: Hashable, to: Hashable, message: object) -> None:
        weather, rng = self.weather, self.rng
        if (sender, to) in weather.cut or rng.random() < weather.lost:
            return
        for _ in range(2 if rng.random() < weather.doubled else 1):
            delay = rng.randint(0, 3)
            if rng.random() < weather.late:
                delay += rng.randrange(weather.late_ms)
            self.plan(delay, lambda: self._arrive(to, message))

    def _arrive(self, to: Hashable, message: object) -> None:
        if process := self.processes.get(to):
            process.deliver(message)

    def cut_off(self, some: Iterable[Hashable], others: Iterable[Hashable], *, both_ways: bool) -> None:
        pairs = {(one, other) for one in some for other in others}
        self.weather.cut |= pairs
        if both_ways:
            self.weather.cut |= {(other, one) for one, other in pairs}
