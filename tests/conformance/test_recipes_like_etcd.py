"""The keys of etcd's locks and elections are ours: whoever holds one by etcd's client holds it for ours too."""

from __future__ import annotations

import subprocess
import time
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.etcd import EtcdCluster, binary
from tests.unit.client.recipe_world import World
from zkv.client import calls
from zkv.client.election import Election
from zkv.client.lock import Lock
from zkv.client.steps import ask
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY: Any = None  # the client: here the world drives
PATIENCE_S = 30.0

pytestmark = pytest.mark.skipif(binary("etcd") is None, reason="no etcd for this platform")


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    directory: Path = tmp_path_factory.mktemp("etcd")
    with EtcdCluster(directory, nodes=1) as cluster:
        yield cluster


def left_by(etcd: EtcdCluster, *command: str) -> tuple[m.KeyValue, str]:
    """The key that etcdctl puts and keeps while it runs `command`, and the first line it says."""
    program = binary("etcdctl")
    assert program is not None
    arguments = [str(program), "--endpoints", ",".join(etcd.endpoints), *command]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            said = process.stdout.readline().strip()
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline:
                kvs = etcd.call("/v3/kv/range", {"key": "AA==", "range_end": "AA=="}).get("kvs", [])
                if kvs:
                    break
        finally:
            process.terminate()
    while etcd.call("/v3/kv/range", {"key": "AA==", "range_end": "AA=="}).get("kvs"):
        assert time.monotonic() < deadline
    (kv,) = kvs
    return m.KeyValue(b64decode(kv["key"]), 0, 0, 0, b64decode(kv.get("value", "")), int(kv["lease"])), said


def held_in(world: World, kv: m.KeyValue) -> None:
    """The same key, on a lease of the same id."""
    world.store.leases[kv.lease] = [60, world.now + 60_000]
    world.run(ask(calls.put(m.Put(kv.key, kv.value, kv.lease))))


def test_a_lock_of_etcdctl_is_waited_for(etcd: EtcdCluster) -> None:
    """Its key is named as ours would be for its lease; when it is gone, the lock is ours."""
    theirs, said = left_by(etcd, "lock", "jobs")
    assert theirs.key == said.encode() == b"jobs/%x" % theirs.lease
    assert not theirs.value
    world = World()
    held_in(world, theirs)
    assert world.run(Lock(NOBODY, "jobs", 5).entering(b"", wait=False)) is False
    ours = world.start(Lock(NOBODY, "jobs", 5).entering(b"", wait=True))
    world.settle()
    assert not ours.done
    world.store.end_lease(theirs.lease)
    world.until(lambda: ours.done)
    assert ours.result is True


def test_a_leader_of_etcdctl_is_one_for_us(etcd: EtcdCluster) -> None:
    theirs, said = left_by(etcd, "elect", "chief", "etcd's")
    assert theirs.key == said.encode() == b"chief/%x" % theirs.lease
    world = World()
    held_in(world, theirs)
    leader = world.run(Election(NOBODY, "chief", 5).leading())
    assert (leader.key, leader.value) == (theirs.key, b"etcd's")
    ours = world.start(Election(NOBODY, "chief", 5).entering(b"ours", wait=True))
    world.settle()
    assert not ours.done
    world.store.end_lease(theirs.lease)
    world.until(lambda: ours.done)
    assert ours.result is True
