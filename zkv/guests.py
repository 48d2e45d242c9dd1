"""Whose CURVE keys are admitted at a socket, and who they are.

A handshake asks whether a key is here (`curve.Server`), a message who it is from. An admission lasts
a few minutes and is renewed by a new introduction, so that nobody stays for long of whom nothing more is heard; it ends
at once when the usher says so.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from zkv.monotonic import monotonic_ms

GUESTS_MAX: Final = 20_000
"""More are not admitted."""
LEAVE_MS: Final = 10_000
"""How often is looked who is over his time."""


class Guest(NamedTuple):
    """`until`: monotonic, ms."""

    common_name: str
    address: str
    until: int


class Guests:
    """By CURVE key, in Z85."""

    def __init__(self) -> None:
        self._guests: dict[bytes, Guest] = {}
        self._leave_at = 0

    def __len__(self) -> int:
        return len(self._guests)

    def __contains__(self, key: object) -> bool:
        """For a handshake."""
        return isinstance(key, bytes) and self.find(key, monotonic_ms()) is not None

    def find(self, key: bytes, now: int) -> Guest | None:
        """Who that is, as long as it is admitted."""
        guest = self._guests.get(key)
        return guest if guest is not None and now < guest.until else None

    def admit(self, key: bytes, guest: Guest) -> bool:
        """False: there are too many."""
        if key not in self._guests and len(self._guests) >= GUESTS_MAX:
            return False
        self._guests[key] = guest
        return True

    def dismiss(self, key: bytes) -> None:
        self._guests.pop(key, None)

    def leave(self, now: int) -> None:
        """Those whose time is over go; there is no hurry."""
        if now >= self._leave_at:
            self._leave_at = now + LEAVE_MS
            for key in [key for key, guest in self._guests.items() if guest.until <= now]:
                del self._guests[key]
