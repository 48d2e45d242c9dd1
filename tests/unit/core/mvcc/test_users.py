"""Users and roles in the state machine: what changes them, what is kept, who is told, who is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.kv_log import Feeder, entry, everything, group, machine
from zkv import errors
from zkv.wire import messages as m
from zkv.wire.codec import unpack

ROOT_ROLE = "root"


class Realm(Feeder):
    """A machine with root (and roles of `permissions`, one user each, named alike) who is asked as `by`."""

    def __init__(self, permissions: dict[str, tuple[tuple[int, bytes, bytes], ...]] | None = None) -> None:
        super().__init__()
        self.ask(m.UserAdd("root", hashed=b"hash of root"), m.RoleAdd("root"), m.UserGrantRole("root", ROOT_ROLE))
        for name, granted in (permissions or {}).items():
            self.ask(m.UserAdd(name, hashed=b"hash"), m.RoleAdd(name), m.UserGrantRole(name, name))
            self.ask(*(m.RoleGrantPermission(name, *each) for each in granted))
        self.ask(m.AuthEnable())

    def by(self, name: str) -> m.Caller:
        return name, self.machine.users.book.revision

    def write(self, name: str, *requests: Any, **options: Any) -> Any:
        """The answer to the last."""
        return self.ask(*requests, caller=self.by(name), **options)[-1]


READ, WRITE, BOTH = m.PermissionKind


@pytest.fixture
def realm() -> Realm:
    made = Realm({"alice": ((BOTH, b"a", b"b"), (READ, b"r", b""), (WRITE, b"w", b""))})
    made.write("root", *(m.Put(key, b"0") for key in (b"a", b"a1", b"r", b"w", b"z")))
    return made


def kind(answer: Any) -> type[Any]:
    return type(answer)


def test_what_was_changed_is_there_when_the_store_is_opened_again(realm: Realm) -> None:
    book = realm.machine.users.book
    again = machine(realm.machine.engine).users.book
    assert (again.users, again.roles, again.enabled, again.revision) == (
        book.users,
        book.roles,
        True,
        book.revision,
    )


def test_members_keep_the_same_bytes_however_entries_come() -> None:
    """All of it is a function of the log."""
    entries = [
        entry(1, group(m.UserAdd("root", hashed=b"1"), m.UserGrantRole("root", "root"), m.AuthEnable())),
        entry(2, group(m.RoleAdd("r"), m.RoleGrantPermission("r", 2, b"k"), caller=("root", 3))),
        entry(3, group(m.RoleDelete("r"), caller=("root", 5))),
    ]
    one, other = machine(member=1), machine(member=2)
    one.apply(entries, 1)
    for each in entries:
        other.apply([each], 1)
    assert list(everything(one.engine)) == list(everything(other.engine))


def test_nobody_is_refused_before_authentication_is_enabled() -> None:
    plain = Feeder()
    assert plain.ask(m.Put(b"k", b"v")) == [(None, 0)]


def test_root_and_his_role_are_needed_to_enable() -> None:
    plain = Feeder()
    assert kind(plain.ask(m.AuthEnable())[0]) is errors.RootUserNotExist
    plain.ask(m.UserAdd("root"))
    assert kind(plain.ask(m.AuthEnable())[0]) is errors.RootRoleNotExist
    plain.ask(m.UserGrantRole("root", "root"))
    assert plain.ask(m.AuthEnable()) == [()]


@pytest.mark.parametrize("request_", [m.UserDelete("root"), m.UserRevokeRole("root", "root"), m.RoleDelete("root")])
def test_root_stays_while_authentication_is_enabled(realm: Realm, request_: Any) -> None:
    assert kind(realm.write("root", request_)) is errors.InvalidAuthMgmt


def test_a_request_let_in_under_an_old_revision_is_to_be_asked_again(realm: Realm) -> None:
    """And is not remembered: asked again by the same name it is done."""
    stale = realm.by("alice")
    realm.write("root", m.UserAdd("bob"))
    session = bytes(8) + b"session1"
    first = realm.ask(m.Put(b"a", b"1"), session=session, floor=1, caller=stale)
    assert kind(first[0]) is errors.AuthOldRevision
    again = realm.ask(m.Put(b"a", b"1"), session=session, floor=1, caller=realm.by("alice"))
    assert again == [(None, 0)]


def test_a_group_let_in_before_anybody_was_asked_is_to_be_asked_again(realm: Realm) -> None:
    assert kind(realm.ask(m.Put(b"a", b"1"))[0]) is errors.AuthOldRevision


def test_requests_behind_a_change_in_the_same_group_are_judged_by_it(realm: Realm) -> None:
    """The revision has moved on: nobody knows whether it was still he."""
    answers = realm.ask(m.RoleAdd("x"), m.Put(b"a", b"1"), caller=realm.by("root"))
    assert answers[0] == ()
    assert kind(answers[1]) is errors.AuthOldRevision


ALLOWED = [
    m.Put(b"a", b"1"),
    m.Put(b"a", b"1", prev_kv=True),
    m.Put(b"w", b"1"),
    m.DeleteRange(b"a", b"b", prev_kv=True),
    m.DeleteRange(b"w"),
    m.Range(b"r"),
    m.Txn((m.Compare(0, 0, b"r", 1),), ((1, m.Range(b"a", b"b")),), ((2, m.Put(b"w", b"1")),)),
    m.Compact(2),
]
DENIED = [
    m.Put(b"r", b"1"),
    m.Put(b"b", b"1"),
    m.Put(b"w", b"1", prev_kv=True),
    m.DeleteRange(b"a", b"c"),
    m.DeleteRange(b"a", b"\0"),
    m.DeleteRange(b"w", prev_kv=True),
    m.Range(b"w"),
    m.Range(b"a", b"\0"),
    m.Txn((m.Compare(0, 0, b"w", 1),), (), ((2, m.Put(b"w", b"1")),)),
    m.Txn((), ((2, m.Put(b"w", b"1")),), ((2, m.Put(b"z", b"1")),)),
    m.Txn((), ((2, m.Put(b"w", b"1", prev_kv=True)),), ()),
    m.Txn((), ((2, m.Put(b"w", b"1")), (4, m.Txn((), (), ((3, m.DeleteRange(b"z")),)))), ()),
    m.Alarm(m.AlarmAction.ACTIVATE, 1, m.AlarmType.CORRUPT),
    m.MemberAdd(("http://x:1",)),
    m.UserAdd("x"),
    m.RoleGrantPermission("alice", 2, b"z"),
    m.AuthDisable(),
]


@pytest.mark.parametrize("request_", ALLOWED, ids=repr)
def test_what_a_role_covers_may_be_done(realm: Realm, request_: Any) -> None:
    assert not isinstance(realm.write("alice", request_), errors.ZkvError)


@pytest.mark.parametrize("request_", DENIED, ids=repr)
def test_what_no_role_covers_is_refused_and_changes_nothing(realm: Realm, request_: Any) -> None:
    before = realm.machine.revision
    assert kind(realm.write("alice", request_)) is errors.PermissionDenied
    assert kind(realm.write("", request_)) is errors.UserEmpty
    assert realm.machine.revision == before


@pytest.mark.parametrize("request_", [m.HashKV(), m.Snapshot(), m.Defragment(), m.UserList(), m.AuthStatus()])
def test_reads_of_all_are_roots(realm: Realm, request_: Any) -> None:
    assert kind(realm.read(request_, realm.by("alice"))) is errors.PermissionDenied
    assert kind(realm.read(request_, realm.by(""))) is errors.UserEmpty
    assert kind(realm.read(request_)) is errors.AuthOldRevision


def test_reads_beside_the_log_are_refused_alike(realm: Realm) -> None:
    """Linearizable or not, in one piece or streamed, of the present or the past."""
    alice = realm.by("alice")
    for request in (m.Range(b"z"), m.Range(b"a", b"\0"), m.Range(b"z", revision=2), m.Range(b"z", serializable=True)):
        assert kind(realm.read(request, alice)) is errors.PermissionDenied
    assert realm.read(m.Range(b"a", b"b"), alice)[2] == 2


def test_one_may_look_at_oneself_and_ones_roles(realm: Realm) -> None:
    alice = realm.by("alice")
    assert realm.read(m.UserGet("alice"), alice) == (("alice",),)
    assert realm.read(m.RoleGet("alice"), alice)[0][0] == (2, b"a", b"b")
    assert kind(realm.read(m.UserGet("root"), alice)) is errors.PermissionDenied
    assert kind(realm.read(m.RoleGet("root"), alice)) is errors.PermissionDenied


def test_a_lease_with_a_key_of_others_is_not_ones_own(realm: Realm) -> None:
    """Neither to revoke, nor to hang keys on, nor to learn its keys of."""
    realm.write("root", m.LeaseGrant(60, 7), m.Put(b"a", b"1", 7))
    assert realm.write("alice", m.Put(b"a1", b"1", 7)) == (None, 0)
    realm.write("root", m.Put(b"z", b"1", 7))
    assert kind(realm.write("alice", m.Put(b"a1", b"2", 7))) is errors.PermissionDenied
    assert kind(realm.write("alice", m.Txn((), ((2, m.Put(b"a1", b"2", 7)),), ()))) is errors.PermissionDenied
    assert kind(realm.write("alice", m.LeaseRevoke(7))) is errors.PermissionDenied
    assert kind(realm.read(m.LeaseTimeToLive(7, True), realm.by("alice"))) is errors.PermissionDenied
    assert kind(realm.read(m.LeaseTimeToLive(7, True), realm.by(""))) is errors.UserEmpty
    assert realm.read(m.LeaseTimeToLive(7), realm.by(""))[0] == 7
    assert realm.write("root", m.LeaseRevoke(7)) == ()


def test_the_house_may_do_all(realm: Realm) -> None:
    """Compaction and alarms of the members themselves."""
    assert realm.ask(m.Alarm(m.AlarmAction.ACTIVATE, 1, m.AlarmType.NOSPACE), caller=m.HOUSE) == [(((1, 1),),)]


def test_a_login_is_told_to_the_doors_as_a_digest(realm: Realm) -> None:
    users = realm.machine.users
    users.news()
    assert realm.ask(m.Login("alice", b"digest", users.book.revision), caller=m.HOUSE) == [()]
    assert users.is_news
    assert users.news().tokens == ((b"digest", "alice"),)
    assert not users.is_news


@pytest.mark.parametrize("change", [m.UserDelete("alice"), m.UserChangePassword("alice", "", b"new"), m.AuthDisable()])
def test_a_login_right_before_its_password_goes_is_void(realm: Realm, change: Any) -> None:
    """Though both come in one batch: the doors are told once, of how things are in the end."""
    users = realm.machine.users
    login = group(m.Login("alice", b"digest", users.book.revision), caller=m.HOUSE)
    changed = group(change, caller=realm.by("root"))
    realm.machine.apply([entry(realm.machine.applied + 1, login, changed)], 1)
    assert users.news().tokens == ()


def test_a_login_under_an_old_revision_is_refused(realm: Realm) -> None:
    """The password that was looked at may be another one now."""
    revision = realm.machine.users.book.revision
    realm.write("root", m.UserChangePassword("alice", "", b"new"))
    assert kind(realm.ask(m.Login("alice", b"digest", revision), caller=m.HOUSE)[0]) is errors.AuthOldRevision


def test_news_tell_what_has_changed_and_once(realm: Realm) -> None:
    users = realm.machine.users
    users.news()
    realm.write("root", m.UserAdd("bob", hashed=b"h"))
    realm.write("root", m.RoleDelete("alice"))
    news = users.news()
    assert [user[0] for user in news.users] == ["alice", "bob"]
    assert news.roles_gone == ("alice",)
    assert news.revision == users.book.revision
    assert users.everything().fresh


def test_no_password_is_kept(realm: Realm) -> None:
    """What a door has left in a request by mistake is not written: only the hash is."""
    realm.write("root", m.UserAdd("bob", password="plain text", hashed=b"hash"))
    records = [value for _, value in everything(realm.machine.engine) if b"plain text" in value]
    assert not records
    assert any(
        b"bob" in key and b"hash" in unpack(value)[1]
        for key, value in everything(realm.machine.engine)
        if key[:1] == b"u"
    )


def test_a_permission_of_the_same_keys_takes_the_new_kind(realm: Realm) -> None:
    realm.write("root", m.RoleGrantPermission("alice", READ, b"a", b"b"))
    assert realm.machine.users.book.roles["alice"][0] == (READ, b"a", b"b")
    assert kind(realm.write("alice", m.Put(b"a", b"1"))) is errors.PermissionDenied


@pytest.mark.patches
def test_so_many_users_and_no_more(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zkv.core.mvcc.users.NAMES_MAX", 3)
    assert realm.write("root", m.UserAdd("third")) == ()
    assert kind(realm.write("root", m.UserAdd("fourth"))) is errors.TooManyNames
