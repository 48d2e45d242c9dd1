"""Conversations with expected output: *.txt beside this file.

    # a remark, kept as it is
    $ zkv get --prefix foo          what is done; `zkv ...` shows the request these words make, `show ...` an answer
    < a line of standard input
    > a line of what is shown
    ! what is wrong with it
    ? 128                           the exit code, if not 0

`REWRITE=1 pytest tests/scripts` writes what is shown now into the files; read the diff before you believe it.
"""

from __future__ import annotations

import io
import os
import shlex
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from zkv.client.ticket import Header
from zkv.ctl import printers
from zkv.ctl.command import Call, Streams
from zkv.ctl.kv import delete_request, get_request, put_request
from zkv.ctl.main import find, load
from zkv.ctl.options import CommandError, parse
from zkv.ctl.txn import read_txn
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
SCRIPTS = sorted(HERE.glob("*.txt"))

REQUESTS: dict[str, Callable[[Call], m.Request]] = {
    "put": lambda call: put_request(call.values, call.arguments, call.stdin),
    "get": lambda call: get_request(call.values, call.arguments),
    "del": lambda call: delete_request(call.values, call.arguments),
    "txn": read_txn,
}
HEADER = Header(cluster_id=0xC1, member_id=0xA1, revision=9, raft_term=2)
ANSWERS: dict[str, Any] = {
    **{name: getattr(m, name) for name in dir(m) if name.endswith("Answer")},
    **{name: getattr(printers, name) for name in dir(printers) if name.startswith("Endpoint")},
    "kv": m.KeyValue,
    "Member": m.Member,
    "Quota": m.Quota,
    "Op": m.Op,
    "HEADER": HEADER,
}
RESULTS = {
    m.PutAnswer: "put",
    m.RangeAnswer: "range",
    m.DeleteRangeAnswer: "delete_range",
    m.TxnAnswer: "txn",
    m.MemberListAnswer: "member_list",
    m.QuotaListAnswer: "quota_list",
    printers.EndpointStatus: "endpoint_status",
    printers.EndpointHealth: "endpoint_health",
    printers.EndpointHash: "endpoint_hashkv",
}


class Talk(NamedTuple):
    """One exchange: the lines it takes in the file before its output, and the command with its input."""

    lines: tuple[str, ...]
    command: str
    stdin: bytes


def talks(text: str) -> Iterator[Talk | str]:
    """The exchanges of a file, and the lines between them."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].startswith("$ "):
            yield lines[at]
            at += 1
            continue
        begin = at
        at += 1
        while at < len(lines) and lines[at].startswith("<"):
            at += 1
        stdin = "".join(line[2:] + "\n" for line in lines[begin + 1 : at])
        yield Talk(tuple(lines[begin:at]), lines[begin][2:], stdin.encode())
        while at < len(lines) and lines[at][:1] in {">", "!", "?"}:
            at += 1


def play(talk: Talk) -> list[str]:
    """The lines that answer it."""
    program, _, rest = talk.command.partition(" ")
    try:
        shown = show(rest) if program == "show" else request(rest, talk.stdin)
    except CommandError as error:
        return [f"! {error.text}", f"? {error.exit_code}"]
    return [f"> {line}".rstrip() for line in shown.split("\n")]


def request(words: str, stdin: bytes) -> str:
    name, rest = find(shlex.split(words))
    values, arguments = parse(rest, load(name).all_flags)
    out = io.BytesIO()
    found = REQUESTS[name](Call(values, arguments, Streams(io.BytesIO(stdin), out, io.BytesIO())))
    return out.getvalue().decode() + spelled(found)


def spelled(value: object) -> str:
    """A record with the fields that are not at their default, a tuple of records line by line."""
    if isinstance(value, m.Txn):
        parts = (("if", value.compares), ("then", value.success), ("else", value.failure))
        return "\n".join(f"{word} {spelled(item)}" for word, items in parts for item in items) or "nothing"
    if isinstance(value, m.Compare):
        target, result = m.CompareTarget(value.target), m.CompareResult(value.result)
        return f"{target.name} of {value.key!r} {result.name} {value.operand!r}"
    if type(value) is tuple:  # (Op, request)
        return spelled(value[1])
    assert isinstance(value, tuple)
    fields = value._asdict()  # type: ignore[attr-defined] # all records are NamedTuples
    defaults = type(value)._field_defaults  # type: ignore[attr-defined]
    given = (f"{name}={named(item)}" for name, item in fields.items() if name not in defaults or item != defaults[name])
    return f"{type(value).__name__}({', '.join(given)})"


def named(value: object) -> str:
    return value.name if isinstance(value, IntEnum) else repr(value)


def show(words: str) -> str:
    """`show FORMAT [--hex] [--value-only] EXPRESSION`"""
    name, _, expression = words.partition(" ")
    options = {"as_hex": "--hex", "value_only": "--value-only"}
    given = {option: spelling in expression for option, spelling in options.items()}
    for spelling in options.values():
        expression = expression.replace(spelling, "")
    answer = eval(expression.strip(), {"__builtins__": {}}, ANSWERS)  # noqa: S307 (our own files)
    out = io.BytesIO()
    printer = printers.make_printer(name, out, **given)
    result = RESULTS[type(answer)]
    printer.require(result)
    if result.startswith("endpoint"):
        getattr(printer, result)([answer])
    else:
        getattr(printer, result)(HEADER, (answer,) if result == "range" else answer)
    return out.getvalue().decode().removesuffix("\n")


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_the_conversation_goes_as_written(script: Path) -> None:
    """Each command of the file is answered by the lines below it."""
    before = script.read_text()
    lines: list[str] = []
    for part in talks(before):
        lines += [part] if isinstance(part, str) else [*part.lines, *play(part)]
    now = "\n".join(lines) + "\n"
    if os.environ.get("REWRITE"):
        script.write_text(now)
    assert now.splitlines() == before.splitlines() or os.environ.get("REWRITE")
