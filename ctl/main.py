"""`zkv`: finds the command, reads its flags, runs it, and turns what went wrong into one line and an exit code.

A put should cost little more than the Python process it runs in. So a command is a name and a place (`COMMANDS`) until
it is called, and nothing is imported that it does not need: no click, for one (`options.py` says why). `zkv server`,
which runs for long and has flags of its own kind, is a click command and reads its own command line.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from zkv.ctl.command import Call, Command, Streams
from zkv.ctl.options import (
    EXIT_BAD_CONNECTION,
    EXIT_ERROR,
    GLOBAL_FLAGS,
    CommandError,
    UsageError,
    Values,
    parse,
    perhaps,
)
from zkv.errors import AuthFailed, NoPasswordUser, ZkvError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EXIT_INTERRUPTED = 130
HOUSEWORK = frozenset({"snapshot", "compaction", "defrag"})
HOUSEWORK_NICENESS = 10
EXIT_BROKEN_PIPE = 141

COMMANDS = {
    "alarm disarm": "zkv.ctl.alarm:DISARM",
    "alarm list": "zkv.ctl.alarm:LIST",
    "backup": "zkv.ctl.backup:BACKUP",
    "auth disable": "zkv.ctl.auth:DISABLE",
    "auth enable": "zkv.ctl.auth:ENABLE",
    "auth status": "zkv.ctl.auth:STATUS",
    "benchmark": "zkv.ctl.bench:benchmark",
    "cert ca": "zkv.ctl.cert:CA",
    "cert client": "zkv.ctl.cert:CLIENT",
    "cert init": "zkv.ctl.cert:INIT",
    "cert peer": "zkv.ctl.cert:PEER",
    "cert renew": "zkv.ctl.cert:RENEW",
    "cert server": "zkv.ctl.cert:SERVER",
    "cert show": "zkv.ctl.cert:SHOW",
    "cert verify": "zkv.ctl.cert:VERIFY",
    "check datascale": "zkv.ctl.check:CHECK_DATASCALE",
    "check perf": "zkv.ctl.check:CHECK_PERF",
    "compaction": "zkv.ctl.kv:COMPACTION",
    "completion": "zkv.ctl.completion:COMPLETION",
    "defrag": "zkv.ctl.defrag:DEFRAG",
    "del": "zkv.ctl.kv:DEL",
    "endpoint hashkv": "zkv.ctl.endpoint:HASHKV",
    "endpoint health": "zkv.ctl.endpoint:HEALTH",
    "endpoint status": "zkv.ctl.endpoint:STATUS",
    "elect": "zkv.ctl.lock:ELECT",
    "get": "zkv.ctl.kv:GET",
    "help": "zkv.ctl.help:HELP",
    "keys": "zkv.ctl.keys:KEYS",
    "lease grant": "zkv.ctl.lease:GRANT",
    "lease keep-alive": "zkv.ctl.lease:KEEP_ALIVE",
    "lease list": "zkv.ctl.lease:LIST",
    "lease revoke": "zkv.ctl.lease:REVOKE",
    "lease timetolive": "zkv.ctl.lease:TIMETOLIVE",
    "lock": "zkv.ctl.lock:LOCK",
    "make-mirror": "zkv.ctl.mirror:MAKE_MIRROR",
    "member add": "zkv.ctl.member:ADD",
    "member list": "zkv.ctl.member:LIST",
    "member promote": "zkv.ctl.member:PROMOTE",
    "member refill": "zkv.ctl.member:REFILL",
    "member remove": "zkv.ctl.member:REMOVE",
    "member update": "zkv.ctl.member:UPDATE",
    "migrate": "zkv.ctl.migrate:MIGRATE",
    "move-leader": "zkv.ctl.member:MOVE_LEADER",
    "put": "zkv.ctl.kv:PUT",
    "quota delete": "zkv.ctl.quota:DELETE",
    "quota get": "zkv.ctl.quota:GET",
    "quota list": "zkv.ctl.quota:LIST",
    "quota set": "zkv.ctl.quota:SET",
    "recover": "zkv.ctl.recover:RECOVER",
    "role add": "zkv.ctl.role:ADD",
    "role delete": "zkv.ctl.role:DELETE",
    "role get": "zkv.ctl.role:GET",
    "role grant-permission": "zkv.ctl.role:GRANT_PERMISSION",
    "role list": "zkv.ctl.role:LIST",
    "role revoke-permission": "zkv.ctl.role:REVOKE_PERMISSION",
    "server": "zkv.ctl.server:server",
    "snapshot export-etcd": "zkv.ctl.snapshot_etcd:EXPORT_ETCD",
    "snapshot import-etcd": "zkv.ctl.snapshot_etcd:IMPORT_ETCD",
    "snapshot restore": "zkv.ctl.snapshot:RESTORE",
    "snapshot save": "zkv.ctl.snapshot:SAVE",
    "snapshot status": "zkv.ctl.snapshot:STATUS",
    "snapshot stream": "zkv.ctl.snapshot_stream:STREAM",
    "top": "zkv.ctl.top:TOP",
    "touch": "zkv.ctl.lease:TOUCH",
    "txn": "zkv.ctl.txn:TXN",
    "user add": "zkv.ctl.user:ADD",
    "user delete": "zkv.ctl.user:DELETE",
    "user get": "zkv.ctl.user:GET",
    "user grant-role": "zkv.ctl.user:GRANT_ROLE",
    "user list": "zkv.ctl.user:LIST",
    "user passwd": "zkv.ctl.user:PASSWD",
    "user revoke-role": "zkv.ctl.user:REVOKE_ROLE",
    "version": "zkv.ctl.version:VERSION",
    "watch": "zkv.ctl.watch:WATCH",
}
"""Where each is defined. A name of two words belongs to a group."""

GROUPS = {
    "alarm": "Alarm related commands",
    "auth": "Enable or disable authentication",
    "cert": "Certificate related commands",
    "check": "commands for checking properties of the zkv cluster",
    "endpoint": "Endpoint related commands",
    "lease": "Lease related commands",
    "member": "Membership related commands",
    "quota": "Limits of prefixes related commands",
    "role": "Role related commands",
    "snapshot": "Manages zkv node snapshots",
    "user": "User related commands",
}
ALIASES = {"compact": "compaction"}


def load(name: str) -> Any:
    """The Command of that name, or click's."""
    module, _, attribute = COMMANDS[name].partition(":")
    return getattr(import_module(module), attribute)


