"""`zkv defrag`: of each endpoint, one after the other; or offline, of a stopped member's data directory."""

from __future__ import annotations

from pathlib import Path

from zkv.ctl.command import Call, Command
from zkv.ctl.connection import answer_of
from zkv.ctl.endpoint import CLUSTER, endpoints_of
from zkv.ctl.options import EXIT_ERROR, CommandError, Flag
from zkv.errors import ConfigError, ZkvError
from zkv.wire import messages as m


def _defrag(call: Call) -> int:
    data_dir = call.values.text("data-dir")
    if data_dir:
        return _offline(data_dir)
    failures = 0
    for endpoint in endpoints_of(call):
        with call.connect([endpoint]) as connection:
            [reply] = connection.ask_each([m.Defragment()])
        try:
            answer_of(reply.ticket, m.DefragmentAnswer)
        except ZkvError as error:
            failures += 1
            call.complain(f"Failed to defragment zkv member[{endpoint}] ({error})")
        else:
            call.out.write(f"Finished defragmenting zkv member[{endpoint}]\n".encode())
            call.out.flush()
    return EXIT_ERROR if failures else 0


def _offline(data_dir: str) -> int:
    from zkv.actors import datadir
    from zkv.actors.rocks_engine import RocksEngine

    try:
        with datadir.stopped(data_dir) as member_dir:
            engine = RocksEngine(Path(member_dir) / "snap" / "db", create=False)
            try:
                engine.defragment()
                engine.flush()
            finally:
                engine.close()
    except (ConfigError, OSError) as error:
        text = error.detail if isinstance(error, ConfigError) else error.strerror or str(error)
        raise CommandError(f"Failed to defragment zkv data[{data_dir}] ({text})") from None
    return 0


DEFRAG = Command(
    usage="[options]",
    summary="Defragments the storage of the zkv members with given endpoints",
    description="""\
Gives back to the disk what deleted and compacted revisions still take. A member goes on serving meanwhile.
With --data-dir it is done to the data of a member that does not run.""",
    example="""\
zkv defrag --endpoints 10.0.0.1:2378 --command-timeout 5m
zkv defrag --cluster
zkv defrag --data-dir /var/lib/zkv/data""",
    run=_defrag,
    flags=(CLUSTER, Flag("data-dir", "text", "", "defragments a data directory not in use by zkv", file=True)),
)
