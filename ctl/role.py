"""`zkv role add`, `delete`, `get`, `list`, `grant-permission` and `revoke-permission`."""

from __future__ import annotations

from zkv.client.ops import prefix_end
from zkv.ctl.command import Call, Command
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, switch
from zkv.wire import messages as m

_FROM_KEY = b"\0"


def _add(call: Call) -> int:
    name = _one(call, "role add command requires role name as its argument")
    return _change(call, m.RoleAdd(name), f"Role {name} created")


def _delete(call: Call) -> int:
    name = _one(call, "role delete command requires role name as its argument")
    return _change(call, m.RoleDelete(name), f"Role {name} deleted")


def _get(call: Call) -> int:
    name = _one(call, "role get command requires role name as its argument")
    printer = call.printer("role_get")
    with call.connect() as connection:
        header, answer = connection.ask(m.RoleGet(name), m.RoleGetAnswer)
    printer.role_get(header, name, answer)
    return 0


def _list(call: Call) -> int:
    if call.arguments:
        raise CommandError("role list command requires no arguments", EXIT_BAD_ARGS)
    printer = call.printer("role_list")
    with call.connect() as connection:
        printer.role_list(*connection.ask(m.RoleList(), m.RoleListAnswer))
    return 0


def _grant(call: Call) -> int:
    if len(call.arguments) < 3:
        raise CommandError(
            "role grant command requires role name, permission type, and key [endkey] as its argument", EXIT_BAD_ARGS
        )
    name, kind = call.arguments[0], call.arguments[1].upper()
    if kind not in m.PermissionKind.__members__:
        raise CommandError(f"invalid permission type: {call.arguments[1]}", EXIT_BAD_ARGS)
    request = m.RoleGrantPermission(name, int(m.PermissionKind[kind]), *_keys(call, 2))
    return _change(call, request, f"Role {name} updated")


def _revoke(call: Call) -> int:
    if len(call.arguments) < 2:
        raise CommandError(
            "role revoke-permission command requires role name and key [endkey] as its argument", EXIT_BAD_ARGS
        )
    name = call.arguments[0]
    key, end = _keys(call, 1)
    if not end:
        done = b"Permission of key %s is revoked from role " % key
    elif end == _FROM_KEY:
        done = b"Permission of range [%s, <open ended> is revoked from role " % key
    else:
        done = b"Permission of range [%s, %s) is revoked from role " % (key, end)
    done += name.encode("utf-8", "surrogateescape")
    return _change(call, m.RoleRevokePermission(name, key, end), done)


def _keys(call: Call, at: int) -> tuple[bytes, bytes]:
    """(key, range_end) of the arguments from `at` on. An empty key is the first there can be."""
    key = call.argument(at)
    end = call.argument(at + 1) if len(call.arguments) > at + 1 else b""
    prefix, from_key = call.values.is_on("prefix"), call.values.is_on("from-key")
    if prefix and from_key:
        raise CommandError("--from-key and --prefix flags are mutually exclusive", EXIT_BAD_ARGS)
    if not key:
        return b"\0", _FROM_KEY if prefix or from_key else b""
    if prefix or from_key:
        if end:
            flag = "--prefix" if prefix else "--from-key"
            raise CommandError(f"unexpected endkey argument with {flag} flag", EXIT_BAD_ARGS)
        end = prefix_end(key) if prefix else _FROM_KEY
    return key, end


def _one(call: Call, complaint: str) -> str:
    if len(call.arguments) != 1:
        raise CommandError(complaint, EXIT_BAD_ARGS)
    return call.arguments[0]


def _change(call: Call, request: m.AuthRequest, done: str | bytes) -> int:
    printer = call.printer("auth_changed")
    with call.connect() as connection:
        header, _ = connection.ask(request, m.AuthChanged)
    printer.auth_changed(header, done)
    return 0


_RANGE = (
    switch("from-key", "the permission is for all keys from the given one on"),
    switch("prefix", "the permission is for all keys that begin with the given one"),
)

ADD = Command(usage="<role name>", summary="Adds a new role", example="zkv role add readers", run=_add)

DELETE = Command(
    usage="<role name>",
    summary="Deletes a role",
    description="Its users lose it.",
    example="zkv role delete readers",
    run=_delete,
)

GET = Command(
    usage="<role name>",
    summary="Gets detailed information of a role",
    example="zkv role get readers",
    run=_get,
)

LIST = Command(usage="", summary="Lists all roles", example="zkv role list", run=_list)

GRANT_PERMISSION = Command(
    usage="[options] <role name> <permission type> <key> [endkey]",
    summary="Grants a key to a role",
    description="The type is read, write or readwrite. A permission for just these keys takes the new type.",
    example="""\
zkv role grant-permission readers read config/ --prefix
zkv role grant-permission writers readwrite a m""",
    run=_grant,
    flags=_RANGE,
)

REVOKE_PERMISSION = Command(
    usage="[options] <role name> <key> [endkey]",
    summary="Revokes a key from a role",
    description="Of just these keys, as it was granted.",
    example="zkv role revoke-permission readers config/ --prefix",
    run=_revoke,
    flags=_RANGE,
)
