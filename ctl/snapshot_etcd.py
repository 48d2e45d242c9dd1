"""`zkv snapshot import-etcd`: a new cluster made of what an etcd held."""

from __future__ import annotations

from zkv.ctl.command import Call, Command
from zkv.ctl.progress import Progress
from zkv.ctl.snapshot import RESTORE_FLAGS, explained, new_cluster, one_file, tell_restored


def _import(call: Call) -> int:
    from zkv.actors.import_etcd import import_etcd
    from zkv.ctl.etcd_snapshot import EtcdSnapshot

    path = one_file(call, "import-etcd")
    with explained(path, "import"), path.open("rb") as file:
        new = new_cluster(call.values)
        with Progress(2 * path.stat().st_size, "B", "checking") as bar:
            source = EtcdSnapshot(file.fileno(), check_digest=new.check_digest, progress=bar.show)
        with Progress(source.change_count, "", "importing") as bar:
            restored = import_etcd(
                source, new.config, bump=new.bump, mark_compacted=new.mark_compacted, progress=bar.show
            )
    tell_restored(call, new.config.data_dir, "Imported", restored)
    if source.has_auth:
        call.complain(
            "Warning: auth is enabled in this snapshot, and its users and roles were not imported: "
            "whoever reaches the new cluster may read and write all of it"
        )
    return 0


IMPORT_ETCD = Command(
    usage="<filename> --data-dir DIR [options]",
    summary="Makes a member of a new zkv cluster from an etcd snapshot file or database",
    description="""\
The file is what `etcdctl snapshot save` wrote, of etcd 3.x. Run it on every node of the new cluster, with the same file
and the same --initial-cluster; then start them. It is read and checked whole before anything is written.

All keys with all their versions, create and modify revisions, and leases (with their full TTL) are in the new
cluster, compacted where etcd had compacted; members are not, nor users and roles.
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
