"""`zkv.testing.LocalCluster`, and the examples of docs/CLIENT.md on it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness.agreement import same_on_all
from zkv.errors import DeadlineExceeded
from zkv.testing import ClusterError, LocalCluster

PAGE = (Path(__file__).parents[2] / "docs" / "CLIENT.md").read_text()
EXAMPLES = dict(re.findall(r"^## ([^\n]+)\n+```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


def test_a_cluster_survives_its_leader() -> None:
    """Killed, the others go on; started again, it has what it had and what it missed."""
    with LocalCluster(3) as cluster, cluster.client(timeout=15) as kv:
        kv.put("a", "1")
        leader = cluster.leader()
        cluster.kill(leader)
        kv.put("a", "2")
        cluster.start(leader)
        found = cluster.client(timeout=15).get("a")
        assert found is not None
        assert (found.value, found.version) == (b"2", 2)
        same_on_all(cluster)


def test_a_paused_member_says_nothing_and_comes_back() -> None:
    """Its connections stay, so only silence tells: a client passes over it."""
    with LocalCluster(3, storage="memory") as cluster:
        for number in range(3):
            with cluster.client(timeout=15) as kv:
                cluster.pause(number)
                kv.put("a", f"{number}")
                cluster.resume(number)
        cluster.wait_ready()


def test_a_stopped_cluster_goes_on_in_its_directory(tmp_path: Path) -> None:
    """`data_dir` keeps it, ports and all; `stop` ends a member in order."""
    for revision in (2, 3):
        with LocalCluster(1, data_dir=tmp_path) as cluster, cluster.client() as kv:
            assert kv.put("a", "1").revision == revision
            cluster.stop(0)
            with pytest.raises(DeadlineExceeded):
                kv.get("a", timeout=0.2)


def test_a_member_that_cannot_start_says_why() -> None:
    """The end of its log is in the error, and nothing is left running."""
    with pytest.raises(ClusterError, match="ended with 1"), LocalCluster(1, arguments=["--election-timeout", "1"]):
        pass


@pytest.mark.parametrize("title", EXAMPLES)
def test_examples_run(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each block of docs/CLIENT.md, as it stands."""
    assert len(EXAMPLES) == len(re.findall("^```python", PAGE, re.MULTILINE))
    with LocalCluster(1, certificates=title == "Certificates", storage="memory") as cluster:
        given = {"endpoints": cluster.endpoints, "secure_endpoints": cluster.endpoints, **cluster.client_options}
        exec(compile(EXAMPLES[title], title, "exec"), given)  # noqa: S102 (that it runs is the claim)
