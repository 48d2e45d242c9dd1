"""The command as a whole, without a cluster: finding commands, help, errors, and what is not imported."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import NamedTuple

import pytest

from zkv.ctl.command import Command, Streams
from zkv.ctl.main import COMMANDS, GROUPS, find, load, run
from zkv.ctl.options import GLOBAL_FLAGS, UsageError

OURS = [name for name in COMMANDS if name != "server"]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def zkv(*arguments: str, environment: dict[str, str] | None = None) -> Outcome:
    streams = Streams(io.BytesIO(), io.BytesIO(), io.BytesIO())
    code = run(arguments, streams, environment or {})
    return Outcome(code, streams.out.getvalue().decode(), streams.err.getvalue().decode())  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_documented(name: str) -> None:
    """Its help says what it does, how it is called, what each flag means, and shows an example that names it."""
    command = load(name)
    assert isinstance(command, Command)
    assert command.summary
    assert f"zkv {name}" in command.example or name == "benchmark"
    assert all(flag.help for flag in command.all_flags)
    page = zkv(*name.split(), "--help")
    assert page.code == 0
    for part in (
        command.summary,
        command.usage,
        *command.example.splitlines(),
        *(f"--{flag.name}" for flag in command.all_flags),
    ):
        assert part in page.out


def test_the_server_is_documented() -> None:
    """It is a click command, and found by the same words."""
    page = zkv("help", "server")
    assert page.code == 0
    assert "Example: zkv server" in page.out
    assert "--listen-client-urls" in page.out


@pytest.mark.parametrize("name", OURS)
def test_examples_are_commands_that_can_be_read(name: str) -> None:
    """Every flag in an example is one that the command knows; what stands behind `--` is not its own."""
    command = load(name)
    known = {spelling for flag in command.all_flags for spelling in (f"--{flag.name}", f"-{flag.short}")} | {"--"}
    for line in command.example.splitlines():
        if line.startswith(f"zkv {name}"):
            own = line.partition("|")[0].partition(" -- ")[0]
            flags = {word.partition("=")[0] for word in own.split() if word.startswith("-")}
            assert flags <= known | {word for word in flags if word[1:].isdigit()}


def test_the_overview_names_every_command() -> None:
    """`zkv`, `zkv help` and `zkv --help` show the same page."""
    pages = {zkv(*words).out for words in ((), ("help",), ("--help",), ("-h",))}
    (page,) = pages
    for name in COMMANDS:
        assert f"\t{name} " in page


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_alone_shows_its_commands(group: str) -> None:
    """And nothing of other groups."""
    page = zkv(group)
    assert page.code == 0
    assert all((f"\t{name} " in page.out) == name.startswith(f"{group} ") for name in COMMANDS)


def test_help_of_a_command_is_found_both_ways() -> None:
    """`zkv help member list` is `zkv member list --help`."""
    assert zkv("help", "member", "list") == zkv("member", "list", "--help")


@pytest.mark.parametrize(
    ("words", "name", "rest"),
    [
        ("get a --rev 3", "get", "a --rev 3"),
        ("--endpoints x get a", "get", "--endpoints x a"),
        ("--endpoints=x --hex get a", "get", "--endpoints=x --hex a"),
        ("-w json endpoint status", "endpoint status", "-w json"),
        ("endpoint -w json status", "endpoint status", "-w json"),
        ("member", "member", ""),
        ("compact 5", "compaction", "5"),
        ("get get", "get", "get"),
        ("--hex", "", "--hex"),
        ("-- get", "", "-- get"),
    ],
)
def test_the_command_is_found_among_flags(words: str, name: str, rest: str) -> None:
    """Global flags may stand before it, with their values."""
    assert find(words.split()) == (name, rest.split())


@pytest.mark.parametrize("words", ["bogus", "endpoint bogus", "--hex bogus get"])
def test_an_unknown_command_is_refused(words: str) -> None:
    """Of a group's too."""
    with pytest.raises(UsageError, match='unknown command "bogus"'):
        find(words.split())


