"""Sessions talking to a cluster over a wire that a test moves by hand, message by message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tests.unit.client.fake_cluster import answers, requests_of
from zkv.client.session import Session
from zkv.wire import messages as m
from zkv.wire.codec import unpack

if TYPE_CHECKING:
    from zkv.client.retry import RetryPolicy
    from zkv.client.ticket import Ticket
    from zkv.limits import Limits

SESSION = bytes(8) + b"s" * 8


class Wire:
    """A session, the time, and what it has sent."""

    def __init__(
        self,
        endpoints: int = 2,
        *,
        limits: Limits | None = None,
        retry: RetryPolicy | None = None,
        connect: bool = True,
    ) -> None:
        self.now = 1000
        self.session = Session(endpoints, SESSION, 7, now=self.now, limits=limits, retry=retry)
        if connect:
            for endpoint in range(endpoints):
                self.session.connected(endpoint, self.now)

    def put(self, key: bytes = b"k", value: bytes = b"v", wait_ms: int = 5000) -> Ticket:
        return self.session.submit(m.Put(key, value), self.now + wait_ms)

    def get(self, key: bytes = b"k", wait_ms: int = 5000) -> Ticket:
        return self.session.submit(m.Range(key), self.now + wait_ms)

    def stream(self, request: m.Range | None = None, wait_ms: int = 5000) -> Ticket:
        return self.session.submit(request or m.Range(b"\0", b"\0"), self.now + wait_ms, stream=True)

    def sent(self) -> list[tuple[int, m.Requests]]:
        """(endpoint, Requests) that leave now."""
        return [
            (endpoint, requests_of(data))
            for endpoint, data in self.session.outgoing(self.now)
            if unpack(data)[1] == m.ClientKind.REQUESTS
        ]

    def words(self) -> list[tuple[int, str, tuple[int, ...]]]:
        """(endpoint, CREDIT or CANCEL, fields) that leave now."""
        found = []
        for endpoint, data in self.session.outgoing(self.now):
            _, kind, *fields = unpack(data)
            found.append((endpoint, m.ClientKind(kind).name, tuple(fields)))
        return found

    def one_sent(self) -> tuple[int, m.Requests]:
        (only,) = self.sent()
        return only

    def answer(self, endpoint: int, *items: tuple[int, int, int, Any]) -> None:
        self.session.received(endpoint, answers(*items), self.now)

    def pass_ms(self, ms: int) -> None:
        """Let time pass, waking the session whenever it wants to be."""
        until = self.now + ms
        while (wakeup := self.session.next_wakeup()) is not None and wakeup <= until:
            self.now = max(self.now, wakeup)
            before = self.session.next_wakeup()
            self.session.tick(self.now)
            assert self.session.next_wakeup() != before, "it wants to be woken for nothing"
        self.now = until
        self.session.tick(self.now)


def ids(requests: m.Requests) -> list[int]:
    return [item[0] for item in requests.requests]


def range_of(requests: m.Requests) -> m.Range:
    """The one range of a message."""
    ((_, op, fields),) = requests.requests
    assert op == m.Op.RANGE
    request: m.Range = m.Range(*cast("Any", fields))
    return request


def kv(key: bytes, revision: int = 2) -> tuple[Any, ...]:
    return (key, revision, revision, 1, b"v", 0)


def chunk(*keys: bytes, more: bool = False, count: int = 0) -> tuple[Any, ...]:
    """The body of a range's chunk."""
    return (tuple(kv(key) for key in keys), more, count)


DONE_PUT: tuple[Any, ...] = (None,)
