"""The member table and the store's place in the log are part of the state."""

from __future__ import annotations

import pytest

from tests.harness.kv_log import Feeder, answers_of, entry, group, machine
from zkv.errors import (
    MemberNotFound,
    MemberNotLearner,
    NotEnoughStarted,
    PeerUrlExists,
    RequestError,
    TooManyLearners,
)
from zkv.wire.codec import pack
from zkv.wire.messages import (
    PROTOCOL_VERSION,
    ClientKind,
    Compact,
    ConfChange,
    ConfChangeKind,
    ConfState,
    Entry,
    EntryKind,
    Member,
    MemberAdd,
    MemberList,
    MemberPromote,
    MemberRemove,
    MemberUpdate,
    Op,
    Publish,
    Put,
    Request,
    SnapshotMeta,
)

ONE, TWO = Member(1, "", ("http://one",), (), False), Member(2, "", ("http://two",), (), False)


def change(index: int, *changes: tuple[int, int, tuple[str, ...]]) -> Entry:
    return Entry(index, 3, EntryKind.CONF_CHANGE, 5, pack(ConfChange(changes)))


def booted() -> Feeder:
    feeder = Feeder()
    feeder.machine.bootstrap((TWO, ONE))
    return feeder


def test_members_are_listed_by_id_and_survive_a_restart() -> None:
    feeder = booted()
    feeder.ask(Publish(2, "two", ("curve://two",)), Publish(7, "nobody", ()))
    feeder.machine = machine(feeder.machine.engine)
    assert feeder.read(MemberList()) == ((ONE, TWO._replace(name="two", client_urls=("curve://two",))),)


def test_a_new_member_is_meant_to_vote_and_does_once_raft_says_so() -> None:
    """What is meant is in the table at once; who votes, the conf changes tell."""
    feeder = booted()
    [(added, members)] = feeder.ask(MemberAdd(("http://three",)))
    three = Member(*added)
    assert three == Member(three.id, "", ("http://three",), (), True)
    assert len(members) == 3
    kept = feeder.machine
    assert [member.is_learner for member in kept.members.table()] == [False, False, False]
    index = kept.applied + 1
    outcome = kept.apply([change(index, (ConfChangeKind.ADD_LEARNER, three.id, ()))], 3)
    assert outcome.members_changed
    kept.apply([change(index + 1, (ConfChangeKind.ADD_VOTER, three.id, ()))], 3)
    assert [member.is_learner for member in kept.members.all()] == [False, False, False]
    assert machine(kept.engine).place.conf == ConfState((1, 2, three.id), (), (), index + 1)


def test_a_removed_member_is_known_to_have_been_one() -> None:
    """Its id is never given again, and kept over a restart."""
    feeder = booted()
    assert feeder.ask(MemberRemove(2)) == [((ONE,),)]
    feeder.machine = machine(feeder.machine.engine)
    assert feeder.machine.members.removed() == (TWO,)
    assert feeder.machine.members.table() == (ONE,)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (MemberAdd(("http://x", "http://two")), PeerUrlExists),
        (MemberRemove(9), MemberNotFound),
        (MemberUpdate(9, ("http://x",)), MemberNotFound),
        (MemberUpdate(1, ("http://two",)), PeerUrlExists),
        (MemberPromote(9), MemberNotFound),
        (MemberPromote(1), MemberNotLearner),
    ],
)
def test_what_makes_no_sense_is_refused_with_etcds_error(request_: Request, error: type[RequestError]) -> None:
    feeder = booted()
    [answer] = feeder.ask(request_)
    assert type(answer) is error
    assert feeder.machine.members.table() == (ONE, TWO)


def test_no_more_than_one_learner_is_meant_to_stay_one() -> None:
    """etcd's limit; who is catching up to vote does not count."""
    feeder = booted()
    [(learner, _)] = feeder.ask(MemberAdd(("http://three",), is_learner=True))
    four = MemberAdd(("http://four",), is_learner=True)
    assert type(feeder.ask(four)[0]) is TooManyLearners
    feeder.ask(MemberAdd(("http://five",)), MemberPromote(Member(*learner).id))
    assert len(feeder.ask(four)[0][1]) == 5


def test_the_last_one_that_votes_cannot_be_removed() -> None:
    feeder = Feeder()
    feeder.machine.bootstrap((ONE,))
    feeder.ask(MemberAdd(("http://three",)))
    assert type(feeder.ask(MemberRemove(1))[0]) is NotEnoughStarted


def test_peer_urls_can_change() -> None:
    feeder = booted()
    feeder.ask(MemberUpdate(1, ("http://b", "http://a")))
    assert feeder.machine.members.table()[0].peer_urls == ("http://a", "http://b")


def test_a_conf_change_that_makes_no_sense_changes_nothing() -> None:
    kept = booted().machine
    outcome = kept.apply([change(1, (ConfChangeKind.REMOVE, 9, ()))], 3)
    assert not outcome.members_changed
    assert kept.members.all() == (ONE, TWO)


def test_only_the_member_asked_answers_and_old_entries_are_passed_over() -> None:
    store = machine(member=1)
    theirs, ours = entry(1, group(Put(b"a", b"")), member=2), entry(2, group(Put(b"b", b"")), member=1)
    outcome = store.apply([theirs, ours, entry(3, time=7, term=4)], 4)
    assert [(answered.gid, answers_of(answered.answers)) for answered in outcome.answers] == [(2000, [(3, (None, 0))])]
    assert store.apply([theirs, ours], 4).answers == []
    assert (store.revision, store.place) == (3, SnapshotMeta(3, 4, 7, ConfState(())))


def test_a_physical_compaction_holds_its_answer_back_from_whoever_asks_again_too() -> None:
    store = machine()
    asked = group(Put(b"a", b""), Compact(2, True), session=bytes(16))
    [answered] = store.apply([entry(1, asked)], 1).answers
    [again] = store.apply([entry(2, asked)], 1).answers
    assert answers_of(again.answers) == answers_of(answered.answers)
    assert answered.compaction == again.compaction == 2
    assert store.compaction.is_due(answered.compaction)
    store.compaction_step()
    assert not store.compaction.is_due(answered.compaction)


def test_a_copy_of_a_request_may_look_like_anything() -> None:
    store = machine()
    store.apply([entry(1, group(Put(b"a", b""), session=bytes(16)))], 1)
    copy = pack((PROTOCOL_VERSION, ClientKind.REQUESTS, bytes(16), 0, ((1, Op.COMPACT, 7),)))
    assert len(store.apply([entry(2, copy)], 1).answers) == 1
