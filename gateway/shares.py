"""What one client may have of a door, so that none takes it from the others.

A client is who it has shown to be: its user, where users are asked; else its certificate's common name; else the
address it comes from. Whatever it does at this door, on however many connections, is counted in one `Share`. What goes
beyond is refused with LimitExceeded: nothing of it was done, and it says when to ask again. Each door of each member
counts for itself.

    requests      a bucket that a second fills with `client_requests_max`, and that holds as much. A message sets out if
                  there is anything in it, and may leave it in debt: so one of many requests is not refused for ever
    bytes         of messages that have set out and are not answered, each weighing MESSAGE_BYTES at least, for a door
                  has room for so many only. Who has nothing in flight is not refused
    watches       begun and not ended
    leases        granted here. Near the limit it is asked which of them are still there (`Leases`)
    connections   as far as they have said something: by certificate or address, for users are not known so early
    passwords     being looked at: PASSWORDS_MAX, for what waits behind them waits long

All that a request costs here is a few comparisons, with its group; nothing runs by the clock.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import structlog

from zkv.errors import LimitExceeded
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from zkv.gateway.logins import Told
    from zkv.gauges import Value
    from zkv.limits import Limits

MESSAGE_BYTES: Final = 3 * 1024
PASSWORDS_MAX: Final = 256
SHARES_MAX: Final = 65_536
"""Clients that are known here; of those beyond, who have nothing here are forgotten, or all count as one."""
BYTES_RETRY_MS: Final = 50
RETRY_MS: Final = 1_000
"""After this something may have ended of what is there for long: watches, leases, connections."""
WARN_MS: Final = 60_000
"""A client that is refused is told of in the log, once in this time, and all together ..."""
WARN_ALL_MS: Final = 1_000
"""... once in this."""
USER: Final = "user"
CERTIFICATE: Final = "certificate"
ADDRESS: Final = "address"
_UNBOUNDED: Final = 1 << 62


class Share:
    """What one client has. `credit`: thousandths of requests, as of `at`; below 0: a debt. `granting`: leases on their
    way; `looking`: it is being asked which leases there still are, next at `look_at`.
    """

    __slots__ = (
        "at", "bytes", "connections", "credit", "granting", "leases", "look_at", "looking", "name", "passwords",
        "streams", "warn_at", "watches",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.credit = 0
        self.at = 0
        self.bytes = 0
        self.watches = 0
        self.streams = 0
        self.passwords = 0
        self.granting = 0
        self.leases: dict[int, None] = {}  # those longest not asked about come first
        self.looking = False
        self.look_at = 0
        self.connections: dict[Hashable, None] = {}
        self.warn_at = 0

    @property
    def is_idle(self) -> bool:
        held = self.bytes or self.watches or self.streams or self.passwords or self.granting
        return not (held or self.leases or self.connections)

    def hold(self, size: int) -> None:
        """A message of `size` bytes has set out."""
        self.bytes += size if size > MESSAGE_BYTES else MESSAGE_BYTES  # noqa: FURB136 - hot, and max() costs more

    def let_go(self, size: int) -> None:
        """It is answered, or will not be."""
        self.bytes -= size if size > MESSAGE_BYTES else MESSAGE_BYTES  # noqa: FURB136


class Shares:
    """All clients of a door. `ask` and its like return the refusal, or None; what is for long then counts."""

    def __init__(self, limits: Limits, door: str) -> None:
        self.house = Share("this member")
        """Of what the door itself asks; nothing is refused to it."""
        self.counts: Counter[str] = Counter()
        """What was refused, by what there was no more of."""
        self._limits = limits
        self._door = door
        self._rate = limits.client_requests_max
        self._bytes_max = limits.client_bytes_max or _UNBOUNDED
        self._watches_max = limits.client_watches_max or _UNBOUNDED
        self._connections_max = limits.client_connections_max or _UNBOUNDED
        self._shares: dict[tuple[str, str], Share] = {}
        self._others = Share("all others")
        self._warn_at = 0

    def __len__(self) -> int:
        return len(self._shares)

    def gauges(self) -> list[Value]:
        return [("client refusals", limit, number) for limit, number in self.counts.items()]

    def of(self, kind: str, name: str) -> Share:
        share = self._shares.get((kind, name))
        if share is None:
            if len(self._shares) >= SHARES_MAX:
                self._shares = {key: known for key, known in self._shares.items() if not known.is_idle}
                if len(self._shares) >= SHARES_MAX:
                    return self._others
            share = self._shares[kind, name] = Share(f"{kind} {name}")
        return share

    def of_stranger(self, common_name: str, address: str) -> Share:
        """Whose user nobody knows."""
        return self.of(CERTIFICATE, common_name) if common_name else self.of(ADDRESS, address)

    # --- for a moment ----------------------------------------------------------------------------------

    def ask(self, share: Share, requests: int, size: int, now: int) -> LimitExceeded | None:
        """A message is to set out. If it does, `Share.hold` it."""
        if share.bytes and share.bytes + (size if size > MESSAGE_BYTES else MESSAGE_BYTES) > self._bytes_max:  # noqa: FURB136
            return self.refused(share, "bytes in flight", BYTES_RETRY_MS, now)
        return self.pay(share, requests, now) if self._rate else None

    def pay(self, share: Share, requests: int, now: int) -> LimitExceeded | None:
        rate = self._rate
        if not rate:
            return None
        credit = share.credit
        if credit < 1000 * requests:
            credit = min(1000 * rate, credit + rate * (now - share.at))
            share.at = now
            if credit <= 0:
                share.credit = credit
                return self.refused(share, "requests", 1 + -credit // rate, now)
        share.credit = credit - 1000 * requests
        return None

    def look_at_password(self, share: Share, now: int) -> LimitExceeded | None:
        if share.passwords >= PASSWORDS_MAX:
            return self.refused(share, "passwords to be looked at", RETRY_MS, now)
        share.passwords += 1
        return None

    # --- for long --------------------------------------------------------------------------------------

    def watch(self, share: Share, watches: int, now: int) -> tuple[int, LimitExceeded | None]:
        """How many of them may begin; the refusal is for the others."""
        room = min(watches, self._watches_max - share.watches)
        share.watches += room
        return room, self.refused(share, "watches", RETRY_MS, now) if room < watches else None

    def is_half_way(self, share: Share) -> bool:
        """To its limit of watches: worth looking more closely how many it has."""
        return 2 * share.watches > self._watches_max

    def open_stream(self, share: Share, now: int) -> LimitExceeded | None:
        """A connection, or a call, that is to have watches: one client has half of those there may be."""
        if self._limits.client_watches_max and share.streams >= -(-self._limits.watch_streams_max // 2):
            return self.refused(share, "connections with watches", RETRY_MS, now)
        share.streams += 1
        return None

    def connect(self, share: Share, connection: Hashable, now: int) -> LimitExceeded | None:
        """`connection` counts until it is taken out of the share's."""
        if len(share.connections) >= self._connections_max:
            return self.refused(share, "connections", RETRY_MS, now)
        share.connections[connection] = None
        return None

    def refused(self, share: Share, limit: str, retry_ms: int, now: int) -> LimitExceeded:
        self.counts[limit] += 1
        if now >= share.warn_at and now >= self._warn_at:
            share.warn_at = now + WARN_MS
            self._warn_at = now + WARN_ALL_MS
            structlog.get_logger().bind(actor=self._door).warning(
                "a client has all it may have, and is refused more", client=share.name, limit=limit
            )
        return LimitExceeded(limit, retry_ms)


