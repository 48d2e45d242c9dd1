"""Whose connections come in at ZeroMQ's doors, where nobody is told of one that comes or goes.

A message says which connection it came by. The mailbox tells, with the first of each, from which address
(`Mailbox.add_door`), and again every RECHECK_MS: a routing id is the client's to choose, and may be another's by then.
Where keys are introduced, the key says who it is. Connections that are gone are found out when room is needed: what is
sent to one fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zkv.gateway import threshold as crossing

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.errors import LimitExceeded
    from zkv.gateway.doors import Client
    from zkv.gateway.shares import Share, Shares
    from zkv.gateway.threshold import Threshold

CLIENTS_MAX: Final = 65_536
"""Connections that are known here; beyond it the oldest are forgotten until they say something."""
RECHECK_MS: Final = 5_000


class Roster:
    """`is_there`: something could be sent to that connection. `known`: of each door, routing ids whose address need not
    be told again for now.
    """

    def __init__(
        self,
        shares: Shares,
        is_there: Callable[[Client], bool],
        known: dict[str, set[bytes]],
        threshold: Threshold | None,
    ) -> None:
        self._shares = shares
        self._is_there = is_there
        self._known = known
        self._threshold = threshold
        self._of: dict[Client, Share] = {}
        self._turned_away: dict[Client, LimitExceeded] = {}  # in this turn
        self._unknown = shares.of("address", "")  # of whom nobody tells where he is
        self._recheck_at = 0

    def who(self, client: Client, now: int) -> tuple[Share, LimitExceeded | None]:
        """Whose share it is that speaks; and why he is not heard."""
        share = self._of.get(client)
        if share is not None:
            return share, None
        if len(client) == 2:
            return self._unknown, self._turned_away.get(client)
        address = crossing.address(self._threshold, client).rpartition(":")[0]
        error = self._arrive(client, crossing.common_name(self._threshold, client), address, now)
        return self._of.get(client, self._unknown), error

    def heard(self, arrival: Any, now: int) -> None:
        """Word of the mailbox: somebody is about to speak whose address was not known."""
        door, routing_id, address = arrival
        client = door, routing_id
        error = self._arrive(client, "", address, now)
        if error is not None:
            self._turned_away[client] = error

    def tend(self, now: int) -> None:
        """Behind each turn."""
        if self._turned_away:
            self._turned_away.clear()
        if now >= self._recheck_at:
            self._recheck_at = now + RECHECK_MS
            for known in self._known.values():
                known.clear()

    def _arrive(self, client: Client, common_name: str, address: str, now: int) -> LimitExceeded | None:
        share = self._shares.of_stranger(common_name, address)
        known = self._of.get(client)
        if known is not share:
            if known is not None:
                self._forget(client)
            error = self._shares.connect(share, client, now, self._is_still_there)
            if error is not None:
                return error
            if len(self._of) >= CLIENTS_MAX:
                self._forget(next(iter(self._of)))
            self._of[client] = share
        if len(client) == 2:
            self._known.setdefault(client[0], set()).add(client[1])
        return None

    def _is_still_there(self, client: Client) -> bool:
        if self._is_there(client):
            return True
        self._forget(client)
        return False

    def _forget(self, client: Client) -> None:
        share = self._of.pop(client, None)
        if share is not None:
            share.connections.pop(client, None)
        self._known.get(client[0], set()).discard(client[1])
