"""Coverage-guided fuzzing of the HTTP/2 and gRPC core: `make fuzz`, or `make fuzz ARGS=-runs=1000000`.

atheris (libFuzzer for Python) makes inputs that reach ever new lines of `gateway/http2`. An input is a conversation
behind the greeting, and how it is cut into reads; the server answers as in tests/unit/gateway/http2/test_any_bytes.py,
and what must hold of a connection is checked after each read, as there. No exception may come out, and what is said
must be frames. An input that breaks that is left in a file, crash-*; `make fuzz ARGS=crash-..` plays it again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["zkv.gateway.http2"]):
    from zkv.gateway.http2 import grpc, words

from tests.harness import grpc_wire
from tests.harness import http2_wire as wire
from tests.harness.grpc_wire import head, message
from tests.harness.http2_wire import Recorder
from tests.unit.gateway.http2.test_any_bytes import LIMITS, answered, check

SEEDS = (
    wire.headers(1, head(), words.END_HEADERS) + wire.data(1, message(b"one"), end=True),
    wire.headers(1, head(b"/s.S/Both"), words.END_HEADERS) + wire.data(1, message(b"a") + message(b"b")),
    wire.headers(1, wire.GET) + words.window_update(0, 70_000) + words.rst_stream(1, 8),
    wire.setting(4, 1) + wire.setting(5, 20_000) + words.frame(words.PING, 0, 0, b"8 bytes."),
    words.frame(words.HEADERS, 0, 1, b"\x83") + words.frame(words.CONTINUATION, words.END_HEADERS, 1, b"\x86"),
    words.frame(words.HEADERS, words.END_HEADERS | words.PADDED, 1, b"\1\x83\0") + words.goaway(0, 0),
)


def one_input(data: bytes) -> None:
    """The first byte says how large reads are."""
    if not data:
        return
    size = 1 + data[0]
    connection = grpc.GrpcConnection(grpc_wire.METHODS, LIMITS, 0, Recorder())
    said = connection.to_send()
    body = data[1:]
    for now, piece in enumerate([wire.GREETING, *(body[at : at + size] for at in range(0, len(body), size))]):
        answered(connection, connection.receive(piece, now))
        check(connection)
        said += connection.to_send()
    connection.tick(60_000)
    check(connection)
    wire.parse(said + connection.to_send())


def main() -> None:
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS):
            (Path(corpus) / str(number)).write_bytes(b"\xff" + seed)
        atheris.Setup([*sys.argv, "-max_len=4096", "-rss_limit_mb=2048", corpus], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
