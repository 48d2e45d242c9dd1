"""Passwords at the command line: where they are taken from, and where they are not shown."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from zkv.ctl.command import Call, Streams
from zkv.ctl.main import run
from zkv.ctl.options import GLOBAL_FLAGS, parse
from zkv.ctl.secrets import credentials, masked, prompt, word

if TYPE_CHECKING:
    from collections.abc import Mapping


def call(*flags: str, typed: bytes = b"", environment: Mapping[str, str] | None = None) -> Call:
    values, words = parse(flags, GLOBAL_FLAGS, environment or {})
    return Call(values, words, Streams(io.BytesIO(typed), io.BytesIO(), io.BytesIO()))


@pytest.mark.parametrize(
    ("flags", "typed", "who"),
    [
        ((), b"", ("", "")),
        (("--user", "a:p:q"), b"", ("a", "p:q")),
        (("--user", "a", "--password", "p"), b"", ("a", "p")),
        (("--user", "a:b", "--password", "p"), b"", ("a:b", "p")),  # as etcdctl: then all of it is the name
        (("--user", ":p"), b"", ("", "")),
        (("--password", "p"), b"", ("", "")),
        (("--user", "a"), b"typed\n", ("a", "typed")),
        (("--user", "a:"), b"typed\n", ("a", "")),
    ],
)
def test_who_asks_is_taken_from_the_flags_or_asked_for(
    flags: tuple[str, ...], typed: bytes, who: tuple[str, str]
) -> None:
    assert credentials(call(*flags, typed=typed)) == who


def test_the_environment_serves_too() -> None:
    assert credentials(call(environment={"ZKV_USER": "a", "ZKV_PASSWORD": "p"})) == ("a", "p")


def test_the_prompt_is_shown_and_the_answer_is_not() -> None:
    asked = call(typed=b"secret\r\n")
    assert prompt(asked, "Password: ") == "secret"
    assert isinstance(asked.out, io.BytesIO)
    assert asked.out.getvalue() == b"Password: \n"


@pytest.mark.parametrize(("typed", "found"), [(b"one two\n", "one"), (b"\n", ""), (b"", ""), ("ü\n".encode(), "ü")])
def test_a_word_of_stdin_is_a_password(typed: bytes, found: str) -> None:
    assert word(call(typed=typed)) == found


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("put a b --user alice:secret", "put a b --user alice:********"),
        ("--user=alice:secret get a", "--user=alice:******** get a"),
        ("--password secret --user alice get a", "--password ******** --user alice get a"),
        ("--password=secret get a", "--password=******** get a"),
        ("user add bob:secret", "user add bob:********"),
        ("user add bob --new-user-password=secret", "user add bob --new-user-password=********"),
        ("put secret:key value", "put secret:key value"),
    ],
)
def test_the_list_of_processes_shows_no_password(line: str, shown: str) -> None:
    assert masked(line.split()) == shown.split()


def test_the_flags_in_force_are_shown_without_the_password() -> None:
    streams = Streams(io.BytesIO(), io.BytesIO(), io.BytesIO())
    environment = {"ZKV_PASSWORD": "secret", "ZKV_USER": "alice"}
    run(["--debug", "--help=false", "version", "--user", "alice:secret"], streams, environment)
    assert isinstance(streams.err, io.BytesIO)
    assert b"ZKV_USER=alice:********" in streams.err.getvalue()
    assert b"ZKV_PASSWORD=********" in streams.err.getvalue()
    assert b"secret" not in streams.err.getvalue()
