"""Go's spellings of values, both ways, because etcdctl's users and their scripts compare them to the letter.

Quoted strings (`strconv.Quote`, `%q`), durations (`time.Duration`) and sizes (as go-humanize writes them). A Go
string is bytes, mostly but not always UTF-8; so these take and give bytes where data is meant.
"""

from __future__ import annotations

_ESCAPES = {0x07: "a", 0x08: "b", 0x0C: "f", 0x0A: "n", 0x0D: "r", 0x09: "t", 0x0B: "v", 0x5C: "\\", 0x22: '"'}
_UNESCAPES = {letter: bytes((code,)) for code, letter in _ESCAPES.items()}
_NUMBERED = {"x": 2, "u": 4, "U": 8}  # letter -> hexadecimal digits that follow
_SURROGATES = range(0xD800, 0xE000)

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, micro sign
    "μs": 1_000,  # U+03BC, Greek letter mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_NUMBER = "0123456789."
DURATION_NS_MAX = (1 << 63) - 1
_SIZES = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def quote(data: bytes) -> str:
    """`data` in double quotes, on one line of printable characters, with Go's escapes for the rest."""
    out = ['"']
    for character in data.decode("utf-8", "surrogateescape"):
        code = ord(character)
        if code in _ESCAPES:
            out.append("\\" + _ESCAPES[code])
        elif code in _SURROGATES:  # a byte that is no part of UTF-8
            out.append(f"\\x{code - 0xDC00:02x}")
        elif code < 0x20:
            out.append(f"\\x{code:02x}")
        elif character.isprintable():
            out.append(character)
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    out.append('"')
    return "".join(out)


def unquote(text: str, start: int = 0) -> tuple[bytes, int]:
    """The bytes of the Go string literal that begins at `text[start]`, and the offset behind it.

    Both kinds are read: "interpreted" and `raw`. Raises ValueError when there is none.
    """
    mark = text[start : start + 1]
    if mark == "`":
        end = text.find("`", start + 1)
        if end < 0:
            raise ValueError("unterminated quoted string")
        return text[start + 1 : end].encode("utf-8", "surrogateescape"), end + 1
    if mark != '"':
        raise ValueError("expected quoted string")
    out = bytearray()
    at = start + 1
    while at < len(text):
        character = text[at]
        at += 1
        if character == '"':
            return bytes(out), at
        if character == "\n":
            break
        if character != "\\":
            out += character.encode("utf-8", "surrogateescape")
            continue
        piece, at = _unescape(text, at)
        out += piece
    raise ValueError("unterminated quoted string")


def _unescape(text: str, at: int) -> tuple[bytes, int]:
    """What the escape whose letter is `text[at]` stands for, and the offset behind it."""
    letter = text[at : at + 1]
    if letter in _UNESCAPES:
        return _UNESCAPES[letter], at + 1
    try:
        if letter in _NUMBERED:
            end = at + 1 + _NUMBERED[letter]
            code = _digits(text[at + 1 : end], _NUMBERED[letter], 16)
            return (bytes((code,)) if letter == "x" else chr(code).encode()), end
        code = _digits(text[at : at + 3], 3, 8)
        return bytes((code,)), at + 3
    except (ValueError, OverflowError):  # not digits, or no such character
        raise ValueError("invalid escape in quoted string") from None


def _digits(text: str, count: int, base: int) -> int:
    if len(text) != count or not (text.isascii() and text.isalnum()):
        raise ValueError("too few digits")
    return int(text, base)


def duration(nanoseconds: int) -> str:
    """As Go prints a `time.Duration`: 1.5ms, 250µs, 1m30s, 0s."""
    if nanoseconds < 0:
        return "-" + duration(-nanoseconds)
    if nanoseconds == 0:
        return "0s"
    for unit in ("ns", "µs", "ms"):
        scale = _NANOSECONDS[unit]
        if nanoseconds < scale * 1_000:
            return _decimal(nanoseconds, scale) + unit
    minutes, rest = divmod(nanoseconds, _NANOSECONDS["m"])
    hours, minutes = divmod(minutes, 60)
    text = _decimal(rest, _NANOSECONDS["s"]) + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(amount: int, scale: int) -> str:
    whole, rest = divmod(amount, scale)
    if not rest:
        return str(whole)
    return f"{whole}." + str(rest).rjust(len(str(scale)) - 1, "0").rstrip("0")


def parse_duration(text: str) -> int:
    """Nanoseconds of "5s", "1m30s", "1.5h", "-2ms" or "0".

    Raises ValueError with Go's words.
    """
    invalid = f"time: invalid duration {quote(text.encode())}"
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in {"+", "-"} else text
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(invalid)
    total = 0
    while rest:
        number = rest[: len(rest) - len(rest.lstrip(_NUMBER))]
        if not number.strip(".") or number.count(".") > 1:
            raise ValueError(invalid)
        rest = rest[len(number) :]
        unit = rest[: next((at for at, character in enumerate(rest) if character in _NUMBER), len(rest))]
        if not unit:
            raise ValueError(f"time: missing unit in duration {quote(text.encode())}")
        if unit not in _NANOSECONDS:
            raise ValueError(f"time: unknown unit {quote(unit.encode())} in duration {quote(text.encode())}")
        rest = rest[len(unit) :]
        whole, _, fraction = number.partition(".")
        scale = _NANOSECONDS[unit]
        total += int(whole or "0") * scale + int(fraction or "0") * scale // 10 ** len(fraction)
        if total > DURATION_NS_MAX:
            raise ValueError(invalid)
    return sign * total


def size(count: int) -> str:
    """Bytes for people: 999 B, 20 kB, 2.1 MB; a thousand to a step, one decimal below ten."""
    if count < 10:
        return f"{count} B"
    step = 0
    while count >= 1000 ** (step + 1) and step + 1 < len(_SIZES):
        step += 1
    tenths = (count * 10 * 2 + 1000**step) // (2 * 1000**step)
    return f"{tenths / 10:.1f} {_SIZES[step]}" if tenths < 100 else f"{tenths / 10:.0f} {_SIZES[step]}"
