"""What clients ask of users and roles: requests and answers, by etcd's names. `requests.py` numbers them.

Passwords travel from client to door in the clear (so: over TLS or CURVE), and no further: the door puts a hash in their
place before the log sees the request (`hashed`), or checks them and logs a `Login`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final, NamedTuple, TypeAlias

from zkv.wire.shapes import Natural

Caller: TypeAlias = tuple[str, int]
"""Who asks, as the door found out: a user's name ("": nobody said), and the auth revision it was found out under."""
HOUSE: Final[Caller] = ("", -1)
"""The member itself asks, by no door: it may do all."""


class PermissionKind(IntEnum):
    READ = 0
    WRITE = 1
    READWRITE = 2


class AuthEnable(NamedTuple):
    """From now on everybody is asked who he is. Needs a user root with the role root."""


class AuthDisable(NamedTuple):
    pass


class AuthStatus(NamedTuple):
    pass


class Authenticate(NamedTuple):
    """A token for a name and a password. Answered by the door."""

    name: str
    password: str


class UserAdd(NamedTuple):
    """`no_password`: known by a certificate's common name only. `hashed` is the door's: a client's must be empty."""

    name: str
    password: str = ""
    no_password: bool = False
    hashed: bytes = b""


class UserGet(NamedTuple):
    name: str


class UserList(NamedTuple):
    pass


class UserDelete(NamedTuple):
    name: str


class UserChangePassword(NamedTuple):
    """`hashed` is the door's, as in UserAdd."""

    name: str
    password: str
    hashed: bytes = b""


class UserGrantRole(NamedTuple):
    name: str
    role: str


class UserRevokeRole(NamedTuple):
    name: str
    role: str


class RoleAdd(NamedTuple):
    name: str


class RoleGet(NamedTuple):
    name: str


class RoleList(NamedTuple):
    pass


class RoleDelete(NamedTuple):
    name: str


class RoleGrantPermission(NamedTuple):
    """The role may do `kind` to the keys in [key, range_end), written as in a Range."""

    name: str
    kind: Annotated[int, PermissionKind]
    key: bytes
    range_end: bytes = b""


class RoleRevokePermission(NamedTuple):
    """Of just that range, as it was granted."""

    name: str
    key: bytes
    range_end: bytes = b""


class Login(NamedTuple):
    """By members only: a door has seen the password, and gives the user the token whose SHA-256 is `digest`.

    Void unless the auth revision is still `revision`.
    """

    name: str
    digest: bytes
    revision: Natural


class AuthStatusAnswer(NamedTuple):
    enabled: bool
    revision: int


class AuthenticateAnswer(NamedTuple):
    token: str


class UserGetAnswer(NamedTuple):
    roles: tuple[str, ...]


class UserListAnswer(NamedTuple):
    users: tuple[str, ...]


class RoleGetAnswer(NamedTuple):
    """`permissions`: (PermissionKind, key, range_end) each, in the order of their keys."""

    permissions: tuple[tuple[int, bytes, bytes], ...]


class RoleListAnswer(NamedTuple):
    roles: tuple[str, ...]


class AuthChanged(NamedTuple):
    """To all that changes something."""


AuthRequest: TypeAlias = (
    AuthEnable
    | AuthDisable
    | AuthStatus
    | Authenticate
    | UserAdd
    | UserGet
    | UserList
    | UserDelete
    | UserChangePassword
    | UserGrantRole
    | UserRevokeRole
    | RoleAdd
    | RoleGet
    | RoleList
    | RoleDelete
    | RoleGrantPermission
    | RoleRevokePermission
    | Login
)
AuthAnswer: TypeAlias = (
    AuthStatusAnswer
    | AuthenticateAnswer
    | UserGetAnswer
    | UserListAnswer
    | RoleGetAnswer
    | RoleListAnswer
    | AuthChanged
)
AUTH_RECORDS: Final[tuple[tuple[type[AuthRequest], type[AuthAnswer]], ...]] = (
    (AuthEnable, AuthChanged),
    (AuthDisable, AuthChanged),
    (AuthStatus, AuthStatusAnswer),
    (Authenticate, AuthenticateAnswer),
    (UserAdd, AuthChanged),
    (UserGet, UserGetAnswer),
    (UserList, UserListAnswer),
    (UserDelete, AuthChanged),
    (UserChangePassword, AuthChanged),
    (UserGrantRole, AuthChanged),
    (UserRevokeRole, AuthChanged),
    (RoleAdd, AuthChanged),
    (RoleGet, RoleGetAnswer),
    (RoleList, RoleListAnswer),
    (RoleDelete, AuthChanged),
    (RoleGrantPermission, AuthChanged),
    (RoleRevokePermission, AuthChanged),
    (Login, AuthChanged),
)
"""Request and answer, in the order of their operations from Op.AUTH_ENABLE on."""
