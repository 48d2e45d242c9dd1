"""`zkv user add`, `delete`, `get`, `list`, `passwd`, `grant-role` and `revoke-role`."""

from __future__ import annotations

from zkv.ctl.command import Call, Command
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, Flag, switch
from zkv.ctl.secrets import prompt, word
from zkv.wire import messages as m

_INTERACTIVE = Flag("interactive", "switch", "true", "ask for the password; if false, read it from stdin")


def _add(call: Call) -> int:
    name = _one(call, "user add command requires user name as its argument")
    values, password = call.values, ""
    if not values.is_on("no-password"):
        password = values.text("new-user-password")
        if not password:
            name, colon, password = name.partition(":")
            if colon and not name:
                raise CommandError("empty user name is not allowed", EXIT_BAD_ARGS)
            if not colon:
                password = _new_password(call, name)
    request = m.UserAdd(name, password, values.is_on("no-password"))
    return _change(call, request, f"User {name} created")


def _delete(call: Call) -> int:
    name = _one(call, "user delete command requires user name as its argument")
    return _change(call, m.UserDelete(name), f"User {name} deleted")


def _get(call: Call) -> int:
    name = _one(call, "user get command requires user name as its argument")
    detail = call.values.is_on("detail")
    printer = call.printer("role_get" if detail else "user_get")
    with call.connect() as connection:
        header, user = connection.ask(m.UserGet(name), m.UserGetAnswer)
        if not detail:
            printer.user_get(header, name, user)
            return 0
        printer.line(f"User: {name}")
        for role in user.roles:
            printer.line()
            role_header, answer = connection.ask(m.RoleGet(role), m.RoleGetAnswer)
            printer.role_get(role_header, role, answer)
    return 0


def _list(call: Call) -> int:
    if call.arguments:
        raise CommandError("user list command requires no arguments", EXIT_BAD_ARGS)
    printer = call.printer("user_list")
    with call.connect() as connection:
        printer.user_list(*connection.ask(m.UserList(), m.UserListAnswer))
    return 0


def _passwd(call: Call) -> int:
    name = _one(call, "user passwd command requires user name as its argument")
    return _change(call, m.UserChangePassword(name, _new_password(call, name)), "Password updated")


def _grant_role(call: Call) -> int:
    name, role = _two(call, "user grant command requires user name and role name as its argument")
    return _change(call, m.UserGrantRole(name, role), f"Role {role} is granted to user {name}")


def _revoke_role(call: Call) -> int:
    name, role = _two(call, "user revoke-role requires user name and role name as its argument")
    return _change(call, m.UserRevokeRole(name, role), f"Role {role} is revoked from user {name}")


def _one(call: Call, complaint: str) -> str:
    if len(call.arguments) != 1:
        raise CommandError(complaint, EXIT_BAD_ARGS)
    return call.arguments[0]


def _two(call: Call, complaint: str) -> tuple[str, str]:
    if len(call.arguments) != 2:
        raise CommandError(complaint, EXIT_BAD_ARGS)
    return call.arguments[0], call.arguments[1]


def _change(call: Call, request: m.AuthRequest, done: str) -> int:
    printer = call.printer("auth_changed")
    with call.connect() as connection:
        header, _ = connection.ask(request, m.AuthChanged)
    printer.auth_changed(header, done)
    return 0


def _new_password(call: Call, name: str) -> str:
    if not call.values.is_on("interactive"):
        return word(call)
    password = prompt(call, f"Password of {name}: ")
    if not password:
        raise CommandError("empty password", EXIT_BAD_ARGS)
    if prompt(call, f"Type password of {name} again for confirmation: ") != password:
        raise CommandError("given passwords are different", EXIT_BAD_ARGS)
    return password


ADD = Command(
    usage="<user name or user:password> [options]",
    summary="Adds a new user",
    description="""\
Asks for the password, unless it is told in one of the other ways: behind the name, or by a flag, where others may see
it in the list of processes for a moment; or (--interactive=false) from stdin.""",
    example="""\
zkv user add alice
zkv user add alice --interactive=false < password
zkv user add node-1 --no-password""",
    run=_add,
    flags=(
        _INTERACTIVE,
        Flag("new-user-password", "text", "", "supply password from the command line flag"),
        switch("no-password", "create a user without password (CN based auth only)"),
    ),
)

DELETE = Command(
    usage="<user name>",
    summary="Deletes a user",
    description="His tokens are void at once.",
    example="zkv user delete alice",
    run=_delete,
)

GET = Command(
    usage="<user name> [options]",
    summary="Gets detailed information of a user",
    example="zkv user get alice --detail",
    run=_get,
    flags=(switch("detail", "show permissions of roles granted to the user"),),
)

LIST = Command(usage="", summary="Lists all users", example="zkv user list", run=_list)

PASSWD = Command(
    usage="<user name> [options]",
    summary="Changes password of user",
    description="The tokens he has are void at once.",
    example="zkv user passwd alice",
    run=_passwd,
    flags=(_INTERACTIVE,),
)

GRANT_ROLE = Command(
    usage="<user name> <role name>",
    summary="Grants a role to a user",
    example="zkv user grant-role alice readers",
    run=_grant_role,
)

REVOKE_ROLE = Command(
    usage="<user name> <role name>",
    summary="Revokes a role from a user",
    example="zkv user revoke-role alice readers",
    run=_revoke_role,
)
