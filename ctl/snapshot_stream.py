"""`zkv snapshot stream`: a directory that holds the store as it was once, and every entry of the log since.

It asks for what was committed, twice a second, and as fast as it can while it is behind; whichever endpoint answers.
While a base is being saved, the log is followed, too, so that nothing is missing between them. Where the cluster no
longer keeps the entry that is wanted next, because this ran too seldom, another base is saved behind the gap.

Told how long to keep what it holds, it saves another base whenever the newest is as old as that, and removes what lies
before the newest base that is: so all of that time can be restored, and at most twice as much is there.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from zkv.ctl.command import Call, Command
from zkv.ctl.lasting import Ended, ended_by_signals
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, Flag, switch
from zkv.ctl.progress import Progress
from zkv.errors import ClientError, Compacted, ConfigError, CorruptionError, RetryableError, ZkvError
from zkv.files import Steady, sync_directory, unhurried
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.ctl.connection import Connection
    from zkv.stream_file import StreamWriter

POLL_S = 0.5
OFFSETS_KEPT = 60
"""Answers; half a minute's where nothing much is written."""


def _stream(call: Call) -> int:
    directory = call.values.text("to")
    if call.arguments or not directory:
        raise CommandError("snapshot stream needs --to DIR, and nothing else", EXIT_BAD_ARGS)
    keep = call.values.number("keep") // 1_000_000
    if keep < 0:
        raise CommandError("--keep must not be negative", EXIT_BAD_ARGS)
    follower = None
    try:
        with ended_by_signals(), call.connect() as connection:
            header, _ = connection.ask(m.Log(), m.LogPart)
            from zkv.stream_file import StreamWriter

            with StreamWriter(Path(directory), header.cluster_id) as writer, Progress(0, "B", "following") as bar:
                follower = _Follower(call, connection, writer, bar, keep)
                with contextlib.suppress(Ended):  # what is written is whole
                    follower.run(once=call.values.is_on("once"))
    except OSError as error:
        raise CommandError(f"could not write to {directory}: {error.strerror or error}") from None
    except (ConfigError, CorruptionError) as error:
        raise CommandError(error.detail) from None
    assert follower is not None
    call.out.write(f"{directory} holds the log up to entry {follower.upto}\n".encode())
    return 0


