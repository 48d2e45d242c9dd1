"""One HTTP/1.1 connection as its server sees it. The parser is llhttp (Node's) by `httptools`.

A connection serves one request at a time; what comes behind it, pipelined, waits, and meanwhile `wants_more` is False:
its socket is not to be read. States, and what ends each part:

    HEAD      a request line and its fields      head_ms from its first byte; HEAD_BYTES_MAX
    BODY      what follows, given on as it comes silence_ms without a byte, unless its answer has begun (a stream)
    ANSWER    the request is whole               the client gone; stall_ms without taking anything
    IDLE      between requests                   idle_ms
    LINGER    answered before it was whole: the rest is read and dropped, for a close would take the answer
              away with it                       its end, or LINGER_BYTES, or linger_ms
    FINISHED  what `to_send` gives is to be written, then the socket to be closed

Why httptools: h11, the other well-kept parser, takes 50 us for a request where this takes 1, and 5 us where a hostile
client sends a chunk of one byte; and llhttp refuses more (a bare LF, Content-Length beside chunks, controls in fields).
"""

from __future__ import annotations

from collections import deque
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import httptools

from zkv.gateway.grpc_line import Peer
from zkv.gateway.web.exchange import TEXT, Asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.gateway.web.exchange import Desk, Fields, Receiver

HEAD_BYTES_MAX: Final = 16 * 1024
"""Of a request's line and fields, and of what trails its chunks."""
HEAD_PAIRS_MAX: Final = 100
QUEUED_BYTES: Final = 256 * 1024
"""Who answers should wait when more than this is not written yet."""
LINGER_BYTES: Final = 4 << 20


class Patience(NamedTuple):
    """Milliseconds."""

    head_ms: int = 10_000
    silence_ms: int = 30_000
    stall_ms: int = 60_000
    idle_ms: int = 600_000
    linger_ms: int = 5_000


class _Head(NamedTuple):
    asked: Asked
    keep: bool
    """The connection may go on after it."""
    version_1_1: bool


