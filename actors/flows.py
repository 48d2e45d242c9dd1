"""Answers that leave storage in parts: big ranges, hashes, snapshots, for clients that have room for more."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from zkv.errors import StreamLost
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NamedTuple

    from zkv.core.mvcc.reading import ReadOutcome, Stream
    from zkv.gauges import Histogram

STEPS: Final = 4
"""Of all flows together, between two looks into the inbox."""
PATIENCE_MS: Final = 30_000
"""A client that takes no chunk for so long has gone."""


class _Flow:
    """A group whose answers are under way. `unsent`: what the gateway's queue had no room for; it goes first."""

    __slots__ = ("begun", "credit", "gid", "heard", "incarnation", "streams", "unsent")

    def __init__(self, incarnation: int, gid: int, streams: list[Stream], credit: int, now: int) -> None:
        self.incarnation = incarnation
        self.gid = gid
        self.streams = deque(streams)
        self.credit = credit
        self.begun = self.heard = now
        self.unsent: m.GatewayAnswers | m.Refused | None = None

    @property
    def can_step(self) -> bool:
        return self.credit > 0 and self.unsent is None


class Flows:
    """`packed` makes an `Answers` of packed parts; `made` takes how long a stream of each kind took."""

    def __init__(
        self,
        post: Callable[[str, NamedTuple], bool],
        packed: Callable[[Sequence[bytes]], bytes],
        made: Mapping[str, Histogram],
    ) -> None:
        self._post = post
        self._packed = packed
        self._made = made
        self._flows: deque[_Flow] = deque()

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def can_step(self) -> bool:
        return any(flow.can_step for flow in self._flows)

    @property
    def is_stuck(self) -> bool:
        """Has an answer found no room in its door's queue?"""
        return any(flow.unsent is not None for flow in self._flows)

    def wakeups(self) -> list[int]:
        """When patience with each ends, but with those of which all has been said, if not heard."""
        return [flow.heard + PATIENCE_MS for flow in self._flows if flow.streams]

    def begin(self, incarnation: int, gid: int, outcome: ReadOutcome, credit: int, now: int) -> None:
        """`credit`: chunks that its client has room for, but for what `outcome` already holds."""
        flow = _Flow(incarnation, gid, outcome.streams, credit, now)
        self._flows.append(flow)
        if outcome.parts:
            self._send(flow, outcome.parts)

    def step(self, now: int) -> None:
        for _ in range(min(STEPS, len(self._flows))):
            flow = self._flows.popleft()
            if flow.unsent is not None and self._post(m.door_of(flow.incarnation), flow.unsent):
                flow.unsent = None
            if flow.streams and flow.can_step:
                flow.heard = now
                self._step(flow)
            elif flow.streams and now - flow.heard > PATIENCE_MS:
                self._refuse(flow)
            if flow.streams or flow.unsent is not None:
                self._flows.append(flow)

    def _step(self, flow: _Flow) -> None:
        stream = flow.streams[0]
        part = stream.step()
        if part is None:
            return
        if stream.done:
            flow.streams.popleft()
            if stream.kind:
                self._made[stream.kind].observe((flow.heard - flow.begun) * 1_000_000)
        else:
            flow.credit -= 1
        self._send(flow, [part])

    def _send(self, flow: _Flow, parts: list[bytes]) -> None:
        answers = m.GatewayAnswers(flow.incarnation, ((flow.gid, self._packed(parts), not flow.streams),))
        if not self._post(m.door_of(flow.incarnation), answers):
            flow.unsent = answers  # to go before all that follows: a range with a hole must not look whole

    def _refuse(self, flow: _Flow) -> None:
        """It ends, and its door has to hear of that: there a group that has begun has no deadline."""
        refused = m.Refused(flow.incarnation, StreamLost.code, (flow.gid,))
        flow.streams.clear()
        flow.unsent = None if self._post(m.door_of(flow.incarnation), refused) else refused

    def credit(self, gid: int, chunks: int, now: int) -> None:
        """Its client has room for so many more; 0: it has gone."""
        for flow in self._flows:
            if flow.gid == gid:
                flow.heard = now
                if chunks:
                    flow.credit += chunks
                else:
                    self._flows.remove(flow)
                return

    def forget(self, door: str) -> None:
        """Its process is another: nobody is there to be answered."""
        self._flows = deque(flow for flow in self._flows if m.door_of(flow.incarnation) != door)

    def end_all(self) -> None:
        """What they read of is no more."""
        for flow in self._flows:
            self._refuse(flow)
        self._flows = deque(flow for flow in self._flows if flow.unsent is not None)
