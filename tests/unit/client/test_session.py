"""The session against a scripted cluster: batching, fail-over, exactly once, truth about deadlines."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.client.fake_cluster import answers
from tests.unit.client.wire import DONE_PUT, SESSION, Wire, chunk, ids
from zkv import errors
from zkv.client.lanes import Lane, lane_of
from zkv.client.retry import RetryPolicy
from zkv.limits import Limits
from zkv.wire import messages as m
from zkv.wire.codec import pack

# --- messages ------------------------------------------------------------------------------------


def test_requests_made_at_once_travel_together() -> None:
    """Ten puts submitted between two flushes are one message, in their order."""
    wire = Wire()
    for number in range(10):
        wire.put(b"%d" % number)
    _, requests = wire.one_sent()
    assert [fields[0] for _, _, fields in requests.requests] == [b"%d" % number for number in range(10)]
    assert (requests.session, requests.floor) == (SESSION, ids(requests)[0])


def test_requests_of_different_ways_travel_apart() -> None:
    """A message holds one lane, so that a gateway can pass it on whole; a range that may be streamed travels alone."""
    wire = Wire()
    wire.put()
    wire.get()
    wire.session.submit(m.Range(b"k", serializable=True), 9000)
    wire.stream()
    wire.stream()
    assert [len(requests.requests) for _, requests in wire.sent()] == [1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("request_", "lane"),
    [
        (m.Put(b"a", b""), Lane.WRITE),
        (m.DeleteRange(b"a"), Lane.WRITE),
        (m.Compact(3), Lane.WRITE),
        (m.Txn((), ((m.Op.RANGE, m.Range(b"a")),), ()), Lane.READ),
        (m.Txn((), (), ((m.Op.TXN, m.Txn((), ((m.Op.PUT, m.Put(b"a", b"")),), ())),)), Lane.WRITE),
        (m.Range(b"a"), Lane.READ),
        (m.Range(b"a", b"b", count_only=True), Lane.READ),
        (m.Range(b"a", b"b"), Lane.ALONE),
        (m.Range(b"a", serializable=True), Lane.LOCAL),
        (m.HashKV(), Lane.LOCAL),
        (m.Status(), Lane.STAMPED),
        (m.MemberList(), Lane.READ),
        (m.MemberList(linearizable=False), Lane.LOCAL),
    ],
)
def test_lane(request_: m.Request, lane: Lane) -> None:
    """What writes, at any depth, goes through the log; what must not be stale past the quorum; the rest nowhere."""
    assert lane_of(request_) == lane


def test_a_message_holds_no_more_requests_than_the_limit() -> None:
    """Limits.message_requests_max cuts what was made at once into several messages."""
    wire = Wire(limits=Limits(message_requests_max=4))
    for _ in range(10):
        wire.get()
    assert [len(requests.requests) for _, requests in wire.sent()] == [4, 4, 2]


def test_a_message_is_no_larger_than_the_limit() -> None:
    """Requests that do not fit into request_bytes_max together travel in several messages, each within it."""
    wire = Wire(limits=Limits(request_bytes_max=1000))
    tickets = [wire.put(b"k", b"v" * 300) for _ in range(10)]
    sent = wire.session.outgoing(wire.now)
    assert all(len(data) <= 1000 for _, data in sent)
    assert len(sent) > 1
    assert not any(ticket.done for ticket in tickets)


def test_a_request_too_large_for_any_message_fails_alone() -> None:
    """It never leaves, so it certainly was not applied; its neighbours do leave."""
    wire = Wire(limits=Limits(request_bytes_max=1000))
    tickets = [wire.put(), wire.put(b"k", b"v" * 2000), wire.put()]
    assert sum(len(requests.requests) for _, requests in wire.sent()) == 2
    assert isinstance(tickets[1].error, errors.RequestTooLarge)
    assert not tickets[1].error.maybe_applied


@pytest.mark.parametrize("lease", [1 << 64, -(1 << 64), object()])
def test_a_request_that_no_message_can_hold_fails_alone(lease: Any) -> None:
    """A caller's slip is that caller's: it takes down neither the session nor whoever's call would travel with his."""
    wire = Wire()
    tickets = [wire.put(), wire.session.submit(m.Put(b"k", b"", lease), wire.now + 5000), wire.put()]
    assert sum(len(requests.requests) for _, requests in wire.sent()) == 2
    assert isinstance(tickets[1].error, errors.InvalidRequest)
    assert not tickets[1].error.maybe_applied
    assert wire.put().error is None


