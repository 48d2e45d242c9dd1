"""`zkv auth enable`, `disable` and `status`."""

from __future__ import annotations

import contextlib

from zkv.ctl.command import Call, Command
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError
from zkv.errors import RoleExists, RootRoleNotExist
from zkv.wire import messages as m

ROOT = "root"


def _enable(call: Call) -> int:
    _no_arguments(call, "enable")
    with call.connect() as connection:
        try:
            connection.ask(m.AuthEnable(), m.AuthChanged)
        except RootRoleNotExist:
            with contextlib.suppress(RoleExists):
                connection.ask(m.RoleAdd(ROOT), m.AuthChanged)
            connection.ask(m.UserGrantRole(ROOT, ROOT), m.AuthChanged)
            connection.ask(m.AuthEnable(), m.AuthChanged)
    call.out.write(b"Authentication Enabled\n")
    return 0


def _disable(call: Call) -> int:
    _no_arguments(call, "disable")
    with call.connect() as connection:
        connection.ask(m.AuthDisable(), m.AuthChanged)
    call.out.write(b"Authentication Disabled\n")
    return 0


def _status(call: Call) -> int:
    _no_arguments(call, "status")
    printer = call.printer("auth_status")
    with call.connect() as connection:
        printer.auth_status(*connection.ask(m.AuthStatus(), m.AuthStatusAnswer))
    return 0


def _no_arguments(call: Call, name: str) -> None:
    if call.arguments:
        raise CommandError(f"auth {name} command does not accept any arguments", EXIT_BAD_ARGS)


ENABLE = Command(
    usage="",
    summary="Enables authentication",
    description="""\
From then on everybody must say who he is. A user root is needed; he is given the role root if he has it not yet.""",
    example="""\
zkv user add root
zkv auth enable""",
    run=_enable,
)

DISABLE = Command(
    usage="",
    summary="Disables authentication",
    description="Nobody is asked any more; users and roles stay.",
    example="zkv auth disable --user root",
    run=_disable,
)

STATUS = Command(
    usage="",
    summary="Returns authentication status",
    example="zkv auth status --user root",
    run=_status,
)
