"""What `Client` and `AsyncClient` do with users and roles."""

# ruff: noqa: ASYNC109 (a timeout here is the cluster's deadline, not the task's)
from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, cast

from zkv.client import ops
from zkv.client.calls import Call
from zkv.client.records import (
    AuthResult,
    AuthStatusResult,
    NamesResult,
    Permission,
    RoleResult,
    UserResult,
)
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.client.ops import Data, Prefix
    from zkv.client.ticket import Ticket

T = TypeVar("T")
Kind: TypeAlias = Literal["read", "write", "readwrite"]

KINDS: dict[str, m.PermissionKind] = {kind.name.lower(): kind for kind in m.PermissionKind}


def _change(request: m.AuthRequest) -> Call[AuthResult]:
    return Call(request, lambda ticket: AuthResult(ticket.header))


def _status() -> Call[AuthStatusResult]:
    return Call(
        m.AuthStatus(),
        lambda ticket: AuthStatusResult(ticket.header, *cast("m.AuthStatusAnswer", ticket.answer)),
    )


def _user(name: str) -> Call[UserResult]:
    return Call(m.UserGet(name), lambda ticket: UserResult(ticket.header, cast("m.UserGetAnswer", ticket.answer).roles))


def _users() -> Call[NamesResult]:
    return Call(m.UserList(), lambda ticket: NamesResult(ticket.header, cast("m.UserListAnswer", ticket.answer).users))


def _role(name: str) -> Call[RoleResult]:
    def result(ticket: Ticket) -> RoleResult:
        permissions = cast("m.RoleGetAnswer", ticket.answer).permissions
        named = [Permission(m.PermissionKind(kind).name.lower(), key, end) for kind, key, end in permissions]
        return RoleResult(ticket.header, tuple(named))

    return Call(m.RoleGet(name), result)


def _roles() -> Call[NamesResult]:
    return Call(m.RoleList(), lambda ticket: NamesResult(ticket.header, cast("m.RoleListAnswer", ticket.answer).roles))


