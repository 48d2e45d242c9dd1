"""What both doors do alike with the groups they number: send them on, let out what was read ahead, give up in time.

The doors (native.py, asking.py) have no class in common, for what they keep is not alike: one passes on groups as
clients made them, unopened; the other makes groups of calls, and answers each call. What is alike is below.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from zkv.errors import TooManyRequests
from zkv.gateway.validate import LEASE, LOCAL, MEMBERS, RAFT, STAMPED, WRITE
from zkv.limits import NEVER
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

DEADLINE_STEP_MS: Final = 100
"""What is asked within this time shares a deadline, so that few are kept and few wake the process."""
_pack: Final = codec.pack
_BY_LOG: Final = frozenset({WRITE, MEMBERS, RAFT})


class Frames:
    """Groups, each with its `gid`, leave in as few frames as entry_bytes_max allows."""

    def __init__(self, *, member_id: int, incarnation: int, bytes_max: int, post: Callable[[Any, Any], bool]) -> None:
        self._member_id = member_id
        self._head = _pack((member_id, incarnation, ()))[:-1]  # of each frame, up to its groups
        self._bytes_max = bytes_max
        self._post = post
        self.leader = 0
        """The member that leads, as far as is known; 0: nobody."""

    def send(self, way: int, groups: Sequence[tuple[int, bytes]]) -> list[int]:
        """Groups of one way; the gids of those there is no room for at the neighbour."""
        if len(groups) == 1:
            return self._send(way, groups)
        refused: list[int] = []
        start = size = 0
        for end, (_, payload) in enumerate(groups):
            if size and size + len(payload) > self._bytes_max:
                refused += self._send(way, groups[start:end])
                start, size = end, 0
            size += len(payload)
        return refused + self._send(way, groups[start:])

    def _send(self, way: int, groups: Sequence[tuple[int, bytes]]) -> list[int]:
        frame = self._head + _pack(groups)
        if way in _BY_LOG:
            taken = self._post("raft", tuple.__new__(m.Propose, (frame, way != WRITE)))
        elif way == LOCAL:
            taken = self._post("storage", m.StampedRead(0, None, (frame,)))
        elif way == LEASE:
            taken = self._send_to_lessor(m.LeaseRequests(frame))
        else:
            taken = self._post("raft", tuple.__new__(m.Read, (frame, way == STAMPED, len(groups) == 1)))
        return [] if taken else [gid for gid, _ in groups]

    def _send_to_lessor(self, keep_alives: m.LeaseRequests) -> bool:
        """The leader's lease actor: by raft's connections, unless this member leads. Its own says where nobody does."""
        if self.leader in {0, self._member_id}:
            return self._post("lease", keep_alives)
        return self._post("raft", m.Relay(self.leader, "lease", codec.encode(keep_alives)))


class Ahead:
    """Reads that storage made before raft had let them pass: their answers wait here for raft's word.

    What was read (`AnsweredAhead`) leaves when it is also `Confirmed`: with the second of the two, whichever that is. A
    group is asked of raft once, and ends when raft or storage starts anew, so there is no taking a half for another's.
    What is left of a group that ended otherwise is forgotten when the next half comes. `groups`: those in flight.
    """

    def __init__(self, *, incarnation: int, groups: Container[int], post: Callable[[Any, Any], bool]) -> None:
        self._incarnation = incarnation
        self._groups = groups
        self._post = post
        self._halves: dict[int, m.AnsweredAhead | m.Confirmed] = {}

    def meet(self, half: m.AnsweredAhead | m.Confirmed) -> m.GatewayAnswers | m.Refused | None:
        """What the group is told with it, as if raft or storage had."""
        incarnation, gid = half[0], half[1]
        if incarnation != self._incarnation or gid not in self._groups:
            return None
        other = self._halves.pop(gid, None)
        if other is None:
            if self._halves:
                self._halves = {each: kept for each, kept in self._halves.items() if each in self._groups}
            self._halves[gid] = half
            return None
        assert type(other) is not type(half), "either half comes once"
        answered = half if type(half) is m.AnsweredAhead else other
        assert isinstance(answered, m.AnsweredAhead)
        if answered.read is None:
            return tuple.__new__(m.GatewayAnswers, (incarnation, ((gid, answered.answers, True),), 0))
        if self._post("storage", answered.read):
            return None
        return m.Refused(incarnation, TooManyRequests.code, (gid,))


class Deadlines:
    """Of numbers that rise, and with them their deadlines."""

    def __init__(self, timeout_ms: int) -> None:
        self.next = NEVER
        """The next that comes (ms); NEVER: there is none."""
        self._timeout_ms = timeout_ms
        self._kept: deque[tuple[int, int]] = deque()  # (when, the first number whose deadline this is), both rising
        self._newest = 0  # of these: when
        self._last = 0  # up to this one they have a deadline
        self._over = 0  # ... and have had it

    def __len__(self) -> int:
        return len(self._kept)

    def set(self, last: int, now: int) -> None:
        """For all up to `last` that have none yet."""
        if last == self._last:
            return
        deadline = now + self._timeout_ms
        if deadline > self._newest:
            self._newest = deadline + DEADLINE_STEP_MS
            self._kept.append((self._newest, self._last + 1))
            self.next = min(self.next, self._newest)
        self._last = last

    def over(self, now: int) -> range:
        """Those whose deadline has come, each told once."""
        first, kept = self._over + 1, self._kept
        while self.next <= now:
            kept.popleft()
            self.next, self._over = (kept[0][0], kept[0][1] - 1) if kept else (NEVER, self._last)
        return range(first, self._over + 1)
