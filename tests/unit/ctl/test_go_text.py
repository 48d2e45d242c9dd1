"""Go's spellings: quoted strings, durations, sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkv.ctl.go_text import DURATION_NS_MAX, duration, parse_duration, quote, size, unquote


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_whatever_is_quoted_can_be_read_back(data: bytes) -> None:
    """Any bytes, UTF-8 or not, survive; and they are shown on one line of printable characters."""
    text = quote(data)
    assert unquote(text) == (data, len(text))
    assert text.isprintable()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", '""'),
        (b'"\\', r'"\"\\"'),
        (b"\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        (b"\x00\x1f\x7f", r'"\x00\x1f\u007f"'),
        (b"\xff\xc3", r'"\xff\xc3"'),
        ("ü€😀".encode(), '"ü€😀"'),
        ("\u00a0\u2028\U000e0001".encode(), r'"\u00a0\u2028\U000e0001"'),
    ],
)
def test_quotes_as_go_does(data: bytes, text: str) -> None:
    """The escapes of strconv.Quote, short ones first."""
    assert quote(data) == text


@pytest.mark.parametrize("text", ["", "a", '"', '"a', '"\\', r'"\q"', r'"\x4"', r'"\777"', r'"\ud800"', "`a", '"\n"'])
def test_what_is_no_go_string_is_refused(text: str) -> None:
    """Unterminated, badly escaped, or not quoted at all."""
    with pytest.raises(ValueError):
        unquote(text)


def test_a_raw_string_has_no_escapes() -> None:
    """Between backquotes everything stands for itself."""
    assert unquote('x`a\\n"b`y', 1) == (b'a\\n"b', 8)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (250_000, "250µs"),
        (3_906_956, "3.906956ms"),
        (5_000_416_076, "5.000416076s"),
        (60_000_000_000, "1m0s"),
        (5_405_500_000_000, "1h30m5.5s"),
        (-2_000_000, "-2ms"),
    ],
)
def test_durations_read_as_go_prints_them(nanoseconds: int, text: str) -> None:
    """Each in the largest unit that fits, without trailing zeros."""
    assert duration(nanoseconds) == text


@given(st.integers(-DURATION_NS_MAX, DURATION_NS_MAX))
def test_whatever_duration_is_printed_can_be_read_back(nanoseconds: int) -> None:
    """Down to the nanosecond."""
    assert parse_duration(duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("0", 0), ("1.5h", 5_400_000_000_000), (".5s", 500_000_000), ("1us1μs", 2_000), ("+2m3s", 123_000_000_000)],
)
def test_durations_may_be_written_in_many_ways(text: str, nanoseconds: int) -> None:
    """Fractions, several units, either mu."""
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        (".s", 'time: invalid duration ".s"'),
        ("1.2.3s", 'time: invalid duration "1.2.3s"'),
        ("s", 'time: invalid duration "s"'),
        ("5", 'time: missing unit in duration "5"'),
        ("1s5", 'time: missing unit in duration "1s5"'),
        ("1parsec", 'time: unknown unit "parsec" in duration "1parsec"'),
        ("300000000h", 'time: invalid duration "300000000h"'),
    ],
)
def test_what_is_no_duration_is_refused_in_gos_words(text: str, problem: str) -> None:
    """The sentence names the text, and what about it is wrong."""
    with pytest.raises(ValueError) as caught:
        parse_duration(text)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (9, "9 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (20_480, "20 kB"),
        (2_097_152, "2.1 MB"),
        (5 * 10**18, "5.0 EB"),
    ],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    """Steps of a thousand, one decimal below ten."""
    assert size(count) == text
