"""Who may do what: users, roles, and the keys that those cover. etcd's model (etcd:server/auth/store.go).

A user has roles, a role has permissions, a permission lets read, write or do both with the keys of a range. What a
user may read is the union of what his roles may, as merged intervals (`Cover`): a range is his if *one* interval holds
it, so [a, c) and [c, e) together give [b, d). The role `root` may do all, and administer.

The *auth revision* rises with each change. A door finds out who asks under one revision, and the request is judged
under a later one: if they differ, nobody knows any more whether it was he, and it is to be asked again
(AuthOldRevision).

`Book` is what is known: the state machine's own (core/mvcc/users.py changes it), or a mirror, kept by news.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from zkv.errors import AuthOldRevision, PermissionDenied, UserEmpty, UserNotFound
from zkv.wire.messages import HOUSE, PermissionKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zkv.wire.messages import AuthNews, Caller

ROOT: Final = "root"
"""The user without whom authentication cannot be enabled, and the role that may do all."""

Permission: TypeAlias = tuple[int, bytes, bytes]
"""(PermissionKind, key, range_end)"""
_READS: Final = frozenset({int(PermissionKind.READ), int(PermissionKind.READWRITE)})
_WRITES: Final = frozenset({int(PermissionKind.WRITE), int(PermissionKind.READWRITE)})
_FROM_KEY: Final = b"\0"


class User(NamedTuple):
    """`password`: its hash. `roles`: in order."""

    name: str
    password: bytes
    no_password: bool
    roles: tuple[str, ...]


class Cover:
    """The union of ranges: intervals that neither meet nor touch, in order. An end of None: all keys from there on."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[tuple[bytes, bytes]]) -> None:
        """(key, range_end) each, as in a Range; one that ends before it begins holds no key."""
        self._starts: list[bytes] = []
        self._ends: list[bytes | None] = []
        for start, end in sorted(map(_interval, ranges), key=lambda interval: interval[0]):
            if end is not None and end <= start:
                continue
            last = self._ends[-1] if self._ends else b""
            if not self._ends or (last is not None and start > last):
                self._starts.append(start)
                self._ends.append(end)
            elif last is not None and (end is None or end > last):
                self._ends[-1] = end

    def holds(self, key: bytes, range_end: bytes) -> bool:
        """Every key of [key, range_end), or `key` itself where the range is none."""
        at = bisect_right(self._starts, key) - 1
        if at < 0:
            return False
        end = self._ends[at]
        if end is None:
            return True
        if not range_end or (range_end != _FROM_KEY and range_end <= key):
            return key < end
        return range_end != _FROM_KEY and range_end <= end

    def intervals(self) -> list[tuple[bytes, bytes | None]]:
        return list(zip(self._starts, self._ends, strict=True))


def _interval(keys: tuple[bytes, bytes]) -> tuple[bytes, bytes | None]:
    key, range_end = keys
    if not range_end:
        return key, key + b"\0"
    return key, None if range_end == _FROM_KEY else range_end


class Book:
    """Users, roles, and whether anybody is asked."""

    def __init__(self) -> None:
        self.enabled = False
        self.revision = 1
        self.users: dict[str, User] = {}
        self.roles: dict[str, tuple[Permission, ...]] = {}
        self._covers: dict[str, tuple[Cover, Cover]] = {}  # user -> what he may read, and write

    def changed(self) -> None:
        """Users or roles are others now."""
        self._covers.clear()

    def install(self, news: AuthNews) -> None:
        if news.fresh:
            self.users, self.roles = {}, {}
        self.enabled, self.revision = news.enabled, news.revision
        for name in news.users_gone:
            self.users.pop(name, None)
        for name in news.roles_gone:
            self.roles.pop(name, None)
        self.users.update({fields[0]: User(*fields) for fields in news.users})
        self.roles.update({name: tuple(permissions) for name, permissions in news.roles})
        self.changed()

    # --- decisions -----------------------------------------------------------------------------------

    def is_root(self, name: str) -> bool:
        user = self.users.get(name)
        return user is not None and ROOT in user.roles

    def may_read(self, name: str, key: bytes, range_end: bytes = b"") -> bool:
        return self.is_root(name) or self._cover(name)[0].holds(key, range_end)

    def may_write(self, name: str, key: bytes, range_end: bytes = b"") -> bool:
        return self.is_root(name) or self._cover(name)[1].holds(key, range_end)

    def _cover(self, name: str) -> tuple[Cover, Cover]:
        cover = self._covers.get(name)
        if cover is None:
            user = self.users.get(name)
            permissions = [each for role in (user.roles if user else ()) for each in self.roles.get(role, ())]
            cover = (
                Cover((key, end) for kind, key, end in permissions if kind in _READS),
                Cover((key, end) for kind, key, end in permissions if kind in _WRITES),
            )
            if user is not None:  # who is none must not fill the memory with his names
                self._covers[name] = cover
        return cover

    def identified(self, caller: Caller | None) -> str:
        """The name of who asks. Raises UserEmpty, AuthOldRevision, PermissionDenied (there is no such user)."""
        if caller is None:
            raise AuthOldRevision  # let in while nobody was asked
        name, revision = caller
        if not name:
            raise UserEmpty
        if revision < self.revision:
            raise AuthOldRevision
        if name not in self.users:
            raise PermissionDenied
        return name

    def check_root(self, caller: Caller | None) -> None:
        """Raises UserEmpty, AuthOldRevision, UserNotFound, PermissionDenied."""
        if caller == HOUSE:
            return
        if caller is not None and caller[0] and caller[1] >= self.revision and caller[0] not in self.users:
            raise UserNotFound
        if not self.is_root(self.identified(caller)):
            raise PermissionDenied
