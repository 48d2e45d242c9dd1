"""What every process of one node knows about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zkv.wire.messages import door_of

if TYPE_CHECKING:
    from zkv.config import Limits, NodeConfig
    from zkv.wire.messages import Member

INSIGHT_ASKS = 2
"""The incarnation under which the insight actor has reads answered: no gateway's, for theirs are odd."""


def asking_actor(incarnation: int) -> str:
    """The actor that waits for answers, by the incarnation in its frames."""
    if incarnation == INSIGHT_ASKS:
        return "insight"
    return door_of(incarnation) if incarnation else "lease"


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

    @property
    def doors(self) -> tuple[str, ...]:
        """Its gateway processes."""
        return ("gateway", "grpc") if self.config.etcd_client_urls else ("gateway",)

    @property
    def has_usher(self) -> bool:
        """A process introduces keys, and looks after certificates."""
        config = self.config
        return config.client_security.is_given or config.peers_are_introduced

    @property
    def actors(self) -> tuple[str, ...]:
        """All its processes that keep something or serve somebody."""
        usher = ("usher",) if self.has_usher else ()
        return ("storage", "raft", "lease", "watch", *self.doors, *usher, *(("insight",) if self.reports else ()))

    @property
    def reports(self) -> bool:
        """Its processes are to tell an insight process of themselves."""
        return bool(self.config.listen_metrics_urls or self.config.etcd_client_urls)

    @property
    def insight_socket(self) -> str:
        """Where the insight process answers the door of etcd's API."""
        return f"{self.rundir}/pages.sock"