@pytest.mark.parametrize(
    ("words", "meant"),
    [("putt a b", "put"), ("endpoint stats", "status"), ("snapsot save x", "snapshot"), ("get a --prefx", "--prefix")],
)
def test_a_typo_is_told_what_was_meant_perhaps(words: str, meant: str) -> None:
    """Of commands, those of groups, and flags; and only what would be right in that place."""
    assert f" (did you mean {meant}?)\n" in zkv(*words.split()).err
    assert "did you mean" not in zkv("xyzzy").err


def test_an_error_is_one_line_on_stderr() -> None:
    """What happened; and for a command line that cannot be read, where to look."""
    assert zkv("get") == Outcome(
        128, "", "Error: get command needs one argument as key and an optional argument as range_end\n"
    )
    assert zkv("get", "a", "--bogus") == Outcome(
        1, "", "Error: unknown flag: --bogus\nRun 'zkv get --help' for usage.\n"
    )
    assert zkv("alarm", "activate").err.endswith("\nRun 'zkv alarm --help' for usage.\n")


@pytest.mark.parametrize("endpoint", ["nonsense", "http://127.0.0.1:2379", "127.0.0.1:port"])
def test_a_bad_endpoint_is_named(endpoint: str) -> None:
    """With the forms that are good ones."""
    outcome = zkv("get", "a", "--endpoints", endpoint)
    assert outcome.code == 1
    assert endpoint in outcome.err
    assert "tcp://host:port" in outcome.err


def test_no_endpoints_at_all() -> None:
    """`--endpoints=` says so, rather than ask nobody."""
    assert zkv("get", "a", "--endpoints=").err.startswith("Error: no endpoints available")


def test_debug_shows_the_flags_in_force() -> None:
    """As the environment variables that would set them."""
    lines = zkv("version", "--debug", environment={"ZKV_HEX": "1"}).err.splitlines()
    assert "ZKV_HEX=true" in lines
    assert "ZKV_COMMAND_TIMEOUT=5s" in lines
    assert len(lines) == len(GLOBAL_FLAGS) - 1  # --help is no setting


def test_keys_without_names_makes_what_a_cluster_needs(tmp_path: object) -> None:
    """A pair for servers, one for a client, one that all members share."""
    made = zkv("keys", "--dir", f"{tmp_path}")
    assert [line.partition(":")[0] for line in made.out.splitlines()] == ["server", "client", "peer"]


def test_keys_makes_pairs_and_overwrites_none(tmp_path: object) -> None:
    """Two files a name; a second time it refuses."""
    first = zkv("keys", "--dir", f"{tmp_path}", "server", "alice")
    assert first.code == 0
    assert [line.split(":")[0] for line in first.out.splitlines()] == ["server", "alice"]
    second = zkv("keys", "--dir", f"{tmp_path}", "alice")
    assert second.code == 1
    assert "exists already" in second.err


def test_a_put_imports_only_what_it_needs() -> None:
    """It costs little more than the Python process it runs in: no parser of command lines, no event loop, no server."""
    program = (
        "import sys, io, zkv.ctl.main as main\n"
        "streams = main.Streams(io.BytesIO(), io.BytesIO(), io.BytesIO())\n"
        "main.run(['put', 'a', '1', '--endpoints', '127.0.0.1:1', '--dial-timeout', '1ms'], streams, {})\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "zkv.ctl.connection" in loaded
    assert not loaded & {
        "asyncio", "click", "cryptography", "dataclasses", "importlib.metadata", "inspect", "logging", "rocksdict",
        "ssl", "structlog", "yaml", "zmq.auth",
        "zkv.client.async_client", "zkv.client.client", "zkv.config", "zkv.ctl.bench", "zkv.ctl.help",
        "zkv.ctl.printer_json", "zkv.ctl.server", "zkv.ctl.txn", "zkv.identity", "zkv.mailbox",
    }  # fmt: skip
