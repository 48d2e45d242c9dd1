"""`--force-new-cluster`: one member's data become a cluster of one, for when the others are gone for good.

What is on this member's disk is what there will be: the store, and all of the raft log behind it, committed or not
(nobody is left to tell). That log is applied, and then the member table and the configuration are rewritten so that
this member alone votes; the others count as removed, so that one of them that comes back after all is told, and ends.

The cluster keeps its id, and this member its own: clients, and members added afterwards, find what they know.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zkv.actors.rocks_engine import RocksEngine
from zkv.actors.wal import Wal
from zkv.core.mvcc.machine import StateMachine
from zkv.errors import ConfigError
from zkv.wire.messages import ConfState

if TYPE_CHECKING:
    from zkv.actors.node import Node
    from zkv.core.raft.log import LogPort
    from zkv.wire.messages import Member

SLICE_BYTES = 4 << 20


def force_new_cluster(node: Node) -> tuple[Member, ...]:
    """Rewrite the data of a member that does not run; the members that were dropped. May be repeated.

    Raises ConfigError when this member was removed from its cluster, CorruptionError, OSError.
    """
    log = Wal(node.wal_dir, node.limits, ConfState(tuple(sorted(member.id for member in node.bootstrap))))
    engine = RocksEngine(Path(node.store_dir))
    try:
        machine = StateMachine(engine, node.limits, cluster_id=node.cluster_id, member_id=node.member_id)
        if not machine.applied and not machine.members.table():
            machine.bootstrap(node.bootstrap)
        apply_log(log, machine)
        if node.member_id not in {member.id for member in machine.members.table()}:
            raise ConfigError("this member has been removed from its cluster: it cannot be the one that is left")
        conf = ConfState((node.member_id,), index=machine.applied)
        dropped = machine.force_alone(conf)
        engine.flush()  # before the log: a log that says so has a store that does
        log.set_conf(conf)
        log.sync()
    finally:
        engine.close()
        log.close()
    return dropped


def apply_log(log: LogPort, machine: StateMachine) -> None:
    """All of it that the store does not have yet, agreed on or not. Raises CorruptionError."""
    while machine.applied < log.last_index:
        machine.apply(log.entries(machine.applied + 1, log.last_index + 1, SLICE_BYTES), log.hard_state.term)
