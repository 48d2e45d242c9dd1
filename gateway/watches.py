"""The watches of native clients, as the door sees them: streams.

A *stream* is a client (one connection) with watches. The door numbers it, checks its words and passes them on to the
watch actor; what that one packs for a stream goes to its client unopened. Only the actor knows the watches themselves.

    client -- WATCH, UNWATCH, .. --> word() ==> WatchWords --> watch actor
    client <----------- unopened --- out()  <== WatchOut ---- watch actor

A stream *ends*, and the actor is told so by the word CANCEL, when

    a message for it could not be sent   its client is gone, or reads nothing, and must not miss one unawares
    its client says nothing for long     watch_silence_ms; whoever has watches speaks every third of that
    the watch actor has started anew     it knows nothing of what was watched
    no leader is known for long          another member may know one
    this door closes

Its client then is told that all its watches are gone (CANCELLED, id 0). If that cannot be sent either, the stream stays
here as a *lost* one, with its error, which answers the client's next word. Until it has been told nothing can begin for
that client, or it would take the old watches for alive. A word other than WATCH from who has no stream is answered the
same way: so a client learns of the loss by its own words at the latest, also when it was thought gone and forgotten.

What is kept is bounded by `watch_streams_max` streams; words wait here only while the actor's queue is full.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from zkv import errors
from zkv.gateway.validate import check_watch
from zkv.limits import NEVER
from zkv.wire import codec
from zkv.wire import messages as m
from zkv.wire.shapes import INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zkv.gateway.audit import Subject, WatchAudit
    from zkv.gateway.doors import Client
    from zkv.gateway.shares import Share, Shares
    from zkv.limits import Limits
    from zkv.wire.messages import Caller

GRACE_MS: Final = 5_000
"""Who seems silent is listened for once more: its words may lie unread because this process was held up."""
IDLE_MS: Final = 5_000
"""A stream whose watches have all been ended is kept for so long, should others be begun."""
RETRY_MS: Final = 20
"""A full queue to the watch actor is tried again after this."""
OPEN_MS: Final = 5_000
"""So long after a client has ended a watch, answers to it are looked into: that one has ended is said there."""
BACKLOG_MAX: Final = 10_000
"""Words kept while the actor's queue is full. Beyond it streams end: of those one word is left, and no more follow."""
_WATCH: Final = int(m.ClientKind.WATCH)
_UNWATCH: Final = int(m.ClientKind.UNWATCH)
_CREDIT: Final = int(m.ClientKind.WATCH_CREDIT)
_PROGRESS: Final = int(m.ClientKind.WATCH_PROGRESS)
_CANCEL: Final = int(m.ClientKind.CANCEL)
KINDS: Final = frozenset({_WATCH, _UNWATCH, _CREDIT, _PROGRESS})
"""Kinds of messages that are words about watches."""
_ALL: Final = (0,)

WatchAnswer: TypeAlias = tuple[tuple[int, ...], int, int, object]
"""(watch ids, WatchKind, revision, body)"""


class _Stream:
    """`heard`: when its client last said something that counts; `silent`: nothing since then was noticed once.

    `share`: whose it is, and `charged`: how many of its watches are counted there; `open_until`: so long its answers
    are looked into. `watches`: how many it may have, at most (those that the actor ended are not known here); without
    any, only words about watches keep the stream. `lost`: why it has ended, if its client is still to be told.
    `check`: when to look whether somebody is there.
    """

    __slots__ = (
        "charged", "check", "client", "heard", "lost", "number", "open_until", "share", "silent", "watches",
    )  # fmt: skip

    def __init__(self, client: Client, number: int, now: int, share: Share) -> None:
        self.client = client
        self.share = share
        self.charged = 0
        self.open_until = 0
        self.number = number
        self.heard = now
        self.silent = False
        self.watches = 0
        self.check = 0
        self.lost: errors.ZkvError | None = None


