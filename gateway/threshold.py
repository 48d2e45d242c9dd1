"""Who has come in at the door where certificates introduce keys: told by the usher, who knows them.

The door's CURVE pair is made here, and lives and dies with this process. A guest's key comes with each of its messages,
so that one look tells who it is, and whether it still is welcome.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zkv import identity
from zkv.guests import Guest, Guests
from zkv.mailbox import monotonic_ms
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zkv.gateway.doors import Client

USHER: Final = "usher"


class Threshold:
    """`tell`: posts to the usher."""

    def __init__(self, tell: Callable[[object], bool]) -> None:
        self.keys = identity.new_keys()
        self.guests = Guests()
        self._tell = tell
        self.introduce()

    def introduce(self) -> None:
        """This door's key, to an usher that does not know it."""
        self._tell(m.CurveKeyIs("gateway", identity.raw(self.keys.public)))

    def crossed(self, door: str, frames: Sequence[Any]) -> tuple[Client, Sequence[bytes]]:
        """Who has sent these frames, and the frames it has sent."""
        return (door, frames[0], frames[-1]), frames[:-1]

    def is_guest(self, client: Client, now: int) -> bool:
        return self.guests.find(client[-1], now) is not None  # type: ignore[arg-type] # a key it is, at this door

    def heard(self, message: m.Admit | m.Dismiss) -> str:
        """A word of the usher. Returns the key of who is to go, or ""."""
        if isinstance(message, m.Dismiss):
            key = identity.spelled(message.key).decode()
            self.guests.dismiss(key)
            return key
        now = monotonic_ms()
        self.guests.leave(now)
        guest = Guest(message.common_name, message.address, now + message.lasts_ms)
        is_in = self.guests.admit(identity.spelled(message.key).decode(), guest)
        self._tell(m.Admitted(message.ticket, is_in))
        return ""


def common_name(threshold: Threshold | None, client: Client) -> str:
    """Of the certificate that introduced a client; "" for who came in by another door."""
    if threshold is None or len(client) == 2:
        return ""
    guest = threshold.guests.find(client[2], monotonic_ms())
    return guest.common_name if guest is not None else ""


def address(threshold: Threshold | None, client: Client) -> str:
    """Where a client is, as far as it is known: by the introduction of its key, else the door and its routing id."""
    if threshold is not None and len(client) > 2:
        guest = threshold.guests.find(client[2], monotonic_ms())
        if guest is not None:
            return guest.address
    return f"{client[0]}:{client[1].hex()}"
