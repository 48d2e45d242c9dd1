"""`zkv backup`: of a member that does not run, as `etcdutl backup`."""

from __future__ import annotations

from zkv.ctl.command import Call, Command
from zkv.ctl.lasting import INTERRUPTED, ended_by_signals
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, Flag
from zkv.ctl.progress import Progress
from zkv.errors import ConfigError, CorruptionError, DiskError


def _backup(call: Call) -> int:
    from zkv.actors import recover

    data_dir, backup_dir = call.values.text("data-dir"), call.values.text("backup-dir")
    for flag, value in (("data-dir", data_dir), ("backup-dir", backup_dir)):
        if not value:
            raise CommandError(f"backup needs --{flag}", EXIT_BAD_ARGS)
    printer = call.printer("told")
    try:
        with ended_by_signals(INTERRUPTED), Progress(0, "B", "backing up") as bar:
            made = recover.back_up(data_dir, backup_dir, progress=bar.show)
    except ConfigError as error:
        raise CommandError(error.detail) from None
    except (CorruptionError, DiskError) as error:
        raise CommandError(f"{data_dir} is damaged: {error.detail}") from None
    except OSError as error:
        raise CommandError(f"could not back up {data_dir} to {backup_dir}: {error.strerror or error}") from None
    printer.told(
        [f"Backed up {data_dir} to {backup_dir}: {made.pairs} records, revision {made.revision}"],
        {
            "dataDir": data_dir,
            "backupDir": backup_dir,
            "clusterID": made.cluster_id,
            "memberID": made.member_id,
            "records": made.pairs,
            "revision": made.revision,
        },
    )
    return 0


BACKUP = Command(
    usage="--data-dir DIR --backup-dir DIR",
    summary="Backs up the data directory of a member that does not run",
    description="""\
Makes a data directory that holds what the member's store and log do, all of it read through and checked. As with etcd,
it has ids of its own, so that a server started on it is a cluster of one, and never takes part in the old one.
Or restore from its member/snap/db, with `zkv snapshot restore --skip-hash-check`. Of a member that runs:
`zkv snapshot save`.""",
    example="zkv backup --data-dir n1.zkv --backup-dir /backup/n1.zkv",
    run=_backup,
    flags=(
        Flag("backup-dir", "text", "", "path to the backup dir, which is made", file=True),
        Flag("data-dir", "text", "", "path to the data dir of the member", file=True),
    ),
)
