"""What a gateway counts for metrics, per client message, and only where somebody wants to know."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from zkv.gateway.validate import LEASE, LINEARIZABLE, LOCAL, LOOK, MEMBERS, RAFT, STAMPED, WRITE
from zkv.gauges import Histogram

if TYPE_CHECKING:
    from zkv.gauges import Value

WAYS: Final = {
    WRITE: "write",
    LINEARIZABLE: "linearizable",
    STAMPED: "stamped",
    LOCAL: "local",
    LEASE: "lease",
    MEMBERS: "members",
    RAFT: "raft",
}
WRITES: Final = frozenset((WRITE, MEMBERS))


class Tally:
    def __init__(self) -> None:
        self.failed: Counter[int] = Counter()
        """Groups that were refused whole or are in doubt, by way."""
        self._requests = dict.fromkeys((*WAYS, LOOK), 0)
        self._received = self._sent = 0
        self._durations = {way: Histogram() for way in WAYS}

    def taken(self, way: int, requests: int, size: int) -> None:
        self._requests[way] += requests
        self._received += size

    def answered(self, way: int, size: int, duration_ms: int) -> None:
        """`duration_ms` below 0: more answers of this group follow."""
        self._sent += size
        if duration_ms >= 0:
            self._durations[way].observe(duration_ms * 1_000_000)

    def gauges(self) -> list[Value]:
        return [
            ("received bytes", "", self._received),
            ("sent bytes", "", self._sent),
            ("failed", "", sum(self.failed[way] for way in WRITES)),
            *(("requests", name, self._requests[way]) for way, name in WAYS.items() if self._requests[way]),
            *(("durations", name, self._durations[way].counts) for way, name in WAYS.items() if self._requests[way]),
        ]