class _Refused(Exception):
    """A request that is answered here: `status`, and the connection ends."""

    def __init__(self, status: HTTPStatus, why: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.why = why


class Http1Connection:
    """See the module. Raises for nothing that a client sends."""

    def __init__(
        self,
        desk: Desk,
        dirty: Callable[[Http1Connection], None],
        now: int,
        peer: Peer | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`dirty` is called when there is something to send."""
        self._desk = desk
        self._dirty = dirty
        self._peer = peer or Peer()
        self._patience = patience or Patience()
        self._now = self._moved_at = now
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._in_head = True
        self._head_since: int | None = None
        self._events: deque[_Head | bytearray | None] = deque()  # heads, pieces of a body, and None: the end of one
        self._answer: _Answer | None = None
        self._receiver: Receiver | None = None
        self._receiving = False  # the request that is being answered is not whole
        self._out: list[bytes] = []
        self._queued = 0
        self._held = False
        self._draining = False
        self._lingering: int | None = None  # until when
        self._dropped = 0
        self._last = False  # after what is lingered for, the connection ends
        self._finished = False
        self._running = False

    # --- the shell's side ----------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self._finished

    @property
    def wants_more(self) -> bool:
        return not self._events

    def receive(self, data: bytes, now: int) -> None:
        self._now = self._moved_at = now
        if self._finished:
            return
        if self._lingering is not None:
            self._dropped += len(data)
            self._finished = self._dropped > LINGER_BYTES
        try:
            self._parse(data)
        except _Refused as refused:
            self._refuse(refused)
        else:
            self._run()

    def to_send(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        self._queued = 0
        return out

    def written(self) -> None:
        self._moved_at = self._now
        if not self._held and self._answer is not None and self._answer.full:
            self._answer.full = False
            if self._receiver is not None:
                self._receiver.drained()

    def hold(self) -> None:
        self._held = True

    def release(self, now: int) -> None:
        self._held = False
        self._now = now
        self.written()

    def lost(self, now: int) -> None:
        self._now = now
        self._end()

    def _end(self) -> None:
        self._dirty(self)
        self._finished = True
        self._events.clear()
        receiver, self._receiver = self._receiver, None
        if self._answer is not None:
            self._answer.over = True
            self._answer = None
        if receiver is not None:
            receiver.gone()

    def drain(self, now: int) -> None:
        """The request that is being answered is the last."""
        self._now = now
        self._draining = True
        if self._answer is None:
            self._end()

    def tick(self, now: int) -> None:
        """Ends what takes too long. To be called about once a second."""
        self._now = now
        patience = self._patience
        silent = now - self._moved_at
        if self._lingering is not None:
            if now >= self._lingering:
                self._end()
        elif self._held and silent >= patience.stall_ms:
            self._end()
        elif self._answer is None:
            if self._head_since is not None and now - self._head_since >= patience.head_ms:
                self._refuse(_Refused(HTTPStatus.REQUEST_TIMEOUT))
            elif silent >= patience.idle_ms:
                self._end()
        elif self._receiving and not self._answer.begun and silent >= patience.silence_ms:
            self._refuse(_Refused(HTTPStatus.REQUEST_TIMEOUT))

    # --- the parser's side: its names ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._fields = []
        self._head_bytes = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        if self._in_head:
            self._fields.append((name.lower(), value))
            if len(self._fields) > HEAD_PAIRS_MAX:
                raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._head_since = None
        self._events.append(self._head())

    def on_body(self, data: bytes) -> None:
        if self._lingering is not None:
            return
        last = self._events[-1] if self._events else None
        if type(last) is bytearray:
            last += data
        else:
            self._events.append(bytearray(data))

    def on_message_complete(self) -> None:
        self._in_head = True
        self._events.append(None)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    # --- inside ----------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        """Raises _Refused."""
        if self._in_head and self._head_since is None and data.strip(b"\r\n"):
            self._head_since = self._now
        before = len(self._events)
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:  # to what is not spoken here: it is a request like others
                data = data[upgrade.args[0] :]
                self._parser = httptools.HttpRequestParser(self)
                continue
            except httptools.HttpParserCallbackError as error:
                refused = error.__context__
                if isinstance(refused, _Refused):
                    raise refused from None
                raise
            except httptools.HttpParserError:
                raise _Refused(HTTPStatus.BAD_REQUEST) from None
            break
        if len(self._events) == before and self._in_head:
            self._count(len(data))  # a line without end: the parser tells of it when it is whole

    def _head(self) -> _Head:
        """Raises _Refused."""
        version = self._parser.get_http_version()
        if version not in {"1.0", "1.1"}:
            raise _Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "unsupported protocol version")
        fields: dict[str, str] = {}
        for name, value in self._fields:
            text = name.decode("latin-1")
            if text == "host" and text in fields:
                raise _Refused(HTTPStatus.BAD_REQUEST, "too many Host headers")
            fields.setdefault(text, value.decode("utf-8", "replace").strip())
        if "host" not in fields and version == "1.1":
            raise _Refused(HTTPStatus.BAD_REQUEST, "missing required Host header")
        coding = fields.get("transfer-encoding", "chunked").lower()
        if coding != "chunked":
            raise _Refused(HTTPStatus.NOT_IMPLEMENTED, "Unsupported transfer encoding")
        try:
            url = self._url.decode("ascii")
            if not url.startswith("/") and url != "*":
                parts = urlsplit(url)
                url = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        except ValueError:
            raise _Refused(HTTPStatus.BAD_REQUEST) from None
        path, _, query = url.partition("?")
        asked = Asked(
            method=self._parser.get_method().decode("ascii"),
            path=unquote(path) if "%" in path else path,
            query=query.partition("#")[0],
            host=fields.get("host", ""),
            fields=fields,
            peer=self._peer,
        )
        return _Head(asked, self._parser.should_keep_alive(), version == "1.1")

    def _run(self) -> None:
        """Give on what has come, as far as it is its turn."""
        if self._running:
            return  # an answer given at once: the loop below goes on
        self._running = True
        events = self._events
        while events and not self._finished:
            if isinstance(events[0], _Head) and self._answer is not None:
                break  # pipelined
            event = events.popleft()
            if isinstance(event, _Head):
                self._begin(event)
            elif event is None:
                self._request_ended()
            elif self._receiver is not None:
                self._receiver.data(bytes(event), self._now)
        self._running = False

    def _begin(self, head: _Head) -> None:
        asked = head.asked
        keep = head.keep and not self._draining
        self._answer = answer = _Answer(self, head_only=asked.method == "HEAD", chunks=head.version_1_1, keep=keep)
        self._receiving = True
        receiver = self._desk.asked(answer, asked, self._now)
        if not answer.over:
            self._receiver = receiver
            expects = head.version_1_1 and asked.fields.get("expect", "").lower() == "100-continue"
            if expects and receiver is not None and not answer.begun:
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _request_ended(self) -> None:
        self._receiving = False
        if self._lingering is not None:
            self._lingering = None
            if self._last:
                self._end()
        elif self._receiver is not None:
            self._receiver.ended(self._now)

    def _refuse(self, refused: _Refused) -> None:
        """As Go's server does, and the connection ends with it."""
        self._events.clear()
        if self._answer is not None and self._answer.begun:
            self.abort()
            return
        status = refused.status
        text = f"{status.value} {(refused.why and f'{status.phrase}: {refused.why}') or status.phrase}".encode()
        line = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {TEXT}\r\nConnection: close\r\n\r\n"
        self.send(line.encode() + text)
        self._end()

    def send(self, data: bytes) -> None:
        if not self._out:
            self._dirty(self)
        self._out.append(data)
        self._queued += len(data)

    @property
    def is_full(self) -> bool:
        return self._held or self._queued > QUEUED_BYTES

    @property
    def is_receiving(self) -> bool:
        """The request that is being answered has not come whole."""
        return self._receiving and None not in self._events

    def answered(self, *, keep: bool) -> None:
        """The answer is given; the next request's turn, if there is to be one."""
        self._answer = self._receiver = None
        if self.is_receiving:
            self._events.clear()
            self._lingering = self._now + self._patience.linger_ms
            self._last = not keep or self._draining
            self._dropped = 0
            return
        while self._receiving:  # nobody wants the rest of it
            self._receiving = self._events.popleft() is not None
        if not keep or self._draining:
            self._end()
        self._run()

    def abort(self) -> None:
        self._end()


class _Answer:
    """The Exchange of one request."""

    def __init__(self, connection: Http1Connection, *, head_only: bool, chunks: bool, keep: bool) -> None:
        self.over = False
        self.begun = False
        self.full = False
        """Who answers was told to wait."""
        self._connection = connection
        self._head_only = head_only
        self._can_chunk = chunks
        self._chunks = False
        self._keep = keep

    def head(self, status: int, fields: Fields, size: int | None = None) -> None:
        if self.over:
            return
        self.begun = True
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in sorted(fields)]
        lines.append(f"Date: {formatdate(usegmt=True)}")
        if size is not None:
            lines.append(f"Content-Length: {size}")
        elif self._can_chunk:
            self._chunks = True
            lines.append("Transfer-Encoding: chunked")
        else:
            self._keep = False  # the end of the connection is the end of the answer
        if not self._keep:
            lines.append("Connection: close")
        self._connection.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    def body(self, data: bytes) -> bool:
        if self.over or not data:
            return not self.over
        if not self._head_only:
            self._connection.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunks else data)
        self.full = self._connection.is_full
        return not self.full

    def end(self) -> None:
        if self.over:
            return
        self.over = True
        if self._chunks and not self._head_only:
            self._connection.send(b"0\r\n\r\n")
        self._connection.answered(keep=self._keep)

    def abort(self) -> None:
        if not self.over:
            self._connection.abort()