class _Follower:
    """`upto`: the newest entry that the directory holds. `keep_ms`: how far back it has to go; 0: all the way."""

    def __init__(self, call: Call, connection: Connection, writer: StreamWriter, bar: Progress, keep_ms: int) -> None:
        self._call = call
        self._connection = connection
        self._writer = writer
        self._bar = bar
        self._keep_ms = keep_ms
        self._written = 0
        self._cut_off = False
        # From the cluster's clock to ours: the answer that took the least time to come says it best.
        self._offsets: deque[int] = deque(maxlen=OFFSETS_KEPT)

    @property
    def upto(self) -> int:
        return self._writer.next_index - 1

    def run(self, *, once: bool) -> None:
        """Until a signal comes; `once`: until all is there that is committed now."""
        goal = self._connection.ask(m.Log(), m.LogPart)[1].commit
        self._compare()
        if not self._writer.has_base:
            self._begin_anew()
        while True:
            began = time.monotonic()
            behind = self._turn()
            if once and self.upto >= goal:
                return
            if not behind:
                time.sleep(max(0.0, POLL_S - (time.monotonic() - began)))

    def _turn(self) -> bool:
        """Take what is new, leave what is too old; is there more?"""
        try:
            behind = self._follow()
            if self._keep_ms:
                self._forget()
        except (RetryableError, ClientError) as error:
            self._complain(error)
            return False
        except Compacted:
            self._call.complain(f"entry {self._writer.next_index} is not kept any more: saving another base")
            self._begin_anew()
            return True
        return behind

    def _follow(self) -> bool:
        """Ask once, and keep what comes; is there more? Raises ZkvError, OSError."""
        from zkv.stream_file import Record

        _, part = self._connection.ask(m.Log(self._writer.next_index), m.LogPart)
        self._offsets.append(time.time_ns() // 1_000_000 - part.time)
        if self._cut_off:
            self._cut_off = False
            self._call.complain("the cluster answers again")
            self._compare()
        if part.entries:
            self._written += self._writer.append(Record(part.time + min(self._offsets), part.time, part.entries))
            self._bar.show(self._written)
        return self.upto < part.commit

    def _compare(self) -> None:
        """Is the newest entry that is held the cluster's? It is not where a part of the cluster went on alone.

        Raises ZkvError, ConfigError.
        """
        held = self._writer.last_entry
        if not held:
            return
        try:
            _, part = self._connection.ask(m.Log(self.upto), m.LogPart)
        except Compacted:
            return  # a base will be saved
        if part.entries and part.entries[0] != held:
            raise ConfigError(
                f"{self._writer.directory} holds another entry {self.upto} than the cluster, which was made anew since "
                "(--force-new-cluster, recover): follow it into another directory"
            )

    def _complain(self, error: ZkvError) -> None:
        """Once for each time that the cluster is not there."""
        if not self._cut_off:
            self._cut_off = True
            self._call.complain(f"no answer, asking on: {error}")

    def _forget(self) -> None:
        """Remove what is older than has to be kept, as far as a base behind it allows. Raises ZkvError, OSError."""
        from zkv.stream_file import bases, superseded

        directory = self._writer.directory
        wall = time.time_ns() // 1_000_000 - self._keep_ms
        if bases(directory)[-1].wall <= wall:
            self._save_base()
        for path in superseded(directory, wall):
            path.unlink()

    def _begin_anew(self) -> None:
        """What lies before is not there, or not kept any more. Raises ZkvError, OSError."""
        self._writer.skip_to(self._connection.ask(m.Log(), m.LogPart)[1].commit + 1)
        self._save_base()

    def _save_base(self) -> None:
        """Of the first endpoint that gives one. Raises ZkvError, OSError."""
        from zkv.stream_file import base_name

        part = self._writer.directory / "base.part"
        endpoints = len(self._connection.endpoints)
        for endpoint in range(endpoints):
            try:
                index, wall = self._download(part, endpoint)
                while self.upto < index:  # whoever goes on behind the base must find nothing missing before it
                    self._follow()
                part.rename(self._writer.directory / base_name(index, wall))
                sync_directory(self._writer.directory)
            except ZkvError:
                if endpoint + 1 == endpoints:
                    raise
            else:
                return
            finally:
                part.unlink(missing_ok=True)

    def _download(self, part: Path, endpoint: int) -> tuple[int, int]:
        """The entry that the store has applied, and when it was so (Unix ms). The log is followed meanwhile."""
        from zkv.core.mvcc.layout import PLACE, Place
        from zkv.snapshot_file import SnapshotWriter
        from zkv.wire.codec import unpack

        header, chunks = self._connection.snapshot(sessions=True, endpoint=endpoint)
        wall = time.time_ns() // 1_000_000
        place: Place | None = None
        follow_at = 0.0
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            steady = Steady(file)
            writer = SnapshotWriter(steady)
            for chunk in unhurried(chunks):
                writer.add(chunk.pairs)
                for key, value in chunk.pairs:
                    if key == PLACE:
                        place = Place(*unpack(value))
                self._bar.show(self._written + writer.bytes)
                if time.monotonic() >= follow_at and not self._follow():
                    follow_at = time.monotonic() + POLL_S
            if place is None:
                raise CorruptionError("the store that was sent does not say where it stands")
            writer.end(cluster_id=header.cluster_id, member_id=header.member_id, revision=place.revision)
            steady.sync()
        self._written += writer.bytes
        return place.applied, wall


STREAM = Command(
    usage="--to DIR",
    summary="Follows the cluster into a directory, of which any point in time can be restored",
    description="""\
Keeps a base (a snapshot) and every committed entry of the log since, current to the second. It can be stopped or killed
at any moment and goes on where it was; it goes on when members fail, and saves another base where it was away for
longer than the cluster keeps its log. `zkv snapshot restore DIR --to-revision N` (or --to-time T) makes a cluster of
it.
With --keep 168h at least the last week can be restored, and what lies more than two weeks back is removed: another base
is saved each week.""",
    example="""\
zkv snapshot stream --to /backup/zkv --endpoints 10.0.0.1:2378,10.0.0.2:2378,10.0.0.3:2378
zkv snapshot stream --to /backup/zkv --once --keep 168h""",
    run=_stream,
    flags=(
        Flag("keep", "duration", "0s", "remove what is older, once a newer base needs it no more [0: nothing]"),
        switch("once", "end when all is there that was committed at the start"),
        Flag("to", "text", "", "the directory, made where there is none", file=True),
    ),
)