ODD: Any = "odd"


@pytest.mark.parametrize(
    "request_",
    [
        m.Range(b"k", serializable=ODD),
        m.Range(b"k", b"l", ODD),
        m.Range(b"k", ODD, count_only=ODD),
        m.Put(ODD, ODD),
        m.Put(b"k", b"v", 0, ODD),
        m.Alarm(ODD),
        m.MemberList(ODD),
        m.LeaseKeepAlive(ODD),
    ],
)
def test_what_a_request_may_not_hold_is_told_by_the_member(request_: m.Request) -> None:
    """Only what no message can hold is refused here."""
    wire = Wire()
    tickets = [wire.put(), wire.session.submit(request_, wire.now + 5000)]
    assert sum(len(requests.requests) for _, requests in wire.sent()) == 2
    assert not any(ticket.done for ticket in tickets)


def test_answers_come_back_to_their_tickets() -> None:
    """Each ticket gets its own answer and revision, in whatever order they come, and the header of the member."""
    wire = Wire()
    tickets = [wire.put(), wire.put()]
    endpoint, requests = wire.one_sent()
    first, second = ids(requests)
    wire.answer(endpoint, (second, 0, 6, DONE_PUT), (first, 0, 5, DONE_PUT))
    assert [ticket.revision for ticket in tickets] == [5, 6]
    assert tickets[0].header == (77, 11, 5, 3)
    assert set(wire.session.news()) == set(tickets)
    assert wire.session.news() == []


def test_answers_for_unknown_ids_and_second_answers_are_ignored() -> None:
    """Duplicates and strays change nothing."""
    wire = Wire()
    ticket = wire.put()
    endpoint, requests = wire.one_sent()
    (id_,) = ids(requests)
    wire.answer(endpoint, (999, 0, 5, DONE_PUT), (id_, 0, 5, DONE_PUT))
    wire.answer(endpoint, (id_, 0, 9, DONE_PUT), (id_, 203, 9, ()))
    assert (ticket.error, ticket.revision) == (None, 5)
    assert wire.session.news() == [ticket]


def test_fields_added_by_a_newer_server_are_cut_off() -> None:
    """Trailing fields, of the message, of an answer and of its body, are how the protocol grows."""
    wire = Wire()
    put, get = wire.put(), wire.get()
    (to, puts), (_, gets) = wire.sent()
    body = (((b"k", 2, 2, 1, b"v", 0, "new"),), False, 1, "new")
    items = ((ids(puts)[0], 0, 5, (None, 0, "new"), "new"), (ids(gets)[0], 0, 5, body))
    wire.session.received(to, pack((1, 77, 11, 3, items, 0, (), "new")), wire.now)
    assert put.answer == m.PutAnswer(None)
    assert get.answer == m.RangeAnswer((m.KeyValue(b"k", 2, 2, 1, b"v", 0),), False, 1)


# --- exactly once --------------------------------------------------------------------------------


def test_a_retried_write_keeps_its_name() -> None:
    """Lost connection, other endpoint, same session and id."""
    wire = Wire()
    wire.put()
    first, requests = wire.one_sent()
    wire.session.disconnected(first, wire.now)
    second, again = wire.one_sent()
    assert second != first
    assert again == requests


def test_a_retried_read_gets_a_new_id_and_takes_whichever_answer_comes_first() -> None:
    """The two attempts must not be confused, and either answer will do."""
    wire = Wire()
    ticket = wire.get()
    first, requests = wire.one_sent()
    wire.pass_ms(1000)
    second, again = wire.one_sent()
    assert second != first
    assert ids(again) != ids(requests)
    wire.answer(first, (ids(requests)[0], 0, 5, chunk(b"k", count=1)))
    assert ticket.done
    assert ticket.error is None
    wire.answer(second, (ids(again)[0], 0, 6, chunk(b"k", count=1)))
    assert ticket.revision == 5


