"""Snapshots under way from this member's storage to members that are too far behind for the log.

Raft only carries: the receiver's storage asks for chunk after chunk (`SnapshotAck`), the sender's makes them
(`SnapshotOut`), and what is lost on the way is asked for again after SNAPSHOT_RESEND_MS. One chunk is under way to a
member at a time, so heartbeats are never behind more than one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog

from zkv.wire.messages import SnapshotAck, SnapshotOut, SnapshotWanted

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

SNAPSHOT_RESEND_MS = 1_000
SNAPSHOT_SILENCE_MS = 10_000  # a receiver that asks for nothing for so long is given up


class _Transfer(NamedTuple):
    """One member's snapshot: which stream, and what comes next. Times are ms."""

    stream: int
    last: int | None  # the number of the last chunk, once it has been made
    wanted: int  # the chunk the receiver waits for
    heard: int  # when it last asked
    sent: int  # when it was last sent something


class Transfers:
    """`ended` is called when the stream to a member is over, well or not."""

    def __init__(
        self,
        *,
        rng: random.Random,
        post: Callable[[str, NamedTuple], bool],
        post_peer: Callable[[int, NamedTuple], bool],
        ended: Callable[[int], None],
    ) -> None:
        self._rng = rng
        self._post = post
        self._post_peer = post_peer
        self._ended = ended
        self._under_way: dict[int, _Transfer] = {}
        self._logger = structlog.get_logger().bind(actor="raft")

    def begin(self, member: int, now: int) -> None:
        if member in self._under_way:
            return
        self._logger.info("sending a snapshot", member=f"{member:x}")
        stream = self._rng.getrandbits(62) + 1
        self._under_way[member] = _Transfer(stream, None, 0, now, now)
        self._post("storage", SnapshotWanted(member, stream, 0))

    def out(self, made: SnapshotOut, now: int) -> None:
        """Our storage has made a chunk."""
        transfer = self._under_way.get(made.member)
        if transfer is None or transfer.stream != made.chunk.stream:
            return
        last = made.chunk.sequence if made.chunk.last else transfer.last
        self._under_way[made.member] = transfer._replace(last=last, sent=now)
        self._post_peer(made.member, made.chunk)

    def acknowledged(self, member: int, ack: SnapshotAck, now: int) -> None:
        transfer = self._under_way.get(member)
        if transfer is None or transfer.stream != ack.stream:
            return
        if ack.refused:
            self._end(member, "snapshot refused")
        elif transfer.last is not None and ack.wanted > transfer.last:
            self._end(member, "snapshot sent")
        else:
            self._under_way[member] = transfer._replace(wanted=ack.wanted, heard=now)
            self._post("storage", SnapshotWanted(member, ack.stream, ack.wanted))

    def broken_off(self) -> None:
        """Our storage has restarted, and with it went what its predecessor was sending: all begin anew."""
        for member in list(self._under_way):
            self._end(member, "snapshot broken off")

    def tend(self, now: int, *, leading: bool) -> None:
        """Ask again for what got lost; give up who is silent, or all, when another member leads."""
        for member, transfer in list(self._under_way.items()):
            if not leading or now - transfer.heard > SNAPSHOT_SILENCE_MS:
                self._end(member, "snapshot given up")
            elif now - max(transfer.heard, transfer.sent) > SNAPSHOT_RESEND_MS:
                self._under_way[member] = transfer._replace(sent=now)
                self._post("storage", SnapshotWanted(member, transfer.stream, transfer.wanted))

    def _end(self, member: int, how: str) -> None:
        transfer = self._under_way.pop(member)
        self._logger.info(how, member=f"{member:x}")
        self._post("storage", SnapshotWanted(member, transfer.stream, 0, refused=True))
        self._ended(member)
