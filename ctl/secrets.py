"""Names and passwords on their way from people to a command: flags, the environment, a prompt that shows nothing."""

from __future__ import annotations

import contextlib
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zkv.ctl.command import Call

_GIVEN = ("--user", "--password", "--new-user-password", "add")
"""What stands before a secret on a command line."""
MASK = "********"


def credentials(call: Call) -> tuple[str, str]:
    """The name and password of `--user` and `--password`; the prompt asks for what is absent. ("", "") for nobody."""
    user, password = call.values.text("user"), call.values.text("password")
    if not user or password:
        return (user, password) if user else ("", "")
    name, colon, password = user.partition(":")
    if not name:
        return "", ""
    return name, password if colon else prompt(call, "Password: ")


def prompt(call: Call, text: str) -> str:
    """A line of stdin, which a terminal does not show."""
    call.out.write(text.encode("utf-8", "surrogateescape"))
    call.out.flush()
    with _unseen(call.stdin):
        line = call.stdin.readline()
    call.out.write(b"\n")
    return _text(line.rstrip(b"\r\n"))


def word(call: Call) -> str:
    """The first word of a line of stdin, as `--interactive=false` has it."""
    words = call.stdin.readline().split()
    return _text(words[0]) if words else ""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def _unseen(stdin: IO[bytes]) -> Iterator[None]:
    try:
        terminal = stdin.fileno() if stdin.isatty() else None
    except OSError:  # it is no file
        terminal = None
    if terminal is None:
        yield
        return
    import termios

    before = termios.tcgetattr(terminal)
    unseen = [*before]
    unseen[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSAFLUSH, unseen)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


def masked(arguments: Sequence[str]) -> list[str]:
    """A command line without what should not be seen in a list of processes."""
    shown: list[str] = []
    for at, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        before = arguments[at - 1] if at else ""
        if equals and flag in _GIVEN:
            shown.append(f"{flag}={without_password(flag, value)}")
        elif before in _GIVEN:
            shown.append(without_password(before, argument))
        else:
            shown.append(argument)
    return shown


def without_password(flag: str, value: str) -> str:
    """The value of a flag, as it may be shown."""
    if flag not in _GIVEN:
        return value
    if flag in {"--password", "--new-user-password"}:
        return MASK if value else ""
    name, colon, _ = value.partition(":")
    return f"{name}:{MASK}" if colon else name


def hide(arguments: Sequence[str]) -> None:
    """Show no secret in the list of processes, for as long as this command runs."""
    shown = masked(arguments)
    if shown != list(arguments):
        import setproctitle  # few commands name a secret

        setproctitle.setproctitle(" ".join(["zkv", *shown]))
