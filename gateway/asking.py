"""Requests of etcd's API on their way through the node: asked one by one, sent on in groups, each answered once.

Whoever calls on a gRPC door calls for one thing at a time. But what comes within one turn of the process, from any
number of connections, leaves as one *group* per way (validate.py): so storage answers it in one message. A group
names no session: a call is not applied once whatever happens, as with etcd. Requests that may take several messages
to answer, or that storage or raft answer when they see fit, are groups of their own.

    ask()  -> id, and later, exactly once, `asker.answered(op, code, revision, body)`, or for a range in chunks, several
              times, each with code CHUNK but the last; an error's code comes with its `fields`
    drop() -> the answer is not wanted any more

What ends a request is what ends a group in the native door (native.py tells it): an answer, a refusal, a neighbour that
started anew, a leader that leads no more, or time. But what is refused because nobody leads is asked again once
somebody does, as etcd would wait: its clients do not retry writes by themselves. What is held is bounded by requests
and bytes in flight.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from zkv import errors
from zkv.gateway.audit import Audit, Subject, described
from zkv.gateway.callers import NOBODY, Callers, Who, tokens_of
from zkv.gateway.leaving import Ahead, Deadlines, Frames
from zkv.gateway.logins import Logins
from zkv.gateway.passwords import Passwords
from zkv.gateway.sampling import Sampler
from zkv.gateway.shares import USER, Leases, Shares
from zkv.gateway.slow import SlowRequests
from zkv.gateway.tally import WRITES, Tally
from zkv.gateway.validate import (
    FILLED,
    LEASE,
    LINEARIZABLE,
    LOCAL,
    MEMBERS,
    PASSWORD,
    RAFT,
    STREAMED,
    WRITE,
    check,
    filled,
)
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from zkv.config import Limits
    from zkv.gateway.logins import Told
    from zkv.gateway.shares import Share
    from zkv.gauges import Value

LEADERS_LEASE: Final = "leader's lease"
"""As such says Hello, from another member, the lease actor that has this door's keep-alives."""
DRAIN_MS: Final = 2_500
"""How long after `stop` the requests in flight may still be answered."""
STALE_MAX: Final = 3
"""So often a request is let in again because users or roles had changed meanwhile."""
_ROOTS: Final = frozenset({MEMBERS, RAFT})
"""Ways of requests that raft looks at before storage can say who may ask."""
_OLD: Final = errors.AuthOldRevision.code
_TOGETHER: Final = frozenset(
    int(op)
    for op in (
        m.Op.RANGE, m.Op.PUT, m.Op.DELETE_RANGE, m.Op.TXN, m.Op.LEASE_GRANT, m.Op.LEASE_REVOKE, m.Op.LEASE_KEEP_ALIVE,
    )
)  # fmt: skip
"""What goes in groups of many: it is answered at once where it is done."""
_RANGE: Final = int(m.Op.RANGE)
_LEASE_GRANT: Final = int(m.Op.LEASE_GRANT)
_OK: Final = int(errors.Code.OK)
_CHUNK: Final = int(errors.Code.CHUNK)
_REVISION: Final = m.Range._fields.index("revision")
ABOUT_REQUESTS: Final = frozenset({m.GatewayAnswers, m.AnsweredAhead, m.Confirmed})
"""The mail that requests are answered by. (It is looked for by its exact type: `match` asks each class, at length.)"""
_ANSWERS: Final = m.GatewayAnswers
_pack: Final = codec.pack
_HEAD: Final = _pack((m.PROTOCOL_VERSION, int(m.ClientKind.REQUESTS), b"", 0, ()))[:-1]
"""A group's message up to its requests, which are the last of it ..."""
_HEAD_IF_ASKED: Final = _pack((m.PROTOCOL_VERSION, int(m.ClientKind.REQUESTS), b"", 0, (), ()))[:-2]
"""... or stand before who asks."""
_Gathering: TypeAlias = tuple[int, "m.Caller | None"]
"""What one group has in common: its way, and who asks."""


def _payload(requests: Sequence[tuple[int, int, Any]], caller: m.Caller | None) -> bytes:
    return _HEAD + _pack(requests) if caller is None else _HEAD_IF_ASKED + _pack(requests) + _pack(caller)


class Asker(Protocol):
    def answered(self, op: int, code: int, revision: int, body: Any) -> None: ...


class _Told:
    """An asker that is a function."""

    __slots__ = ("_told",)

    def __init__(self, told: Told) -> None:
        self._told = told

    def answered(self, op: int, code: int, revision: int, body: Any) -> None:  # noqa: ARG002 - an asker's face
        self._told(code, revision, body)


