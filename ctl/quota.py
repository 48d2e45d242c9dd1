"""`zkv quota set`, `get`, `list` and `delete`: how much may live under a prefix, and how often it may be changed."""

from __future__ import annotations

from zkv.ctl.command import Call, Command
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, Flag
from zkv.wire import messages as m

LIMITS = ("keys", "bytes", "requests")


def _set(call: Call) -> int:
    prefix = _prefix(call, "set")
    given = [name for name in LIMITS if name in call.values.given]
    if not given:
        raise CommandError("quota set command requires --keys, --bytes or --requests (0: no limit)", EXIT_BAD_ARGS)
    for name in given:
        if call.values.number(name) < 0:
            raise CommandError(f"--{name} must not be negative (0: no limit)", EXIT_BAD_ARGS)
    request = m.QuotaSet(prefix, *(call.values.number(name) if name in given else m.KEPT for name in LIMITS))
    return _show(call, request, "set")


def _get(call: Call) -> int:
    return _show(call, m.QuotaGet(_prefix(call, "get")))


def _delete(call: Call) -> int:
    return _show(call, m.QuotaDelete(_prefix(call, "delete")), "deleted")


def _list(call: Call) -> int:
    if call.arguments:
        raise CommandError("quota list command requires no arguments", EXIT_BAD_ARGS)
    printer = call.printer("quota_list")
    with call.connect() as connection:
        printer.quota_list(*connection.ask(m.QuotaList(), m.QuotaListAnswer))
    return 0


def _prefix(call: Call, name: str) -> bytes:
    if len(call.arguments) != 1:
        raise CommandError(f"quota {name} command requires a prefix as its argument", EXIT_BAD_ARGS)
    return call.argument(0)


def _show(call: Call, request: m.QuotaSet | m.QuotaGet | m.QuotaDelete, done: str = "") -> int:
    printer = call.printer("quota")
    with call.connect() as connection:
        header, answer = connection.ask(request, m.QuotaAnswer)
    printer.quota(header, answer.quota, done)
    return 0


SET = Command(
    usage="[options] <prefix>",
    summary="Limits how much may live under a prefix, and how often it may be changed",
    description="""\
What is not named stays as it was. A request that would leave more keys or bytes (of keys and values) than that is
refused whole, and one too many in a second until a moment later; what deletes more than it puts is never too much,
nor is the end of a lease. Where prefixes lie within each other, each has its say. The empty prefix is all keys.
Where many keys are there already they are counted first, and the policy is in force when that is done.""",
    example="""\
zkv quota set apps/shop/ --keys 10000 --bytes 67108864
zkv quota set apps/shop/ --requests 500
zkv quota set apps/shop/ --keys 0""",
    run=_set,
    flags=(
        Flag("bytes", "number", "0", "how many bytes keys and values may take (0: no limit)"),
        Flag("keys", "number", "0", "how many keys there may be (0: no limit)"),
        Flag("requests", "number", "0", "how many requests a second may change them (0: no limit)"),
    ),
)

GET = Command(
    usage="<prefix>",
    summary="Shows what lies under a prefix, and what may",
    description="Of a prefix that has a quota.",
    example="zkv quota get apps/shop/ -w table",
    run=_get,
)

LIST = Command(usage="", summary="Lists all quotas", example="zkv quota list -w table", run=_list)

DELETE = Command(
    usage="<prefix>",
    summary="Lifts a quota",
    description="The keys stay.",
    example="zkv quota delete apps/shop/",
    run=_delete,
)
