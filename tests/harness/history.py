"""What clients asked and were told, held against what the store says has happened: is the history linearizable?

In general that is a search (Wing & Gong 1993). Here the store gives the witness away: each write has a revision of its
own, and a watch from the first revision tells all of them, the *tape*. So it is enough, and complete, that

- the tape holds each write that was acknowledged, once, at the revision that was told; none that was refused; and of
  those whose outcome the client does not know, each once at most;
- each answer fits the tape at its revision: what a read found, what a swap met;
- revisions keep real time (Herlihy & Wing 1990): what was asked after an answer came is not before it.

Serializable reads keep the second only, as etcd has it.
"""

from __future__ import annotations

import bisect
import random
import threading
import time
from enum import Enum, auto
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import zkv
from zkv.client.records import RangeResult
from zkv.errors import ZkvError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

PREFIX = b"h/"
TIMEOUT_S = 8.0


class Kind(Enum):
    PUT = auto()
    DELETE = auto()
    SWAP = auto()
    """If `expected` is there: put `value`."""
    READ = auto()
    SERIALIZABLE = auto()


WRITES = frozenset({Kind.PUT, Kind.DELETE, Kind.SWAP})


class Outcome(Enum):
    TOLD = auto()
    REFUSED = auto()
    """It has not happened, says the error."""
    UNKNOWN = auto()


class Asked(NamedTuple):
    """One call. `began`, `ended` in seconds of one clock; `revision` and those behind it are what was told."""

    kind: Kind
    key: bytes
    began: float
    ended: float
    outcome: Outcome
    value: bytes = b""
    """That is put; no two calls put the same."""
    expected: bytes | None = None
    revision: int = 0
    found: bytes | None = None
    """By a read; by a swap that met something else."""
    changed: bool = True
    """A delete that found something, a swap that met what it expected."""


class Change(NamedTuple):
    """On the tape. `value` None: deleted."""

    revision: int
    key: bytes
    value: bytes | None


class Tape:
    def __init__(self, changes: Sequence[Change]) -> None:
        self.wrong = [
            f"the tape goes back: {before} {after}"
            for before, after in pairwise(changes)
            if after.revision <= before.revision
        ]
        self.at = {change.revision: change for change in changes}
        self._of: dict[bytes, list[tuple[int, bytes | None]]] = {}
        for change in changes:
            self._of.setdefault(change.key, []).append((change.revision, change.value))

    def value(self, key: bytes, revision: int) -> bytes | None:
        """What the key held at that revision."""
        changes = self._of.get(key, [])
        place = bisect.bisect_right(changes, revision, key=lambda change: change[0])
        return changes[place - 1][1] if place else None


def judge(changes: Sequence[Change], calls: Sequence[Asked]) -> list[str]:
    """What is wrong with it; an empty list is a linearizable history."""
    tape = Tape(changes)
    wrong = list(tape.wrong)
    put_at: dict[bytes, int] = {}
    wrong += [
        f"made twice: {change}"
        for change in changes
        if change.value is not None and put_at.setdefault(change.value, change.revision) != change.revision
    ]
    known = {call.value for call in calls if call.kind in WRITES}
    wrong += [f"asked by nobody: {value!r}" for value in put_at if value not in known]
    for call in calls:
        if call.outcome is Outcome.TOLD:
            wrong += _misfits(tape, call)
        elif call.outcome is Outcome.REFUSED and call.value in put_at:
            wrong.append(f"refused, and made: {call}")
    return wrong + _deletes_of_nobody(changes, calls) + _out_of_time(calls, put_at)


def _misfits(tape: Tape, call: Asked) -> list[str]:
    """Does what was told fit the tape?"""
    before = tape.value(call.key, call.revision - 1)
    now = tape.value(call.key, call.revision)
    if call.kind is Kind.PUT:
        fits = tape.at.get(call.revision) == (call.revision, call.key, call.value)
    elif call.kind is Kind.DELETE and call.changed:
        fits = before is not None and tape.at.get(call.revision) == (call.revision, call.key, None)
    elif call.kind is Kind.SWAP and call.changed:
        fits = before == call.expected and tape.at.get(call.revision) == (call.revision, call.key, call.value)
    elif call.kind is Kind.SWAP:
        fits = now == call.found != call.expected
    else:  # a delete that found nothing has found None
        fits = now == call.found
    return [] if fits else [f"{call} does not fit: {before!r} before, {now!r} then"]


def _deletes_of_nobody(changes: Sequence[Change], calls: Sequence[Asked]) -> list[str]:
    asked: dict[bytes, int] = {}
    for call in calls:
        if call.kind is Kind.DELETE and call.outcome is not Outcome.REFUSED and call.changed:
            asked[call.key] = asked.get(call.key, 0) + 1
    for change in changes:
        if change.value is None:
            asked[change.key] = asked.get(change.key, 0) - 1
    return [f"deleted {-left} times too often: {key!r}" for key, left in asked.items() if left < 0]