def test_the_floor_is_the_lowest_write_still_waited_for() -> None:
    """It passes answers in order of ids, and reads, however slow, do not hold it."""
    wire = Wire()
    wire.get()
    wire.sent()
    for _ in range(3):
        wire.put()
    endpoint, requests = wire.one_sent()
    first, second, third = ids(requests)
    wire.answer(endpoint, (second, 0, 5, DONE_PUT))
    wire.put()
    assert wire.one_sent()[1].floor == first
    wire.answer(endpoint, (first, 0, 6, DONE_PUT))
    wire.put()
    assert wire.one_sent()[1].floor == third


def test_writes_in_flight_are_as_many_as_the_cluster_keeps_answers_for() -> None:
    """More wait here until the floor moves: the answered ones above it count too."""
    wire = Wire(limits=Limits(session_answers_max=4))
    for _ in range(6):
        wire.put()
    endpoint, requests = wire.one_sent()
    assert len(requests.requests) == 4
    wire.answer(endpoint, *((id_, 0, 5, DONE_PUT) for id_ in ids(requests)[1:]))
    assert wire.sent() == []
    wire.answer(endpoint, (ids(requests)[0], 0, 5, DONE_PUT))
    assert len(wire.one_sent()[1].requests) == 2


def test_a_write_is_not_retried_for_longer_than_its_answer_is_kept() -> None:
    """After session_kept_ms a copy might count as a new write: none is sent."""
    wire = Wire(1, limits=Limits(session_kept_ms=5000))
    ticket = wire.put(wait_ms=60_000)
    wire.sent()
    wire.session.disconnected(0, wire.now)
    wire.pass_ms(6000)
    wire.session.connected(0, wire.now)
    assert wire.sent() == []
    assert isinstance(ticket.error, errors.ConnectionFailed)
    assert ticket.error.maybe_applied


def test_a_session_unused_for_long_is_left() -> None:
    """Before the cluster may have forgotten it, the next write begins another one."""
    wire = Wire()
    wire.put()
    endpoint, requests = wire.one_sent()
    wire.answer(endpoint, (ids(requests)[0], 0, 5, DONE_PUT))
    wire.now += Limits().session_idle_ms
    wire.put()
    assert wire.one_sent()[1].session not in {SESSION, b""}


def test_a_first_attempt_refused_for_its_session_is_made_in_a_new_one() -> None:
    """It was refused, so it was not applied: nobody need know. The new one is named by the index the error tells."""
    wire = Wire()
    ticket = wire.put()
    endpoint, requests = wire.one_sent()
    wire.answer(endpoint, (ids(requests)[0], errors.SessionExpired.code, 5, ("4711",)))
    there, again = wire.one_sent()
    assert there == endpoint
    assert again.session != SESSION
    assert int.from_bytes(again.session[:8], "big") == 4711
    assert ids(again) != ids(requests)
    wire.answer(endpoint, (ids(again)[0], 0, 6, DONE_PUT))
    assert ticket.error is None


def test_a_write_in_doubt_whose_session_expired_at_once_is_made_in_a_new_one() -> None:
    """A new client of an old cluster, which meets a failure: were its first attempt applied, the cluster would know."""
    wire = Wire()
    ticket = wire.put()
    first, requests = wire.one_sent()
    wire.session.disconnected(first, wire.now)
    second, again = wire.one_sent()
    assert ids(again) == ids(requests)
    wire.answer(second, (ids(again)[0], errors.SessionExpired.code, 5, ("4711",)))
    wire.pass_ms(100)
    third, anew = wire.one_sent()
    assert int.from_bytes(anew.session[:8], "big") == 4711
    assert anew.session != SESSION
    wire.answer(third, (ids(anew)[0], errors.Unavailable.code, 0, ()))
    wire.pass_ms(1000)
    fourth, last = wire.one_sent()
    assert (last.session, ids(last)) == (anew.session, ids(anew))
    wire.answer(fourth, (ids(last)[0], 0, 6, DONE_PUT))
    assert ticket.error is None


def test_what_a_former_attempt_is_told_of_its_session_is_left_to_the_present_one() -> None:
    wire = Wire()
    ticket = wire.put()
    first, requests = wire.one_sent()
    wire.pass_ms(RetryPolicy().silence_ms)
    second, again = wire.one_sent()
    assert (first != second, ids(again)) == (True, ids(requests))
    wire.answer(first, (ids(requests)[0], errors.SessionExpired.code, 5, ("4711",)))
    assert (ticket.done, wire.sent()) == (False, [])
    wire.answer(second, (ids(again)[0], errors.SessionExpired.code, 5, ("4712",)))
    wire.pass_ms(100)
    assert wire.one_sent()[1].session != SESSION


