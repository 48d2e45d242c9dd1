"""Any wire, however bad: each write is applied at most once, and what the client says of it is true.

The wire loses, delays and reorders; it doubles nothing by itself (TCP does not), but every retry leaves a double
behind that may arrive at any time, also after all is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.client.fake_cluster import FakeCluster, answers, requests_of
from tests.unit.client.wire import SESSION
from zkv import errors
from zkv.client.session import Session
from zkv.limits import Limits
from zkv.wire import messages as m
from zkv.wire.codec import unpack

if TYPE_CHECKING:
    from zkv.client.ticket import Ticket

ENDPOINTS = 3
DEADLINE_MS = 4000
KEPT_MS = 2000
REFUSALS = (errors.NoLeader, errors.LeaderChanged, errors.TooManyRequests, errors.Unavailable, errors.RequestTimeout)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 3)),
        st.tuples(st.just("deliver"), st.integers(0, 99)),
        st.tuples(st.just("lose"), st.integers(0, 99)),
        st.tuples(st.just("refuse"), st.integers(0, 99)),
        st.tuples(st.just("return"), st.integers(0, 99)),
        st.tuples(st.just("lose answer"), st.integers(0, 99)),
        st.tuples(st.just("garble answer"), st.integers(0, 99)),
        st.tuples(st.just("disconnect"), st.integers(0, ENDPOINTS - 1)),
        st.tuples(st.just("connect"), st.integers(0, ENDPOINTS - 1)),
        st.tuples(st.just("wait"), st.sampled_from([1, 30, 500, 1500])),
        st.tuples(st.just("forget"), st.just(0)),
        st.tuples(st.just("forget others"), st.just(0)),
    ),
    max_size=60,
)


class World:
    def __init__(self) -> None:
        self.now = 0
        self.cluster = FakeCluster()
        self.session = Session(ENDPOINTS, SESSION, 1, limits=Limits(session_answers_max=4, session_kept_ms=KEPT_MS))
        self.tickets: dict[bytes, Ticket] = {}
        self.requests: list[tuple[int, bytes]] = []
        self.replies: list[tuple[int, bytes]] = []
        for endpoint in range(ENDPOINTS):
            self.session.connected(endpoint, 0)

    def step(self, what: str, number: int) -> None:
        requests, replies = self.requests, self.replies
        self.cluster.now = self.now
        match what:
            case "put":
                for _ in range(number):
                    value = b"%d" % len(self.tickets)
                    self.tickets[value] = self.session.submit(m.Put(b"k", value), self.now + DEADLINE_MS)
            case "deliver" if requests:
                endpoint, data = requests.pop(number % len(requests))
                replies += [(endpoint, reply) for reply in self.cluster.handle(endpoint, data)]
            case "lose" if requests:
                del requests[number % len(requests)]
            case "refuse" if requests:
                self._refuse(*requests.pop(number % len(requests)), number)
            case "return" if replies:
                self.session.received(*replies.pop(number % len(replies)), self.now)
            case "lose answer" if replies:
                del replies[number % len(replies)]
            case "garble answer" if replies:
                endpoint, data = replies.pop(number % len(replies))
                self.session.received(endpoint, data[: number % len(data)], self.now)
            case "disconnect":
                self.session.disconnected(number, self.now)
            case "connect":
                self.session.connected(number, self.now)
            case "wait":
                self.now += number
            case "forget":
                self.cluster.forget(self.now - KEPT_MS)
            case "forget others":
                self.cluster.horizon += 1
        self.session.tick(self.now)
        requests += self.session.outgoing(self.now)

    def _refuse(self, endpoint: int, data: bytes, number: int) -> None:
        """The member refuses the whole group; where its error says "maybe", it has been applied, or will be."""
        error = REFUSALS[number % len(REFUSALS)]
        done = self.cluster.handle(endpoint, data) if error.maybe_applied and number % 2 else []
        ids = {answer[0] for reply in done for answer in unpack(reply)[4]}
        ids |= {item[0] for item in requests_of(data).requests}
        self.replies.append((endpoint, answers(*((id_, error.code, 0, ()) for id_ in sorted(ids)))))
        if error.maybe_applied and not done:
            self.requests.append((endpoint, data))


APPLIED_THEN_FORGOTTEN = [
    ("put", 1), ("deliver", 0), ("lose answer", 0), ("wait", 1500), ("wait", 500), ("forget", 0), ("deliver", 0),
    ("return", 0),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(STEPS)
@example(APPLIED_THEN_FORGOTTEN)
def test_whatever_the_wire_does_each_write_is_applied_at_most_once_and_told_truthfully(
    steps: list[tuple[str, int]],
) -> None:
    """Also a copy that arrives when all is over changes nothing; and every ticket completes by its deadline."""
    world = World()
    for what, number in steps:
        world.step(what, number)
    for _ in range(3):
        world.step("wait", DEADLINE_MS)
    assert all(ticket.done for ticket in world.tickets.values())
    assert world.session.next_wakeup() is None
    while world.requests:
        world.step("deliver", 0)
    assert all(times == 1 for times in world.cluster.values.values())
    for value, ticket in world.tickets.items():
        if ticket.error is None:
            assert world.cluster.values[value] == 1
            assert ticket.answer == m.PutAnswer(None)
        elif not ticket.error.maybe_applied:
            assert world.cluster.values[value] == 0


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_once_the_wire_is_healed_what_is_asked_is_answered(steps: list[tuple[str, int]]) -> None:
    """No past makes a session unable to serve."""
    world = World()
    for what, number in steps:
        world.step(what, number)
    for endpoint in range(ENDPOINTS):
        world.step("connect", endpoint)
    world.step("put", 1)
    for _ in range(350):
        world.step("deliver", 0)
        world.step("return", 0)
        world.step("wait", 10)
    last = list(world.tickets.values())[-1]
    assert last.done
    assert last.error is None


@settings(max_examples=100, deadline=None)
@given(
    keys=st.integers(0, 40),
    chunk_keys=st.integers(1, 7),
    losses=st.lists(st.integers(0, 9), max_size=5),
    limit=st.integers(0, 45),
    descend=st.booleans(),
)
def test_a_stream_is_whole_however_often_it_breaks(
    keys: int, chunk_keys: int, losses: list[int], limit: int, *, descend: bool
) -> None:
    """Every key once, in order, with count and more as if nothing had happened."""
    cluster = FakeCluster(chunk_keys)
    for number in range(keys):
        key = b"%03d" % number
        cluster.kvs[key] = m.KeyValue(key, 2, 2, 1, b"", 0)
    session = Session(ENDPOINTS, SESSION, 1)
    for endpoint in range(ENDPOINTS):
        session.connected(endpoint, 0)
    order = m.SortOrder.DESCEND if descend else m.SortOrder.NONE
    ticket = session.submit(m.Range(b"\0", b"\0", limit=limit, sort_order=order), 10_000, stream=True)
    got: list[m.RangeAnswer] = []
    now = 0
    breaks = list(losses)
    connections = [0] * ENDPOINTS
    for _ in range(500):
        replies = [(e, r) for e, data in session.outgoing(now) for r in cluster.handle((e, connections[e]), data)]
        # The connection breaks after `cut` answers; the rest of them is lost.
        cut = breaks.pop() if replies and breaks else None
        for endpoint, reply in replies[:cut]:
            session.received(endpoint, reply, now)
        if cut is not None:
            session.disconnected(replies[0][0], now)
            session.connected(replies[0][0], now)
            connections[replies[0][0]] += 1
        while (part := session.next_chunk(ticket, now, now + 10_000)) is not None:
            got.append(part)
        now += 10
        session.tick(now)
        if ticket.done:
            break
    assert ticket.done
    assert ticket.error is None
    expected = sorted(cluster.kvs, reverse=descend)[: limit or None]
    assert [kv.key for part in got for kv in part.kvs] == expected
    assert (got[-1].count, got[-1].more) == (keys, 0 < limit < keys)
