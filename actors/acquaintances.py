"""Whose CURVE keys raft knows, of the peers: told by the usher, who knows them by their certificates.

Two tables: *guests*, whose key is let in at our socket; and *keys*, of who listens at a peer url. The CURVE pair is
made here, and lives and dies with this process: a raft that starts anew is introduced anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv import identity
from zkv.actors.peers import PeerCurve
from zkv.guests import Guest, Guests
from zkv.monotonic import monotonic_ms
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

USHER = "usher"


class Acquaintances:
    """`tell`: posts to the usher."""

    def __init__(self, tell: Callable[[object], bool]) -> None:
        self._tell = tell
        self._pair = identity.new_keys()
        self._guests = Guests()
        self._keys: dict[str, bytes] = {}
        self._urls: tuple[str, ...] = ()
        self._lost: set[str] = set()
        self.curve = PeerCurve(self._pair, self._guests, self._keys.get)
        self._introduce()

    def wanted(self, urls: Iterable[str]) -> None:
        """Of these, who is there is to be found out."""
        self._urls = tuple(urls)
        self._tell(m.Acquaint(self._urls))

    def lost(self, url: str) -> None:
        """A connection to it: whoever is there now is to be asked anew."""
        if url in self._urls:
            self._lost.add(url)
            self._tell(m.Acquaint(self._urls, (url,)))

    def is_guest(self, key: bytes) -> bool:
        return self._guests.find(key, monotonic_ms()) is not None

    def heard(self, message: object) -> str | None:
        """A word of the usher. Returns the url, if another key than before is believed there, or none any more."""
        match message:
            case m.Admit(ticket, key, common_name, address, lasts_ms):
                now = monotonic_ms()
                self._guests.leave(now)
                guest = Guest(common_name, address, now + lasts_ms)
                is_in = self._guests.admit(identity.spelled(key), guest)
                self._tell(m.Admitted(ticket, is_in))
            case m.Dismiss(key):
                self._guests.dismiss(identity.spelled(key))
            case m.PeerKeyIs(url, key):
                return self._key_is(url, identity.spelled(key) if key else b"")
            case m.Hello():
                self._introduce()
        return None

    def _introduce(self) -> None:
        self._tell(m.CurveKeyIs("raft", identity.raw(self._pair.public)))
        if self._urls:
            self._tell(m.Acquaint(self._urls))

    def _key_is(self, url: str, key: bytes) -> str | None:
        if self._keys.get(url, b"") == key and url not in self._lost:
            return None
        self._lost.discard(url)
        if key:
            self._keys[url] = key
        else:
            self._keys.pop(url, None)
        return url
