"""`make test-compiled`: what is asked of the compiled copy beside its tests: that it is one, and differs in nothing.

A member that holds other data than the others is the worst there can be, and members of both kinds may well be in one
cluster: while it is upgraded, or where one machine has no compiler. Started in the copy's directory, which stands for
the compiled kind; the tree beside it, for the interpreted one.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
import zmq

from tests.harness.agreement import same_on_all
from tests.harness.ctl import Step, play_zkv
from tests.harness.source_tree import ROOT, compiled_modules
from tests.harness.writers import Writers
from tests.unit.core.mvcc.test_hostile_log import hostile_group
from zkv.testing import LocalCluster
from zkv.version import is_compiled
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Iterator

COPY = Path.cwd()
SEEDS = 300
WRITES = 100
HOSTILE_GROUPS = 200
NOBODY, GID = 7, (1 << 40) + 12345  # who asks for them: no member that there is, so nobody is answered


def environment(home: Path) -> dict[str, str]:
    """To import zkv from there, whatever the working directory."""
    return {**os.environ, "PYTHONPATH": str(home), "PYTHONSAFEPATH": "1"}


class Mixed(LocalCluster):
    """Members 0 and 2 are compiled at first, member 1 is not; `flip` makes the other kind of one."""

    def __init__(self) -> None:
        super().__init__(nodes=3)
        self.homes = [COPY, ROOT, COPY]

    def _command(self, number: int) -> list[str]:
        return ["env", f"PYTHONPATH={self.homes[number]}", "PYTHONSAFEPATH=1", *super()._command(number)]

    def flip(self, number: int) -> None:
        self.kill(number)
        self.homes[number] = ROOT if self.homes[number] == COPY else COPY
        self.start(number)

    def kinds(self) -> list[bool]:
        """Which members said that they are compiled, when they were started last."""
        logs = [self._log_path(number).read_text().splitlines() for number in range(self.nodes)]
        starts = [[json.loads(line) for line in log if '"event": "starting"' in line] for log in logs]
        return [lines[-1]["compiled"] for lines in starts]

    def log_hostile(self, chance: Random) -> None:
        """Past all doors, into the log, by whichever member takes it."""
        with zmq.Context() as context, context.socket(zmq.PUSH) as raft:
            raft.immediate, raft.linger = True, 5_000
            for path in self._sockets.rglob("raft.sock"):
                raft.connect(f"ipc://{path}")
            for _ in range(HOSTILE_GROUPS):
                frame = codec.pack(m.Frame(NOBODY, 1, ((GID, hostile_group(chance)),)))
                raft.send(codec.encode(m.Propose(frame)))

    def logs(self) -> Iterator[bytes]:
        """What lies on disk of each member's log."""
        for number in range(self.nodes):
            files = (self._home / f"n{number + 1}" / "member" / "wal").iterdir()
            yield b"".join(path.read_bytes() for path in files)


@pytest.fixture
def cluster() -> Iterator[Mixed]:
    with Mixed() as cluster:
        yield cluster


@pytest.mark.parametrize("name", compiled_modules())
def test_what_is_to_be_compiled_is(name: str) -> None:
    assert not str(importlib.import_module(name).__file__).endswith(".py")


def test_both_kinds_make_the_same_of_any_log() -> None:
    """Answers and data, to the byte, of logs that hold what no door lets through."""
    command = [sys.executable, "-m", "tests.compiled.log_play", "0", str(SEEDS)]
    plays = [
        subprocess.run(command, env=environment(home), check=True, capture_output=True, text=True).stdout.splitlines()
        for home in (COPY, ROOT)
    ]
    assert [play.pop(0) for play in plays] == ["compiled", "interpreted"]
    assert len(plays[0]) == SEEDS
    assert plays[0] == plays[1]


def test_members_of_both_kinds_hold_the_same(cluster: Mixed) -> None:
    """Under writes, and with anything in the log; each is killed in turn, and comes back as one of the other kind."""
    assert is_compiled()
    chance = Random(1)
    with Writers(cluster.client) as writers:
        for number in range(cluster.nodes):
            writers.wait_for(WRITES)
            cluster.log_hostile(chance)
            cluster.flip(number)
        cluster.log_hostile(chance)
        writers.wait_for(WRITES)
    writers.verdict().assert_clean()
    assert cluster.kinds() == [False, True, False]
    same_on_all(cluster)
    assert all(log.count(codec.pack(GID)) > HOSTILE_GROUPS for log in cluster.logs())
    assert play_zkv(cluster.endpoints[0], Step("alarm list")).stdout == ""
