"""Users on real processes: logins, tokens and their end, watches whose permission goes, and certificates."""

from __future__ import annotations

import asyncio
import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest

import zkv
from tests.harness.etcd_api import EtcdApi, create
from tests.harness.processes import wait_until
from zkv import errors
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ARGUMENTS = ("--bcrypt-cost", "4")


def enable(cluster: LocalCluster) -> zkv.Client:
    """root, and alice who may do what she likes below a/; a client of root's."""
    with zkv.Client(cluster.endpoints) as plain:
        _fill(plain)
    return zkv.Client(cluster.endpoints, user="root", password="rootpw", timeout=30)


def _fill(plain: zkv.Client) -> None:
    plain.user_add("root", "rootpw")
    plain.role_add("root")
    plain.user_grant_role("root", "root")
    plain.user_add("alice", "pw")
    plain.role_add("a")
    plain.role_grant_permission("a", "readwrite", prefix="a/")
    plain.user_grant_role("alice", "a")
    plain.auth_enable()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, etcd_api=True, arguments=ARGUMENTS) as made, enable(made):
        yield made


@pytest.fixture
def root(cluster: LocalCluster) -> Iterator[zkv.Client]:
    with zkv.Client(cluster.endpoints, user="root", password="rootpw", timeout=30) as client:
        yield client


@pytest.fixture
def alice(cluster: LocalCluster) -> Iterator[zkv.Client]:
    with zkv.Client(cluster.endpoints, user="alice", password="pw", timeout=30) as client:
        yield client


def test_each_does_what_his_roles_let_him(alice: zkv.Client, root: zkv.Client) -> None:
    """On every member: the client's calls go to any of them."""
    alice.put("a/1", "x")
    assert alice.get("a/1") is not None
    for call in (
        lambda: alice.put("b", "x"),
        lambda: alice.get("b"),
        lambda: alice.get("b", serializable=True),
        lambda: list(alice.range(prefix="")),
        lambda: alice.delete("b"),
        lambda: alice.user_add("mallory", "x"),
        alice.hash_kv,
        lambda: alice.member_remove(1),
        lambda: alice.move_leader(1),
    ):
        with pytest.raises(errors.PermissionDenied):
            call()
    root.put("b", "x")
    assert root.user_get("alice").roles == ("a",)
    assert root.role_get("a").permissions[0].kind == "readwrite"
    assert root.users().names == ("alice", "root")


def test_who_names_nobody_and_who_names_himself_wrongly_gets_nothing(cluster: LocalCluster) -> None:
    with zkv.Client(cluster.endpoints) as nobody, pytest.raises(errors.UserEmpty):
        nobody.put("a/1", "x")
    for user, password in (("alice", "wrong"), ("nobody", "pw")):
        with zkv.Client(cluster.endpoints, user=user, password=password) as client:
            with pytest.raises(errors.AuthFailed):
                client.put("a/1", "x")
            with pytest.raises(errors.AuthFailed), client.watch("a/1") as watch:
                next(watch)


def test_a_token_is_taken_by_every_member(cluster: LocalCluster, alice: zkv.Client) -> None:
    """It was given by one, and the others know it by the log: etcd's clients use one token for all."""
    with contextlib.ExitStack() as stack:
        apis = [stack.enter_context(EtcdApi(endpoint)) for endpoint in cluster.etcd_endpoints]
        token = apis[0].Authenticate(name="alice", password="pw").token
        revision = alice.put("a/token", "x").revision  # behind the login, in the log
        for api in apis:
            wait_until(lambda api=api: api.Status().header.revision >= revision, "the member has come to it")  # type: ignore[misc]
            assert api.Range(metadata=(("token", token),), key=b"a/token").count == 1


