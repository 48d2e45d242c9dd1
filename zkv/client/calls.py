"""Calls: a request, and what to make of its answer. All that `Client` and `AsyncClient` share but how they wait."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar, cast

from zkv.client import ops
from zkv.client.lanes import OP_OF
from zkv.client.records import (
    CompactResult,
    DeleteResult,
    GrantResult,
    HashKVResult,
    KeepAliveResult,
    LeasesResult,
    MemberAddResult,
    MembersResult,
    MoveLeaderResult,
    PutResult,
    RangeResult,
    Result,
    RevokeResult,
    StatusResult,
    TimeToLiveResult,
    TxnResult,
)
from zkv.errors import InvalidRequest, ZkvError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self, SupportsIndex, Unpack

    from zkv.client.ticket import Header, Ticket

T = TypeVar("T")


class Call(NamedTuple, Generic[T]):
    """`result` makes of a ticket that has its answer what the caller gets."""

    request: m.Request
    result: Callable[[Ticket], T]
    endpoint: str | None = None


# --- answers -------------------------------------------------------------------------------------


def _result(header: Header, answer: m.TxnAnswerBody) -> Result:
    match answer:
        case m.PutAnswer():
            return PutResult(header, answer.prev_kv, answer.lease)
        case m.DeleteRangeAnswer(deleted=deleted, prev_kvs=prev_kvs):
            return DeleteResult(header, deleted, prev_kvs)
        case m.RangeAnswer():
            return RangeResult(header, answer.kvs, answer.more, answer.count)
        case m.TxnAnswer(succeeded=succeeded, responses=responses):
            return TxnResult(header, succeeded, tuple([_result(header, inner) for _, inner in responses]))


def _of(_kind: type[T]) -> Callable[[Ticket], T]:
    """For answers that may stand in a txn too."""
    return lambda ticket: cast("T", _result(ticket.header, cast("m.TxnAnswerBody", ticket.answer)))


def _first(ticket: Ticket) -> m.KeyValue | None:
    answer = cast("m.RangeAnswer", ticket.answer)
    return answer.kvs[0] if answer.kvs else None


def _count(ticket: Ticket) -> int:
    return cast("m.RangeAnswer", ticket.answer).count


def kvs_of(result: TxnResult, number: int) -> tuple[m.KeyValue, ...]:
    """What the range that was request `number` of a txn's branch has found."""
    return cast("RangeResult", result.responses[number]).kvs


# --- calls ---------------------------------------------------------------------------------------


class Guard(Protocol):
    """What a write may depend on: a lock, or a won election."""

    def is_owner(self) -> m.Compare:
        """Holds while it is held. Raises when it never was."""

    def lost(self) -> ZkvError:
        """What to raise when it does not hold."""


def _guarded(call: Call[T], guard: Guard | None) -> Call[T]:
    """The same request, refused by the cluster unless the guard holds at that very revision."""
    if guard is None:
        return call
    request = m.Txn((guard.is_owner(),), ((OP_OF[type(call.request)], cast("m.TxnRequest", call.request)),), ())

    def result(ticket: Ticket) -> T:
        answer = cast("m.TxnAnswer", ticket.answer)
        if not answer.succeeded:
            raise guard.lost()
        return cast("T", _result(ticket.header, answer.responses[0][1]))

    return Call(request, result)


def _put(ticket: Ticket) -> PutResult:
    prev_kv, lease = cast("m.PutAnswer", ticket.answer)
    return PutResult(ticket.header, prev_kv, lease)


def put(request: m.Put, guard: Guard | None = None) -> Call[PutResult]:
    call: Call[PutResult] = tuple.__new__(Call, (request, _put, None))  # its class takes three times as long
    return _guarded(call, guard)


def get(key: ops.Data, *, revision: int, serializable: bool) -> Call[m.KeyValue | None]:
    return Call(ops.get(key, revision=revision, serializable=serializable), _first)


def count(key: ops.Data | None, **options: Unpack[ops.RangeOptions]) -> Call[int]:
    options["count_only"] = True
    return Call(ops.get(key, **options), _count)


def delete(request: m.DeleteRange, guard: Guard | None = None) -> Call[DeleteResult]:
    return _guarded(Call(request, _of(DeleteResult)), guard)


def txn(request: m.Txn, guard: Guard | None = None) -> Call[TxnResult]:
    """A guarded txn stands within another, so that a guard that fails is told from a comparison that does."""
    return _guarded(Call(request, _of(TxnResult)), guard)


def range_of(request: m.Range) -> Call[RangeResult]:
    """A range as one answer, which the caller knows to be small."""
    return Call(request, _of(RangeResult))


def compact(revision: int, *, physical: bool) -> Call[CompactResult]:
    return Call(m.Compact(index(revision), physical), lambda ticket: CompactResult(ticket.header))


def hash_kv(endpoint: str | None, revision: int) -> Call[HashKVResult]:
    return Call(
        m.HashKV(index(revision)),
        lambda ticket: HashKVResult(ticket.header, *cast("m.HashKVAnswer", ticket.answer)),
        endpoint,
    )


def status(endpoint: str | None) -> Call[StatusResult]:
    return Call(
        m.Status(), lambda ticket: StatusResult(ticket.header, *cast("m.StatusAnswer", ticket.answer)), endpoint
    )


