"""How a command line is read: pflag's grammar. tests/scripts/words.txt shows more of it."""

from __future__ import annotations

import pytest

from zkv.ctl.options import GLOBAL_FLAGS, INT64_MAX, INT64_MIN, Flag, UsageError, parse, parse_int, switch

FLAGS = (
    switch("prefix", "", "p"),
    switch("quiet", "", "q"),
    Flag("rev", "number", "0", ""),
    Flag("write-out", "text", "simple", "", "w"),
    Flag("endpoints", "list", "here:1", ""),
    Flag("wait", "duration", "5s", ""),
)


def test_flags_and_arguments_stand_in_any_order() -> None:
    """What is no flag, nor a flag's value, is an argument."""
    values, arguments = parse(["a", "--rev", "3", "-", "--prefix", "b", "-w=json"], FLAGS)
    assert arguments == ["a", "-", "b"]
    assert (values.number("rev"), values.is_on("prefix"), values.text("write-out")) == (3, True, "json")


def test_two_dashes_end_the_flags() -> None:
    """What follows may begin with a dash, two more included."""
    values, arguments = parse(["a", "--", "--prefix", "-1", "--"], FLAGS)
    assert arguments == ["a", "--prefix", "-1", "--"]
    assert not values.is_on("prefix")
    assert values.at_dash == 1
    assert parse(["a", "-p"], FLAGS)[0].at_dash is None


@pytest.mark.parametrize("argument", ["--prefix", "--prefix=true", "--prefix=T", "--prefix=1", "-p", "-p=true", "-qp"])
def test_a_switch_is_on(argument: str) -> None:
    """Alone, with a value behind `=`, by its letter, or among other letters."""
    assert parse([argument], FLAGS)[0].is_on("prefix")


def test_a_switch_takes_no_word_as_its_value() -> None:
    """`--prefix false` is a switch and an argument."""
    values, arguments = parse(["--prefix", "false"], FLAGS)
    assert (values.is_on("prefix"), arguments) == (True, ["false"])


@pytest.mark.parametrize("arguments", [["-w", "json"], ["-wjson"], ["-w=json"], ["-pwjson"], ["-pw", "json"]])
def test_a_letter_may_have_its_value_behind_it(arguments: list[str]) -> None:
    """In the same word, with `=` or without, or in the next."""
    assert parse(arguments, FLAGS)[0].text("write-out") == "json"


def test_the_last_one_wins_but_lists_grow() -> None:
    """Endpoints may be given by commas, by repeating the flag, or both."""
    values, _ = parse(["--rev=1", "--endpoints=a:1, b:1", "--rev=2", "--endpoints", "c:1"], FLAGS)
    assert values.number("rev") == 2
    assert values.list("endpoints") == ("a:1", "b:1", "c:1")


def test_what_is_not_given_has_its_default() -> None:
    """And only what is given counts as given."""
    values, _ = parse(["--rev=0"], FLAGS)
    assert values.list("endpoints") == ("here:1",)
    assert values.number("wait") == 5_000_000_000
    assert values.given == {"rev"}


def test_global_flags_are_read_from_the_environment() -> None:
    """Every one of them, by its own name; an empty variable is none; the command line wins."""
    environment = {"ZKV_ENDPOINTS": "a:1,b:1", "ZKV_HEX": "true", "ZKV_WRITE_OUT": "json", "ZKV_DIAL_TIMEOUT": ""}
    values, _ = parse(["-w", "table"], GLOBAL_FLAGS, environment)
    assert values.list("endpoints") == ("a:1", "b:1")
    assert values.is_on("hex")
    assert values.text("write-out") == "table"
    assert values.number("dial-timeout") == 2_000_000_000


def test_a_bad_value_in_the_environment_names_the_variable() -> None:
    """So that it can be found."""
    with pytest.raises(UsageError, match='invalid argument "soon" for ZKV_COMMAND_TIMEOUT'):
        parse([], GLOBAL_FLAGS, {"ZKV_COMMAND_TIMEOUT": "soon"})


def test_a_commands_own_flags_are_not_read_from_the_environment() -> None:
    """ZKV_REV set by chance must not change what a get reads."""
    assert parse([], FLAGS, {"ZKV_REV": "3"})[0].number("rev") == 0


@pytest.mark.parametrize(
    ("text", "base", "number"),
    [
        ("12", 10, 12),
        ("-12", 10, -12),
        ("+012", 10, 12),
        ("ff", 16, 255),
        ("0x1F", 0, 31),
        ("0b11", 0, 3),
        ("0o17", 0, 15),
        ("1_000", 0, 1000),
        ("0x_1f", 0, 31),
        ("017", 0, 15),
        ("0", 0, 0),
        (str(INT64_MAX), 10, INT64_MAX),
        (str(INT64_MIN), 10, INT64_MIN),
    ],
)
def test_numbers_read_as_go_reads_them(text: str, base: int, number: int) -> None:
    """Base 0 goes by the prefix."""
    assert parse_int(text, base) == number


@pytest.mark.parametrize(
    ("text", "base"), [("", 10), ("-", 10), ("1_0", 10), (" 1", 10), ("0x1", 16), ("09", 0), ("٣", 10)]
)
def test_what_is_no_number_is_refused(text: str, base: int) -> None:
    """Python would take some of these."""
    with pytest.raises(ValueError, match="invalid syntax"):
        parse_int(text, base)
