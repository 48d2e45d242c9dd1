"""The lessor: who is answered when, what is proposed, and what happens when the leader, or the process, is another."""

from __future__ import annotations

from typing import Any

from zkv.core.lease import ENDED_PER_ENTRY, EXPIRES_IN_FLIGHT, TICK_MS, Lessor
from zkv.core.lease_askers import DEPOSED, FULL, GONE, RETRY_MS
from zkv.limits import LEASE_SLACK_MS, Limits
from zkv.wire.messages import LeaseExpire, LeaseNews, LeaseRenew

AHEAD = 50_000
"""What the cluster clock shows more than this machine's."""
TTL = 10
UNTIL = AHEAD + TTL * 1000 + LEASE_SLACK_MS
"""Of a lease granted at the machine's time 0."""


class Desk:
    """A lessor that leads term 3, since before the time 0; what it says."""

    def __init__(self, *, leads: bool = True, **limits: int) -> None:
        self.lessor = Lessor(Limits()._replace(**limits), member_id=1, ticket=70)
        self.now = 0
        self.applied = 0
        self.hear(fresh=True)
        if leads:
            self.lessor.leader_is(3, 1, AHEAD, -1)

    def hear(self, *leases: tuple[int, int, int], gone: tuple[int, ...] = (), **fields: Any) -> None:
        self.applied += 1
        self.lessor.news(LeaseNews(self.applied, leases, gone, **{"term": 3} | fields), self.now)

    def grant(self, lease: int, ttl: int = TTL) -> None:
        """As if logged now."""
        self.hear((lease, ttl, self.now + AHEAD + ttl * 1000 + LEASE_SLACK_MS))

    def ask(self, lease: int) -> list[tuple[int, int]]:
        """What is settled at once."""
        self.lessor.keep_alive(lease, lease, self.now)
        return self.settled()

    def settled(self) -> list[tuple[int, int]]:
        settled, self.lessor.askers.settled = self.lessor.askers.settled, []
        return settled

    def at(self, now: int) -> list[LeaseRenew | LeaseExpire]:
        """What is proposed then."""
        self.now = now
        self.lessor.step(now)
        return self.lessor.take_proposals()

    def expiries(self, now: int) -> list[tuple[tuple[int, int], ...]]:
        return [proposal.leases for proposal in self.at(now) if isinstance(proposal, LeaseExpire)]


def test_a_lease_that_began_with_less_left_ends_when_that_is_over_and_not_before() -> None:
    """Its record seems made before this leadership, so the log's word counts; a keep-alive is logged."""
    desk = Desk()
    desk.hear((7, TTL, until := AHEAD + 4_000 + LEASE_SLACK_MS))
    assert desk.expiries(4_000 + LEASE_SLACK_MS - 1) == []
    assert desk.expiries(4_000 + LEASE_SLACK_MS) == [((7, until),)]
    desk = Desk()
    desk.hear((7, TTL, until))
    desk.now = 1_000
    assert desk.ask(7) == []
    renewed = AHEAD + 1_000 + TTL * 1000 + LEASE_SLACK_MS
    assert LeaseRenew(3, ((7, renewed),)) in desk.at(1_000)
    desk.hear((7, TTL, renewed))
    assert desk.settled() == [(7, TTL)]


# --- keep-alives -----------------------------------------------------------------------------------


def test_a_keep_alive_that_the_log_covers_is_answered_at_once() -> None:
    """The record allows SLACK more than was asked for: no entry, and the deadline has moved."""
    desk = Desk()
    desk.now = 5
    desk.grant(7)
    desk.now += LEASE_SLACK_MS
    assert desk.ask(7) == [(7, TTL)]
    assert desk.expiries(5 + TTL * 1000 + LEASE_SLACK_MS - 1) == []
    assert desk.expiries(5 + TTL * 1000 + LEASE_SLACK_MS) == [((7, UNTIL + 5),)]


def test_a_keep_alive_beyond_what_the_log_covers_is_logged_and_answered_when_the_news_show_it() -> None:
    """However many ask meanwhile, one renewal is proposed; who asked in time for it is answered by it."""
    desk = Desk()
    desk.grant(7)
    desk.now = LEASE_SLACK_MS + 1
    assert [desk.ask(7), desk.ask(7)] == [[], []]
    renewal = UNTIL + desk.now
    assert desk.at(desk.now) == [LeaseRenew(3, ((7, renewal),))]
    assert desk.ask(7) == []
    assert desk.at(desk.now) == []
    desk.now += LEASE_SLACK_MS
    desk.hear((7, TTL, renewal))
    assert desk.settled() == [(7, TTL)] * 3


