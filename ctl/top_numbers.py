"""What `zkv top` shows: rates, latencies and shares, from what members told at two moments. Pure.

Members tell counts since their processes began. What happened between two moments is the difference; a count that went
down belongs to a process that began anew in between, and counts from nothing.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from zkv.gauges import BOUNDS_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from zkv.wire.messages import LookAnswer

NS = 1e9
DOORS = ("gateway", "grpc")
READS = ("linearizable", "local", "stamped")
PREFIXES_MAX = 10


class Seen(NamedTuple):
    """What the member at an endpoint told at a moment (monotonic, ns); or why it did not."""

    endpoint: str
    at: int
    member: int = 0
    answer: LookAnswer | None = None
    error: str = ""
    refused: bool = False
    """The member is there, and has said no."""


class Latency(NamedTuple):
    """Seconds. A percentile is somewhere in the bucket it fell into; the bound above is told."""

    count: int  # type: ignore[assignment] # hides tuple's method, as meant
    p50: float
    p99: float


class ActorRow(NamedTuple):
    """`cpu`: share of a core; `busy`: share of the time in which it handled something; `inbox`: most that waited."""

    actor: str
    cpu: float | None
    memory: int
    busy: float | None
    turn_max: float
    inbox: int


class MemberRow(NamedTuple):
    """Rates per second; None where there is but one look so far."""

    endpoint: str
    member: int
    error: str
    refused: bool
    leads: bool
    learner: bool
    leader: int
    term: int
    committed: int
    applied: int
    revision: int
    size: int
    in_use: int
    alarms: tuple[str, ...]
    writes: float | None
    reads: float | None
    write_latency: Latency
    read_latency: Latency
    fsync: Latency
    apply: Latency
    watches: int
    events: float | None
    lag: int
    leases: int
    waiting: int
    cpu: float | None
    memory: int
    actors: tuple[ActorRow, ...]


class QuotaRow(NamedTuple):
    """A prefix that has a quota; a most of 0: any. `refused`: requests a second, as one member sees them."""

    prefix: str
    keys: int
    keys_max: int
    bytes_used: int
    bytes_max: int
    requests_max: int
    refused: float | None

    @property
    def share(self) -> float:
        """How much of it is used, of what is used most."""
        shares = [used / most for used, most in ((self.keys, self.keys_max), (self.bytes_used, self.bytes_max)) if most]
        return max(shares, default=0.0)


class Frame(NamedTuple):
    """`prefixes`: (prefix, requests a second) over all members, the hottest first.

    `quotas`: first those that refuse most, then the fullest.
    """

    members: tuple[MemberRow, ...]
    prefixes: tuple[tuple[str, float], ...]
    quotas: tuple[QuotaRow, ...] = ()


class _Told:
    """One answer, to be asked by name. What several doors tell is added up."""

    def __init__(self, answer: LookAnswer | None) -> None:
        self.numbers: dict[tuple[str, str, str], int] = {}
        self.histograms: dict[tuple[str, str, str], tuple[int, ...]] = {}
        self.actors: list[str] = []
        for actor, values in answer.told if answer is not None else ():
            if actor != "processes":
                self.actors.append(actor)
            for name, label, value in values:
                if isinstance(value, int):
                    self.numbers[actor, name, label] = value
                else:
                    self.histograms[actor, name, label] = value

    def number(self, actor: str, name: str, label: str = "") -> int:
        return self.numbers.get((actor, name, label), 0)


class _Pair:
    """One member then and now. `seconds`: between the two, 0 if there was no then."""

    def __init__(self, before: Seen | None, now: Seen) -> None:
        known = before is not None and before.answer is not None and before.member == now.member
        self.before = _Told(before.answer if known and before is not None else None)
        self.now = _Told(now.answer)
        self.seconds = (now.at - before.at) / NS if known and before is not None else 0.0

    def rate(self, actor: str, name: str, label: str = "", unit: float = 1.0) -> float | None:
        if not self.seconds:
            return None
        return self._gone_up(actor, name, label) / unit / self.seconds

    def rates(self, actors: Iterable[str], name: str, labels: Iterable[str]) -> float | None:
        found = [self.rate(actor, name, label) for actor in actors for label in labels]
        return None if None in found else sum(rate for rate in found if rate is not None)

    def _gone_up(self, actor: str, name: str, label: str) -> int:
        now, before = self.now.number(actor, name, label), self.before.number(actor, name, label)
        return now - before if now >= before else now

    def latency(self, actors: Iterable[str], name: str, labels: Iterable[str] = ("",)) -> Latency:
        total = [0] * (len(BOUNDS_S) + 1)
        for actor in actors:
            for label in labels:
                now = self.now.histograms.get((actor, name, label))
                if now is None:
                    continue
                before = self.before.histograms.get((actor, name, label), (0,) * len(now))
                if sum(before[1:]) > sum(now[1:]):
                    before = (0,) * len(now)
                for at, (one, other) in enumerate(zip(now[1:], before[1:], strict=True)):
                    total[at] += one - other
        return latency_of(total)


def latency_of(counts: Sequence[int]) -> Latency:
    """`counts`: how many fell into each bucket of zkv/gauges.py."""
    bounds: tuple[float, ...] = (*BOUNDS_S, float("inf"))
    every = sum(counts)

    def percentile(share: float) -> float:
        reached = 0
        for bound, count in zip(bounds, counts, strict=True):
            reached += count
            if reached >= share * every:
                return bound
        return bounds[-1]

    return Latency(every, percentile(0.5), percentile(0.99)) if every else Latency(0, 0.0, 0.0)


def frame(before: Mapping[str, Seen], now: Sequence[Seen]) -> Frame:
    """`before`: what was seen at each endpoint the time before."""
    hot: dict[str, float] = defaultdict(float)
    rows = []
    newest: tuple[int, tuple[QuotaRow, ...]] = (-1, ())
    for seen in now:
        pair = _Pair(before.get(seen.endpoint), seen)
        rows.append(_row(seen, pair))
        if seen.answer is not None and rows[-1].applied > newest[0]:
            newest = rows[-1].applied, _quotas(pair)
        for actor, name, label in pair.now.numbers:
            if name == "hot":
                hot[label] += pair.rate(actor, name, label) or 0.0
    hottest = sorted(((rate, prefix) for prefix, rate in hot.items() if rate > 0), reverse=True)
    return Frame(tuple(rows), tuple((prefix, rate) for rate, prefix in hottest[:PREFIXES_MAX]), newest[1])


def _quotas(pair: _Pair) -> tuple[QuotaRow, ...]:
    number = pair.now.number
    rows = [
        QuotaRow(
            prefix=prefix,
            keys=number("storage", "quota keys", prefix),
            keys_max=number("storage", "quota keys max", prefix),
            bytes_used=number("storage", "quota bytes", prefix),
            bytes_max=number("storage", "quota bytes max", prefix),
            requests_max=number("storage", "quota requests max", prefix),
            refused=pair.rate("storage", "quota refused", prefix),
        )
        for actor, name, prefix in pair.now.numbers
        if (actor, name) == ("storage", "quota keys")
    ]
    return tuple(sorted(rows, key=lambda row: (-(row.refused or 0.0), -row.share, row.prefix))[:PREFIXES_MAX])


def _row(seen: Seen, pair: _Pair) -> MemberRow:
    number = pair.now.number
    return MemberRow(
        endpoint=seen.endpoint,
        member=seen.member,
        error=seen.error,
        refused=seen.refused,
        leads=bool(number("raft", "is leader")),
        learner=bool(number("raft", "is learner")),
        leader=number("raft", "leader"),
        term=number("raft", "term"),
        committed=number("raft", "committed"),
        applied=number("raft", "applied"),
        revision=number("storage", "revision"),
        size=number("storage", "db size"),
        in_use=number("storage", "db in use"),
        alarms=tuple(label for (_, name, label), on in pair.now.numbers.items() if name == "alarms" and on),
        writes=pair.rates(DOORS, "requests", ("write", "members")),
        reads=pair.rates(DOORS, "requests", READS),
        write_latency=pair.latency(DOORS, "durations", ("write", "members")),
        read_latency=pair.latency(DOORS, "durations", READS),
        fsync=pair.latency(("raft",), "fsync"),
        apply=pair.latency(("storage",), "apply"),
        watches=number("watch", "watches"),
        events=pair.rate("watch", "events"),
        lag=number("watch", "lag"),
        leases=number("lease", "leases"),
        waiting=sum(number(door, "groups") for door in DOORS),
        cpu=pair.rate("processes", "cpu", unit=NS),
        memory=number("processes", "memory"),
        actors=tuple(_actor(actor, pair) for actor in sorted(pair.now.actors)),
    )


def _actor(actor: str, pair: _Pair) -> ActorRow:
    number = pair.now.number
    return ActorRow(
        actor=actor,
        cpu=pair.rate("processes", "cpu of", actor, NS),
        memory=number("processes", "memory of", actor),
        busy=pair.rate(actor, "busy", unit=NS),
        turn_max=number(actor, "turn") / NS,
        inbox=number(actor, "inbox"),
    )
