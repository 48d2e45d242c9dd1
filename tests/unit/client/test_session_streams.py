"""Ranges in chunks: credit, resuming, stopping early."""

from __future__ import annotations

from tests.unit.client.wire import Wire, chunk, ids, range_of
from zkv import errors
from zkv.errors import Code
from zkv.limits import Limits
from zkv.wire import messages as m

CHUNK, OK = int(Code.CHUNK), int(Code.OK)
CREDIT = Limits().chunk_credit


def opened(wire: Wire) -> tuple[int, int]:
    """(endpoint, id) of the one range just sent."""
    endpoint, requests = wire.one_sent()
    return endpoint, ids(requests)[0]


def test_chunks_are_handed_out_in_order_and_then_the_end() -> None:
    """A chunk makes news; the last one, with code OK, ends the ticket."""
    wire = Wire()
    ticket = wire.stream()
    endpoint, id_ = opened(wire)
    wire.answer(endpoint, (id_, CHUNK, 5, chunk(b"a", b"b", count=3)))
    assert wire.session.news() == [ticket]
    wire.answer(endpoint, (id_, OK, 5, chunk(b"c", count=3)))
    keys = []
    while part := wire.session.next_chunk(ticket, wire.now, wire.now + 1000):
        keys += [kv.key for kv in part.kvs]
    assert keys == [b"a", b"b", b"c"]
    assert ticket.done
    assert ticket.error is None


def test_each_chunk_taken_gives_credit_for_one_more() -> None:
    """Not before it is taken: that is what bounds memory."""
    wire = Wire()
    ticket = wire.stream()
    endpoint, id_ = opened(wire)
    for number in range(CREDIT):
        wire.answer(endpoint, (id_, CHUNK, 5, chunk(b"%d" % number)))
    assert wire.words() == []
    wire.session.next_chunk(ticket, wire.now, wire.now + 1000)
    assert wire.words() == [(endpoint, "CREDIT", (id_, 1))]


def test_no_deadline_runs_while_the_caller_does_not_take_what_is_there() -> None:
    """Nor is a server suspected that owes nothing; once the caller waits again, his deadline counts."""
    wire = Wire()
    ticket = wire.stream(wait_ms=2000)
    endpoint, id_ = opened(wire)
    for number in range(CREDIT):
        wire.answer(endpoint, (id_, CHUNK, 5, chunk(b"%d" % number)))
    wire.pass_ms(100_000)
    assert not ticket.done
    assert wire.sent() == []
    for _ in range(CREDIT):
        wire.session.next_chunk(ticket, wire.now, wire.now + 2000)
    assert wire.session.next_chunk(ticket, wire.now, wire.now + 2000) is None
    wire.pass_ms(2000)
    assert isinstance(ticket.error, errors.DeadlineExceeded)


def test_looking_again_for_a_chunk_pushes_no_deadline_off() -> None:
    """Or a caller that wakes up for whatever reason waits for a dead member for ever."""
    wire = Wire()
    ticket = wire.stream()
    endpoint, id_ = opened(wire)
    wire.answer(endpoint, (id_, CHUNK, 5, chunk(b"a")))
    wire.session.next_chunk(ticket, wire.now, wire.now + 2000)
    for _ in range(4):
        assert not ticket.done
        assert wire.session.next_chunk(ticket, wire.now, wire.now + 2000) is None
        wire.pass_ms(500)
    assert isinstance(ticket.error, errors.DeadlineExceeded)


def test_a_lost_stream_goes_on_behind_its_last_key_at_the_same_revision() -> None:
    """On another endpoint, linearizable, for as many keys as are left, and counting those that came."""
    wire = Wire()
    ticket = wire.stream(m.Range(b"a", b"z", limit=5, serializable=True))
    first, id_ = opened(wire)
    wire.answer(first, (id_, CHUNK, 5, chunk(b"b", b"c", count=9)))
    wire.session.disconnected(first, wire.now)
    second, requests = wire.one_sent()
    (again,) = ids(requests)
    assert second != first
    assert range_of(requests) == m.Range(b"c\0", b"z", limit=3, revision=5)
    wire.answer(first, (id_, CHUNK, 5, chunk(b"d")))  # late, from the lost connection
    wire.answer(second, (again, OK, 8, chunk(b"d", b"e", b"f", more=True, count=7)))
    parts = [wire.session.next_chunk(ticket, wire.now, wire.now + 1000) for _ in range(2)]
    assert [kv.key for part in parts if part for kv in part.kvs] == [b"b", b"c", b"d", b"e", b"f"]
    assert parts[1] is not None
    assert (parts[1].more, parts[1].count) == (True, 9)


def test_a_descending_stream_goes_on_before_its_last_key() -> None:
    wire = Wire()
    wire.stream(m.Range(b"a", b"z", revision=4, sort_order=m.SortOrder.DESCEND))
    endpoint, id_ = opened(wire)
    wire.answer(endpoint, (id_, CHUNK, 5, chunk(b"y", b"x")))
    wire.answer(endpoint, (id_, errors.StreamLost.code, 5, ()))
    _, requests = wire.sent()[-1]
    assert range_of(requests) == m.Range(b"a", b"x", revision=4, sort_order=m.SortOrder.DESCEND)


