"""Damaged and differing data are found, fenced, never served, and made good, with clients writing all the while."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.harness.agreement import same_on_all
from tests.harness.ctl import Step, play_zkv
from tests.harness.damage import change_current, change_value, change_version, flip_last_frame, flip_log, flip_tables
from tests.harness.processes import alive, wait_until
from tests.harness.writers import Writers
from zkv.actors import datadir, join
from zkv.config import NodeConfig
from zkv.errors import ConfigError, Corrupt
from zkv.testing import LocalCluster, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECOND = ("--experimental-corrupt-check-time=1s",)


def follower(cluster: LocalCluster) -> int:
    return next(number for number in range(cluster.nodes) if number != cluster.leader())


def member_id(cluster: LocalCluster, number: int) -> int:
    with cluster.client() as kv:
        return next(member.id for member in kv.members().members if member.name == f"n{number + 1}")


def alarms(cluster: LocalCluster, number: int) -> str:
    return play_zkv(cluster.endpoints[number], Step("alarm list")).stdout


def refill(cluster: LocalCluster, home: Path, number: int, *, again: bool = False) -> None:
    """As an operator does it; then all is well: a vote, no alarm, the same data everywhere, nothing left over."""
    directory = home / f"n{number + 1}"
    done = play_zkv("", Step(f"member refill --data-dir {directory}"))
    said = f"{directory} will be refilled from the other members when its server is started next\n"
    assert (done.code, done.stdout) == (0, said), done.stderr
    cluster.start(number)
    wait_until(lambda: not (directory / "member" / "refill").exists(), "it counts again")
    wait_until(lambda: not alarms(cluster, number), "the alarm is over")
    with cluster.client() as kv:
        assert not any(member.is_learner for member in kv.members().members)
    same_on_all(cluster)
    wait_until(lambda: not (directory / "member" / "refilled-from").exists(), "what was set aside is gone")
    if again:  # it is a member like any other
        cluster.stop(number)
        cluster.start(number)


def damage_after_a_stop(cluster: LocalCluster, number: int, damage: Callable[[], object]) -> None:
    cluster.stop(number)
    damage()
    cluster.start(number, wait=False)


def assert_fenced(cluster: LocalCluster, number: int, others: Writers) -> None:
    """It has ended and will not start, the alarm names it, and the others go on."""
    member = member_id(cluster, number)
    assert cluster.wait_exit(number, 30) != 0
    assert "holds other data than the majority (alarm CORRUPT)" in cluster.log(number)
    assert alarms(cluster, cluster.leader()) == f"memberID:{member} alarm:CORRUPT \n"
    others.wait_for(20)
    cluster.start(number, wait=False)
    assert cluster.wait_exit(number) != 0
    others.wait_for(5)


def test_a_member_that_differs_is_found_fenced_and_refilled(tmp_path: Path) -> None:
    """By the periodic check; no client is told what it held, and no write fails."""
    with LocalCluster(3, data_dir=tmp_path, arguments=SECOND) as cluster, cluster.client() as kv:
        kv.put("a", "right")
        with Writers(cluster.client, count=2) as writers:
            writers.wait_for(20)
            number = follower(cluster)
            damage_after_a_stop(cluster, number, lambda: change_value(tmp_path / f"n{number + 1}", b"a", b"wrong"))
            assert_fenced(cluster, number, writers)
            refill(cluster, tmp_path, number, again=True)
            writers.wait_for(20)
        verdict = writers.verdict()
        verdict.assert_clean()
        assert not verdict.errors
        record = kv.get("a")
        assert record is not None
        assert record.value == b"right"


def test_a_leader_that_differs_is_fenced_too_and_found_at_the_entry_that_shows_it(tmp_path: Path) -> None:
    """Nobody asked for checks: the entries' digests give it away, and the log of who leads names the entry."""
    with LocalCluster(3, data_dir=tmp_path) as cluster, cluster.client() as kv:
        kv.put("a", "1")
        member_ids = {number: member_id(cluster, number) for number in range(3)}
        number = cluster.leader()
        damage_after_a_stop(cluster, number, lambda: change_version(tmp_path / f"n{number + 1}", b"a"))
        cluster.wait_ready()
        kv.move_leader(member_ids[number], timeout=20)
        with Writers(cluster.client, count=1) as writers:
            writers.wait_for(5)
            kv.put("a", "2")
            assert_fenced(cluster, number, writers)
        assert "an entry has written other data on a member" in cluster.log(number)
        writers.verdict().assert_clean()