def test_a_write_in_doubt_whose_session_expired_says_so() -> None:
    """The first attempt may have been applied, and forgotten: it is not tried again; later writes use a new session."""
    wire = Wire()
    ticket = wire.put(wait_ms=Limits().session_kept_ms)
    first, _ = wire.one_sent()
    wire.session.disconnected(first, wire.now)
    second, again = wire.one_sent()
    wire.now += Limits().session_kept_ms // 2
    wire.answer(second, (ids(again)[0], errors.SessionExpired.code, 5, ()))
    assert isinstance(ticket.error, errors.SessionExpired)
    assert ticket.error.maybe_applied
    wire.put()
    assert wire.one_sent()[1].session != SESSION


def test_a_lost_answer_tells_its_revision() -> None:
    """AnswerLost means applied: at which revision is all that is left of the answer."""
    wire = Wire()
    ticket = wire.put()
    endpoint, requests = wire.one_sent()
    wire.answer(endpoint, (ids(requests)[0], errors.AnswerLost.code, 42, ()))
    assert isinstance(ticket.error, errors.AnswerLost)
    assert (ticket.error.revision, ticket.error.maybe_applied) == (42, True)


# --- fail-over -----------------------------------------------------------------------------------


def test_nothing_is_sent_before_an_endpoint_is_connected() -> None:
    """And then at once."""
    wire = Wire(connect=False)
    wire.put()
    assert wire.sent() == []
    wire.session.connected(1, wire.now)
    assert wire.one_sent()[0] == 1


def test_traffic_stays_with_one_endpoint() -> None:
    """Until it fails; and after it has come back, with the other one."""
    wire = Wire(3)
    chosen = set()
    for _ in range(5):
        wire.put()
        chosen.add(wire.one_sent()[0])
    (first,) = chosen
    wire.session.disconnected(first, wire.now)
    ((second, _),) = wire.sent()
    wire.session.connected(first, wire.now)
    wire.pass_ms(10)
    wire.put()
    assert wire.one_sent()[0] == second != first


@pytest.mark.parametrize("error", [errors.LeaderChanged, errors.Unavailable])
def test_some_errors_are_retried_at_once_elsewhere(error: type[errors.ZkvError]) -> None:
    """Another endpoint can serve now; a second such failure waits like any other."""
    wire = Wire()
    wire.put()
    first, requests = wire.one_sent()
    wire.answer(first, (ids(requests)[0], error.code, 0, ()))
    second, again = wire.one_sent()
    assert second != first
    wire.answer(second, (ids(again)[0], error.code, 0, ()))
    assert wire.sent() == []


def test_other_retryable_errors_wait_longer_each_time() -> None:
    """Exponential back-off with jitter, up to its cap."""
    retry = RetryPolicy()
    wire = Wire(1)
    ticket = wire.put(wait_ms=60_000)
    waits = []
    for _ in range(8):
        _, requests = wire.one_sent()
        wire.answer(0, (ids(requests)[0], errors.NoLeader.code, 0, ()))
        refused_at = wire.now
        wakeup = wire.session.next_wakeup()
        assert wakeup is not None
        wire.now = wakeup
        wire.session.tick(wire.now)
        waits.append(wire.now - refused_at)
    assert not ticket.done
    for number, wait in enumerate(waits):
        whole = min(retry.backoff_ms_max, retry.backoff_ms_min << number)
        assert whole // 2 <= wait <= whole


def test_who_is_told_when_to_ask_again_asks_then() -> None:
    """Not before, and not all at once: some chance is added to what the member has said."""
    wire = Wire(1)
    ticket = wire.put(wait_ms=60_000)
    _, requests = wire.one_sent()
    wire.answer(0, (ids(requests)[0], errors.LimitExceeded.code, 0, ("requests", 300)))
    wakeup = wire.session.next_wakeup()
    assert wakeup is not None
    assert 300 <= wakeup - wire.now < 600
    wire.now = wakeup
    wire.session.tick(wire.now)
    _, again = wire.one_sent()
    wire.answer(0, (ids(again)[0], 0, 5, DONE_PUT))
    assert ticket.error is None


