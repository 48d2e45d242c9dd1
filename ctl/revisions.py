"""Events of an etcd watch, put together again to whole revisions, and taken away several at a time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

PUT = 0  # mvccpb.Event.PUT


class Changes(NamedTuple):
    """What belongs into one transaction: (is a put, key value) each; all up to `revision` has been taken with it."""

    revision: int
    changes: list[tuple[bool, Any]]


class Revisions:
    """Responses in, changes out. A revision is whole when a later one has begun, or its response has ended."""

    def __init__(self) -> None:
        self.whole: deque[tuple[int, dict[bytes, tuple[bool, Any]]]] = deque()
        self.told = 0
        """All events up to this revision have been told, the source says."""
        self._open: tuple[int, dict[bytes, tuple[bool, Any]]] | None = None
        self._count = 0

    def is_full(self, ops: int) -> bool:
        """Is there enough for a transaction?"""
        return self._count >= ops

    def add(self, response: Any) -> None:
        for event in response.events:
            revision = event.kv.mod_revision
            if self._open is not None and self._open[0] != revision:
                self._close()
            if self._open is None:
                self._open = (revision, {})
            self._open[1][event.kv.key] = (event.type == PUT, event.kv)
        if not response.fragment:
            self._close()
            if not response.created:
                self.told = max(self.told, response.header.revision)

    def _close(self) -> None:
        if self._open is not None:
            self._count += len(self._open[1])
            self.whole.append(self._open)
            self._open = None

    def take(self, ops: int, size: int) -> Changes | None:
        """Whole revisions, as long as no key comes twice and they fit; a part of one that is too large by itself."""
        taken: dict[bytes, tuple[bool, Any]] = {}
        revision = held = 0
        while self.whole:
            number, changes = self.whole[0]
            more = sum(map(_size, changes.values()))
            if len(taken) + len(changes) > ops or held + more > size or not taken.keys().isdisjoint(changes):
                break
            self.whole.popleft()
            taken |= changes
            revision, held = number, held + more
        if not taken and self.whole:
            revision, changes = self.whole[0]
            for key in self._first(changes, ops, size):
                taken[key] = changes.pop(key)
            if changes:
                revision -= 1  # it is not whole yet
            else:
                self.whole.popleft()
        if not taken:
            return None
        self._count -= len(taken)
        return Changes(revision, list(taken.values()))

    @staticmethod
    def _first(changes: dict[bytes, tuple[bool, Any]], ops: int, size: int) -> Iterable[bytes]:
        held = 0
        found: list[bytes] = []
        for key, change in changes.items():
            held += _size(change)
            if found and (len(found) == ops or held > size):
                break
            found.append(key)
        return found


def _size(change: tuple[bool, Any]) -> int:
    return len(change[1].key) + len(change[1].value)
