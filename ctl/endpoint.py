"""`zkv endpoint status`, `health` and `hashkv`: each asks every endpoint for itself, all at once.

One endpoint's trouble is told on stderr and makes the exit code 1; the others' results are printed all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from zkv.ctl.command import Call, Command
from zkv.ctl.connection import answer_of
from zkv.ctl.options import EXIT_ERROR, CommandError, Flag, switch
from zkv.ctl.printers import EndpointHash, EndpointHealth, EndpointStatus
from zkv.errors import PermissionDenied, ZkvError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.client.ticket import Header
    from zkv.ctl.connection import Reply

    Answer = TypeVar("Answer", bound=m.AnswerBody)

NATIVE_SCHEMES = ("tcp://", "curve://")
CLUSTER = switch("cluster", "use all endpoints from the cluster member list")


def endpoints_of(call: Call) -> Sequence[str]:
    """Those of the command line, or with --cluster the native client urls that the members have published.

    The list is the asked member's own: also a cluster without a quorum can be looked at. Raises CommandError.
    """
    if not call.values.is_on("cluster"):
        return call.values.list("endpoints")
    try:
        with call.connect() as connection:
            _, answer = connection.ask(m.MemberList(linearizable=False), m.MemberListAnswer)
    except ZkvError as error:
        raise CommandError(f"failed to fetch endpoints from the cluster member list: {error}") from None
    urls = [url for member in answer.members for url in member.client_urls if url.startswith(NATIVE_SCHEMES)]
    if not urls:
        raise CommandError(
            "no member has published a tcp:// or curve:// client url: name endpoints with --endpoints, "
            "and see --advertise-client-urls of `zkv server`"
        )
    return list(dict.fromkeys(urls))


def _ask_each(call: Call, request: m.Request) -> list[tuple[str, Reply]]:
    endpoints = endpoints_of(call)
    with call.connect(endpoints) as connection:
        return list(zip(endpoints, connection.ask_each([request] * len(endpoints)), strict=True))


def _collect(
    call: Call, replies: list[tuple[str, Reply]], kind: type[Answer], what: str
) -> tuple[list[tuple[str, Header, Answer]], ZkvError | None]:
    """The answers that came, and the last of the errors, all of which have been told."""
    results = []
    last = None
    for endpoint, reply in replies:
        try:
            results.append((endpoint, *answer_of(reply.ticket, kind)))
        except ZkvError as error:
            call.complain(f"Failed to get the {what} of endpoint {endpoint} ({error})")
            last = error
    return results, last


def _status(call: Call) -> int:
    printer = call.printer("endpoint_status")
    results, error = _collect(call, _ask_each(call, m.Status()), m.StatusAnswer, "status")
    printer.endpoint_status([EndpointStatus(*result) for result in results])
    return EXIT_ERROR if error else 0


def _health(call: Call) -> int:
    """Healthy is who answers a linearizable read: it hears, and is heard by, a quorum. A refusal is an answer too."""
    printer = call.printer("endpoint_health")
    results = []
    for endpoint, (ticket, took) in _ask_each(call, m.Range(b"health")):
        healthy = ticket.error is None or isinstance(ticket.error, PermissionDenied)
        results.append(EndpointHealth(endpoint, took, "" if healthy else str(ticket.error)))
    printer.endpoint_health(results)
    sick = [result for result in results if result.error]
    if not sick:
        return 0
    if printer.name == "simple":
        for result in sick:
            call.complain(f"{result.endpoint} is unhealthy: failed to commit proposal: {result.error}")
    raise CommandError("unhealthy cluster")


def _hashkv(call: Call) -> int:
    printer = call.printer("endpoint_hashkv")
    replies = _ask_each(call, m.HashKV(call.values.number("rev")))
    results, error = _collect(call, replies, m.HashKVAnswer, "hash")
    printer.endpoint_hashkv([EndpointHash(*result) for result in results])
    if error:
        raise error
    return 0


STATUS = Command(
    usage="[options]",
    summary="Prints out the status of endpoints specified in --endpoints",
    description="""\
In the simple format, for each endpoint: Endpoint, ID, Version, DB Size, Is Leader, Is Learner, Raft Term, Raft Index,
Raft Applied Index, Errors.""",
    example="""\
zkv endpoint status --cluster -w table
zkv -w json endpoint status | jq '[ .[] | { Endpoint: .Endpoint, revision: .Status.header.revision }]'""",
    flags=(CLUSTER,),
    run=_status,
)
HEALTH = Command(
    usage="[options]",
    summary="Checks the healthiness of endpoints specified in --endpoints",
    description="An endpoint is healthy when it answers a linearizable read in time.",
    example="zkv endpoint health --cluster",
    flags=(CLUSTER,),
    run=_health,
)
HASHKV = Command(
    usage="[options]",
    summary="Prints the KV history hash for each endpoint in --endpoints",
    description="At the same revision, and compacted at the same one, all members have the same hash.",
    example="zkv endpoint hashkv --cluster --rev 1234",
    flags=(CLUSTER, Flag("rev", "number", "0", "maximum revision to hash (default: all revisions)")),
    run=_hashkv,
)
