"""Users and roles as part of the replicated state: what changes them, and how they are kept.

All of it is in memory (`Book`); what changed is written with the batch that changed it. Nothing secret is in a request:
passwords come as hashes, tokens as digests. Tokens are not state: that one was given is told to this member's doors
(`news`), each of which forgets it in its own time.

Names and texts are etcd's (etcd:server/auth/store.go). Not copied: where one key has a permission for itself and one
for a range, etcd may take a new permission of the key for another one, and keeps two of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zkv.core.auth import ROOT, Book, User
from zkv.core.mvcc import layout
from zkv.errors import (
    AuthFailed,
    AuthNotEnabled,
    AuthOldRevision,
    InvalidAuthMgmt,
    InvalidRequest,
    PermissionNotGranted,
    RoleEmpty,
    RoleExists,
    RoleNotFound,
    RoleNotGranted,
    RootRoleNotExist,
    RootUserNotExist,
    TooManyNames,
    UserEmpty,
    UserExists,
    UserNotFound,
)
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.core.auth import Permission
    from zkv.core.mvcc.engine import Reader

NAMES_MAX: Final = 10_000
"""Users, roles, roles of one user, and permissions of one role: so many each. No setting: all members must agree."""
TOKENS_TOLD_MAX: Final = 10_000
"""Tokens given and not yet told to the doors; older ones are forgotten, and who has one is asked for his password."""


class Users:
    """`news` gathers what changed for those who keep a mirror; `is_news`: there is some."""

    def __init__(self, reader: Reader) -> None:
        self.book = Book()
        self.is_news = False
        record = reader.get(layout.AUTH)
        if record is not None:
            self.book.enabled, self.book.revision = unpack(record)
        for _, value in reader.scan(layout.USER, layout.after_prefix(layout.USER)):
            user = User(*unpack(value))
            self.book.users[user.name] = user
        for key, value in reader.scan(layout.ROLE, layout.after_prefix(layout.ROLE)):
            self.book.roles[key[1:].decode()] = unpack(value)
        self._users_changed: set[str] = set()
        self._roles_changed: set[str] = set()
        self._switched = False
        self._users_told: set[str] = set()
        self._roles_told: set[str] = set()
        self._tokens: dict[bytes, str] = {}
        self._changes: dict[int, Callable[..., None]] = {
            m.Op.AUTH_ENABLE: self._enable,
            m.Op.AUTH_DISABLE: self._disable,
            m.Op.USER_ADD: self._user_add,
            m.Op.USER_DELETE: self._user_delete,
            m.Op.USER_CHANGE_PASSWORD: self._user_change_password,
            m.Op.USER_GRANT_ROLE: self._user_grant_role,
            m.Op.USER_REVOKE_ROLE: self._user_revoke_role,
            m.Op.ROLE_ADD: self._role_add,
            m.Op.ROLE_DELETE: self._role_delete,
            m.Op.ROLE_GRANT_PERMISSION: self._role_grant,
            m.Op.ROLE_REVOKE_PERMISSION: self._role_revoke,
            m.Op.LOGIN: self._login,
        }

    @property
    def enabled(self) -> bool:
        return self.book.enabled

    # --- what is asked ---------------------------------------------------------------------------------

    def change(self, op: int, asked: Any) -> m.AuthChanged:
        """Raises a RequestError, AuthOldRevision."""
        self._changes[op](asked)
        return m.AuthChanged()

    def look(self, op: int, asked: Any) -> m.AuthAnswer:
        """Raises UserNotFound, RoleNotFound."""
        book = self.book
        if op == m.Op.AUTH_STATUS:
            return m.AuthStatusAnswer(book.enabled, book.revision)
        if op == m.Op.USER_GET:
            return m.UserGetAnswer(self._user(asked.name).roles)
        if op == m.Op.USER_LIST:
            return m.UserListAnswer(tuple(sorted(book.users)))
        if op == m.Op.ROLE_GET:
            return m.RoleGetAnswer(self._role(asked.name))
        if op == m.Op.ROLE_LIST:
            return m.RoleListAnswer(tuple(sorted(book.roles)))
        raise InvalidRequest("not a request about users")

    def _user(self, name: str) -> User:
        user = self.book.users.get(name)
        if user is None:
            raise UserNotFound
        return user

    def _role(self, name: str) -> tuple[Permission, ...]:
        if name not in self.book.roles:
            raise RoleNotFound
        return self.book.roles[name]

    # --- changes ---------------------------------------------------------------------------------------

    def _enable(self, _: m.AuthEnable) -> None:
        book = self.book
        if book.enabled:
            return
        if ROOT not in book.users:
            raise RootUserNotExist
        if not book.is_root(ROOT):
            raise RootRoleNotExist
        book.enabled = True
        self._switched = self.is_news = True

    def _disable(self, _: m.AuthDisable) -> None:
        if self.book.enabled:
            self.book.enabled = False
            self._tokens.clear()
            self._raise_revision()

    def _user_add(self, asked: m.UserAdd) -> None:
        if not asked.name:
            raise UserEmpty
        if asked.name in self.book.users:
            raise UserExists
        _bound(self.book.users)
        self._set_user(User(asked.name, b"" if asked.no_password else asked.hashed, asked.no_password, ()))

    def _user_delete(self, asked: m.UserDelete) -> None:
        if self.book.enabled and asked.name == ROOT:
            raise InvalidAuthMgmt
        self._user(asked.name)
        del self.book.users[asked.name]
        self._users_changed.add(asked.name)
        self._void_tokens(asked.name)
        self._raise_revision()

    def _user_change_password(self, asked: m.UserChangePassword) -> None:
        user = self._user(asked.name)
        self._void_tokens(asked.name)
        self._set_user(user._replace(password=b"" if user.no_password else asked.hashed))

    def _user_grant_role(self, asked: m.UserGrantRole) -> None:
        user = self._user(asked.name)
        if asked.role != ROOT:
            self._role(asked.role)
        if asked.role in user.roles:
            return
        _bound(user.roles)
        self._set_user(user._replace(roles=tuple(sorted((*user.roles, asked.role)))))

    def _user_revoke_role(self, asked: m.UserRevokeRole) -> None:
        if self.book.enabled and (asked.name, asked.role) == (ROOT, ROOT):
            raise InvalidAuthMgmt
        user = self._user(asked.name)
        if asked.role not in user.roles:
            raise RoleNotGranted
        self._set_user(_without(user, asked.role))

    def _role_add(self, asked: m.RoleAdd) -> None:
        if not asked.name:
            raise RoleEmpty
        if asked.name in self.book.roles:
            raise RoleExists
        _bound(self.book.roles)
        self._set_role(asked.name, ())

    def _role_delete(self, asked: m.RoleDelete) -> None:
        if self.book.enabled and asked.name == ROOT:
            raise InvalidAuthMgmt
        self._role(asked.name)
        del self.book.roles[asked.name]
        self._roles_changed.add(asked.name)
        for user in list(self.book.users.values()):
            if asked.name in user.roles:
                self.book.users[user.name] = _without(user, asked.name)
                self._users_changed.add(user.name)
        self._raise_revision()

    def _role_grant(self, asked: m.RoleGrantPermission) -> None:
        permissions = self._role(asked.name)
        new = (asked.kind, asked.key, asked.range_end)
        if any(each[1:] == new[1:] for each in permissions):
            self._set_role(asked.name, tuple(new if each[1:] == new[1:] else each for each in permissions))
        else:
            _bound(permissions)
            self._set_role(asked.name, tuple(sorted((*permissions, new), key=lambda each: each[1])))

    def _role_revoke(self, asked: m.RoleRevokePermission) -> None:
        permissions = self._role(asked.name)
        left = tuple(each for each in permissions if each[1:] != (asked.key, asked.range_end))
        if len(left) == len(permissions):
            raise PermissionNotGranted
        self._set_role(asked.name, left)

    def _login(self, asked: m.Login) -> None:
        if not self.book.enabled:
            raise AuthNotEnabled
        if asked.revision != self.book.revision:
            raise AuthOldRevision  # the password that was looked at may be another one now
        user = self.book.users.get(asked.name)
        if user is None or user.no_password:
            raise AuthFailed
        self._tokens[asked.digest] = asked.name
        while len(self._tokens) > TOKENS_TOLD_MAX:
            del self._tokens[next(iter(self._tokens))]
        self.is_news = True

    def _set_user(self, user: User) -> None:
        self.book.users[user.name] = user
        self._users_changed.add(user.name)
        self._raise_revision()

    def _set_role(self, name: str, permissions: tuple[Permission, ...]) -> None:
        self.book.roles[name] = permissions
        self._roles_changed.add(name)
        self._raise_revision()

    def _void_tokens(self, name: str) -> None:
        self._tokens = {digest: user for digest, user in self._tokens.items() if user != name}

    def _raise_revision(self) -> None:
        self.book.revision += 1
        self.book.changed()
        self._switched = self.is_news = True

    # --- keeping, telling ------------------------------------------------------------------------------

    def flush(self, puts: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        """Add what has changed since the last call."""
        if not self._switched:
            return
        book = self.book
        users, roles = sorted(self._users_changed), sorted(self._roles_changed)
        puts.append((layout.AUTH, pack((book.enabled, book.revision))))
        puts += [(layout.USER + name.encode(), pack(book.users[name])) for name in users if name in book.users]
        puts += [(layout.ROLE + name.encode(), pack(book.roles[name])) for name in roles if name in book.roles]
        deletes += [layout.USER + name.encode() for name in users if name not in book.users]
        deletes += [layout.ROLE + name.encode() for name in roles if name not in book.roles]
        self._users_told |= self._users_changed
        self._roles_told |= self._roles_changed
        self._users_changed, self._roles_changed, self._switched = set(), set(), False

    def news(self) -> m.AuthNews:
        """What has changed since the last call, once it is kept."""
        book = self.book
        users, roles = sorted(self._users_told), sorted(self._roles_told)
        told = m.AuthNews(
            book.enabled,
            book.revision,
            tuple(book.users[name] for name in users if name in book.users),
            tuple(name for name in users if name not in book.users),
            tuple((name, book.roles[name]) for name in roles if name in book.roles),
            tuple(name for name in roles if name not in book.roles),
            tuple(self._tokens.items()),
        )
        self._users_told, self._roles_told, self._tokens, self.is_news = set(), set(), {}, False
        return told

    def everything(self) -> m.AuthNews:
        book = self.book
        return m.AuthNews(
            book.enabled, book.revision, tuple(book.users.values()), (), tuple(book.roles.items()), (), (), fresh=True
        )


def _bound(names: Any) -> None:
    if len(names) >= NAMES_MAX:
        raise TooManyNames


def _without(user: User, role: str) -> User:
    return user._replace(roles=tuple(each for each in user.roles if each != role))
