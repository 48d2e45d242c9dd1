"""What a unary call costs in the process of etcd's door, sockets apart: `python -m tests.harness.door_cost`.

HTTP/2, gRPC, protobuf, checks, groups, and the same way back; the node behind it is a function that answers a group at
once. With --profile, where it goes. CPU time of this process alone; the best of a few rounds. `http2_cost` has the
first two alone.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
from typing import TYPE_CHECKING, Any

import hpack

from tests.bench import etcd_calls
from tests.harness import http2_wire as wire
from zkv.gateway.grpc_desk import EtcdDesk
from zkv.gateway.grpc_line import Line
from zkv.gateway.http2 import words
from zkv.gateway.http2.limits import Http2Limits
from zkv.limits import Limits
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 40_000
ROUNDS = 3
LINES = 20
REVISION = 7
INCARNATION = m.ETCD_DOOR | 1
ANSWERS: dict[str, Any] = {
    "put": (),
    "l": (((b"bench-key", 5, 6, 2, etcd_calls.VALUE, 0),), False, 1),
}


def reads(kind: str, calls_per_read: int) -> list[bytes]:
    """What h2load sends on a connection: all heads the same, but for the first."""
    path, body = etcd_calls.unary(kind, b"bench-key")
    fields = [
        (":method", "POST"), (":scheme", "http"), (":path", path.decode()), (":authority", "127.0.0.1:2379"),
        ("content-type", "application/grpc"), ("user-agent", "h2load"), ("te", "trailers"),
    ]  # fmt: skip
    encoder = hpack.Encoder()
    found = []
    for first in range(0, CALLS // LINES, calls_per_read):
        frames = []
        for i in range(first, first + calls_per_read):
            block = encoder.encode(fields)
            frames += [
                words.frame(words.HEADERS, words.END_HEADERS, 2 * i + 1, block),
                wire.data(2 * i + 1, body, end=True),
            ]
        found.append(b"".join(frames))
    return found


class Node:
    """The rest of the node, for as long as it takes to answer a frame."""

    def __init__(self, kind: str) -> None:
        self.answers: list[tuple[int, bytes, bool]] = []
        self._body = ANSWERS[kind]
        self.desk = EtcdDesk(
            limits=Limits(), member_id=1, cluster_id=2, incarnation=INCARNATION, request_timeout_ms=7_000,
            leaderless_ms=3_000, post=self.post,
        )  # fmt: skip
        self.desk.mail(m.LeaderIs(1, 1, 0), 0)
        self.spent = 0.0

    def post(self, _to: str, message: Any) -> bool:
        """Takes its own time out of the count."""
        began = time.process_time()
        frame = message.frame if hasattr(message, "frame") else message[0]
        for gid, payload in codec.unpack(frame)[2]:
            requests = codec.unpack(payload)[4]
            body = [(id_, 0, REVISION, self._body) for id_, _, _ in requests]
            self.answers.append((gid, codec.pack((1, 2, 1, 1, body, 0)), True))
        self.spent += time.process_time() - began
        return True


def serve(kind: str, turns: list[bytes]) -> Callable[[], float]:
    """All turns, on as many connections at once; the CPU seconds they took."""
    node = Node(kind)
    lines = [Line(node.desk, Http2Limits(), 0) for _ in range(LINES)]
    for line in lines:
        line.receive(wire.GREETING + words.window_update(0, 1 << 30), 0)

    def run() -> float:
        node.spent = 0.0
        began = time.process_time()
        for now, turn in enumerate(turns):
            for line in lines:
                line.receive(turn, now)
            node.desk.flush()
            answers, node.answers = node.answers, []
            node.desk.mail(m.GatewayAnswers(INCARNATION, tuple(answers)), now)
            dirty, node.desk.dirty = node.desk.dirty, set()
            for each in dirty:
                assert isinstance(each, Line)
                each.connection.to_send()
        took = time.process_time() - began - node.spent
        assert not node.desk.asking.in_flight[0]
        return took

    return run


def cost_us(kind: str, turns: list[bytes]) -> float:
    return min(serve(kind, turns)() for _ in range(ROUNDS)) / CALLS * 1e6


def main() -> None:
    for kind in ANSWERS:
        for calls_per_read in (1, 10):
            print(f"{kind}, {calls_per_read} calls a read: {cost_us(kind, reads(kind, calls_per_read)):.1f} us a call")
        if "--profile" in sys.argv:
            profile = cProfile.Profile()
            profile.runcall(serve(kind, reads(kind, 10)))
            pstats.Stats(profile).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
