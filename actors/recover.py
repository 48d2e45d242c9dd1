"""`zkv recover`: what the members that are left of a cluster hold, and a new cluster made of one of them.

Looking at a data directory changes nothing in it: its log is read through a disk that takes no writes, its store
through a directory elsewhere that borrows the store's tables, which RocksDB never changes, and copies the rest, which
is little.

What is made is a data directory beside, by the rules of a backup that is restored (restore.py): new ids, so that
neither side takes the other for its own; revisions that go on behind all that clients can have seen. In it is what the
store held and, applied to it, all of the log behind, agreed on or not, for nobody is left to tell.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

from zkv.actors import datadir
from zkv.actors.disk import ReadOnlyDirectory
from zkv.actors.force_new import apply_log
from zkv.actors.restore import Restored, being_made, build, new_home
from zkv.actors.rocks_engine import RocksEngine
from zkv.actors.wal import Wal
from zkv.actors.wal_format import segment_sequence
from zkv.config import NodeConfig
from zkv.core.mvcc import layout
from zkv.core.mvcc.machine import StateMachine
from zkv.core.raft.log import MemoryLog
from zkv.core.recovery import LogEnd
from zkv.errors import ConfigError, CorruptionError
from zkv.limits import Limits
from zkv.wire.messages import ConfState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zkv.actors.datadir import Identity
    from zkv.core.raft.log import LogPort
    from zkv.wire.messages import Member


class Holding(NamedTuple):
    """What one data directory holds. `members` and `revision`: with all of its log applied.

    `confs`: who votes, as far as it knows, and by all of its log.
    """

    data_dir: str
    name: str
    cluster_id: int
    end: LogEnd
    revision: int
    members: tuple[Member, ...]
    confs: frozenset[ConfState]


def look(data_dir: str, scratch: Path) -> Holding:
    """What is in the data directory of a member that does not run. `scratch`: an empty directory to work in.

    Raises ConfigError when there is none, or it is in use; CorruptionError, OSError.
    """
    with datadir.stopped(data_dir) as member_dir, _opened(member_dir, scratch) as (identity, log, machine):
        known, commit = log.conf, max(log.hard_state.commit, machine.applied)
        apply_log(log, machine)
        return Holding(
            data_dir=data_dir,
            name=identity.name,
            cluster_id=identity.cluster_id,
            end=LogEnd(identity.member_id, log.term(log.last_index), log.last_index, commit),
            revision=machine.revision,
            members=machine.members.table(),
            confs=frozenset((known, machine.members.conf)),
        )


def back_up(data_dir: str, backup_dir: str, *, progress: Callable[[int], object]) -> Restored:
    """Make `backup_dir`: what `data_dir` holds, at the same revisions, in a cluster of its own.

    Raises as `make` does.
    """
    with datadir.stopped(data_dir) as member_dir:
        identity = datadir.read_identity(member_dir / "identity")
    assert identity is not None, "a data directory has one"
    config = NodeConfig(name=identity.name, data_dir=backup_dir, initial_cluster_token=f"backup-{os.urandom(8).hex()}")
    return make(data_dir, config, bump=0, mark_compacted=False, progress=progress)


def make(
    source: str, config: NodeConfig, *, bump: int, mark_compacted: bool, progress: Callable[[int], object]
) -> Restored:
    """Make `config.data_dir`, of the new cluster that `config` tells of, with what the directory `source` holds.

    Raises ConfigError (the new directory exists, the old one is none or in use, the settings do not fit, or would make
    the same cluster again), CorruptionError, OSError.
    """
    target, identity = new_home(config)
    with datadir.stopped(source) as member_dir:
        old = datadir.read_identity(member_dir / "identity")
        assert old is not None, "a data directory has one"
        if identity.cluster_id == old.cluster_id or identity.member_id == old.member_id:
            raise ConfigError("the new cluster would have the old one's ids: give it another --initial-cluster-token")
        with (
            being_made(target, identity) as (engine, scratch),
            _opened(member_dir, scratch) as (_, log, machine),
        ):
            apply_log(log, machine)
            pairs = ((pair,) for pair in machine.engine.scan(b"", layout.BOUND))
            return build(engine, pairs, identity, bump=bump, mark_compacted=mark_compacted, progress=progress)


@contextlib.contextmanager
def _opened(member_dir: Path, scratch: Path) -> Iterator[tuple[Identity, LogPort, StateMachine]]:
    """Log and store of a member, as it would find them when it starts."""
    identity = datadir.read_identity(member_dir / "identity")
    assert identity is not None, "a data directory has one"
    with contextlib.ExitStack() as closing:
        engine = RocksEngine(_borrowed(member_dir / "snap" / "db", scratch), create=False)
        closing.callback(engine.close)
        machine = StateMachine(engine, Limits(), cluster_id=identity.cluster_id, member_id=identity.member_id)
        if not machine.applied and not machine.members.table():
            machine.bootstrap(identity.bootstrap)
        log: LogPort = MemoryLog(ConfState(tuple(sorted(member.id for member in identity.bootstrap))))
        disk = ReadOnlyDirectory(str(member_dir / "wal"))
        if any(segment_sequence(name) for name in disk.names()):
            log = wal = Wal("", Limits(), log.conf, disk=disk)
            closing.callback(wal.close)
        if machine.applied > log.last_index:  # it was restored, or a snapshot came to it, and the log begins there
            log = MemoryLog(machine.place.conf)
            log.reset(machine.place)
        if machine.applied < log.first_index - 1:
            raise CorruptionError(f"the store ends at entry {machine.applied}, the log begins at {log.first_index}")
        yield identity, log, machine


def _borrowed(store: Path, scratch: Path) -> Path:
    """A store that may be opened and written to in place of `store`, which stays as it is."""
    staged = store.with_name(f"{store.name}.staged")  # if there is one, it is the store that counts: rocks_engine.py
    source = staged if staged.exists() else store
    target = scratch / "borrowed"
    target.mkdir()
    if not (source / "CURRENT").exists():
        raise CorruptionError(f"{source} holds no store")
    for file in source.iterdir():
        if file.suffix == ".sst":
            (target / file.name).symlink_to(file.absolute())
        elif file.name != "LOCK" and not file.name.startswith("LOG"):
            shutil.copyfile(file, target / file.name)
    return target
