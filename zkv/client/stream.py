"""What comes in chunks, a range or a whole store: those not yet taken, and where to go on should the rest be lost."""

from __future__ import annotations

from collections import deque

from zkv.wire.messages import Range, RangeAnswer, Snapshot, SortOrder, SortTarget, StorePart


class StoreStream:
    """A member's store. Another attempt would be of another moment: what has begun cannot go on elsewhere.

    `attempt` and `owed` as in Stream.
    """

    __slots__ = ("_request", "attempt", "auto", "chunks", "owed")

    def __init__(self, request: Snapshot) -> None:
        self._request = request
        self.auto = False
        self.attempt = 0
        self.owed = 0
        self.chunks: deque[StorePart] = deque()

    def put(self, chunk: StorePart, _revision: int) -> None:
        self.chunks.append(chunk)

    @property
    def resumable(self) -> bool:
        return not self.attempt

    def rest(self) -> Snapshot:
        return self._request


class Stream:
    """`auto`: nobody takes chunk by chunk; they gather, and the ticket's answer is their sum.

    `attempt` is the id under which chunks come (0: none has come yet of the present attempt); `owed`, how many more
    the server may send before it waits for credit.

    `count` of a range that was resumed is what was received before, and what the rest holds: exact, but for a range
    with bounds on revisions, whose keys left out before the break nobody has counted.
    """

    __slots__ = ("_before", "_last_key", "_received", "_revision", "attempt", "auto", "chunks", "original", "owed")

    def __init__(self, request: Range, *, auto: bool) -> None:
        self.original = request
        self.auto = auto
        self.attempt = 0
        self.owed = 0
        self.chunks: deque[RangeAnswer] = deque()
        self._received = 0
        self._before = 0  # keys received before the present attempt's part began
        self._last_key = b""
        self._revision = request.revision

    def put(self, chunk: RangeAnswer, revision: int) -> None:
        """A chunk has come, from a store at `revision`: the first one fixes the revision of the whole range."""
        self._revision = self._revision or revision
        if self._before:
            # The rest of a range counts its own keys only. If it was asked just for `more`, its key is none of ours.
            complete = self._before == self.original.limit
            more = bool(chunk.kvs) if complete else chunk.more
            chunk = RangeAnswer(() if complete else chunk.kvs, more, self._before + chunk.count)
        if chunk.kvs:
            self._received += len(chunk.kvs)
            self._last_key = chunk.kvs[-1].key
        self.chunks.append(chunk)

    @property
    def resumable(self) -> bool:
        """Chunks in the order of their keys can go on after the last one; in another order only from the start."""
        return not self._received or self.original.sort_target == SortTarget.KEY

    def rest(self) -> Range:
        """The request for what has not come yet; the chunks put from now on answer it.

        It reads the same revision as the part that has come, and so must not be served by a member that has not
        reached it: linearizable, whatever the original was. Where only the end was lost (all keys that `limit` allows
        are here), what is left to ask is whether there are more.
        """
        request = self.original
        if not self._received:
            return request
        self._before = self._received
        if request.sort_order == SortOrder.DESCEND:
            request = request._replace(range_end=self._last_key)
        else:
            request = request._replace(key=self._last_key + b"\0")
        request = request._replace(revision=self._revision, serializable=False)
        if request.limit and self._received == request.limit:
            return request._replace(limit=1, keys_only=True)
        return request._replace(limit=request.limit - self._received if request.limit else 0)

    def whole(self) -> RangeAnswer:
        """All chunks as one answer."""
        kvs = tuple([kv for chunk in self.chunks for kv in chunk.kvs])
        return RangeAnswer(kvs, self.chunks[-1].more, self.chunks[-1].count)
