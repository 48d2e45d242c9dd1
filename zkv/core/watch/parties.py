"""Streams, cohorts and parties: see the package. What they are made of, and how cohorts become one."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final, NamedTuple

from zkv.core.watch import packing

if TYPE_CHECKING:
    from zkv.core.watch.index import Index
    from zkv.wire import messages as m

LIVE: Final = 0
PARKED: Final = -1


class Claim(NamedTuple):
    """What a party watches, and how."""

    key: bytes
    range_end: bytes
    prev_kv: bool
    no_put: bool
    no_delete: bool
    progress: bool
    fragment: bool


class Party:
    """Watches of one cohort with the same claim. `ids`, sorted, is never empty but while it is being made.

    `pending`: gathered for it in the batch that is being told.
    `quiet`: no events since it was last told how far the store is.
    """

    __slots__ = ("claim", "cohort", "ids", "packed_ids", "pending", "quiet")

    def __init__(self, cohort: Cohort, claim: Claim) -> None:
        self.cohort = cohort
        self.claim = claim
        self.ids: list[int] = []
        self.packed_ids: bytes | None = None
        self.pending: list[packing.Packed] | None = None
        self.quiet = False

    def add(self, watch: int) -> None:
        insort(self.ids, watch)
        self.packed_ids = None

    def remove(self, watch: int) -> None:
        del self.ids[bisect_left(self.ids, watch)]
        self.packed_ids = None

    def names(self) -> bytes:
        """The packed ids."""
        if self.packed_ids is None:
            self.packed_ids = packing.ids(self.ids)
        return self.packed_ids


class Cohort:
    """Parties of one stream at one place.

    `turn` says whose events are for it: LIVE, the number of a history slice, or PARKED (neither, for now).
    `place`: all events up to there have been told. Of a live one it is where it became live; the head counts.
    """

    __slots__ = ("parties", "place", "prev_kvs", "stream", "turn")

    def __init__(self, stream: Stream, place: int, turn: int) -> None:
        self.stream = stream
        self.place = place
        self.turn = turn
        self.parties: dict[Claim, Party] = {}
        self.prev_kvs = 0
        """Parties that want prev_kv."""

    def party(self, claim: Claim, index: Index) -> Party:
        """The one with this claim; made, if there is none."""
        party = self.parties.get(claim)
        if party is None:
            party = self.parties[claim] = Party(self, claim)
            self.prev_kvs += claim.prev_kv
            index.add(party)
        return party

    def drop(self, party: Party, index: Index) -> None:
        del self.parties[party.claim]
        self.prev_kvs -= party.claim.prev_kv
        index.remove(party)


class Stream:
    """One client connection: its watches, and how much it has been sent that it has not said to have taken.

    `flight`: those bytes, answers of this turn (`entries`) included. `pending`: bytes gathered for it in the batch
    that is being told, `touched` the parties they are for, `open` the revision whose events it is being given.
    `blocked`: its window is full and events are owed. `held`: watches not yet begun, by id. `asked`: revisions at which
    it asked for progress, the oldest and the newest not yet answered; `asks`: it asked while watches were held.
    """

    __slots__ = (
        "ahead",
        "asked",
        "asks",
        "behind",
        "blocked",
        "entries",
        "flight",
        "held",
        "live",
        "number",
        "open",
        "pending",
        "progress",
        "touched",
        "watches",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.watches: dict[int, Party] = {}
        self.live: Cohort | None = None
        self.behind: dict[int, Cohort] = {}
        """By their places."""
        self.ahead: dict[int, Cohort] = {}
        self.blocked = False
        self.flight = 0
        self.pending = 0
        self.open = 0
        self.touched: list[Party] = []
        self.entries: list[bytes] = []
        self.asked: tuple[int, int] | None = None
        self.asks = False
        self.progress = 0
        """Watches with progress_notify."""
        self.held: dict[int, m.Watch] = {}

    def cohorts(self) -> list[Cohort]:
        others = [*self.behind.values(), *self.ahead.values()]
        return others if self.live is None else [self.live, *others]


def joined(one: Cohort, other: Cohort, index: Index) -> Cohort:
    """Two cohorts of a stream at the same place as one: the larger of the two takes in the other."""
    assert one.stream is other.stream
    if len(one.parties) < len(other.parties):
        one, other = other, one
    for claim, party in other.parties.items():
        there = one.parties.get(claim)
        if there is None:
            party.cohort = one
            one.parties[claim] = party
            one.prev_kvs += claim.prev_kv
            continue
        kept, gone = (party, there) if len(there.ids) < len(party.ids) else (there, party)
        kept.cohort = one
        one.parties[claim] = kept
        index.remove(gone)
        for watch in gone.ids:
            one.stream.watches[watch] = kept
        kept.ids = sorted([*kept.ids, *gone.ids])
        kept.packed_ids = None
        kept.quiet = kept.quiet and gone.quiet
    other.parties = {}
    return one
