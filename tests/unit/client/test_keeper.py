"""Keeping leases alive: when it is asked for, and when a lease counts as lost."""

from __future__ import annotations

import itertools

import pytest

from tests.unit.client.wire import Wire, ids
from zkv import errors
from zkv.client.keeper import RETRY_MS, Keeper, Kept
from zkv.wire import messages as m

TTL = 9


class Kit:
    """A keeper on a session on a wire, ticked as the clients do it."""

    def __init__(self, leases: int = 1) -> None:
        self.wire = Wire()
        self.keeper = Keeper()
        self.kept = [Kept(7 + number, TTL, self.wire.now) for number in range(leases)]
        for kept in self.kept:
            self.keeper.keep(kept)

    def turn(self, ms: int = 0) -> list[tuple[int, m.Requests]]:
        self.wire.pass_ms(ms)
        self.keeper.tick(self.wire.now, self.wire.session)
        sent = self.wire.sent()
        self.release()
        return sent

    def release(self) -> None:
        for ticket in self.wire.session.news():
            ticket.context()  # type: ignore[operator]

    def acknowledge(self, sent: list[tuple[int, m.Requests]], ttl: int = TTL) -> None:
        for endpoint, requests in sent:
            self.wire.answer(endpoint, *[(id_, 0, 5, (fields[0], ttl)) for id_, _, fields in requests.requests])
        self.release()


def test_a_lease_is_renewed_three_times_in_its_ttl() -> None:
    """Each a third of it after the last one was sent; nothing is sent before."""
    kit = Kit()
    assert kit.turn(TTL * 1000 // 3 - 1) == []
    for _ in range(5):
        ((_, requests),) = sent = kit.turn(1)
        assert [(op, fields) for _, op, fields in requests.requests] == [(m.Op.LEASE_KEEP_ALIVE, (7,))]
        kit.acknowledge(sent)
        assert kit.keeper.next_wakeup() == kit.wire.now + TTL * 1000 // 3
        assert kit.turn(TTL * 1000 // 3 - 1) == []


def test_all_that_are_due_go_in_one_message() -> None:
    """However many leases a client has, it is one message for each third of the TTL."""
    kit = Kit(leases=1000)
    ((_, requests),) = sent = kit.turn(TTL * 1000 // 3)
    assert len(requests.requests) == 1000
    kit.acknowledge(sent)
    assert all(kept.alive(kit.wire.now + TTL * 900) for kept in kit.kept)


def test_a_lease_is_sure_from_when_the_acknowledged_keep_alive_was_sent() -> None:
    """Not from when the answer came: the cluster may have begun to count at once, and the answer have lain about."""
    kit = Kit()
    sent_at = kit.wire.now + 3000
    sent = kit.turn(3000)
    kit.wire.pass_ms(500)
    kit.acknowledge(sent)
    (kept,) = kit.kept
    assert sent_at + TTL * 998 < kept.sure_until <= sent_at + TTL * 1000
    assert kept.alive(kept.sure_until - 1)
    assert not kept.alive(kept.sure_until)


def test_of_a_keep_alive_that_was_tried_again_the_first_attempt_counts() -> None:
    """Nobody knows which one was answered."""
    kit = Kit()
    first = kit.turn(3000)
    sent_at = kit.wire.now
    again = kit.turn(1200)  # silence: another endpoint
    assert first[0][0] != again[0][0]
    kit.acknowledge(again)
    assert kit.kept[0].sure_until <= sent_at + TTL * 1000


def test_without_an_answer_a_lease_is_lost_when_its_ttl_has_passed() -> None:
    """It fails closed; a late answer does not bring it back, for its holder may have been told."""
    kit = Kit()
    sent = kit.turn(3000)
    kit.turn(6000)
    assert not kit.kept[0].alive(kit.wire.now)
    kit.acknowledge(sent)
    assert not kit.kept[0].alive(kit.wire.now)
    assert kit.turn(60_000) == []


def test_a_process_that_was_stopped_knows_when_it_wakes() -> None:
    """The acknowledgement that lies in its socket does not help: it was asked for before."""
    kit = Kit()
    sent = kit.turn(3000)
    kit.wire.now += 20_000
    kit.acknowledge(sent)
    assert not kit.kept[0].alive(kit.wire.now)


def test_a_lease_that_the_cluster_does_not_know_is_lost_at_once() -> None:
    kit = Kit()
    ((endpoint, requests),) = kit.turn(3000)
    kit.wire.answer(endpoint, (ids(requests)[0], errors.LeaseNotFound.code, 5, ()))
    kit.release()
    assert kit.kept[0].lost
    assert kit.turn(60_000) == []


def test_any_other_failure_is_tried_again_until_the_end() -> None:
    """At a pace; and a success afterwards is one."""
    kit = Kit()
    sent = kit.turn(3000)
    for _ in range(3):
        ((endpoint, requests),) = sent
        kit.wire.answer(endpoint, (ids(requests)[0], errors.PermissionDenied.code, 5, ()))
        kit.release()
        assert kit.turn(RETRY_MS - 1) == []
        sent = kit.turn(1)
    kit.acknowledge(sent)
    assert kit.kept[0].alive(kit.wire.now + TTL * 900)


@pytest.mark.parametrize("answered", [False, True])
def test_a_lease_that_was_let_go_is_not_renewed(answered: bool) -> None:
    """Whether its last keep-alive was still under way or not."""
    kit = Kit()
    sent = kit.turn(3000)
    if not answered:
        kit.kept[0].stop()
    kit.acknowledge(sent)
    kit.kept[0].stop()
    assert kit.turn(3000) == []
    assert not kit.kept[0].alive(kit.wire.now)


def test_the_shortest_ttl_is_the_clusters() -> None:
    """A keep-alive tells it anew, and the pace follows."""
    kit = Kit()
    kit.acknowledge(kit.turn(3000), ttl=60)
    assert kit.turn(19_999) == []
    assert len(kit.turn(1)) == 1


def test_leases_of_many_ttls_are_renewed_each_in_its_time() -> None:
    """The heap keeps them apart: within a minute each is renewed three times a TTL, and none is lost."""
    kit = Kit(leases=0)
    kit.kept = [Kept(id_, ttl, kit.wire.now) for id_, ttl in enumerate((2, 3, 5, 10, 30))]
    ttls = {kept.id: kept.ttl for kept in kit.kept}
    for kept in kit.kept:
        kit.keeper.keep(kept)
    count = dict.fromkeys(ttls, 0)
    for _ in itertools.repeat(None, 6000):
        for endpoint, requests in kit.turn(10):
            for id_, _, fields in requests.requests:
                lease = fields[0]
                assert isinstance(lease, int)
                count[lease] += 1
                kit.wire.answer(endpoint, (id_, 0, 5, (lease, ttls[lease])))
        kit.release()
    assert not any(kept.lost for kept in kit.kept)
    for id_, ttl in ttls.items():
        assert 60 * 3 / ttl - 2 <= count[id_] <= 60 * 3 / ttl + 1
