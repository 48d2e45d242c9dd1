"""The member table and the store's place in the log are part of the state."""

from __future__ import annotations

from tests.harness.kv_log import Feeder, answers_of, entry, group, machine
from zkv.wire.codec import pack
from zkv.wire.messages import (
    Compact,
    ConfChange,
    ConfChangeKind,
    ConfState,
    Entry,
    EntryKind,
    Member,
    MemberList,
    Publish,
    Put,
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


def test_conf_changes_reach_the_table_and_the_configuration() -> None:
    kept = booted().machine
    outcome = kept.apply([change(1, (ConfChangeKind.ADD_LEARNER, 3, ("http://three",)))], 3)
    assert outcome.members_changed
    assert kept.members.all()[2] == Member(3, "", ("http://three",), (), True)
    kept.apply([change(2, (ConfChangeKind.ADD_VOTER, 3, ())), change(3, (ConfChangeKind.REMOVE, 1, ()))], 3)
    assert [member.id for member in kept.members.all()] == [2, 3]
    assert machine(kept.engine).place == SnapshotMeta(3, 3, 5, ConfState((2, 3), (), (), 3))


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


def test_a_physical_compaction_holds_its_answer_back() -> None:
    store = machine()
    [answered] = store.apply([entry(1, group(Put(b"a", b""), Compact(2, True)))], 1).answers
    assert answered.compaction == 2
    assert store.compaction.is_due(answered.compaction)
    store.compaction_step()
    assert not store.compaction.is_due(answered.compaction)
