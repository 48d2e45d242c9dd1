"""`zkv snapshot save`, `status` and `restore`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zkv.ctl.command import Call, Command
from zkv.ctl.lasting import INTERRUPTED, ended_by_signals
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, Flag, switch
from zkv.ctl.progress import Progress
from zkv.errors import ConfigError, CorruptionError
from zkv.files import Steady, sync_directory, unhurried

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zkv.actors.restore import Restored
    from zkv.config import NodeConfig
    from zkv.ctl.connection import Connection
    from zkv.ctl.options import Values
    from zkv.stream_file import Point

EXIT_MANY_ENDPOINTS = 5  # etcdctl's
BUMP = 1_000_000_000


def one_file(call: Call, command: str) -> Path:
    if len(call.arguments) != 1:
        raise CommandError(f"snapshot {command} expects one argument", EXIT_BAD_ARGS)
    return Path(call.arguments[0])


def _save(call: Call) -> int:
    path = one_file(call, "save")
    endpoints = call.values.list("endpoints")
    if len(endpoints) > 1:
        text = f"snapshot must be requested to one selected node, not multiple [{' '.join(endpoints)}]"
        raise CommandError(text, EXIT_MANY_ENDPOINTS)
    part = path.with_name(f"{path.name}.part")
    try:
        with ended_by_signals(INTERRUPTED), call.connect() as connection:
            download(connection, part)
        part.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise CommandError(f"could not save the snapshot to {path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    call.out.write(b"Snapshot saved at " + os.fsencode(path) + b"\n")
    return 0


def download(connection: Connection, part: Path) -> None:
    """The store of the one endpoint, into a snapshot file. Raises ZkvError, OSError."""
    from zkv.snapshot_file import SnapshotWriter

    header, chunks = connection.snapshot()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        steady = Steady(file)
        writer = SnapshotWriter(steady)
        with Progress(0, "B", "saving") as bar:
            for chunk in unhurried(chunks):
                writer.add(chunk.pairs)
                bar.show(writer.bytes)
        writer.end(cluster_id=header.cluster_id, member_id=header.member_id, revision=header.revision)
        steady.sync()


def _status(call: Call) -> int:
    from zkv.snapshot_file import verify

    path = one_file(call, "status")
    printer = call.printer("snapshot_status")
    try:
        with path.open("rb") as file:
            summary, digest = verify(file)
        size = path.stat().st_size
        _warn_if_open(call, path)
    except OSError as error:
        raise CommandError(f"could not read the snapshot {path}: {error.strerror}") from None
    except CorruptionError as error:
        raise CommandError(f"{path}: {error.detail}") from None
    printer.snapshot_status(summary, digest, size)
    return 0


def _warn_if_open(call: Call, path: Path) -> None:
    """Raises OSError."""
    from zkv.files import is_open_to_others

    if path.is_file() and is_open_to_others(path):
        call.complain(
            f"Warning: {path} is open to other users, and holds every value and the hash of every password (chmod 600)"
        )


class NewCluster(NamedTuple):
    """What the flags of `restore` say."""

    config: NodeConfig
    bump: int
    mark_compacted: bool
    check_digest: bool


def new_cluster(values: Values) -> NewCluster:
    """Raises CommandError."""
    from zkv.config import NodeConfig

    name = values.text("name")
    bump = values.number("bump-revision")
    if bump < 0:
        raise CommandError("--bump-revision must not be negative", EXIT_BAD_ARGS)
    mark = values.is_on("mark-compacted")
    if mark and not bump:
        raise CommandError("--mark-compacted required if --bump-revision > 0", EXIT_BAD_ARGS)
    config = NodeConfig(
        name=name,
        data_dir=values.text("data-dir") or f"{name}.zkv",
        initial_cluster=values.text("initial-cluster"),
        initial_cluster_token=values.text("initial-cluster-token"),
        initial_advertise_peer_urls=tuple(values.list("initial-advertise-peer-urls")),
    )
    return NewCluster(config, bump, mark, not values.is_on("skip-hash-check"))


@contextlib.contextmanager
def explained(path: Path, verb: str) -> Iterator[None]:
    """What goes wrong while a data directory is made of `path`, as CommandError."""
    try:
        yield
    except OSError as error:
        raise CommandError(f"could not {verb} {path}: {error.strerror or error}") from None
    except ConfigError as error:
        raise CommandError(error.detail) from None
    except CorruptionError as error:
        raise CommandError(f"{path}: {error.detail}") from None


def tell_restored(call: Call, data_dir: str, verb: str, restored: Restored) -> None:
    as_of = f", as it was at revision {restored.as_of}" if restored.as_of else ""
    if restored.taken_back:
        call.complain("Warning: files of newer states are missing: the store was copied while its member wrote")
    call.out.write(
        f"{verb} {data_dir}: member {restored.member_id:x} of cluster {restored.cluster_id:x}, "
        f"revision {restored.revision}{as_of}\n".encode()
    )


def _restore(call: Call) -> int:
    from zkv.actors.restore import restore

    path = one_file(call, "restore")
    with ended_by_signals(INTERRUPTED), explained(path, "restore"):
        new = new_cluster(call.values)
        size = 0 if path.is_dir() else path.stat().st_size
        with Progress(size, "B", "restoring") as bar:
            restored = restore(
                path,
                new.config,
                check_digest=new.check_digest,
                bump=new.bump,
                mark_compacted=new.mark_compacted,
                progress=bar.show,
                point=_point(call.values),
            )
        _warn_if_open(call, path)
    tell_restored(call, new.config.data_dir, "Restored", restored)
    return 0


def _point(values: Values) -> Point | None:
    """Raises CommandError."""
    from zkv.stream_file import Point

    revision, moment = values.number("to-revision"), values.text("to-time")
    if revision < 0 or (revision and moment):
        raise CommandError("one of --to-revision and --to-time, and no negative one", EXIT_BAD_ARGS)
    if moment:
        from datetime import datetime

        try:
            return Point(wall=int(datetime.fromisoformat(moment).timestamp() * 1000))
        except ValueError:
            text = f"--to-time must be a time like 2030-01-31T12:00:00Z, not {moment!r}"
            raise CommandError(text, EXIT_BAD_ARGS) from None
    return Point(revision) if revision else None


RESTORE_FLAGS = (
    Flag("bump-revision", "number", str(BUMP), "how much to increase the latest revision by"),
    Flag("data-dir", "text", "", "path to the data directory to make [NAME.zkv]", file=True),
    Flag("initial-advertise-peer-urls", "list", "http://localhost:2380", "this member's peer URLs"),
    Flag("initial-cluster", "text", "", "the members of the new cluster, NAME=URL,NAME=URL [this member alone]"),
    Flag("initial-cluster-token", "text", "etcd-cluster", "token of the new cluster, for its id"),
    Flag("mark-compacted", "switch", "true", "mark the latest revision as compacted"),
    Flag("name", "text", "default", "human-readable name of this member"),
    switch("skip-hash-check", "do not check the digest (needed for a storage directory)"),
)

SAVE = Command(
    usage="<filename>",
    summary="Stores a node's backend snapshot to a given file",
    description="""\
