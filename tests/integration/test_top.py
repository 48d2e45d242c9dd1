"""`zkv top` on real members: its numbers, and a member that goes away and comes back; on a terminal, too."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import sys
import termios
import time
from typing import TYPE_CHECKING, Any

from tests.harness.ctl import Step, play_zkv
from tests.harness.writers import Writers
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Sequence

ACTORS = {"gateway", "grpc", "lease", "raft", "storage", "watch"}


def top(endpoints: Sequence[str], options: str = "") -> tuple[int, dict[str, Any]]:
    done = play_zkv(",".join(endpoints), Step(f"top --once --interval 500ms -w json {options}"))
    return done.code, json.loads(done.stdout)


def test_members_are_shown_at_work_and_gone() -> None:
    with LocalCluster(3, etcd_api=True) as cluster:
        leader = cluster.leader()
        victim = next(number for number in range(3) if number != leader)
        with Writers(cluster.client, count=2) as writers:
            writers.wait_for(20)
            code, told = top(cluster.endpoints)
            members = {member["name"]: member for member in told["members"]}
            assert (code, sorted(members)) == (0, ["n1", "n2", "n3"])
            assert [name for name, member in members.items() if member["leads"]] == [f"n{leader + 1}"]
            assert sum(member["writes"] for member in members.values()) > 0
            assert told["prefixes"][0]["prefix"].startswith("w/")
            for member in members.values():
                assert {actor["actor"] for actor in member["actors"]} >= ACTORS
                assert all(actor["memory"] > 1_000_000 for actor in member["actors"])
                assert (member["error"], member["fsync"]["count"] > 0, member["cpu"] > 0) == ("", True, True)
            cluster.kill(victim)
            code, told = top(cluster.endpoints)
            by_endpoint = {member["endpoint"]: member for member in told["members"]}
            assert code == 1
            assert by_endpoint[cluster.endpoints[victim]]["error"]
            assert by_endpoint[cluster.endpoints[leader]]["revision"] > 1
            cluster.start(victim)
            code, told = top([cluster.endpoints[leader]], "--cluster")
            assert (code, len(told["members"])) == (0, 3)
        text = play_zkv(",".join(cluster.endpoints), Step("top --once --interval 200ms"))
        assert (text.code, f"3 of 3 up  led by n{leader + 1}" in text.stdout) == (0, True)
        _assert_lives_on_a_terminal(cluster)


def _assert_lives_on_a_terminal(cluster: LocalCluster) -> None:
    """It draws frame after frame, ends at `q`, and leaves the terminal as it was."""
    main, other = pty.openpty()
    before = termios.tcgetattr(other)
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "zkv", "top", "--interval", "200ms", "--endpoints", ",".join(cluster.endpoints)],
        {**os.environ, "TERM": "xterm", "COLUMNS": "140", "LINES": "40"},
        file_actions=[(os.POSIX_SPAWN_DUP2, other, number) for number in (0, 1, 2)],
    )
    drawn = b""
    try:
        deadline = time.monotonic() + 30
        while drawn.count(b"zkv top") < 3:
            assert time.monotonic() < deadline, drawn
            if select.select([main], [], [], 0.2)[0]:
                drawn += os.read(main, 65536)
        os.write(main, b"q")
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            assert time.monotonic() < deadline, "it goes on after q"
            if select.select([main], [], [], 0.05)[0]:
                drawn += os.read(main, 65536)
        pid = 0
    finally:
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        after = termios.tcgetattr(other)
        os.close(main)
        os.close(other)
    assert b"no leader" not in drawn
    assert after == before


def test_what_cannot_be_shown_is_told_in_one_line() -> None:
    for line, code in (
        ("top extra", 1),
        ("top --interval 1ms", 1),
        ("top --interval nonsense", 1),
        ("top -w table", 4),
        ("top -w nonsense", 4),
        ("--endpoints nonsense:x:y top --once", 1),
    ):
        done = play_zkv("127.0.0.1:1", Step(line))
        assert (done.code, done.stdout) == (code, ""), done
        assert done.stderr.startswith("Error: ")
    nobody = play_zkv("127.0.0.1:1", Step("top --once --interval 200ms"))
    assert (nobody.code, "0 of 1 up  led by nobody" in nobody.stdout) == (1, True)
