"""Leases in the store: granted, held by keys, ended. Where etcd has the case, it answers the same."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.kv_log import Feeder, answers_of, entry, everything, group, machine
from zkv.core.mvcc import layout
from zkv.core.mvcc.leases import TTL_MAX
from zkv.errors import InvalidRequest, KeyNotFound, LeaseExists, LeaseNotFound, LeaseTTLTooLarge, RangeTooLarge
from zkv.limits import LEASE_SLACK_MS, Limits
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack
from zkv.wire.messages import (
    DeleteRange,
    LeaseExpire,
    LeaseGrant,
    LeaseList,
    LeaseRenew,
    LeaseRevoke,
    LeaseTimeToLive,
    Put,
    Range,
    Txn,
)

UNTIL = 10_000 + LEASE_SLACK_MS
"""Of a lease of ten seconds, granted at time 0."""


@pytest.fixture
def seven() -> Feeder:
    """Lease 7, of ten seconds."""
    feeder = Feeder()
    assert feeder.ask(LeaseGrant(10, 7)) == [(7, 10)]
    return feeder


def keys_of(feeder: Feeder, lease: int = 7) -> Any:
    return feeder.read(LeaseTimeToLive(lease, True))[3]


def lease_bytes(feeder: Feeder) -> list[tuple[bytes, bytes]]:
    """All that the engine holds of leases."""
    return [pair for pair in everything(feeder.machine.engine) if pair[0][:1] in {layout.LEASE, layout.ATTACHED}]


def news_of(feeder: Feeder, *requests: Any, term: int = 1) -> dict[int, Any]:
    log = [entry(feeder.machine.applied + 1, group(*requests), time=feeder.time, term=term)]
    return feeder.machine.apply(log, term).leases


# --- granting and revoking -------------------------------------------------------------------------


def test_a_lease_is_granted_once(seven: Feeder) -> None:
    [error] = seven.ask(LeaseGrant(20, 7))
    assert isinstance(error, LeaseExists)
    assert seven.read(LeaseTimeToLive(7)) == (7, 10, 10, ())
    assert seven.machine.revision == 1


def test_a_ttl_beyond_etcds_is_refused_before_the_id_is_looked_at(seven: Feeder) -> None:
    [error, at_most] = seven.ask(LeaseGrant(TTL_MAX + 1, 7), LeaseGrant(TTL_MAX, 8))
    assert isinstance(error, LeaseTTLTooLarge)
    assert at_most == (8, TTL_MAX)


@pytest.mark.parametrize(("ttl", "least", "given"), [(1, 2, 2), (0, 2, 2), (-5, 2, 2), (-5, 0, 1), (3, 2, 3)])
def test_a_ttl_below_the_least_is_raised(ttl: int, least: int, given: int) -> None:
    assert Feeder().ask(LeaseGrant(ttl, 1, least)) == [(1, given)]


@pytest.mark.parametrize(("remaining", "left"), [(4, 4), (10, 10), (11, 10), (0, 10), (-1, 10)])
def test_a_lease_may_begin_with_less_than_its_ttl_left(remaining: int, left: int) -> None:
    """As one that comes from another cluster; a renewal gives it all of its TTL."""
    feeder = Feeder()
    assert feeder.ask(LeaseGrant(10, 7, 2, remaining)) == [(7, 10)]
    assert feeder.read(LeaseTimeToLive(7)) == (7, left, 10, ())


def test_ids_are_chosen_positive_and_free_the_same_on_each_member() -> None:
    one, other = Feeder(), Feeder(member=2)
    requests = [LeaseGrant(10) for _ in range(50)]
    ids = [lease for lease, _ in one.ask(*requests)]
    assert len(set(ids)) == 50
    assert all(0 < lease < 1 << 63 for lease in ids)
    other.machine.apply([entry(1, group(*requests))], 1)
    assert lease_bytes(one) == lease_bytes(other)


def test_an_id_that_is_taken_is_not_chosen() -> None:
    """Whoever knows the rule can take the id that comes next; then the one after it is."""
    scout, feeder = Feeder(), Feeder()
    scout.ask(LeaseGrant(10, 1))
    [(next_id, _)] = scout.ask(LeaseGrant(10))
    feeder.ask(LeaseGrant(10, next_id))
    [(lease, _)] = feeder.ask(LeaseGrant(10))
    assert lease not in {0, next_id}


def test_an_id_may_be_negative_as_in_etcd() -> None:
    feeder = Feeder()
    assert feeder.ask(LeaseGrant(10, -1), Put(b"a", b"", -1)) == [(-1, 10), (None, 0)]
    assert feeder.read(LeaseTimeToLive(-1, True)) == (-1, 10, 10, (b"a",))
    assert feeder.read(LeaseList()) == ((-1,),)
    feeder.ask(LeaseRevoke(-1))
    assert lease_bytes(feeder) == []


def test_a_revoke_deletes_all_keys_at_one_revision_in_order(seven: Feeder) -> None:
    seven.ask(Put(b"c", b"", 7), Put(b"a", b"", 7), Put(b"b", b"", 7), Put(b"other", b""))
    seven.machine.store.want_events = True
    outcome = seven.machine.apply([entry(seven.machine.applied + 1, group(LeaseRevoke(7)))], 1)
    assert answers_of(outcome.answers[0].answers) == [(6, ())]
    [(revision, events)] = outcome.events
    assert revision == 6
    assert [(event.deleted, event.kv.key, event.kv.mod_revision) for event in events] == [
        (True, b"a", 6),
        (True, b"b", 6),
        (True, b"c", 6),
    ]
    assert outcome.leases == {7: None}
    assert lease_bytes(seven) == []


def test_a_revoke_without_keys_takes_no_revision(seven: Feeder) -> None:
    assert seven.ask(LeaseRevoke(7)) == [()]
    assert seven.machine.revision == 1
    [error] = seven.ask(LeaseRevoke(7))
    assert isinstance(error, LeaseNotFound)


# --- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [Put(b"a", b""), Put(b"a", b"", 0, True), Put(b"a", b"", 8), DeleteRange(b"a")])
def test_a_put_moves_its_key_and_a_delete_takes_it_away(seven: Feeder, again: Any) -> None:
    """With another lease, or none, in a plain put as in one with options."""
    seven.ask(LeaseGrant(10, 8), Put(b"a", b"1", 7))
    assert keys_of(seven) == (b"a",)
    seven.ask(again)
    assert keys_of(seven) == ()
    seven.ask(LeaseRevoke(7))
    assert seven.read(Range(b"a"))[2] == (0 if isinstance(again, DeleteRange) else 1)


def test_the_lease_may_be_kept(seven: Feeder) -> None:
    seven.ask(Put(b"a", b"1", 7), Put(b"a", b"2", 0, False, False, True))
    assert keys_of(seven) == (b"a",)
    assert seven.read(Range(b"a"))[0][0][5] == 7


def test_a_put_with_an_unknown_lease_changes_nothing(seven: Feeder) -> None:
    seven.ask(Put(b"a", b"1", 7))
    errors = seven.ask(Put(b"a", b"2", 9), Put(b"b", b"", 9, ignore_value=True))
    assert [type(error) for error in errors] == [LeaseNotFound, LeaseNotFound]  # etcd looks for the lease first
    assert keys_of(seven) == (b"a",)


def test_versions_of_the_past_keep_their_lease(seven: Feeder) -> None:
    seven.ask(Put(b"a", b"1", 7), Put(b"a", b"2"))
    assert seven.read(Range(b"a", revision=2))[0][0][5] == 7


def test_a_txn_that_fails_leaves_no_key_attached_and_no_lease_made() -> None:
    small = Feeder(limits=Limits()._replace(answer_bytes_max=100, chunk_bytes=50))
    small.ask(LeaseGrant(10, 7), Put(b"a", b"x" * 60, 7), Put(b"b", b"x" * 60), Put(b"t", b"", ttl=5))
    before = lease_bytes(small)
    moves = ((2, Put(b"a", b"")), (2, Put(b"b", b"", 7)), (2, Put(b"c", b"x" * 120, ttl=9)), (3, DeleteRange(b"t")))
    [error] = small.ask(Txn((), (*moves, (1, Range(b"a", b"\0"))), ()))
    assert isinstance(error, RangeTooLarge)
    assert lease_bytes(small) == before
    assert keys_of(small) == (b"a",)


def test_a_key_may_come_and_go_within_one_entry(seven: Feeder) -> None:
    """What is pending is seen by what follows it in the same batch."""
    seven.ask(Put(b"b", b"", 7))
    answers = seven.ask(
        Put(b"a", b"", 7), DeleteRange(b"b"), Put(b"c", b"", 7), Put(b"c", b""), LeaseRevoke(7), LeaseGrant(5, 7)
    )
    assert answers[-1] == (7, 5)
    assert [seven.read(Range(key))[2] for key in (b"a", b"b", b"c")] == [0, 0, 1]
    assert keys_of(seven) == ()


# --- leases that puts make ---------------------------------------------------------------------------


def test_a_put_with_a_ttl_makes_a_lease_of_its_own() -> None:
    feeder = Feeder()
    [(_, lease)] = feeder.ask(Put(b"a", b"", ttl=5))
    assert feeder.read(Range(b"a"))[0][0][5] == lease
    assert feeder.read(LeaseTimeToLive(lease, True)) == (lease, 5, 5, (b"a",))


@pytest.mark.parametrize(
    "last", [DeleteRange(b"a"), Put(b"a", b""), Put(b"a", b"", 7), Put(b"a", b"", 0, True), DeleteRange(b"a", b"\0")]
)
def test_such_a_lease_ends_with_its_last_key(seven: Feeder, last: Any) -> None:
    [(_, lease)] = seven.ask(Put(b"a", b"", ttl=5))
    seven.ask(Put(b"a", b"", ttl=5), Put(b"a", b"", ttl=5))
    assert len(seven.read(LeaseList())[0]) == 2  # the one of before is gone
    news = news_of(seven, last)
    assert list(news.values()) == [None]
    assert lease not in news
    assert seven.read(LeaseList()) == ((7,),)
    assert len(lease_bytes(seven)) == (2 if isinstance(last, Put) and last.lease else 1)


def test_such_a_lease_lives_as_long_as_any_key_holds_on_to_it() -> None:
    feeder = Feeder()
    [(_, lease)] = feeder.ask(Put(b"a", b"", ttl=5))
    feeder.ask(Put(b"b", b"", lease), Put(b"a", b""))
    assert keys_of(feeder, lease) == (b"b",)
    feeder.ask(Put(b"b", b"", lease), DeleteRange(b"b"))
    assert lease_bytes(feeder) == []


def test_such_a_lease_may_change_hands_within_a_txn() -> None:
    """It ends with the request that left it without a key, not before."""
    feeder = Feeder()
    [(_, lease)] = feeder.ask(Put(b"a", b"", ttl=5))
    feeder.ask(Txn((), ((3, DeleteRange(b"a")), (2, Put(b"b", b"", lease))), ()))
    assert keys_of(feeder, lease) == (b"b",)
    feeder.ask(Txn((), ((2, Put(b"b", b"")), (2, Put(b"c", b""))), ()))
    assert lease_bytes(feeder) == []


def test_such_a_lease_can_be_revoked() -> None:
    feeder = Feeder()
    [(_, lease)] = feeder.ask(Put(b"a", b"", ttl=5))
    assert feeder.ask(LeaseRevoke(lease)) == [()]
    assert lease_bytes(feeder) == []
    assert feeder.read(Range(b"a"))[2] == 0


def test_each_put_of_a_txn_may_have_a_ttl() -> None:
    feeder = Feeder()
    [(_, responses)] = feeder.ask(Txn((), ((2, Put(b"a", b"", ttl=5)), (2, Put(b"b", b"", ttl=6))), ()))
    first, second = (body[1] for _, body in responses)
    assert keys_of(feeder, first) == (b"a",)
    assert keys_of(feeder, second) == (b"b",)


def test_a_bad_ttl_is_refused_and_leaves_no_trace(seven: Feeder) -> None:
    too_long = Put(b"a", b"", ttl=TTL_MAX + 1)
    errors = seven.ask(too_long, Txn((), ((2, Put(b"b", b"")), (2, too_long)), ()), Put(b"a", b"", ttl=-1))
    assert [type(error) for error in errors] == [LeaseTTLTooLarge, LeaseTTLTooLarge, InvalidRequest]
    [error] = seven.ask(Put(b"a", b"", ttl=5, ignore_value=True))
    assert isinstance(error, KeyNotFound)
    assert seven.machine.revision == 1
    assert seven.read(LeaseList()) == ((7,),)


# --- what the leader logs ------------------------------------------------------------------------------


def test_a_renewal_lets_it_live_longer_and_never_shorter(seven: Feeder) -> None:
    assert news_of(seven, LeaseRenew(1, ((7, UNTIL + 5), (7, UNTIL + 3), (99, 1)))) == {7: (10, UNTIL + 5, -1)}


def test_an_expiry_takes_the_keys(seven: Feeder) -> None:
    seven.ask(Put(b"b", b"", 7), Put(b"a", b"", 7))
    assert news_of(seven, LeaseExpire(1, ((7, UNTIL),))) == {7: None}
    assert seven.machine.revision == 4
    assert seven.read(Range(b"a", b"\0"))[2] == 0
    assert lease_bytes(seven) == []


def test_an_expiry_is_void_if_the_lease_was_renewed_meanwhile(seven: Feeder) -> None:
    seven.ask(Put(b"a", b"", 7), LeaseRenew(1, ((7, UNTIL + 5),)))
    assert news_of(seven, LeaseExpire(1, ((7, UNTIL), (99, UNTIL)))) == {}
    assert keys_of(seven) == (b"a",)


@pytest.mark.parametrize("request_", [LeaseRenew(1, ((7, UNTIL + 5),)), LeaseExpire(1, ((7, UNTIL),))])
def test_what_a_deposed_leader_logged_is_void(seven: Feeder, request_: Any) -> None:
    assert news_of(seven, request_, term=2) == {}


def test_an_expiry_without_leases_only_carries_the_clock_on(seven: Feeder) -> None:
    seven.time = 4000
    assert news_of(seven, LeaseRenew(1, ())) == {}
    assert seven.read(LeaseTimeToLive(7)) == (7, 6, 10, ())


def small(keys_max: int) -> Feeder:
    """Leases 7, with keys 0 to 4, 8, with keys 5 and 6, and 9 without a key."""
    feeder = Feeder(limits=Limits()._replace(lease_keys_max=keys_max))
    feeder.ask(LeaseGrant(10, 7), LeaseGrant(10, 8), LeaseGrant(10, 9))
    feeder.ask(*(Put(b"%d" % at, b"", 7 if at < 5 else 8) for at in range(7)))
    return feeder


def keys_left(feeder: Feeder) -> list[bytes]:
    return [kv[0] for kv in feeder.read(Range(b"\0", b"\0"))[0]]


def test_each_lease_that_expires_has_a_revision_of_its_own() -> None:
    feeder = small(100)
    before = feeder.machine.revision
    news_of(feeder, LeaseExpire(1, ((7, UNTIL), (9, UNTIL), (8, UNTIL))))
    assert feeder.machine.revision == before + 2
    assert lease_bytes(feeder) == []


def test_more_keys_than_an_entry_may_delete_go_by_and_by() -> None:
    feeder = small(3)
    assert news_of(feeder, LeaseExpire(1, ((7, UNTIL), (8, UNTIL), (9, UNTIL)))) == {
        7: (10, 0, -1),
        8: (10, 0, -1),
        9: None,
    }
    assert keys_left(feeder) == [b"3", b"4", b"5", b"6"]
    assert news_of(feeder, LeaseExpire(1, ((7, 0), (8, 0)))) == {7: None, 8: (10, 0, -1)}
    assert news_of(feeder, LeaseExpire(1, ((8, 0),))) == {8: None}
    assert lease_bytes(feeder) == []


def test_an_id_is_free_again_when_the_last_key_is_gone() -> None:
    """And nothing is remembered of which keys went before."""
    feeder = small(3)
    news_of(feeder, LeaseExpire(1, ((7, UNTIL),)))
    assert keys_left(feeder) == [b"3", b"4", b"5", b"6"]
    news_of(feeder, LeaseExpire(1, ((7, 0),)))
    assert keys_left(feeder) == [b"5", b"6"]
    feeder.ask(LeaseGrant(10, 7), Put(b"0", b"", 7), Put(b"9", b"", 7))
    news_of(feeder, LeaseExpire(1, ((7, UNTIL),)))
    assert keys_left(feeder) == [b"5", b"6"]


def test_a_lease_that_has_ended_is_of_no_use_while_keys_are_left() -> None:
    feeder = small(3)
    news_of(feeder, LeaseExpire(1, ((7, UNTIL),)))
    outcomes = feeder.ask(
        Put(b"n", b"", 7),
        LeaseRevoke(7),
        Txn((), ((2, Put(b"n", b"", 7)),), ()),
        LeaseGrant(10, 7),
        LeaseRenew(1, ((7, UNTIL + 5),)),
        Put(b"4", b"saved"),
    )
    assert [type(outcome) for outcome in outcomes[:4]] == [LeaseNotFound, LeaseNotFound, LeaseNotFound, LeaseExists]
    assert feeder.read(LeaseTimeToLive(7, True)) == (7, -1, 0, ())
    assert feeder.read(LeaseList()) == ((8, 9),)
    assert news_of(feeder, LeaseExpire(1, ((7, 0),))) == {7: None}
    assert keys_left(feeder) == [b"4", b"5", b"6"]


@pytest.mark.parametrize(
    "broken",
    [
        LeaseGrant("ten", 1),  # type: ignore[arg-type]
        LeaseGrant(1.5, 1),  # type: ignore[arg-type]
        LeaseGrant(1, 1 << 63),
        LeaseGrant(1, b"x"),  # type: ignore[arg-type]
        LeaseRevoke([]),  # type: ignore[arg-type]
        LeaseRenew(1, ((7, UNTIL + 1), (7, 1 << 63))),
        LeaseRenew(1, ((7, 2.5),)),  # type: ignore[arg-type]
        LeaseRenew(1, 5),  # type: ignore[arg-type]
        LeaseExpire(1, ((7, UNTIL), (8,))),  # type: ignore[arg-type]
        Put(b"a", b"", ttl=1.5),  # type: ignore[arg-type]
        Put(b"a", b"", 1 << 63),
    ],
)
def test_what_is_malformed_leaves_no_trace(seven: Feeder, broken: Any) -> None:
    """The doors let none through; one that got into the log must not bring down whoever applies it."""
    before = lease_bytes(seven)
    assert news_of(seven, broken) == {}
    assert lease_bytes(seven) == before
    assert seven.ask(Put(b"a", b"", 7)) == [(None, 0)]


# --- reading -------------------------------------------------------------------------------------------


def stamped(feeder: Feeder, request: Any, time: int) -> Any:
    outcome = feeder.machine.read(group(request), m.Stamp(1, 1, 1, False, time))
    [part] = outcome.parts
    return unpack(part)[3]


def test_the_time_left_is_told_by_the_clock_of_the_read(seven: Feeder) -> None:
    """Whole seconds begun and not ended; never less than 0, nor more than was granted."""
    left = {time: stamped(seven, LeaseTimeToLive(7), time)[1] for time in (0, 1, 1000, 9001, 10_000, 99_000)}
    assert left == {0: 10, 1: 9, 1000: 9, 9001: 0, 10_000: 0, 99_000: 0}
    seven.ask(LeaseRenew(1, ((7, UNTIL + 5000),)))
    assert stamped(seven, LeaseTimeToLive(7), 0)[1] == 10


def test_a_lease_that_is_unknown_has_no_time_left() -> None:
    assert Feeder().read(LeaseTimeToLive(5, True)) == (5, -1, 0, ())
    assert Feeder().read(LeaseList()) == ((),)


def test_leases_are_listed_by_their_end() -> None:
    feeder = Feeder()
    feeder.ask(LeaseGrant(30, 1), LeaseGrant(10, 2), LeaseGrant(20, 3), LeaseGrant(10, -4))
    assert feeder.read(LeaseList()) == ((-4, 2, 3, 1),)


def test_many_leases_and_many_keys_are_read_in_steps() -> None:
    """So that they hold up no write; and too many are refused."""
    feeder = Feeder()
    feeder.ask(*(LeaseGrant(5000 - at, at) for at in range(1, 2501)))
    outcome = feeder.machine.read(group(LeaseList()), None)
    assert (outcome.parts, len(outcome.streams)) == ([], 1)
    assert feeder.read(LeaseList()) == (tuple(range(2500, 0, -1)),)
    feeder.ask(*(Put(b"%06d" % at, b"", 7) for at in range(2500)))
    assert feeder.read(LeaseTimeToLive(7, True))[3] == tuple(b"%06d" % at for at in range(2500))
    tight = machine(feeder.machine.engine, limits=Limits()._replace(answer_bytes_max=10_000))
    feeder.machine = tight
    assert isinstance(feeder.read(LeaseTimeToLive(7, True)), RangeTooLarge)
    assert isinstance(feeder.read(LeaseList()), RangeTooLarge)


def test_a_read_of_leases_is_no_request_for_the_log(seven: Feeder) -> None:
    errors = seven.ask(LeaseTimeToLive(7), LeaseList(), m.LeaseKeepAlive(7))
    assert [type(error) for error in errors] == [InvalidRequest] * 3
    assert pack(seven.ask(LeaseRevoke(7))[0]) == pack(())