class UserAdministration:
    """Part of `Client`. What these raise beside: PermissionDenied to who is not root."""

    def _call(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError

    def auth_enable(self, *, timeout: float | None = None) -> AuthResult:
        """From now on everybody must say who he is. Raises RootUserNotExist, RootRoleNotExist."""
        return self._call(_change(m.AuthEnable()), timeout)

    def auth_disable(self, *, timeout: float | None = None) -> AuthResult:
        """From now on nobody is asked; users and roles stay."""
        return self._call(_change(m.AuthDisable()), timeout)

    def auth_status(self, *, timeout: float | None = None) -> AuthStatusResult:
        """Is everybody asked who he is?"""
        return self._call(_status(), timeout)

    def user_add(
        self, name: str, password: str = "", *, no_password: bool = False, timeout: float | None = None
    ) -> AuthResult:
        """Add a user; with `no_password` one who is known by a certificate's common name only. Raises UserExists."""
        return self._call(_change(m.UserAdd(name, password, no_password)), timeout)

    def user_delete(self, name: str, *, timeout: float | None = None) -> AuthResult:
        """Raises UserNotFound, InvalidAuthMgmt."""
        return self._call(_change(m.UserDelete(name)), timeout)

    def user_get(self, name: str, *, timeout: float | None = None) -> UserResult:
        """Which roles has the user? Raises UserNotFound."""
        return self._call(_user(name), timeout)

    def users(self, *, timeout: float | None = None) -> NamesResult:
        """The names of all users."""
        return self._call(_users(), timeout)

    def user_change_password(self, name: str, password: str, *, timeout: float | None = None) -> AuthResult:
        """Tokens that the user has are void. Raises UserNotFound."""
        return self._call(_change(m.UserChangePassword(name, password)), timeout)

    def user_grant_role(self, name: str, role: str, *, timeout: float | None = None) -> AuthResult:
        """Raises UserNotFound, RoleNotFound."""
        return self._call(_change(m.UserGrantRole(name, role)), timeout)

    def user_revoke_role(self, name: str, role: str, *, timeout: float | None = None) -> AuthResult:
        """Raises UserNotFound, RoleNotGranted, InvalidAuthMgmt."""
        return self._call(_change(m.UserRevokeRole(name, role)), timeout)

    def role_add(self, name: str, *, timeout: float | None = None) -> AuthResult:
        """Raises RoleExists."""
        return self._call(_change(m.RoleAdd(name)), timeout)

    def role_delete(self, name: str, *, timeout: float | None = None) -> AuthResult:
        """Its users lose it. Raises RoleNotFound, InvalidAuthMgmt."""
        return self._call(_change(m.RoleDelete(name)), timeout)

    def role_get(self, name: str, *, timeout: float | None = None) -> RoleResult:
        """What may be done in that role? Raises RoleNotFound."""
        return self._call(_role(name), timeout)

    def roles(self, *, timeout: float | None = None) -> NamesResult:
        """The names of all roles."""
        return self._call(_roles(), timeout)

    def role_grant_permission(
        self,
        role: str,
        kind: Kind,
        key: Data | None = None,
        *,
        range_end: Data | None = None,
        prefix: Prefix = None,
        from_key: bool = False,
        timeout: float | None = None,
    ) -> AuthResult:
        """Which keys: as for `range`. A permission for just these keys takes the new `kind`. Raises RoleNotFound."""
        return self._call(
            _change(
                m.RoleGrantPermission(role, KINDS[kind], *ops.key_range(key, range_end, prefix, from_key=from_key))
            ),
            timeout,
        )

    def role_revoke_permission(
        self,
        role: str,
        key: Data | None = None,
        *,
        range_end: Data | None = None,
        prefix: Prefix = None,
        from_key: bool = False,
        timeout: float | None = None,
    ) -> AuthResult:
        """Of just these keys, as it was granted. Raises RoleNotFound, PermissionNotGranted."""
        return self._call(
            _change(m.RoleRevokePermission(role, *ops.key_range(key, range_end, prefix, from_key=from_key))), timeout
        )


class AsyncUserAdministration:
    """Part of `AsyncClient`."""

    async def _call(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError

    async def auth_enable(self, *, timeout: float | None = None) -> AuthResult:
        """See `Client.auth_enable`."""
        return await self._call(_change(m.AuthEnable()), timeout)

    async def auth_disable(self, *, timeout: float | None = None) -> AuthResult:
        """See `Client.auth_disable`."""
        return await self._call(_change(m.AuthDisable()), timeout)

    async def auth_status(self, *, timeout: float | None = None) -> AuthStatusResult:
        """See `Client.auth_status`."""
        return await self._call(_status(), timeout)

    async def user_add(
        self, name: str, password: str = "", *, no_password: bool = False, timeout: float | None = None
    ) -> AuthResult:
        """See `Client.user_add`."""
        return await self._call(_change(m.UserAdd(name, password, no_password)), timeout)

    async def user_delete(self, name: str, *, timeout: float | None = None) -> AuthResult:
        """See `Client.user_delete`."""
        return await self._call(_change(m.UserDelete(name)), timeout)

    async def user_get(self, name: str, *, timeout: float | None = None) -> UserResult:
        """See `Client.user_get`."""
        return await self._call(_user(name), timeout)

    async def users(self, *, timeout: float | None = None) -> NamesResult:
        """See `Client.users`."""
        return await self._call(_users(), timeout)

    async def user_change_password(self, name: str, password: str, *, timeout: float | None = None) -> AuthResult:
        """See `Client.user_change_password`."""
        return await self._call(_change(m.UserChangePassword(name, password)), timeout)

    async def user_grant_role(self, name: str, role: str, *, timeout: float | None = None) -> AuthResult:
        """See `Client.user_grant_role`."""
        return await self._call(_change(m.UserGrantRole(name, role)), timeout)

    async def user_revoke_role(self, name: str, role: str, *, timeout: float | None = None) -> AuthResult:
        """See `Client.user_revoke_role`."""
        return await self._call(_change(m.UserRevokeRole(name, role)), timeout)

    async def role_add(self, name: str, *, timeout: float | None = None) -> AuthResult:
        """See `Client.role_add`."""
        return await self._call(_change(m.RoleAdd(name)), timeout)

    async def role_delete(self, name: str, *, timeout: float | None = None) -> AuthResult:
        """See `Client.role_delete`."""
        return await self._call(_change(m.RoleDelete(name)), timeout)

    async def role_get(self, name: str, *, timeout: float | None = None) -> RoleResult:
        """See `Client.role_get`."""
        return await self._call(_role(name), timeout)

    async def roles(self, *, timeout: float | None = None) -> NamesResult:
        """See `Client.roles`."""
        return await self._call(_roles(), timeout)

    async def role_grant_permission(
        self,
        role: str,
        kind: Kind,
        key: Data | None = None,
        *,
        range_end: Data | None = None,
        prefix: Prefix = None,
        from_key: bool = False,
        timeout: float | None = None,
    ) -> AuthResult:
        """See `Client.role_grant_permission`."""
        return await self._call(
            _change(
                m.RoleGrantPermission(role, KINDS[kind], *ops.key_range(key, range_end, prefix, from_key=from_key))
            ),
            timeout,
        )

    async def role_revoke_permission(
        self,
        role: str,
        key: Data | None = None,
        *,
        range_end: Data | None = None,
        prefix: Prefix = None,
        from_key: bool = False,
        timeout: float | None = None,
    ) -> AuthResult:
        """See `Client.role_revoke_permission`."""
        return await self._call(
            _change(m.RoleRevokePermission(role, *ops.key_range(key, range_end, prefix, from_key=from_key))), timeout
        )
