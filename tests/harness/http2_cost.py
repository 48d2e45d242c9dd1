"""What a unary call costs in the HTTP/2 core: `python -m tests.harness.http2_cost`, with --profile to see where.

CPU time of this process alone, so that it means something on a busy machine too; the best of a few rounds. No socket:
that costs what the event loop takes for a read and a write, shared by all calls of a turn.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
from typing import TYPE_CHECKING

import hpack

from tests.harness import http2_wire as wire
from tests.harness.grpc_wire import message
from zkv.gateway.http2 import grpc, words
from zkv.gateway.http2.grpc_words import Method
from zkv.gateway.http2.limits import Http2Limits

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 40_000
ROUNDS = 3
REQUEST_BYTES = 256
ANSWER = bytes(30)  # a PutResponse
PATH = "/etcdserverpb.KV/Put"
GO_HEAD = [
    (":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", "127.0.0.1:2379"),
    ("content-type", "application/grpc"), ("user-agent", "grpc-go/1.38.0"), ("te", "trailers"),
]  # fmt: skip


def reads(calls_per_read: int, *, deadlines: bool) -> list[bytes]:
    """What grpc-go would send: its table in use, and with deadlines a new timeout in it for every call."""
    encoder = hpack.Encoder()
    body = message(bytes(REQUEST_BYTES))
    found = []
    for first in range(0, CALLS, calls_per_read):
        frames = []
        for i in range(first, first + calls_per_read):
            timeout = [("grpc-timeout", f"{4_000_000 + i}u")] if deadlines else []
            block = encoder.encode(GO_HEAD + timeout)
            frames += [
                words.frame(words.HEADERS, words.END_HEADERS, 2 * i + 1, block),
                wire.data(2 * i + 1, body, end=True),
            ]
        found.append(b"".join(frames))
    return found


def serve(turns: list[bytes]) -> Callable[[], None]:
    """All turns on a connection of its own, each call answered at once."""
    connection = grpc.GrpcConnection({PATH.encode(): Method()}, Http2Limits(), 0)
    connection.receive(wire.GREETING + words.window_update(0, 1 << 30), 0)

    def run() -> None:
        reply = connection.reply
        answered = 0
        for now, turn in enumerate(turns):
            for event in connection.receive(turn, now):
                reply(event.call, ANSWER)
                answered += 1
            connection.to_send()
        assert answered == CALLS

    return run


def cost_us(turns: list[bytes]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        run = serve(turns)
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best / CALLS * 1e6


def main() -> None:
    for deadlines in (False, True):
        for calls_per_read in (1, 10, 100):
            turns = reads(calls_per_read, deadlines=deadlines)
            name = "a new grpc-timeout each" if deadlines else "all heads the same"
            print(f"{name}, {calls_per_read} calls a read: {cost_us(turns):.1f} us a call")
    if "--profile" in sys.argv:
        for deadlines in (False, True):
            profile = cProfile.Profile()
            profile.runcall(serve(reads(100, deadlines=deadlines)))
            pstats.Stats(profile).sort_stats("tottime").print_stats(12)


if __name__ == "__main__":
    main()
