"""What one client may have of a door, by the clock of the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from zkv import errors
from zkv.gateway import shares as limits_of
from zkv.gateway.doors import PLAIN_DOOR
from zkv.gateway.roster import Roster
from zkv.gateway.shares import ADDRESS, MESSAGE_BYTES, USER, Leases, Shares
from zkv.limits import Limits

if TYPE_CHECKING:
    from zkv.gateway.doors import Client
    from zkv.gateway.logins import Told


def shares(**limits: int) -> Shares:
    return Shares(Limits(**limits), "test")


def test_a_second_fills_the_bucket_and_a_message_may_leave_a_debt() -> None:
    """So many requests a second in the long run, whatever the size of messages; the hint is when it is worth asking."""
    door = shares(client_requests_max=100)
    share = door.of(USER, "alice")
    now, passed = 1_000, 0
    for _ in range(50):
        refusal = door.ask(share, 30, 10, now)
        if refusal is None:
            passed += 30
        else:
            assert isinstance(refusal, errors.LimitExceeded)
            assert refusal.detail == "requests"
            assert door.ask(share, 1, 10, now + refusal.retry_after_ms - 1) is not None
            now += refusal.retry_after_ms
    assert 100 + (now - 1_000) // 10 - 1 <= passed <= 100 + (now - 1_000) // 10 + 30
    assert door.counts["requests"] > 0
    assert door.ask(share, 1_000, 10, now + 60_000) is None, (
        "more than the bucket holds goes, if there is anything in it"
    )


def test_without_a_rate_nobody_is_counted() -> None:
    door = shares()
    share = door.of(USER, "alice")
    assert all(door.ask(share, 1_000, 10, 0) is None for _ in range(1_000))


def test_bytes_are_of_what_is_under_way() -> None:
    """Small messages weigh something, too; who has nothing under way may always send one."""
    door = shares(client_bytes_max=4 * MESSAGE_BYTES)
    share = door.of(USER, "alice")
    assert door.ask(share, 1, 100 * MESSAGE_BYTES, 0) is None
    for _ in range(4):
        assert door.ask(share, 1, 10, 0) is None
        share.hold(10)
    refusal = door.ask(share, 1, 10, 0)
    assert refusal is not None
    assert (refusal.detail, refusal.retry_after_ms > 0) == ("bytes in flight", True)
    assert door.ask(door.of(USER, "bob"), 1, 10, 0) is None
    share.let_go(10)
    assert door.ask(share, 1, 10, 0) is None
    for _ in range(3):
        share.let_go(10)
    assert share.is_idle


def test_watches_and_their_connections_have_an_end() -> None:
    door = shares(client_watches_max=3, watch_streams_max=4)
    share = door.of(USER, "alice")
    assert door.watch(share, 2, 0) == (2, None)
    room, refusal = door.watch(share, 3, 0)
    assert (room, refusal is not None) == (1, True), "as many as there is room for"
    assert door.watch(share, 1, 0)[0] == 0
    assert [door.open_stream(share, 0) is None for _ in range(3)] == [True, True, False]
    share.watches -= 1
    assert door.watch(share, 1, 0) == (1, None)


def test_no_bound_is_no_bound() -> None:
    door = shares(client_bytes_max=0, client_watches_max=0, client_connections_max=0, watch_streams_max=2)
    share = door.of(USER, "alice")
    share.hold(1 << 40)
    assert door.ask(share, 1, 1 << 40, 0) is None
    assert door.watch(share, 1 << 40, 0) == (1 << 40, None)
    assert [door.open_stream(share, 0) for _ in range(3)] == [None] * 3
    assert [door.connect(share, number, 0) for number in range(100)] == [None] * 100


def test_a_user_is_no_address_of_that_name() -> None:
    door = shares()
    assert door.of(USER, "10.0.0.7") is not door.of_stranger("", "10.0.0.7")
    assert door.of_stranger("web", "10.0.0.7") is door.of_stranger("web", "10.0.0.8")


@pytest.mark.patches
def test_clients_without_end_are_forgotten_when_they_have_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_of, "SHARES_MAX", 10)
    door = shares(client_watches_max=5)
    busy = [door.of(ADDRESS, f"10.0.0.{number}") for number in range(9)]
    for share in busy:
        door.watch(share, 1, 0)
    for number in range(1_000):
        door.of(ADDRESS, f"10.1.0.{number}")
    assert len(door) <= 10
    assert all(door.of(ADDRESS, f"10.0.0.{number}") is share for number, share in enumerate(busy))
    door.watch(door.of(ADDRESS, "10.2.0.1"), 1, 0)
    assert door.of(ADDRESS, "10.2.0.2") is door.of(ADDRESS, "10.2.0.3"), "whoever there is no room for counts as one"


class Store:
    """Answers which leases there are."""

    def __init__(self, most: int) -> None:
        self.there: set[int] = set()
        self.asked = 0
        self.fails = False
        self.door = shares(client_leases_max=most)
        self.leases = Leases(self.door, Limits(client_leases_max=most), self.ask)
        self.share = self.door.of(USER, "alice")

    def ask(self, requests: Any, told: Told) -> None:
        self.asked += len(requests)
        if self.fails:
            told(errors.Unavailable.code, 0, ())
            return
        for _, (lease, *_) in requests:
            told(0, 7, (lease, 5 if lease in self.there else -1, 5))

    def grant(self, lease: int, now: int) -> bool:
        if self.leases.grant(self.share, 1, now) is not None:
            return False
        self.there.add(lease)
        self.leases.granted(self.share, 0, [lease])
        self.leases.granted(self.share, 1, ())
        return True


def test_leases_that_are_gone_are_found_out_near_the_limit() -> None:
    """Nobody tells the door of their end; far from the limit nobody is asked either."""
    store = Store(2_000)
    for lease in range(1, 1_700):
        assert store.grant(lease, 0)
    assert store.asked == 0
    store.there = {lease for lease in store.there if lease % 2}
    for lease in range(2_001, 3_001):
        assert store.grant(lease, lease)
    assert set(store.share.leases) == store.there
    assert not store.share.looking


def test_who_holds_all_its_leases_gets_no_more_until_one_is_gone() -> None:
    store = Store(8)
    for lease in range(1, 9):
        assert store.grant(lease, 0)
    assert not store.grant(9, 2_000)
    assert store.door.counts == {"leases": 1}
    store.there.discard(3)
    refusal = store.leases.grant(store.share, 1, 4_000)  # this one finds out
    assert refusal is None or store.grant(9, 4_000 + refusal.retry_after_ms)


def test_leases_under_way_count() -> None:
    store = Store(8)
    assert [store.leases.grant(store.share, 1, 0) is None for _ in range(10)] == [True] * 8 + [False] * 2
    for _ in range(8):
        store.leases.granted(store.share, 1, ())
    assert store.share.is_idle


def test_nobody_who_can_tell_takes_no_lease_away() -> None:
    store = Store(8)
    for lease in range(1, 9):
        assert store.grant(lease, 0)
    store.fails = True
    assert not store.grant(9, 2_000)
    assert len(store.share.leases) == 8
    assert not store.share.looking
    store.fails = False
    store.there.clear()
    store.leases.grant(store.share, 1, 4_000)
    assert not store.share.leases


class Callers:
    """Connections at a plain door."""

    def __init__(self, most: int) -> None:
        self.addresses: dict[Client, str] = {}
        self.roster = Roster(shares(client_connections_max=most), self, None)

    def key_of(self, client: Client) -> bytes:
        return b""

    def address_of(self, client: Client) -> str:
        return self.addresses[client]

    def speaks(self, name: int, address: str = "10.0.0.7") -> str:
        """By whose share he is heard, or why not."""
        client = PLAIN_DOOR, b"%d" % name
        self.addresses[client] = f"{address}:{name}"
        share, error = self.roster.who(client, 0)
        return error.detail if error is not None else share.name

    def goes(self, name: int) -> None:
        self.roster.gone((PLAIN_DOOR, b"%d" % name))


def test_connections_that_are_gone_make_room() -> None:
    callers = Callers(100)
    for name in range(100):
        assert callers.speaks(name) == "address 10.0.0.7"
    for name in range(50):
        callers.goes(name)
        callers.goes(name)
    for name in range(100, 150):
        assert callers.speaks(name) == "address 10.0.0.7"
    assert callers.speaks(200) == "connections"
    assert callers.speaks(201, "10.0.0.8") == "address 10.0.0.8"
    assert callers.speaks(60) == "address 10.0.0.7", "who was there is there"
    callers.goes(60)
    assert callers.speaks(200) == "address 10.0.0.7", "who was refused is heard when there is room"
