"""Help texts, put together from the tables that the parser reads, so that they cannot disagree with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.ctl.command import Call, Command
from zkv.ctl.go_text import quote
from zkv.ctl.main import COMMANDS, GROUPS, find, load, summary
from zkv.ctl.options import GLOBAL_FLAGS, Flag

if TYPE_CHECKING:
    from collections.abc import Iterable

TITLE = "zkv - keys and values on a cluster, for people who know etcdctl"
EXAMPLE = """\
zkv server
zkv put hello world
zkv get hello
zkv help endpoint status"""
ENVIRONMENT = """\
Each global option can also be set by an environment variable: --endpoints by ZKV_ENDPOINTS,
--write-out by ZKV_WRITE_OUT. What stands on the command line wins."""


def help_of(name: str) -> str:
    """The help of a command, of a group, or ("") of everything."""
    if name in COMMANDS:
        return _command_help(name)
    commands = {known: summary(known) for known in COMMANDS if not name or known.startswith(f"{name} ")}
    usage = f"zkv {name} <subcommand> [options]" if name else "zkv [options] <command>"
    sections = [
        ("NAME", f"{name} - {GROUPS[name]}" if name else TITLE),
        ("USAGE", usage),
        ("COMMANDS", _columns(commands.items())),
    ]
    if not name:
        sections.append(("EXAMPLE", EXAMPLE))
    return _page([*sections, ("GLOBAL OPTIONS", _flags(GLOBAL_FLAGS)), ("ENVIRONMENT", ENVIRONMENT)])


def _command_help(name: str) -> str:
    command = load(name)
    if not isinstance(command, Command):  # one of click's, which knows its own
        import click

        context = click.Context(command, info_name=f"zkv {name}")
        return f"{command.get_help(context)}\n"
    sections = [
        ("NAME", f"{name} - {command.summary}"),
        ("USAGE", f"zkv {name} {command.usage}".rstrip()),
        ("DESCRIPTION", command.description),
        ("EXAMPLE", command.example),
        ("OPTIONS", _flags(command.flags)),
        ("GLOBAL OPTIONS", _flags([flag for flag in command.all_flags if flag not in command.flags])),
    ]
    return _page(sections)


def _page(sections: Iterable[tuple[str, str]]) -> str:
    pages = []
    for title, text in sections:
        if text:
            lines = "".join(f"\t{line}\n" if line else "\n" for line in text.splitlines())
            pages.append(f"{title}:\n{lines}")
    return "\n".join(pages)


def _flags(flags: Iterable[Flag]) -> str:
    return _columns((_spelling(flag), flag.help) for flag in flags)


def _spelling(flag: Flag) -> str:
    """As etcdctl shows it: with its default; a switch's default stands behind what may be left out."""
    short = f"-{flag.short}, " if flag.short else "    "
    if flag.kind == "switch":
        return f"{short}--{flag.name}[={flag.default}]"
    default = quote(flag.default.encode()) if flag.kind == "text" else flag.default
    return f"{short}--{flag.name}={f'[{default}]' if flag.kind == 'list' else default}"


def _columns(rows: Iterable[tuple[str, str]]) -> str:
    rows = list(rows)
    width = max((len(left) for left, _ in rows), default=0)
    return "\n".join(f"{left.ljust(width)}  {right}" for left, right in rows)


def _help(call: Call) -> int:
    name, _ = find(call.arguments)
    call.out.write(help_of(name).encode())
    return 0


HELP = Command(usage="[command]", summary="Help about any command", example="zkv help\nzkv help put", run=_help)
