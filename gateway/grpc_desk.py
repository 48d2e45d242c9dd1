"""The calls of etcd's API, served: which method is what, unary calls, deadlines; and grpc.health.v1.

    Line (one connection) -> EtcdDesk -> Asking      requests in, answers out      asking.py
                                      -> WatchDesk   watch streams                 grpc_watch.py
                                      -> KeepAlives  lease streams                 grpc_lease.py
                                      -> Contest     locks and elections           contests.py
                                      -> Snapshot, RangeStream                     grpc_streams.py

Whatever is not in `METHODS` is refused by the HTTP/2 core as UNIMPLEMENTED; docs/ETCD.md lists what that is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from zkv import errors
from zkv.gateway import contests, grpc_lease, grpc_streams
from zkv.gateway.asking import ABOUT_REQUESTS, Asking
from zkv.gateway.audit import Audit, WatchAudit
from zkv.gateway.callers import who_calls
from zkv.gateway.contests import Contest
from zkv.gateway.grpc_lease import KeepAlives
from zkv.gateway.grpc_status import status_of
from zkv.gateway.grpc_watch import HAS_LEADER, WatchDesk
from zkv.gateway.http2.grpc_words import Method, Methods, Status
from zkv.gateway.pb import health_pb2 as health
from zkv.gateway.pb import rpc_pb2 as pb
from zkv.gateway.translate import REQUESTS, Answering, DecodeError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.config import Limits
    from zkv.gateway.callers import Callers
    from zkv.gateway.grpc_line import Answers, Connection, Served
    from zkv.gateway.http2.grpc import Call

WATCH: Final = b"/etcdserverpb.Watch/Watch"
DOWNGRADE: Final = b"/etcdserverpb.Maintenance/Downgrade"
HEALTH_CHECK: Final = b"/grpc.health.v1.Health/Check"
HEALTH_WATCH: Final = b"/grpc.health.v1.Health/Watch"
METHODS: Final[Methods] = {
    **{path: Method(tag=what) for path, what in REQUESTS.items()},
    grpc_lease.PATH: Method(client_streams=True, server_streams=True),
    WATCH: Method(client_streams=True, server_streams=True),
    **contests.METHODS,
    **grpc_streams.METHODS,
    DOWNGRADE: Method(),
    HEALTH_CHECK: Method(),
    HEALTH_WATCH: Method(server_streams=True),
}
LEARNERS: Final = frozenset({grpc_streams.SNAPSHOT, HEALTH_CHECK, HEALTH_WATCH})
"""Beside Status and serializable ranges, all that a member without a vote serves, so that clients go to another one."""
_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+(\.[0-9]+(-[0-9A-Za-z.-]+)?)?")
_OK: Final = int(errors.Code.OK)
_CHUNK: Final = int(errors.Code.CHUNK)
_MOVE_LEADER: Final = int(m.Op.MOVE_LEADER)
_STATUS: Final = int(m.Op.STATUS)
_RANGE: Final = int(m.Op.RANGE)
_SERIALIZABLE: Final = m.Range._fields.index("serializable")
_NO_PARTS: Final[tuple[bytes, ...]] = ()
ANSWER_BYTES_MAX: Final = 48 << 20
"""A range's answer is gathered up to this size, for it is one message."""
DEADLINE_STEP_MS: Final = 100
"""How late a client's deadline may be kept."""
GATHERED_BYTES_MAX: Final = 256 << 20
"""The same of all calls together."""


