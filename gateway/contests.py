"""v3lock.Lock and v3election.Election: what etcd does for clients that would rather not do it themselves.

Keys and steps are those of etcd's concurrency package, as those of our own client are (client/contest.py): who comes
first has the key of the lowest create revision under NAME/, and everybody waits for the key before its own to go. Each
call is a generator of *steps*; the driver below asks the node for them and comes back with the answer:

    Ask(op, fields)        -> its answer, or the error is raised where the step stands
    Gone(key, revision)    -> when the key has been deleted since then
    Events(key, end, rev)  -> the next events there, as often as it is asked for

A client that goes, or whose deadline passes, raises Abandoned there. Then, and when waiting fails, the key is deleted
again, so a lock that nobody waits for is nobody's. Only a put that is under way at that moment is let be, as etcd lets
it: a client that asks again with the same lease has the same key, and must not lose it to its first try.

As in etcd, which asks itself as a client, errors of the steps end the call as UNKNOWN, with etcd's text.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from zkv import errors
from zkv.gateway.callers import Who, who_calls
from zkv.gateway.grpc_status import status_of
from zkv.gateway.http2.grpc_words import Method, Status
from zkv.gateway.pb import election_pb2, lock_pb2
from zkv.gateway.pb.kv_pb2 import KeyValue
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from google.protobuf.message import Message

    from zkv.gateway.grpc_desk import EtcdDesk
    from zkv.gateway.grpc_line import Answers
    from zkv.gateway.grpc_watch import WatchDesk
    from zkv.gateway.http2.grpc import Call

    Steps = Generator[Any, Any, None]

SESSION_TTL_S: Final = 60
"""Of the lease that who names none is given (etcd:concurrency.defaultSessionTTL)."""
_NO_LEADER: Final = "election: no leader"
_NOT_LEADER: Final = "election: not leader"
_NO_LEADER_KEY: Final = '"leader" field must be provided'
_SESSION_EXPIRED: Final = "mutex: session is expired"
_WATCH: Final = int(m.ClientKind.WATCH)
_CREDIT: Final = int(m.ClientKind.WATCH_CREDIT)


class Ask(NamedTuple):
    op: int
    fields: tuple[Any, ...]


class Gone(NamedTuple):
    key: bytes
    revision: int


class Events(NamedTuple):
    key: bytes
    range_end: bytes
    revision: int


class Refused(Exception):
    """How a call ends that cannot have what it asks for, by no fault of the node."""


class Abandoned(Exception):
    """Nobody waits for the answer."""


class WatchLost(Exception):
    """Nobody knows what has happened since: look again."""


class Answered(NamedTuple):
    body: Any
    revision: int


# --- steps -------------------------------------------------------------------------------------------


def _after(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin so."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))  # it ends with a slash


def _first(prefix: bytes) -> tuple[Any, ...]:
    return (prefix, _after(prefix), 1, 0, int(m.SortOrder.ASCEND), int(m.SortTarget.CREATE))


def _last_before(prefix: bytes, revision: int) -> tuple[Any, ...]:
    order = (int(m.SortOrder.DESCEND), int(m.SortTarget.CREATE))
    return (prefix, _after(prefix), 1, 0, *order, False, False, False, 0, 0, 0, revision)


def _if_created(key: bytes, revision: int, then: list[Any], otherwise: list[Any]) -> Ask:
    compare = (int(m.CompareResult.EQUAL), int(m.CompareTarget.CREATE), key, revision, b"")
    return Ask(int(m.Op.TXN), ((compare,), tuple(then), tuple(otherwise)))


def _put(key: bytes, value: bytes, lease: int) -> tuple[int, tuple[Any, ...]]:
    return int(m.Op.PUT), (key, value, lease)


def _get(key: bytes) -> tuple[int, tuple[Any, ...]]:
    return int(m.Op.RANGE), (key,)


def _delete(key: bytes) -> tuple[int, tuple[Any, ...]]:
    return int(m.Op.DELETE_RANGE), (key,)


def _lease(lease: int) -> Generator[Any, Any, int]:
    if lease:
        return lease
    granted = yield Ask(int(m.Op.LEASE_GRANT), (SESSION_TTL_S, 0))
    return int(granted.body[0])


def _wait_turn(prefix: bytes, revision: int) -> Steps:
    """Until no key under the prefix is older."""
    while True:
        before = yield Ask(int(m.Op.RANGE), _last_before(prefix, revision - 1))
        kvs = before.body[0]
        if not kvs:
            return
        with contextlib.suppress(WatchLost):
            yield Gone(kvs[0][0], before.revision)


def _lock(contest: Contest, asked: lock_pb2.LockRequest) -> Steps:
    lease = yield from _lease(asked.lease)
    prefix = asked.name + b"/"
    key = prefix + b"%x" % lease
    taken = yield _if_created(
        key, 0, [_put(key, b"", lease), (int(m.Op.RANGE), _first(prefix))],
        [_get(key), (int(m.Op.RANGE), _first(prefix))],
    )  # fmt: skip
    (_, mine), (_, owner) = taken.body[1]
    revision = taken.revision if taken.body[0] else mine[0][0][1]
    held_at = taken.revision
    if owner[0] and owner[0][0][1] != revision:
        try:
            yield from _wait_turn(prefix, revision)
            held = yield Ask(*_get(key))
        except (Abandoned, errors.ZkvError):
            with contextlib.suppress(errors.ZkvError):
                yield Ask(*_delete(key))
            raise
        if not held.body[0]:
            raise Refused(_SESSION_EXPIRED)
        held_at = held.revision
    contest.reply(lock_pb2.LockResponse(header=contest.header(held_at), key=key))


def _unlock(contest: Contest, asked: lock_pb2.UnlockRequest) -> Steps:
    deleted = yield Ask(*_delete(asked.key))
    contest.reply(lock_pb2.UnlockResponse(header=contest.header(deleted.revision)))


def _campaign(contest: Contest, asked: election_pb2.CampaignRequest) -> Steps:
    lease = yield from _lease(asked.lease)
    prefix = asked.name + b"/"
    key = prefix + b"%x" % lease
    stood = yield _if_created(key, 0, [_put(key, asked.value, lease)], [_get(key)])
    revision = stood.revision
    if not stood.body[0]:
        before = stood.body[1][0][1][0][0]
        revision = before[1]
    resign = _if_created(key, revision, [_delete(key)], [])
    try:
        if not stood.body[0] and before[4] != asked.value:
            yield from _proclaimed(key, revision, asked.value, lease)
        yield from _wait_turn(prefix, revision)
    except (Abandoned, Refused):
        with contextlib.suppress(errors.ZkvError):
            yield resign
        raise
    leader = election_pb2.LeaderKey(name=asked.name, key=key, rev=revision, lease=lease)
    contest.reply(election_pb2.CampaignResponse(header=contest.header(stood.revision), leader=leader))


def _proclaimed(key: bytes, revision: int, value: bytes, lease: int) -> Generator[Any, Any, int]:
    done = yield _if_created(key, revision, [_put(key, value, lease)], [])
    if not done.body[0]:
        raise Refused(_NOT_LEADER)
    return int(done.revision)


def _proclaim(contest: Contest, asked: election_pb2.ProclaimRequest) -> Steps:
    if not asked.HasField("leader"):
        raise Refused(_NO_LEADER_KEY)
    leader = asked.leader
    lease = yield from _lease(leader.lease)
    revision = yield from _proclaimed(leader.key, leader.rev, asked.value, lease)
    contest.reply(election_pb2.ProclaimResponse(header=contest.header(revision)))


def _leader(contest: Contest, asked: election_pb2.LeaderRequest) -> Steps:
    found = yield Ask(int(m.Op.RANGE), _first(asked.name + b"/"))
    if not found.body[0]:
        raise Refused(_NO_LEADER)
    contest.reply(election_pb2.LeaderResponse(header=contest.header(found.revision), kv=_kv(found.body[0][0])))


def _resign(contest: Contest, asked: election_pb2.ResignRequest) -> Steps:
    if not asked.HasField("leader"):
        raise Refused(_NO_LEADER_KEY)
    leader = asked.leader
    done = yield _if_created(leader.key, leader.rev, [_delete(leader.key)], [])
    contest.reply(election_pb2.ResignResponse(header=contest.header(done.revision)))


def _observe(contest: Contest, asked: election_pb2.LeaderRequest) -> Steps:
    """Each leader, and what each proclaims."""
    prefix = asked.name + b"/"
    told = 0  # the revision of what was told last
    while True:
        with contextlib.suppress(WatchLost):
            found = yield Ask(int(m.Op.RANGE), _first(prefix))
            kv, revision = (found.body[0][0], found.revision) if found.body[0] else (None, 0)
            while kv is None:
                events = yield Events(prefix, _after(prefix), found.revision)
                kv = next((kv for deleted, kv, _ in events if not deleted), None)
                revision = kv[2] if kv else 0
            if kv[2] != told:
                told = contest.lead(kv, revision)
            leads = True
            while leads:
                for deleted, event, _ in (yield Events(kv[0], b"", revision + 1)):
                    if deleted:
                        leads = False
                        break
                    told = contest.lead(event, event[2])


def _kv(fields: Any) -> KeyValue:
    key, created, modified, version, value, lease = fields
    return KeyValue(
        key=key, create_revision=created, mod_revision=modified, version=version, value=value, lease=lease
    )  # fmt: skip


_SERVED: Final[dict[str, tuple[type[Message], Callable[[Contest, Any], Steps]]]] = {
    "v3lockpb.Lock/Lock": (lock_pb2.LockRequest, _lock),
    "v3lockpb.Lock/Unlock": (lock_pb2.UnlockRequest, _unlock),
    "v3electionpb.Election/Campaign": (election_pb2.CampaignRequest, _campaign),
    "v3electionpb.Election/Proclaim": (election_pb2.ProclaimRequest, _proclaim),
    "v3electionpb.Election/Leader": (election_pb2.LeaderRequest, _leader),
    "v3electionpb.Election/Observe": (election_pb2.LeaderRequest, _observe),
    "v3electionpb.Election/Resign": (election_pb2.ResignRequest, _resign),
}
METHODS: Final = {
    f"/{name}".encode(): Method(server_streams=name.endswith("/Observe")) for name in _SERVED
}  # fmt: skip


# --- the driver --------------------------------------------------------------------------------------


class Contest:
    """One call."""

    def __init__(self, desk: EtcdDesk, line: Answers, call: Call) -> None:
        self.step = 0  # of its deadline: see EtcdDesk
        self._desk = desk
        self._line = line
        self._call = call
        self._steps: Steps
        self._id = 0  # of a request under way
        self._kvs: list[Any] = []  # of its answer, where it comes in chunks
        self._watch: _Watch | None = None
        self.full = False
        """The client reads too slowly to be told more."""

    def begin(self, message: bytes) -> None:
        """Raises DecodeError."""
        asks, steps = _SERVED[self._call.request.path[1:].decode()]
        self._steps = steps(self, asks.FromString(message))
        self._go_on(lambda: next(self._steps))

    @property
    def now(self) -> int:
        return self._desk.now

    # --- for the steps -------------------------------------------------------------------------------

    def who(self) -> Who:
        """The steps are its caller's."""
        return who_calls(self._line, self._call, self._desk.asking.callers)

    def header(self, revision: int) -> Any:
        return self._desk.answering.header(revision)

    def reply(self, message: Message) -> None:
        self._line.reply(self._call, message.SerializeToString())

    def lead(self, kv: Any, revision: int) -> int:
        """Tell of a leader; the revision of its key."""
        message = election_pb2.LeaderResponse(header=self.header(revision), kv=_kv(kv))
        self.full = not self._line.send(self._call, message.SerializeToString())
        return int(kv[2])

    # --- what becomes of them ------------------------------------------------------------------------

    def _go_on(self, turn: Callable[[], Any]) -> None:
        """Take a step, and what it leads to. What the steps raise ends the call."""
        try:
            while (error := self._take(turn())) is not None:
                turn = functools.partial(self._steps.throw, error)
        except (StopIteration, Abandoned):
            self._close()
        except Refused as refused:
            self._end(str(refused))
        except errors.ZkvError as error:
            self._end(status_of(error)[1])

    def _end(self, text: str) -> None:
        self._close()
        self._line.finish(self._call, Status.UNKNOWN, text)

    def _close(self) -> None:
        self._unwatch()
        if self.step:
            self._desk.undue(self)

    def _take(self, step: Ask | Gone | Events) -> Exception | None:
        """An error is to be raised where the step stands."""
        try:
            if isinstance(step, Ask):
                self._unwatch()
                size = sum(len(field) for field in step.fields if isinstance(field, bytes))
                self._id = self._desk.asking.ask(
                    self, step.op, step.fields, size, self._desk.now, who=self.who(), share=self._line.share
                )
                return None
            key, end, revision = step if isinstance(step, Events) else (step.key, b"", step.revision)
            if self._watch is None or self._watch.of != (key, end):
                self._unwatch()
                self._watch = _Watch(self, self._desk.watches, key, end, revision, no_put=isinstance(step, Gone))
        except errors.ZkvError as error:
            return error
        self._watch.wanted = True
        self._watch.give()
        return None

    def answered(self, op: int, code: int, revision: int, body: Any) -> None:  # noqa: ARG002 - an asker's face
        if code == errors.Code.CHUNK:
            self._kvs += body[0]
            self._desk.asking.credit(self._id)
            return
        self._id = 0
        kvs, self._kvs = self._kvs, []
        if code:
            self._throw(errors.from_code(code, *body))
            return
        if kvs:
            body = ((*kvs, *body[0]), *body[1:])
        self._go_on(lambda: self._steps.send(Answered(body, revision)))

    def happened(self, events: list[Any]) -> None:
        self._go_on(lambda: self._steps.send(events))

    def lost(self) -> None:
        """The watch broke off."""
        self._unwatch()
        self._throw(WatchLost())

    def cancelled(self) -> None:
        """Its client is gone."""
        if self._id:
            self._desk.asking.drop(self._id)
            self._id = 0
            self._throw(Abandoned())
        elif self._watch is not None:
            self._unwatch()
            self._throw(Abandoned())

    def expire(self) -> None:
        """Its client's deadline."""
        self._line.finish(self._call, Status.DEADLINE_EXCEEDED, errors.DeadlineExceeded.text)
        self.cancelled()

    def _throw(self, error: Exception) -> None:
        self._go_on(lambda: self._steps.throw(error))

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def received(self, data: bytes, now: int) -> None: ...

    def half_closed(self) -> None: ...

    def drained(self) -> None:
        self.full = False
        if self._watch is not None:
            self._watch.give()