def test_a_stream_that_lost_only_its_end_asks_whether_there_are_more() -> None:
    """All keys the limit allows have come: a range with limit 0 would be another one."""
    wire = Wire()
    ticket = wire.stream(m.Range(b"a", b"z", limit=2))
    endpoint, id_ = opened(wire)
    wire.answer(endpoint, (id_, CHUNK, 5, chunk(b"b", b"c")))
    wire.session.disconnected(endpoint, wire.now)
    endpoint, requests = wire.one_sent()
    (id_,) = ids(requests)
    assert range_of(requests) == m.Range(b"c\0", b"z", limit=1, revision=5, keys_only=True)
    wire.answer(endpoint, (id_, OK, 8, chunk(b"d", more=True, count=4)))
    wire.session.next_chunk(ticket, wire.now, wire.now + 1000)
    assert wire.session.next_chunk(ticket, wire.now, wire.now + 1000) == m.RangeAnswer((), True, 6)


def test_a_stream_whose_revision_is_compacted_meanwhile_says_so() -> None:
    """Going on at another revision would mix two states."""
    wire = Wire()
    ticket = wire.stream()
    first, id_ = opened(wire)
    wire.answer(first, (id_, CHUNK, 5, chunk(b"b")))
    wire.session.disconnected(first, wire.now)
    second, again = opened(wire)
    wire.answer(second, (again, errors.Compacted.code, 9, ()))
    assert isinstance(ticket.error, errors.Compacted)


def test_a_stream_in_another_order_cannot_go_on() -> None:
    """What was sorted by value has no place to go on from: StreamLost, or, with nothing received, from the start."""
    by_value = m.Range(b"a", b"z", sort_order=m.SortOrder.ASCEND, sort_target=m.SortTarget.VALUE)
    wire = Wire()
    begun, fresh = wire.stream(by_value), wire.stream(by_value)
    (endpoint, requests), _ = wire.sent()
    wire.answer(endpoint, (ids(requests)[0], CHUNK, 5, chunk(b"b")))
    wire.session.disconnected(endpoint, wire.now)
    assert begun.error is not None
    _, again = wire.one_sent()
    assert range_of(again) == by_value
    assert not fresh.done


def test_stopping_early_cancels_at_the_server() -> None:
    wire = Wire()
    ticket = wire.stream()
    endpoint, id_ = opened(wire)
    wire.answer(endpoint, (id_, CHUNK, 5, chunk(b"b")))
    wire.session.cancel(ticket)
    assert wire.words() == [(endpoint, "CANCEL", (id_,))]
    wire.answer(endpoint, (id_, CHUNK, 5, chunk(b"c")))
    assert ticket.done


def test_of_two_attempts_the_one_that_speaks_first_is_taken() -> None:
    """A stream thought silent may begin after its retry was sent: one of the two is called off, none is mixed in."""
    wire = Wire()
    ticket = wire.stream()
    first, old = opened(wire)
    wire.pass_ms(1000)
    second, new = opened(wire)
    wire.answer(first, (old, CHUNK, 5, chunk(b"a")))
    wire.answer(second, (new, CHUNK, 6, chunk(b"a")))
    assert wire.words() == [(second, "CANCEL", (new,))]
    wire.answer(first, (old, OK, 5, chunk(b"b")))
    parts = [wire.session.next_chunk(ticket, wire.now, wire.now + 1000) for _ in range(3)]
    assert [kv.key for part in parts if part for kv in part.kvs] == [b"a", b"b"]


def test_the_late_beginning_of_an_attempt_calls_off_a_retry_that_waits() -> None:
    """The retry stood in the queue; the first attempt's chunk takes its place, and nothing is sent."""
    wire = Wire()
    ticket = wire.stream()
    endpoint, id_ = opened(wire)
    wire.pass_ms(1000)
    wire.answer(endpoint, (id_, CHUNK, 5, chunk(b"a")))
    assert wire.words() == []
    wire.answer(endpoint, (id_, OK, 5, chunk(b"b")))
    assert ticket.done


def test_chunks_of_a_range_not_asked_as_a_stream_gather_in_its_answer() -> None:
    """Credit is given as they come; the answer is their sum."""
    wire = Wire()
    ticket = wire.session.submit(m.Range(b"\0", b"\0"), wire.now + 1000)
    endpoint, id_ = opened(wire)
    wire.answer(endpoint, (id_, CHUNK, 5, chunk(b"a", count=2)))
    assert wire.words() == [(endpoint, "CREDIT", (id_, 1))]
    wire.answer(endpoint, (id_, OK, 5, chunk(b"b", count=2)))
    assert isinstance(ticket.answer, m.RangeAnswer)
    assert [kv.key for kv in ticket.answer.kvs] == [b"a", b"b"]
    assert ticket.answer.count == 2


def test_credit_after_a_resume_counts_what_still_lies_untaken() -> None:
    """Two attempts' chunks together stay within the window."""
    wire = Wire()
    ticket = wire.stream()
    first, id_ = opened(wire)
    for number in range(CREDIT):
        wire.answer(first, (id_, CHUNK, 5, chunk(b"%d" % number)))
    wire.session.disconnected(first, wire.now)
    opened(wire)
    wire.session.next_chunk(ticket, wire.now, wire.now + 1000)
    assert wire.words() == []