def test_a_member_that_differs_is_not_let_in_where_that_is_asked_for(tmp_path: Path) -> None:
    """Also when only what is current is wrong, and history is as everywhere."""
    with (
        LocalCluster(3, data_dir=tmp_path, arguments=["--experimental-initial-corrupt-check"]) as cluster,
        cluster.client() as kv,
    ):
        kv.put("a", "right")
        number = follower(cluster)
        damage_after_a_stop(cluster, number, lambda: change_current(tmp_path / f"n{number + 1}", b"a", b"wrong"))
        assert cluster.wait_exit(number, 30) != 0
        assert "found data inconsistency with peers" in cluster.log(number)
        kv.put("a", "again")


def test_two_that_differ_refuse_as_nobody_knows_who_is_right(tmp_path: Path) -> None:
    """With etcd's error."""
    with LocalCluster(2, data_dir=tmp_path, arguments=SECOND) as cluster, cluster.client() as kv:
        kv.put("a", "right")
        number = follower(cluster)
        damage_after_a_stop(cluster, number, lambda: change_value(tmp_path / f"n{number + 1}", b"a", b"wrong"))
        cluster.wait_ready()

        def refused() -> bool:
            try:
                kv.put("b", "1")
            except Corrupt as error:
                return str(error) == "etcdserver: corrupt cluster"
            return False

        wait_until(refused, "the split is noticed")
        with pytest.raises(Corrupt):
            kv.get("a")
        assert "alarm:CORRUPT" in alarms(cluster, number)


def stops_for_damage(cluster: LocalCluster, number: int) -> None:
    """A table that nobody has read yet may be damaged: so all of it is read."""

    def ended() -> bool:
        play_zkv(
            cluster.endpoints[number], Step("get w/ --prefix --consistency=s --dial-timeout 300ms --command-timeout 1s")
        )
        return not alive(cluster.pid(number))

    wait_until(ended, "the damage is found")
    assert cluster.wait_exit(number) != 0
    log = cluster.log(number)
    assert "node stopped" in log
    assert "Corruption" in log or "cannot be trusted: refill it from the others" in log


def test_flipped_bytes_stop_the_member_and_are_never_served(tmp_path: Path) -> None:
    """In RocksDB's tables, or in the raft log, its very end too: it says so and ends; one command later it is whole."""
    with LocalCluster(3, data_dir=tmp_path) as cluster, Writers(cluster.client, count=2) as writers:
        writers.wait_for(300)
        for damage in (flip_tables, flip_log, flip_last_frame):
            number = follower(cluster)
            damage_after_a_stop(cluster, number, partial(damage, tmp_path / f"n{number + 1}"))
            stops_for_damage(cluster, number)
            writers.wait_for(20)
            refill(cluster, tmp_path, number)
            writers.wait_for(20)  # the next one may be the same: it has something in its log again
        writers.stop()
        verdict = writers.verdict()
        verdict.assert_clean()
        assert not verdict.errors


def test_a_refill_without_the_others_touches_nothing(tmp_path: Path) -> None:
    """And what is no data directory, or in use, is told so."""
    with LocalCluster(1, data_dir=tmp_path) as cluster, cluster.client() as kv:
        kv.put("a", "1")
        for line, said in (
            (f"member refill --data-dir {tmp_path}/nothing", "is no data directory of zkv"),
            (f"member refill --data-dir {tmp_path}/n1", "is in use by another process"),
            ("member refill", "member refill needs --data-dir"),
        ):
            refused = play_zkv("", Step(line))
            assert refused.code != 0
            assert refused.stderr.startswith("Error: ")
            assert said in refused.stderr
            assert refused.stderr.count("\n") == 1
        cluster.stop(0)
        assert play_zkv("", Step(f"member refill --data-dir {tmp_path}/n1")).code == 0
        cluster.start(0, wait=False)
        assert cluster.wait_exit(0) != 0
        assert "nobody to refill this member from" in cluster.log(0)
        (tmp_path / "n1" / "member" / "refill").unlink()
        cluster.start(0)
        assert kv.get("a") is not None


def test_a_refill_waits_where_the_others_do_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for one while the cluster is down has not lost the last good copy by that."""
    monkeypatch.setattr(join, "PATIENCE_MS", 1_000)
    urls = [f"tcp://127.0.0.1:{port}" for port in free_ports(2)]
    config = NodeConfig(
        name="n1",
        data_dir=str(tmp_path / "data"),
        initial_cluster=f"n1={urls[0]},n2={urls[1]}",
        initial_advertise_peer_urls=(urls[0],),
        listen_peer_urls=(urls[0],),
    )
    member = tmp_path / "data" / "member"
    with datadir.opened(config):
        (member / "snap" / "db").write_text("data")
    assert play_zkv("", Step(f"member refill --data-dir {tmp_path}/data")).code == 0
    with pytest.raises(ConfigError, match="its data are left as they are"), datadir.opened(config):
        pass
    assert (member / "snap" / "db").read_text() == "data"
    assert (member / "refill").exists()
    assert not (member / "refilled-from").exists()
