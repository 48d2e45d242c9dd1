"""Commands that last, on three members: what etcdctl does not do, or cannot."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.harness.lasting import Player, Running
from tests.harness.processes import signal_beside, wait_until
from zkv.ctl.main import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED
from zkv.testing import LocalCluster, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3) as found:
        yield found


@pytest.fixture
def player(cluster: LocalCluster, tmp_path: Path) -> Iterator[Player]:
    with Player.of_zkv(",".join(cluster.endpoints), tmp_path / "zkv") as found:
        yield found


def piped(player: Player, line: str) -> tuple[Running, int]:
    """A command, and the end of a pipe from which its output is to be read."""
    reader, writer = os.pipe()
    running = player.start(line, writer)
    os.close(writer)
    return running, reader


def test_they_outlive_the_leader(tmp_path: Path) -> None:
    """A watch tells each event once and in order, whoever has led in between; what is held is held on."""
    with LocalCluster(nodes=3) as cluster, Player.of_zkv(",".join(cluster.endpoints), tmp_path / "zkv") as player:
        lease = player.do("lease grant 30").stdout.split()[1]
        watch = player.start(f"watch --prefix live/ --rev {player.revision()}")
        keeping = player.start(f"lease keep-alive {lease}").wait_for("keepalived")
        observer = player.start("elect chief -l")
        leader = player.start("elect chief me").wait_for("me")
        lock = player.start("lock live --ttl 3").wait_for("live/")
        observer.wait_for("me")
        player.do("put live/0 0")
        watch.wait_for("live/0")
        for _ in range(2):
            lost = cluster.leader()
            cluster.kill(lost)
            for at in range(1, 6):
                assert player.do(f"put live/{at} {at}").code == 0
            cluster.start(lost)
        watch.wait_for("live/5", 2)
        told = [line for line in watch.stdout.splitlines() if line.startswith("live/") and len(line) == 6]
        assert told == [f"live/{at}" for at in (0, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5)]
        for running in (watch, observer, keeping, leader, lock):
            assert running.process.poll() is None
            assert not running.stderr
        assert watch.end().code == EXIT_INTERRUPTED
        assert (lock.end().code, leader.end().code, observer.end().code) == (0, 0, 0)
        assert not player.keys_below("chief/")


def test_a_lock_is_free_again_after_its_holder_was_killed(player: Player) -> None:
    """By `kill -9`: once its TTL has passed, the next in line has it."""
    holder = player.start("lock killed --ttl 2").wait_for("killed/")
    waiting = player.start("lock killed -- echo mine")
    wait_until(lambda: len(player.keys_below("killed/")) == 2, "the second one waits")
    assert not waiting.stdout
    holder.end(signal.SIGKILL)
    assert waiting.ended()[:1] == ("mine\n",)
    assert not player.keys_below("killed/")


def test_who_is_interrupted_in_the_line_leaves_it(player: Player) -> None:
    """For locks and elections, by each signal."""
    player.start("lock line").wait_for("line/")
    player.start("elect line2 first").wait_for("line2/")
    for line, prefix in (("lock line", "line/"), ("elect line2 second", "line2/")):
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            waiting = player.start(line)
            wait_until(lambda prefix=prefix: len(player.keys_below(prefix)) == 2, "it waits")  # type: ignore[misc]
            assert waiting.end(signum)[1:] == ("Error: context canceled\n", 1)
            assert len(player.keys_below(prefix)) == 1


def test_signals_that_were_ignored_before_are_ignored_still(player: Player) -> None:
    """As `nohup` has it, and shells that start a command in the background; the command of a lock finds them so too."""
    player.before = ("sh", "-c", 'trap "" HUP; exec "$@"', "-")
    lock = player.start("lock hung").wait_for("hung/")
    nested = player.start("lock hung-up -- sh -c 'kill -HUP $$; kill -HUP $PPID; echo here'").ended()
    lock.process.send_signal(signal.SIGHUP)
    assert nested == ("here\n", "", 0)
    assert player.keys_below("hung/")
    assert lock.end(signal.SIGTERM).code == 0


def test_a_command_is_told_when_its_lock_is_lost(player: Player) -> None:
    """By SIGTERM; what it then does is its own affair, and the exit code says that it was not alone."""
    command = "sh -c 'trap \"echo told; exit 0\" TERM; echo begun; while :; do sleep 0.1; done'"
    running = player.start(f"lock lost --ttl 2 -- {command}").wait_for("begun")
    (key,) = player.keys_below("lost/")
    player.do(f"lease revoke {key.rpartition('/')[2]}")
    outcome = running.ended()
    assert outcome.stdout == "begun\ntold\n"
    assert (outcome.stderr, outcome.code) == ("Error: session expired, and the command was told to end\n", 1)


def test_a_signal_goes_on_to_the_command(player: Player) -> None:
    """SIGTERM ends the command first, then the lock, whichever thread it hits; Ctrl-C, which a terminal sends to both,
    waits for it."""
    command = "sh -c 'trap \"echo told; exit 3\" TERM; echo begun; while :; do sleep 0.1; done'"
    running = player.start(f"lock passed -- {command}").wait_for("begun")
    running.process.send_signal(signal.SIGINT)
    signal_beside(running.process.pid, signal.SIGTERM)
    assert running.ended() == ("begun\ntold\n", "Error: exit status 3\n", 3)
    assert not player.keys_below("passed/")


def test_locks_can_be_nested(cluster: LocalCluster, player: Player) -> None:
    """The command finds its own lock's key, whatever its caller's was; and a token that grows."""
    endpoints = ",".join(cluster.endpoints)
    inner = f"{sys.executable} -m zkv.ctl.main lock nest/inner -- sh -c 'echo $ZKV_LOCK_KEY $ZKV_LOCK_REV'"
    outer = f"lock nest/outer -- sh -c 'echo $ZKV_LOCK_KEY $ZKV_LOCK_REV; exec \"$@\"' - {inner}"
    first, second = player.run(outer, ZKV_ENDPOINTS=endpoints, ZKV_LOCK_KEY="mine").stdout.splitlines()
    assert (first.partition("/")[2][:6], second.partition("/")[2][:6]) == ("outer/", "inner/")
    assert int(first.split()[1]) < int(second.split()[1])


def test_an_event_is_found_in_the_environment(player: Player) -> None:
    """Quoted as etcd quotes it: text on one line, whatever the bytes. A watch begun in there is not misled by it."""
    inner = f"{sys.executable} -m zkv.ctl.main --endpoints 127.0.0.1:1 watch"
    names = ("EVENT_TYPE", "REVISION", "KEY", "VALUE")
    told = 'printf "%s\\n" ' + " ".join(f'"$ZKV_WATCH_{name}"' for name in names)
    revision = player.revision() + 1
    running = player.start(f"watch told --rev {revision} -- sh -c '{told}; {inner}'")
    player.do("put told 'a\x01\n\"b\"'")
    assert running.ended().code == 1
    assert running.stdout.splitlines() == [
        *("PUT", "told", "a\x01", '"b"'),
        *('"PUT"', str(revision), '"told"', r'"a\x01\n\"b\""'),
    ]
    assert running.stderr.startswith("Error: bad number of arguments: a key, ")


def test_who_stops_reading_ends_the_command(player: Player) -> None:
    """Though there is nothing more to print: a watch ends, an observer, and a lock is released."""
    watch, watched = piped(player, "watch quiet")
    observer, observed = piped(player, "elect quiet -l")
    lock, shown = piped(player, "lock quiet")
    assert os.read(shown, 100).startswith(b"quiet/")
    for end in (watched, observed, shown):
        os.close(end)
    for running in (watch, observer, lock):
        outcome = running.ended()
        assert (outcome.stderr, outcome.code) == ("", EXIT_BROKEN_PIPE)
    assert not player.keys_below("quiet")


def test_a_failing_command_ends_interactive_mode(player: Player) -> None:
    """Also when its line is not the last one, and nothing more is typed."""
    running = player.start("watch -i").say("watch typed --rev 1 -- false")
    player.do("put typed 1")
    outcome = running.ended()
    assert (outcome.code, outcome.stderr) == (1, 'command ["false"] error (exit status 1)\n')


def test_a_put_with_a_ttl_lives_so_long(player: Player) -> None:
    """As `put --ttl`, also within a txn; `touch` lets it live on."""
    lease = player.do("put brief 1 --ttl 2 -w json").stdout
    assert '"lease":' in lease
    assert player.do("txn '' 'put briefer 1 --ttl 1'").stdout == "SUCCESS\n\nOK\n"
    touched = player.do("touch brief")
    assert (touched.code, touched.stdout.endswith("keepalived with TTL(2)\n")) == (0, True)
    wait_until(lambda: not player.keys_below("brief"), "both are gone")
    assert player.do("touch brief").stderr == "Error: etcdserver: key not found\n"
    player.do("put plain 1")
    assert player.do("touch plain").stderr.startswith("Error: etcdserver: requested lease not found")
    assert player.do("touch").code == 128


@pytest.mark.parametrize("words", ["--ttl 5 --lease 12", "--ttl 5 --ignore-lease", "--ttl -5", "--ttl x"])
def test_a_ttl_beside_a_lease_is_refused(player: Player, words: str) -> None:
    outcome = player.do(f"put refused 1 {words}")
    assert outcome.code in {1, 128}
    assert not player.keys_below("refused")


@pytest.mark.parametrize("line", ["watch a", "watch -i", "lock a", "elect a b", "elect a -l", "lease keep-alive 1"])
def test_nobody_at_the_endpoint_is_told_at_once(tmp_path: Path, line: str) -> None:
    """After the dial timeout, in one line."""
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    with Player.of_zkv(nobody, tmp_path / "zkv") as player:
        outcome = player.run(f"--dial-timeout 200ms {line}")
    assert outcome.code == 1
    assert outcome.stderr.startswith(
        f"Error: context deadline exceeded: no connection within 200ms to tcp://{nobody}: is"
    )
    assert not outcome.stdout