def test_a_client_stays_itself_when_its_password_changes_elsewhere(cluster: LocalCluster, root: zkv.Client) -> None:
    """Its token is void at once; the old password gets no other, the new one does."""
    root.user_add("bob", "old")
    root.user_grant_role("bob", "a")
    with zkv.Client(cluster.endpoints, user="bob", password="old", timeout=30) as bob:
        bob.put("a/bob", "1")
        root.user_change_password("bob", "new")
        with pytest.raises(errors.AuthFailed):
            bob.put("a/bob", "2")
    with zkv.Client(cluster.endpoints, user="bob", password="new", timeout=30) as bob:
        bob.put("a/bob", "3")
        root.user_delete("bob")
        with pytest.raises(errors.AuthFailed):
            bob.get("a/bob")


def test_a_client_outlives_the_members_memory_of_its_token() -> None:
    """A member that starts anew knows no token of before: the client names its password again, unnoticed."""
    with LocalCluster(nodes=1, arguments=ARGUMENTS) as alone, enable(alone) as root:
        root.put("a/again", "1")
        alone.kill(0)
        alone.start(0, wait=False)
        root.put("a/again", "2")
        kv = root.get("a/again")
        assert kv is not None
        assert kv.value == b"2"


def test_a_watch_ends_when_its_permission_goes(alice: zkv.Client, root: zkv.Client) -> None:
    """And is told nothing of what came after; one of other keys goes on."""
    root.role_add("b")
    root.role_grant_permission("b", "read", prefix="b/")
    root.user_grant_role("alice", "b")
    with alice.watch(prefix="a/") as stays, alice.watch(prefix="b/") as goes:
        root.put("b/1", "seen")
        assert [event.value for event in next(goes).events] == [b"seen"]
        root.role_revoke_permission("b", prefix="b/")
        root.put("b/2", "secret")
        with pytest.raises(errors.PermissionDenied):
            next(goes)
        root.put("a/2", "seen too")
        assert [event.value for event in next(stays).events] == [b"seen too"]
    with pytest.raises(errors.PermissionDenied), alice.watch(prefix="b/") as watch:
        next(watch)
    root.role_delete("b")


def test_at_etcds_door_too_permissions_go_when_they_are_taken(cluster: LocalCluster, root: zkv.Client) -> None:
    """A watch is cancelled, and told nothing that came after; a token is void with its user; and a txn that would only
    touch a forbidden key where its compares fail is refused whole, by each door.
    """
    root.user_add("carol", "pw")
    root.role_add("c")
    root.role_grant_permission("c", "readwrite", prefix="c/")
    root.user_grant_role("carol", "c")
    with EtcdApi(cluster.etcd_endpoints[0]) as api:
        token = (("token", api.Authenticate(name="carol", password="pw").token),)
        chat = api.watch(metadata=token)
        chat.say(create(key=b"c/", range_end=b"c0"))
        assert not chat.hear().canceled
        root.put("c/1", "seen")
        assert [event.kv.value for event in chat.hear().events] == [b"seen"]

        put = {"request_put": {"key": b"c/2", "value": b"x"}}
        forbidden = {"request_delete_range": {"key": b"a/1"}}
        with pytest.raises(grpc.RpcError, match="permission denied"):
            api.future("Txn", metadata=token, success=[put], failure=[forbidden]).result()
        with pytest.raises(grpc.RpcError, match="permission denied"):
            api.future("Txn", metadata=token, success=[], failure=[forbidden]).result()
        api.future("Txn", metadata=token, success=[put], failure=[]).result()
        with zkv.Client(cluster.endpoints, user="carol", password="pw", timeout=30) as carol:
            with pytest.raises(errors.PermissionDenied):
                carol.txn().then(zkv.put("c/2", "y")).otherwise(zkv.delete("a/1")).commit()
            assert carol.get("c/2").value == b"x"  # type: ignore[union-attr]

        assert [event.kv.value for event in chat.hear().events] == [b"x"]
        root.role_revoke_permission("c", prefix="c/")
        root.put("c/1", "secret")
        end = chat.hear()
        assert (end.canceled, len(end.events)) == (True, 0)
        root.user_delete("carol")
        wait_until(lambda: _is_void(api, token), "the token is void with its user")
    root.role_delete("c")


