r"""The language a transaction is written in, as etcdctl has it.

    compare:   <target>("<key>") <operator> "<operand>"     mod("lock") = "0"
    request:   put <key> <value> | get <key> ... | del <key> ...     with the flags of these commands

Targets: `ver`/`version`, `c`/`create`, `m`/`mod`, `val`/`value`, `lease` (hexadecimal, as lease ids are everywhere).
Operators: =, !=, <, >. Keys and operands of a compare are Go strings: "..." with escapes, or `raw`. Words of a
request stand between spaces, or in "..." with the same escapes, or in '...' without.

A transaction is three sections: compares, requests if all of them hold, requests if not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from zkv.ctl.go_text import quote, unquote
from zkv.ctl.kv import DEL_FLAGS, GET_FLAGS, PUT_FLAGS, delete_request, get_request, put_request
from zkv.ctl.options import EXIT_INVALID_INPUT, CommandError, UsageError, parse, parse_int
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Iterator

_TARGETS = {
    "ver": m.CompareTarget.VERSION,
    "version": m.CompareTarget.VERSION,
    "c": m.CompareTarget.CREATE,
    "create": m.CompareTarget.CREATE,
    "m": m.CompareTarget.MOD,
    "mod": m.CompareTarget.MOD,
    "val": m.CompareTarget.VALUE,
    "value": m.CompareTarget.VALUE,
    "lease": m.CompareTarget.LEASE,
}
_OPERATORS = {
    "=": m.CompareResult.EQUAL,
    "!=": m.CompareResult.NOT_EQUAL,
    ">": m.CompareResult.GREATER,
    "<": m.CompareResult.LESS,
}
_WORD = re.compile(r""" "(?:\\.|[^"\\])*" | '[^']*' | [^\s"']\S* """, re.VERBOSE | re.ASCII)  # spaces are ASCII's
_PIECE = re.compile(r""" (?: "(?:\\.|[^"\\])*" | '[^']*' | [^;\n] )+ """, re.VERBOSE)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def sections_of_line(text: str) -> Iterator[str]:
    """The lines of a section given as one argument: between them stands a `;` or a line's end, outside of quotes."""
    for piece in _PIECE.findall(text):
        if line := piece.strip():
            yield line


def parse_compare(line: str) -> m.Compare:
    """Raises CommandError (exit code 3)."""
    target, parenthesis, rest = line.partition("(")
    if not parenthesis:
        raise CommandError(f"malformed comparison: {line}", EXIT_INVALID_INPUT)
    found: list[bytes] = []
    try:
        key, at = unquote(rest.lstrip())
        found.append(key)
        match = re.compile(r"\)\s+(\S+)\s+").match(rest.lstrip(), at)
        if match:
            found.append(_bytes(match[1]))
            operand, _ = unquote(rest.lstrip(), match.end())
            found.append(operand)
    except ValueError:  # what is missing shows in the message below
        pass
    if len(found) < 3:
        key, operator = (*found, b"", b"")[:2]
        raise CommandError(
            f'malformed comparison: {line}; got {target}({quote(key)}) {_text(operator)} ""', EXIT_INVALID_INPUT
        )
    key, operator, operand = found
    if target not in _TARGETS:
        raise CommandError(f"malformed comparison: {line} (unknown target {target})", EXIT_INVALID_INPUT)
    if _text(operator) not in _OPERATORS:
        raise CommandError(
            f"malformed comparison: {line} (unknown operator {_text(operator)}, use = != < >)", EXIT_INVALID_INPUT
        )
    return m.Compare(_OPERATORS[_text(operator)], _TARGETS[target], key, _operand(_TARGETS[target], operand, line))


def _operand(target: int, operand: bytes, line: str) -> int | bytes:
    if target == m.CompareTarget.VALUE:
        return operand
    try:
        return parse_int(_text(operand), 16 if target == m.CompareTarget.LEASE else 10)
    except ValueError:
        raise CommandError(f"invalid txn compare request: {line}", EXIT_INVALID_INPUT) from None


def split_words(line: str) -> list[str]:
    """Raises ValueError for a bad escape, with Go's words."""
    words = []
    for word in _WORD.findall(line):
        if word.startswith("'"):
            words.append(word[1:-1])
        elif word.startswith('"'):
            try:
                words.append(_text(unquote(word)[0]))
            except ValueError:
                raise ValueError("invalid syntax") from None
        else:
            words.append(word)
    return words


def parse_request(line: str) -> tuple[int, m.TxnRequest]:
    """A put, get or del as a txn holds it: (Op, request).

    Raises CommandError: exit code 3 for what is no request, else as the command of that name.
    """
    try:
        words = split_words(line)
    except ValueError as error:
        raise CommandError(str(error), EXIT_INVALID_INPUT) from None
    if len(words) < 2:
        raise CommandError(f"invalid txn compare request: {line}", EXIT_INVALID_INPUT)
    name, *words = words
    no_request = CommandError(f"invalid txn request: {line}", EXIT_INVALID_INPUT)
    try:
        match name:
            case "put":
                return m.Op.PUT, put_request(*parse(words, PUT_FLAGS), None)
            case "get":
                return m.Op.RANGE, get_request(*parse(words, GET_FLAGS))
            case "del":
                return m.Op.DELETE_RANGE, delete_request(*parse(words, DEL_FLAGS))
            case _:
                raise no_request
    except UsageError:
        raise no_request from None
