"""Calls: a request, and what to make of its answer. All that `Client` and `AsyncClient` share but how they wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, cast

from zkv.client import ops
from zkv.client.lanes import OP_OF
from zkv.client.records import (
    CompactResult,
    DeleteResult,
    HashKVResult,
    MembersResult,
    PutResult,
    RangeResult,
    Result,
    StatusResult,
    TxnResult,
)
from zkv.errors import InvalidRequest
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self, Unpack

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
        case m.PutAnswer(prev_kv=prev_kv):
            return PutResult(header, prev_kv)
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


# --- calls ---------------------------------------------------------------------------------------


def put(request: m.Put) -> Call[PutResult]:
    return Call(request, _of(PutResult))


def get(key: ops.Data, *, revision: int, serializable: bool) -> Call[m.KeyValue | None]:
    return Call(ops.get(key, revision=revision, serializable=serializable), _first)


def count(key: ops.Data | None, **options: Unpack[ops.RangeOptions]) -> Call[int]:
    options["count_only"] = True
    return Call(ops.get(key, **options), _count)


def delete(request: m.DeleteRange) -> Call[DeleteResult]:
    return Call(request, _of(DeleteResult))


def txn(request: m.Txn) -> Call[TxnResult]:
    return Call(request, _of(TxnResult))


def compact(revision: int, *, physical: bool) -> Call[CompactResult]:
    return Call(m.Compact(revision, physical), lambda ticket: CompactResult(ticket.header))


def hash_kv(endpoint: str | None, revision: int) -> Call[HashKVResult]:
    return Call(
        m.HashKV(revision),
        lambda ticket: HashKVResult(ticket.header, *cast("m.HashKVAnswer", ticket.answer)),
        endpoint,
    )


def status(endpoint: str | None) -> Call[StatusResult]:
    return Call(
        m.Status(), lambda ticket: StatusResult(ticket.header, *cast("m.StatusAnswer", ticket.answer)), endpoint
    )


def members(*, linearizable: bool) -> Call[MembersResult]:
    return Call(
        m.MemberList(linearizable),
        lambda ticket: MembersResult(ticket.header, cast("m.MemberListAnswer", ticket.answer).members),
    )


# --- transactions --------------------------------------------------------------------------------

R = TypeVar("R")


class Txn(Generic[R]):
    """A transaction being built; `commit` sends it. R is what `commit` returns: a TxnResult, or an awaitable of one.

        kv.txn().if_(kv.version("a") == 0).then(zkv.put("a", "1")).otherwise(zkv.get("a")).commit()

    If all comparisons of `if_` hold, the requests of `then` run, otherwise those of `otherwise`: all at one revision.
    """

    def __init__(self, run: Callable[[Call[TxnResult], float | None], R] | None = None) -> None:
        self._run = run
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
        """What would be sent; also what an outer transaction holds."""
        return m.Txn(self._compares, self._success, self._failure)

    def commit(self, *, timeout: float | None = None) -> R:
        """Send it. Raises what any call raises; a branch not taken is no error (`TxnResult.succeeded`)."""
        if self._run is None:
            raise InvalidRequest("this transaction belongs to no client")
        return self._run(txn(self.request()), timeout)


def _operations(requests: tuple[m.TxnRequest | Txn[R], ...]) -> tuple[tuple[int, m.TxnRequest], ...]:
    plain = [request.request() if isinstance(request, Txn) else request for request in requests]
    return tuple([(OP_OF[type(request)], request) for request in plain])
