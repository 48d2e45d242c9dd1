"""JSON as Go's encoding/json reads it: etcd's users see its errors, to the letter.

Python's own scanner does the work, at its speed; where it finds a fault, the place tells what Go would say of it.
Numbers stay text (`Number`), for Go tells an int64 from others only where it is to become one.

Not as Go: values nested deeper than Python recurses (some 900; Go: 10,000) are refused, with Go's words for it.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import re
from typing import Any, Final, NoReturn

EOF: Final = "unexpected EOF"
"""Of a body; Go says so where bytes may still come."""
END: Final = "unexpected end of JSON input"
"""Of text that is there whole."""
_SPACE: Final = " \t\r\n"
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKET: Final = re.compile(r"[\[\]{}]")
_LITERALS: Final = {"n": "null", "t": "true", "f": "false"}
_NOT_PRINTED: Final = re.compile("[\x00-\x1f\x7f-\xa0\xad]")
_ESCAPES: Final = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/\r\n]")


class JsonFault(Exception):
    """`text`: what Go says of it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Number(str):
    """A number, as it was spelled."""

    __slots__ = ()


class _NoConstant(Exception):
    """NaN, Infinity, -Infinity: Python's, not JSON's."""


def _no_constant(name: str) -> NoReturn:
    raise _NoConstant(name)


_DECODER: Final = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_no_constant)


def decode(data: bytes) -> str:
    """The body as text. What is no UTF-8 is kept, so that a fault can be told from it, until `valid` looks at it."""
    return data.decode("utf-8", "surrogateescape")


def valid(text: str) -> str:
    """With U+FFFD for what is no character (broken UTF-8, half of a pair), as Go has it."""
    return _SURROGATE.sub("\ufffd", text)


def first(text: str, end: str = EOF) -> tuple[Any, int] | None:
    """The first value in a text and where it ends; None if there is none. Raises JsonFault."""
    start = len(text) - len(text.lstrip(_SPACE))
    if start == len(text):
        return None
    try:
        value, stop = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise JsonFault(_told(text, error, end)) from None
    except _NoConstant as error:
        name = str(error)
        minus = name.startswith("-")
        raise JsonFault(_invalid(name[minus], "in numeric literal" if minus else _VALUE)) from None
    except RecursionError:
        raise JsonFault("invalid character '{' exceeded max depth") from None
    return value, stop


def whole(text: str) -> Any:
    """The one value that a text is. Raises JsonFault."""
    found = first(text, END)
    if found is None:
        raise JsonFault(END)
    rest = text[found[1] :].lstrip(_SPACE)
    if rest:
        raise JsonFault(_invalid(rest[0], "after top-level value"))
    return found[0]


# --- a fault, in Go's words ------------------------------------------------------------------------

_VALUE: Final = "looking for beginning of value"
_KEY: Final = "looking for beginning of object key string"


def _told(text: str, error: json.JSONDecodeError, end: str) -> str:
    kind, at = error.msg, error.pos
    if kind.startswith("Unterminated string"):
        return end
    if kind.startswith("Invalid control character"):
        return _at(text, at, "in string literal", end)
    if kind.startswith("Invalid \\u"):
        at = text.rindex("u", 0, at + 2) + 1 if "u" in text[max(0, at - 1) : at + 2] else at
        while at < len(text) and text[at] in "0123456789abcdefABCDEF":
            at += 1
        return _at(text, at, "in \\u hexadecimal character escape", end)
    if kind.startswith("Invalid \\"):
        return _at(text, at + (text[at : at + 1] == "\\"), "in string escape code", end)
    if kind.startswith("Illegal trailing comma"):  # Python 3.13, which names the comma's place
        return _at(text, len(text) - len(text[at + 1 :].lstrip(_SPACE)), _KEY if "object" in kind else _VALUE, end)
    if kind.startswith("Expecting property name"):
        return _at(text, at, _KEY, end)
    if kind.startswith("Expecting ':'"):
        return _at(text, at, "after object key", end)
    if kind.startswith("Expecting ','"):
        return _number_fault(text, at, end) or _at(text, at, _after(text[:at]), end)
    return _value_fault(text, at, end)


def _value_fault(text: str, at: int, end: str) -> str:
    literal = _LITERALS.get(text[at : at + 1])
    if literal is not None:
        for i, wanted in enumerate(literal):
            if text[at + i : at + i + 1] != wanted:
                return _at(text, at + i, f"in literal {literal} (expecting {_quoted(wanted)})", end)
    if text[at : at + 1] == "-":
        return _at(text, at + 1, "in numeric literal", end)
    return _at(text, at, _VALUE, end)