class _Watch:
    """A watch of this door's own, on a stream of its own; see grpc_watch.py. Raises TooManyRequests."""

    wants_leader = False

    def __init__(
        self, contest: Contest, desk: WatchDesk, key: bytes, end: bytes, revision: int, *, no_put: bool
    ) -> None:
        self.of = (key, end)
        self.wanted = False
        self._contest = contest
        self._desk = desk
        self._events: list[Any] = []
        self._untaken = 0  # bytes of them
        self._lost = False
        self.number = desk.listen(self)
        caller = desk.callers.caller(contest.who(), contest.now)
        desk.say(self, _WATCH, (((1, key, end, revision, False, no_put, False, False, False),), caller))

    def told(self, payload: bytes) -> None:
        *_, watches = codec.unpack(payload)
        self._untaken += len(payload)
        for _, kind, _, body in watches:
            if kind in {m.WatchKind.EVENTS, m.WatchKind.FRAGMENT}:
                self._events += body
            elif kind == m.WatchKind.CANCELLED:
                self._lost = True
        self.give()

    def give(self) -> None:
        """What there is, if it is wanted."""
        if not self.wanted or self._contest.full:
            return
        taken, self._untaken = self._untaken, 0
        if taken:
            self._desk.say(self, _CREDIT, (taken,))
        if self._events:
            self.wanted = False
            events, self._events = self._events, []
            self._contest.happened(events)
        elif self._lost:
            self.wanted = False
            self._contest.lost()

    def end(self, error: errors.ZkvError) -> None:  # noqa: ARG002 - a stream's face
        self._lost = True
        self.give()

    def close(self) -> None:
        self._desk.forget(self)
