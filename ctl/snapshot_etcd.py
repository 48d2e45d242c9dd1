"""`zkv snapshot import-etcd`: a new cluster made of what an etcd held; `export-etcd`: what etcd makes a cluster of."""

from __future__ import annotations

import os
from pathlib import Path

from zkv.ctl.command import Call, Command
from zkv.ctl.lasting import INTERRUPTED, ended_by_signals
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, switch
from zkv.ctl.progress import Progress
from zkv.ctl.snapshot import RESTORE_FLAGS, explained, new_cluster, one_file, tell_restored
from zkv.files import sync_directory


def _import(call: Call) -> int:
    from zkv.actors.import_etcd import import_etcd
    from zkv.ctl.etcd_snapshot import EtcdSnapshot

    path = one_file(call, "import-etcd")
    with ended_by_signals(INTERRUPTED), explained(path, "import"), path.open("rb") as file:
        new = new_cluster(call.values)
        with Progress(2 * path.stat().st_size, "B", "checking") as bar:
            source = EtcdSnapshot(file.fileno(), check_digest=new.check_digest, progress=bar.show)
        with Progress(source.change_count, "", "importing") as bar:
            restored = import_etcd(
                source, new.config, bump=new.bump, mark_compacted=new.mark_compacted, progress=bar.show
            )
    tell_restored(call, new.config.data_dir, "Imported", restored)
    return 0


IMPORT_ETCD = Command(
    usage="<filename> --data-dir DIR [options]",
    summary="Makes a member of a new zkv cluster from an etcd snapshot file or database",
    description="""\
The file is what `etcdctl snapshot save` wrote, of etcd 3.x. Run it on every node of the new cluster, with the same file
and the same --initial-cluster; then start them. It is read and checked whole before anything is written.

All keys with all their versions, create and modify revisions, leases (with their full TTL), users with their passwords,
and roles are in the new cluster, compacted where etcd had compacted, with authentication enabled if it was; members
are not.
As with `snapshot restore`, revisions go on behind all that clients can have seen of the old one (--bump-revision), and
watches that would go on from an old revision are told that it was compacted. --bump-revision=0 --mark-compacted=false
goes on with the next revision, and keeps the history readable, as etcd does.

A copy of a stopped member's database (member/snap/db) is imported with --skip-hash-check; it may lack the newest
writes, which are in etcd's log only.""",
    example="""\
etcdctl snapshot save etcd.db
zkv snapshot import-etcd etcd.db --name n1 --data-dir /var/lib/zkv/data \\
  --initial-cluster n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380 \\
  --initial-advertise-peer-urls http://10.0.0.1:2380""",
    run=_import,
    flags=RESTORE_FLAGS,
)


def _export(call: Call) -> int:
    from zkv.ctl.etcd_export import export
    from zkv.snapshot_file import SnapshotReader

    if len(call.arguments) != 2:
        raise CommandError(
            "snapshot export-etcd expects two arguments: a snapshot of zkv, and etcd's to be made", EXIT_BAD_ARGS
        )
    source, path = map(Path, call.arguments)
    part = path.with_name(f"{path.name}.part")
    check_digest = not call.values.is_on("skip-hash-check")
    with explained(source, "export"), source.open("rb") as file:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "r+b") as out, Progress(0, "", "exporting") as bar:
                done = export(SnapshotReader(file, check_digest=check_digest), out, bar.show)
                out.flush()
                os.fsync(out.fileno())
            part.rename(path)
            sync_directory(path.parent)
        finally:
            part.unlink(missing_ok=True)
    what = f"revision {done.revision}, {done.changes} changes, {done.leases} leases, {done.users} users"
    call.out.write(f"Exported {path}: {what}\n".encode())
    return 0


EXPORT_ETCD = Command(
    usage="<snapshot> <etcd-snapshot>",
    summary="Makes an etcd snapshot file of a zkv snapshot: the way back to etcd",
    description="""\
Of what `zkv snapshot save`, or `etcdctl snapshot save` of zkv's, wrote, it makes what etcd 3.5's own tools read:
`etcdutl snapshot status`, and on every node of a new etcd cluster `etcdutl snapshot restore`.

All keys with all their versions and revisions, leases (with their full TTL), users with their passwords, and roles are
in it, compacted where zkv had compacted. A password of more than 72 bytes is to be set anew in etcd.""",
    example="""\
zkv snapshot save backup.zkv
zkv snapshot export-etcd backup.zkv etcd.db
etcdutl snapshot status etcd.db -w table
etcdutl snapshot restore etcd.db --data-dir /var/lib/etcd""",
    run=_export,
    flags=(switch("skip-hash-check", "do not check the digest of the zkv snapshot"),),
)
