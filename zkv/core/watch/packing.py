"""Bytes of watch answers, joined from parts that are packed once however many watches share them.

What comes out is what `codec.pack` would make of an `Answers` (wire/messages.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zkv.wire import messages as m
from zkv.wire.codec import array_head, pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_ENTRY: Final = b"\x94"  # an array of four
_NO_ANSWERS_NO_TOKEN: Final = b"\x90\x00"
_KINDS: Final = {int(kind): pack(int(kind)) for kind in m.WatchKind}


class Packed:
    """An event, packed once however many are told of it, and its revision."""

    __slots__ = ("data", "revision")

    def __init__(self, revision: int, data: bytes) -> None:
        self.revision = revision
        self.data = data


def head(cluster_id: int, member_id: int, term: int) -> bytes:
    """What a message begins with: all up to the array of watch answers."""
    fields = (m.PROTOCOL_VERSION, cluster_id, member_id, term)
    return b"".join((b"\x97", *map(pack, fields), _NO_ANSWERS_NO_TOKEN))


def ids(watches: Iterable[int]) -> bytes:
    return pack(tuple(watches))


def entry(names: bytes, kind: int, revision: int, body: bytes) -> bytes:
    """A watch answer: packed ids, kind, revision, packed body."""
    return b"".join((_ENTRY, names, _KINDS[kind], pack(revision), body))


def message(start: bytes, entries: Sequence[bytes]) -> bytes:
    return start + array_head(len(entries)) + b"".join(entries)


def bodies(pending: Sequence[Packed], told: int, bytes_max: int, *, fragment: bool) -> Iterator[tuple[int, int, bytes]]:
    """(kind, revision, body) of the answers that carry these events.

    One answer, unless they are more than `bytes_max`: then it is cut between two revisions, and where `fragment` is
    set within one too. `told` is the last one's revision: how far this brings the watch.
    """
    part: list[bytes] = []
    size = before = 0
    for event in pending:
        revision, packed = event.revision, event.data
        if size + len(packed) > bytes_max and part and (fragment or revision != before):
            kind = m.WatchKind.FRAGMENT if revision == before else m.WatchKind.EVENTS
            yield kind, before, array_head(len(part)) + b"".join(part)
            part, size = [], 0
        part.append(packed)
        size += len(packed)
        before = revision
    yield m.WatchKind.EVENTS, told, array_head(len(part)) + b"".join(part)
