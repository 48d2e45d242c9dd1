"""Linearizable reads of this node that wait for the index at which they may be made; and those that do not.

One that waits alone storage makes meanwhile (`ReadAhead`), of all that it has been fed. Its answer stays at the door
until the round has given an index: if that is no greater, the state that was read holds all that had to be in it, and
the door is told so (`Confirmed`). Else, and where the round is refused, that answer never leaves, for nobody says that
it may, and the read goes on as any other. There is at most one such read: the next one is alone when it has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zkv.actors.storage_feed import StorageFeed


class _Ahead:
    """`index`: what storage has applied when it reads, at least."""

    def __init__(self, context: int, index: int, incarnation: int, gid: int) -> None:
        self.context = context
        self.index = index
        self.incarnation = incarnation
        self.gid = gid


class Reads:
    """By the contexts of their rounds, which never repeat."""

    def __init__(
        self, feed: StorageFeed, post: Callable[[str, NamedTuple], bool], stamp: Callable[[int], m.Stamp]
    ) -> None:
        """`stamp`: what raft knows at a time, ms."""
        self._feed = feed
        self._post = post
        self._stamp = stamp
        self._waiting: dict[int, tuple[bytes, ...]] = {}
        self._ahead: _Ahead | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, context: int, frames: Sequence[bytes]) -> None:
        """Its round has begun."""
        self._waiting[context] = tuple(frames)

    def read_ahead(self, context: int, commit: int, now: int) -> None:
        """This one, of one group, if it waits alone. `commit`: what the round's index will cover at least."""
        frames = self._waiting.get(context, ())
        if len(self._waiting) != 1 or len(frames) != 1 or self._feed.fed < commit:
            return
        index = self._feed.fed
        if self._post("storage", tuple.__new__(m.ReadAhead, (_stamped(index, self._stamp(now), frames),))):
            _, incarnation, groups = codec.unpack(frames[0])  # a frame of this node's own door
            self._ahead = _Ahead(context, index, incarnation, groups[0][0])

    def let_pass(self, context: int, index: int, now: int) -> tuple[bytes, ...]:
        """They may be made at `index`. Frames that storage has no room for come back."""
        frames = self._waiting.pop(context, ())
        if not frames or self._was_read_ahead(context, index):
            return ()
        return () if self._post("storage", _stamped(index, self._stamp(now), frames)) else frames

    def _was_read_ahead(self, context: int, index: int) -> bool:
        """Was it, and of so late a state that its answer may leave? In that case its door is told."""
        ahead = self._ahead
        if ahead is None or ahead.context != context or ahead.index < index:
            return False
        self._post(m.door_of(ahead.incarnation), tuple.__new__(m.Confirmed, (ahead.incarnation, ahead.gid)))
        return True

    def give_up(self, context: int) -> tuple[bytes, ...]:
        """They may not be made: their frames."""
        return self._waiting.pop(context, ())

    def storage_begins(self) -> None:
        """What its predecessor was to read ahead may have gone with it."""
        self._ahead = None


def _stamped(index: int, stamp: m.Stamp, frames: tuple[bytes, ...]) -> m.StampedRead:
    return tuple.__new__(m.StampedRead, (index, stamp, frames))  # as messages are made in core/raft/replica.py