def test_who_asks_later_than_a_renewal_under_way_covers_has_another_one_logged() -> None:
    """Each is promised a TTL from when he asked."""
    desk = Desk()
    desk.grant(7)
    desk.now = LEASE_SLACK_MS + 1
    desk.ask(7)
    ((_, renewal),) = desk.at(desk.now)[0].leases
    desk.now += LEASE_SLACK_MS + 1
    desk.ask(7)
    desk.hear((7, TTL, renewal))
    assert desk.settled() == [(7, TTL)]
    assert [proposal.leases for proposal in desk.at(desk.now)] == [((7, UNTIL + desk.now),)]


def test_renewals_go_many_to_an_entry() -> None:
    """And no more than the limit says."""
    desk = Desk(leases_per_entry_max=3)
    for lease in range(5):
        desk.grant(lease)
    desk.now = 2 * LEASE_SLACK_MS
    for lease in range(5):
        desk.ask(lease)
    assert [len(proposal.leases) for proposal in desk.at(desk.now)] == [3, 2]


def test_a_renewal_that_was_lost_is_proposed_again() -> None:
    """For the time it is then."""
    desk = Desk()
    desk.grant(7)
    desk.now = LEASE_SLACK_MS + 1
    desk.ask(7)
    desk.at(desk.now)
    assert desk.at(desk.now + RETRY_MS - 1) == []
    assert desk.at(desk.now + 1) == [LeaseRenew(3, ((7, UNTIL + desk.now),))]


def test_who_keeps_alive_what_is_due_waits_for_the_log() -> None:
    """His lease may be renewed in the log, which voids the expiry; or be gone, which a read makes certain."""
    desk = Desk()
    desk.grant(7)
    desk.grant(8)
    assert len(desk.expiries(TTL * 1000 + 1)) == 1
    assert desk.ask(7) == desk.ask(8) == []
    assert desk.at(desk.now) == []
    desk.hear((8, TTL, UNTIL + 60_000), gone=(7,))
    assert desk.settled() == [(8, TTL)]
    question = desk.lessor.askers.question(desk.now)
    assert question is not None
    assert question.leases == [7]
    desk.lessor.answered(question.ticket, [], desk.now)
    assert desk.settled() == [(7, GONE)]


def test_a_lease_with_a_keep_alive_under_way_does_not_expire() -> None:
    """It came in time."""
    desk = Desk()
    desk.grant(7)
    desk.now = TTL * 1000 - 1
    desk.ask(7)
    assert desk.expiries(TTL * 1000 + 300) == []


def test_keep_alives_that_waited_in_the_inbox_count_before_what_is_due() -> None:
    """A leader that was not scheduled for a while must not end what its clients kept alive meanwhile."""
    desk = Desk()
    desk.grant(7)
    desk.now = TTL * 1000 + 2_000
    desk.ask(7)
    assert desk.expiries(desk.now) == []


# --- leases that are not known ---------------------------------------------------------------------


def test_only_a_read_may_say_that_a_lease_is_not_there() -> None:
    """The table here may be behind what a client was told elsewhere."""
    desk = Desk()
    assert desk.ask(7) == desk.ask(8) == []
    question = desk.lessor.askers.question(desk.now)
    assert question is not None
    assert question.leases == [7, 8]
    desk.lessor.answered(question.ticket, [8], desk.now)
    assert desk.settled() == [(7, GONE)]
    desk.grant(8)
    assert desk.settled() == [(8, TTL)]


def test_who_asks_while_a_question_is_under_way_is_told_by_the_next_one() -> None:
    """The read may have been before the lease was granted that he keeps alive."""
    desk = Desk()
    askers = desk.lessor.askers
    desk.ask(7)
    first = askers.question(desk.now)
    assert first is not None
    desk.ask(7)
    assert askers.question(desk.now) is None
    desk.lessor.answered(first.ticket, [], desk.now)
    assert desk.settled() == [(7, GONE)]
    second = askers.question(desk.now)
    assert second is not None
    assert second.ticket != first.ticket
    desk.lessor.answered(first.ticket, [], desk.now)
    assert desk.settled() == []


