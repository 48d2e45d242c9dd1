"""A session that says who it is: a question first, then a token with all that follows, and another if that is void."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.client.fake_cluster import answers
from tests.unit.client.wire import DONE_PUT, SESSION
from zkv import errors
from zkv.client.login import Login
from zkv.client.session import Session
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack

OLD, INVALID, EMPTY = errors.AuthOldRevision.code, errors.InvalidAuthToken.code, errors.UserEmpty.code


class Wire:
    def __init__(self) -> None:
        self.now = 1000
        self.session = Session(1, SESSION, 7, now=self.now, login=Login("alice", "pw"))
        self.session.connected(0, self.now)

    def put(self) -> Any:
        return self.session.submit(m.Put(b"k", b"v"), self.now + 5000)

    def sent(self) -> list[Any]:
        """(op, id, token) of all requests that leave now."""
        self.now += 500  # whatever waits to be tried again is due
        self.session.tick(self.now)
        found = []
        for _, data in self.session.outgoing(self.now):
            _, _, _, _, requests, *token = unpack(data)
            found += [(op, id_, *token) for id_, op, _ in requests]
        return found

    def answer(self, id_: int, code: int = 0, body: object = DONE_PUT) -> None:
        self.session.received(0, answers((id_, code, 5, body if not code else ())), self.now)

    def log_in(self, token: str = "one") -> None:  # noqa: S107 - no secret
        ((op, id_),) = self.sent()
        assert op == m.Op.AUTHENTICATE
        self.answer(id_, body=(token,))


def test_all_waits_for_the_token_and_carries_it() -> None:
    """Which is asked for when there is something to be sent, and once for all that waits."""
    wire = Wire()
    assert wire.sent() == []
    tickets = [wire.put(), wire.put()]
    wire.log_in()
    sent = wire.sent()
    assert [(op, token) for op, _, token in sent] == [(m.Op.PUT, "one")] * 2
    for _, id_, _ in sent:
        wire.answer(id_)
    assert all(ticket.done and ticket.error is None for ticket in tickets)
    assert set(wire.session.news()) == set(tickets)  # of the question nobody hears


def test_where_nobody_is_asked_no_token_is_shown() -> None:
    wire = Wire()
    wire.put()
    ((_, id_),) = wire.sent()
    wire.answer(id_, errors.AuthNotEnabled.code)
    assert [len(each) for each in wire.sent()] == [2]


def test_who_named_himself_wrongly_is_told_by_each_call_and_asks_again_with_the_next() -> None:
    wire = Wire()
    first = wire.put()
    ((_, id_),) = wire.sent()
    wire.answer(id_, errors.AuthFailed.code)
    assert isinstance(first.error, errors.AuthFailed)
    assert not first.error.maybe_applied
    assert wire.sent() == []
    second = wire.put()
    wire.log_in()
    assert not second.done
    assert len(wire.sent()) == 1


def test_a_token_that_is_void_is_replaced_and_the_write_keeps_its_name() -> None:
    """Nothing of it was done, and it is applied once all the same."""
    wire = Wire()
    ticket = wire.put()
    wire.log_in()
    ((_, id_, _),) = wire.sent()
    wire.answer(id_, INVALID)
    wire.log_in("two")
    assert wire.sent() == [(m.Op.PUT, id_, "two")]
    wire.answer(id_)
    assert ticket.error is None


def test_who_is_asked_only_later_names_himself_then() -> None:
    """Authentication was enabled after the session had begun."""
    wire = Wire()
    ticket = wire.put()
    ((_, id_),) = wire.sent()
    wire.answer(id_, errors.AuthNotEnabled.code)
    ((_, id_),) = wire.sent()
    wire.answer(id_, EMPTY)
    wire.log_in("late")
    ((_, id_, token),) = wire.sent()
    assert token == "late"
    wire.answer(id_)
    assert ticket.error is None


def test_a_user_without_a_name_is_no_reason_to_ask_for_ever() -> None:
    """UserEmpty of a command that names nobody, where nobody is asked who he is."""
    wire = Wire()
    ticket = wire.session.submit(m.UserAdd(""), wire.now + 5000)
    for code in (errors.AuthNotEnabled.code, EMPTY, errors.AuthNotEnabled.code, EMPTY):
        (sent,) = wire.sent()
        wire.answer(sent[1], code)
    assert isinstance(ticket.error, errors.UserEmpty)


@pytest.mark.parametrize(("token", "again"), [("random", False), ("a.signed.token", True)])
def test_of_an_old_revision_only_a_signed_token_is_replaced(token: str, *, again: bool) -> None:
    wire = Wire()
    wire.put()
    wire.log_in(token)
    ((_, id_, _),) = wire.sent()
    wire.answer(id_, OLD)
    (sent,) = wire.sent()
    assert (sent[0] == m.Op.AUTHENTICATE) == again


def test_a_lost_question_is_asked_again() -> None:
    wire = Wire()
    wire.put()
    ((op, first),) = wire.sent()
    wire.session.disconnected(0, wire.now)
    assert wire.sent() == []
    wire.session.connected(0, wire.now)
    ((again, second),) = wire.sent()
    assert op == again == m.Op.AUTHENTICATE
    assert first != second


def test_closing_ends_those_who_wait_for_the_token() -> None:
    wire = Wire()
    ticket = wire.put()
    wire.sent()
    wire.session.close()
    assert isinstance(ticket.error, errors.ClientClosed)


def test_a_watch_carries_the_token_and_begins_anew_with_the_next() -> None:
    wire = Wire()
    feed = wire.session.watching.open(m.Watch(0, b"k"), None)
    wire.log_in()
    wire.now += 500
    ((_, data),) = wire.session.outgoing(wire.now)
    _, kind, ((id_, *_),), token = unpack(data)
    assert (kind, token) == (m.ClientKind.WATCH, "one")
    cancelled = (((id_,), int(m.WatchKind.CANCELLED), 5, (INVALID, 0, 0)),)
    wire.session.received(0, pack((1, 1, 1, 1, (), 0, cancelled)), wire.now)
    wire.now += 500
    wire.session.tick(wire.now)
    (out,) = wire.session.outgoing(wire.now)
    assert unpack(out[1])[4][0][1] == m.Op.AUTHENTICATE
    assert feed.error is None
