"""The flags of the `zkv` command: what there is, and how a command line is read.

The grammar is etcdctl's (Go's pflag), so that scripts need change the program's name only:

- `--name value`, `--name=value`, `-n value`, `-nvalue`, `-n=value`; flags and arguments in any order;
- a switch takes no value of its own (`--prefix`), or one behind `=` (`--prefix=false`);
- `--` ends the flags, so that what follows may begin with `-`; a lone `-` is an argument;
- a flag not on the command line is read from the environment: `--write-out` from ZKV_WRITE_OUT (global flags only);
  the command line wins.

Flags are data (`Flag`), and everything that needs to know them reads the same tables: the parser here, the help
(`help.py`), shell completion. click does not read this grammar (an option there takes a value always or never), and its
import alone costs what three empty Python processes cost; `zkv server`, which is not started in a loop, uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zkv.ctl.go_text import duration, parse_duration, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

# Exit codes, as etcdctl has them.
EXIT_ERROR = 1
EXIT_BAD_CONNECTION = 2
EXIT_INVALID_INPUT = 3
EXIT_BAD_FEATURE = 4
EXIT_CANCELED = 5
EXIT_BAD_ARGS = 128

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
_TRUE = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE = {"0", "f", "F", "false", "FALSE", "False"}
_BASES = {"0x": 16, "0o": 8, "0b": 2}


class CommandError(Exception):
    """The command cannot go on: one line for people, and the exit code."""

    def __init__(self, text: str, exit_code: int = EXIT_ERROR) -> None:
        super().__init__(text)
        self.text = text
        self.exit_code = exit_code


class UsageError(CommandError):
    """The command line cannot be read; its help is worth a look. `group`: of commands, where none of it was named."""

    group = ""


class Flag(NamedTuple):
    """`kind`: switch, number (int64), duration (nanoseconds), text, or list (of texts, by commas)."""

    name: str
    kind: str
    default: str
    help: str
    short: str = ""
    values: tuple[str, ...] = ()
    """What a shell offers to complete; the parser does not insist."""
    file: bool = False
    """The value names a file."""

    @property
    def spellings(self) -> tuple[str, ...]:
        return (f"--{self.name}", f"-{self.short}") if self.short else (f"--{self.name}",)

    @property
    def environment(self) -> str:
        return "ZKV_" + self.name.upper().replace("-", "_")


def switch(name: str, help_text: str, short: str = "") -> Flag:
    return Flag(name, "switch", "false", help_text, short)


WRITE_OUTS = ("fields", "json", "simple", "table")

GLOBAL_FLAGS = (
    Flag("cacert", "text", "", "verify certificates of servers at curve:// endpoints using this CA bundle", file=True),
    Flag("cert", "text", "", "identify client at curve:// endpoints using this certificate file", file=True),
    Flag("command-timeout", "duration", "5s", "timeout for short running command (excluding dial timeout)"),
    Flag("curve-key", "text", "", "CURVE key file of this client, for curve:// endpoints", file=True),
    Flag("curve-server-key", "text", "", "CURVE public key file of the servers, for curve:// endpoints", file=True),
    switch("debug", "print the flags in force to stderr"),
    Flag("dial-timeout", "duration", "2s", "dial timeout for client connections"),
    Flag("endpoints", "list", "127.0.0.1:2378", "where zkv listens: host:port, tcp://host:port or curve://host:port"),
    switch("help", "help for this command", "h"),
    switch("hex", "print byte strings as hex encoded strings"),
    switch(
        "insecure-skip-tls-verify",
        "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)",
    ),
    Flag("key", "text", "", "identify client at curve:// endpoints using this key file", file=True),
    Flag("password", "text", "", "password for authentication (if this option is used, --user should not include it)"),
    Flag("user", "text", "", "username[:password] for authentication (prompt if password is not supplied)"),
    Flag("write-out", "text", "simple", "set the output format (fields, json, simple, table)", "w", WRITE_OUTS),
)


class Values:
    """What a command line and the environment set, by flag name.

    `at_dash`: how many of the arguments stood before a `--`; None: there was none.
    """

    def __init__(self, values: Mapping[str, object], given: Iterable[str] = (), at_dash: int | None = None) -> None:
        self._values = values
        self.given = frozenset(given)
        self.at_dash = at_dash

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def updated(self, other: Values, flags: Iterable[Flag]) -> Values:
        """These, but for `flags` as `other` has them."""
        taken = {flag.name: other._values[flag.name] for flag in flags}
        return Values({**self._values, **taken}, self.given | (other.given & taken.keys()), self.at_dash)

    def renamed(self, flags: Mapping[str, str], **others: object) -> Values:
        """These, but that each of `flags` has the value of another flag, and `others` theirs."""
        return Values({**self._values, **{name: self._values[other] for name, other in flags.items()}, **others})

    def is_on(self, name: str) -> bool:
        value = self._values[name]
        assert isinstance(value, bool)
        return value

    def number(self, name: str) -> int:
        """A number, or a duration in nanoseconds."""
        value = self._values[name]
        assert isinstance(value, int)
        return value

    def text(self, name: str) -> str:
        value = self._values[name]
        assert isinstance(value, str)
        return value

    def shown(self, flag: Flag) -> str:
        """The value as one would write it."""
        value = self._values[flag.name]
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, tuple):
            return ",".join(value)
        return duration(value) if flag.kind == "duration" and isinstance(value, int) else str(value)

    def list(self, name: str) -> tuple[str, ...]:
        value = self._values[name]
        assert isinstance(value, tuple)
        return value


def perhaps(word: str, known: Iterable[str], dashes: str = "") -> str:
    """What a word that is not known may have been meant to be, for the end of the line that says so; or nothing."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean {dashes}{close[0]}?)" if close else ""


