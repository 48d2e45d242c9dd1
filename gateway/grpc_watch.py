"""etcd's Watch service: what clients say on watch streams, as words for the watch actor, and its answers to them.

One call is one stream (watches.py tells what streams are); its number has the door's bit. A client names its watches,
from 0 on or as it likes; towards the actor they are numbered from 1 on, per stream. The actor's answers are unpacked
here, and the events of an answer are written once, however many watches of the stream they are for.

The actor is told that bytes were taken as soon as HTTP/2 lets them out, so a client that reads nothing is owed at
most a window of events; what it misses meanwhile is read as history once it goes on.

A watch ends alone when its client says so, when what it asks for has been compacted, or when its user may not (or no
longer) read what it watches. All else that befalls it
ends the call, as UNAVAILABLE: etcd's clients then begin their watches anew where they were, here or elsewhere, while
a watch that is cancelled alone they take for refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from zkv import errors
from zkv.gateway.audit import Subject
from zkv.gateway.callers import who_calls
from zkv.gateway.grpc_status import status_of
from zkv.gateway.http2.grpc_words import Status
from zkv.gateway.pb import rpc_pb2 as pb
from zkv.gateway.shares import USER
from zkv.gateway.translate import DecodeError, event
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.gateway.audit import WatchAudit
    from zkv.gateway.callers import Callers
    from zkv.gateway.grpc_line import Answers
    from zkv.gateway.http2.grpc import Call
    from zkv.gateway.shares import Share, Shares
    from zkv.gateway.translate import Answering
    from zkv.limits import Limits

BACKLOG_MAX: Final = 10_000
"""Words kept while the actor's queue is full; beyond it, who says more loses its stream."""
NOBODY: Final = -1
"""The watch id of what concerns no watch, or one that could not begin."""
HAS_LEADER: Final = (b"hasleader", b"true")
_WATCH: Final = int(m.ClientKind.WATCH)
_UNWATCH: Final = int(m.ClientKind.UNWATCH)
_CREDIT: Final = int(m.ClientKind.WATCH_CREDIT)
_PROGRESS: Final = int(m.ClientKind.WATCH_PROGRESS)
_CANCEL: Final = int(m.ClientKind.CANCEL)
_ALL: Final = 0
_ALONE: Final = frozenset({0, errors.Compacted.code, errors.PermissionDenied.code})
DENIED: Final = f"rpc error: code = PermissionDenied desc = {errors.PermissionDenied.text}"
"""What etcd gives as the reason."""
EXHAUSTED: Final = f"rpc error: code = ResourceExhausted desc = {errors.LimitExceeded.text}"
"""The same of a watch that is one too many for its client."""


class Listener(Protocol):
    """Who is told what the actor says on one stream."""

    number: int
    wants_leader: bool

    def told(self, payload: bytes) -> None:
        """A packed `Answers` of the actor."""

    def end(self, error: errors.ZkvError) -> None: ...


