"""A whole store on its way from one member's storage to another's, in numbered chunks.

The sender holds an engine snapshot, which stands still, and walks it in key order. The receiver asks for every chunk
by its number, so nothing is lost by a lost message, and either side may ask or send again:

    sender   wanted(stream, n) -> chunk n          remembers where each chunk began, so any n can be made anew
    receiver take(chunk n) -> wanted n + 1         writes into a staging store beside the real one
             chunk n is the last -> install        the staging store becomes the store, at once or not at all

Each chunk carries a digest over all pairs up to its end (CRC-32, chained): a receiver that has taken chunk n in order
knows that it holds exactly what the sender sent. A stream belongs to one engine snapshot; whoever restarts begins a
new one.
"""

from __future__ import annotations

import contextlib
import zlib
from typing import TYPE_CHECKING, NamedTuple

from zkv.core.mvcc.layout import BOUND
from zkv.wire import codec
from zkv.wire.messages import SnapshotAck, SnapshotChunk, SnapshotMeta

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.core.mvcc.engine import Engine, Reader

_FIRST_KEY = b""


class _Start(NamedTuple):
    """Where a chunk begins: its first key at the earliest, and the digest of all before it."""

    key: bytes
    digest: int


class OutgoingSnapshot:
    """One store being streamed to one member. Memory: one chunk, and a key per chunk made so far."""

    def __init__(self, stream: int, meta: SnapshotMeta, reader: Reader, chunk_bytes: int) -> None:
        self.stream = stream
        self._meta = meta
        self._reader = reader
        self._chunk_bytes = chunk_bytes
        self._starts = [_Start(_FIRST_KEY, 0)]

    def chunk(self, sequence: int) -> SnapshotChunk | None:
        """Chunk `sequence`; None when it comes after one not yet made (the receiver knows another stream)."""
        if sequence >= len(self._starts):
            return None
        start = self._starts[sequence]
        pairs: list[tuple[bytes, bytes]] = []
        size = 0
        following = None
        for pair in self._reader.scan(start.key, BOUND):
            if size >= self._chunk_bytes:
                following = pair[0]
                break
            pairs.append(pair)
            size += len(pair[0]) + len(pair[1])
        digest = _extend(start.digest, pairs)
        if following is not None and sequence + 1 == len(self._starts):
            self._starts.append(_Start(following, digest))
        return SnapshotChunk(self._meta, self.stream, sequence, tuple(pairs), digest, last=following is None)


class IncomingSnapshot:
    """A store being received. `open_staging` gives an empty engine that can become the store."""

    def __init__(self, stream: int, staging: Engine) -> None:
        self.stream = stream
        self.staging = staging
        self.complete = False
        self._wanted = 0
        self._digest = 0

    def take(self, chunk: SnapshotChunk) -> SnapshotAck:
        """Write a chunk if it is the one wanted; answers which one is wanted now.

        Sets `complete` with the last. A chunk whose digest does not fit is asked for again.
        """
        if chunk.sequence == self._wanted and not self.complete:
            digest = _extend(self._digest, chunk.pairs)
            if digest == chunk.digest:
                self.staging.write(chunk.pairs, ())
                self._digest = digest
                self._wanted += 1
                self.complete = chunk.last
        return SnapshotAck(self.stream, self._wanted)


class SnapshotDesk:
    """All snapshots going out of, and the one coming into, one storage actor."""

    def __init__(self, chunk_bytes: int, open_staging: Callable[[], Engine]) -> None:
        self._chunk_bytes = chunk_bytes
        self._open_staging = open_staging
        self._outgoing: dict[int, OutgoingSnapshot] = {}
        self._incoming: IncomingSnapshot | None = None
        self._takes_from = 0

    def wanted(
        self, member: int, stream: int, sequence: int, place: Callable[[], tuple[SnapshotMeta, Reader]]
    ) -> SnapshotChunk | None:
        """The chunk `member` asks for; a stream not known begins with the store as `place()` gives it now.

        None in the middle of a stream that is not known: it was a predecessor's.
        """
        outgoing = self._outgoing.get(member)
        if outgoing is None or outgoing.stream != stream:
            if sequence:
                return None
            meta, reader = place()
            outgoing = self._outgoing[member] = OutgoingSnapshot(stream, meta, reader, self._chunk_bytes)
        return outgoing.chunk(sequence)

    def end(self, member: int, stream: int) -> None:
        """The stream has ended, well or not: let go of the engine snapshot."""
        outgoing = self._outgoing.get(member)
        if outgoing is not None and outgoing.stream == stream:
            del self._outgoing[member]

    def end_all(self) -> None:
        """Who asked for them has forgotten, or the store they are taken from goes."""
        self._outgoing.clear()

    @property
    def is_receiving(self) -> bool:
        return self._incoming is not None

    def takes_any(self, now: int) -> bool:
        return now >= self._takes_from

    def give_up_incoming(self, until: int) -> None:
        """There was no room for it: what has come is thrown away, and nothing more is taken for a while."""
        if self._incoming is not None:
            self._incoming.staging.close()
            self._incoming = None
        with contextlib.suppress(OSError):  # there may be no room even for that
            self._open_staging().close()  # an empty one instead, which the next one empties again
        self._takes_from = until

    def take(self, chunk: SnapshotChunk) -> tuple[SnapshotAck, Engine | None]:
        """The answer to a chunk, and, with the last one, the staging engine that holds the whole store, durably.

        Raises OSError.
        """
        incoming = self._incoming
        if incoming is None or incoming.stream != chunk.stream:
            if chunk.sequence != 0:
                return SnapshotAck(chunk.stream, 0), None
            if incoming is not None:
                incoming.staging.close()
            incoming = self._incoming = IncomingSnapshot(chunk.stream, self._open_staging())
        ack = incoming.take(chunk)
        if not incoming.complete:
            return ack, None
        incoming.staging.flush()  # here, where it may turn out that there is no room: what is swapped in has to last
        self._incoming = None
        return ack, incoming.staging


def _extend(digest: int, pairs: object) -> int:
    return zlib.crc32(codec.pack(pairs), digest)
