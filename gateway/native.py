"""The native door: ZeroMQ clients on one side, this node's raft and storage on the other.

A client's message (docs/PROTOCOL.md) becomes one *group* of requests, or a few (`envelope.py`), each of one way
through the node (`validate.py`). A group is numbered with a `gid`; those that came in one turn leave in one frame
per way:

    WRITE          Propose     -> raft -> (log, quorum) -> storage --+
    LINEARIZABLE   Read        -> raft -> (ReadIndex) ---> storage --+--> GatewayAnswers -> client
    STAMPED        Read(local) -> raft ------------------> storage --+
    LOCAL          StampedRead -------------------------> storage --+
    LEASE          LeaseRequests -> (the leader's lease) -----------+
    MEMBERS, RAFT  Propose(members) -> raft, which answers, or passes it on as WRITE
    LOOK           stays here: `looking.py`

(A lone linearizable read may go to storage while its ReadIndex round is under way; leaving.py's `Ahead` lets it out.)

A group lives in `_groups` from the moment it is taken until, exactly once, it is

    answered    storage sent its last answer
    refused     raft or storage said so (`Refused`), or its queue was full: nothing happened, ask again
    in doubt    LeaderChanged, Unavailable (a process of the node restarted), RequestTimeout: a write may have
                happened; retried within its session it gets the answer it would have had
    let go      its client is gone, or cancelled the range

and answers for a gid not found there are dropped. So the door never depends on an answer: if raft, storage or a
message between them is lost, the deadline ends the group. What it holds is bounded by the groups and bytes in
flight (a stream is a group). What a client does not read is dropped at its socket's high-water mark; of a stream the
rest is dropped too, for a range with a hole must not look whole.

Watches are another story: `watches.py`.

Nothing here touches a socket: `post` takes mail for the other actors, and bytes for a `Client`.
`start`, at the foot, puts it on one.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from zkv import errors
from zkv.gateway import envelope
from zkv.gateway.audit import Audit, Audited, Subject, WatchAudit, audited
from zkv.gateway.callers import Callers, Who, tokens_of
from zkv.gateway.doors import CERTIFIED_DOOR, CURVE_DOOR, PLAIN_DOOR, Client, Doors
from zkv.gateway.group import Group
from zkv.gateway.leaving import Ahead, Deadlines, Frames
from zkv.gateway.logins import Logins
from zkv.gateway.looking import Looking
from zkv.gateway.passwords import Passwords
from zkv.gateway.roster import Nowhere, Roster
from zkv.gateway.sampling import Sampler
from zkv.gateway.shares import USER, Leases, Shares
from zkv.gateway.slow import SlowRequests
from zkv.gateway.tally import WRITES, Tally
from zkv.gateway.threshold import USHER, Threshold
from zkv.gateway.validate import (
    GRANTING,
    LEASE,
    LINEARIZABLE,
    LOCAL,
    LOOK,
    MEMBERS,
    PASSWORD,
    RAFT,
    STREAMED,
    WRITE,
)
from zkv.gateway.watches import KINDS as WATCH_WORDS
from zkv.gateway.watches import Watches
from zkv.limits import NEVER
from zkv.mailbox import GONE, Mailbox, Stop
from zkv.urls import socket_endpoint
from zkv.wire import codec
from zkv.wire import messages as m
from zkv.wire.shapes import INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from zkv.actors.node import Node
    from zkv.config import Limits
    from zkv.gateway.logins import Told
    from zkv.gateway.roster import Whereabouts
    from zkv.gateway.shares import Share
    from zkv.gateway.watches import WatchAnswer
    from zkv.gauges import Value

DRAIN_MS: Final = 2_500
"""How long after Stop the groups in flight may still be answered (less than the supervisor's patience)."""
LEADERS_LEASE: Final = "leader's lease"
"""As such says Hello, from another member, the lease actor that has this gateway's keep-alives."""
PASSWORDS_MS: Final = 5
"""How often, while passwords are looked at beside, whether it is done."""
CREDIT_MAX: Final = 1 << 16
"""Chunks a client may ask for at once: no stream is as long."""
_REQUESTS: Final = int(m.ClientKind.REQUESTS)
_ROOTS: Final = frozenset({MEMBERS, RAFT, LOOK})
"""Ways of requests that are done, or looked at, before storage can say who may ask."""
NO_CLIENT: Final[Client] = ("", b"")
_DOORS: Final = frozenset({PLAIN_DOOR, CURVE_DOOR, CERTIFIED_DOOR})


class NativeGateway:
    """See the module. Driven by one thread; raises for nothing a client sends. `tallies`: somebody wants metrics."""

    def __init__(
        self,
        *,
        limits: Limits,
        member_id: int,
        cluster_id: int,
        incarnation: int,
        request_timeout_ms: int,
        leaderless_ms: int = 3_000,
        post: Callable[[Any, Any], bool],
        tallies: bool = False,
        slow_ms: int = 300,
        threshold: Threshold | None = None,
        actors: Sequence[str] = (),
        ring: Callable[[], object] = int,
        callers: Callers | None = None,
        bcrypt_cost: int = 10,
        audit: Audit | None = None,
        doors: Whereabouts | None = None,
    ) -> None:
        self._audit = audit
        self._now = 0
        self._shares = Shares(limits, "gateway")
        self._leases = Leases(self._shares, limits, self._ask_about_leases)
        self._roster = Roster(self._shares, doors or Nowhere(), threshold.guests if threshold is not None else None)
        self.finished = False
        self._kept_tally = Tally()
        self.counts: Counter[str] = Counter()
        """Errors answered, by class; answers dropped."""
        self._tallies = tallies
        self._tally = self._kept_tally if tallies else None
        self._sampler = Sampler(Random(incarnation))  # noqa: S311 - hides nothing
        self._looking = Looking(
            actors=actors, cluster_id=cluster_id, member_id=member_id, ring=ring, answer=self._looked
        )
        self._slow = SlowRequests("gateway", slow_ms, post)
        self._limits = limits
        self._member_id = member_id
        self._cluster_id = cluster_id
        self._incarnation = incarnation
        self._post = post
        self._threshold = threshold
        self._callers = callers or Callers(tokens_of("simple", 300))
        self._passwords = Passwords(bcrypt_cost, self._shares)
        self._logins = Logins(self._callers, self._passwords, self._log)
        self._groups: dict[int, Group] = {}
        self._bytes = 0
        self._last_gid = 0
        self._streams: dict[tuple[Client, int], int] = {}  # (client, request id) -> gid
        self._outgoing: dict[int, list[tuple[int, bytes]]] = {}  # way -> groups taken in this turn
        self._deadlines = Deadlines(request_timeout_ms)
        self._frames = Frames(member_id=member_id, incarnation=incarnation, bytes_max=limits.entry_bytes_max, post=post)
        self._ahead = Ahead(incarnation=incarnation, groups=self._groups, post=post)
        self._neighbours: dict[str, int] = {}  # actor -> its incarnation
        self._term = 0
        self._leader = 0
        self._drain_by: int | None = None
        self._watches = Watches(
            limits=limits,
            incarnation=incarnation,
            leaderless_ms=leaderless_ms,
            post=post,
            say=self._say,
            shares=self._shares,
        )
        self._watches.audit = WatchAudit(audit) if audit is not None else None

    @property
    def in_flight(self) -> tuple[int, int]:
        """Groups passed on and not yet answered, and their bytes."""
        return len(self._groups), self._bytes

    def gauges(self) -> Sequence[Value]:
        tally = self._tally
        pending = sum(group.way in WRITES for group in self._groups.values())
        numbers = (("groups", "", len(self._groups)), ("bytes", "", self._bytes), ("pending", "", pending))
        return [
            *numbers,
            *(("errors", kind, number) for kind, number in self.counts.items()),
            *self._shares.gauges(),
            *self._sampler.gauges(),
            *(tally.gauges() if tally is not None else ()),
        ]

    def look(self, awake: bool) -> None:
        """Somebody begins to look, or nobody does any more: what costs something is counted in between."""
        self._sampler.look(awake)
        self._tally = self._kept_tally if awake or self._tallies else None

    def handle(self, inbox: Sequence[tuple[str, object]], now: int) -> None:
        """Take in what came; the house's mail first, so that its answers make room for new requests.

        `inbox` holds (door, (connection, payload)) from clients, with None for what was no single frame, ("node",
        message) from raft, storage, watch and the usher, (GONE, (door, connection)), and ("supervisor", Stop()).
        """
        self._now = now
        requests: list[tuple[str, Any]] = []
        for source, message in inbox:
            if source in _DOORS:
                requests.append((source, message))
            elif source == GONE:
                departed: Any = message
                self._gone(departed)
            elif type(message) is m.GatewayAnswers:
                self._answers(message, now)
            elif type(message) is m.WatchOut:
                self._watches.out(message, now)
            elif type(message) is Stop:
                self._stop(now)
            elif type(message) is m.AuthNews:
                self._callers.news(message, now)
            else:
                self._mail(message)
        for door, (connection, payload) in requests:
            self._message((door, connection), payload, now)
        self._passwords.tend()
        self._deadlines.set(self._last_gid, now)
        for way, groups in self._outgoing.items():
            self._send(way, groups, now)
        self._outgoing.clear()
        if self._looking.waits:
            self._looking.tend(now, self._term)
        if now >= self._deadlines.next or self._drain_by is not None:
            self._expire(now)
        self._watches.tick(now)
        if self._audit is not None:
            self._audit.flush(now)
        self.finished = self._drain_by is not None and not self._groups

    def next_wakeup(self, now: int) -> int | None:
        due = self._watches.next_wakeup(now)
        if self._drain_by is not None:
            due = min(due, self._drain_by)
        if self._groups:
            due = min(due, self._deadlines.next)
        if self._passwords.is_busy:
            due = min(due, now + PASSWORDS_MS)
        if self._looking.waits:
            due = min(due, self._looking.next_wakeup())
        return due if due < NEVER else None

    # --- from clients --------------------------------------------------------------------------------

    def _message(self, client: Client, payload: bytes | None, now: int) -> None:
        if not self._roster.is_welcome(client, now):
            self._refuse(client, {0: errors.NotIntroduced()})
            return
        if payload is None:
            self._refuse(client, {0: errors.InvalidRequest("a message is one frame")})
            return
        share, turned_away = self._roster.who(client, now)
        self._watches.heard(client, now)
        kind, groups, refused, fields, token = envelope.read(payload, self._limits)
        if refused:
            self._refuse(client, refused)
        if turned_away is not None:
            self._refuse(client, dict.fromkeys([id_ for group in groups for id_ in group.ids], turned_away))
            if kind == m.ClientKind.WATCH:
                self._watches.word(client, kind, fields[:1], now, turned_away, share=share)
            return
        if groups:
            self._ask(client, groups, token, now, share)
        if kind in WATCH_WORDS:
            error = self._watch_word(client, kind, fields, now, share)
            if error is not None:
                self._refuse(client, {0: error})
        elif kind != _REQUESTS:
            self._word(client, kind, fields)

    def _gone(self, client: Client) -> None:
        self._roster.gone(client)
        self._watches.gone(client)

    def _ask(self, client: Client, groups: list[envelope.Group], token: str, now: int, share: Share) -> None:
        caller: m.Caller | None = None
        if self._callers.enabled or token:
            try:
                caller = self._callers.caller(Who(token, self._roster.common_name(client, now)), now)
            except errors.ZkvError as error:
                stranger = [group for group in groups if not envelope.authenticates(group)]
                self._refuse(client, dict.fromkeys([id_ for group in stranger for id_ in group.ids], error))
                for group in stranger if self._audit is not None else ():
                    self._audited(client, group.payload, None).failed(error)
                groups = [group for group in groups if envelope.authenticates(group)]
            if caller is not None and caller[0]:
                share = self._shares.of(USER, caller[0])
        for group in groups:
            if group.way & PASSWORD:
                self._ask_with_password(client, group, now, caller, share)
            else:
                self._take(client, group, now, caller, share)

    def _ask_with_password(
        self, client: Client, group: envelope.Group, now: int, caller: m.Caller | None, share: Share
    ) -> None:
        id_, payload = group.ids[0], group.payload
        error = self._unable(len(payload)) or self._shares.ask(share, 1, len(payload), now)
        if error is not None:
            self._turn_away(client, group.ids, payload, caller, error)
            return
        version, kind, session, floor, requests = codec.unpack(payload)
        (_, op, fields) = requests[0]
        if op == m.Op.AUTHENTICATE:
            noted = self._audited(client, payload, None) if self._audit is not None else None

            def told(code: int, revision: int, body: Any) -> None:
                if noted is not None:
                    noted.note(id_, code)
                self._answer(client, ((id_, code, revision, body),))

            self._logins.authenticate(fields, now, told, share)
        else:

            def go_on(filled: tuple[Any, ...]) -> None:
                data = codec.pack((version, kind, session, floor, ((id_, op, filled),)))
                self._take(client, envelope.Group(WRITE, (id_,), data), now, caller, share, is_paid=True)

            try:
                self._logins.fill(op, fields, go_on, share, now)
            except errors.TooManyRequests as refusal:
                self._turn_away(client, group.ids, payload, caller, refusal)

    def _log(self, op: int, fields: tuple[Any, ...], told: Told, now: int) -> None:
        """A request of the door's own. Raises Stopped, TooManyRequests."""
        self._ask_for_ourselves([(op, fields)], WRITE, told, now)

    def _ask_about_leases(self, requests: Sequence[tuple[int, tuple[Any, ...]]], told: Told) -> None:
        try:
            self._ask_for_ourselves(requests, LINEARIZABLE, told, self._now)
        except errors.ZkvError as error:
            told(error.code, 0, ())

    def _ask_for_ourselves(
        self, requests: Sequence[tuple[int, tuple[Any, ...]]], way: int, told: Told, now: int
    ) -> None:
        """`told` of each answer. Raises Stopped, TooManyRequests."""
        numbered = tuple((id_, *request) for id_, request in enumerate(requests, 1))
        payload = codec.pack((m.PROTOCOL_VERSION, int(m.ClientKind.REQUESTS), b"", 0, numbered, m.HOUSE))
        error = self._unable(len(payload))
        if error is not None:
            raise error
        self._set_out(
            NO_CLIENT, tuple(range(1, len(requests) + 1)), way, payload, now=now, share=self._shares.house
        ).told = told

    def _watch_word(
        self, client: Client, kind: int, fields: tuple[Any, ...], now: int, share: Share
    ) -> errors.ZkvError | None:
        caller: m.Caller | errors.ZkvError | None = None
        if kind == m.ClientKind.WATCH:
            token = ""
            if len(fields) == 2 and envelope.is_token(fields[1]):
                token = fields[1]
                fields = fields[:1]
            if self._callers.enabled or token:
                try:
                    caller = self._callers.caller(Who(token, self._roster.common_name(client, now)), now)
                except errors.ZkvError as error:
                    caller = error
        if isinstance(caller, tuple) and caller[0]:
            share = self._shares.of(USER, caller[0])
        subject = None
        if self._audit is not None and kind == m.ClientKind.WATCH:
            user = caller[0] if isinstance(caller, tuple) else self._roster.common_name(client, self._now)
            subject = Subject(user, self._roster.address(client))
        return self._watches.word(client, kind, fields, now, caller, subject=subject, share=share)

    def _unable(self, size: int) -> errors.ZkvError | None:
        """Why no group of `size` bytes can set out now."""
        limits = self._limits
        if self._drain_by is not None:
            return errors.Stopped()
        if len(self._groups) >= limits.in_flight_groups_max or self._bytes + size > limits.in_flight_bytes_max:
            return errors.TooManyRequests()
        return None

    def _take(
        self,
        client: Client,
        opened: envelope.Group,
        now: int,
        caller: m.Caller | None,
        share: Share,
        *,
        is_paid: bool = False,
    ) -> None:
        """A group sets out, if there is room. `is_paid`: its share has been asked."""
        way, ids, payload = opened
        grants = envelope.grants_in(payload) if way & GRANTING else ()
        way &= ~GRANTING
        if caller is not None:
            payload = envelope.with_caller(payload, caller)
        if way >= STREAMED and (client, ids[0]) in self._streams:  # Credit and Cancel could not tell the two apart
            self._refuse(client, {ids[0]: errors.InvalidRequest("a range with this id is on its way")})
            return
        error = self._unable(len(payload))
        if error is None and self._callers.asks and way & ~STREAMED in _ROOTS:
            error = self._callers.refusal_unless_root(caller)
        if error is None and not is_paid:
            error = self._shares.ask(share, len(ids), len(payload), now)
        if error is None and grants:
            error = self._leases.grant(share, len(grants), now)
        if error is not None:
            self._turn_away(client, ids, payload, caller, error)
            return
        group = self._set_out(client, ids, way, payload, now=now, share=share)
        group.grants = grants
        if self._audit is not None:
            group.audited = self._audited(client, payload, caller)

    def _turn_away(
        self, client: Client, ids: Iterable[int], payload: bytes, caller: m.Caller | None, error: errors.ZkvError
    ) -> None:
        """Before anything of it is done."""
        if self._audit is not None:
            self._audited(client, payload, caller).failed(error)
        self._refuse(client, dict.fromkeys(ids, error))

    def _audited(self, client: Client, payload: bytes, caller: m.Caller | None) -> Audited:
        assert self._audit is not None
        user = caller[0] if caller is not None else self._roster.common_name(client, self._now)
        return audited(self._audit, user, self._roster.address(client), payload)

    def _set_out(
        self, client: Client, ids: tuple[int, ...], way: int, payload: bytes, *, now: int, share: Share
    ) -> Group:
        gid = self._last_gid = self._last_gid + 1
        if way >= STREAMED:
            self._streams[client, ids[0]] = gid
        size = len(payload)
        if self._tally is not None:
            self._tally.taken(way & ~STREAMED, len(ids), size)
        if self._sampler.awake:
            self._sampler.message(payload, len(ids))
        self._bytes += size
        share.hold(size)
        group = self._groups[gid] = Group(client, ids, size, way, taken=now, share=share)
        self._outgoing.setdefault(way & ~STREAMED, []).append((gid, payload))
        return group

    def _word(self, client: Client, kind: int, fields: tuple[Any, ...]) -> None:
        """Credit, Cancel or Ping. A malformed one is answered under id 0: its own id, if any, is that of a range."""
        integers = all(type(field) is int and 0 <= field <= INT64_MAX for field in fields)
        if kind == m.ClientKind.CREDIT and integers and len(fields) == 2 and 0 < fields[1] <= CREDIT_MAX:
            id_, chunks = fields
            gid = self._streams.get((client, id_))
            if gid is not None and not self._post("storage", m.StreamCredit(gid, id_, chunks)):
                self._settle(gid, errors.StreamLost())
        elif kind == m.ClientKind.CANCEL and integers and len(fields) == 1:
            gid = self._streams.get((client, fields[0]))
            if gid is not None:
                self._let_go(gid)
        elif kind == m.ClientKind.PING and integers and len(fields) == 1:
            self._answer(client, (), token=fields[0])
        else:
            self._refuse(client, {0: errors.InvalidRequest("fields of a message")})

    # --- from raft, storage and the supervisor -----------------------------------------------------------

    def _answers(self, mail: m.GatewayAnswers, now: int) -> None:
        if mail.incarnation != self._incarnation:
            return
        groups = self._groups
        for gid, payload, last in mail.answers:
            group = groups.get(gid)
            if group is None:
                if not last:
                    self._end_stray_stream(gid, payload)
                continue
            if self._tally is not None:
                self._tally.answered(group.way & ~STREAMED, len(payload), now - group.taken if last else -1)
            if last:
                self._forget(gid)
                if now - group.taken > self._slow.limit_ms and group.way < STREAMED:  # a range's client sets the pace
                    self._slow.answered(
                        group.way, len(group.ids), group.size, taken=group.taken, now=now, index=mail.index
                    )
            elif group.way >= STREAMED:
                group.started = True
            else:  # a part of the group; the rest follows
                answered = {id_ for id_, *_ in codec.unpack(payload)[4]}
                group.ids = tuple(id_ for id_ in group.ids if id_ not in answered)
                group.started = not answered  # it is under way, however long it takes: storage's _tell_under_way
            if group.audited is not None:
                group.audited.answered(payload)
            if group.grants:
                given = [body for id_, code, _, body in codec.unpack(payload)[4] if not code and id_ in group.grants]
                self._leases.granted(group.share, 0, [body[0] for body in given if body])
            if group.told is not None:
                for _, *answer in codec.unpack(payload)[4]:
                    group.told(*answer)
            elif not self._post(group.client, payload):
                self.counts["answers dropped"] += 1
                if group.started and not last:
                    self._let_go(gid)

    def _mail(self, message: object) -> None:
        match message:
            case m.Refused(incarnation=incarnation, code=code, gids=gids):
                if incarnation == self._incarnation:
                    for gid in gids:
                        self._settle(gid, errors.from_code(code))
            case m.AnsweredAhead() | m.Confirmed():
                told = self._ahead.meet(message)
                if type(told) is m.GatewayAnswers:
                    self._answers(told, self._now)
                elif told is not None:
                    self._mail(told)
            case m.LeaderIs(term=term, leader=leader):
                self._leader_is(term, leader)
            case m.Gauges():
                self._looking.told(message)
            case m.Hello(actor=actor, incarnation=incarnation):
                if self._neighbours.get(actor) != incarnation:
                    self._neighbours[actor] = incarnation
                    self._neighbour_restarted(actor)
            case m.Admit() | m.Dismiss():
                assert self._threshold is not None
                gone = self._threshold.heard(message)
                if gone:
                    self._watches.end_those(lambda client: self._roster.is_guest(client, gone), errors.NotIntroduced())
            case _:
                raise AssertionError(f"unexpected mail {type(message).__name__}")

    def _leader_is(self, term: int, leader: int) -> None:
        """Writes given to a leader that leads no more: its successor may have them, or not."""
        deposed = self._leader != 0 and (term, leader) != (self._term, self._leader)
        self._term = term
        self._leader = self._frames.leader = leader
        self._watches.leader_is(leader)
        if deposed:
            self._settle_all(errors.LeaderChanged(), lambda group: group.way in {WRITE, LEASE, MEMBERS})

    def _neighbour_restarted(self, actor: str) -> None:
        """What the process before held is lost. A stream that flows has passed raft and lives in storage alone."""
        if actor == "watch":
            self._watches.actor_restarted()
        elif actor == "storage":
            self._settle_all(errors.StreamLost(), lambda group: group.started and group.way >= STREAMED)
            self._settle_all(errors.Unavailable(), lambda _: True)
        elif actor in {"lease", LEADERS_LEASE}:
            self._settle_all(errors.Unavailable(), lambda group: group.way == LEASE)
        elif actor == USHER and self._threshold is not None:
            self._threshold.introduce()
        elif actor == "raft":
            self._settle_all(errors.Unavailable(), lambda group: not group.started and group.way & ~STREAMED != LOCAL)

    def _stop(self, now: int) -> None:
        """Refuse what is new; what is in flight has until `_drain_by`. Streams would last too long."""
        if self._drain_by is None:
            self._drain_by = now + DRAIN_MS
            self._watches.close()
            self._settle_all(errors.StreamLost(), lambda group: group.started and group.way >= STREAMED)

    def _expire(self, now: int) -> None:
        """Groups that nobody answered in time. Streams that flow are paced by storage, not by a deadline."""
        for gid in self._deadlines.over(now):
            group = self._groups.get(gid)
            if group is not None and not group.started:
                self._slow.timed_out(group.way & ~STREAMED, len(group.ids), group.size, taken=group.taken, now=now)
                self._settle(gid, errors.RequestTimeout())
        if self._drain_by is not None and now >= self._drain_by:
            self._settle_all(errors.Unavailable(), lambda _: True)

    # --- the life of a group -------------------------------------------------------------------------------

    def _send(self, way: int, groups: list[tuple[int, bytes]], now: int) -> None:
        """The groups of one way leave."""
        if way == LOOK:
            self._looking.asked(groups, now)
            return
        for gid in self._frames.send(way, groups):
            self._settle(gid, errors.TooManyRequests())

    def _looked(self, gid: int, payload: bytes) -> None:
        group = self._forget(gid)
        if group is not None and not self._post(group.client, payload):
            self.counts["answers dropped"] += 1

    def _forget(self, gid: int) -> Group | None:
        group = self._groups.pop(gid, None)
        if group is not None:
            self._bytes -= group.size
            group.share.let_go(group.size)
            if group.grants:
                self._leases.granted(group.share, len(group.grants), ())
            if group.way >= STREAMED:
                del self._streams[group.client, group.ids[0]]
        return group

    def _let_go(self, gid: int) -> Group | None:
        """Nobody waits for this group any more. Should the word get lost, storage's patience ends the stream."""
        group = self._forget(gid)
        if group is not None and group.way >= STREAMED:
            self._post("storage", m.StreamCredit(gid, group.ids[0], 0))
        return group

    def _settle(self, gid: int, error: errors.ZkvError) -> None:
        """End a group with one error for all its requests."""
        group = self._let_go(gid)
        if group is not None and self._tally is not None:
            self._tally.failed[group.way & ~STREAMED] += 1
        if group is not None and group.told is not None:
            group.told(error.code, 0, ())
        elif group is not None and group.ids:
            if group.audited is not None:
                group.audited.failed(error)
            self._refuse(group.client, dict.fromkeys(group.ids, error))

    def _settle_all(self, error: errors.ZkvError, which: Callable[[Group], bool]) -> None:
        for gid in [gid for gid, group in self._groups.items() if which(group)]:
            self._settle(gid, error)

    def _end_stray_stream(self, gid: int, payload: bytes) -> None:
        """Chunks of a stream that was let go before storage had begun it."""
        for id_, code, *_ in codec.unpack(payload)[4]:
            if code == errors.Code.CHUNK:
                self._post("storage", m.StreamCredit(gid, id_, 0))

    # --- the gateway's own answers -----------------------------------------------------------------------------

    def _refuse(self, client: Client, refused: dict[int, errors.ZkvError]) -> None:
        for error in refused.values():
            self.counts[type(error).__name__] += 1
        self._answer(client, tuple((id_, e.code, 0, e.fields()) for id_, e in refused.items()))

    def _answer(self, client: Client, answers: Iterable[tuple[int, int, int, object]], token: int = 0) -> None:
        if not self._post(client, codec.pack(m.Answers(*self._head(), tuple(answers), token))):
            self.counts["answers dropped"] += 1

    def _say(self, client: Client, watches: tuple[WatchAnswer, ...]) -> bool:
        """Watch answers of the gateway's own; False if they could not be sent."""
        return self._post(client, codec.pack(m.Answers(*self._head(), (), 0, watches)))

    def _head(self) -> tuple[int, int, int, int]:
        return m.PROTOCOL_VERSION, self._cluster_id, self._member_id, self._term


# --- the process -------------------------------------------------------------------------------------------------

NEIGHBOURS: Final = ("raft", "storage", "lease", "watch")
REQUEST_TIMEOUT_MS: Final = 5_000
"""And two election timeouts, as in etcd."""
LEADERLESS_ELECTIONS: Final = 3
"""Watches end when so many election timeouts have passed without a leader."""


def start(node: Node, incarnation: int) -> tuple[NativeGateway, Mailbox]:
    """The door on its sockets, for `mailbox.run`."""
    config = node.config
    introduced = bool(config.introduced_client_urls)
    neighbours = (*NEIGHBOURS, USHER) if introduced else NEIGHBOURS
    mailbox = Mailbox(node.rundir, "gateway", neighbours, reports=node.reports)
    threshold = Threshold(partial(mailbox.post, USHER)) if introduced else None
    doors = Doors(mailbox, node.limits)
    for url in config.native_client_urls:
        endpoint = socket_endpoint(url)
        if endpoint.secure and threshold is not None:
            guests = threshold.guests if config.client_security.verifies else None
            doors.listen_certified(endpoint.host, endpoint.port, threshold.keys, guests)
        elif endpoint.secure:
            doors.listen_curve(endpoint.host, endpoint.port, config.curve_secret_key, config.curve_allow_dir)
        else:
            doors.listen_plain(endpoint.host, endpoint.port)
    gateway = NativeGateway(
        limits=node.limits,
        member_id=node.member_id,
        cluster_id=node.cluster_id,
        incarnation=incarnation,
        request_timeout_ms=REQUEST_TIMEOUT_MS + 2 * config.election_timeout,
        leaderless_ms=LEADERLESS_ELECTIONS * config.election_timeout,
        post=doors.post,
        tallies=node.reports,
        slow_ms=config.warning_ms()[1],
        threshold=threshold,
        actors=node.actors,
        ring=lambda: mailbox.ring_at(node.actors),
        callers=Callers(tokens_of(config.auth_token, config.auth_token_ttl)),
        bcrypt_cost=config.bcrypt_cost,
        audit=Audit(config.audit_log, "native") if config.audit_log else None,
        doors=doors,
    )
    mailbox.on_look = gateway.look
    for neighbour in NEIGHBOURS:
        mailbox.post(neighbour, m.Hello("gateway", incarnation))
    return gateway, mailbox