Of the one endpoint that is named: its store, as it is at this moment, sessions of clients left out.
The file appears when it is complete and on the disk.""",
    example="zkv snapshot save backup.zkv --endpoints 10.0.0.1:2378",
    run=_save,
)

STATUS = Command(
    usage="<filename>",
    summary="Gets backend snapshot status of a given file",
    description="Reads all of the file, and refuses one that is damaged. Hash, Revision, Total Keys, Total Size.",
    example="zkv snapshot status backup.zkv -w table",
    run=_status,
)

RESTORE = Command(
    usage="<filename> --data-dir DIR [options]",
    summary="Restores a member of a new cluster from a snapshot file or a storage directory",
    description="""\
Run it on every node of the new cluster, with the same file and the same --initial-cluster; then start them.
The new cluster's revisions go on behind all that clients can have seen of the old one (--bump-revision), and watches
that would go on from an old revision are told that it was compacted. --bump-revision=0 --mark-compacted=false
restores revisions as they were, as etcd does.
A member's storage directory (member/snap/db), or a copy, is restored with --skip-hash-check, as of its last flush.
Of a directory that `zkv snapshot stream` keeps, any point in time can be restored: --to-revision, or --to-time (by the
clock of the machine that kept it); without either, the newest.""",
    example="""\
zkv snapshot restore backup.zkv --name n1 --data-dir /var/lib/zkv/data \\
  --initial-cluster n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380 \\
  --initial-advertise-peer-urls http://10.0.0.1:2380
zkv snapshot restore /backup/zkv --to-time 2030-01-31T12:00:00Z --data-dir /var/lib/zkv/data""",
    run=_restore,
    flags=(
        *RESTORE_FLAGS,
        Flag("to-revision", "number", "0", "the revision to restore, of a directory of `snapshot stream` [the newest]"),
        Flag("to-time", "text", "", "the time to restore, like 2030-01-31T12:00:00Z"),
    ),
)