def summary(name: str) -> str:
    """What a command does, in a line."""
    command = load(name)
    return command.summary if isinstance(command, Command) else str(command.get_short_help_str(limit=100))


def find(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The command's name (or a group's, or "" when none is named), and the other arguments.

    Raises UsageError.
    """
    valued = {spelling for flag in GLOBAL_FLAGS if flag.kind != "switch" for spelling in flag.spellings}
    name = ""
    rest = list(arguments)
    at = 0
    while at < len(rest) and rest[at] != "--":
        word = rest[at]
        if word.startswith("-") and word != "-":
            at += 2 if word in valued else 1
            continue
        del rest[at]
        name = f"{name} {word}" if name else ALIASES.get(word, word)
        if name in COMMANDS:
            break
        if name not in GROUPS:
            group, _, last = name.rpartition(" ")
            words = {each.removeprefix(f"{group} ").split()[0] for each in COMMANDS if each.startswith(group)}
            error = UsageError(f'unknown command "{last}" for "{f"zkv {group}".rstrip()}"{perhaps(last, words)}')
            error.group = group
            raise error
    return name, rest


def run(arguments: Sequence[str], streams: Streams, environment: Mapping[str, str]) -> int:
    """The exit code. Raises what a click command raises, SystemExit above all."""
    name = ""
    try:
        name, rest = find(arguments)
        command = load(name) if name in COMMANDS else None
        if command is None or isinstance(command, Command):
            code = _run(name, command, rest, streams, environment)
            streams.out.flush()
            return code
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (CommandError, ZkvError) as error:
        return _tell(error, name, streams)
    gc.enable()
    return int(command.main(rest, prog_name=f"zkv {name}", standalone_mode=True) or 0)


def _run(
    name: str, command: Command | None, rest: Sequence[str], streams: Streams, environment: Mapping[str, str]
) -> int:
    values, words = parse(rest, command.all_flags if command else GLOBAL_FLAGS, environment)
    if command is None or values.is_on("help"):
        from zkv.ctl.help import help_of

        streams.out.write(help_of(name).encode())
        return 0
    if values.is_on("debug"):
        _tell_flags(values, streams)
    return command.run(Call(values, words, streams, environment))


def _tell(error: CommandError | ZkvError, name: str, streams: Streams) -> int:
    """Say what went wrong, in one line; the exit code."""
    if isinstance(error, CommandError):
        text, code = error.text, error.exit_code
    else:
        text, code = str(error), EXIT_ERROR
        if isinstance(error, AuthFailed | NoPasswordUser):
            code = EXIT_BAD_CONNECTION  # as etcdctl, whose client does not come about
            text = f"rpc error: code = Unknown desc = {text}" if isinstance(error, NoPasswordUser) else text
        if error.maybe_applied:
            text += " (it may have been applied all the same)"
    with contextlib.suppress(BrokenPipeError):
        streams.out.flush()  # what was printed before it went wrong comes first
    streams.err.write(f"Error: {text}\n".encode("utf-8", "surrogateescape"))
    if isinstance(error, UsageError):
        streams.err.write(f"Run '{f'zkv {name or error.group}'.rstrip()} --help' for usage.\n".encode())
    return code


def _tell_flags(values: Values, streams: Streams) -> None:
    from zkv.ctl.secrets import without_password

    for flag in GLOBAL_FLAGS:
        if flag.name != "help":
            shown = without_password(f"--{flag.name}", values.shown(flag))
            streams.err.write(f"{flag.environment}={shown}\n".encode("utf-8", "surrogateescape"))


def _yield_to_members(arguments: Sequence[str]) -> None:
    """Who looks after whole stores can wait, and a member on the same machine cannot."""
    with contextlib.suppress(UsageError):
        if find(arguments)[0].partition(" ")[0] in HOUSEWORK:
            os.nice(HOUSEWORK_NICENESS)


def main() -> NoReturn:
    """The console script.

    Two habits of programs that live for a moment: garbage is not looked for while modules load (a sixth of the
    start), and the interpreter is left without taking it down piece by piece (a tenth).
    """
    gc.disable()
    if any("user" in word or "password" in word for word in sys.argv[1:]):
        from zkv.ctl.secrets import hide

        hide(sys.argv[1:])
    if not HOUSEWORK.isdisjoint(sys.argv[1:]):
        _yield_to_members(sys.argv[1:])
    stdin = sys.stdin.buffer if sys.stdin else io.BytesIO()  # it may have been closed by who started us
    code = run(sys.argv[1:], Streams(stdin, sys.stdout.buffer, sys.stderr.buffer), os.environ)
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