def _is_void(api: EtcdApi, token: tuple[tuple[str, str], ...]) -> bool:
    """At no time it lets in: before the door knows, its user has no permission."""
    error = api.future("Range", metadata=token, key=b"c/1").exception()
    assert error is not None
    return bool(error.details() == errors.InvalidAuthToken.text)


def test_users_can_be_changed_from_a_task_too(cluster: LocalCluster) -> None:
    async def play() -> tuple[str, ...]:
        async with zkv.AsyncClient(cluster.endpoints, user="root", password="rootpw", timeout=30) as client:
            await client.role_add("task")
            names = (await client.roles()).names
            await client.role_delete("task")
            assert (await client.auth_status()).enabled
            return names

    assert "task" in asyncio.run(play())


def test_many_may_log_in_at_once(cluster: LocalCluster) -> None:
    """Each connection asks for a token of its own; the password is hashed but a few times."""

    def once(_: int) -> int:
        with zkv.Client(cluster.endpoints[1], user="alice", password="pw", timeout=60) as client:
            return client.put("a/many", "x").revision

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(once, range(40)))) == 40


def test_nobody_is_asked_any_more_once_it_is_disabled() -> None:
    """Whoever has logged in goes on, and who comes with a wrong password too, as with etcd."""
    with LocalCluster(nodes=1, arguments=ARGUMENTS) as alone, enable(alone) as root:
        root.put("b", "1")
        root.auth_disable()
        root.put("b", "2")
        with zkv.Client(alone.endpoints, user="root", password="wrong", timeout=30) as wrong:
            wrong.put("b", "3")
            root.auth_enable()
            with pytest.raises(errors.AuthFailed):
                wrong.put("b", "4")
        root.put("b", "5")


def test_a_certificate_names_its_user() -> None:
    """Over CURVE, introduced by a certificate whose common name is `client`; a token wins over it."""
    with LocalCluster(nodes=1, certificates=True, arguments=ARGUMENTS) as secure:
        client = secure.client()
        client.user_add("root", "rootpw")
        client.role_add("root")
        client.user_grant_role("root", "root")
        client.user_add("client", no_password=True)
        client.role_add("r")
        client.role_grant_permission("r", "readwrite", "mine")
        client.user_grant_role("client", "r")
        client.auth_enable()
        client.put("mine", "1")
        with pytest.raises(errors.PermissionDenied):
            client.put("other", "1")


def test_the_audit_log_tells_of_both_doors(tmp_path: Path) -> None:
    """Who was let do what, and who was not; no password and no value is in it."""
    log = tmp_path / "audit.log"
    with LocalCluster(nodes=1, etcd_api=True, arguments=(*ARGUMENTS, "--audit-log", str(log))) as alone:
        with enable(alone) as root, zkv.Client(alone.endpoints, user="alice", password="pw", timeout=30) as alice:
            root.put("b", "a-secret-value")
            with pytest.raises(errors.PermissionDenied):
                alice.get("b")
            with alice.watch(prefix="a/"), pytest.raises(errors.PermissionDenied), alice.watch("b") as refused:
                next(refused)
        with EtcdApi(alone.etcd_endpoints[0]) as api:
            token = api.Authenticate(name="alice", password="pw").token
            api.Put(metadata=(("token", token),), key=b"a/1", value=b"a-secret-value")
    text = log.read_text()
    told = [json.loads(line) for line in text.splitlines()]
    seen = {(line["door"], line["user"], line["op"], line.get("key"), line["allowed"]) for line in told}
    assert {
        ("native", "root", "PUT", "b", True),
        ("native", "alice", "RANGE", "b", False),
        ("grpc", "alice", "PUT", "a/1", True),
        ("native", "alice", "WATCH", "a/", True),
        ("native", "alice", "WATCH", "b", False),
    } <= seen
    assert any(line["op"] == "AUTHENTICATE" and line["names"] == ["alice"] for line in told)
    assert any(line["door"] == "grpc" and line["from"].startswith("127.0.0.1:") for line in told)
    assert not any(secret in text for secret in ("a-secret-value", "rootpw", '"pw"', token))