def test_a_question_without_an_answer_is_asked_again() -> None:
    """And an answer to the first time does not count any more."""
    desk = Desk()
    askers = desk.lessor.askers
    desk.ask(7)
    first = askers.question(0)
    assert askers.question(RETRY_MS - 1) is None
    second = askers.question(RETRY_MS)
    assert first is not None
    assert second is not None
    assert second.leases == [7]
    desk.lessor.answered(first.ticket, [], RETRY_MS)
    assert desk.settled() == []


def test_a_lease_that_exists_and_is_never_heard_of_is_asked_about_again() -> None:
    """It may have ended before the news of it could be told."""
    desk = Desk()
    askers = desk.lessor.askers
    desk.ask(7)
    first = askers.question(0)
    assert first is not None
    desk.lessor.answered(first.ticket, [7], 0)
    assert askers.question(RETRY_MS - 1) is None
    second = askers.question(RETRY_MS)
    assert second is not None
    assert second.leases == [7]


def test_too_many_that_wait_are_refused() -> None:
    """Everything has a limit."""
    desk = Desk(in_flight_groups_max=1)
    assert desk.ask(7) == []
    assert desk.ask(7) == [(7, FULL)]
    desk.grant(8)
    assert desk.ask(8) == [(8, TTL)]


# --- expiry ----------------------------------------------------------------------------------------


def test_leases_expire_in_the_order_of_their_deadlines_and_many_to_an_entry() -> None:
    """A bounded number of entries is under way; the next go when those have an outcome."""
    desk = Desk(leases_per_entry_max=2)
    for lease in (4, 3, 2, 1, 0):
        desk.now += 1
        desk.grant(lease)
    first = desk.expiries(TTL * 1000 + 10)
    assert [[lease for lease, _ in leases] for leases in first] == [[4, 3], [2, 1]]
    assert len(first) == EXPIRES_IN_FLIGHT
    desk.hear(gone=(4, 3))
    assert [[lease for lease, _ in leases] for leases in desk.expiries(desk.now)] == [[0]]


def test_an_expiry_that_was_lost_is_proposed_again() -> None:
    """Only what has no outcome yet."""
    desk = Desk()
    desk.grant(7)
    desk.grant(8)
    assert len(desk.expiries(TTL * 1000)[0]) == 2
    desk.hear(gone=(7,))
    assert desk.expiries(TTL * 1000 + RETRY_MS - 1) == []
    assert desk.expiries(TTL * 1000 + RETRY_MS) == [((8, UNTIL),)]


def test_an_ended_lease_is_expired_until_its_last_key_is_gone() -> None:
    """One entry at a time; who was first in it and took all is the last in the next."""
    desk = Desk()
    desk.hear((7, TTL, 0), (8, TTL, 0))
    first = desk.expiries(0)
    assert first == [((8, 0), (7, 0))]
    assert desk.expiries(1) == []
    desk.hear(*((lease, TTL, 0) for lease, _ in first[0]))
    assert desk.expiries(2) == [first[0][::-1]]
    desk.hear((8, TTL, 0), gone=(7,))
    assert desk.expiries(3) == [((8, 0),)]
    desk.hear(gone=(8,))
    assert desk.expiries(RETRY_MS + 4) == []


def test_a_lease_with_many_keys_holds_up_nobody() -> None:
    """What is due goes in entries of its own."""
    desk = Desk()
    desk.hear(*((lease, TTL, 0) for lease in range(ENDED_PER_ENTRY + 1)))
    desk.grant(500)
    proposed = desk.expiries(TTL * 1000)
    assert [len(leases) for leases in proposed] == [1, ENDED_PER_ENTRY]
    assert proposed[0] == ((500, UNTIL),)


def test_a_lease_granted_anew_under_its_id_has_its_own_deadline() -> None:
    """Sooner than the one before, too."""
    desk = Desk()
    desk.grant(7, 100)
    desk.hear(gone=(7,))
    desk.grant(7, 1)
    assert desk.expiries(1000) == [((7, AHEAD + 1000 + LEASE_SLACK_MS),)]


def test_the_heap_does_not_grow_with_leases_that_are_gone() -> None:
    """Leases with a long life that are revoked at once leave nothing behind."""
    desk = Desk()
    for lease in range(5_000):
        desk.grant(lease, 1_000_000)
        desk.hear(gone=(lease,))
    assert len(desk.lessor._heap) < 2_000


# --- the clock -------------------------------------------------------------------------------------