def test_what_would_be_refused_beyond_its_deadline_says_at_once_why() -> None:
    """Instead of a deadline that passes and tells nothing. Nothing of it was done."""
    wire = Wire(1)
    ticket = wire.put(wait_ms=500)
    _, requests = wire.one_sent()
    wire.answer(0, (ids(requests)[0], errors.LimitExceeded.code, 0, ("requests", 700)))
    assert isinstance(ticket.error, errors.LimitExceeded)
    assert str(ticket.error) == (
        "etcdserver: too many requests: this client has all it may have of requests, try again in 700 ms"
    )
    assert (ticket.error.retry_after_ms, ticket.error.maybe_applied) == (700, False)


@pytest.mark.parametrize("error", [errors.Compacted, errors.KeyNotFound, errors.RequestTooLarge])
def test_request_errors_are_not_retried(error: type[errors.ZkvError]) -> None:
    """Asking again would give the same answer."""
    wire = Wire()
    ticket = wire.put()
    endpoint, requests = wire.one_sent()
    wire.answer(endpoint, (ids(requests)[0], error.code, 0, ("why",)))
    assert isinstance(ticket.error, error)
    assert ticket.error.detail == "why"
    assert not ticket.error.maybe_applied
    assert wire.sent() == []


def test_an_unknown_error_of_a_newer_server_is_told_as_it_is() -> None:
    """No retry on what is not understood."""
    wire = Wire()
    ticket = wire.put()
    endpoint, requests = wire.one_sent()
    wire.answer(endpoint, (ids(requests)[0], 999, 0, ()))
    assert type(ticket.error) is errors.ZkvError


def test_a_policy_that_covers_nothing_passes_failures_on() -> None:
    """The error itself for what a server says, ConnectionFailed for a lost connection, each with the truth."""
    wire = Wire(retry=RetryPolicy(errors=()))
    refused, lost = wire.put(), wire.put()
    endpoint, requests = wire.one_sent()
    wire.answer(endpoint, (ids(requests)[0], errors.NoLeader.code, 0, ()))
    wire.session.disconnected(endpoint, wire.now)
    assert isinstance(refused.error, errors.NoLeader)
    assert not refused.error.maybe_applied
    assert isinstance(lost.error, errors.ConnectionFailed)
    assert lost.error.maybe_applied


def test_a_silent_endpoint_is_passed_over() -> None:
    """Connected, but no answer for silence_ms: the same write goes to another one."""
    wire = Wire()
    wire.put()
    first, requests = wire.one_sent()
    wire.pass_ms(RetryPolicy().silence_ms - 1)
    assert wire.sent() == []
    wire.pass_ms(1)
    second, again = wire.one_sent()
    assert second != first
    assert again.requests == requests.requests


def test_a_slow_request_is_not_retried_while_its_endpoint_answers_others() -> None:
    """Slow is not silent; but not for ever either."""
    wire = Wire()
    slow = wire.put(wait_ms=60_000)
    endpoint, requests = wire.one_sent()
    rounds = 0
    while not (again := wire.sent()):
        rounds += 1
        assert rounds < 20
        wire.pass_ms(500)
        wire.session.received(endpoint, answers(), wire.now)
    assert rounds >= 4
    assert ids(again[0][1]) == ids(requests)
    assert not slow.done


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        pack(7),
        pack((1, 77, 11)),
        pack((1, "a", 11, 3, ())),
        pack((1, 77, 11, 3, 5)),
        pack((1, 77, 11, 3, ((1, 0),))),
        pack((1, 77, 11, 3, (({}, 0, 0, ()),))),
        pack((1, 77, 11, 3, ((1, 0, "five", (None,)),))),
        pack((1, 77, 11, 3, ((1, (), 5, (None,)),))),
        pack((1, 77, 11, 3, ((1, 0, 5, 7),))),
        pack((1, 77, 11, 3, ((1, 0, 5, ((b"k", 1),)),))),
        pack((1, 77, 11, 3, ((1, 1, 5, ((), False, 0)),))),
        pack((2, 77, 11, 3, ())),
        pack((2, 77, 11, 3, ((0, errors.UnsupportedVersion.code, 0, ()),))),
        pack((1, 77, 11, 3, ((0, errors.UnsupportedVersion.code, 0, ()),))),
    ],
)
def test_an_endpoint_that_talks_nonsense_is_passed_over(data: bytes) -> None:
    """Its requests go to another endpoint; where there is none, the caller gets a typed error, with the doubt."""
    wire = Wire()
    ticket = wire.put()
    first, requests = wire.one_sent()
    wire.session.received(first, data, wire.now)
    second, again = wire.one_sent()
    assert (second != first, again.requests) == (True, requests.requests)
    assert not ticket.done

    alone = Wire(1)
    ticket = alone.put()
    alone.sent()
    alone.session.received(0, data, alone.now)
    assert isinstance(ticket.error, errors.CorruptionError | errors.UnsupportedVersion)
    assert ticket.error.maybe_applied


