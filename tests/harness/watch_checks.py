"""What a watch is owed, and whether it got just that: the checker that every watch test and the simulator use.

It is held against the history itself: each answer brings a watch from the revision it was told of to another, and must
carry exactly the events between the two that it asked for. So order, no repeat, no hole, whole revisions, filters and
prev_kv are one comparison.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from tests.harness.kv_model import inside
from zkv.wire import messages as m
from zkv.wire.codec import unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class WrongEvents(AssertionError):
    """A watch was not told what happened."""


class Truth:
    """All that has happened, with what it superseded; and what is compacted."""

    def __init__(self) -> None:
        self.revisions: list[int] = []
        self.events: list[tuple[m.Event, ...]] = []
        self.compacted = -1

    def add(self, told: Iterable[tuple[int, Iterable[Any]]]) -> None:
        for revision, events in told:
            if not self.revisions or revision > self.revisions[-1]:
                self.revisions.append(revision)
                self.events.append(tuple(_event(event) for event in events))

    def between(self, after: int, upto: int) -> Iterable[tuple[int, tuple[m.Event, ...]]]:
        for at in range(bisect_right(self.revisions, after), bisect_right(self.revisions, upto)):
            yield self.revisions[at], self.events[at]


def _event(fields: Any) -> m.Event:
    deleted, kv, prev_kv = fields
    return m.Event(deleted, m.KeyValue(*kv), None if prev_kv is None else m.KeyValue(*prev_kv))


class SeenWatch:
    """One watch of a client: `told` is how far it has come, or None before it was created."""

    def __init__(self, watch: m.Watch, truth: Truth) -> None:
        self.watch = watch
        self.told: int | None = None
        self.ended: tuple[int, int, int] | None = None
        self.count = 0
        """Events seen."""
        self._truth = truth
        self._part: list[m.Event] = []

    def created(self, revision: int) -> None:
        self._must(self.told is None, "created twice")
        start = self.watch.start_revision
        self.told = revision if start == 0 else start - 1

    def events(self, revision: int, body: Sequence[Any], *, whole: bool) -> None:
        self._must(self.told is not None and self.ended is None, "events out of season")
        assert self.told is not None
        self._part += (_event(fields) for fields in body)
        if not whole:
            return
        got, self._part = self._part, []
        self._must(bool(got), "an answer without events")
        owed = self.owed(self.told, revision)
        self._must(
            len(got) == len(owed) and all(self._same(*pair) for pair in zip(got, owed, strict=True)),
            f"between {self.told} and {revision}: got {brief(got)}, owed {brief(owed)}",
        )
        self.count += len(got)
        self.told = max(self.told, revision)

    def progress(self, revision: int) -> None:
        self._must(not self._part, "progress within a revision")
        if self.told is not None and self.ended is None:
            owed = self.owed(self.told, revision)
            self._must(not owed, f"progress to {revision}, and owed {brief(owed)}")
            self.told = max(self.told, revision)

    def cancelled(self, code: int, compacted: int, resume: int) -> None:
        self._must(self.ended is None, "cancelled twice")
        if resume and self.told is not None:
            self._must(not self.owed(self.told, resume - 1), f"would lose events before {resume}")
        self.ended = code, compacted, resume

    def owed(self, after: int, upto: int) -> list[m.Event]:
        watch = self.watch
        key = watch.key or b"\0"
        return [
            event
            for _, events in self._truth.between(after, upto)
            for event in events
            if inside(event.kv.key, key, watch.range_end) and not (watch.no_delete if event.deleted else watch.no_put)
        ]

    def _same(self, got: m.Event, owed: m.Event) -> bool:
        if got[:2] != owed[:2]:
            return False
        if not self.watch.prev_kv:
            return got.prev_kv is None
        return got.prev_kv == owed.prev_kv or (got.prev_kv is None and owed.kv.mod_revision <= self._truth.compacted)

    def _must(self, holds: bool, what: str) -> None:
        if not holds:
            raise WrongEvents(f"{self.watch}: {what}")


def brief(events: Sequence[m.Event]) -> list[str]:
    return [f"{'-' if event.deleted else '+'}{event.kv.key!r}@{event.kv.mod_revision}" for event in events]


class Listener:
    """One client connection: its watches by id, and what it has not yet said to have taken."""

    def __init__(self, truth: Truth) -> None:
        self.watches: dict[int, SeenWatch] = {}
        self.untaken = 0
        self.messages = 0
        self.entries: list[tuple[tuple[int, ...], int, int, Any]] = []
        """All watch answers, as they came."""
        self._truth = truth

    def watch(self, watch: m.Watch) -> SeenWatch:
        seen = self.watches[watch.id] = SeenWatch(watch, self._truth)
        return seen

    def hear(self, message: bytes) -> None:
        self.messages += 1
        self.untaken += len(message)
        answers = m.Answers(*unpack(message))
        assert (answers.version, answers.answers, answers.token) == (m.PROTOCOL_VERSION, (), 0)
        watches: Any = answers.watches
        for ids, kind, revision, body in watches:
            self.entries.append((ids, kind, revision, body))
            for seen in list(self.watches.values()) if ids == (0,) else [self.watches[each] for each in ids]:
                if kind == m.WatchKind.CREATED:
                    seen.created(revision)
                elif kind == m.WatchKind.PROGRESS:
                    seen.progress(revision)
                elif kind == m.WatchKind.CANCELLED:
                    seen.cancelled(*body)
                else:
                    seen.events(revision, body, whole=kind == m.WatchKind.EVENTS)
