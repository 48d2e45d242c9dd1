"""What a client is, without its sockets: requests in, messages out, answers in, results out.

No socket, clock, random source or thread here: `now` (ms, monotonic), chance and a seed come in. The shells
(`client.py`, `async_client.py`, the benchmark) carry bytes and wake whoever waits:

    ticket = session.submit(request, deadline)          a caller asks
    for endpoint, data in session.outgoing(now): ...    all asked since the last time, in as few messages as can be
    session.received(endpoint, data, now)               also connected(), disconnected(), and tick() at next_wakeup()
    for ticket in session.news(): ...                   those that got done (or a chunk) since the last time

Three machines run in one object.

**Tickets** (`ticket.py`): QUEUED -> SENT -> DONE, and back by way of a retry. Queued tickets leave when an endpoint is
connected, in lanes (`lanes.py`), so that a gateway can pass a whole message one way.

**Endpoints** (`endpoints.py`): all traffic goes to one until it fails. What fails it: a lost connection, silence while
it owes answers, an answer that is none, and errors that tell that another member would serve better.

**Sessions** (`ledger.py`): a write is (session, id), applied once however often and wherever it is sent. So every
retry is safe, and the client may be impatient. When the cluster has forgotten the session (SessionExpired), or may have
(long unused), a new one begins. A write in doubt never changes its session.

Invariants
- Every ticket gets done: by its answer, its deadline, `cancel` or `close`. Only a stream whose chunks lie here untaken
  has no deadline.
- A ticket is done once; whatever comes for its ids afterwards is dropped.
- `maybe_applied` of a write's error is False only if no attempt can have been, or can still become, applied.
- Chunks of a range are taken from one attempt only, in order; the rest of a lost one is asked for under a new id.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from zkv.client.answers import parse
from zkv.client.endpoints import Endpoints
from zkv.client.fields import PUT, fields_of
from zkv.client.lanes import ALONE, LANE_OF, OP_OF, WRITE, Lane, lane_of
from zkv.client.ledger import Ledger, session_name
from zkv.client.retry import RETRY_AFTER_MS_MAX, RetryPolicy
from zkv.client.stream import StoreStream, Stream
from zkv.client.ticket import DELAYED, DONE, FOREVER, QUEUED, SENT, Ticket
from zkv.errors import (
    AnswerLost,
    AuthOldRevision,
    ClientClosed,
    Code,
    ConnectionFailed,
    CorruptionError,
    DeadlineExceeded,
    InvalidRequest,
    LeaderChanged,
    NotIntroduced,
    OverRate,
    RequestTimeout,
    RequestTooLarge,
    RetryableError,
    SessionExpired,
    StreamLost,
    TooManyRequests,
    Unavailable,
    UnsupportedVersion,
    ZkvError,
    from_code,
)
from zkv.limits import Limits
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zkv.client.feed import Feed
    from zkv.client.login import Login
    from zkv.client.watching import Watching

IN_FLIGHT_MAX = 8192
"""Requests of one session sent and not yet answered; further ones wait in the client."""

INDEX_MAX = (1 << 63) - 1

BLAMELESS = (AuthOldRevision, LeaderChanged, OverRate, RequestTimeout, StreamLost, TooManyRequests)
"""Retryable errors that say nothing against the endpoint they came from."""

OK: Final = int(Code.OK)
CHUNK: Final = int(Code.CHUNK)
RANGE: Final = int(m.Op.RANGE)
SNAPSHOT: Final = int(m.Op.SNAPSHOT)
CHUNKED: Final = frozenset((RANGE, SNAPSHOT))
"""Ops whose answers may come in chunks."""
REQUESTS: Final = int(m.ClientKind.REQUESTS)
CREDIT: Final = int(m.ClientKind.CREDIT)
CANCEL: Final = int(m.ClientKind.CANCEL)


class Reply(NamedTuple):
    """One answer of a message, and where it came from."""

    id: int
    code: int
    revision: int
    body: Any
    endpoint: int
    origin: tuple[int, int, int]


class Session:
    """One client's requests.

    `chance` is random bytes, 8 or more, that nobody else has; `seed` is for the choice of endpoints, jitter and later
    sessions, and must be as hard to guess.
    """

    def __init__(
        self,
        endpoints: int,
        chance: bytes,
        seed: int,
        *,
        now: int = 0,
        limits: Limits | None = None,
        retry: RetryPolicy | None = None,
        login: Login | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.retry = retry or RetryPolicy()
        self._rng = Random(seed)  # noqa: S311 (chance comes in with the seed)
        self._endpoints = Endpoints(endpoints, self._rng, self.retry.suspect_ms)
        self._ledger = Ledger(session_name(0, chance[-8:]), now)
        self._born = 0  # the newest log index that SessionExpired has told
        self._next_id = 1
        self._queues: tuple[deque[Ticket], ...] = tuple(deque() for _ in Lane)
        self._special: list[Ticket] = []  # queued too, but not for whichever endpoint: retries, and pinned ones
        self._delayed: dict[Ticket, None] = {}  # retries that wait for their time
        self._sent: dict[int, Ticket] = {}  # by id; a read that was retried is here under several
        self.reasons: Mapping[int, str] = {}
        """Why endpoints are not connected, as far as it is known."""
        self.stranger_to: set[int] = set()
        """Endpoints that do not know us any more, since the transport has looked last."""
        self._controls: list[tuple[int, bytes]] = []  # credits and cancels to go out
        self._news: list[Ticket | Feed] = []
        self._wake = FOREVER
        self._closed = False
        self._why_closed = ""
        self._watching: Watching | None = None
        self._login = login

    @property
    def watching(self) -> Watching:
        """The watch half; what is done with it shows in the session's outgoing(), next_wakeup() and news()."""
        if self._watching is None:
            from zkv.client.watching import Watching  # a command that only puts does not pay for it

            self._watching = Watching(self._endpoints, self.limits, self.retry, self._rng, self._login)
            if self._closed:
                self._watching.close(self._why_closed)
        return self._watching

    # --- what callers do -------------------------------------------------------------------------

    def submit(
        self,
        request: m.Request,
        deadline: int,
        context: object = None,
        *,
        endpoint: int | None = None,
        stream: bool = False,
    ) -> Ticket:
        """Ask. The ticket gets done by `deadline` at the latest.

        `endpoint` pins it to one. With `stream` a range's chunks are handed out as they come, to be taken by
        `next_chunk`; otherwise they gather in the answer. A snapshot always is a stream.
        """
        cls = type(request)
        op, lane = OP_OF[cls], LANE_OF.get(cls)
        if lane is None:
            lane = lane_of(request)
        ticket = Ticket(request, op, lane, deadline, context)
        if op == SNAPSHOT:
            assert isinstance(request, m.Snapshot)
            ticket.stream = StoreStream(request)
        elif stream:
            assert isinstance(request, m.Range)
            ticket.stream = Stream(request, auto=False)
        if self._closed:
            self._finish(ticket, ClientClosed(self._why_closed))
        elif endpoint is None:
            self._queues[lane].append(ticket)
        else:
            ticket.pinned = endpoint
            self._special.append(ticket)
        self._wake = min(self._wake, deadline)
        return ticket

    def next_chunk(self, ticket: Ticket, now: int, deadline: int) -> Any:
        """Take a chunk of a stream, which lets the server send another one; None when none is there (yet).

        While chunks lie here untaken no deadline runs: it is the caller who lets wait. `deadline` is for the next one,
        and stands from when it was first asked for, however often the caller looks again.
        """
        stream = ticket.stream
        assert stream is not None
        if stream.chunks:
            chunk = stream.chunks.popleft()
            # Room for one more, counting what lies here untaken, also of a former attempt.
            if ticket.state is SENT and stream.owed + len(stream.chunks) < self.limits.chunk_credit:
                self._give_credit(ticket, stream, now)
            return chunk
        if not ticket.done and ticket.deadline == FOREVER:
            ticket.deadline = deadline
            self._wake = min(self._wake, deadline)
        return None

    def cancel(self, ticket: Ticket | Feed) -> None:
        """The caller wants no answer, no event any more. A write may be applied all the same."""
        if not isinstance(ticket, Ticket):
            self.watching.cancel(ticket)
        elif not ticket.done:
            if ticket.op in CHUNKED and ticket.state is SENT:
                self._cancel_at(ticket.endpoint, ticket.id)
            self._finish(ticket, self._in_doubt(ticket, ClientClosed(self._why_closed)))

    def close(self, why: str = "") -> None:
        """All that is still open ends with ClientClosed."""
        self._closed = True
        self._why_closed = self._why_closed or why
        for ticket in list(self._everyone()):
            self.cancel(ticket)
        if self._watching is not None:
            self._watching.close(self._why_closed)

    def news(self) -> list[Ticket | Feed]:
        """Tickets that got done, streams that got a chunk, and feeds with news, since the last call."""
        news = self._news
        self._news = []
        if self._watching is not None:
            news += self._watching.news()
        return news

    # --- what the sockets say --------------------------------------------------------------------

    def connected(self, endpoint: int, now: int) -> None:
        self._endpoints.connected[endpoint] = True
        self._endpoints.heard_at[endpoint] = now

    def disconnected(self, endpoint: int, now: int) -> None:
        """What was sent there may be lost: all of it is tried elsewhere, or here once the connection is back."""
        self._endpoints.connected[endpoint] = False
        self._fail_over(endpoint, now, Unavailable("connection lost"), gone=True)

    def received(self, endpoint: int, data: bytes | memoryview, now: int) -> None:
        """A message from a gateway. One that makes no sense discredits the endpoint, as a lost connection does."""
        self._endpoints.heard_at[endpoint] = now
        try:
            message: tuple[Any, ...] = unpack(data)
            answers: tuple[tuple[Any, ...], ...]
            version, cluster_id, member_id, raft_term, answers = message if len(message) == 5 else message[:5]
            if version != m.PROTOCOL_VERSION:
                raise UnsupportedVersion(f"the endpoint speaks {version!r}")  # noqa: TRY301 (one way out for nonsense)
            origin = (cluster_id, member_id, raft_term)
            if tuple(map(type, origin)) != (int, int, int):
                raise TypeError("header")  # noqa: TRY301
            sent = self._sent
            for answer in answers:
                id_, code, revision, body = answer if len(answer) == 4 else answer[:4]
                ticket = sent.get(id_)
                if ticket is None:
                    if id_ == 0 and code == UnsupportedVersion.code:
                        raise UnsupportedVersion(_detail(body))  # noqa: TRY301
                    if id_ == 0 and code == NotIntroduced.code:
                        raise NotIntroduced  # noqa: TRY301
                    continue
                if type(revision) is not int:
                    raise TypeError("revision")  # noqa: TRY301 (one way out for nonsense)
                if code == OK and ticket.stream is None:
                    ticket.answer = parse(ticket.op, body)
                    ticket.revision = revision
                    ticket.origin = origin
                    self._finish(ticket, None)
                else:
                    self._special_reply(ticket, Reply(id_, code, revision, body, endpoint, origin), now)
            if len(message) > 6 and self._watching is not None:
                self._watching.received(endpoint, origin, message[6], len(data), now)
        except NotIntroduced as error:
            self.stranger_to.add(endpoint)
            self._fail_over(endpoint, now, Unavailable(str(error)))
        except (CorruptionError, UnsupportedVersion) as error:
            self._fail_over(endpoint, now, error)
        except (TypeError, ValueError, LookupError) as error:
            self._fail_over(endpoint, now, CorruptionError(f"no answers: {type(error).__name__}"))

    def tick(self, now: int) -> None:
        """Deadlines, waits of retries, silences. Costs nothing before `next_wakeup`."""
        if self._watching is not None:
            self._watching.tick(now)
        if now < self._wake:
            return
        self._wake = FOREVER
        for ticket in list(self._everyone()):
            if ticket.state is DONE:
                continue
            if ticket.deadline <= now:
                self._finish(ticket, self._in_doubt(ticket, DeadlineExceeded(self._excuse(ticket))))
                continue
            if ticket.due <= now:
                self._overdue(ticket, now)
            self._wake = min(self._wake, ticket.deadline, ticket.due)

    def next_wakeup(self) -> int | None:
        """When `tick` has something to do, if nothing else happens before."""
        wake = self._wake if self._watching is None else min(self._wake, self._watching.next_wakeup())
        return None if wake == FOREVER else wake

    def outgoing(self, now: int) -> list[tuple[int, bytes]]:
        """(endpoint, message) for all that can be sent now."""
        out = self._controls
        self._controls = []
        if self._login is not None and self._login.token is None and self._is_wanted():
            self._log_in(self._login.ask(ALONE), now, out)
            return out
        for lane, queue in enumerate(self._queues):
            while queue:
                endpoint = self._endpoints.pick(now)
                if endpoint is None or not (tickets := self._take(lane, queue)):
                    break
                self._send(endpoint, self._fresh_ledger(now) if lane == WRITE else None, tickets, now, out)
        if self._special:
            self._send_special(now, out)
        if self._watching is not None:
            self._watching.outgoing(now, out)
        return out

    # --- who asks --------------------------------------------------------------------------------

    def _is_wanted(self) -> bool:
        """Somebody wants something to be sent."""
        waiting = (*self._queues, self._special)  # those that got done meanwhile lie there still
        return any(ticket.state is QUEUED for tickets in waiting for ticket in tickets) or (
            self._watching is not None and self._watching.is_wanted
        )

    def _log_in(self, ticket: Ticket, now: int, out: list[tuple[int, bytes]]) -> None:
        """All else waits for its answer."""
        endpoint = self._endpoints.pick(now, ticket.avoid) if ticket.state is QUEUED else None
        if endpoint is not None:
            self._send(endpoint, None, [ticket], now, out)

    def _logged_in(self, login: Login, ticket: Ticket) -> None:
        error = login.told(ticket)
        if error is None:
            return
        for waiting in [*self._special, *(each for queue in self._queues for each in queue)]:
            if waiting is not ticket and waiting.state is QUEUED:
                self._finish(waiting, self._in_doubt(waiting, type(error)(error.detail)))
        if self._watching is not None:
            self._watching.refuse(error)

    # --- sending ---------------------------------------------------------------------------------

    def _take(self, lane: int, queue: deque[Ticket]) -> list[Ticket]:
        """The next tickets of a lane that fit into one message and into what may be in flight."""
        room = min(1 if lane == ALONE else self.limits.message_requests_max, IN_FLIGHT_MAX - len(self._sent))
        if lane == WRITE:
            self._ledger.floor(self._next_id)
            room = min(room, self.limits.session_answers_max - len(self._ledger.open))
        tickets: list[Ticket] = []
        size = 0
        while queue and len(tickets) < room and size < self.limits.request_bytes_max:
            ticket = queue.popleft()
            if ticket.state is QUEUED:
                tickets.append(ticket)
                if ticket.op == PUT:  # what may be large; `_send` looks at the exact size
                    put: Any = ticket.request
                    size += len(put.value)
        return tickets

    def _send(
        self, endpoint: int, ledger: Ledger | None, tickets: list[Ticket], now: int, out: list[tuple[int, bytes]]
    ) -> None:
        """Tickets of one lane (writes: of one session) to one endpoint: one message, or more if it grows too large.

        One that is too large by itself, or that cannot be put into a message at all, is refused; the others go on.
        """
        sent = self._sent
        requests: list[tuple[int, int, object]] = []
        for ticket in tickets:
            if ticket.ledger is None:  # a write has one and keeps its name; a read gets a new one for each attempt
                ticket.id = self._next_id
                self._next_id += 1
                if ledger:
                    ticket.ledger = ledger
                    ledger.open.append(ticket)
            sent[ticket.id] = ticket
            requests.append((ticket.id, ticket.op, fields_of(ticket.op, ticket.request)))
        session, floor = (ledger.session, ledger.floor(self._next_id)) if ledger else (b"", 0)
        token = self._login.token if self._login is not None else None
        message = (m.PROTOCOL_VERSION, REQUESTS, session, floor, requests)
        refusal: ZkvError | None = None
        try:
            data = pack((*message, token) if token else message)
        except (TypeError, ValueError, OverflowError) as error:
            data = b""
            refusal = InvalidRequest(str(error))
        if not data or len(data) > self.limits.request_bytes_max:
            half = len(tickets) // 2
            if half:
                self._send(endpoint, ledger, tickets[:half], now, out)
                self._send(endpoint, ledger, tickets[half:], now, out)
            else:
                self._finish(tickets[0], self._in_doubt(tickets[0], refusal or RequestTooLarge()))
            return
        if ledger:
            ledger.used_at = now
        due = now + self.retry.silence_ms
        for ticket in tickets:
            ticket.state = SENT
            ticket.endpoint = endpoint
            ticket.sent_at = now
            ticket.due = due
            if ticket.tries:
                ticket.due = now + self._patience(ticket)
            else:
                ticket.first_sent = now
            if ticket.stream:
                ticket.stream.owed = self.limits.chunk_credit
        self._wake = min(self._wake, due)
        out.append((endpoint, data))

    def _send_special(self, now: int, out: list[tuple[int, bytes]]) -> None:
        """Retries and pinned tickets: together where lane, session and endpoint agree."""
        waiting = dict.fromkeys(self._special)
        self._special = []
        batches: dict[tuple[int, int, Ledger | None], list[Ticket]] = {}
        for ticket in waiting:
            if ticket.state is not QUEUED:  # an earlier attempt was answered after all
                continue
            endpoint = ticket.pinned
            if endpoint is None:
                endpoint = self._endpoints.pick(now, ticket.avoid)
            if endpoint is None or not self._endpoints.connected[endpoint]:
                self._special.append(ticket)
            elif ticket.tries and not self._kept(ticket, now):
                self._finish(ticket, self._in_doubt(ticket, ConnectionFailed("too late to try again")))
            else:
                ledger = ticket.ledger or (self._fresh_ledger(now) if ticket.lane == WRITE else None)
                batches.setdefault((endpoint, ticket.lane, ledger), []).append(ticket)
        for (endpoint, lane, ledger), tickets in batches.items():
            step = 1 if lane == ALONE else self.limits.message_requests_max
            for start in range(0, len(tickets), step):
                self._send(endpoint, ledger, tickets[start : start + step], now, out)

    def _fresh_ledger(self, now: int) -> Ledger:
        """The session for new writes: another one when the cluster may be about to forget the present one."""
        ledger = self._ledger
        if not ledger.open and now - ledger.used_at > self.limits.session_idle_ms // 2:
            ledger = self._ledger = self._new_ledger(now)
        return ledger

    def _new_ledger(self, now: int) -> Ledger:
        return Ledger(session_name(self._born, self._rng.randbytes(8)), now)

    def _kept(self, ticket: Ticket, now: int) -> bool:
        """Does the cluster still remember the answer, should the write have been applied?"""
        return ticket.lane != WRITE or now - ticket.first_sent < self.limits.session_kept_ms

    def _patience(self, ticket: Ticket) -> int:
        """How long an attempt may take: longer each time, so that what is slow is not asked for ever more often."""
        return self.retry.silence_ms << min(ticket.tries, 4)

    # --- answers ---------------------------------------------------------------------------------

    def _finish(self, ticket: Ticket, error: ZkvError | None) -> None:
        assert ticket.state is not DONE
        if ticket.state is DELAYED:
            del self._delayed[ticket]
        ticket.state = DONE
        ticket.error = error
        self._sent.pop(ticket.id, None)
        if ticket.past:
            self._forget_past(ticket)
        if self._login is not None and ticket is self._login.ticket:
            self._logged_in(self._login, ticket)
            return
        self._news.append(ticket)

    def _special_reply(self, ticket: Ticket, reply: Reply, now: int) -> None:
        """An error, or part of a stream."""
        if reply.code in {OK, CHUNK}:
            self._chunk(ticket, reply, now)
            return
        if type(reply.code) is not int:
            raise TypeError("code")
        error = from_code(reply.code, _detail(reply.body), _hint(reply.body))
        present = ticket.state is SENT and ticket.endpoint == reply.endpoint and ticket.id == reply.id
        if self._login is not None and present and ticket is not self._login.ticket:
            error = self._login.refused(error, first=ticket.tries == 0)
        if isinstance(error, RetryableError):
            if present:  # what a former attempt's member says does not matter: another one is on its way
                if not isinstance(error, BLAMELESS):
                    self._endpoints.suspect(reply.endpoint, now)
                self._again(ticket, error, now)
            return
        ticket.origin = reply.origin
        ticket.revision = reply.revision
        if isinstance(error, SessionExpired) and ticket.ledger:
            if ticket.ledger is self._ledger:
                self._born = max(self._born, _index(error.detail))
                self._ledger = self._new_ledger(now)
            # No attempt was applied, nor will be: this was the only one, or the session would be remembered still.
            never_applied = not ticket.doubt or now - ticket.first_sent < self.limits.session_kept_ms // 2
            if present and never_applied:
                ticket.ledger.open.remove(ticket)
                ticket.ledger = None
                ticket.doubt = False
                del self._sent[ticket.id]
                error = Unavailable("session expired")
                error.maybe_applied = False
                self._again(ticket, error, now)
                ticket.avoid = None  # nothing is wrong with the endpoint
                return
            if never_applied:
                return  # what a former attempt was told; the present one will be told the same
        if isinstance(error, AnswerLost):
            error.revision = reply.revision
        self._finish(ticket, error)

    def _again(self, ticket: Ticket, error: ZkvError, now: int) -> None:
        """The present attempt has failed: plan another one, or give up."""
        ticket.state = QUEUED  # no attempt is under way; what may come of former ones, `doubt` says
        ticket.doubt = ticket.doubt or (error.maybe_applied and ticket.lane == WRITE)
        stream = ticket.stream
        hopeless = error.retry_after_ms and now + error.retry_after_ms >= ticket.deadline
        if hopeless or not self.retry.covers(error) or not self._kept(ticket, now) or (stream and not stream.resumable):
            self._finish(ticket, self._in_doubt(ticket, error))
            return
        ticket.tries += 1
        ticket.avoid = ticket.endpoint
        if ticket.lane != WRITE:
            ticket.past += ((ticket.id, ticket.endpoint),)
        if stream:
            if stream.attempt:  # what still comes of it must not mix with the next attempt's chunks
                self._forget_past(ticket)
            stream.attempt = 0
            ticket.request = stream.rest()
        delay = self.retry.delay_ms(error, ticket.tries, self._rng)
        if delay:
            ticket.state = DELAYED
            self._delayed[ticket] = None
            ticket.due = now + delay
            self._wake = min(self._wake, ticket.due)
        else:
            self._requeue(ticket)

    def _requeue(self, ticket: Ticket) -> None:
        ticket.state = QUEUED
        ticket.due = FOREVER
        self._special.append(ticket)

    def _forget_past(self, ticket: Ticket) -> None:
        """Former attempts of a read are not listened to any more."""
        for id_, endpoint in ticket.past:
            if self._sent.pop(id_, None) and ticket.op in CHUNKED:
                self._cancel_at(endpoint, id_)
        ticket.past = ()

    def _in_doubt(self, ticket: Ticket, error: ZkvError) -> ZkvError:
        """The error, saying truthfully whether this write may have happened."""
        error.maybe_applied = ticket.lane == WRITE and (ticket.doubt or ticket.state is SENT)
        return error

    def _everyone(self) -> Iterator[Ticket]:
        """All tickets that are not done (some twice)."""
        groups: Iterable[Iterable[Ticket]] = (self._sent.values(), self._delayed, *self._queues, self._special)
        for group in groups:
            yield from group

    # --- failures --------------------------------------------------------------------------------

    def _fail_over(self, endpoint: int, now: int, error: ZkvError, *, gone: bool = False) -> None:
        """Nothing sent to `endpoint` is counted on any more.

        What it owed is tried again, as if it had said Unavailable. Only nonsense from the one endpoint that
        could answer is told to the caller as it is: it would answer the same again.
        """
        if self._watching is not None:
            self._watching.lost(endpoint, now, error, gone=gone)
        self._endpoints.suspect(endpoint, now)
        elsewhere = self._endpoints.others_than(endpoint)
        owed = dict.fromkeys(t for t in self._sent.values() if t.state is SENT and t.endpoint == endpoint)
        for ticket in owed:
            reason: ZkvError = Unavailable(error.detail)
            if not isinstance(error, Unavailable) and (ticket.pinned is not None or not elsewhere):
                self._finish(ticket, self._in_doubt(ticket, type(error)(error.detail)))
            elif self.retry.covers(reason):
                self._again(ticket, reason, now)
            else:
                self._finish(ticket, self._in_doubt(ticket, ConnectionFailed(error.detail)))

    def _overdue(self, ticket: Ticket, now: int) -> None:
        if ticket.state is DELAYED:
            del self._delayed[ticket]
            self._requeue(ticket)
            return
        quiet_since = self._endpoints.heard_at[ticket.endpoint] + self.retry.silence_ms
        if quiet_since > now and now - ticket.sent_at < 2 * self._patience(ticket):
            ticket.due = quiet_since  # it answers others: slow, not silent; not for ever, though
            return
        self._endpoints.suspect(ticket.endpoint, now)
        reason = Unavailable("no answer")
        if self.retry.covers(reason):
            self._again(ticket, reason, now)
        else:
            ticket.due = FOREVER

    def _excuse(self, ticket: Ticket) -> str:
        connected = self._endpoints.connected
        if ticket.pinned is not None:
            return self._reason("" if connected[ticket.pinned] else "the endpoint is not connected", ticket.pinned)
        return self._reason("" if any(connected) else "no endpoint is connected", *self.reasons)

    def _reason(self, text: str, *endpoints: int) -> str:
        told = dict.fromkeys(self.reasons[at] for at in endpoints if at in self.reasons)
        return "; ".join(filter(None, (text, *told)))

    # --- chunks ----------------------------------------------------------------------------------

    def _chunk(self, ticket: Ticket, reply: Reply, now: int) -> None:
        if ticket.op not in CHUNKED:
            raise CorruptionError("chunks of something that comes in none")
        answer: Any = parse(ticket.op, reply.body)
        stream = ticket.stream
        if stream is None:
            assert isinstance(ticket.request, m.Range)  # a snapshot has its stream from the beginning
            stream = ticket.stream = Stream(ticket.request, auto=True)
            stream.owed = self.limits.chunk_credit
        if not stream.attempt:
            # The attempt that speaks first (it may be one thought silent) is the one; the others are called off.
            attempts = (*ticket.past, (ticket.id, ticket.endpoint))
            ticket.past = tuple([attempt for attempt in attempts if attempt[0] != reply.id])
            self._forget_past(ticket)
            if ticket.state is DELAYED:
                del self._delayed[ticket]
            ticket.id, ticket.endpoint, ticket.state = reply.id, reply.endpoint, SENT
            stream.attempt = reply.id
        stream.put(answer, reply.revision)
        stream.owed -= 1
        ticket.revision = reply.revision
        ticket.origin = reply.origin
        if reply.code == OK:
            if isinstance(stream, Stream) and stream.auto:
                ticket.answer = stream.whole()
            self._finish(ticket, None)
            return
        ticket.due = now + self.retry.silence_ms if stream.owed > 0 else FOREVER
        if stream.auto:
            self._give_credit(ticket, stream, now)
        else:
            ticket.deadline = FOREVER  # until somebody waits again: next_chunk
            self._news.append(ticket)

    def _give_credit(self, ticket: Ticket, stream: Stream | StoreStream, now: int) -> None:
        stream.owed += 1
        ticket.due = now + self.retry.silence_ms
        self._wake = min(self._wake, ticket.due)
        self._controls.append((ticket.endpoint, pack((m.PROTOCOL_VERSION, CREDIT, ticket.id, 1))))

    def _cancel_at(self, endpoint: int, id_: int) -> None:
        if self._endpoints.connected[endpoint]:
            self._controls.append((endpoint, pack((m.PROTOCOL_VERSION, CANCEL, id_))))


def _index(detail: str) -> int:
    """The log index that a SessionExpired tells."""
    return min(int(detail), INDEX_MAX) if detail.isascii() and detail.isdecimal() and len(detail) < 20 else 0


def _hint(body: Any) -> int:
    """When to try again, if an error's fields say so."""
    told = body[1] if isinstance(body, tuple) and len(body) > 1 else 0
    return min(max(told, 0), RETRY_AFTER_MS_MAX) if type(told) is int else 0


def _detail(body: Any) -> str:
    """What an error's fields add to its text: the first one, if it is text."""
    return body[0] if isinstance(body, tuple) and body and isinstance(body[0], str) else ""
