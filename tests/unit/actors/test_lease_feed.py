"""Storage tells the lease actor what the log did to leases, however its messages fare."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.kv_log import Feeder, entry, group, machine
from zkv.actors.lease_feed import GONE_MS, SLICE_LEASES, LeaseFeed
from zkv.core.mvcc.leases import table
from zkv.wire import messages as m
from zkv.wire.messages import LeaseExpire, LeaseGrant, LeaseRenew, LeaseRevoke, Put


class Mirror:
    """The table as one knows it who takes all news in the order it comes."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, int]] = {}
        self.news: list[m.LeaseNews] = []
        self.full = False

    def post(self, to: str, message: Any) -> bool:
        assert to == "lease"
        if self.full:
            return False
        news = m.LeaseNews(*message)
        self.news.append(news)
        if news.fresh:
            self.known = {}
        self.known |= {lease: (ttl, until) for lease, ttl, until in news.leases}
        for lease in news.gone:
            self.known.pop(lease, None)
        return True

    def take(self) -> list[m.LeaseNews]:
        taken, self.news = self.news, []
        return taken


class House:
    def __init__(self) -> None:
        self.feeder = Feeder()
        self.mirror = Mirror()
        self.feed = LeaseFeed(self.feeder.machine, self.mirror.post)
        self.now = 0

    def write(self, *requests: Any) -> None:
        store = self.feeder.machine
        self.feed.applied(store.apply([entry(store.applied + 1, group(*requests))], 1).leases, self.now)

    def turn(self, after_ms: int = 0) -> None:
        self.now += after_ms
        self.feed.step(self.now)

    def settle(self) -> None:
        while (at := self.feed.wakeup()) is not None:
            self.turn(max(0, at - self.now))

    def table(self) -> dict[int, tuple[int, int]]:
        return {lease: (kept.ttl, kept.until) for lease, kept in table(self.feeder.machine.engine, None, 1 << 30)}


def test_the_table_is_told_first_also_where_it_is_empty() -> None:
    house = House()
    house.write(LeaseGrant(10, 7))
    assert house.mirror.take() == []
    house.turn()
    assert house.mirror.take() == [m.LeaseNews(1, ((7, 10, 10_750),), (), True, False, 1, 1)]
    empty = House()
    empty.turn()
    assert empty.mirror.take() == [m.LeaseNews(0, (), (), True, False, 1, 0)]


def test_what_was_granted_or_renewed_is_told_at_once_and_what_is_gone_soon() -> None:
    house = House()
    house.turn()
    house.mirror.take()
    house.write(LeaseGrant(10, 7), LeaseGrant(5, 8))
    house.write(LeaseRenew(1, ((7, 99_000),)))
    assert [news.leases for news in house.mirror.take()] == [((7, 10, 10_750), (8, 5, 5_750)), ((7, 10, 99_000),)]
    house.write(LeaseRevoke(7))
    house.turn(GONE_MS - 1)
    assert house.mirror.take() == []
    house.turn(1)
    assert house.mirror.take() == [m.LeaseNews(3, (), (7,), False, False, 1, 1)]
    house.write(Put(b"a", b""))
    assert (house.mirror.take(), house.feed.wakeup()) == ([], None)


def test_a_lease_with_keys_left_is_told_again_each_time_some_went() -> None:
    """Or the leader would not know that it must go on."""
    house = House()
    house.feeder.machine._limits = house.feeder.machine._limits._replace(lease_keys_max=1)
    house.write(LeaseGrant(10, 7), *(Put(b"%d" % at, b"", 7) for at in range(3)))
    house.turn()
    house.mirror.take()
    for until in (10_750, 0):
        house.write(LeaseExpire(1, ((7, until),)))
        assert [news.leases for news in house.mirror.take()] == [((7, 10, 0),)]
    house.write(LeaseExpire(1, ((7, 0),)))
    house.settle()
    assert [news.gone for news in house.mirror.take()] == [(7,)]


def test_a_large_table_is_told_in_slices_and_what_changes_meanwhile_between_them() -> None:
    house = House()
    house.write(*(LeaseGrant(10, at) for at in range(1, 2 * SLICE_LEASES + 2)))
    house.turn()
    house.write(
        LeaseRevoke(1), LeaseRevoke(2 * SLICE_LEASES), LeaseRenew(1, ((2, 99_000), (2 * SLICE_LEASES + 1, 99_000)))
    )
    house.turn()
    house.turn()
    assert [(len(news.leases), news.gone, news.fresh, news.more) for news in house.mirror.take()] == [
        (SLICE_LEASES, (), True, True),
        (2, (1, 2 * SLICE_LEASES), False, False),
        (SLICE_LEASES, (), False, True),
        (0, (), False, False),
    ]
    assert house.mirror.known == house.table()
    assert house.feed.wakeup() is None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 2)),
        st.sampled_from(["turn", "wait", "full", "room", "hello", "swap"]),
    ),
    max_size=30,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_whoever_takes_all_news_knows_the_table(steps: list[Any]) -> None:
    """Queues full now and then, the lease actor restarted, the store swapped for another."""
    house = House()
    until = 20_000
    for step in steps:
        match step:
            case ("write", leases, kind):
                until += 1
                made = (LeaseGrant(10, 1), LeaseRevoke(1), LeaseRenew(1, ()))[kind]
                house.write(
                    *(
                        made._replace(leases=((lease, until),))
                        if isinstance(made, LeaseRenew)
                        else made._replace(id=lease)
                        for lease in leases
                    )
                )
            case "turn":
                house.turn()
            case "wait":
                house.turn(GONE_MS)
            case "full" | "room":
                house.mirror.full = step == "full"
            case "hello":
                house.mirror.known = {}
                house.feed.restart()
            case "swap":
                house.feeder = Feeder()
                house.feeder.ask(LeaseGrant(5, 3))
                house.feed.serve(house.feeder.machine)
    house.mirror.full = False
    house.settle()
    assert house.mirror.known == house.table()


def test_a_machine_opened_again_tells_what_is_kept() -> None:
    """News rest on the engine alone."""
    house = House()
    house.write(LeaseGrant(10, -7))
    house.feed.serve(machine(house.feeder.machine.engine))
    house.turn()
    assert house.mirror.known == {-7: (10, 10_750)}
