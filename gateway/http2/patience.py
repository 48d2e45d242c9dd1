"""How much a peer may ask for that is of no use to it: a bucket of tokens per connection and kind.

HTTP/2 has many frames that are cheap to send and cost their receiver an answer, a table or a turn: the floods of
CVE-2019-9512 (PING), 9515 (SETTINGS), 9518 (empty DATA), of CVE-2023-44487 (streams opened and reset) and CVE-2025-8671
(streams made to be reset by us). None of them is wrong by itself, so what tells an attack is how many come for how much
work: a bucket is full at first, fills up with time and with work done, and who empties it is cut off with
ENHANCE_YOUR_CALM.
"""

from __future__ import annotations

from zkv.gateway.http2.words import ConnectionFault, ErrorCode


class Patience:
    """`level` tokens are left, at most `burst`; never below zero."""

    __slots__ = ("_burst", "_level", "_per_s", "_per_work", "_reason", "_since", "_worked")

    def __init__(self, reason: str, burst: int, per_s: int, per_work: int, now: int) -> None:
        self._reason = reason
        self._burst = burst * 1000  # counted in thousandths, for `now` is in milliseconds
        self._level = self._burst
        self._per_s = per_s
        self._per_work = per_work * 1000
        self._since = now
        self._worked = 0

    def spend(self, cost: int, now: int, worked: int) -> None:
        """`worked`: units of work since the connection began. Raises ConnectionFault when nothing is left."""
        elapsed = max(0, now - self._since)
        earned = elapsed * self._per_s + (worked - self._worked) * self._per_work
        self._since = now
        self._worked = worked
        self._level = min(self._burst, self._level + earned) - cost * 1000
        if self._level < 0:
            self._level = 0
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, self._reason)
