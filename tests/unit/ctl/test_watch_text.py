"""Lines that begin watches: what etcdctl's parser makes of them, ours makes too."""

from __future__ import annotations

import pytest

from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, parse
from zkv.ctl.watch_text import (
    BAD_COUNT,
    WATCH_FLAGS,
    Environment,
    NotWatchable,
    Wanted,
    from_environment,
    read_line,
    read_watch,
)

NOTHING = Environment("", "")


def read(*words: str, environment: Environment = NOTHING) -> Wanted:
    """As the command line does."""
    return read_watch(*parse(words, WATCH_FLAGS), environment)


def wanted(key: bytes, range_end: bytes = b"", **options: object) -> Wanted:
    plain = Wanted(key, range_end, 0, prev_kv=False, progress=False, command=())
    return plain._replace(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a", wanted(b"a")),
        ("a c", wanted(b"a", b"c")),
        ("--prefix a", wanted(b"a", b"b")),
        ("a --rev 7 --prev-kv --progress-notify", wanted(b"a", revision=7, prev_kv=True, progress=True)),
        ("a --rev -7", wanted(b"a")),
        ("a -- echo hi", wanted(b"a", command=("echo", "hi"))),
        ("a --rev 3 c -- echo -n --rev", wanted(b"a", b"c", revision=3, command=("echo", "-n", "--rev"))),
    ],
)
def test_a_line_names_keys_and_a_command(line: str, found: Wanted) -> None:
    """On the command line as in interactive mode."""
    assert read(*line.split()) == found
    assert read_line(line.split(), NOTHING) == found


def test_an_empty_key_is_the_first_one() -> None:
    """With --prefix: all keys."""
    assert read("") == wanted(b"\0")
    assert read("", "--prefix") == wanted(b"\0", b"\0")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", BAD_COUNT),
        ("--prefix", BAD_COUNT),
        ("a b c", BAD_COUNT),
        ("-- echo", BAD_COUNT),
        ("a --", "bad number of arguments (found separator --, but no commands)"),
        ("a b --prefix", "`range_end` and `--prefix` are mutually exclusive"),
    ],
)
def test_a_line_that_names_none_is_refused(line: str, complaint: str) -> None:
    """With etcdctl's words, and exit code."""
    with pytest.raises(CommandError) as refused:
        read(*line.split())
    assert (refused.value.text, refused.value.exit_code) == (complaint, EXIT_BAD_ARGS)
    with pytest.raises(CommandError) as refused:
        read_line(line.split(), NOTHING)
    assert (refused.value.text, refused.value.exit_code) == (complaint, EXIT_BAD_ARGS)


@pytest.mark.parametrize("line", ["a b --prefix", "-- echo", "a b c"])
def test_what_contradicts_itself_does_not_end_a_conversation(line: str) -> None:
    """In interactive mode it is refused for itself; what cannot be read at all ends the program, as etcdctl's does."""
    with pytest.raises(NotWatchable):
        read_line(line.split(), NOTHING)


@pytest.mark.parametrize("line", ["--bogus", "a --rev x", "a --", "--prefix"])
def test_what_cannot_be_read_ends_it(line: str) -> None:
    with pytest.raises(CommandError) as refused:
        read_line(line.split(), NOTHING)
    assert not isinstance(refused.value, NotWatchable)
    assert refused.value.exit_code == EXIT_BAD_ARGS


def test_the_environment_names_the_key_instead() -> None:
    """And with it the range end; then no argument may."""
    by_key = from_environment({"ZKV_WATCH_KEY": "a"})
    by_both = from_environment({"ZKV_WATCH_KEY": "a", "ZKV_WATCH_RANGE_END": "c"})
    assert read(environment=by_key) == wanted(b"a")
    assert read("--prefix", environment=by_key) == wanted(b"a", b"b")
    assert read("--", "echo", environment=by_both) == wanted(b"a", b"c", command=("echo",))
    assert read_line([], by_key) == wanted(b"a")
    with pytest.raises(CommandError, match="found conflicting environment key"):
        read("a", environment=by_key)
    with pytest.raises(CommandError, match="mutually exclusive"):
        read("--prefix", environment=by_both)


def test_a_range_end_alone_is_refused() -> None:
    """`ZKV_WATCH_RANGE_END=c zkv watch a` is not what it seems."""
    with pytest.raises(CommandError) as refused:
        from_environment({"ZKV_WATCH_RANGE_END": "c"})
    assert refused.value.text == 'ZKV_WATCH_KEY is empty but got ZKV_WATCH_RANGE_END="c"'


def test_the_key_of_an_event_is_not_the_key_to_watch() -> None:
    """A watch that is begun by a watch's command finds that event's key in the variable, quoted."""
    assert from_environment({"ZKV_WATCH_KEY": '"a"', "ZKV_WATCH_EVENT_TYPE": '"PUT"'}) == NOTHING


@pytest.mark.parametrize(
    ("found", "empty"),
    [
        (wanted(b"a"), False),
        (wanted(b"a", b"b"), False),
        (wanted(b"b", b"a"), True),
        (wanted(b"a", b"a"), True),
        (wanted(b"z", b"\0"), False),
    ],
)
def test_a_range_can_be_empty(found: Wanted, *, empty: bool) -> None:
    """Its end is no later than its beginning; but the byte 0 is the end of all keys."""
    assert found.is_empty is empty