def _number_fault(text: str, at: int, end: str) -> str | None:
    """Python ends a number where it can be one; Go reads on."""
    if not text[at - 1].isdigit() or text[at : at + 1] not in {".", "e", "E"}:
        return None
    if text[at] == ".":
        return _at(text, at + 1, "after decimal point in numeric literal", end)
    return _at(text, at + 1 + (text[at + 1 : at + 2] in {"+", "-"}), "in exponent of numeric literal", end)


def _after(before: str) -> str:
    """Of a value in which kind of bracket?"""
    depth = 0
    for bracket in reversed(_BRACKET.findall(_STRING.sub("", before))):
        depth += 1 if bracket in "]}" else -1
        if depth < 0:
            return "after array element" if bracket == "[" else "after object key:value pair"
    return "after top-level value"


def _at(text: str, at: int, context: str, end: str) -> str:
    return _invalid(text[at], context) if at < len(text) else end


def _invalid(char: str, context: str) -> str:
    return f"invalid character {_quoted(char)} {context}"


def _quoted(char: str) -> str:
    """The first byte of it, as a Go rune."""
    char = chr(char.encode("utf-8", "surrogateescape")[0])
    if char in "'\\":
        return f"'\\{char}'"
    return "'" + _NOT_PRINTED.sub(_escaped, char) + "'"


def quote(text: str) -> str:
    """As %q of Go's fmt."""
    return '"' + _NOT_PRINTED.sub(_escaped, text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    return _ESCAPES.get(char) or (f"\\x{ord(char):02x}" if ord(char) < 0x80 else f"\\u{ord(char):04x}")


# --- base64 ----------------------------------------------------------------------------------------


def base64(text: str) -> bytes:
    """Raises JsonFault, which names the byte as Go's does."""
    data = valid(text).encode()
    digits = data.replace(b"\n", b"").replace(b"\r", b"")
    if len(digits) % 4 == 0:
        with contextlib.suppress(binascii.Error):
            return binascii.a2b_base64(digits, strict_mode=True)
    raise JsonFault(f"illegal base64 data at input byte {_base64_fault(data)}")


def _base64_fault(data: bytes) -> int:
    """Where Go's decoder stops (encoding/base64: decodeQuantum)."""
    found = _NOT_BASE64.search(data)
    at = found.start() if found else len(data)
    used = at - data.count(b"\n", 0, at) - data.count(b"\r", 0, at)
    place = used % 4
    if found is None:  # a quantum that is not whole
        return len(data) - place
    if data[at : at + 1] != b"=" or place < 2:
        return at
    rest = at + 1
    while data[rest : rest + 1] in {b"\r", b"\n"}:
        rest += 1
    if place == 2:
        if rest == len(data):
            return len(data)
        if data[rest : rest + 1] != b"=":
            return rest - 1
        rest += 1
        while data[rest : rest + 1] in {b"\r", b"\n"}:
            rest += 1
    return rest


# --- several values in a row -----------------------------------------------------------------------

_STRUCTURE: Final = re.compile(rb'[\[{]|[\]}]|"|\\.?', re.DOTALL)


class Documents:
    """A body of several objects, one after another, that comes in pieces: each is told when it is whole.

    What is neither object nor array is told at once, for it can only be refused.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._looked = 0  # bytes of it
        self._depth = 0
        self._quoted = False

    @property
    def held(self) -> int:
        return len(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        self._held += data
        held = self._held
        documents: list[bytes] = []
        while True:
            start = len(held) - len(held.lstrip(b" \t\r\n")) if not self._looked else 0
            del held[:start]
            if not held or (held[0] not in b"[{" and b"null".startswith(bytes(held[:4])) and len(held) < 4):
                return documents
            size = self._end() if held[0] in b"[{" else 4 if held.startswith(b"null") else len(held)
            if not size:
                return documents
            documents.append(bytes(held[:size]))
            del held[:size]
            self._looked = 0

    def rest(self) -> bytes:
        """What is left when the body has ended."""
        return bytes(self._held).strip(b" \t\r\n")

    def _end(self) -> int:
        """Where the first document ends; 0: not yet."""
        for found in _STRUCTURE.finditer(self._held, self._looked):
            what = found[0]
            if what[0] == 0x5C:
                if len(what) == 1:  # what it escapes is still to come
                    self._looked = found.start()
                    return 0
            elif what == b'"':
                self._quoted = not self._quoted
            elif not self._quoted:
                self._depth += 1 if what in b"[{" else -1
                if not self._depth:
                    return found.end()
        self._looked = len(self._held)
        return 0