class Watches:
    """See the module. `say` sends watch answers to a client: False if it could not."""

    def __init__(
        self,
        *,
        limits: Limits,
        incarnation: int,
        leaderless_ms: int,
        post: Callable[[Any, Any], bool],
        say: Callable[[Client, tuple[WatchAnswer, ...]], bool],
        shares: Shares,
    ) -> None:
        self._shares = shares
        self._limits = limits
        self._incarnation = incarnation
        self._leaderless_ms = leaderless_ms
        self._post = post
        self._say = say
        self._by_client: dict[Client, _Stream] = {}
        self._by_number: dict[int, _Stream] = {}  # those that the actor knows
        self._last_number = 0
        self._words: list[tuple[int, int, tuple[object, ...]]] = []
        self._stuck = False  # the actor's queue was full
        self._checks: list[tuple[int, int, _Stream]] = []  # (when, which, stream), the next first; some are void
        self._last_check = 0
        self._leads = False  # somebody does, as far as this member knows
        self._leaderless_since: int | None = None
        self._closed = False
        self.audit: WatchAudit | None = None

    def __len__(self) -> int:
        """Streams, lost ones included."""
        return len(self._by_client)

    # --- from clients --------------------------------------------------------------------------------

    def heard(self, client: Client, now: int) -> None:
        """A message of any kind came from this client. Hot where there are streams."""
        stream = self._by_client.get(client)
        if stream is not None and stream.watches:
            stream.heard = now
            stream.silent = False

    def word(
        self,
        client: Client,
        kind: int,
        fields: tuple[Any, ...],
        now: int,
        caller: Caller | errors.ZkvError | None = None,
        *,
        subject: Subject | None = None,
        share: Share,
    ) -> errors.ZkvError | None:
        """One of KINDS. Returns what is wrong with the message, if it cannot be answered by watch answers.

        `caller`: who wants to watch, where that is asked; an error where he shows a token that is none. `subject`: who
        the audit log says it was.
        """
        if not _shaped(kind, fields):
            return errors.InvalidRequest("fields of a message about watches")
        stream = self._by_client.get(client)
        if stream is not None and stream.lost is not None:
            stream.heard = now
            if self._say(client, (_cancelled(_ALL, stream.lost),)):
                del self._by_client[client]
        elif kind == _WATCH:
            error = self._watch(client, stream, fields[0], now, caller, share=share)
            begun = self._by_client.get(client)
            if self.audit is not None and subject is not None and begun is not None and begun.lost is None:
                self.audit.begin(begun.number, _sorted_out(fields[0])[0], subject)
            return error
        elif stream is None:
            self._say(client, (_cancelled(_ALL, errors.StreamLost()),))
        else:
            stream.heard = now
            stream.silent = False
            if kind == _UNWATCH:
                if not fields[0]:
                    self._forget(stream)
                    return None
                stream.watches = max(0, stream.watches - 1)
                stream.open_until = now + OPEN_MS
                if not stream.watches and now + IDLE_MS < stream.check:
                    self._check(stream, now + IDLE_MS)
            if kind != _CREDIT or fields[0]:
                self._pass_on(stream, kind, fields)
        return None

    def _watch(
        self,
        client: Client,
        stream: _Stream | None,
        asked: tuple[Any, ...],
        now: int,
        caller: Caller | errors.ZkvError | None,
        *,
        share: Share,
    ) -> errors.ZkvError | None:
        good, refused, error = _sorted_out(asked)
        unable = self._unable(stream, now) if good else None
        if isinstance(caller, errors.ZkvError):
            unable = caller
        if good and unable is None:
            room, unable = self._room(stream, share, len(good), now)
        else:
            room = 0
        if unable is not None:
            refused.append(_cancelled(tuple(fields[0] for fields in good[room:]), unable))
            good = good[:room]
        if good:
            if stream is None:
                stream = self._begin(client, now, share)
            stream.heard = now
            stream.silent = False
            stream.watches += len(good)
            stream.charged += len(good)
            self._words.append((stream.number, _WATCH, (tuple(good),) if caller is None else (tuple(good), caller)))
        if refused and not self._say(client, tuple(refused)) and stream is not None:
            self._end(stream, errors.StreamLost())
        return error

    def _unable(self, stream: _Stream | None, now: int) -> errors.ZkvError | None:
        """Why no watch can begin now."""
        if self._closed:
            return errors.Stopped()
        if self._is_leaderless(now):
            return errors.NoLeader()
        if self._stuck or (stream is None and len(self._by_client) >= self._limits.watch_streams_max):
            return errors.TooManyRequests()
        return None

    def _room(self, stream: _Stream | None, share: Share, watches: int, now: int) -> tuple[int, errors.ZkvError | None]:
        """For so many of the watches, which count from now on; and why not for more."""
        if stream is not None:
            return self._shares.watch(stream.share, watches, now)
        error = self._shares.open_stream(share, now)
        if error is not None:
            return 0, error
        room, unable = self._shares.watch(share, watches, now)
        if not room:
            share.streams -= 1
        return room, unable

    def _begin(self, client: Client, now: int, share: Share) -> _Stream:
        self._last_number += 1
        stream = _Stream(client, self._last_number, now, share)
        self._by_client[client] = self._by_number[stream.number] = stream
        self._check(stream, now + self._limits.watch_silence_ms)
        return stream

    def _check(self, stream: _Stream, due: int) -> None:
        stream.check = due
        self._last_check += 1
        heappush(self._checks, (due, self._last_check, stream))

    def _pass_on(self, stream: _Stream, kind: int, fields: tuple[object, ...]) -> None:
        if self._stuck and len(self._words) >= BACKLOG_MAX:
            self._end(stream, errors.TooManyRequests())
        else:
            self._words.append((stream.number, kind, fields))

    # --- from the node ---------------------------------------------------------------------------------

    def out(self, mail: m.WatchOut, now: int) -> None:
        """What the actor says to streams."""
        if mail.incarnation != self._incarnation:
            return
        for number, payload in mail.answers:
            stream = self._by_number.get(number)
            if self.audit is not None:
                self.audit.told(number, payload)
            if stream is not None and (now < stream.open_until or self._shares.is_half_way(stream.share)):
                _uncharge(stream, payload)
            if stream is not None and not self._post(stream.client, payload):
                self._end(stream, errors.StreamLost())

    def actor_restarted(self) -> None:
        """Nothing of what it was told is certain to have reached it, or to be known to it any more."""
        self._end_all(errors.StreamLost())

    def end_those(self, which: Callable[[Client], bool], error: errors.ZkvError) -> None:
        """Of clients that are to hear nothing more."""
        for stream in [stream for stream in self._by_number.values() if which(stream.client)]:
            self._end(stream, error)

    def gone(self, client: Client) -> None:
        """It will not hear anything more."""
        stream = self._by_client.get(client)
        if stream is not None:
            self._forget(stream)

    def leader_is(self, leader: int) -> None:
        if leader or self._leads:  # an election that fails begins another one, not another wait
            self._leaderless_since = None
        self._leads = leader != 0

    def close(self) -> None:
        """This process is to end: clients do well to watch elsewhere."""
        self._closed = True
        self._end_all(errors.Stopped())

    # --- time ------------------------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        """Once a turn, behind all else: end what is to end, and pass on what has gathered."""
        if not self._leads and self._leaderless_since is None:
            self._leaderless_since = now
        if self._by_number and self._is_leaderless(now):
            self._end_all(errors.NoLeader())
        while self._checks and self._checks[0][0] <= now:
            due, _, stream = heappop(self._checks)
            if due == stream.check and self._by_client.get(stream.client) is stream:
                self._look_for(stream, now)
        if self._words:
            self._stuck = not self._post("watch", m.WatchWords(self._incarnation, tuple(self._words)))
            if not self._stuck:
                self._words.clear()

    def next_wakeup(self, now: int) -> int:
        due = self._checks[0][0] if self._checks else NEVER
        if self._by_number and self._leaderless_since is not None:
            due = min(due, self._leaderless_since + self._leaderless_ms)
        return min(due, now + RETRY_MS) if self._words else due

    def _is_leaderless(self, now: int) -> bool:
        since = self._leaderless_since
        return since is not None and now >= since + self._leaderless_ms

    def _look_for(self, stream: _Stream, now: int) -> None:
        """Is somebody there?"""
        idle = not stream.watches and stream.lost is None
        due = stream.heard + (IDLE_MS if idle else self._limits.watch_silence_ms)
        if now >= due:
            if idle:
                self._forget(stream)
                return
            if stream.silent:
                self._end(stream, errors.StreamLost())
                self._by_client.pop(stream.client, None)  # told or not: if it is there, its next word is answered
                return
            stream.silent = True
            due = now + GRACE_MS
        self._check(stream, due)

    # --- ends ------------------------------------------------------------------------------------------

    def _forget(self, stream: _Stream) -> None:
        """Its client has ended all its watches, or is gone: nobody is to be told anything."""
        self._end_at_actor(stream)
        del self._by_client[stream.client]

    def _end_at_actor(self, stream: _Stream) -> None:
        if self._by_number.pop(stream.number, None) is not None:
            self._words.append((stream.number, _CANCEL, ()))
            stream.share.streams -= 1
            stream.share.watches -= stream.charged
            stream.charged = 0

    def _end(self, stream: _Stream, error: errors.ZkvError) -> None:
        self._end_at_actor(stream)
        if self._say(stream.client, (_cancelled(_ALL, error),)):
            self._by_client.pop(stream.client, None)
        else:
            stream.lost = error

    def _end_all(self, error: errors.ZkvError) -> None:
        for stream in list(self._by_number.values()):
            self._end(stream, error)


