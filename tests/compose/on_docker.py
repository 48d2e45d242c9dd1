"""`docker compose up` as a user does it: three members in containers, and what they survive.

`make test-compose` runs this, where a Docker engine answers. It builds the image of this tree, brings the cluster up
under a project name and ports of its own, and takes it away again, volumes and all.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import zkv
from tests.harness.processes import wait_until
from tests.harness.writers import Writers
from zkv.testing import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NAMES = ("n1", "n2", "n3")
UP_S = 120


class Compose:
    """One project of compose.yaml."""

    def __init__(self) -> None:
        ports = free_ports(6)
        self.ports = ports[:3]
        wanted = [f"ZKV_{door}PORT_{name.upper()}" for door in ("", "ETCD_") for name in NAMES]
        published = {name: str(port) for name, port in zip(wanted, ports, strict=True)}
        self._environment = {**os.environ, **published, "COMPOSE_PROJECT_NAME": f"zkv-test-{secrets.token_hex(4)}"}

    def __call__(self, *words: str) -> str:
        """`docker compose WORDS`; what it printed."""
        return self.docker("compose", *words)

    def docker(self, *words: str) -> str:
        done = subprocess.run(
            ["docker", *words],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"docker {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def container(self, name: str) -> str:
        return self("ps", "-aq", name)

    def client(self) -> zkv.Client:
        return zkv.Client([f"tcp://127.0.0.1:{port}" for port in self.ports])

    def up(self) -> None:
        self("up", "-d", "--wait", "--wait-timeout", str(UP_S))

    def health(self, name: str) -> str:
        return self.docker("inspect", "-f", "{{.State.Health.Status}}", self.container(name))

    def leader(self) -> str:
        """The name of the member that leads."""
        with self.client() as kv:
            leader = kv.status().leader
            return next(member.name for member in kv.members().members if member.id == leader)


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    project = Compose()
    try:
        project("build", "-q")
        project.up()
        yield project
    finally:
        project("down", "-v", "--remove-orphans")


def test_it_serves_at_the_published_ports(compose: Compose) -> None:
    with compose.client() as kv:
        kv.put("hello", "world")
        assert [member.name for member in sorted(kv.members().members, key=lambda each: each.name)] == list(NAMES)
    for name in NAMES:
        inside = compose("exec", "-T", name, "zkv", "get", "hello", "--print-value-only")
        assert inside == "world"


def test_a_container_needs_no_root_and_no_writable_image(compose: Compose) -> None:
    """What it writes lies in its volume."""
    for name in NAMES:
        [state] = json.loads(compose.docker("inspect", compose.container(name)))
        assert state["HostConfig"]["ReadonlyRootfs"]
        assert compose("exec", "-T", name, "id", "-u") != "0"


def test_a_member_that_is_killed_is_missed_by_nobody(compose: Compose) -> None:
    """`docker kill` of the leader: writes go on, and it catches up when it is started."""
    with Writers(compose.client, count=2) as writers:
        writers.wait_for(20)
        victim = compose.leader()
        compose("kill", victim)
        writers.wait_for(50)
        compose("start", victim)
        wait_until(lambda: compose.health(victim) == "healthy", "it serves again", timeout_s=60)
        writers.wait_for(20)
    finish(compose, writers)


def test_a_member_that_stands_still_is_missed_by_nobody(compose: Compose) -> None:
    """`docker pause` of the leader: it keeps its connections and says nothing."""
    with Writers(compose.client, count=2) as writers:
        writers.wait_for(20)
        victim = compose.leader()
        compose("pause", victim)
        writers.wait_for(50)
        compose("unpause", victim)
        writers.wait_for(20)
    finish(compose, writers)


def test_a_member_cut_off_is_missed_by_nobody(compose: Compose) -> None:
    """The network of one container is taken away, and given back."""
    with Writers(compose.client, count=2) as writers:
        writers.wait_for(20)
        victim = compose.leader()
        container = compose.container(victim)
        networks = compose.docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", container)
        [network] = json.loads(networks)
        compose.docker("network", "disconnect", network, container)
        writers.wait_for(50)
        compose.docker("network", "connect", "--alias", victim, network, container)
        wait_until(lambda: compose.health(victim) == "healthy", "it serves again", timeout_s=60)
        writers.wait_for(20)
    finish(compose, writers)


def test_what_was_written_is_there_after_down_and_up(compose: Compose) -> None:
    with compose.client() as kv:
        revision = kv.put("kept", "value").revision
    compose("down")
    compose.up()
    with compose.client() as kv:
        kept = kv.get("kept")
        assert kept is not None
        assert (kept.value, kept.mod_revision) == (b"value", revision)


def test_it_stops_when_told_to(compose: Compose) -> None:
    """SIGTERM reaches the supervisor, and a member leaves cleanly within its grace period."""
    name = next(name for name in NAMES if name != compose.leader())
    compose("stop", name)
    [state] = json.loads(compose.docker("inspect", compose.container(name)))
    assert state["State"]["ExitCode"] == 0
    assert re.search(r"\bstopped\b", compose("logs", "--no-color", name))
    compose("start", name)


def finish(compose: Compose, writers: Writers) -> None:
    """Nothing acknowledged is lost; the keys make room for the next test's."""
    writers.verdict().assert_clean()
    with compose.client() as kv:
        kv.delete(prefix="w/")
