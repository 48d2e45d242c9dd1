"""LOOK: what the processes of this member tell of themselves, for whoever looks at it (`zkv top`).

    client -- LOOK -> gateway -- a ring at each door bell --> every actor of the node, this one too
                         ^------------- Gauges ------------------'

The actors are not asked through their inboxes, and count only while somebody looks (mailbox.py). What they told last
serves all who ask within FRESH_MS. Who does not tell within PATIENCE_MS is left out: it may have died.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from zkv import errors
from zkv.limits import NEVER
from zkv.processes import resources
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zkv.gauges import Value

FRESH_MS: Final = 200
PATIENCE_MS: Final = 400


class _Asked(NamedTuple):
    gid: int
    id: int
    by: int
    """When it is answered at the latest."""


class Looking:
    """`ring` rings at all `actors`; `answer` sends the packed answer of a group; `term` is what answers carry."""

    def __init__(
        self,
        *,
        actors: Sequence[str],
        cluster_id: int,
        member_id: int,
        ring: Callable[[], object],
        answer: Callable[[int, bytes], object],
        processes: Callable[[Mapping[str, int]], Sequence[Value]] = resources,
    ) -> None:
        self._actors = frozenset(actors)
        self._head = (m.PROTOCOL_VERSION, cluster_id, member_id)
        self._ring = ring
        self._answer = answer
        self._processes = processes
        self._asked: list[_Asked] = []
        self._rung_at = -FRESH_MS
        self._reports: dict[str, m.Gauges] = {}  # since it was rung last

    @property
    def waits(self) -> bool:
        """Somebody waits for an answer."""
        return bool(self._asked)

    def asked(self, groups: Sequence[tuple[int, bytes]], now: int) -> None:
        """Groups of LOOK requests, which were checked."""
        if now - self._rung_at >= FRESH_MS:
            self._rung_at = now
            self._reports.clear()
            self._ring()
        for gid, payload in groups:
            for id_, *_ in codec.unpack(payload)[4]:
                self._asked.append(_Asked(gid, id_, now + PATIENCE_MS))

    def told(self, report: m.Gauges) -> None:
        self._reports[report.actor] = report

    def tend(self, now: int, term: int) -> None:
        """Answer, if all have told, or those whom nobody tells more."""
        if self._actors <= self._reports.keys():
            due, self._asked = self._asked, []
        else:
            due = [asked for asked in self._asked if asked.by <= now]
            self._asked = [asked for asked in self._asked if asked.by > now]
        if not due:
            return
        reports = self._reports
        pids = {actor: report.pid for actor, report in reports.items()} | {"supervisor": os.getppid()}
        told = [(actor, report.values) for actor, report in reports.items()]
        body = m.LookAnswer((*told, ("processes", tuple(self._processes(pids)))))
        for asked in due:
            answers = ((asked.id, errors.Code.OK, self._revision(), body),)
            self._answer(asked.gid, codec.pack(m.Answers(*self._head, term, answers)))

    def next_wakeup(self) -> int:
        return min([asked.by for asked in self._asked], default=NEVER)

    def _revision(self) -> int:
        storage = self._reports.get("storage")
        values = storage.values if storage is not None else ()
        return next((value for key, _, value in values if key == "revision" and isinstance(value, int)), 0)
