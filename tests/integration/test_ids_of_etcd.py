"""The ids of members and clusters are those that etcd computes from the same settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness import etcd
from zkv.actors import datadir
from zkv.config import NodeConfig

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "a token"


@pytest.mark.skipif(etcd.binary("etcd") is None, reason="there is no etcd for this platform")
def test_the_same_settings_give_the_ids_that_etcd_gives(tmp_path: Path) -> None:
    """Every member computes them alone, before it has spoken with any other."""
    with etcd.EtcdCluster(tmp_path, nodes=3, extra=("--initial-cluster-token", TOKEN)) as cluster:
        answer = cluster.call("/v3/cluster/member/list", {})
        theirs = {int(member["ID"]): tuple(member["peerURLs"]) for member in answer["members"]}
        for node in cluster.nodes:
            config = NodeConfig(
                name=node.name,
                data_dir=str(tmp_path / "zkv" / node.name),
                initial_cluster=cluster.initial_cluster,
                initial_cluster_token=TOKEN,
                initial_advertise_peer_urls=(node.peer_url,),
            )
            with datadir.opened(config) as ours:
                assert ours.cluster_id == int(answer["header"]["cluster_id"])
                assert {member.id: member.peer_urls for member in ours.bootstrap} == theirs
                assert theirs[ours.member_id] == (node.peer_url,)
