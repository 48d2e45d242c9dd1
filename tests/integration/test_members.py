"""The membership of a live cluster changes, with clients writing all the while."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.harness.ctl import Step, play_zkv
from tests.harness.processes import wait_until
from tests.harness.writers import Writers
from zkv.errors import BadLeaderTransferee, MemberNotFound, PeerUrlExists, UnhealthyCluster, ZkvError
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

    from zkv.wire.messages import Member


def members(cluster: LocalCluster) -> dict[str, Member]:
    with cluster.client() as kv:
        return {member.name: member for member in kv.members().members}


def member(cluster: LocalCluster, number: int) -> Member:
    """A member tells its name once it serves, so it may serve before all know it."""
    name = f"n{number + 1}"
    wait_until(lambda: name in members(cluster), f"all know {name}")
    return members(cluster)[name]


def all_vote(cluster: LocalCluster) -> bool:
    return not any(member.is_learner for member in members(cluster).values())


def check(cluster: LocalCluster, writers: Writers) -> None:
    """Nothing was lost, and no write failed for good. Leaves room for further writers."""
    verdict = writers.verdict()
    verdict.assert_clean()
    assert not verdict.errors
    with cluster.client() as kv:
        kv.delete(prefix="w/")


def remove(cluster: LocalCluster, number: int) -> None:
    """Remove a member, and see its server end by itself."""
    with cluster.client() as kv:
        kv.member_remove(member(cluster, number).id, timeout=20)
    assert cluster.wait_exit(number) != 0
    assert "permanently removed" in cluster.log(number)


def test_a_cluster_grows_and_shrinks_under_writes() -> None:
    """1 -> 3 -> 5 -> 3, the first one (which led) among those that go; nothing acknowledged is lost."""
    with LocalCluster(1) as cluster, Writers(cluster.client, count=2) as writers:
        for _ in range(4):
            cluster.add()
            wait_until(lambda: all_vote(cluster), "the new member votes")
            writers.wait_for(20)
        writers.stop()  # they know the endpoint of the first member only
        check(cluster, writers)
        with Writers(cluster.client, count=2) as others:
            others.wait_for(20)
            remove(cluster, 0)
            others.wait_for(20)
            remove(cluster, 1)
            others.wait_for(20)
        check(cluster, others)
        assert sorted(members(cluster)) == ["n3", "n4", "n5"]


def test_every_member_is_replaced_one_after_the_other_under_writes() -> None:
    """No write fails in a way that the client could not retry."""
    with LocalCluster(3, curve=True) as cluster:
        for number in range(3):
            with Writers(cluster.client, count=2) as writers:
                writers.wait_for(20)
                cluster.add()
                wait_until(lambda: all_vote(cluster), "the new member votes")
                remove(cluster, number)
                writers.wait_for(20)
            check(cluster, writers)
        assert sorted(members(cluster)) == ["n4", "n5", "n6"]


def test_a_member_that_never_comes_costs_no_quorum() -> None:
    """etcd counts it as a voter at once: with one more member down, it would stand still."""
    with LocalCluster(3) as cluster, Writers(cluster.client, count=1) as writers, cluster.client() as kv:
        added = kv.member_add(["http://127.0.0.1:1"]).member
        follower = next(number for number in range(3) if number != cluster.leader())
        cluster.kill(follower)
        writers.wait_for(20)
        cluster.start(follower)
        kv.member_remove(added.id)
        assert added.id not in {member.id for member in kv.members().members}


def test_what_would_cost_the_quorum_is_refused() -> None:
    with LocalCluster(3) as cluster, cluster.client() as kv:
        known = members(cluster)
        follower = next(number for number in range(3) if number != cluster.leader())
        healthy = next(number for number in range(3) if number not in {follower, cluster.leader()})
        cluster.kill(follower)

        def refused() -> bool:
            try:
                kv.member_add(["http://127.0.0.1:2"])
            except UnhealthyCluster:
                return True
            kv.member_remove(next(m.id for m in kv.members().members if not m.name))
            return False

        wait_until(refused, "the member that is down is noticed")
        with pytest.raises(UnhealthyCluster):
            kv.member_remove(known[f"n{healthy + 1}"].id)
        kv.member_remove(known[f"n{follower + 1}"].id)
        with pytest.raises(MemberNotFound):
            kv.member_remove(known[f"n{follower + 1}"].id)
        with pytest.raises(PeerUrlExists):
            kv.member_add(known[f"n{healthy + 1}"].peer_urls)


def test_the_leadership_moves_to_whom_one_names() -> None:
    """Asked at any member."""
    with LocalCluster(3) as cluster, cluster.client() as kv:
        known = members(cluster)
        for number in range(3):
            kv.move_leader(known[f"n{number + 1}"].id)
            assert cluster.leader() == number
        with pytest.raises(BadLeaderTransferee):
            kv.move_leader(1234)


def test_a_learner_stays_one_until_it_is_promoted() -> None:
    with LocalCluster(1) as cluster, cluster.client() as kv:
        kv.put("a", "1")
        number = cluster.add(learner=True)
        learner = member(cluster, number)
        assert learner.is_learner
        wait_until(lambda: cluster.revision(number) == 2, "it has caught up")

        def promoted() -> bool:
            try:
                kv.member_promote(learner.id)
            except ZkvError:
                return False
            return True

        wait_until(promoted, "it may be promoted")
        wait_until(lambda: all_vote(cluster), "it votes")


def test_one_that_joined_and_lost_its_data_is_refused(tmp_path: Path) -> None:
    with LocalCluster(1, data_dir=tmp_path) as cluster:
        number = cluster.add()
        wait_until(lambda: all_vote(cluster), "the new member votes")
        cluster.add()
        wait_until(lambda: all_vote(cluster), "the new member votes")
        cluster.kill(number)
        shutil.rmtree(tmp_path / f"n{number + 1}")
        cluster.start(number, wait=False)
        assert cluster.wait_exit(number) != 0
        assert "has already been bootstrapped" in cluster.log(number)


def test_the_commands_say_what_etcdctls_say() -> None:
    """The environment they print starts the member."""
    with LocalCluster(1) as cluster:
        where = cluster.endpoints[0]
        added = play_zkv(where, Step("member add n9 --peer-urls=http://127.0.0.1:4 --learner"))
        first, empty, *environment = added.stdout.splitlines()
        member = first.split()[1]
        assert first.startswith(f"Member {member} added to cluster ")
        assert (added.code, empty) == (0, "")
        own = members(cluster)["n1"].peer_urls[0]
        assert environment == [
            'ZKV_NAME="n9"',
            f'ZKV_INITIAL_CLUSTER="n1={own},n9=http://127.0.0.1:4"',
            'ZKV_INITIAL_ADVERTISE_PEER_URLS="http://127.0.0.1:4"',
            'ZKV_INITIAL_CLUSTER_STATE="existing"',
        ]
        for line, words in (
            (f"member update {member} --peer-urls=http://127.0.0.1:5", "updated in"),
            (f"member remove {member}", "removed from"),
        ):
            done = play_zkv(where, Step(line))
            assert done.stdout.startswith(f"Member {member} {words} cluster "), done.stderr
        for line, code, error in (
            ("member promote 1234", 1, "Error: etcdserver: member not found"),
            ("member remove zz", 128, 'Error: bad member ID arg (strconv.ParseUint: parsing "zz": invalid syntax)'),
            ("member add x", 128, "Error: member peer urls not provided"),
            (f"member add x --peer-urls={own}", 1, "Error: etcdserver: Peer URLs already exists"),
            ("member add x --peer-urls=nonsense", 1, "Error: etcdserver: given member URLs are invalid"),
            ("move-leader", 128, "Error: move-leader command needs 1 argument"),
            ("move-leader 1234", 1, "Error: etcdserver: bad leader transferee"),
            (f"member remove {members(cluster)['n1'].id:x}", 1, "Error: etcdserver: re-configuration failed"),
        ):
            refused = play_zkv(where, Step(line))
            assert (refused.code, refused.stderr[: len(error)]) == (code, error)


def test_what_is_left_of_a_cluster_goes_on_alone(tmp_path: Path) -> None:
    """--force-new-cluster: two of three are lost for good; the third has all that was acknowledged, and grows again."""
    with LocalCluster(3, data_dir=tmp_path, curve=True) as cluster:
        with Writers(cluster.client, count=2) as writers:
            writers.wait_for(100)
        with cluster.client() as kv:
            last = kv.put("last", "word").revision
        survivor = cluster.leader()
        others = [number for number in range(3) if number != survivor]
        for number in (*others, survivor):
            cluster.kill(number)
        cluster.member_arguments[survivor] = ["--force-new-cluster"]
        cluster.start(survivor)
        writers.verdict().assert_clean()
        with cluster.client() as kv:
            assert [member.name for member in kv.members().members] == [f"n{survivor + 1}"]
            record = kv.get("last")
            assert record is not None
            assert record.mod_revision == last
        del cluster.member_arguments[survivor]
        cluster.stop(survivor)
        cluster.start(survivor)
        cluster.start(others[0], wait=False)
        assert cluster.wait_exit(others[0]) != 0
        assert "permanently removed" in cluster.log(others[0])
        cluster.add()
        wait_until(lambda: all_vote(cluster) and len(members(cluster)) == 2, "a new member votes")
