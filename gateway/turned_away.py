"""Who serves a connection of etcd's API that is one too many: each call is told so, and when to come back.

A connection cannot be refused in words before something is asked on it. So it is heard once, and closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.gateway.grpc_desk import METHODS
from zkv.gateway.grpc_status import status_of

if TYPE_CHECKING:
    from zkv.errors import LimitExceeded
    from zkv.gateway.grpc_line import Answers, Connection
    from zkv.gateway.http2.grpc import Call


class TurnedAway:
    """The Desk of one connection. `told`: its client has heard why."""

    methods = METHODS

    def __init__(self, error: LimitExceeded, dirty: set[Connection]) -> None:
        self.dirty = dirty
        self.told = False
        self._error = error

    def called(self, line: Answers, call: Call, message: bytes, now: int) -> None:  # noqa: ARG002 - a desk's face
        self.opened(line, call, now)

    def opened(self, line: Answers, call: Call, now: int) -> None:  # noqa: ARG002 - a desk's face
        self.told = True
        line.finish(call, *status_of(self._error))
