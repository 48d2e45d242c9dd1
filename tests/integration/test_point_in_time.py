"""A directory that follows a cluster, and clusters made of it as it was at any revision or time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import zkv
from tests.harness.ctl import Step, play_zkv
from tests.harness.processes import wait_until
from tests.harness.writers import Writers
from zkv.ctl.connection import Connection
from zkv.ctl.options import GLOBAL_FLAGS, parse
from zkv.errors import Compacted
from zkv.testing import LocalCluster, free_ports
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def following(cluster: LocalCluster, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "zkv", "snapshot", "stream", "--to", str(directory)]
    with (directory.parent / "stream.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--endpoints", ",".join(cluster.endpoints)], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def log_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("log-*"))


def is_cut(cluster: LocalCluster) -> bool:
    """Does the first member no longer keep the log's first entry?"""
    values, _ = parse([], GLOBAL_FLAGS, {})
    with Connection(cluster.endpoints[:1], values) as connection:
        try:
            connection.ask(m.Log(1), m.LogPart)
        except Compacted:
            return True
    return False


def once(cluster: LocalCluster, directory: Path, options: str = "") -> None:
    done = play_zkv(",".join(cluster.endpoints), Step(f"snapshot stream --to {directory} --once {options}"))
    assert done.code == 0, done.stderr


@contextlib.contextmanager
def restored(directory: Path, home: Path, options: str = "") -> Iterator[zkv.Client]:
    """A cluster of one, made of it."""
    home.mkdir()
    ports = free_ports(2)
    (home / "ports").write_text(" ".join(map(str, ports)))
    url = f"tcp://127.0.0.1:{ports[1]}"
    done = play_zkv(
        "",
        Step(
            f"snapshot restore {directory} --name n1 --data-dir {home}/n1 --initial-cluster n1={url} "
            f"--initial-advertise-peer-urls {url} {options}"
        ),
    )
    assert done.code == 0, done.stderr
    with LocalCluster(1, data_dir=home) as cluster, cluster.client() as kv:
        yield kv


def content(kv: zkv.Client, revision: int = 0) -> dict[bytes, tuple[bytes, int, int]]:
    return {each.key: (each.value, each.mod_revision, each.version) for each in kv.range(prefix="", revision=revision)}


def test_any_revision_can_be_restored_of_what_was_followed_under_writes_and_kills(tmp_path: Path) -> None:
    """The follower is killed, and so is the leader; what is restored is to the byte what was there at that revision."""
    directory = tmp_path / "stream"
    with LocalCluster(3) as cluster, cluster.client() as kv, Writers(cluster.client, count=3) as writers:
        lease = kv.grant(600).id
        kv.put("leased", "1", lease=lease)
        writers.wait_for(50)
        with following(cluster, directory) as first:
            wait_until(lambda: any(directory.glob("base-*")), "there is a base")
            writers.wait_for(50)
            first.kill()
        cluster.kill(cluster.leader())
        writers.wait_for(50)
        kv.txn().then(*[zkv.put(f"t{number}", "1") for number in range(10)]).commit()
        aim = kv.put("aim", "1").revision
        kv.delete("leased")
        kv.delete(prefix="w/0/")
        before = log_bytes(directory)
        with following(cluster, directory) as second:
            wait_until(lambda: log_bytes(directory) > before, "it goes on")
            writers.wait_for(50)
            writers.stop()
            last = kv.put("last", "1").revision
            then = content(kv, aim)
            assert len(then) > 100
            second.send_signal(signal.SIGTERM)
            assert second.wait(10) == 0
        once(cluster, directory)
        now = content(kv)
    with restored(directory, tmp_path / "aim", f"--to-revision {aim}") as kv:
        assert content(kv) == then
        assert kv.put("x", "1").revision > last
        assert kv.time_to_live(lease).ttl > 0
    with restored(directory, tmp_path / "newest", "--bump-revision 0 --mark-compacted=false") as kv:
        assert content(kv) == now
        assert content(kv, aim) == then


