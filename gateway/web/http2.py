"""The streams of an HTTP/2 connection that are no calls of gRPC: requests as over HTTP/1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from zkv.gateway.http2.header_blocks import encode
from zkv.gateway.http2.words import ErrorCode
from zkv.gateway.web.exchange import Asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.gateway.grpc_line import Peer
    from zkv.gateway.http2.connection import Connection
    from zkv.gateway.http2.header_blocks import Fields as Http2Fields
    from zkv.gateway.http2.requests import Request
    from zkv.gateway.http2.streams import Stream
    from zkv.gateway.web.exchange import Desk, Fields, Receiver

_ONE_CONNECTION: Final = frozenset({"connection", "transfer-encoding"})


class PlainStreams:
    """A `Handler` of http2/connection.py. `now` is brought up to date by whoever drives the connection."""

    def __init__(self, desk: Desk, peer: Peer) -> None:
        self.now = 0
        self.http: Connection
        self.dirty: Callable[[], None]
        """To be called when there is something to send."""
        self._desk = desk
        self._peer = peer

    def on_request(self, stream: Stream, request: Request, end: bool) -> None:
        path, _, query = request.path.decode("ascii").partition("?")
        fields: dict[str, str] = {}
        for name, value in request.fields:
            fields.setdefault(name.decode("latin-1"), value.decode("utf-8", "replace"))
        asked = Asked(
            method=request.method.decode("ascii"),
            path=unquote(path) if "%" in path else path,
            query=query,
            host=request.authority.decode("ascii"),
            fields=fields,
            peer=self._peer,
        )
        answer = _Answer(self, stream, head_only=asked.method == "HEAD")
        receiver = self._desk.asked(answer, asked, self.now)
        if receiver is not None and not stream.closing:
            stream.owner = receiver
            if end:
                receiver.ended(self.now)

    def on_data(self, stream: Stream, data: bytes, end: bool) -> None:
        if not end:
            self.http.grant(stream, len(data))
        receiver: Receiver | None = stream.owner
        if receiver is None:
            return
        if data:
            receiver.data(data, self.now)
        if end and stream.owner is not None:
            receiver.ended(self.now)

    def on_trailers(self, stream: Stream, fields: Http2Fields) -> None:  # noqa: ARG002 - a Handler's face
        if stream.owner is not None:
            stream.owner.ended(self.now)

    def on_reset(self, stream: Stream, code: int) -> None:  # noqa: ARG002 - a Handler's face
        if stream.owner is not None:
            stream.owner.gone()

    def on_drained(self, stream: Stream) -> None:
        if stream.owner is not None:
            stream.owner.drained()


class _Answer:
    """The Exchange of one stream."""

    def __init__(self, streams: PlainStreams, stream: Stream, *, head_only: bool) -> None:
        self._http = streams.http
        self._dirty = streams.dirty
        self._stream = stream
        self._head_only = head_only

    def head(self, status: int, fields: Fields, size: int | None = None) -> None:
        block = [(b":status", b"%d" % status)]
        block += [(name.lower().encode(), value.encode()) for name, value in fields if name not in _ONE_CONNECTION]
        if size is not None:
            block.append((b"content-length", b"%d" % size))
        self._http.send_headers(self._stream, encode(block))
        self._dirty()

    def body(self, data: bytes) -> bool:
        self._dirty()
        return self._head_only or self._http.send_data(self._stream, data)

    def end(self) -> None:
        self._http.send_data(self._stream, b"", end=True)
        self._dirty()

    def abort(self) -> None:
        self._http.reset(self._stream, ErrorCode.INTERNAL_ERROR)
        self._dirty()