def _parse_switch(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise ValueError(f"strconv.ParseBool: parsing {quote(text.encode())}: invalid syntax")
    return text in _TRUE


def parse_int(text: str, base: int = 10) -> int:
    """An int64 as Go reads it; `base` 0 goes by the prefix (0x, 0o, 0b, and a plain leading 0 is octal too), and then
    `_` may stand before a digit that is not the first.

    Raises ValueError with Go's words.
    """
    problem = f"strconv.ParseInt: parsing {quote(text.encode('utf-8', 'surrogateescape'))}: "
    digits = (text[1:] if text[:1] in {"+", "-"} else text).lower()
    if base == 0:
        base, digits = _base_of(digits)
    if not digits or digits.strip("0123456789abcdef"[:base]):
        raise ValueError(problem + "invalid syntax")
    value = int(digits, base)
    value = -value if text.startswith("-") else value
    if not INT64_MIN <= value <= INT64_MAX:
        raise ValueError(problem + "value out of range")
    return value


def _base_of(digits: str) -> tuple[int, str]:
    if digits[:1] != "_" and digits[-1:] != "_" and "__" not in digits:
        digits = digits.replace("_", "")
    if digits[:2] in _BASES:
        return _BASES[digits[:2]], digits[2:]
    return (8, digits[1:]) if digits.startswith("0") and digits != "0" else (10, digits)


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


_PARSERS: dict[str, Callable[[str], object]] = {
    "switch": _parse_switch,
    "number": lambda text: parse_int(text, 0),
    "duration": parse_duration,
    "text": str,
    "list": _parse_list,
}


def _parse_value(flag: Flag, text: str, source: str) -> object:
    try:
        return _PARSERS[flag.kind](text)
    except ValueError as error:
        raise UsageError(
            f"invalid argument {quote(text.encode('utf-8', 'surrogateescape'))} for {source}: {error}"
        ) from None


def parse(
    arguments: Sequence[str], flags: Sequence[Flag], environment: Mapping[str, str] | None = None
) -> tuple[Values, list[str]]:
    """The flags' values and the arguments that are none.

    Raises UsageError.
    """
    by_name = {flag.name: flag for flag in flags}
    by_short = {flag.short: flag for flag in flags if flag.short}
    given: dict[str, object] = {}
    rest: list[str] = []
    at_dash = None
    left = list(reversed(arguments))

    def take(flag: Flag, text: str) -> None:
        spelled = f'"-{flag.short}, --{flag.name}" flag' if flag.short else f'"--{flag.name}" flag'
        value = _parse_value(flag, text, spelled)
        if isinstance(value, tuple):  # a list given twice is one list
            before = given.get(flag.name, ())
            assert isinstance(before, tuple)
            value = before + value
        given[flag.name] = value

    while left:
        argument = left.pop()
        if argument == "--":
            at_dash = len(rest)
            rest.extend(reversed(left))
            break
        if argument.startswith("--"):
            name, equals, text = argument[2:].partition("=")
            if not name or name.startswith("-"):
                raise UsageError(f"bad flag syntax: {argument}")
            if name not in by_name:
                raise UsageError(f"unknown flag: --{name}{perhaps(name, by_name, '--')}")
            flag = by_name[name]
            if not equals:
                if flag.kind != "switch" and not left:
                    raise UsageError(f"flag needs an argument: --{name}")
                text = "true" if flag.kind == "switch" else left.pop()
            take(flag, text)
        elif argument.startswith("-") and argument != "-":
            _take_shorts(argument, left, by_short, take)
        else:
            rest.append(argument)
    return Values(_with_defaults(flags, given, environment or {}), given, at_dash), rest


def _take_shorts(
    argument: str, left: list[str], by_short: Mapping[str, Flag], take: Callable[[Flag, str], None]
) -> None:
    """One argument of letters: switches may stand together, and the last letter may have its value behind it."""
    letters = argument[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter not in by_short:
            raise UsageError(f"unknown shorthand flag: '{letter}' in {argument}")
        flag = by_short[letter]
        if letters.startswith("="):
            take(flag, letters[1:])
            return
        if flag.kind == "switch":
            take(flag, "true")
        elif letters:
            take(flag, letters)
            return
        elif left:
            take(flag, left.pop())
        else:
            raise UsageError(f"flag needs an argument: '{letter}' in {argument}")


def _with_defaults(
    flags: Sequence[Flag], given: Mapping[str, object], environment: Mapping[str, str]
) -> dict[str, object]:
    values = {}
    for flag in flags:
        text = environment.get(flag.environment, "") if flag in GLOBAL_FLAGS and flag.name != "help" else ""
        if flag.name in given:
            values[flag.name] = given[flag.name]
        elif text:
            values[flag.name] = _parse_value(flag, text, flag.environment)
        else:
            values[flag.name] = _PARSERS[flag.kind](flag.default)
    return values
