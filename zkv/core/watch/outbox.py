"""Answers on their way to streams: said, joined into messages, and counted until their clients have taken them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zkv.core.watch import packing, telling
from zkv.wire import messages as m
from zkv.wire.codec import pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zkv.core.watch.parties import Stream

ALL: Final = (0,)
"""In place of ids: all watches of the stream."""
_NOTHING: Final = b"\x90"


class Outbox:
    """`flight`: bytes said to all streams and not yet taken. `message_bytes`: about the size of a message."""

    def __init__(self, cluster_id: int, member_id: int, message_bytes: int) -> None:
        self.flight = 0
        self._ids = cluster_id, member_id
        self._message_bytes = message_bytes
        self._start = packing.head(cluster_id, member_id, 0)
        self._speaking: dict[Stream, None] = {}
        self._to_strangers: list[tuple[int, bytes]] = []

    def set_term(self, term: int) -> None:
        """What answers say from now on."""
        self._start = packing.head(*self._ids, term)

    def say(self, stream: Stream, ids: Iterable[int], kind: int, revision: int, body: bytes = _NOTHING) -> None:
        entry = packing.entry(packing.ids(ids), kind, revision, body)
        stream.entries.append(entry)
        stream.flight += len(entry)
        self.flight += len(entry)
        self._speaking[stream] = None

    def tell(self, streams: Sequence[Stream], told: int, stopped: dict[Stream, int]) -> None:
        """The events that were gathered for them (`telling.tell`), which bring them to `told` or where they stopped."""
        self.flight += telling.flush(streams, told, stopped, self._message_bytes)
        for stream in streams:
            self._speaking[stream] = None

    def refuse(self, number: int, ids: Iterable[int], revision: int, code: int) -> None:
        """To a stream that there is not, and that is not made for it."""
        entry = packing.entry(packing.ids(ids), m.WatchKind.CANCELLED, revision, pack((code, 0, 0)))
        self._to_strangers.append((number, packing.message(self._start, [entry])))

    def forget(self, stream: Stream) -> None:
        self._speaking.pop(stream, None)

    def take_out(self) -> list[tuple[int, bytes]]:
        """(stream number, message) each, once. A stream's come in order."""
        messages, self._to_strangers = self._to_strangers, []
        lone = message = b""
        for stream in self._speaking:
            entries, stream.entries = stream.entries, []
            if len(entries) == 1:
                if entries[0] is not lone:  # else it is told what the one before is
                    lone = entries[0]
                    message = packing.message(self._start, entries)
                messages.append(self._counted(stream, message, len(lone)))
                continue
            part: list[bytes] = []
            size = 0
            for entry in entries:
                if part and size + len(entry) > self._message_bytes:
                    messages.append(self._message(stream, part, size))
                    part, size = [], 0
                part.append(entry)
                size += len(entry)
            messages.append(self._message(stream, part, size))
        self._speaking.clear()
        return messages

    def _message(self, stream: Stream, entries: Sequence[bytes], size: int) -> tuple[int, bytes]:
        return self._counted(stream, packing.message(self._start, entries), size)

    def _counted(self, stream: Stream, message: bytes, size: int) -> tuple[int, bytes]:
        """`size`: of its entries, which are counted."""
        stream.flight += len(message) - size
        self.flight += len(message) - size
        return stream.number, message
