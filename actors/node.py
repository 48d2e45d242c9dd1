"""What every process of one node knows about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zkv.config import Limits, NodeConfig
    from zkv.wire.messages import Member


@dataclass(frozen=True, slots=True)
class Node:
    """A node whose data directory is open and locked.

    `bootstrap` are the members a new cluster starts with, the same on every one of them. A member that joined a running
    cluster has none; it knows `peers`, the others of that moment, until the cluster's state has come to it.
    """

    config: NodeConfig
    limits: Limits
    member_id: int
    cluster_id: int
    bootstrap: tuple[Member, ...]
    wal_dir: str
    store_dir: str
    rundir: str
    peers: tuple[Member, ...] = ()