LEASES_LOOKED_AT: Final = 512
"""Leases that are asked about at once."""


class Leases:
    """How many leases each client has: those granted here, less those that are gone.

    A door does not see leases end. So, near the limit, it asks which are there: `ask(requests, told)` has each answered
    by `told(code, revision, body)`, or all at once by an error.
    """

    def __init__(
        self, shares: Shares, limits: Limits, ask: Callable[[Sequence[tuple[int, tuple[Any, ...]]], Told], None]
    ) -> None:
        self._shares = shares
        self._most = limits.client_leases_max or _UNBOUNDED
        self._ask = ask

    def grant(self, share: Share, leases: int, now: int) -> LimitExceeded | None:
        """They are asked for. Whatever comes of it is told by `granted`."""
        if share is self._shares.house:
            return None
        wanted = len(share.leases) + share.granting + leases
        if 8 * wanted > 7 * self._most and not share.looking and now >= share.look_at and share.leases:
            share.look_at = now + RETRY_MS
            self._look(share, len(share.leases))
        if wanted > self._most:
            return self._shares.refused(share, "leases", RETRY_MS, now)
        share.granting += leases
        return None

    def granted(self, share: Share, asked: int, leases: Iterable[int]) -> None:
        """Of those `asked` for, `leases` are there; the others will not be."""
        if share is self._shares.house:
            return
        share.granting -= asked
        if self._most < _UNBOUNDED:
            share.leases.update(dict.fromkeys(leases))

    def _look(self, share: Share, left: int) -> None:
        """At `left` of its leases, those longest not looked at, some at a time."""
        some = dict.fromkeys(_first(share.leases, min(left, LEASES_LOOKED_AT)))
        share.looking = True
        left -= len(some)

        def told(code: int, _: int, body: Any) -> None:
            if code:
                some.clear()
            elif body[0] in some:
                del some[body[0]]
                if share.leases.pop(body[0], self) is None and body[1] >= 0:
                    share.leases[body[0]] = None
            if not some and share.looking:
                share.looking = False
                if not code and left > 0 and share.leases:
                    self._look(share, left)

        self._ask([(int(m.Op.LEASE_TIME_TO_LIVE), tuple(m.LeaseTimeToLive(lease))) for lease in some], told)


def _first(table: dict[Any, None], number: int) -> Sequence[Any]:
    return [key for key, _ in zip(table, range(number), strict=False)]
