"""`zkv migrate` between a real etcd and a real zkv: what is there in the end, whatever happened on the way."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Self

import pytest

from tests.harness.etcd import EtcdCluster, binary
from tests.harness.restoring import zkv_command
from zkv.ctl.migration import MARKS
from zkv.errors import AuthFailed
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zkv.client.client import Client

pytestmark = pytest.mark.skipif(binary("etcd") is None, reason="no etcd for this platform")
PATIENCE_S = 30.0
LEASE = 0x77


def encoded(data: str) -> str:
    return base64.b64encode(data.encode()).decode()


class Source:
    """An etcd, written to by its JSON door, and all it holds."""

    def __init__(self, etcd: EtcdCluster) -> None:
        self.etcd = etcd
        self.url = etcd.nodes[0].client_url

    def put(self, key: str, value: str, lease: int = 0) -> None:
        self.etcd.call("/v3/kv/put", {"key": encoded(key), "value": encoded(value), "lease": lease})

    def txn(self, puts: dict[str, str]) -> None:
        requests = [{"requestPut": {"key": encoded(key), "value": encoded(value)}} for key, value in puts.items()]
        self.etcd.call("/v3/kv/txn", {"success": requests})

    def delete(self, key: str, range_end: str = "") -> None:
        self.etcd.call("/v3/kv/deleterange", {"key": encoded(key), "range_end": encoded(range_end)})

    def grant(self, ttl: int, lease: int = LEASE) -> None:
        self.etcd.call("/v3/lease/grant", {"TTL": ttl, "ID": lease})

    def compact(self) -> None:
        self.etcd.call("/v3/kv/compaction", {"revision": self.etcd.revision()})

    def held(self) -> dict[bytes, tuple[bytes, int]]:
        answer = self.etcd.call("/v3/kv/range", {"key": "AA==", "range_end": "AA=="})
        return {
            base64.b64decode(kv["key"]): (base64.b64decode(kv.get("value", "")), int(kv.get("lease", 0)))
            for kv in answer.get("kvs", [])
        }


def held(kv: Client) -> dict[bytes, tuple[bytes, int]]:
    return {each.key: (each.value, each.lease) for each in kv.range(prefix=True, key=b"")}


class Migrating:
    """`zkv migrate` as a process."""

    def __init__(self, source: Source, cluster: LocalCluster, *flags: str) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "zkv", "migrate", "--from", source.url, *flags],
            env={**os.environ, "ZKV_ENDPOINTS": ",".join(cluster.endpoints)}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.lines.extend(self._process.stderr)

    def end(self, how: signal.Signals) -> int:
        if self._process.poll() is None:
            self._process.send_signal(how)
        code = self._process.wait(PATIENCE_S)
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)


def wait_until(is_so: Callable[[], bool]) -> None:
    reached = threading.Event()
    for _ in range(int(PATIENCE_S / 0.05)):
        if is_so():
            return
        reached.wait(0.05)
    raise AssertionError("it did not come to that")


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with EtcdCluster(tmp_path, nodes=1) as etcd:
        yield Source(etcd)


@pytest.fixture
def zkv_cluster() -> Iterator[LocalCluster]:
    with LocalCluster(1) as cluster:
        yield cluster


def cut_over(source: Source, cluster: LocalCluster, flags: str = "") -> str:
    done = zkv_command(f"migrate --from {source.url} --once {flags}", cluster.endpoints[0])
    assert done.code == 0, done.stderr
    return done.stdout


def test_keys_values_and_leases_come_over_with_the_ttl_that_is_left(source: Source, zkv_cluster: LocalCluster) -> None:
    source.grant(1000)
    source.grant(500, -9)
    for start in range(0, 1000, 100):
        source.txn({f"many/{number:04}": f"of {number}" for number in range(start, start + 100)})
    source.put("large", "x" * 1_200_000)
    source.put("leased", "mine", LEASE)
    source.delete("many/0005")
    source.put("empty", "")
    assert cut_over(source, zkv_cluster).startswith("1002 keys are the same in etcd and zkv, as of revision ")
    with zkv_cluster.client() as kv:
        assert held(kv) == source.held()
        lease = kv.time_to_live(LEASE, keys=True)
        there = source.etcd.call("/v3/lease/timetolive", {"ID": LEASE})
        assert (lease.granted_ttl, lease.keys) == (1000, (b"leased",))
        assert int(there["TTL"]) - 1 <= lease.ttl <= int(there["TTL"]) + 2
        assert set(kv.leases().leases) == {LEASE, -9}
    again = zkv_command(f"migrate --from {source.url} --once", zkv_cluster.endpoints[0])
    assert (again.code, "--overwrite" in again.stderr) == (1, True)
    source.delete("many/", "many0")
    cut_over(source, zkv_cluster, "--overwrite")
    with zkv_cluster.client() as kv:
        assert held(kv) == source.held()


def test_what_happens_in_etcd_goes_on_to_happen_in_zkv(source: Source, zkv_cluster: LocalCluster) -> None:
    """Revision by revision: no state shows that etcd did not have. A signal stops it, and --once cuts over."""
    source.txn({"a": "0", "b": "0"})
    with Migrating(source, zkv_cluster) as migrating, zkv_cluster.client() as kv:
        wait_until(lambda: held(kv).items() >= source.held().items())
        with kv.watch(prefix=True, key=b"") as watch:
            for number in range(1, 30):
                source.txn({"a": str(number), "b": str(number)})
            source.grant(100)
            source.put("leased", "x", LEASE)
            source.put("a", "last")
            source.delete("b")
            wait_until(lambda: held(kv).items() >= source.held().items() and kv.get("b") is None)
            seen: dict[bytes, bytes] = {}
            while seen.get(b"a") != b"last":
                response = watch.next(PATIENCE_S)
                assert response is not None
                for event in response.events:
                    seen[event.key] = event.value
                if seen.get(b"a") != b"last" and b"a" in seen:
                    assert seen[b"a"] == seen[b"b"]
        assert migrating.end(signal.SIGTERM) == 0
        assert any("goes on from here" in line for line in migrating.lines)
        assert any(each.startswith(MARKS) for each in held(kv))
        source.put("c", "behind")
        assert cut_over(source, zkv_cluster).startswith("3 keys are the same")
        assert held(kv) == source.held()


def test_it_goes_on_after_being_killed_at_any_moment(source: Source, zkv_cluster: LocalCluster) -> None:
    """Killed again and again while it copies and follows, with zkv's and etcd's processes killed between, and history
    compacted away under it: in the end both hold the same."""
    for start in range(0, 6000, 100):
        source.txn({f"many/{number:05}": "x" * 100 for number in range(start, start + 100)})
    with zkv_cluster.client() as kv:
        for round_ in range(6):
            with Migrating(source, zkv_cluster):
                wait_until(lambda: any(key.startswith(MARKS) for key in held(kv)))
                for number in range(40):
                    source.put(f"many/{number * 7 + round_:05}", f"round {round_}")
                source.delete(f"many/{round_ * 300:05}", f"many/{round_ * 300 + 150:05}")
                if round_ % 2:
                    source.compact()
            if round_ == 2:
                zkv_cluster.kill(0)
                zkv_cluster.start(0)
            if round_ == 3:
                source.etcd.nodes[0].kill()
                source.etcd.nodes[0].start(source.etcd.initial_cluster)
                source.etcd.wait_ready()
        cut_over(source, zkv_cluster)
        assert held(kv) == source.held()


def test_a_side_that_fails_while_it_follows_is_waited_for(source: Source, zkv_cluster: LocalCluster) -> None:
    source.put("a", "1")
    with Migrating(source, zkv_cluster) as migrating, zkv_cluster.client() as kv:
        wait_until(lambda: any("following" in line for line in migrating.lines))
        source.etcd.nodes[0].kill()
        wait_until(lambda: any("waiting: etcd" in line for line in migrating.lines))
        source.etcd.nodes[0].start(source.etcd.initial_cluster)
        source.etcd.wait_ready()
        source.put("a", "2")
        wait_until(lambda: held(kv).get(b"a") == (b"2", 0))
        zkv_cluster.kill(0)
        source.put("a", "3")
        zkv_cluster.start(0)
        wait_until(lambda: held(kv).get(b"a") == (b"3", 0))


def test_leases_live_here_as_long_as_there(source: Source, zkv_cluster: LocalCluster) -> None:
    """Kept alive in etcd, a lease of 3 seconds outlives many of them in zkv; left alone, it and its key end."""
    source.grant(3)
    source.put("kept", "x", LEASE)
    with Migrating(source, zkv_cluster), zkv_cluster.client() as kv:
        wait_until(lambda: b"kept" in held(kv))
        revision = kv.get("kept")
        for _ in range(8):
            source.etcd.call("/v3/lease/keepalive", {"ID": LEASE})
            threading.Event().wait(0.5)
        assert kv.get("kept") == revision
        wait_until(lambda: b"kept" not in held(kv))
        assert b"kept" not in source.held()


def test_a_prefix_is_all_that_is_touched(source: Source, zkv_cluster: LocalCluster) -> None:
    source.txn({"app/1": "x", "other": "y"})
    source.grant(100)
    source.put("else", "z", LEASE)
    with zkv_cluster.client() as kv:
        kv.put("here", "before")
        assert cut_over(source, zkv_cluster, "--prefix app/").startswith("1 keys are the same")
        assert set(held(kv)) == {b"app/1", b"here"}
        assert kv.leases().leases == ()


def test_the_one_that_began_earlier_stops(source: Source, zkv_cluster: LocalCluster) -> None:
    source.put("a", "1")
    with Migrating(source, zkv_cluster) as migrating:
        wait_until(lambda: any("following" in line for line in migrating.lines))
        with zkv_cluster.client() as kv, Migrating(source, zkv_cluster) as second:
            wait_until(lambda: any("following" in line for line in second.lines))
            source.put("a", "2")
            wait_until(lambda: any("has taken over" in line for line in migrating.lines))
            wait_until(lambda: held(kv).get(b"a") == (b"2", 0))


def test_etcd_may_ask_for_certificate_and_password(tmp_path: Path, zkv_cluster: LocalCluster) -> None:
    """And the token that it gives for the password may come to its end while all is under way."""
    pki = tmp_path / "pki"
    assert zkv_command(f"cert init --hosts 127.0.0.1,localhost --dir {pki}").code == 0
    tokens = ("--auth-token", "simple", "--auth-token-ttl", "1")
    with EtcdCluster(tmp_path, 1, tokens, pki=pki) as etcd, zkv_cluster.client() as kv:
        etcd.ctl("put", "a", "1")
        for line in ("user add root:pw", "role add root", "user grant-role root root", "auth enable"):
            etcd.ctl(*line.split())
        tls = f"--from-cacert {pki}/ca.pem --from-cert {pki}/client.pem --from-key {pki}/client-key.pem"
        line = f"migrate --from {etcd.nodes[0].client_url} --once {tls}"
        for flags, words in {"": "permission denied", "--from-user root:no": "invalid user ID or password"}.items():
            refused = zkv_command(f"{line} {flags}", zkv_cluster.endpoints[0])
            assert (refused.code, words in refused.stderr) == (1, True), refused.stderr
        with Migrating(Source(etcd), zkv_cluster, *tls.split(), "--from-user", "root", "--from-password", "pw"):
            wait_until(lambda: held(kv).get(b"a") == (b"1", 0))
            threading.Event().wait(2.5)
            lease = etcd.ctl("--user", "root:pw", "lease", "grant", "100").split()[1]
            etcd.ctl("--user", "root:pw", "put", "a", "2", "--lease", lease)
            wait_until(lambda: held(kv).get(b"a") == (b"2", int(lease, 16)))
        done = zkv_command(f"{line} --from-user root:pw", zkv_cluster.endpoints[0])
        assert done.code == 0, done.stderr


def test_users_and_roles_come_over_without_their_passwords(source: Source, zkv_cluster: LocalCluster) -> None:
    """When asked for; again they are only given what they lack, and who comes has to be given a password."""
    for line in (
        "user add alice:secret", "user add bob:secret", "role add r", "role add empty", "user grant-role alice r",
        "role grant-permission r readwrite a", "role grant-permission r read p --prefix",
        "role grant-permission r write z --from-key",
    ):  # fmt: skip
        source.etcd.ctl(*line.split())
    for made in (", set them by zkv user passwd: alice, bob\n", ""):
        done = zkv_command(f"migrate --from {source.url} --once --users", zkv_cluster.endpoints[0])
        assert done.code == 0, done.stderr
        assert "2 users and 2 roles of etcd are in zkv\n" in done.stderr
        assert made in done.stderr
    assert "passwd" not in done.stderr
    with zkv_cluster.client() as kv:
        assert kv.users().names == ("alice", "bob")
        assert (kv.user_get("alice").roles, kv.user_get("bob").roles) == (("r",), ())
        found = {(each.key, each.range_end, each.kind) for each in kv.role_get("r").permissions}
        assert found == {(b"a", b"", "readwrite"), (b"p", b"q", "read"), (b"z", b"\0", "write")}
        assert kv.role_get("empty").permissions == ()
        kv.user_add("root", "pw")
        kv.role_add("root")
        kv.user_grant_role("root", "root")
        kv.auth_enable()
    with zkv_cluster.client(user="alice", password="secret") as alice, pytest.raises(AuthFailed):
        alice.get("a")
    with zkv_cluster.client(user="root", password="pw") as root:
        root.user_change_password("alice", "new")
        with zkv_cluster.client(user="alice", password="new") as alice:
            alice.put("a", "1")
        root.auth_disable()


def test_wrong_words_are_told_at_once(source: Source, zkv_cluster: LocalCluster) -> None:
    for flags, words in {
        "": "migrate needs --from",
        "--from http://127.0.0.1:1 --dial-timeout 300ms": "no connection to etcd at http://127.0.0.1:1",
        f"--from {source.url} --max-txn-ops 1": "--max-txn-ops must be 2 or more",
        f"--from {source.url} --from-cacert none.pem": "could not read none.pem",
    }.items():
        refused = zkv_command(f"migrate {flags}", zkv_cluster.endpoints[0])
        assert refused.code
        assert words in refused.stderr