def _cancelled(ids: tuple[int, ...], error: errors.ZkvError) -> WatchAnswer:
    hint = (error.retry_after_ms,) if error.retry_after_ms else ()
    return ids, int(m.WatchKind.CANCELLED), 0, (error.code, 0, 0, *hint)


def _uncharge(stream: _Stream, payload: bytes) -> None:
    """Watches that have ended, by a packed `Answers` of the actor, count no more."""
    for ids, kind, *_ in codec.unpack(payload)[6]:
        if kind == m.WatchKind.CANCELLED:
            ended = stream.charged if ids == _ALL else min(len(ids), stream.charged)
            stream.charged -= ended
            stream.share.watches -= ended


def _shaped(kind: int, fields: tuple[Any, ...]) -> bool:
    if kind == _PROGRESS:
        return not fields
    if len(fields) != 1:
        return False
    if kind == _WATCH:
        return type(fields[0]) is tuple
    return type(fields[0]) is int and 0 <= fields[0] <= INT64_MAX


def _sorted_out(asked: Iterable[Any]) -> tuple[list[tuple[Any, ...]], list[WatchAnswer], errors.ZkvError | None]:
    """Watches that may begin; answers to those that may not; an error if one has no id to be answered under."""
    good: list[tuple[Any, ...]] = []
    refused: list[int] = []
    error: errors.ZkvError | None = None
    for fields in asked:
        try:
            check_watch(fields)
            good.append(fields)
        except errors.RequestError as fault:
            if type(fields) is tuple and fields and type(fields[0]) is int and 0 < fields[0] <= INT64_MAX:
                refused.append(fields[0])
            else:
                error = fault
    answers = [_cancelled(tuple(refused), errors.InvalidRequest())] if refused else []
    return good, answers, error