def member_add(peer_urls: Iterable[str], *, learner: bool) -> Call[MemberAddResult]:
    return Call(
        m.MemberAdd(tuple(peer_urls), learner),
        lambda ticket: MemberAddResult(ticket.header, *cast("m.MemberAddAnswer", ticket.answer)),
    )


def change_members(request: m.MemberRemove | m.MemberUpdate | m.MemberPromote) -> Call[MembersResult]:
    return Call(request, lambda ticket: MembersResult(ticket.header, cast("m.MembersAnswer", ticket.answer).members))


def move_leader(target: int) -> Call[MoveLeaderResult]:
    return Call(m.MoveLeader(target), lambda ticket: MoveLeaderResult(ticket.header))


def members(*, linearizable: bool) -> Call[MembersResult]:
    return Call(
        m.MemberList(linearizable),
        lambda ticket: MembersResult(ticket.header, cast("m.MemberListAnswer", ticket.answer).members),
    )


# --- leases --------------------------------------------------------------------------------------


def grant(ttl: int, id_: int = 0, remaining: int = 0) -> Call[GrantResult]:
    return Call(
        m.LeaseGrant(index(ttl), index(id_), remaining=index(remaining))
        if remaining
        else m.LeaseGrant(index(ttl), index(id_)),
        lambda ticket: GrantResult(ticket.header, *cast("m.LeaseGrantAnswer", ticket.answer)),
    )


def revoke(lease: SupportsIndex) -> Call[RevokeResult]:
    return Call(m.LeaseRevoke(index(lease)), lambda ticket: RevokeResult(ticket.header))


def keep_alive(lease: SupportsIndex) -> Call[KeepAliveResult]:
    return Call(
        m.LeaseKeepAlive(index(lease)),
        lambda ticket: KeepAliveResult(ticket.header, *cast("m.LeaseKeepAliveAnswer", ticket.answer)),
    )


def time_to_live(lease: SupportsIndex, *, keys: bool) -> Call[TimeToLiveResult]:
    return Call(
        m.LeaseTimeToLive(index(lease), keys),
        lambda ticket: TimeToLiveResult(ticket.header, *cast("m.LeaseTimeToLiveAnswer", ticket.answer)),
    )


def leases() -> Call[LeasesResult]:
    return Call(
        m.LeaseList(), lambda ticket: LeasesResult(ticket.header, cast("m.LeaseListAnswer", ticket.answer).leases)
    )


def grant_sent(ttl: int) -> Call[tuple[m.LeaseGrantAnswer, int]]:
    """A grant, and when (ms, the client's clock) it was asked for: the lease cannot have begun before."""
    return Call(m.LeaseGrant(index(ttl)), lambda ticket: (cast("m.LeaseGrantAnswer", ticket.answer), ticket.first_sent))


# --- transactions --------------------------------------------------------------------------------

R = TypeVar("R")


class Txn(Generic[R]):
    """A transaction being built; `commit` sends it. R is what `commit` returns: a TxnResult, or an awaitable of one.

        kv.txn().if_(kv.version("a") == 0).then(zkv.put("a", "1")).otherwise(zkv.get("a")).commit()

    If all comparisons of `if_` hold, the requests of `then` run, otherwise those of `otherwise`: all at one revision.
    """

    def __init__(
        self, run: Callable[[Call[TxnResult], float | None], R] | None = None, guard: Guard | None = None
    ) -> None:
        self._run = run
        self._guard = guard
        self._compares: tuple[m.Compare, ...] = ()
        self._success: tuple[tuple[int, m.TxnRequest], ...] = ()
        self._failure: tuple[tuple[int, m.TxnRequest], ...] = ()

    def if_(self, *compares: m.Compare) -> Self:
        self._compares += compares
        return self

    def then(self, *requests: m.TxnRequest | Txn[R]) -> Self:
        self._success += _operations(requests)
        return self

    def otherwise(self, *requests: m.TxnRequest | Txn[R]) -> Self:
        self._failure += _operations(requests)
        return self

    def request(self) -> m.Txn:
        """What would be sent, but for the guard."""
        return m.Txn(self._compares, self._success, self._failure)

    def inner(self) -> m.Txn:
        """What an outer transaction holds. Raises InvalidRequest for a guarded one, whose loss could not be told."""
        if self._guard is not None:
            raise InvalidRequest("guard the outer transaction")
        return self.request()

    def commit(self, *, timeout: float | None = None) -> R:
        """Send it. Raises what any call raises; a branch not taken is no error (`TxnResult.succeeded`)."""
        if self._run is None:
            raise InvalidRequest("this transaction belongs to no client")
        return self._run(txn(self.request(), self._guard), timeout)


def _operations(requests: tuple[m.TxnRequest | Txn[R], ...]) -> tuple[tuple[int, m.TxnRequest], ...]:
    plain = [request.inner() if isinstance(request, Txn) else request for request in requests]
    for request in plain:
        if not isinstance(request, m.Put | m.Range | m.DeleteRange | m.Txn):
            raise InvalidRequest(f"{type(request).__name__} is no request: zkv.put, zkv.get, zkv.delete make them")
    return tuple([(OP_OF[type(request)], request) for request in plain])