class WatchDesk:
    """All watch streams of the door."""

    def __init__(
        self,
        *,
        limits: Limits,
        incarnation: int,
        answering: Answering,
        post: Callable[[str, Any], bool],
        callers: Callers,
        shares: Shares,
    ) -> None:
        self.shares = shares
        self.answering = answering
        self.callers = callers
        self.audit: WatchAudit | None = None
        self.revision = 0
        """The newest one that the actor has spoken of."""
        self._limits = limits
        self._incarnation = incarnation
        self._post = post
        self._streams: dict[int, Listener] = {}
        self._last_number = m.ETCD_DOOR
        self._words: list[tuple[int, int, tuple[object, ...]]] = []

    def open(self, line: Answers, call: Call, now: int) -> WatchStream | None:
        share = self._share_of(line, call, now)
        stream = WatchStream(self, line, call, share)
        try:
            error = self.shares.open_stream(share, now)
            if error is not None:
                raise error
            stream.number = self.listen(stream)
        except errors.LimitExceeded as error:
            line.finish(call, *status_of(error))
            return None
        except errors.TooManyRequests as error:
            share.streams -= 1
            line.finish(call, *status_of(error))
            return None
        return stream

    def _share_of(self, line: Answers, call: Call, now: int) -> Share:
        """Of who opens a stream; with a token that is none he will have no watch on it."""
        try:
            caller = self.callers.caller(who_calls(line, call, self.callers), now)
        except errors.ZkvError:
            caller = None
        if caller is not None and caller[0]:
            return self.shares.of(USER, caller[0])
        return line.share or self.shares.house

    def listen(self, stream: Listener) -> int:
        """The number of a new stream. Raises TooManyRequests."""
        if len(self._streams) >= self._limits.watch_streams_max:
            raise errors.TooManyRequests
        self._last_number += 1
        self._streams[self._last_number] = stream
        return self._last_number

    def say(self, stream: Listener, kind: int, fields: tuple[object, ...]) -> None:
        if len(self._words) >= BACKLOG_MAX and kind != _CANCEL:
            stream.end(errors.TooManyRequests())
        else:
            self._words.append((stream.number, kind, fields))

    def forget(self, stream: Listener) -> bool:
        """False: it is so already."""
        if self._streams.pop(stream.number, None) is None:
            return False
        self._words.append((stream.number, _CANCEL, ()))
        return True

    def out(self, mail: m.WatchOut) -> None:
        if mail.incarnation == self._incarnation:
            for number, payload in mail.answers:
                if self.audit is not None:
                    self.audit.told(number, payload)
                stream = self._streams.get(number)
                if stream is not None:
                    stream.told(payload)

    def flush(self) -> bool:
        """False: there is more, for which the actor's queue has no room now."""
        if self._words:
            if not self._post("watch", m.WatchWords(self._incarnation, tuple(self._words))):
                return False
            self._words.clear()
        return True

    def end_all(self, error: errors.ZkvError, *, if_leader_wanted: bool = False) -> None:
        for stream in list(self._streams.values()):
            if not if_leader_wanted or stream.wants_leader:
                stream.end(error)


