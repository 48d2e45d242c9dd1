"""What both shells do of a turn, but for how they wait: what is due is done, what has gathered leaves.

Times are of the clients' clock (`clock.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.client.clock import earliest

if TYPE_CHECKING:
    from zkv.client.keeper import Keeper
    from zkv.client.session import Session
    from zkv.client.transport import Transport


class Carrier:
    """Between a session, the leases that are kept alive by it, and a transport. Driven as the transport is."""

    def __init__(self, session: Session, keeper: Keeper, transport: Transport) -> None:
        self._session = session
        self._keeper = keeper
        self._transport = transport

    def send(self, now: int) -> None:
        """Bring the session up to now, and send what it has."""
        session, transport = self._session, self._transport
        self._keeper.tick(now, session)
        session.tick(now)
        while outgoing := session.outgoing(now):
            for endpoint, data in outgoing:
                if not transport.send(endpoint, data):
                    session.disconnected(endpoint, now)
            transport.flush(session, now)

    def idle_ms(self, now: int) -> int | None:
        """For how long nobody is needed, if nothing comes; None: for ever. To be asked when news have been told."""
        wakeup = earliest(self._session.next_wakeup(), self._keeper.next_wakeup())
        return earliest(self._transport.idle_ms, None if wakeup is None else max(0, wakeup - now))
