"""A cluster whose clients and members know each other by certificates alone: it serves, whatever dies of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess

from tests.harness.ctl import Step, play_zkv
from tests.harness.etcd import binary
from tests.harness.processes import children
from zkv import AsyncClient
from zkv.testing import LocalCluster


def clients_come_in(cluster: LocalCluster) -> None:
    """Both libraries, the command by its flags, and etcdctl at the other door: one key, seen by all.

    With a certificate that is not a client's, each endpoint says that it is not.
    """
    with cluster.client() as client:
        client.put("who", "thread", timeout=30)

    async def asked() -> bytes:
        async with AsyncClient(cluster.endpoints, **cluster.client_options) as client:
            found = await client.get("who", timeout=30)
            assert found is not None
            return found.value

    assert asyncio.run(asked()) == b"thread"
    pki = cluster.pki
    files = f"--cacert {pki}/ca.pem --cert {pki}/client.pem --key {pki}/client-key.pem"
    files += " --dial-timeout 20s --command-timeout 30s"
    bare = cluster.endpoints[0].removeprefix("curve://")
    assert play_zkv("", Step(f"--endpoints {bare} {files} get who --print-value-only")).stdout == "thread\n"
    wrong = files.replace("client", "server")
    sick = play_zkv("", Step(f"--endpoints {','.join(cluster.endpoints)} {wrong} endpoint health"))
    assert (sick.code, sick.stderr.count("certificate is for another usage")) == (1, 3), sick.stderr
    etcdctl = binary("etcdctl")
    if etcdctl is not None:
        command = [str(etcdctl), "--endpoints", cluster.etcd_endpoints[1], *files.split(), "get", "who"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=clean)
        assert done.stdout == "who\nthread\n"


def processes_start_anew(cluster: LocalCluster, name: str) -> None:
    """On all members at once; a client and its watch go on, and so does the cluster."""
    with cluster.client() as client, client.watch("mourned") as watch:
        client.put("mourned", b"before", timeout=30)
        assert watch.next(30) is not None
        for number in range(3):
            os.kill(children(cluster.pid(number))[name], signal.SIGKILL)
        client.put("mourned", name, timeout=30)
        heard = watch.next(30)
        assert heard is not None
        assert heard.events[-1].kv.value == name.encode()
    cluster.wait_ready()


def test_a_cluster_lives_by_certificates_alone() -> None:
    """Clients of all kinds come in; what dies is introduced anew; a member that does not know the cluster yet joins."""
    with LocalCluster(nodes=3, certificates=True, etcd_api=True) as cluster:
        clients_come_in(cluster)
        for name in ("usher", "gateway", "raft"):
            processes_start_anew(cluster, name)
        assert cluster.is_ready(cluster.add())