class WatchStream:
    """One call of Watch."""

    def __init__(self, desk: WatchDesk, line: Answers, call: Call, share: Share) -> None:
        self.number = 0
        self._share = share
        self.wants_leader = HAS_LEADER in call.head.metadata
        self._desk = desk
        self._line = line
        self._call = call
        self._names: dict[int, int] = {}  # our number of a watch -> its client's
        self._numbers: dict[int, int] = {}  # and back
        self._created: set[int] = set()  # our numbers of those that have begun
        self._last_watch = 0
        self._next_name = 0
        self._untaken = 0  # bytes the client has not been sent, for it reads too slowly

    # --- what its client says ------------------------------------------------------------------------

    def received(self, data: bytes, now: int) -> None:
        try:
            asked = pb.WatchRequest.FromString(data)
        except DecodeError:
            self._finish(Status.INTERNAL, "grpc: failed to unmarshal the received message")
            return
        which = asked.WhichOneof("request_union")
        if which == "create_request":
            self._create(asked.create_request, now)
        elif which == "cancel_request":
            number = self._numbers.get(asked.cancel_request.watch_id)
            if number is not None:
                self._desk.say(self, _UNWATCH, (number,))
        elif which == "progress_request":
            self._desk.say(self, _PROGRESS, ())

    def half_closed(self) -> None:
        """As in etcd it goes on being told."""

    def cancelled(self) -> None:
        self._over()

    def drained(self) -> None:
        if self._untaken:
            taken, self._untaken = self._untaken, 0
            self._desk.say(self, _CREDIT, (taken,))

    def _create(self, asked: pb.WatchCreateRequest, now: int) -> None:
        key = asked.key or b"\0"
        name = asked.watch_id
        if asked.range_end not in {b"", b"\0"} and asked.range_end <= key:
            self._refuse("mvcc: watcher range is empty")
            return
        if name == 0:
            while self._next_name in self._numbers:
                self._next_name += 1
            name = self._next_name
            self._next_name += 1
        elif name in self._numbers:
            self._refuse("mvcc: duplicate watch ID provided on the WatchStream")
            return
        try:
            caller = self._desk.callers.caller(who_calls(self._line, self._call, self._desk.callers), now)
        except errors.InvalidAuthToken:
            self._refuse(DENIED)
            return
        if not self._desk.shares.watch(self._share, 1, now)[0]:
            self._refuse(EXHAUSTED)
            return
        self._last_watch += 1
        self._names[self._last_watch] = name
        self._numbers[name] = self._last_watch
        filters = asked.filters
        watch = m.Watch(
            self._last_watch, key, asked.range_end, max(asked.start_revision, 0), asked.prev_kv,
            pb.WatchCreateRequest.NOPUT in filters, pb.WatchCreateRequest.NODELETE in filters,
            asked.progress_notify, asked.fragment,
        )  # fmt: skip
        if self._desk.audit is not None:
            user = caller[0] if caller is not None else self._line.common_name
            self._desk.audit.begin(self.number, (tuple(watch),), Subject(user, self._line.address))
        self._desk.say(self, _WATCH, ((tuple(watch),), caller))

    def _refuse(self, reason: str) -> None:
        header = self._desk.answering.header(self._desk.revision)
        self._send(pb.WatchResponse(header=header, watch_id=NOBODY, created=True, canceled=True, cancel_reason=reason))

    # --- what it is told -----------------------------------------------------------------------------

    def told(self, payload: bytes) -> None:
        _, _, _, term, _, _, watches = codec.unpack(payload)
        answering = self._desk.answering
        answering.term = max(answering.term, term)
        flows = True
        for ids, kind, revision, body in watches:
            self._desk.revision = max(self._desk.revision, revision)
            if kind == m.WatchKind.CANCELLED and body[0] not in _ALONE:
                self.end(errors.from_code(body[0]))
                return
            events = b""
            if kind in {m.WatchKind.EVENTS, m.WatchKind.FRAGMENT}:
                fragment = kind == m.WatchKind.FRAGMENT
                events = pb.WatchResponse(fragment=fragment, events=map(event, body)).SerializeToString()
            for number in ids:
                name = NOBODY if number == _ALL else self._names.get(number)
                if name is None:
                    continue
                response = pb.WatchResponse(header=answering.header(revision), watch_id=name)
                if kind == m.WatchKind.CREATED:
                    response.created = True
                    self._created.add(number)
                elif kind == m.WatchKind.CANCELLED:
                    response.canceled = True
                    response.compact_revision = body[1]
                    if body[0] == errors.Compacted.code:
                        response.header.revision = 0  # as in etcd
                    elif body[0] == errors.PermissionDenied.code:
                        response.header.revision = self._desk.revision
                        response.cancel_reason = DENIED
                        response.created = number not in self._created
                    del self._names[number], self._numbers[name]
                    self._share.watches -= 1
                    self._created.discard(number)
                flows = self._line.send(self._call, response.SerializeToString() + events)
        if flows:
            self._desk.say(self, _CREDIT, (len(payload),))
        else:
            self._untaken += len(payload)

    def _send(self, response: pb.WatchResponse) -> None:
        self._line.send(self._call, response.SerializeToString())

    def end(self, error: errors.ZkvError) -> None:
        self._finish(*status_of(error))

    def _over(self) -> None:
        if self._desk.forget(self):
            self._share.streams -= 1
            self._share.watches -= len(self._names)

    def _finish(self, status: Status, text: str, retry_ms: int = 0) -> None:
        self._over()
        self._line.finish(self._call, status, text, retry_ms)
