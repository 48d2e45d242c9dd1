"""What leaves a connection: frames, and DATA that waits for the peer's windows (RFC 9113 section 5.2 and 6.9).

Everything but DATA goes out at once. DATA goes as far as the stream's window, the connection's, and the shell's
patience (`hold`) let it; the rest waits in its stream. A stream that waits is in `_blocked`; if its own window is open,
so that it waits for the connection's or for the shell, it is in `_ready` too. So a WINDOW_UPDATE never costs a search:
one of the connection's serves the ready streams in turns, a frame each, until nothing is left of it, and one of a
stream serves that.

    stream.queue not empty                              <=>  stream in _blocked
    stream.queue not empty and stream.send_window > 0   <=>  stream in _ready
    queued = sum of stream.queued <= queued_bytes_max

What does not fit is refused, by resetting its stream: a peer that asks and does not read pays with its own calls.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter

from zkv.gateway.http2 import words
from zkv.gateway.http2.header_blocks import TABLE_UNUSED
from zkv.gateway.http2.streams import CLOSED, HALF_CLOSED_REMOTE, SEND_END, SEND_RST, Stream, step
from zkv.gateway.http2.words import (
    CONTINUATION,
    DATA,
    DEFAULT_FRAME_BYTES_MAX,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    WINDOW_MAX,
    ConnectionFault,
    ErrorCode,
    StreamFault,
    write_header,
)

if TYPE_CHECKING:
    from zkv.gateway.http2.limits import Http2Limits


RESET_IDS_MAX: Final = 2_000
DRIBBLE_BYTES: Final = 1_024
"""A piece of something, smaller than this, is no work for which a peer may talk: its windows make it so small."""


class Outflow:
    """Of one connection, whose `streams` it shares."""

    __slots__ = (
        "_blocked", "_held", "_limits", "_out", "_ready", "_streams", "_table_update", "data_frames", "drained",
        "frame_bytes_max", "initial_window", "now", "queued", "reset_ids", "window",
    )  # fmt: skip

    def __init__(self, streams: dict[int, Stream], limits: Http2Limits, now: int) -> None:
        self.now = now
        self.window = DEFAULT_WINDOW
        """The connection's, of the peer."""
        self.initial_window = DEFAULT_WINDOW
        """What a stream starts with, by the peer's SETTINGS."""
        self.frame_bytes_max = DEFAULT_FRAME_BYTES_MAX
        """The peer's SETTINGS_MAX_FRAME_SIZE."""
        self.queued = 0
        self.data_frames = 0
        """DATA frames sent so far, but for dribbles."""
        self.drained: list[Stream] = []
        """Streams told to wait that need wait no longer; whoever looks empties it."""
        self.reset_ids: dict[int, None] = {}
        """The last ones that we have reset, in order."""
        self._streams = streams
        self._limits = limits
        self._out: list[bytes | memoryview] = []
        self._blocked: dict[int, Stream] = {}
        self._ready: dict[int, Stream] = {}
        self._held = False
        self._table_update = False

    def take(self) -> bytes:
        """All frames since the last time."""
        if not self._out:
            return b""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def frame(self, frame: bytes) -> None:
        self._out.append(frame)

    def shrink_table(self) -> None:
        """The peer's decoder wants a smaller table than the default: it is told that ours is none at all."""
        self._table_update = True

    # --- an answer ---------------------------------------------------------------------------------

    def headers(self, stream: Stream, block: bytes, *, end: bool = False) -> None:
        """A first block, or trailers (`end`). `block`: of `header_blocks.encode`."""
        stream.answered = True
        if end:
            self._end(stream, block)
        else:
            self._block(stream.id, block, 0)

    def data(self, stream: Stream, data: bytes, *, end: bool = False) -> bool:
        """Whether more may follow at once; if not, the stream will be found in `drained`."""
        size = len(data)
        if not stream.queue and 0 < size <= self._room(stream) and size <= self.frame_bytes_max:
            self.window -= size
            stream.send_window -= size
            self.data_frames += 1
            self._out += (words.header(size, DATA, END_STREAM if end else 0, stream.id), data)
            if end:
                stream.closing = True
                self._ended(stream)
            return True
        if self.queued + size > self._limits.queued_bytes_max:
            self.reset(stream, ErrorCode.ENHANCE_YOUR_CALM)
            return False
        if data:
            self._queue(stream, data)
        if end:
            self._end(stream, None)
        self.run()
        stream.full = stream.queued > self._limits.stream_queued_bytes
        return not stream.full

    def whole(self, stream: Stream, head: bytes, data: bytes, trailers: bytes) -> None:
        """A whole answer at once: the way of a unary call, and as short as it can be."""
        size = len(data)
        head_size = len(head)
        trailers_size = len(trailers)
        if (
            0 < size <= self.window
            and size <= stream.send_window
            and size <= self.frame_bytes_max
            and head_size + trailers_size <= DEFAULT_FRAME_BYTES_MAX
            and not self._held
            and not self._table_update
        ):
            self.window -= size
            stream.send_window -= size
            self.data_frames += 1
            stream.answered = stream.closing = True
            id_ = stream.id
            out = BytesWriter()
            write_header(out, head_size, HEADERS, END_HEADERS, id_)
            out.write(head)
            write_header(out, size, DATA, 0, id_)
            out.write(data)
            write_header(out, trailers_size, HEADERS, END_HEADERS | END_STREAM, id_)
            out.write(trailers)
            self._out.append(out.getvalue())
            if stream.state == HALF_CLOSED_REMOTE:  # as the table says; nearly always
                stream.state = CLOSED
                stream.owner = None
                del self._streams[id_]
            else:
                self._ended(stream)
            return
        self.headers(stream, head)
        self.data(stream, data)
        if stream.state != CLOSED:
            self.headers(stream, trailers, end=True)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        stream.state = step(SEND_RST, stream.state)
        self.forget(stream)
        self.reset_id(stream.id, code)

    def reset_id(self, stream_id: int, code: ErrorCode) -> None:
        """RST_STREAM. What the peer sent before it heard of it is to be ignored (5.1), so the id is remembered."""
        self._out.append(words.rst_stream(stream_id, code))
        self.reset_ids[stream_id] = None
        if len(self.reset_ids) > RESET_IDS_MAX:
            del self.reset_ids[next(iter(self.reset_ids))]

    def forget(self, stream: Stream) -> None:
        """It is closed: what it had queued is void."""
        self._streams.pop(stream.id, None)
        self._blocked.pop(stream.id, None)
        self._ready.pop(stream.id, None)
        self.queued -= stream.queued
        stream.queued = 0
        stream.queue = None
        stream.closing = True

    # --- the peer's windows, and the shell's ---------------------------------------------------------

    def widen(self, increment: int) -> None:
        """The connection's WINDOW_UPDATE. Raises ConnectionFault."""
        self.window += increment
        if self.window > WINDOW_MAX:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window overflows")
        if self._ready:
            self.run()

    def widen_stream(self, stream: Stream, increment: int) -> None:
        """A stream's. Raises StreamFault."""
        stream.send_window += increment
        if stream.send_window > WINDOW_MAX:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window overflows")
        if stream.id in self._blocked and stream.send_window > 0:
            self._ready[stream.id] = stream
            self.run()

    def set_initial_window(self, size: int) -> None:
        """6.9.2: of all streams there are, too. What has room by that waits for `run`. Raises ConnectionFault."""
        change = size - self.initial_window
        self.initial_window = size
        if not change:
            return
        for stream in self._streams.values():
            stream.send_window += change
            if stream.send_window > WINDOW_MAX:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS make a stream's window overflow")
        self._ready = {id_: stream for id_, stream in self._blocked.items() if stream.send_window > 0}

    def hold(self) -> None:
        """The shell has enough to write: DATA waits here, where it is counted."""
        self._held = True

    def release(self) -> None:
        self._held = False
        self.run()

    def stalled(self, since: int) -> list[Stream]:
        """Streams whose queue has not moved since then."""
        return [stream for stream in self._blocked.values() if stream.moved_at <= since]

    # --- inside --------------------------------------------------------------------------------------

    def _room(self, stream: Stream) -> int:
        return 0 if self._held else min(self.window, stream.send_window)

    def _queue(self, stream: Stream, data: bytes) -> None:
        if stream.queue is None:
            stream.queue = deque()
        stream.queue.append(data)
        stream.queued += len(data)
        self.queued += len(data)
        self._block_stream(stream)

    def _end(self, stream: Stream, trailers: bytes | None) -> None:
        stream.closing = True
        stream.trailers = trailers
        if stream.queue:
            return
        if trailers is not None:
            self._block(stream.id, trailers, END_STREAM)
        else:
            self._out.append(words.header(0, DATA, END_STREAM, stream.id))  # needs no window
        self._ended(stream)

    def _ended(self, stream: Stream) -> None:
        """Whoever has its answer need not go on asking (8.1): a stream of ours does not stay half-closed (local)."""
        stream.state = step(SEND_END, stream.state)
        if stream.state == CLOSED:
            self._streams.pop(stream.id, None)
        else:
            self.reset(stream, ErrorCode.NO_ERROR)
        stream.owner = None

    def _block_stream(self, stream: Stream) -> None:
        if stream.id not in self._blocked:
            stream.moved_at = self.now
            self._blocked[stream.id] = stream
        if stream.send_window > 0:
            self._ready[stream.id] = stream

    def run(self) -> None:
        """Serve who is ready, a frame each in turns."""
        while self._ready and self.window > 0 and not self._held:
            id_, stream = next(iter(self._ready.items()))
            del self._ready[id_]
            self._send_some(stream)
            if not stream.queue:
                self._blocked.pop(id_, None)
            elif stream.send_window > 0:
                self._ready[id_] = stream  # at the end of the line

    def _send_some(self, stream: Stream) -> None:
        """One DATA frame of its queue, which is not empty."""
        queue = stream.queue
        assert queue
        head = queue[0]
        size = min(len(head), self.window, stream.send_window, self.frame_bytes_max)
        if size == len(head):
            queue.popleft()
            part = head
        else:
            view = memoryview(head)
            part, queue[0] = view[:size], view[size:]
        self.window -= size
        stream.send_window -= size
        stream.queued -= size
        self.queued -= size
        stream.moved_at = self.now
        if size == len(head) or size >= DRIBBLE_BYTES:
            self.data_frames += 1
        end = stream.closing and not queue and stream.trailers is None
        self._out += (words.header(size, DATA, END_STREAM if end else 0, stream.id), part)
        if end:
            self._ended(stream)
        elif stream.closing and not queue:
            self._end(stream, stream.trailers)
        elif stream.full and stream.queued <= self._limits.stream_queued_bytes // 2:
            stream.full = False
            self.drained.append(stream)

    def _block(self, stream_id: int, block: bytes, flags: int) -> None:
        """HEADERS, and CONTINUATION where the peer's frames are too small for it."""
        if self._table_update:
            self._table_update = False
            block = TABLE_UNUSED + block
        most = self.frame_bytes_max
        if len(block) <= most:
            self._out.append(words.frame(HEADERS, END_HEADERS | flags, stream_id, block))
            return
        self._out.append(words.frame(HEADERS, flags, stream_id, block[:most]))
        for start in range(most, len(block), most):
            last = END_HEADERS if start + most >= len(block) else 0
            self._out.append(words.frame(CONTINUATION, last, stream_id, block[start : start + most]))