def _out_of_time(calls: Sequence[Asked], put_at: dict[bytes, int]) -> list[str]:
    """Whoever was asked after an answer had come is behind it."""
    answered = sorted((call.ended, call.revision) for call in calls if call.outcome is Outcome.TOLD)
    wrong = []
    newest = place = 0
    for call in sorted(calls, key=lambda call: call.began):
        while place < len(answered) and answered[place][0] < call.began:
            newest = max(newest, answered[place][1])
            place += 1
        if call.kind is Kind.SERIALIZABLE:
            continue
        told = call.outcome is Outcome.TOLD
        revision = call.revision if told else put_at.get(call.value, newest + 1)
        made = call.kind in WRITES and call.changed
        if revision < newest + made:
            wrong.append(f"{call} was asked when {newest} had been told of, and is of {revision}")
    return wrong


class Recorder:
    """`count` threads that ask for this and that of a few keys, each by a client of its own, until stopped."""

    def __init__(self, client: Callable[[], zkv.Client], *, count: int = 6, keys: int = 4, seed: int = 1) -> None:
        self._client = client
        self._keys = [PREFIX + b"%d" % number for number in range(keys)]
        self._stop = threading.Event()
        self.calls: list[Asked] = []
        rng = random.Random(seed)
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number, random.Random(rng.random())), daemon=True)
            for number in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def told(self) -> int:
        """How many calls have been answered."""
        return sum(call.outcome is Outcome.TOLD for call in list(self.calls))

    def _run(self, number: int, rng: random.Random) -> None:
        try:
            with self._client() as kv:
                count = 0
                while not self._stop.is_set():
                    count += 1
                    self.calls.append(self._ask(kv, rng, b"%d.%d" % (number, count)))
        except BaseException as error:  # noqa: BLE001 - raised again at the end
            self._errors.append(error)

    def _ask(self, kv: zkv.Client, rng: random.Random, value: bytes) -> Asked:
        kind = rng.choice(list(Kind))
        key = rng.choice(self._keys)
        expected = None
        if kind is Kind.SWAP and self.calls:  # often what is there, and sometimes not
            expected = rng.choice(self.calls[-8:]).value or None
        call = Asked(kind, key, time.monotonic(), 0.0, Outcome.TOLD, value if kind in WRITES else b"", expected)
        try:
            told = _ask(kv, call)
        except ZkvError as error:
            unknown = error.maybe_applied and kind in WRITES
            told = call._replace(outcome=Outcome.UNKNOWN if unknown else Outcome.REFUSED)
        return told._replace(ended=time.monotonic())


def _ask(kv: zkv.Client, call: Asked) -> Asked:
    """Raises ZkvError."""
    if call.kind is Kind.PUT:
        return call._replace(revision=kv.put(call.key, call.value, timeout=TIMEOUT_S).revision)
    if call.kind is Kind.DELETE:
        deleted = kv.delete(call.key, timeout=TIMEOUT_S)
        return call._replace(revision=deleted.revision, changed=deleted.deleted == 1)
    if call.kind is Kind.SWAP:
        meets = kv.value(call.key) == call.expected if call.expected else kv.version(call.key) == 0
        swap = kv.txn().if_(meets).then(zkv.put(call.key, call.value)).otherwise(zkv.get(call.key))
        done = swap.commit(timeout=TIMEOUT_S)
        if done.succeeded:
            return call._replace(revision=done.revision)
        [found] = done.responses
        assert isinstance(found, RangeResult)
        return call._replace(revision=done.revision, changed=False, found=found.kvs[0].value if found.kvs else None)
    with kv.range(call.key, serializable=call.kind is Kind.SERIALIZABLE, timeout=TIMEOUT_S) as records:
        values = [record.value for record in records]
        return call._replace(revision=records.header.revision, found=values[0] if values else None)


def tape(kv: zkv.Client, end: int) -> list[Change]:
    """What has happened to the keys before the put at revision `end`, as a watch tells it."""
    changes: list[Change] = []
    with kv.watch(prefix=PREFIX, from_revision=1) as watch:
        for event in watch.events:
            if event.revision >= end:
                break
            changes.append(Change(event.revision, event.key, None if event.type == "DELETE" else event.value))
    return changes


def verdict(endpoints: Sequence[str], calls: Sequence[Asked]) -> list[str]:
    """`judge` by the tape, of which all members must tell the same."""
    with zkv.Client(endpoints) as kv:
        end = kv.put(PREFIX + b"end", timeout=60).revision
    tapes = []
    for endpoint in endpoints:
        with zkv.Client(endpoint) as kv:
            tapes.append(tape(kv, end))
    differ = [
        f"{endpoint} tells another tale" for endpoint, each in zip(endpoints, tapes, strict=True) if each != tapes[0]
    ]
    return differ + judge(tapes[0], calls)
