"""A snapshot that a real etcd wrote, imported: the new cluster answers as that etcd does, at every revision."""

from __future__ import annotations

import base64
import os
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.harness.agreement import same_on_all
from tests.harness.etcd import EtcdCluster, binary
from tests.harness.restoring import restored, zkv_command
from zkv.ctl.etcd_snapshot import EtcdSnapshot
from zkv.errors import Compacted, CorruptionError
from zkv.wire.messages import KeyValue

if TYPE_CHECKING:
    from pathlib import Path

    from zkv.client.client import Client

pytestmark = pytest.mark.skipif(binary("etcd") is None, reason="no etcd for this platform")
COMPACTED = 40
LEASE = 0x1234567


class Told(NamedTuple):
    """What etcd itself says of what is in `snapshot`."""

    snapshot: Path
    database: Path
    revision: int
    at: dict[int, list[KeyValue]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Many versions, deleted and made again, several changes at a revision, leases and moves between them, values of
    some pages, enough keys for several levels of pages, a compaction."""
    home = tmp_path_factory.mktemp("etcd")
    with EtcdCluster(home, nodes=1) as etcd:
        chance = random.Random(6)
        etcd.ctl("lease", "grant", "600")
        etcd.call("/v3/lease/grant", {"TTL": 600, "ID": LEASE})
        etcd.call("/v3/lease/grant", {"TTL": 700, "ID": -5})
        for number in range(120):
            key = f"key{chance.randrange(20):02}"
            if chance.random() < 0.2:
                delete(etcd, key)
            else:
                put(etcd, key, f"value {number}", chance.choice([0, 0, LEASE, -5]))
        put(etcd, "large", "x" * 100_000)
        put(etcd, "large", "y" * 1_000_000)
        for start in range(0, 3000, 100):
            txn(etcd, [f"many/{number:05}" for number in range(start, start + 100)])
        etcd.ctl("del", "many/00", "many/005")
        etcd.ctl("compaction", str(COMPACTED))
        put(etcd, "last", "")
        revision = etcd.revision()
        at = {each: keys_at(etcd, each) for each in (*range(COMPACTED, 130), revision)}
        etcd.ctl("snapshot", "save", str(home / "snapshot.db"))
        etcd.stop()
        database = home / "e1.etcd" / "member" / "snap" / "db"
    return Told(home / "snapshot.db", database, revision, at)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def put(etcd: EtcdCluster, key: str, value: str, lease: int = 0) -> None:
    etcd.call("/v3/kv/put", {"key": encoded(key), "value": encoded(value), "lease": lease})


def delete(etcd: EtcdCluster, key: str) -> None:
    etcd.call("/v3/kv/deleterange", {"key": encoded(key)})


def txn(etcd: EtcdCluster, keys: list[str]) -> None:
    puts = [{"requestPut": {"key": encoded(key), "value": encoded(f"of {key}")}} for key in keys]
    etcd.call("/v3/kv/txn", {"success": puts})


def keys_at(etcd: EtcdCluster, revision: int) -> list[KeyValue]:
    answer: dict[str, Any] = etcd.call("/v3/kv/range", {"key": "AA==", "range_end": "AA==", "revision": revision})
    return [
        KeyValue(
            base64.b64decode(kv["key"]),
            int(kv["create_revision"]),
            int(kv["mod_revision"]),
            int(kv["version"]),
            base64.b64decode(kv.get("value", "")),
            int(kv.get("lease", 0)),
        )
        for kv in answer.get("kvs", [])
    ]


def all_keys(kv: Client, revision: int = 0) -> list[KeyValue]:
    return list(kv.range(prefix=True, key=b"", revision=revision))


def test_revisions_are_kept_as_they_were(told: Told, tmp_path: Path) -> None:
    """Every key at every revision that etcd still had, with its versions and lease; what was compacted, is; and the
    next write is the next revision, on three members alike."""
    options = "--bump-revision=0 --mark-compacted=false"
    with restored(told.snapshot, tmp_path / "new", 3, options, "import-etcd") as cluster, cluster.client() as kv:
        for revision, keys in told.at.items():
            assert all_keys(kv, revision) == keys, revision
        with pytest.raises(Compacted):
            kv.get("last", revision=COMPACTED - 1)
        leases = {lease: kv.time_to_live(lease, keys=True) for lease in kv.leases().leases}
        assert {LEASE, -5} < set(leases)
        assert len(leases) == 3
        now = told.at[told.revision]
        for lease, kept in leases.items():
            assert kept.keys == tuple(each.key for each in now if each.lease == lease)
        assert (leases[LEASE].granted_ttl, leases[-5].granted_ttl) == (600, 700)
        assert 590 <= leases[LEASE].ttl <= 600
        assert kv.put("next", "x").revision == told.revision + 1
        kv.revoke(LEASE)
        assert not [each for each in all_keys(kv) if each.lease == LEASE]
        kv.compact(told.revision, physical=True)
        assert all_keys(kv, told.revision) == now
        same_on_all(cluster)


def test_revisions_go_on_behind_those_of_the_old_cluster(told: Told, tmp_path: Path) -> None:
    """As with `snapshot restore`, unless told otherwise; a database, which has no digest, is taken when told."""
    refused = zkv_command(f"snapshot import-etcd {told.database} --data-dir {tmp_path}/x")
    assert refused.stderr == f"Error: {told.database}: snapshot missing hash but --skip-hash-check=false\n"
    new = restored(told.database, tmp_path / "new", 1, "--skip-hash-check", "import-etcd")
    with new as cluster, cluster.client() as kv:
        assert all_keys(kv) == told.at[told.revision]
        assert kv.put("next", "x").revision == told.revision + 1_000_000_001
        with pytest.raises(Compacted):
            kv.get("last", revision=told.revision)


def test_what_is_damaged_is_refused_before_anything_is_written(told: Told, tmp_path: Path) -> None:
    data = told.snapshot.read_bytes()
    for name, content in {
        "cut": data[:-1], "shorter": data[: len(data) // 2 // 512 * 512 + 32], "empty": b"", "digest only": data[-32:],
        "foreign": os.urandom(8192), "bent": data[:9000] + bytes((data[9000] ^ 1,)) + data[9001:],
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        for skip in ("",) if name in {"bent", "cut"} else ("", "--skip-hash-check"):
            refused = zkv_command(f"snapshot import-etcd '{tmp_path}/{name}' --data-dir {tmp_path}/data {skip}")
            assert (refused.code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1), (name, skip)
            assert refused.stderr.startswith(f"Error: {tmp_path}/{name}: "), refused.stderr
            assert not (tmp_path / "data").exists()
    missing = zkv_command(f"snapshot import-etcd {tmp_path}/nothing --data-dir {tmp_path}/data")
    assert (missing.code, "No such file" in missing.stderr) == (1, True)


def test_any_damage_is_noticed_or_harms_nothing_but_a_value(told: Told, tmp_path: Path) -> None:
    """Without the digest only the shape of a page tells: whatever is in it, it is read or refused, and ends."""
    data = bytearray(told.snapshot.read_bytes()[:-32])
    chance = random.Random(7)
    outcomes = set()
    for number in range(60):
        bent = bytearray(data)
        for _ in range(chance.choice((1, 1, 20))):
            page = chance.randrange(len(bent) // 4096) * 4096
            at = page + chance.choice((chance.randrange(16), chance.randrange(200), chance.randrange(4096)))
            bent[at] = chance.randrange(256)
        path = tmp_path / str(number)
        path.write_bytes(bent)
        with path.open("rb") as file:
            try:
                EtcdSnapshot(file.fileno(), check_digest=False, progress=lambda _: None)
                outcomes.add("read")
            except CorruptionError:
                outcomes.add("refused")
        path.unlink()
    assert outcomes == {"read", "refused"}
