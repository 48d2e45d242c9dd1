"""`zkv check perf` and `check datascale` on real members, with a short load in place of etcd's minute."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.harness.ctl import Step, play_zkv
from tests.harness.processes import wait_until
from zkv.ctl import check
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    import zkv


@pytest.fixture(autouse=True)
def short_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(check.PERF, "s", check.Perf(rate=100, clients=5, seconds=2))
    monkeypatch.setitem(check.SCALE, "s", check.Scale(keys=500, clients=5))


@contextlib.contextmanager
def cluster_of(nodes: int) -> Iterator[tuple[LocalCluster, str, zkv.Client]]:
    with LocalCluster(nodes) as cluster, cluster.client() as kv:
        yield cluster, ",".join(cluster.endpoints), kv


def test_checks_put_a_load_on_the_cluster_judge_it_and_leave_nothing_behind() -> None:
    """How well this machine does is not claimed, but that the verdict and the exit code agree."""
    with cluster_of(3) as (_, everywhere, kv):
        kv.put("/zkv-check-perf", "not below the prefix")
        perf = play_zkv(everywhere, Step("check perf --auto-compact --auto-defrag"))
        lines = perf.stdout.splitlines()
        assert lines[0].startswith("Compacting with revision ")
        assert lines[1] == lines[0].replace("Compacting", "Compacted")
        assert [line.split()[0] for line in lines[2:8]] == ["Defragmenting", "Defragmented"] * 3
        throughput, slowest, stddev, verdict = lines[8:]
        assert (perf.code, perf.stderr) == (0 if verdict == "PASS" else 1, "")
        assert "hroughput" in throughput
        assert "lowest request took" in slowest
        assert "tddev" in stddev
        scale = play_zkv(everywhere, Step("check datascale --prefix /x/"))
        first, last = scale.stdout.splitlines()
        assert scale.code == 0, scale.stderr
        assert first.startswith("Start data scale check for work load [500 key-value pairs, 1024 bytes per key-value, ")
        assert last.startswith("PASS: Approximate system memory used : ")
        assert kv.status().header.revision > 600
        assert [record.key for record in kv.range(prefix="/")] == [b"/zkv-check-perf"]


def test_what_cannot_be_checked_is_told_in_one_line_and_left_alone() -> None:
    with cluster_of(1) as (_, everywhere, kv):
        for name in ("perf", "datascale"):
            kv.put(f"/zkv-check-{name}/mine", "x")
            taken = play_zkv(everywhere, Step(f"check {name}"))
            assert (taken.code, taken.stdout) == (3, "")
            assert taken.stderr.startswith(f'Error: prefix "/zkv-check-{name}/" has keys. Delete with ')
            unknown = play_zkv(everywhere, Step(f"check {name} --load nonsense"))
            assert (unknown.code, unknown.stderr) == (4, "Error: unknown load option nonsense\n")
            empty = play_zkv(everywhere, Step(f"check {name} --prefix ''"))
            assert (empty.code, "must not be empty" in empty.stderr) == (3, True)
            nobody = play_zkv("127.0.0.1:1", Step(f"--dial-timeout 200ms check {name}"))
            assert (nobody.code, "no connection" in nobody.stderr) == (1, True)
        assert kv.count(prefix="/zkv-check-") == 2


def test_a_check_that_is_interrupted_deletes_what_it_wrote() -> None:
    with cluster_of(1) as (_, everywhere, kv):
        with subprocess.Popen(
            [sys.executable, "-m", "zkv", "check", "perf", "--endpoints", everywhere],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ},
        ) as process:  # fmt: skip
            try:
                wait_until(lambda: kv.count(prefix="/zkv-check-perf/") > 20, "it writes")
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == 130
            finally:
                process.kill()
        assert kv.count(prefix="/zkv-check-perf/") == 0


def test_where_users_are_asked_who_they_are_root_may_look_and_check() -> None:
    """The password is checked once, whatever the number of connections; who is not named, or may not, is refused."""
    with cluster_of(1) as (_, everywhere, _kv):
        for line in ("user add root:pw", "user grant-role root root", "user add joe:pw", "auth enable"):
            assert play_zkv(everywhere, Step(line)).code == 0
        for line in (
            "check datascale",
            "check perf",
            "top --once --interval 200ms",
            "benchmark put --total 5 --clients 2",
        ):
            for user, refusal in (("", "user name is empty"), ("--user joe:pw", "permission denied")):
                refused = play_zkv(everywhere, Step(f"{line} {user}"))
                assert (refused.code, refusal in refused.stdout + refused.stderr) == (1, True), refused
            allowed = play_zkv(everywhere, Step(f"{line} --user root:pw"))
            assert (allowed.code, "ERROR" in allowed.stdout) == (0, False) or line == "check perf", allowed
