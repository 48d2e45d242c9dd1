"""`zkv txn`: reads the three sections of a transaction from stdin or from its arguments, and runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.ctl.command import Call, Command
from zkv.ctl.options import EXIT_BAD_ARGS, EXIT_INVALID_INPUT, CommandError, switch
from zkv.ctl.txn_text import parse_compare, parse_request, sections_of_line
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Item = TypeVar("Item")

PROMPTS = ("compares:", "success requests (get, put, del):", "failure requests (get, put, del):")


def _read_section(call: Call, prompt: str, parse: Callable[[str], Item]) -> tuple[Item, ...]:
    """Lines up to an empty one. The prompt is for people, who see a wrong line refused as soon as it is written."""
    if call.values.is_on("interactive"):
        call.out.write(prompt.encode() + b"\n")
        call.out.flush()
    items: list[Item] = []
    while True:
        line = call.stdin.readline()
        if not line.endswith(b"\n"):  # cut short: half a transaction is none
            raise CommandError(
                "EOF: input ended inside the transaction, whose three sections each end with an empty line",
                EXIT_INVALID_INPUT,
            )
        text = line.decode("utf-8", "surrogateescape").strip()
        if not text:
            return tuple(items)
        items.append(parse(text))


def read_txn(call: Call) -> m.Txn:
    """Raises CommandError."""
    arguments = call.arguments
    if len(arguments) > len(PROMPTS):
        raise CommandError("txn command does not accept argument: beyond its three sections", EXIT_BAD_ARGS)
    if arguments:
        compares, success, failure = (sections_of_line(text) for text in (*arguments, "", "")[:3])
        return m.Txn(
            tuple(map(parse_compare, compares)),
            tuple(map(parse_request, success)),
            tuple(map(parse_request, failure)),
        )
    return m.Txn(
        _read_section(call, PROMPTS[0], parse_compare),
        _read_section(call, PROMPTS[1], parse_request),
        _read_section(call, PROMPTS[2], parse_request),
    )


def _txn(call: Call) -> int:
    printer = call.printer("txn")
    request = read_txn(call)
    with call.connect() as connection:
        printer.txn(*connection.ask(request, m.TxnAnswer))
    return 0


TXN = Command(
    usage="[options] [<compares> [<success requests> [<failure requests>]]]",
    summary="Txn processes all the requests in one transaction",
    description="""\
If all compares hold, the success requests run, otherwise the failure requests: all at one revision.

Without arguments, three sections are read from standard input, each of which ends with an empty line.
As arguments, a section's lines are separated by ';'.

A compare is <target>("<key>") <operator> "<operand>":
    targets    ver, version; c, create; m, mod; val, value; lease
    operators  = != < >
A request is put, get or del, with the arguments and flags of these commands.""",
    example="""\
zkv txn 'mod("lock") = "0"' 'put lock me; get lock' 'get lock'
zkv txn <<'END'
mod("lock") = "0"

put lock me

get lock

END""",
    flags=(switch("interactive", "Input transaction in interactive mode", "i"),),
    run=_txn,
)