def test_a_time_can_be_restored_and_what_is_not_there_is_told(tmp_path: Path) -> None:
    directory = tmp_path / "stream"
    with LocalCluster(1) as cluster, cluster.client() as kv:
        before = time.time()
        kv.put("a", "1")
        once(cluster, directory)
        with following(cluster, directory):
            kv.put("a", "2")
            between = time.time() + 2
            wait_until(lambda: time.time() > between + 2, "both are seconds away, also on a busy machine")
            last = kv.put("a", "3").revision
        once(cluster, directory)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(between)) + f".{int(between % 1 * 1000):03d}Z"
    with restored(directory, tmp_path / "then", f"--to-time {moment}") as kv:
        record = kv.get("a")
        assert record is not None
        assert record.value == b"2"
    early = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before - 5))
    for options, said in (
        (f"--to-time {early}", "begins with revision 2 at "),
        (f"--to-revision {last + 1}", f"ends at revision {last}, before {last + 1}"),
        ("--to-revision 1", "begins with revision 2 at "),
    ):
        refused = play_zkv("", Step(f"snapshot restore {directory} --data-dir {tmp_path}/no {options}"))
        assert (refused.code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
        assert said in refused.stderr
    for options, said in (
        ("--to-time yesterday", "--to-time must be a time like"),
        ("--to-revision 1 --to-time 2030-01-31T12:00:00Z", "one of --to-revision and --to-time"),
    ):
        refused = play_zkv("", Step(f"snapshot restore {directory} --data-dir {tmp_path}/no {options}"))
        assert (refused.code, said in refused.stderr) == (128, True)
    newest = max(directory.glob("log-*"))
    data = newest.read_bytes()
    newest.write_bytes(data[:60] + bytes((data[60] ^ 1,)) + data[61:])
    refused = play_zkv("", Step(f"snapshot restore {directory} --data-dir {tmp_path}/no"))
    assert (refused.code, "a record is damaged" in refused.stderr) == (1, True)
    assert not [path for path in tmp_path.iterdir() if "no" in path.name.split(".")]


def test_after_a_gap_it_goes_on_from_another_base(tmp_path: Path) -> None:
    """The log is cut where storage is durable, as after a stop; what lies before the gap and behind can be restored."""
    directory = tmp_path / "stream"
    with LocalCluster(1, arguments=["--snapshot-count=1"]) as cluster, cluster.client() as kv:
        once(cluster, directory)
        before = kv.put("a", "1").revision
        once(cluster, directory)
        lost = [kv.put("a", "2").revision for _ in range(20)][9]
        cluster.stop(0)
        cluster.start(0)
        kv.put("a", "3")
        wait_until(lambda: is_cut(cluster), "the log is cut")
        done = play_zkv(cluster.endpoints[0], Step(f"snapshot stream --to {directory} --once"))
        assert (done.code, "is not kept any more: saving another base" in done.stderr) == (0, True)
        kv.put("a", "4")
        once(cluster, directory)
    for home, options, value in (("before", f"--to-revision {before}", b"1"), ("newest", "", b"4")):
        with restored(directory, tmp_path / home, options) as kv:
            record = kv.get("a")
            assert record is not None
            assert record.value == value
    refused = play_zkv("", Step(f"snapshot restore {directory} --data-dir {tmp_path}/no --to-revision {lost}"))
    assert (refused.code, "lacks entries" in refused.stderr) == (1, True)


def test_what_is_older_than_has_to_be_kept_goes_once_a_newer_base_needs_it_no_more(tmp_path: Path) -> None:
    """Two bases are left, and what lies between and behind them; before them nothing can be restored."""
    directory = tmp_path / "stream"
    with LocalCluster(1) as cluster, cluster.client() as kv:
        revisions = []
        for number in range(4):
            revisions.append(kv.put("a", str(number)).revision)
            once(cluster, directory, "--keep 1ms")
        held = sorted(path.name for path in directory.glob("*-*"))
        assert [name.partition("-")[0] for name in held] == ["base", "base", "log"]
        once(cluster, directory, "--keep 1h")
        assert sorted(path.name for path in directory.glob("*-*")) == held
    for revision, code in zip(revisions, (1, 1, 0, 0), strict=True):
        home = tmp_path / str(revision)
        done = play_zkv("", Step(f"snapshot restore {directory} --data-dir {home} --to-revision {revision}"))
        assert (done.code, f"as it was at revision {revision}" in done.stdout) == (code, not code), done.stderr
    refused = play_zkv("", Step(f"snapshot stream --to {directory} --keep=-1s"))
    assert (refused.code, refused.stderr) == (128, "Error: --keep must not be negative\n")


def test_what_cannot_be_followed_is_told_in_a_line(tmp_path: Path) -> None:
    """Nobody there, another cluster's directory, one in use, no directory at all."""
    directory = tmp_path / "stream"
    with LocalCluster(1) as cluster, LocalCluster(1) as another:
        with following(cluster, directory):
            wait_until(lambda: any(directory.glob("log-*.zkv")), "it follows")
            used = play_zkv(cluster.endpoints[0], Step(f"snapshot stream --to {directory} --once"))
        foreign = play_zkv(another.endpoints[0], Step(f"snapshot stream --to {directory} --once"))
    away = play_zkv(cluster.endpoints[0], Step(f"snapshot stream --to {tmp_path}/new --once --dial-timeout 300ms"))
    (tmp_path / "file").write_text("")
    none = play_zkv("", Step("snapshot stream --once"))
    for refused, said in (
        (used, "is in use by another process"),
        (foreign, "follows cluster"),
        (away, "no connection within"),
        (none, "snapshot stream needs --to DIR"),
    ):
        assert refused.code != 0
        assert refused.stdout == ""
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert not os.path.exists(tmp_path / "new")
