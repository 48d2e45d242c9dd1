"""The `zkv` command on real sockets, with a gateway of a few lines behind them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.integration.test_clients import FakeGateway
from tests.unit.client.fake_cluster import FakeCluster
from zkv.ctl.command import Streams
from zkv.ctl.main import EXIT_BROKEN_PIPE, run
from zkv.testing import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def zkv(endpoint: str, *arguments: str, stdin: bytes = b"", out: IO[bytes] | None = None) -> Outcome:
    shown, err = io.BytesIO(), io.BytesIO()
    code = run(arguments, Streams(io.BytesIO(stdin), out or shown, err), {"ZKV_ENDPOINTS": endpoint})
    return Outcome(code, shown.getvalue().decode(), err.getvalue().decode())


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(chunk_keys=10)


@pytest.fixture
def gateway(cluster: FakeCluster) -> Iterator[FakeGateway]:
    found = FakeGateway(cluster)
    yield found
    found.close()


@pytest.fixture
def nobody() -> str:
    """An endpoint where nothing listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"


def fill(gateway: FakeGateway, keys: int) -> None:
    for at in range(keys):
        assert zkv(gateway.endpoint, "put", f"k{at:03}", "v").out == "OK\n"


def test_a_range_is_printed_as_its_chunks_come(gateway: FakeGateway) -> None:
    """More chunks than the server sends unasked, in every format that can show them."""
    fill(gateway, 95)
    assert zkv(gateway.endpoint, "get", "--prefix", "k").out == "".join(f"k{at:03}\nv\n" for at in range(95))
    found = json.loads(zkv(gateway.endpoint, "get", "--prefix", "k", "-w", "json").out)
    assert (len(found["kvs"]), found["count"], "more" in found) == (95, 95, False)
    assert zkv(gateway.endpoint, "get", "k", "l", "-w", "fields").out.count('"Key" : ') == 95
    assert json.loads(zkv(gateway.endpoint, "get", "k", "l", "--limit", "42", "-w", "json").out)["more"] is True


def test_who_stops_reading_ends_the_command(gateway: FakeGateway) -> None:
    """As `zkv get --prefix k | head -1` does: no trouble is told, and the exit code is that of a broken pipe."""

    class Pipe(io.BytesIO):
        def write(self, data: object) -> int:
            raise BrokenPipeError

    fill(gateway, 25)
    outcome = zkv(gateway.endpoint, "get", "--prefix", "k", out=Pipe())
    assert (outcome.code, outcome.err) == (EXIT_BROKEN_PIPE, "")


def test_the_program_itself(gateway: FakeGateway) -> None:
    """`python -m zkv`: output is complete, the exit code is the command's, and a closed pipe stays unmentioned."""

    def program(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "zkv", *arguments],
            input=b"from stdin",
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, "ZKV_ENDPOINTS": gateway.endpoint},
            check=False,
        )

    assert program("put", "a").stdout == b"OK\n"
    assert program("get", "a").stdout == b"a\nfrom stdin\n"
    failed = program("get")
    assert (failed.returncode, failed.stdout) == (128, b"")
    assert failed.stderr.startswith(b"Error: get command needs")
    reader, writer = os.pipe()
    os.close(reader)
    broken = program("get", "a", stdout=writer)
    os.close(writer)
    assert (broken.returncode, broken.stderr) == (EXIT_BROKEN_PIPE, b"")


def test_a_put_finds_the_endpoint_that_is_there(gateway: FakeGateway, cluster: FakeCluster, nobody: str) -> None:
    """Whichever of the endpoints it is."""
    assert zkv(f"{nobody},{gateway.endpoint}", "put", "a", "1").code == 0
    assert cluster.kvs[b"a"].value == b"1"


def test_where_nobody_listens_nothing_was_applied(nobody: str) -> None:
    """So the error says where it looked, and nothing of a write that may have happened."""
    outcome = zkv(nobody, "put", "a", "1", "--dial-timeout", "50ms")
    assert outcome.code == 1
    assert outcome.err.startswith(f"Error: context deadline exceeded: no connection within 50ms to {nobody}")
    assert "applied" not in outcome.err


def test_a_write_without_an_answer_may_have_been_applied(gateway: FakeGateway, cluster: FakeCluster) -> None:
    """And the error says so; a read's does not."""
    cluster.handle = lambda *_: []  # type: ignore[method-assign] # it takes, and says nothing
    write = zkv(gateway.endpoint, "put", "a", "1", "--command-timeout", "100ms")
    assert write.code == 1
    assert write.err.startswith("Error: context deadline exceeded")
    assert write.err.endswith("(it may have been applied all the same)\n")
    assert "applied" not in zkv(gateway.endpoint, "get", "a", "--command-timeout", "100ms").err


def test_each_endpoint_is_asked_for_itself(gateway: FakeGateway, nobody: str) -> None:
    """One's trouble is told on stderr and in the exit code; the other's health is printed."""
    outcome = zkv(f"{gateway.endpoint},{nobody}", "endpoint", "health", "--dial-timeout", "100ms")
    assert outcome.code == 1
    assert outcome.out.startswith(f"{gateway.endpoint} is healthy: successfully committed proposal: took = ")
    unhealthy, error = outcome.err.splitlines()
    assert unhealthy.startswith(f"{nobody} is unhealthy: failed to commit proposal: context deadline exceeded")
    assert error == "Error: unhealthy cluster"


def test_keys_made_by_the_command_open_a_curve_door(cluster: FakeCluster, tmp_path: Path) -> None:
    """`zkv keys`, then a server with one pair and the command with the other; without keys it is refused."""
    assert zkv("", "keys", "--dir", str(tmp_path), "server", "alice").code == 0
    gateway = FakeGateway(cluster, tmp_path / "server.key_secret")
    try:
        server, alice = str(tmp_path / "server.key"), str(tmp_path / "alice.key_secret")
        keys = ("--curve-server-key", server, "--curve-key", alice)
        assert zkv(gateway.endpoint, "put", "a", "1", *keys).out == "OK\n"
        assert zkv(gateway.endpoint, "get", "a", "--curve-server-key", server).out == "a\n1\n"
        assert "--curve-server-key" in zkv(gateway.endpoint, "get", "a").err
        strange = zkv(gateway.endpoint, "get", "a", "--curve-server-key", alice, "--dial-timeout", "100ms")
        assert "with --curve-server-key's key" in strange.err
    finally:
        gateway.close()
