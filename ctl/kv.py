"""`zkv put`, `get`, `del` and `compaction`.

Each command is two steps: words and flags to a request (`put_request` .., which `txn` uses too), and asking.
What is wrong with the words is said before anything is sent, with etcdctl's sentences and exit codes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zkv.ctl.command import Call, Command
from zkv.ctl.options import EXIT_BAD_ARGS, EXIT_BAD_FEATURE, CommandError, Flag, Values, parse_int, switch
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

ALL_KEYS = b"\0"
"""As a range's end: to the last key. As its start: from the first."""

_ORDERS = {"": m.SortOrder.NONE, "ASCEND": m.SortOrder.ASCEND, "DESCEND": m.SortOrder.DESCEND}
_TARGETS = {
    "": m.SortTarget.KEY,
    "KEY": m.SortTarget.KEY,
    "VERSION": m.SortTarget.VERSION,
    "CREATE": m.SortTarget.CREATE,
    "MODIFY": m.SortTarget.MOD,
    "VALUE": m.SortTarget.VALUE,
}

PUT_FLAGS = (
    switch("ignore-lease", "updates the key using its current lease"),
    switch("ignore-value", "updates the key using its current value"),
    Flag("lease", "text", "0", "lease ID (in hexadecimal) to attach to the key"),
    switch("prev-kv", "return the previous key-value pair before modification"),
    Flag("ttl", "number", "0", "seconds that the key lives, by a lease of its own (not in etcd)"),
)
GET_FLAGS = (
    Flag("consistency", "text", "l", "Linearizable(l) or Serializable(s)", values=("l", "s")),
    switch("count-only", "Get only the count"),
    switch("from-key", "Get keys that are greater than or equal to the given key using byte compare"),
    switch("keys-only", "Get only the keys"),
    Flag("limit", "number", "0", "Maximum number of results"),
    Flag(
        "order",
        "text",
        "",
        "Order of results; ASCEND or DESCEND (ASCEND by default)",
        values=("ASCEND", "DESCEND"),
    ),
    switch("prefix", "Get keys with matching prefix"),
    switch("print-value-only", 'Only write values when using the "simple" output format'),
    Flag("rev", "number", "0", "Specify the kv revision"),
    Flag(
        "sort-by",
        "text",
        "",
        "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION",
        values=("CREATE", "KEY", "MODIFY", "VALUE", "VERSION"),
    ),
)
DEL_FLAGS = (
    switch("from-key", "delete keys that are greater than or equal to the given key using byte compare"),
    switch("prefix", "delete keys with matching prefix"),
    switch("prev-kv", "return deleted key-value pairs"),
)


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin with `prefix`: the first key behind them."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else ALL_KEYS


def _choose_one(values: Values, one: str, other: str) -> None:
    """Raises CommandError."""
    if values.is_on(one) and values.is_on(other):
        raise CommandError(f"`--{one}` and `--{other}` cannot be set at the same time, choose one", EXIT_BAD_ARGS)


def _key_and_end(values: Values, arguments: Sequence[str]) -> tuple[bytes, bytes]:
    """The range that arguments, --prefix and --from-key name. Raises CommandError."""
    prefix, from_key = values.is_on("prefix"), values.is_on("from-key")
    if len(arguments) > 1 and (prefix or from_key):
        raise CommandError(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set", EXIT_BAD_ARGS
        )
    key = os.fsencode(arguments[0])
    if prefix or from_key:
        return key or ALL_KEYS, prefix_end(key) if prefix else ALL_KEYS
    return key, os.fsencode(arguments[1]) if len(arguments) > 1 else b""


def put_request(values: Values, arguments: Sequence[str], stdin: IO[bytes] | None) -> m.Put:
    """What `put` with these words asks for; a value not among them is read from `stdin`.

    Raises CommandError.
    """
    no_value = CommandError("put command needs 1 argument and input from stdin or 2 arguments", EXIT_BAD_ARGS)
    if not arguments:
        raise no_value
    ignore_value = values.is_on("ignore-value")
    value = b""
    if ignore_value and len(arguments) > 1:
        raise CommandError("put command needs only 1 argument when 'ignore-value' is set", EXIT_BAD_ARGS)
    if not ignore_value:
        if len(arguments) > 1:
            value = os.fsencode(arguments[1])
        else:
            value = stdin.read() if stdin else b""
            if not value:
                raise no_value
    try:
        lease = parse_int(values.text("lease"), 16)
    except ValueError as error:
        raise CommandError(f"bad lease ID ({error}), expecting ID in Hex", EXIT_BAD_ARGS) from None
    ttl = values.number("ttl")
    if ttl < 0:
        raise CommandError(f"bad TTL ({ttl}), expecting seconds", EXIT_BAD_ARGS)
    if ttl and (lease or values.is_on("ignore-lease")):
        raise CommandError("`--ttl` and a lease cannot be set at the same time, choose one", EXIT_BAD_ARGS)
    return m.Put(
        os.fsencode(arguments[0]),
        value,
        lease=lease,
        prev_kv=values.is_on("prev-kv"),
        ignore_value=ignore_value,
        ignore_lease=values.is_on("ignore-lease"),
        ttl=ttl,
    )