def test_a_pinned_request_waits_for_its_endpoint() -> None:
    """`status` of a member is asked of that member or of nobody."""
    wire = Wire()
    wire.session.disconnected(1, wire.now)
    ticket = wire.session.submit(m.Status(), wire.now + 3000, endpoint=1)
    assert wire.sent() == []
    wire.session.connected(1, wire.now)
    assert wire.one_sent()[0] == 1
    wire.session.disconnected(1, wire.now)
    wire.pass_ms(3000)
    assert str(ticket.error) == "context deadline exceeded: the endpoint is not connected"


# --- deadlines -----------------------------------------------------------------------------------


def test_a_write_never_sent_was_not_applied() -> None:
    """Its deadline passes with nobody connected."""
    wire = Wire(connect=False)
    ticket = wire.put(wait_ms=100)
    wire.pass_ms(100)
    assert isinstance(ticket.error, errors.DeadlineExceeded)
    assert not ticket.error.maybe_applied
    assert str(ticket.error) == "context deadline exceeded: no endpoint is connected"


def test_a_write_sent_and_not_answered_may_have_been_applied() -> None:
    wire = Wire()
    ticket = wire.put(wait_ms=100)
    wire.sent()
    wire.pass_ms(100)
    assert isinstance(ticket.error, errors.DeadlineExceeded)
    assert ticket.error.maybe_applied


def test_a_write_that_was_only_ever_refused_was_not_applied() -> None:
    """Every attempt was answered with an error that says: nothing of it will happen."""
    wire = Wire(1)
    ticket = wire.put(wait_ms=10)
    _, requests = wire.one_sent()
    wire.answer(0, (ids(requests)[0], errors.NoLeader.code, 0, ()))
    wire.pass_ms(10)
    assert isinstance(ticket.error, errors.DeadlineExceeded)
    assert not ticket.error.maybe_applied


def test_a_refusal_does_not_settle_an_earlier_attempt() -> None:
    """The first attempt is in doubt for good, whatever the second one hears."""
    wire = Wire()
    ticket = wire.put(wait_ms=100)
    first, _ = wire.one_sent()
    wire.session.disconnected(first, wire.now)
    second, again = wire.one_sent()
    wire.answer(second, (ids(again)[0], errors.NoLeader.code, 0, ()))
    wire.session.disconnected(second, wire.now)
    wire.pass_ms(100)
    assert ticket.error is not None
    assert ticket.error.maybe_applied


def test_a_read_is_never_in_doubt() -> None:
    wire = Wire()
    ticket = wire.get(wait_ms=100)
    wire.sent()
    wire.pass_ms(100)
    assert isinstance(ticket.error, errors.DeadlineExceeded)
    assert not ticket.error.maybe_applied


def test_the_floor_passes_a_write_that_was_given_up() -> None:
    """So a late copy of it is refused by the cluster: after that it will not be applied."""
    wire = Wire()
    wire.put(wait_ms=100)
    _, requests = wire.one_sent()
    wire.pass_ms(100)
    wire.put()
    assert wire.one_sent()[1].floor > ids(requests)[0]


def test_closing_ends_everything() -> None:
    """Queued tickets were not applied, sent ones may have been; later ones are refused."""
    wire = Wire()
    sent = wire.put()
    wire.sent()
    queued = wire.put()
    wire.session.close()
    late = wire.put()
    assert all(isinstance(ticket.error, errors.ClientClosed) for ticket in (sent, queued, late))
    assert [ticket.error is not None and ticket.error.maybe_applied for ticket in (sent, queued, late)] == [
        True,
        False,
        False,
    ]
    assert set(wire.session.news()) == {sent, queued, late}
    assert wire.sent() == []
