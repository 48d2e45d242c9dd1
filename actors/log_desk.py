"""Requests for the committed log, answered by the raft actor of whichever member is asked.

They come in with those for the leader's raft (`Propose(members=True)`) and are taken out here. An answer holds whole
entries as they lie on the disk, a bounded part; what is no longer kept is refused as compacted. Nothing is remembered
of who asks: a follower of the log names the index it wants next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from zkv.core.raft.log import LogCompacted
from zkv.errors import Code, Compacted
from zkv.wire import codec
from zkv.wire import messages as m
from zkv.wire.groups import judged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zkv.core.raft.log import LogPort

PART_BYTES: Final = 1 << 20
"""Read for one answer, one entry at least: raft does nothing else meanwhile."""


class LogDesk:
    def __init__(self, member_id: int, cluster_id: int, log: LogPort, post: Callable[[str, NamedTuple], bool]) -> None:
        self._member_id = member_id
        self._cluster_id = cluster_id
        self._log = log
        self._post = post

    def answer(self, frames: Sequence[bytes], commit: int, term: int, time: int) -> list[bytes]:
        """What is left of the frames when those requests are answered. `time`: what the cluster clock shows."""
        return [left for packed in frames for left in self._answer(packed, commit, term, time)]

    def _answer(self, packed: bytes, commit: int, term: int, time: int) -> list[bytes]:
        frame = codec.decode_frame(packed)
        wanted: list[tuple[int, int, int]] = []
        left = []
        for gid, payload in frame.groups:
            here = [(gid, request, one.first) for request, _, one in judged(payload).asked if isinstance(one, m.Log)]
            if here:
                wanted += here
            else:
                left.append((gid, payload))
        if not wanted:
            return [packed]
        head = (m.PROTOCOL_VERSION, self._cluster_id, self._member_id, term)
        for gid, request, first in wanted:
            answers = codec.pack(m.Answers(*head, (self._part(request, first, commit, time),)))
            self._post(m.door_of(frame.incarnation), m.GatewayAnswers(frame.incarnation, ((gid, answers, True),)))
        return [codec.pack(frame._replace(groups=tuple(left)))] if left else []

    def _part(self, request: int, first: int, commit: int, time: int) -> tuple[int, int, int, object]:
        try:
            entries = self._log.entries(first, commit + 1, PART_BYTES) if 0 < first <= commit else []
        except LogCompacted:
            return request, Compacted.code, 0, ()
        return request, Code.OK, 0, m.LogPart(commit, time, tuple(codec.encode_entry(entry) for entry in entries))
