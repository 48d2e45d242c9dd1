"""The HTTP/2 core on a real socket, for tests and for load tools: a gRPC server of a few methods that echo.

`python -m tests.harness.http2_shell` serves until it is ended, and says where: drive it with h2load, curl or etcdctl.
The same turn as a door of the node has: one read, all its events, one write.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from zkv.gateway.http2 import grpc, grpc_words
from zkv.gateway.http2.grpc_words import Method
from zkv.gateway.http2.header_blocks import Fields, encode
from zkv.gateway.http2.limits import Http2Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zkv.gateway.http2.requests import Request
    from zkv.gateway.http2.streams import Stream

PUT = b"/etcdserverpb.KV/Put"
METHODS: grpc_words.Methods = {
    PUT: Method(),  # answered by an empty message, which is a PutResponse
    b"/echo.Echo/Unary": Method(),
    b"/echo.Echo/Collect": Method(client_streams=True),
    b"/echo.Echo/Repeat": Method(server_streams=True),
    b"/echo.Echo/Chat": Method(client_streams=True, server_streams=True),
}
REPEATS = 5
WRITE_HIGH_BYTES = 256 * 1024


class EchoDesk:
    """What the methods do, for the events of any connection."""

    def __init__(self, connection: grpc.GrpcConnection) -> None:
        self._connection = connection
        self._collected: dict[grpc.Call, list[bytes]] = {}

    def serve(self, events: list[grpc.Event]) -> None:
        connection = self._connection
        for event in events:
            call = event.call
            path = call.request.path
            if isinstance(event, grpc.Called):
                if path == PUT:
                    connection.reply(call, b"")
                elif path.endswith(b"Unary"):
                    connection.reply(call, event.message)
                else:
                    for _ in range(REPEATS):
                        connection.send(call, event.message)
                    connection.finish(call)
            elif isinstance(event, grpc.Received):
                if path.endswith(b"Chat"):
                    connection.send(call, event.message)
                else:
                    self._collected.setdefault(call, []).append(event.message)
            elif isinstance(event, grpc.HalfClosed):
                if path.endswith(b"Collect"):
                    connection.reply(call, b"".join(self._collected.pop(call, [])))
                else:
                    connection.finish(call)
            elif isinstance(event, grpc.Cancelled):
                self._collected.pop(call, None)


class _Hello:
    """What is not gRPC is greeted."""

    def __init__(self) -> None:
        self.connection: Any = None

    def on_request(self, stream: Stream, request: Request, end: bool) -> None:
        if end:
            self._answer(stream)

    def on_data(self, stream: Stream, data: bytes, end: bool) -> None:
        self.connection.grant(stream, 0 if end else len(data))
        if end:
            self._answer(stream)

    def on_trailers(self, stream: Stream, fields: Fields) -> None:
        self._answer(stream)

    def on_reset(self, stream: Stream, code: int) -> None: ...

    def on_drained(self, stream: Stream) -> None: ...

    def _answer(self, stream: Stream) -> None:
        self.connection.send_headers(stream, encode([(b":status", b"200"), (b"content-type", b"text/plain")]))
        self.connection.send_data(stream, b"hello\n", end=True)


def _now() -> int:
    return time.monotonic_ns() // 1_000_000


class Shell(asyncio.Protocol):
    def __init__(self, limits: Http2Limits) -> None:
        hello = _Hello()
        self._connection = grpc.GrpcConnection(METHODS, limits, _now(), plain=hello)
        hello.connection = self._connection.http
        self._desk = EchoDesk(self._connection)
        self._transport: Any = None
        self._ticking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.set_write_buffer_limits(WRITE_HIGH_BYTES)
        self._tick()

    def data_received(self, data: bytes) -> None:
        self._turn(self._connection.receive(data, _now()))

    def pause_writing(self) -> None:
        self._connection.http.hold()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()
        self._turn(self._connection.release())

    def connection_lost(self, exc: Exception | None) -> None:
        self._desk.serve(self._connection.lost())
        if self._ticking:
            self._ticking.cancel()

    def _tick(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(1, self._tick)
        self._turn(self._connection.tick(_now()))

    def _turn(self, events: list[grpc.Event]) -> None:
        self._desk.serve(events)
        out = self._connection.to_send()
        if out:
            self._transport.write(out)
        if self._connection.finished:
            self._transport.close()


@contextlib.contextmanager
def serving(limits: Http2Limits | None = None) -> Iterator[int]:
    """A port of loopback where it serves, from a thread of its own."""
    ready = threading.Event()
    port = 0
    stop: Any = None
    loop = asyncio.new_event_loop()

    async def main() -> None:
        nonlocal port, stop
        stop = asyncio.Event()
        server = await loop.create_server(lambda: Shell(limits or Http2Limits()), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    ready.wait()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _serve_forever() -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Shell(Http2Limits()), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if "--asyncio" in sys.argv:
        asyncio.run(_serve_forever())
    else:
        import uvloop

        uvloop.run(_serve_forever())
