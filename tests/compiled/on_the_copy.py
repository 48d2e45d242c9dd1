"""`make test-compiled`: what is asked of the compiled copy beside its tests: that it is one, and differs in nothing.

A member that holds other data than the others is the worst there can be, and members of both kinds may well be in one
cluster: while it is upgraded, or where one machine has no compiler. Started in the copy's directory, which stands for
the compiled kind; the tree beside it, for the interpreted one.
"""

from __future__ import annotations

import importlib
import itertools
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
from tests.harness.processes import wait_until
from tests.harness.source_tree import ROOT, compiled_modules
from tests.harness.writers import Writers
from tests.unit.core.mvcc.test_hostile_log import hostile_group
from zkv.errors import CorruptionError
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


# What would keep the writers from writing, where a group of it is sound: policies, users, alarms, and who is a member.
MEDDLING = {
    op for op in m.Op if op.name.startswith(("QUOTA", "AUTH", "USER", "ROLE", "LOGIN", "ALARM", "FENCE", "MEMBER"))
}


def meddles(payload: bytes) -> bool:
    try:
        return not MEDDLING.isdisjoint([op for _, op, _ in codec.unpack(payload)[4]])
    except (CorruptionError, LookupError, TypeError, ValueError):  # no group, which is not tried
        return False


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
        """Past all doors, into the logs of all, by whichever member takes it; again, if there was nobody to take it."""
        before = self._held()

        def are_in_all() -> bool:
            self._propose_hostile(chance)
            return all(now > then for now, then in zip(self._held(), before, strict=True))

        wait_until(are_in_all, "hostile groups are in every member's log")

    def _propose_hostile(self, chance: Random) -> None:
        with zmq.Context() as context, context.socket(zmq.PUSH) as raft:
            raft.immediate, raft.linger = True, 5_000
            for path in self._sockets.rglob("raft.sock"):
                raft.connect(f"ipc://{path}")
            groups = [hostile_group(chance) for _ in range(HOSTILE_GROUPS)]
            for each in itertools.filterfalse(meddles, groups):
                frame = codec.pack(m.Frame(NOBODY, 1, ((GID, each),)))
                raft.send(codec.encode(m.Propose(frame)))

    def _held(self) -> list[int]:
        """How many of them lie in each member's log."""
        logs = [(self._home / f"n{number + 1}" / "member" / "wal").iterdir() for number in range(self.nodes)]
        return [sum(path.read_bytes().count(codec.pack(GID)) for path in log) for log in logs]


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
    assert cluster.kinds() == [False, True, False]
    same_on_all(cluster)
    assert play_zkv(cluster.endpoints[0], Step("alarm list")).stdout == ""