def test_a_leader_of_leases_logs_the_time_each_second() -> None:
    """Unless something else was logged; and nothing without leases, or where another leads."""
    desk = Desk()
    assert desk.at(10 * TICK_MS) == []
    desk.grant(7, 100)
    assert desk.at(desk.now) == [LeaseRenew(3, ())]
    assert desk.lessor.next_wakeup() == 11 * TICK_MS
    assert desk.at(11 * TICK_MS - 1) == []
    assert desk.at(11 * TICK_MS) == [LeaseRenew(3, ())]
    follower = Desk(leads=False)
    follower.grant(7)
    assert follower.at(100 * TICK_MS) == []
    assert follower.lessor.next_wakeup() is None


# --- who leads -------------------------------------------------------------------------------------


def test_a_new_leader_ends_leases_at_what_the_log_says() -> None:
    """The one before may have answered keep-alives up to there."""
    desk = Desk(leads=False)
    desk.grant(7)
    desk.now = 500
    desk.lessor.leader_is(4, 1, AHEAD, desk.now)
    assert desk.expiries(TTL * 1000 + LEASE_SLACK_MS - 1) == []
    assert desk.expiries(TTL * 1000 + LEASE_SLACK_MS) == [((7, UNTIL),)]


def test_what_the_leader_before_logged_ends_there_too_where_news_of_it_come_late() -> None:
    """Its storage may be behind when a member is elected."""
    desk = Desk()
    desk.hear((7, TTL, UNTIL - 1))
    assert desk.expiries(TTL * 1000 + LEASE_SLACK_MS - 2) == []
    assert len(desk.expiries(TTL * 1000 + LEASE_SLACK_MS - 1)) == 1


def test_who_is_deposed_refuses_all_that_wait() -> None:
    """Its successor may know better; and it proposes nothing more."""
    desk = Desk()
    desk.grant(7)
    desk.now = LEASE_SLACK_MS + 1
    assert desk.ask(7) == desk.ask(8) == []
    desk.lessor.leader_is(4, 2, 0, desk.now)
    assert sorted(desk.settled()) == [(7, DEPOSED), (8, DEPOSED)]
    assert desk.at(desk.now) == []
    assert desk.lessor.leader == 2
    assert desk.ask(7) == [(7, DEPOSED)]


def test_news_of_a_later_term_depose_before_the_word_of_it_comes() -> None:
    """They may tell of what the successor logged, and holds a deadline of."""
    desk = Desk()
    desk.hear((7, TTL, UNTIL), term=4)
    assert not desk.lessor.leading
    desk.lessor.leader_is(3, 1, AHEAD, desk.now)
    assert not desk.lessor.leading
    desk.lessor.leader_is(5, 1, AHEAD, desk.now)
    assert desk.lessor.leading


def test_a_word_said_twice_changes_nothing() -> None:
    """Raft repeats who leads when an actor asks."""
    desk = Desk()
    desk.grant(7)
    desk.now = LEASE_SLACK_MS + 1
    desk.ask(7)
    desk.lessor.leader_is(3, 1, AHEAD, desk.now)
    assert desk.settled() == []
    assert len(desk.at(desk.now)) == 1


# --- the table anew --------------------------------------------------------------------------------


def test_the_table_may_come_anew_and_what_was_answered_still_binds() -> None:
    """Storage restarted: a lease that comes again is held to the deadline it had, and who waits goes on waiting."""
    desk = Desk()
    desk.now = 1
    desk.grant(7)
    desk.grant(8)
    desk.grant(9)
    desk.now = 1 + LEASE_SLACK_MS // 2
    assert desk.ask(7) == [(7, TTL)]
    desk.now = 2 + LEASE_SLACK_MS
    assert desk.ask(8) == desk.ask(9) == []
    desk.hear((7, TTL, UNTIL + 1), fresh=True, more=True)
    desk.hear((8, TTL, UNTIL + 1))
    question = desk.lessor.askers.question(desk.now)
    assert question is not None
    desk.lessor.answered(question.ticket, [8], desk.now)
    assert desk.settled() == [(9, GONE)]
    (proposal,) = desk.at(desk.now)
    assert isinstance(proposal, LeaseRenew)
    assert [lease for lease, _ in proposal.leases] == [8]
    assert desk.expiries(TTL * 1000 + LEASE_SLACK_MS // 2) == []
    assert desk.expiries(1 + TTL * 1000 + LEASE_SLACK_MS // 2) == [((7, UNTIL + 1),)]
