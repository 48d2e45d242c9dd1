"""One HTTP/2 connection as its server sees it (RFC 9113).

A connection's life, and what ends each part of it:

    PREFACE     the client's 24 bytes                            wrong ones: fault; handshake_ms: fault
    GREETING    its first frame, SETTINGS                        another one: fault; handshake_ms: fault
    RUNNING     all else
      draining    `drain` was called: GOAWAY for the highest id there can be, and a PING; with the PING's answer, or
                  after drain_ms, GOAWAY for the highest id seen; streams after it are refused
    FINISHED    a *fault* (GOAWAY with its code, all streams lost), or drained and no stream left: what `to_send`
                  still gives is to be written, then the socket is to be closed

Whoever owns the socket calls `receive` with what it read, `tick` once a second or so, and writes what `to_send`
returns. What comes of it are calls of the `Handler`, made from within; it may answer from within them, or later. Times
are milliseconds of any monotonic clock.

What a peer can make this side keep is bounded, whatever it sends (`Http2Limits`): one frame, one header block, the
HPACK table and cache, `streams_max` streams, what waits to be read by it, and a few thousand ids of streams that we
have reset and of ids it has skipped. What it can make this side do for a byte is bounded by `Patience`, for what is not
work, and by how much of it the shell reads: whoever must be slowed down is not read from.

Faults of a stream are answered by RST_STREAM, and counted as resets (CVE-2025-8671): a peer that makes us reset streams
is as bad as one that does it itself (CVE-2023-44487).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from zkv.gateway.http2 import words
from zkv.gateway.http2.frame_reader import FrameReader, unpadded
from zkv.gateway.http2.header_blocks import TABLE_BYTES, Fields
from zkv.gateway.http2.outflow import Outflow
from zkv.gateway.http2.patience import Patience
from zkv.gateway.http2.request_reader import RequestReader
from zkv.gateway.http2.requests import Request, check_trailers
from zkv.gateway.http2.streams import (
    CLOSED,
    HALF_CLOSED_REMOTE,
    IDLE,
    OPEN,
    RECEIVE_DATA,
    RECEIVE_DATA_END,
    RECEIVE_HEADERS,
    RECEIVE_HEADERS_END,
    RECEIVE_RST,
    RECEIVE_WINDOW_UPDATE,
    Stream,
    step,
)
from zkv.gateway.http2.words import (
    ACK,
    DEFAULT_WINDOW,
    END_STREAM,
    PADDED,
    SETTINGS,
    STREAM_ID_MAX,
    WINDOW_MAX,
    WINDOW_UPDATE,
    ConnectionFault,
    ErrorCode,
    StreamFault,
    unpack_u32,
)

if TYPE_CHECKING:
    from zkv.gateway.http2.limits import Http2Limits

SKIPPED_MAX: Final = 1_000
"""Ranges of ids that a peer has jumped over, of which we know that they are."""
PING_STRIKES_MAX: Final = 2
DRAIN_PING: Final = b"zkvdrain"
KEEPALIVE_PING: Final = b"zkvalive"


class Handler(Protocol):
    """Who is told what comes in. None of these raises anything but ConnectionFault."""

    def on_request(self, stream: Stream, request: Request, end: bool) -> None:
        """A stream was opened. `end`: nothing more follows on it."""

    def on_data(self, stream: Stream, data: bytes, end: bool) -> None:
        """Give its length to `grant` once there is room for more of it."""

    def on_trailers(self, stream: Stream, fields: Fields) -> None:
        """Nothing more follows."""

    def on_reset(self, stream: Stream, code: int) -> None:
        """It is closed before its time: by the peer, by its fault, or because the connection is lost."""

    def on_drained(self, stream: Stream) -> None:
        """More may be given to `send_data`, which had returned False."""


class Connection:
    """See the module. `receive`, `tick` and the sending methods never raise for anything a peer does."""

    def __init__(self, handler: Handler, limits: Http2Limits, now: int, *, aside: bytes | None = None) -> None:
        """`aside`: the name of a field that is not to be found in a request, but at its stream (`RequestReader`)."""
        self.streams: dict[int, Stream] = {}
        self.fault: ConnectionFault | None = None
        """What the peer did wrong, once it did."""
        self._handler = handler
        self._limits = limits
        self._streams_max, self._stream_window_bytes = limits.streams_max, limits.stream_window_bytes
        self._queued_bytes_max = limits.queued_bytes_max
        self._give_back_at = limits.connection_window_bytes // 2
        self._finished = False
        self._frames = FrameReader(limits, now)
        self._reader = RequestReader(limits, aside)
        self._last_id = 0
        self._opened = 0
        self._refuse_beyond = STREAM_ID_MAX
        self._skipped: dict[int, int] = {}  # first id -> last one, of ids that were jumped over
        self._receive_window = limits.connection_window_bytes
        self._taken = 0  # of it, since it was last given back
        self._now = self._started = self._heard = now
        self._acknowledged = False  # our SETTINGS
        self._asked_at: int | None = None  # a keep-alive PING that is out
        self._pinged_at: int | None = None
        self._pinged_worked = 0  # what was done when it last pinged
        self._strikes = 0
        self._drain_by: int | None = None
        self._resets = Patience("too many streams reset", limits.resets_burst, limits.resets_per_s, 0, now)
        self._chatter = Patience(
            "too many frames that ask for nothing",
            limits.chatter_burst, limits.chatter_per_s, limits.chatter_per_work, now,
        )  # fmt: skip
        self.outflow = Outflow(self.streams, limits, now)
        self.outflow.frame(
            words.settings(
                {
                    words.MAX_CONCURRENT_STREAMS: limits.streams_max,
                    words.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
                    words.MAX_FRAME_SIZE: limits.frame_bytes_max,
                    words.MAX_HEADER_LIST_SIZE: limits.header_list_bytes_max,
                }
            )
        )
        if limits.connection_window_bytes > DEFAULT_WINDOW:
            self.outflow.frame(words.window_update(0, limits.connection_window_bytes - DEFAULT_WINDOW))

    # --- the shell's side --------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Write what `to_send` gives, then close the socket."""
        return self._finished or (not self.streams and self._refuse_beyond != STREAM_ID_MAX)

    def receive(self, data: bytes, now: int) -> None:
        """What was read from the socket: any piece of what the peer wrote."""
        if self._finished:
            return
        self._now = self.outflow.now = self._heard = now
        self._asked_at = None
        frames = self._frames
        try:
            frames.feed(data, now)
            while frames.next():
                kind = frames.kind
                if kind > WINDOW_UPDATE:  # 4.1: unknown ones are ignored
                    self._chatter_cost(1)
                    continue
                try:
                    _ON_FRAME[kind](self, frames.flags, frames.stream_id, frames.payload)
                except StreamFault as fault:
                    self._fail_stream(frames.stream_id, fault)
        except ConnectionFault as end:
            self._fail(end)
            return
        if self._taken >= self._give_back_at:
            self.outflow.frame(words.window_update(0, self._taken))
            self._receive_window += self._taken
            self._taken = 0
        self._settle()

    def to_send(self) -> bytes:
        """All that is to be written; b"" if nothing."""
        return self.outflow.take()

    def lost(self) -> None:
        """The socket is gone."""
        self._end_streams(ErrorCode.CANCEL)
        self._finished = True

    def hold(self) -> None:
        """The socket takes no more for now: answers wait here, where they are counted, until `release`."""
        self.outflow.hold()

    def release(self) -> None:
        self.outflow.release()
        self._settle()

    def tick(self, now: int) -> None:
        """Ends what takes too long. To be called about once a second."""
        self._now = self.outflow.now = now
        if self._finished:
            return
        try:
            self._check_times(now)
        except ConnectionFault as fault:
            self._fail(fault)
            return
        for stream in self.outflow.stalled(now - self._limits.stall_ms):
            self.outflow.reset(stream, ErrorCode.CANCEL)
            self._tell_reset(stream, ErrorCode.CANCEL)
        if self._drain_by is not None and now >= self._drain_by:
            self._refuse_more()
        self._settle()

    def drain(self, now: int) -> None:
        """A graceful end: what is under way, and what the client sends before it hears of it, is served."""
        if self._drain_by is not None or self._finished:
            return
        self._drain_by = now + self._limits.drain_ms
        self.outflow.frame(words.goaway(STREAM_ID_MAX, ErrorCode.NO_ERROR, "shutting down"))
        self.outflow.frame(words.frame(words.PING, 0, 0, DRAIN_PING))

    # --- the handler's side: void on a stream that is closed -----------------------------------------------------

    def send_headers(self, stream: Stream, block: bytes, *, end: bool = False) -> None:
        """The answer's head, or with `end` after it its trailers, or all of it. `block`: of `header_blocks.encode`."""
        if not stream.closing:
            self.outflow.headers(stream, block, end=end)

    def send_data(self, stream: Stream, data: bytes, *, end: bool = False) -> bool:
        """False: wait for `on_drained`, or there is nothing to wait for (`stream.closing`)."""
        return not stream.closing and self.outflow.data(stream, data, end=end)

    def send_whole(self, stream: Stream, head: bytes, data: bytes, trailers: bytes) -> None:
        """An answer with trailers. `head` and `trailers` together fit into a frame."""
        if not stream.closing:
            self.outflow.whole(stream, head, data, trailers)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """RST_STREAM. What still comes for it is taken for what was on its way."""
        if stream.state != CLOSED:
            self.outflow.reset(stream, code)
            stream.owner = None

    def grant(self, stream: Stream, size: int) -> None:
        """Let the peer send that much more on a stream."""
        if size and stream.state != CLOSED:
            stream.receive_window += size
            assert stream.receive_window <= WINDOW_MAX
            self.outflow.frame(words.window_update(stream.id, size))

    # --- frames ----------------------------------------------------------------------------------------

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_window -= size
        self._taken += size
        if self._receive_window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        data = payload
        if flags & PADDED:
            start, stop = unpadded(payload)
            data = payload[start:stop]
        end = flags & END_STREAM != 0
        if not data and not end:
            self._chatter_cost(1)
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id not in self.outflow.reset_ids:
                step(RECEIVE_DATA, self._absent(stream_id))
            return
        state = step(RECEIVE_DATA_END if end else RECEIVE_DATA, stream.state)
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the stream's window")
        if stream.body_left is not None:
            stream.body_left -= len(data)
            if stream.body_left < 0 or (end and stream.body_left):
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "not as much DATA as content-length said")
        if end:
            stream.state = state
            if state == CLOSED:
                self.streams.pop(stream_id)
        elif len(data) < size:
            self.grant(stream, size - len(data))  # nobody above sees the padding
        if data or end:
            self._handler.on_data(stream, data, end)

    def _on_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that is not a client's")
        end = flags & END_STREAM != 0
        stream = self.streams.get(stream_id)
        if stream is not None or stream_id <= self._last_id:
            self._on_late_block(stream_id, stream, block, end=end)
            return
        if stream_id - self._last_id > 2:  # 5.1.1: the ids between are closed now, and were never opened
            _remember(self._skipped, self._last_id + 1, stream_id - 1)
        self._last_id = stream_id
        request, aside = self._reader.request(block)
        if (
            len(self.streams) >= self._streams_max
            or stream_id > self._refuse_beyond
            or self.outflow.queued > self._queued_bytes_max // 2
        ):
            raise StreamFault(ErrorCode.REFUSED_STREAM, "no room for another stream")
        if end and request.content_length:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "not as much DATA as content-length said")
        self._opened += 1
        stream = Stream(
            stream_id,
            HALF_CLOSED_REMOTE if end else OPEN,  # as the table says of IDLE
            self._stream_window_bytes,
            self.outflow.initial_window,
            request.content_length,
        )
        stream.aside = aside
        self.streams[stream_id] = stream
        self._handler.on_request(stream, request, end)

    def _on_late_block(self, stream_id: int, stream: Stream | None, block: bytes, *, end: bool) -> None:
        """Trailers, or what comes on a stream that is closed."""
        fields = self._reader.fields(block)
        if stream is None:
            if stream_id in self.outflow.reset_ids:
                self._chatter_cost(1)
                return
            if any(first <= stream_id <= last for first, last in self._skipped.items()):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream id lower than the last")
            step(RECEIVE_HEADERS, CLOSED)
            return
        state = step(RECEIVE_HEADERS_END if end else RECEIVE_HEADERS, stream.state)
        check_trailers(fields)
        if stream.body_left:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "not as much DATA as content-length said")
        stream.state = state
        if state == CLOSED:
            self.streams.pop(stream_id)
        self._handler.on_trailers(stream, fields)

    def _on_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        """5.3.2: nobody heeds it any more."""
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY of the connection")
        if len(payload) != 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY")
        self._chatter_cost(1)

    def _on_rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM of the connection")
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM")
        stream = self.streams.get(stream_id)
        if stream is None:
            step(RECEIVE_RST, self._absent(stream_id))
            self._chatter_cost(1)
            return
        stream.state = step(RECEIVE_RST, stream.state)
        self.outflow.forget(stream)
        code = unpack_u32(payload)[0]
        self._tell_reset(stream, code)
        self._resets.spend(1, self._now, 0)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledged with settings")
            if self._acknowledged:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS acknowledged that were not sent")
            self._acknowledged = True
            return
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS")
        self._chatter_cost(1 + len(payload) // 48)
        for setting, value in words.iter_settings(payload):
            self._set(setting, value)
        self.outflow.frame(words.frame(SETTINGS, ACK, 0))
        self.outflow.run()  # 6.5.3: the peer relies on its values from the ACK on, so nothing goes by them before

    def _set(self, setting: int, value: int) -> None:
        """6.5.2. Unknown ones are ignored."""
        if setting == words.INITIAL_WINDOW_SIZE:
            if value > WINDOW_MAX:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE")
            self._chatter_cost(1 + len(self.streams) // 64)  # each stream's is changed, and a frame has room for 2,730
            self.outflow.set_initial_window(value)
        elif setting == words.MAX_FRAME_SIZE:
            if not words.DEFAULT_FRAME_BYTES_MAX <= value <= words.FRAME_BYTES_MAX_MAX:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE")
            self.outflow.frame_bytes_max = value
        elif setting == words.HEADER_TABLE_SIZE:
            if value < TABLE_BYTES:
                self.outflow.shrink_table()
        elif setting in {words.ENABLE_PUSH, words.NO_RFC7540_PRIORITIES} and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a SETTINGS value that is neither 0 nor 1")

    def _on_push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE of a client")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING")
        self._chatter_cost(1)
        if not flags & ACK:
            self._check_pings()
            self.outflow.frame(words.frame(words.PING, ACK, 0, payload))
        elif payload == DRAIN_PING and self._drain_by is not None:
            self._refuse_more()

    def _check_pings(self) -> None:
        """As grpc-go does: one too soon after the last, with nothing done meanwhile, is a strike.

        Raises ConnectionFault.
        """
        worked = self._opened + self.outflow.data_frames
        since, self._pinged_at = self._pinged_at, self._now
        if worked != self._pinged_worked:
            self._pinged_worked = worked
            self._strikes = 0
            return
        least = self._limits.ping_min_ms if self.streams else self._limits.ping_idle_ms
        if self._limits.ping_min_ms and since is not None and self._now < since + least:
            self._strikes += 1
            if self._strikes > PING_STRIKES_MAX:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")

    def _on_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        """It opens no more streams, or will not take ours, of which there are none: those open are served."""
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY")
        self._chatter_cost(1)
        if self._drain_by is None:
            self._drain_by = self._now
        self._refuse_more()

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE")
        increment = unpack_u32(payload)[0] & WINDOW_MAX
        self._chatter_cost(1)
        if not stream_id:
            if not increment:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            self.outflow.widen(increment)
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            step(RECEIVE_WINDOW_UPDATE, self._absent(stream_id))
        elif not increment:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        else:
            self.outflow.widen_stream(stream, increment)

    # --- inside ----------------------------------------------------------------------------------------

    def _absent(self, stream_id: int) -> int:
        """The state of a stream that is not kept."""
        return IDLE if stream_id > self._last_id or not stream_id & 1 else CLOSED

    def _chatter_cost(self, cost: int) -> None:
        self._chatter.spend(cost, self._now, self._opened + self.outflow.data_frames)

    def _fail_stream(self, stream_id: int, fault: StreamFault) -> None:
        """Raises ConnectionFault when it was one too many."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.outflow.reset(stream, fault.code)
            self._tell_reset(stream, fault.code)
        else:
            self.outflow.reset_id(stream_id, fault.code)
        self._resets.spend(1, self._now, 0)

    def _fail(self, fault: ConnectionFault) -> None:
        self.fault = fault
        self.outflow.frame(words.goaway(self._last_id, fault.code, fault.reason))
        self._finished = True
        self._end_streams(fault.code)

    def _end_streams(self, code: int) -> None:
        self._reader.forget()
        for stream in list(self.streams.values()):
            stream.state = CLOSED
            self.outflow.forget(stream)
            self._tell_reset(stream, code)

    def _tell_reset(self, stream: Stream, code: int) -> None:
        self._handler.on_reset(stream, code)
        stream.owner = None

    def _refuse_more(self) -> None:
        if self._refuse_beyond == STREAM_ID_MAX:
            self._refuse_beyond = self._last_id
            self.outflow.frame(words.goaway(self._last_id, ErrorCode.NO_ERROR))

    def _settle(self) -> None:
        """After anything that may have moved answers on."""
        drained = self.outflow.drained
        if drained:
            self.outflow.drained = []
            for stream in drained:
                if not stream.closing:
                    self._handler.on_drained(stream)

    def _check_times(self, now: int) -> None:
        """Raises ConnectionFault."""
        limits = self._limits
        if now - self._started >= limits.handshake_ms:
            if not self._frames.greeted:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no preface in time")
            if not self._acknowledged:
                raise ConnectionFault(ErrorCode.SETTINGS_TIMEOUT, "SETTINGS not acknowledged in time")
        self._frames.check_times(now)
        if not limits.keepalive_ms:
            return
        if self._asked_at is None:
            if now - self._heard >= limits.keepalive_ms:
                self._asked_at = now
                self.outflow.frame(words.frame(words.PING, 0, 0, KEEPALIVE_PING))
        elif now - self._asked_at >= limits.keepalive_timeout_ms:
            raise ConnectionFault(ErrorCode.NO_ERROR, "no answer to PING")


def _remember(ranges: dict[int, int], first: int, last: int) -> None:
    ranges[first] = last
    if len(ranges) > SKIPPED_MAX:
        del ranges[next(iter(ranges))]


_ON_FRAME: Final = (
    Connection._on_data,  # noqa: SLF001 - this class's own table; its body cannot name what it defines where it is compiled
    Connection._on_headers,  # noqa: SLF001
    Connection._on_priority,  # noqa: SLF001
    Connection._on_rst_stream,  # noqa: SLF001
    Connection._on_settings,  # noqa: SLF001
    Connection._on_push_promise,  # noqa: SLF001
    Connection._on_ping,  # noqa: SLF001
    Connection._on_goaway,  # noqa: SLF001
    Connection._on_window_update,  # noqa: SLF001
)
"""By the frame's type."""