class _Asked:
    """`gid`: if it is a group of its own, else 0. `stale`: how often it was let in under an old auth revision."""

    __slots__ = ("asker", "caller", "fields", "gid", "op", "share", "size", "stale", "taken", "told", "way", "who")

    def __init__(
        self, asker: Asker, op: int, fields: tuple[Any, ...], way: int, *, size: int, taken: int, share: Share
    ) -> None:
        self.asker = asker
        self.share = share
        self.who = NOBODY
        self.caller: m.Caller | None = None
        self.told: dict[str, Any] | None = None
        self.stale = 0
        self.op = op
        self.fields = fields
        self.way = way
        self.size = size
        self.taken = taken
        self.gid = 0


class _Together:
    """The requests of a group that is being gathered, their ids and their bytes."""

    __slots__ = ("ids", "requests", "size")

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.requests: list[tuple[int, int, Any]] = []
        self.size = 0


class Asking:
    """See the module. Driven by one thread."""

    def __init__(
        self,
        *,
        limits: Limits,
        member_id: int,
        incarnation: int,
        request_timeout_ms: int,
        post: Callable[[str, Any], bool],
        tallies: bool = False,
        slow_ms: int = 300,
        callers: Callers | None = None,
        bcrypt_cost: int = 10,
        audit: Audit | None = None,
    ) -> None:
        self._audit = audit
        self.shares = Shares(limits, "grpc")
        self._house = self.shares.house
        self._leases = Leases(self.shares, limits, self._ask_about_leases)
        self._slow = SlowRequests("grpc", slow_ms, post)
        self._sampler = Sampler(Random(incarnation))  # noqa: S311 - hides nothing
        self._kept_tally = Tally()
        self._tallies = tallies
        self._tally = self._kept_tally if tallies else None
        self.callers = callers or Callers(tokens_of("simple", 300))
        self.passwords = Passwords(bcrypt_cost, self.shares)
        self._logins = Logins(self.callers, self.passwords, self._log)
        self._now = 0
        self.term = 0
        self.leader = 0
        self.revision = 0
        """The newest that was told of."""
        self._term_led = 0  # the term it leads in
        self._limits = limits
        self._request_bytes_max, self._requests_max = limits.request_bytes_max, limits.message_requests_max
        self._asked_max, self._bytes_max = limits.in_flight_groups_max, limits.in_flight_bytes_max
        self._member_id = member_id
        self._incarnation = incarnation
        self._post = post
        self._asked: dict[int, _Asked] = {}
        self._bytes = 0
        self._last_id = 0
        self._groups: dict[int, Sequence[int]] = {}  # gid -> ids
        self._last_gid = m.ETCD_DOOR
        self._started: set[int] = set()  # of those in chunks, the ones that have begun to flow
        self._gathered: dict[_Gathering, _Together] = {}  # the requests of this turn
        self._single: dict[int, list[tuple[int, bytes]]] = {}  # way -> groups of one
        self._leaderless: list[int] = []  # those to be asked again when somebody leads
        self._deadlines = Deadlines(request_timeout_ms)
        self._asked_at = 0  # when, the last one
        self._frames = Frames(member_id=member_id, incarnation=incarnation, bytes_max=limits.entry_bytes_max, post=post)
        self._ahead = Ahead(incarnation=incarnation, groups=self._groups, post=post)
        self._neighbours: dict[str, int] = {}
        self._stop_by: int | None = None

    @property
    def in_flight(self) -> tuple[int, int]:
        """Requests asked and not yet answered, and their bytes."""
        return len(self._asked), self._bytes

    def look(self, awake: bool) -> None:
        """As the native door's."""
        self._sampler.look(awake)
        self._tally = self._kept_tally if awake or self._tallies else None

    def gauges(self) -> list[Value]:
        tally = self._tally
        pending = sum(asked.way in WRITES for asked in self._asked.values())
        refused = self.shares.gauges()
        return [
            ("pending", "", pending),
            *refused,
            *self._sampler.gauges(),
            *(tally.gauges() if tally is not None else ()),
        ]

    @property
    def stopping(self) -> bool:
        return self._stop_by is not None

    # --- from callers --------------------------------------------------------------------------------

    def ask(
        self,
        asker: Asker,
        op: int,
        fields: tuple[Any, ...],
        size: int,
        now: int,
        *,
        who: Who = NOBODY,
        share: Share | None = None,
    ) -> int:
        """`size`: the request's bytes, as they came. Sets out with the next `flush`.

        Raises a ZkvError when it will not be served; `asker` then hears nothing.
        """
        self._now = now
        way = check(op, fields, self._limits)
        if way & FILLED:
            way &= ~FILLED
            fields = filled(op, fields, self._limits)
        asked = _Asked(asker, op, fields, way, size=size, taken=now, share=share or self._house)
        asked.who = who
        if self._audit is not None:
            asked.told = described(op, fields)  # before a hash takes the password's place, and of neither
        try:
            self._let_in(asked, now)
            return self._ask(asked, now)
        except errors.ZkvError as error:
            self._note(asked, error.code)
            raise

    def _let_in(self, asked: _Asked, now: int) -> None:
        """Who asks? Raises InvalidAuthToken, Unavailable, and what is wrong with who asks for what is root's."""
        op, way, who = asked.op, asked.way, asked.who
        if self.callers.asks and op != m.Op.AUTHENTICATE:
            asked.caller = self.callers.caller(who, now)
            if asked.caller is not None and asked.caller[0] and asked.share is not self._house:
                asked.share = self.shares.of(USER, asked.caller[0])
            if way in _ROOTS:
                self.callers.check_root(asked.caller)

    def _note(self, asked: _Asked, code: int) -> None:
        if self._audit is not None and asked.told is not None and code != errors.Code.CHUNK:
            user = asked.caller[0] if asked.caller is not None else asked.who.common_name
            self._audit.note(Subject(user, asked.who.address), asked.told, code)

    def _log(self, op: int, fields: tuple[Any, ...], told: Told, now: int) -> None:
        """A request of the door's own. Raises a ZkvError when it cannot set out."""
        self._ask_for_ourselves(op, fields, WRITE, told, now)

    def _ask_about_leases(self, requests: Sequence[tuple[int, tuple[Any, ...]]], told: Told) -> None:
        for op, fields in requests:
            try:
                self._ask_for_ourselves(op, fields, LINEARIZABLE, told, self._now)
            except errors.ZkvError as error:
                told(error.code, 0, ())

    def _ask_for_ourselves(self, op: int, fields: tuple[Any, ...], way: int, told: Told, now: int) -> None:
        """Raises a ZkvError when it cannot set out."""
        asked = _Asked(_Told(told), op, fields, way, size=0, taken=now, share=self._house)
        asked.caller = m.HOUSE
        self._ask(asked, now)

    def _ask(self, asked: _Asked, now: int) -> int:
        way, size = asked.way, asked.size
        if way == WRITE and size > self._request_bytes_max:
            raise errors.RequestTooLarge
        if self._stop_by is not None:
            raise errors.Stopped
        if len(self._asked) >= self._asked_max or self._bytes + size > self._bytes_max:
            raise errors.TooManyRequests
        share = asked.share
        if share is not self._house:
            error = self.shares.ask(share, 1, size, now)
            if error is None and asked.op == _LEASE_GRANT:
                error = self._leases.grant(share, 1, now)
            if error is not None:
                raise error
        share.hold(size)
        self._last_id = id_ = self._last_id + 1
        if self._sampler.awake:
            self._sampler.request(asked.op, asked.fields)
        if self._tally is not None:
            self._tally.taken(way & ~(STREAMED | PASSWORD), 1, size)
        self._asked[id_] = asked
        self._bytes += size
        if way & PASSWORD:
            self._see_to_password(id_, asked, now)
        else:
            self._set_out(id_, asked)
        self._asked_at = now
        return id_

    def _see_to_password(self, id_: int, asked: _Asked, now: int) -> None:
        """Once that is done it sets out, or is answered. Raises TooManyRequests."""
        asked.way &= ~PASSWORD

        def told(code: int, revision: int, body: Any) -> None:
            if self._forget(id_) is not None:
                self._note(asked, code)
                asked.asker.answered(asked.op, code, revision, body)

        def go_on(fields: tuple[Any, ...]) -> None:
            asked.fields = fields
            if self._asked.get(id_) is asked:
                self._set_out(id_, asked)

        if asked.op == m.Op.AUTHENTICATE:
            self._logins.authenticate(asked.fields, now, told, asked.share)
            return
        try:
            self._logins.fill(asked.op, asked.fields, go_on, asked.share, now)
        except errors.TooManyRequests:
            self._forget(id_)
            raise

    def drop(self, id_: int) -> None:
        """Nobody waits for this one any more; it may be answered already. What it asked for may still happen."""
        asked = self._forget(id_)
        if asked is not None and asked.way >= STREAMED:
            self._post("storage", m.StreamCredit(asked.gid, id_, 0))

    def credit(self, id_: int) -> None:
        """One chunk of this range was taken."""
        asked = self._asked.get(id_)
        if asked is not None and not self._post("storage", m.StreamCredit(asked.gid, id_, 1)):
            self._settle(id_, errors.StreamLost())

    def _set_out(self, id_: int, asked: _Asked) -> None:
        op, fields, way = asked.op, asked.fields, asked.way
        if op not in _TOGETHER or way >= STREAMED or (op == _RANGE and len(fields) > _REVISION and fields[_REVISION]):
            asked.gid = self._number((id_,))
            payload = _payload(((id_, op, fields),), asked.caller)
            self._single.setdefault(way & ~STREAMED, []).append((asked.gid, payload))
        else:
            self._gather((way, asked.caller), (id_, op, fields), asked.size)

    def _gather(self, key: _Gathering, request: tuple[int, int, Any], size: int) -> None:
        together = self._gathered.get(key)
        if together is not None and (
            len(together.requests) >= self._requests_max or together.size + size > self._request_bytes_max
        ):
            self._close_group(key, together)
            together = None
        if together is None:
            together = self._gathered[key] = _Together()
        together.ids.append(request[0])
        together.requests.append(request)
        together.size += size

    def _close_group(self, key: _Gathering, together: _Together) -> None:
        way, caller = key
        gid = self._number(together.ids)
        self._single.setdefault(way, []).append((gid, _payload(together.requests, caller)))

    def _number(self, ids: Sequence[int]) -> int:
        self._last_gid += 1
        self._groups[self._last_gid] = ids
        return self._last_gid

    def flush(self) -> None:
        """What was asked in this turn leaves, in as few frames as entry_bytes_max allows."""
        self._deadlines.set(self._last_id, self._asked_at)
        if self._audit is not None:
            self._audit.flush(self._now)
        if self._gathered:
            for key, together in self._gathered.items():
                self._close_group(key, together)
            self._gathered.clear()
        if not self._single:
            return
        leaving, self._single = self._single, {}
        for way, groups in leaving.items():
            refused = self._frames.send(way, groups)
            if refused:
                self._refuse(refused, errors.TooManyRequests())

    # --- from the node ---------------------------------------------------------------------------------

    def mail(self, message: object, now: int) -> None:
        """All but what is about watches."""
        if type(message) is _ANSWERS:
            self._answers(message, now)
            return
        match message:
            case m.Confirmed() | m.AnsweredAhead():
                told = self._ahead.meet(message)
                if told is not None:
                    self.mail(told, now)
            case m.Refused(incarnation=incarnation, code=code, gids=gids):
                if incarnation == self._incarnation:
                    self._refuse(gids, errors.from_code(code))
            case m.AuthNews():
                self.callers.news(message, self._now)
            case m.LeaderIs(term=term, leader=leader):
                self._leader_is(term, leader)
            case m.Hello(actor=actor, incarnation=incarnation):
                if self._neighbours.get(actor) != incarnation:
                    self._neighbours[actor] = incarnation
                    self._neighbour_restarted(actor)
            case _:
                raise AssertionError(f"unexpected mail {type(message).__name__}")

    def _answers(self, mail: m.GatewayAnswers, now: int) -> None:
        if mail.incarnation != self._incarnation:
            return
        known = self._asked
        for gid, payload, last in mail.answers:
            if last:
                self._groups.pop(gid, None)
            message = codec.unpack(payload)
            term, answers = message[3], message[4]
            if self._tally is not None:
                self._tally.answered(0, len(payload), -1)
            self.term = max(self.term, term)
            for id_, code, revision, body in answers:
                self.revision = max(self.revision, revision)
                asked = known.get(id_)
                if asked is None:
                    if code == _CHUNK:  # a stream that was let go before storage had begun it
                        self._post("storage", m.StreamCredit(gid, id_, 0))
                    continue
                if code == _CHUNK:
                    self._started.add(id_)
                elif code == _OLD and self._is_known_anew(asked):
                    self._started.discard(id_)
                    self._set_out(id_, asked)
                    continue
                else:
                    self._forget(id_)
                    if asked.op == _LEASE_GRANT and code == _OK:
                        self._leases.granted(asked.share, 0, (body[0],))
                    if self._tally is not None:
                        self._tally.answered(asked.way & ~STREAMED, 0, now - asked.taken)
                    if now - asked.taken > self._slow.limit_ms and asked.way < STREAMED:
                        self._slow.answered(asked.way, 1, asked.size, taken=asked.taken, now=now, index=mail.index)
                self._note(asked, code)
                asked.asker.answered(asked.op, code, revision, body)
            if not last and not answers:  # it is under way, however long it takes: storage's _tell_under_way
                self._started.update(self._groups.get(gid, ()))

    def _is_known_anew(self, asked: _Asked) -> bool:
        """Nothing of it was done: may it be asked again, by somebody who is found out under the present revision?"""
        if asked.stale >= STALE_MAX or asked.caller == m.HOUSE:
            return False
        before, asked.stale = asked.caller, asked.stale + 1
        try:
            asked.caller = self.callers.caller(asked.who, self._now)
        except errors.ZkvError:
            return False
        return asked.caller != before

    def _leader_is(self, term: int, leader: int) -> None:
        deposed = self.leader != 0 and (term, leader) != (self._term_led, self.leader)
        self._term_led = term
        self.term = max(self.term, term)
        self.leader = self._frames.leader = leader
        if deposed:
            waiting = set(self._leaderless)  # those the leader of before never had
            self._settle_all(
                errors.LeaderChanged(),
                lambda id_, asked: (
                    asked.way in {WRITE, LEASE, MEMBERS} and id_ not in waiting and id_ not in self._started
                ),
            )
        self._ask_again()

    def _ask_again(self) -> None:
        if self.leader and self._leaderless:
            waiting, self._leaderless = self._leaderless, []
            for id_ in waiting:
                asked = self._asked.get(id_)
                if asked is not None:
                    self._set_out(id_, asked)

    def _neighbour_restarted(self, actor: str) -> None:
        """What the process before held is lost. A range that flows has passed raft and lives in storage alone."""
        started = self._started
        if actor == "storage":
            self._settle_all(errors.Unavailable(), lambda _id, _asked: True)
        elif actor in {"lease", LEADERS_LEASE}:
            self._settle_all(errors.Unavailable(), lambda _, asked: asked.way == LEASE)
        elif actor == "raft":
            self._settle_all(
                errors.Unavailable(), lambda id_, asked: id_ not in started and asked.way & ~STREAMED != LOCAL
            )

    # --- time ------------------------------------------------------------------------------------------

    def stop(self, now: int) -> None:
        """Nothing new; what is in flight has DRAIN_MS to be answered. Ranges in chunks would last too long."""
        if self._stop_by is None:
            self._stop_by = now + DRAIN_MS
            self._settle_all(errors.Stopped(), lambda id_, _: id_ in self._started)

    def drained(self, now: int) -> bool:
        return self._stop_by is not None and (not self._asked or now >= self._stop_by)

    def tick(self, now: int) -> None:
        """Requests that nobody answered in time. What flows is paced by storage, not by a deadline."""
        self._now = now
        self.passwords.tend()
        self._ask_again()
        over = self._deadlines.over(now)
        for id_ in over:
            asked = self._asked.get(id_)
            if asked is not None and id_ not in self._started:
                self._slow.timed_out(asked.way & ~STREAMED, 1, asked.size, taken=asked.taken, now=now)
                self._settle(id_, errors.RequestTimeout())
        for gid, ids in list(self._groups.items()) if over else ():  # those whose last answer was lost
            if ids[-1] >= over.stop:
                break
            if ids[-1] not in self._started:
                del self._groups[gid]

    # --- the life of a request -------------------------------------------------------------------------

    def _forget(self, id_: int) -> _Asked | None:
        asked = self._asked.pop(id_, None)
        if asked is not None:
            self._bytes -= asked.size
            asked.share.let_go(asked.size)
            if asked.op == _LEASE_GRANT:
                self._leases.granted(asked.share, 1, ())
            if asked.gid:
                self._started.discard(id_)
                self._groups.pop(asked.gid, None)
        return asked

    def _settle(self, id_: int, error: errors.ZkvError) -> None:
        asked = self._forget(id_)
        if asked is not None:
            if self._tally is not None:
                self._tally.failed[asked.way & ~STREAMED] += 1
            if asked.way >= STREAMED:
                self._post("storage", m.StreamCredit(asked.gid, id_, 0))
            self._note(asked, error.code)
            asked.asker.answered(asked.op, error.code, 0, error.fields())

    def _settle_all(self, error: errors.ZkvError, which: Callable[[int, _Asked], bool]) -> None:
        for id_ in [id_ for id_, asked in self._asked.items() if which(id_, asked)]:
            self._settle(id_, error)

    def _refuse(self, gids: Iterable[int], error: errors.ZkvError) -> None:
        for gid in gids:
            ids = self._groups.pop(gid, ())
            if type(error) is errors.NoLeader and not self.stopping:
                self._leaderless += [id_ for id_ in ids if id_ in self._asked]
                continue
            for id_ in ids:
                self._settle(id_, error)
