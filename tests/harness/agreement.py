"""Members that hold the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.harness.processes import wait_until

if TYPE_CHECKING:
    from zkv.testing import LocalCluster


def same_on_all(cluster: LocalCluster) -> None:
    """All members come to the same revision, and hold the same up to there.

    Each hashes what it has applied: asked for no revision in particular, one that is behind has another hash.
    """
    with cluster.client(timeout=20) as kv:
        revision = kv.put("last", "1").revision
        wait_until(
            lambda: all(cluster.revision(number) >= revision for number in range(cluster.nodes)), "all are there"
        )
        assert len({kv.hash_kv(endpoint, revision=revision).hash for endpoint in cluster.endpoints}) == 1
