"""Tokens: what a client shows after it has named its password once.

`simple`, etcd's default: random text. All members are told of it by the log (a digest of it: whoever reads the log has
no token), each door remembers it in memory, and forgets it when it was not shown for its time to live, or its user is
gone or has another password. So it is worth nothing after a restart of the door: the client, told that it is invalid,
names the password again.

`jwt` tokens are signed, and need no memory: jwt_tokens.py.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zkv.wire.messages import Caller

TOKENS_MAX: Final = 100_000
"""Remembered by one door; beyond it those go that were not shown for longest."""


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Tokens(Protocol):
    """One kind of token. `logged`: the members learn of each one by the log."""

    logged: bool

    def make(self, name: str, revision: int, now: int) -> str:
        """A new token. Raises AuthFailed where this member can sign none."""

    def caller(self, token: str, revision: int, now: int) -> Caller | None:
        """Whose it is, and since which auth revision that is known, which now is `revision`; None: nobody's."""

    def learn(self, given: Iterable[tuple[bytes, str]], now: int) -> None: ...

    def forget(self, names: Iterable[str]) -> None:
        """These users' tokens are void."""

    def forget_all(self) -> None: ...


class SimpleTokens:
    logged = True

    def __init__(self, ttl_ms: int) -> None:
        self._ttl_ms = ttl_ms
        self._known: OrderedDict[bytes, tuple[str, int]] = OrderedDict()  # digest -> (user, until), rising

    def make(self, name: str, revision: int, now: int) -> str:  # noqa: ARG002 - the face of all kinds
        return secrets.token_urlsafe(24)

    def caller(self, token: str, revision: int, now: int) -> Caller | None:
        digest = digest_of(token)
        known = self._known.get(digest)
        if known is None:
            return None
        if known[1] < now:
            del self._known[digest]
            return None
        self._known[digest] = known[0], now + self._ttl_ms
        self._known.move_to_end(digest)
        return known[0], revision

    def learn(self, given: Iterable[tuple[bytes, str]], now: int) -> None:
        known = self._known
        for digest, name in given:
            known[digest] = name, now + self._ttl_ms
        while known and (len(known) > TOKENS_MAX or next(iter(known.values()))[1] < now):
            known.popitem(last=False)

    def forget(self, names: Iterable[str]) -> None:
        gone = frozenset(names)
        if gone:
            self._known = OrderedDict((digest, each) for digest, each in self._known.items() if each[0] not in gone)

    def forget_all(self) -> None:
        self._known.clear()
