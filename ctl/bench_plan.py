"""A load: what is asked, by how many, how often, and where. `bench_engine.py` puts it on a cluster."""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from zkv.client.transport import Curve
    from zkv.wire import messages as m

RATE_BURST_S = 0.01  # a rate's bucket holds this much: what a stall keeps from being sent is hardly made up for
COLLECT_AFTER = 100_000
"""Objects more than at the last collection, as in a node's processes: what a load makes is gone without the collector,
which at Python's own 700 is a tenth of what a request costs."""


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """While a load runs: the command line does without garbage collection, and a load may run for hours."""
    threshold, was_on = gc.get_threshold(), gc.isenabled()
    gc.set_threshold(COLLECT_AFTER, 50, 100)
    gc.enable()
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        if not was_on:
            gc.disable()


class Workload(ABC):
    """What to ask. Each process of a load has its own copy."""

    parts: ClassVar[tuple[str, ...]] = ("",)
    """Kinds of requests that are reported apart, by name."""

    @abstractmethod
    def __call__(self, index: int) -> m.Request:
        """The request number `index`, from 0."""

    def part_of(self, request: m.Request) -> int:  # noqa: ARG002 - one part unless said otherwise
        """Which of `parts` a request belongs to."""
        return 0

    def preparation(self, clients: int) -> Sequence[m.Request]:  # noqa: ARG002 - nothing unless said otherwise
        """What is asked first, for so many clients, and not measured."""
        return ()

    def prepared(self, answers: Sequence[object]) -> None:  # noqa: B027 - most ask nothing first
        """The answers to that."""


class Plan(NamedTuple):
    """One run. `endpoints` with their scheme; `curves` for those that are curve://."""

    endpoints: tuple[str, ...]
    curves: Mapping[str, Curve]
    conns: int
    clients: int
    total: int
    rate: float = 0.0
    """Requests a second at most, over all clients; 0: no limit."""
    seconds: float = 0.0
    """After so long no more is asked; 0: until all has been."""
    burst_s: float = RATE_BURST_S
    """Of requests at the rate, so many seconds' worth may be made up for after a stall."""
    credentials: tuple[str, str] | None = None
    """Name and password of who asks."""
    dial_timeout: float = 5.0
    """Seconds until a connection that does not come up ends the run."""
    sample: bool = False
    """Note when each request began."""
    first: int = 0
    """The index of the first request: one process of several has its own share of them."""

    def share(self, part: int, parts: int) -> Plan:
        """What one of `parts` processes does. Connections keep their endpoints: they are dealt out again."""

        def cut(count: int) -> tuple[int, int]:
            return count * part // parts, count * (part + 1) // parts

        (conn, conn_end), (client, client_end), (first, end) = map(cut, (self.conns, self.clients, self.total))
        turned = conn % len(self.endpoints)
        return self._replace(
            endpoints=self.endpoints[turned:] + self.endpoints[:turned],
            conns=min(conn_end - conn, client_end - client),
            clients=client_end - client,
            total=end - first,
            rate=self.rate / parts,
            first=self.first + first,
        )
