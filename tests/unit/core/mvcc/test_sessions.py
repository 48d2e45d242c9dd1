"""A write is applied once, however often it comes, and its answer can be had again."""

from __future__ import annotations

from tests.harness.kv_log import Feeder, everything, machine
from zkv.core.mvcc.layout import SESSION, SESSION_QUEUE, after_prefix
from zkv.errors import AnswerLost, KeyNotFound, SessionExpired, TooManyRequests
from zkv.limits import Limits
from zkv.wire.messages import DeleteRange, Put, Range, Txn

ONE = bytes(8) + b"one....."
OTHER = bytes(8) + b"other..."
SMALL = Limits()._replace(sessions_max=2, session_answers_max=2, session_answer_bytes_max=100, session_bytes_max=200)


def kept(feeder: Feeder, prefix: bytes = SESSION) -> list[bytes]:
    return [key[-16:] for key in feeder.machine.engine.keys(prefix, after_prefix(prefix))]


def test_a_retried_write_gets_its_answer_and_is_not_applied_again() -> None:
    feeder = Feeder()
    first = feeder.ask(Put(b"a", b"1", 0, True), session=ONE)
    assert feeder.ask(Put(b"a", b"1", 0, True), session=ONE) == first
    assert feeder.machine.revision == 2


def test_it_does_so_after_a_restart() -> None:
    feeder = Feeder()
    first = feeder.ask(Put(b"a", b"1"), Put(b"a", b"2", 0, True), session=ONE)
    feeder.machine = machine(feeder.machine.engine)
    assert feeder.ask(Put(b"a", b"1"), Put(b"a", b"2", 0, True), session=ONE) == first


def test_it_does_so_within_one_message() -> None:
    """A copy may sit right behind its original, in the same batch."""
    feeder = Feeder()
    feeder.machine.apply([], 1)
    feeder.ask(DeleteRange(b"x"), Put(b"a", b"1"), session=ONE, first=1)
    assert feeder.ask(Put(b"a", b"1"), Put(b"a", b"1"), session=ONE, first=2)[0] == (None, 0)
    assert feeder.machine.revision == 3


def test_a_refused_write_stays_refused() -> None:
    """Or the retry of a write that failed could succeed after the client was told that it had failed."""
    feeder = Feeder()
    keep = Put(b"a", b"", 0, False, True)
    assert isinstance(feeder.ask(keep, session=ONE)[0], KeyNotFound)
    feeder.ask(Put(b"a", b"1"))
    assert isinstance(feeder.ask(keep, session=ONE)[0], KeyNotFound)


def test_reads_in_the_log_are_not_remembered() -> None:
    feeder = Feeder()
    look = Txn((), ((1, Range(b"a")),), ())
    assert feeder.ask(look, session=ONE) == [(True, ((1, ((), False, 0)),))]
    feeder.ask(Put(b"a", b"1"))
    assert feeder.ask(look, session=ONE) == [(True, ((1, (((b"a", 2, 2, 1, b"1", 0),), False, 1)),))]


def test_what_lies_below_the_floor_is_forgotten_and_refused() -> None:
    feeder = Feeder()
    feeder.ask(Put(b"a", b"1"), session=ONE, first=1)
    feeder.ask(Put(b"a", b"2"), session=ONE, first=2, floor=2)
    assert isinstance(feeder.ask(Put(b"a", b"1"), session=ONE, first=1)[0], SessionExpired)
    assert feeder.machine.revision == 3


def test_an_answer_too_large_to_keep_is_told_to_be_lost() -> None:
    feeder = Feeder(limits=SMALL)
    feeder.ask(Put(b"a", b"v" * 200))
    put = Put(b"a", b"", 0, True)
    assert feeder.ask(put, session=ONE)[0][0][4] == b"v" * 200
    assert isinstance(feeder.ask(put, session=ONE)[0], AnswerLost)


def test_a_session_with_too_many_answers_kept_must_raise_its_floor() -> None:
    feeder = Feeder(limits=SMALL)
    feeder.ask(Put(b"a", b""), Put(b"b", b""), session=ONE, first=1)
    assert isinstance(feeder.ask(Put(b"c", b""), session=ONE, first=3)[0], TooManyRequests)
    assert feeder.ask(Put(b"c", b""), session=ONE, first=3, floor=3) == [(None, 0)]


def test_a_late_copy_of_a_forgotten_session_is_never_applied() -> None:
    """The horizon has passed the birth that the session's name tells."""
    feeder = Feeder()
    feeder.ask(Put(b"a", b"1"), session=ONE)
    feeder.time += Limits().session_idle_ms
    feeder.ask(Put(b"b", b"2"))
    assert kept(feeder) == kept(feeder, SESSION_QUEUE) == []
    [error] = feeder.ask(Put(b"a", b"1"), session=ONE)
    assert isinstance(error, SessionExpired)
    assert feeder.machine.revision == 3
    born = int(error.detail)
    assert feeder.ask(Put(b"a", b"3"), session=born.to_bytes(8, "big") + b"reborn..") == [(None, 0)]


def test_a_session_in_use_does_not_grow_old() -> None:
    """It is put back into the queue when it comes to the front, and goes when it has been idle from then on."""
    feeder = Feeder()
    step = Limits().session_idle_ms // 2
    feeder.ask(Put(b"a", b"1"), session=OTHER)
    for at in range(1, 6):
        feeder.ask(Put(b"a", b"1"), session=ONE, first=at, floor=at)
        feeder.time += step
    assert kept(feeder) == [ONE]
    feeder.time += step
    feeder.ask(Put(b"b", b"2"))
    assert kept(feeder) == []


def test_where_there_is_no_room_only_an_idle_session_makes_some() -> None:
    feeder = Feeder(limits=SMALL)
    feeder.ask(Put(b"a", b""), session=ONE)
    feeder.time += 1000
    feeder.ask(Put(b"a", b""), session=OTHER)
    third = (2).to_bytes(8, "big") + b"third..."
    assert isinstance(feeder.ask(Put(b"a", b""), session=third)[0], TooManyRequests)
    feeder.time += SMALL.session_kept_ms - 500
    assert feeder.ask(Put(b"a", b""), session=third) == [(None, 0)]
    assert kept(feeder) == sorted([OTHER, third])


def test_what_is_cached_is_what_is_kept() -> None:
    """Opened anew after each entry, the table goes the same way."""
    steady, shaken = Feeder(limits=SMALL), Feeder(limits=SMALL)
    for at in range(60):
        name = (at // 2).to_bytes(8, "big") + b"%08d" % (at % 5)
        for feeder in (steady, shaken):
            feeder.time += (at * 7919) % 40_000
            feeder.ask(Put(b"a", b"v" * (at % 7) * 9, 0, True), session=name, first=at, floor=at - at % 3)
        shaken.machine = machine(shaken.machine.engine, limits=SMALL)
        assert list(everything(shaken.machine.engine)) == list(everything(steady.machine.engine))