def get_request(values: Values, arguments: Sequence[str]) -> m.Range:
    """What `get` with these words asks for. Raises CommandError."""
    if not arguments:
        raise CommandError("get command needs one argument as key and an optional argument as range_end", EXIT_BAD_ARGS)
    _choose_one(values, "prefix", "from-key")
    _choose_one(values, "keys-only", "count-only")
    consistency = values.text("consistency")
    if consistency not in {"l", "s"}:
        raise CommandError(f'unknown consistency flag "{consistency}"', EXIT_BAD_FEATURE)
    key, range_end = _key_and_end(values, arguments)
    order, target = values.text("order"), values.text("sort-by")
    if order.upper() not in _ORDERS:
        raise CommandError(f"bad sort order {order}", EXIT_BAD_FEATURE)
    if target.upper() not in _TARGETS:
        raise CommandError(f"bad sort target {target}", EXIT_BAD_FEATURE)
    sort_order, sort_target = _ORDERS[order.upper()], _TARGETS[target.upper()]
    if sort_target == m.SortTarget.KEY and sort_order == m.SortOrder.ASCEND:
        sort_order = m.SortOrder.NONE  # that is how keys come anyway, and so they can be streamed
    return m.Range(
        key,
        range_end,
        limit=values.number("limit"),
        revision=max(0, values.number("rev")),
        sort_order=sort_order,
        sort_target=sort_target,
        serializable=consistency == "s",
        keys_only=values.is_on("keys-only"),
        count_only=values.is_on("count-only"),
    )


def delete_request(values: Values, arguments: Sequence[str]) -> m.DeleteRange:
    """What `del` with these words asks for. Raises CommandError."""
    if not 1 <= len(arguments) <= 2:
        raise CommandError("del command needs one argument as key and an optional argument as range_end", EXIT_BAD_ARGS)
    _choose_one(values, "prefix", "from-key")
    key, range_end = _key_and_end(values, arguments)
    return m.DeleteRange(key, range_end, prev_kv=values.is_on("prev-kv"))


def _put(call: Call) -> int:
    request = put_request(call.values, call.arguments, call.stdin)
    printer = call.printer("put")
    with call.connect() as connection:
        printer.put(*connection.ask(request, m.PutAnswer))
    return 0


def _get(call: Call) -> int:
    request = get_request(call.values, call.arguments)
    printer = call.printer()
    if request.count_only and printer.name != "fields":
        raise CommandError("--count-only is only for `--write-out=fields`", EXIT_BAD_ARGS)
    if call.values.is_on("print-value-only"):
        if printer.name != "simple":
            raise CommandError("print-value-only is only for `--write-out=simple`", EXIT_BAD_ARGS)
        printer.value_only = True
    printer.require("range")
    with call.connect() as connection:
        printer.range(*connection.stream(request))
    return 0


def _del(call: Call) -> int:
    request = delete_request(call.values, call.arguments)
    printer = call.printer("delete_range")
    with call.connect() as connection:
        printer.delete_range(*connection.ask(request, m.DeleteRangeAnswer))
    return 0


def _compaction(call: Call) -> int:
    if len(call.arguments) != 1:
        raise CommandError("compaction command needs 1 argument", EXIT_BAD_ARGS)
    try:
        revision = parse_int(call.arguments[0])
    except ValueError as error:
        raise CommandError(str(error)) from None
    with call.connect() as connection:
        connection.ask(m.Compact(revision, physical=call.values.is_on("physical")), m.CompactAnswer)
    call.out.write(f"compacted revision {revision}\n".encode())
    return 0


PUT = Command(
    usage="[options] <key> <value> (<value> can also be given from stdin)",
    summary="Puts the given key into the store",
    description="""\
A <value> beginning with '-' would be taken for a flag. Insert '--' before it:
zkv put <key> -- <value>, or zkv put -- <key> <value>.
A <value> not given as an argument is read from standard input, unless --ignore-value is set.
With --ttl the key is gone once it was neither put again nor renewed (zkv touch) for so long.""",
    example="""\
zkv put /config/motd "hello"
zkv put /config/motd --prev-kv "hello again"
zkv put /sessions/anna token --ttl 60
zkv put /services/web/1 10.0.0.7:80 --lease 32695410dcc0ca06
zkv put /config/motd < /etc/motd""",
    flags=PUT_FLAGS,
    run=_put,
)
GET = Command(
    usage="[options] <key> [range_end]",
    summary="Gets the key or a range of keys",
    example="""\
zkv get /config/motd
zkv get --prefix /config/ --keys-only
zkv get --prefix /config/ --sort-by MODIFY --order DESCEND --limit 3
zkv get /config/motd --rev 4 -w json""",
    flags=GET_FLAGS,
    run=_get,
)
DEL = Command(
    usage="[options] <key> [range_end]",
    summary="Removes the specified key or range of keys [key, range_end)",
    example="""\
zkv del /config/motd
zkv del --prefix /config/ --prev-kv""",
    flags=DEL_FLAGS,
    run=_del,
)
COMPACTION = Command(
    usage="[options] <revision>",
    summary="Compacts the event history",
    description="What was superseded at or before <revision> can no longer be read.",
    example="zkv compaction 1234 --physical",
    flags=(switch("physical", "'true' to wait for compaction to physically remove all old revisions"),),
    run=_compaction,
)