class EtcdDesk:
    """See the module. Driven by one thread; raises for nothing that a client sends."""

    methods = METHODS

    def __init__(
        self,
        *,
        limits: Limits,
        member_id: int,
        cluster_id: int,
        incarnation: int,
        request_timeout_ms: int,
        leaderless_ms: int,
        post: Callable[[str, Any], bool],
        tallies: bool = False,
        slow_ms: int = 300,
        callers: Callers | None = None,
        bcrypt_cost: int = 10,
        audit: Audit | None = None,
    ) -> None:
        self.dirty: set[Connection] = set()
        self.answering = Answering(cluster_id, member_id)
        self.asking = Asking(
            limits=limits,
            member_id=member_id,
            incarnation=incarnation,
            request_timeout_ms=request_timeout_ms,
            post=post,
            tallies=tallies,
            slow_ms=slow_ms,
            callers=callers,
            bcrypt_cost=bcrypt_cost,
            audit=audit,
        )
        self.watches = WatchDesk(
            limits=limits,
            incarnation=incarnation,
            answering=self.answering,
            post=post,
            callers=self.asking.callers,
            shares=self.asking.shares,
        )
        self.watches.audit = WatchAudit(audit) if audit is not None else None
        self.gathered_bytes = 0
        self.now = 0
        """Of the last that was heard."""
        self._member_id = member_id
        self._leaderless_ms = leaderless_ms
        self._leaderless_since: int | None = None
        self._learns = False
        self._watch_actor = 0  # its incarnation
        self._due: dict[int, set[_Unary | Contest]] = {}  # calls with a deadline, by DEADLINE_STEP_MS

    # --- calls -----------------------------------------------------------------------------------------

    def called(self, line: Answers, call: Call, message: bytes, now: int) -> Served | None:
        self.now = now
        what = call.method.tag
        if what is None:
            return self._special(line, call, message)
        op, read = what
        served = _Unary(self, line, call)
        try:
            fields = read(message)
            if self._learns and not _learner_serves(op, fields):
                raise errors.NotCapable
            if op == _MOVE_LEADER and self.asking.leader != self._member_id:
                raise errors.NotLeader
            if HAS_LEADER in call.head.metadata and self._is_leaderless(now):
                raise errors.NoLeader
            served.id = self.asking.ask(
                served, op, fields, len(message), now, who=who_calls(line, call, self.asking.callers), share=line.share
            )
        except errors.ZkvError as error:
            line.finish(call, *status_of(error, op))
            return None
        except DecodeError:
            line.finish(call, Status.INTERNAL, "grpc: failed to unmarshal the received message")
            return None
        if call.deadline is not None:
            self._expect(served, call.deadline)
        return served

    def _special(self, line: Answers, call: Call, message: bytes) -> Served | None:
        """A call that is more than a request to the node, or less."""
        path = call.request.path
        try:
            if self._learns and path not in LEARNERS:
                raise errors.NotCapable
            if path in contests.METHODS:
                contest = Contest(self, line, call)
                if call.deadline is not None:
                    self._expect(contest, call.deadline)
                contest.begin(message)
                return None if call.over else contest
            if path in grpc_streams.METHODS:
                return self._stream(line, call, message)
            if path == DOWNGRADE:
                self._downgrade(line, call, message)
            else:
                self._health(line, call, message)
        except DecodeError:
            line.finish(call, Status.INTERNAL, "grpc: failed to unmarshal the received message")
        except errors.ZkvError as error:
            line.finish(call, *status_of(error))
        return None

    def _stream(self, line: Answers, call: Call, message: bytes) -> Served | None:
        """Raises DecodeError, ZkvError."""
        where = (self.asking, self.answering, line, call)
        if call.request.path == grpc_streams.SNAPSHOT:
            pb.SnapshotRequest.FromString(message)
            snapshot = grpc_streams.SnapshotStream(*where)
            snapshot.ask((), 0, self.now)
            return snapshot
        fields = grpc_streams.range_fields(message)
        if fields is None:
            text = "zkv: RangeStream takes no sort order but by key, and no revision filters: use Range"
            line.finish(call, Status.UNIMPLEMENTED, text)
            return None
        stream = grpc_streams.RangeStream(*where)
        stream.ask(fields, len(message), self.now)
        return stream

    def _expect(self, served: _Unary | Contest, deadline: int) -> None:
        served.step = deadline // DEADLINE_STEP_MS + 1
        self._due.setdefault(served.step, set()).add(served)

    def opened(self, line: Answers, call: Call, now: int) -> Served | None:
        if self.asking.stopping:
            line.finish(call, *status_of(errors.Stopped()))
            return None
        if self._learns:
            line.finish(call, *status_of(errors.NotCapable()))
            return None
        if HAS_LEADER in call.head.metadata and self._is_leaderless(now):
            line.finish(call, *status_of(errors.NoLeader()))
            return None
        if call.request.path == WATCH:
            return self.watches.open(line, call, now)
        return KeepAlives(self.asking, self.answering, line, call)

    def _downgrade(self, line: Answers, call: Call, message: bytes) -> None:
        """Refused, in etcd's words: there is no version to go back to."""
        asked = pb.DowngradeRequest.FromString(message)
        if asked.action == pb.DowngradeRequest.CANCEL:
            line.finish(call, Status.FAILED_PRECONDITION, "etcdserver: no inflight downgrade job")
        elif asked.action not in {pb.DowngradeRequest.VALIDATE, pb.DowngradeRequest.ENABLE}:
            line.finish(call, Status.UNKNOWN, "etcdserver: unknown method")
        elif not _VERSION.fullmatch(asked.version):
            line.finish(call, Status.INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format")
        else:
            line.finish(call, Status.INVALID_ARGUMENT, "etcdserver: invalid downgrade target version")

    def _health(self, line: Answers, call: Call, message: bytes) -> None:
        service = health.HealthCheckRequest.FromString(message).service
        if call.request.path == HEALTH_WATCH:
            known = health.HealthCheckResponse.SERVING if not service else health.HealthCheckResponse.SERVICE_UNKNOWN
            line.send(call, health.HealthCheckResponse(status=known).SerializeToString())
        elif service:
            line.finish(call, Status.NOT_FOUND, "unknown service")
        else:
            serving = health.HealthCheckResponse(status=health.HealthCheckResponse.SERVING)
            line.reply(call, serving.SerializeToString())

    # --- the node --------------------------------------------------------------------------------------

    def mail(self, message: object, now: int) -> None:
        self.now = now
        if type(message) in ABOUT_REQUESTS:  # nearly always
            self._ask_mail(message, now)
            return
        match message:
            case m.WatchOut():
                self.watches.out(message)
            case m.Hello(actor="watch", incarnation=incarnation):
                if incarnation != self._watch_actor:
                    self._watch_actor = incarnation
                    self.watches.end_all(errors.Unavailable())
            case _:
                self._ask_mail(message, now)
                if isinstance(message, m.LeaderIs):
                    self._learns = message.is_learner
                    self._leaderless_since = None if message.leader else self._leaderless_since or now

    def _ask_mail(self, message: object, now: int) -> None:
        """What is about requests."""
        self.asking.mail(message, now)
        self.answering.term = max(self.answering.term, self.asking.term)
        self.watches.revision = max(self.watches.revision, self.asking.revision)

    def flush(self) -> bool:
        """What this turn has for the node leaves. False: not all of it could, try again soon."""
        self.asking.flush()
        return self.watches.flush()

    def stop(self, now: int) -> None:
        self.asking.stop(now)
        self.watches.end_all(errors.Stopped())

    # --- time ------------------------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        self.now = now
        self.asking.tick(now)
        for step in [step for step in self._due if step <= now // DEADLINE_STEP_MS]:
            for served in self._due.pop(step):
                served.expire()
        if self.asking.leader == 0 and self._leaderless_since is None:
            self._leaderless_since = now
        if self._is_leaderless(now):
            self.watches.end_all(errors.NoLeader(), if_leader_wanted=True)

    def undue(self, served: _Unary | Contest) -> None:
        """It is over: nothing of it is kept until its deadline, which may be hours away."""
        calls = self._due.get(served.step)
        if calls is not None:
            calls.discard(served)
            if not calls:
                del self._due[served.step]

    @property
    def is_busy(self) -> bool:
        """Something may come to its deadline soon."""
        return self.asking.in_flight[0] > 0

    @property
    def looks_at_passwords(self) -> bool:
        return self.asking.passwords.is_busy

    def _is_leaderless(self, now: int) -> bool:
        since = self._leaderless_since
        return since is not None and now >= since + self._leaderless_ms


class _Unary:
    """One unary call on its way. `parts`: of a range's answer, as its chunks come in."""

    __slots__ = ("_call", "_desk", "_held", "_line", "_parts", "id", "step")

    def __init__(self, desk: EtcdDesk, line: Answers, call: Call) -> None:
        self.id = 0
        self.step = 0
        self._desk = desk
        self._line = line
        self._call = call
        self._parts = _NO_PARTS
        self._held = 0

    def answered(self, op: int, code: int, revision: int, body: Any) -> None:
        if code == _OK:
            message = self._desk.answering.write(op, revision, body)
            if self._parts:
                message = b"".join((*self._parts, message))
            if self.step or self._parts:
                self._let_go()
            self._line.reply(self._call, message)
        elif code == _CHUNK:
            self._chunk(body)
        else:
            self._let_go()
            self._line.finish(self._call, *status_of(errors.from_code(code, *body), op))

    def _chunk(self, body: Any) -> None:
        desk = self._desk
        part = desk.answering.chunk(body)
        self._parts += (part,)
        self._held += len(part)
        desk.gathered_bytes += len(part)
        if self._held > ANSWER_BYTES_MAX or desk.gathered_bytes > GATHERED_BYTES_MAX:
            desk.asking.drop(self.id)
            self._let_go()
            self._line.finish(self._call, *status_of(errors.RangeTooLarge()))
        else:
            desk.asking.credit(self.id)

    def expire(self) -> None:
        """Its client's deadline."""
        self._line.finish(self._call, Status.DEADLINE_EXCEEDED, errors.DeadlineExceeded.text)
        self.cancelled()

    def cancelled(self) -> None:
        self._desk.asking.drop(self.id)
        self._let_go()

    def _let_go(self) -> None:
        if self.step:
            self._desk.undue(self)
        self._desk.gathered_bytes -= self._held
        self._held = 0
        self._parts = _NO_PARTS

    def received(self, data: bytes, now: int) -> None: ...

    def half_closed(self) -> None: ...

    def drained(self) -> None: ...


def _learner_serves(op: int, fields: tuple[Any, ...]) -> bool:
    return op == _STATUS or (op == _RANGE and len(fields) > _SERIALIZABLE and bool(fields[_SERIALIZABLE]))
