"""Whose connections come in at the native doors: who is behind each, and to whose share it counts.

A connection is looked up when its first message comes, and counts from then on until the door tells that it is gone.
Who has more of them than he may is refused with each message, and counts as soon as there is room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from zkv.gateway.doors import CERTIFIED_DOOR

if TYPE_CHECKING:
    from zkv.errors import LimitExceeded
    from zkv.gateway.doors import Client
    from zkv.gateway.shares import Share, Shares
    from zkv.guests import Guests


class Whereabouts(Protocol):
    """What doors know of a client."""

    def key_of(self, client: Client) -> bytes: ...

    def address_of(self, client: Client) -> str: ...


class Nowhere:
    """Of doors that know nothing."""

    def key_of(self, client: Client) -> bytes:  # noqa: ARG002 - it has none
        return b""

    def address_of(self, client: Client) -> str:  # noqa: ARG002 - it has none
        return ""


class Roster:
    """`guests`: whom certificates have introduced, where they do."""

    def __init__(self, shares: Shares, doors: Whereabouts, guests: Guests | None) -> None:
        self._shares = shares
        self._doors = doors
        self._guests = guests
        self._of: dict[Client, Share] = {}

    def who(self, client: Client, now: int) -> tuple[Share, LimitExceeded | None]:
        """Whose share it is that speaks; and why he is not heard."""
        share = self._of.get(client)
        if share is not None:
            return share, None
        share = self._shares.of_stranger(self.common_name(client, now), self.address(client).rpartition(":")[0])
        error = self._shares.connect(share, client, now)
        if error is None:
            self._of[client] = share
        return share, error

    def gone(self, client: Client) -> None:
        share = self._of.pop(client, None)
        if share is not None:
            del share.connections[client]

    def is_welcome(self, client: Client, now: int) -> bool:
        """Still, where keys are introduced."""
        if client[0] != CERTIFIED_DOOR:
            return True
        return self._guests is not None and self._guests.find(self._doors.key_of(client), now) is not None

    def is_guest(self, client: Client, key: bytes) -> bool:
        """The one that was introduced by this key."""
        return client[0] == CERTIFIED_DOOR and self._doors.key_of(client) == key

    def common_name(self, client: Client, now: int) -> str:
        """Of the certificate that introduced a client; "" for who came in by another door."""
        if self._guests is None or client[0] != CERTIFIED_DOOR:
            return ""
        guest = self._guests.find(self._doors.key_of(client), now)
        return guest.common_name if guest is not None else ""

    def address(self, client: Client) -> str:
        """HOST:PORT where a client is."""
        return self._doors.address_of(client)
