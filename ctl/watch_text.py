"""What a `watch` line means, on the command line or in interactive mode: which keys, from when, and what to run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from zkv.ctl.go_text import quote
from zkv.ctl.kv import ALL_KEYS, prefix_end
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, Flag, UsageError, Values, parse, switch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BAD_COUNT = "bad number of arguments: a key, perhaps a range_end, and -- before a command"

WATCH_FLAGS = (
    switch("interactive", "Interactive mode", "i"),
    switch("prefix", "Watch on a prefix if prefix is set"),
    switch("prev-kv", "get the previous key-value pair before the event happens"),
    switch("progress-notify", "get periodic watch progress notification from server"),
    Flag("rev", "number", "0", "Revision to start watching"),
)

KEY, RANGE_END, EVENT_TYPE = "ZKV_WATCH_KEY", "ZKV_WATCH_RANGE_END", "ZKV_WATCH_EVENT_TYPE"


class NotWatchable(CommandError):
    """The line can be read, but what it asks for contradicts itself: in interactive mode others go on."""


class Wanted(NamedTuple):
    """`range_end` empty: the one key. `command`: run it for each event; empty: none."""

    key: bytes
    range_end: bytes
    revision: int
    prev_kv: bool
    progress: bool
    command: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """No key can be in the range."""
        return self.range_end not in {b"", ALL_KEYS} and self.key >= self.range_end


class Environment(NamedTuple):
    """The key and range end that a script has set instead of arguments, "" each if it has not."""

    key: str
    range_end: str


def from_environment(environment: Mapping[str, str]) -> Environment:
    """Raises CommandError.

    A command that a watch runs has the event's key in the same variable; a watch begun in there is not meant by it.
    """
    if environment.get(EVENT_TYPE):
        return Environment("", "")
    key, range_end = environment.get(KEY, ""), environment.get(RANGE_END, "")
    if range_end and not key:
        raise CommandError(f"{KEY} is empty but got {RANGE_END}={quote(os.fsencode(range_end))}", EXIT_BAD_ARGS)
    return Environment(key, range_end)


def read_watch(values: Values, arguments: Sequence[str], environment: Environment) -> Wanted:
    """What the flags and arguments behind the word `watch` ask for. Raises CommandError."""
    at_dash = len(arguments) if values.at_dash is None else values.at_dash
    names, command = list(arguments[:at_dash]), tuple(arguments[at_dash:])
    if values.at_dash is not None and not command:
        raise CommandError("bad number of arguments (found separator --, but no commands)", EXIT_BAD_ARGS)
    if environment.key:
        if names:
            raise CommandError("bad number of arguments (found conflicting environment key)", EXIT_BAD_ARGS)
        names = [name for name in environment if name]
    prefix = values.is_on("prefix")
    if not 1 <= len(names) <= 2:
        raise NotWatchable(BAD_COUNT, EXIT_BAD_ARGS)
    if len(names) > 1 and prefix:
        raise NotWatchable("`range_end` and `--prefix` are mutually exclusive", EXIT_BAD_ARGS)
    key = os.fsencode(names[0])
    range_end = prefix_end(key) if prefix else os.fsencode(names[1]) if len(names) > 1 else b""
    return Wanted(
        key or ALL_KEYS,
        range_end,
        max(0, values.number("rev")),
        values.is_on("prev-kv"),
        values.is_on("progress-notify"),
        command,
    )


def read_line(words: Sequence[str], environment: Environment) -> Wanted:
    """The same for the words behind `watch` on a line of interactive mode. Raises CommandError."""
    try:
        values, arguments = parse(words, WATCH_FLAGS)
    except UsageError as error:
        raise CommandError(error.text, EXIT_BAD_ARGS) from None
    if not arguments and not environment.key:
        raise CommandError(BAD_COUNT, EXIT_BAD_ARGS)
    return read_watch(values, arguments, environment)
