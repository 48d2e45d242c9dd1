"""Who has come in at the door where certificates introduce keys: told by the usher, who knows them.

The door's CURVE pair is made here, and lives and dies with this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zkv import identity
from zkv.guests import Guest, Guests
from zkv.monotonic import monotonic_ms
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

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

    def heard(self, message: m.Admit | m.Dismiss) -> bytes:
        """A word of the usher. Returns the key of who is to go, or b""."""
        if isinstance(message, m.Dismiss):
            key = identity.spelled(message.key)
            self.guests.dismiss(key)
            return key
        now = monotonic_ms()
        self.guests.leave(now)
        guest = Guest(message.common_name, message.address, now + message.lasts_ms)
        is_in = self.guests.admit(identity.spelled(message.key), guest)
        self._tell(m.Admitted(message.ticket, is_in))
        return b""
