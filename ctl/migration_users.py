"""Users and roles of a live etcd, made in zkv too: all but the passwords, which etcd does not tell.

What is there already gets what it lacks, and nothing is taken from it. So it may be done again, after a crash or when
etcd has changed. A user that is made has a password that nobody knows: he comes by his certificate, or once he was
given another one (`zkv user passwd`).
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from zkv.errors import RoleExists, UserExists

if TYPE_CHECKING:
    from zkv.client.client import Client
    from zkv.client.users import Kind
    from zkv.ctl.etcd_source import EtcdSource

_KINDS: Final[tuple[Kind, ...]] = ("read", "write", "readwrite")
"""By the numbers of authpb.Permission."""

SECRET_BYTES: Final = 32


class Taken(NamedTuple):
    roles: int
    users: int
    new_users: tuple[str, ...]


def take_users(source: EtcdSource, kv: Client) -> Taken:
    """Raises SourceError, ZkvError."""
    roles, users, new = source.roles(), source.users(), []
    for role, permissions in roles.items():
        with suppress(RoleExists):
            kv.role_add(role)
        for permission in permissions:
            kind = _KINDS[permission.permType]
            kv.role_grant_permission(role, kind, permission.key, range_end=permission.range_end or None)
    for user, granted in users.items():
        with suppress(UserExists):
            kv.user_add(user, secrets.token_urlsafe(SECRET_BYTES))
            new.append(user)
        for role in granted:
            kv.user_grant_role(user, role)
    return Taken(len(roles), len(users), tuple(new))
