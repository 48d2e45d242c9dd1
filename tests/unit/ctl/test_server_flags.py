"""`zkv server`'s flags, environment and configuration file: which of them counts, and what is refused with one line."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import click
import pytest
import structlog

from tests.harness.ctl import Step, play_zkv
from zkv.config import NodeConfig
from zkv.ctl import server, server_security
from zkv.errors import ConfigError
from zkv.identity import write_keys
from zkv.transport_security import TransportSecurity

if TYPE_CHECKING:
    from pathlib import Path

ETCD_NAMES = {
    "name", "data-dir", "listen-client-urls", "listen-peer-urls", "advertise-client-urls",
    "initial-advertise-peer-urls", "initial-cluster", "initial-cluster-state", "initial-cluster-token",
    "heartbeat-interval", "election-timeout", "snapshot-count", "max-request-bytes", "max-txn-ops", "log-level",
}  # fmt: skip


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PORT_PATIENCE_S", 0.0)


def settled(*arguments: str) -> tuple[NodeConfig, list[str], list[str]]:
    """What a command line (and the environment) comes to."""
    given: dict[str, Any] = dict(server.server.make_context("server", list(arguments)).params)
    assert given.pop("check_config") is False
    return server.settle(given.pop("config_file"), given)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr with which the command ends."""
    with pytest.raises(SystemExit) as ended:
        server.server.main(list(arguments))
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_every_setting_has_a_flag_and_etcds_names_are_kept() -> None:
    assert set(server.FLAGS.values()) == set(NodeConfig.__dataclass_fields__)
    assert set(server.FLAGS) > ETCD_NAMES


@pytest.mark.parametrize("flag", ["--version", "-version"])
def test_the_version_is_told_as_by_etcd(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing is started, whatever else is asked for."""
    with pytest.raises(SystemExit) as ended:
        server.server.main([flag, "--name=", "--heartbeat-interval=0"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == play_zkv("", Step("version")).stdout


def test_no_flag_at_all_is_a_single_node_on_loopback() -> None:
    config, ignored, _ = settled()
    assert config == NodeConfig()
    assert not ignored


def test_a_flag_wins_over_its_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZKV_NAME", "env")
    monkeypatch.setenv("ZKV_HEARTBEAT_INTERVAL", "50")
    config, _, _ = settled("--name", "flag")
    assert (config.name, config.heartbeat_interval) == ("flag", 50)


def test_a_configuration_file_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in etcd: "other configuration command line flags and environment variables will be ignored if provided"."""
    file = tmp_path / "zkv.yaml"
    file.write_text("name: file\nheartbeat-interval: 70\n")
    monkeypatch.setenv("ZKV_SNAPSHOT_COUNT", "7")
    config, ignored, _ = settled("--config-file", str(file), "--name", "flag", "--election-timeout", "5000")
    assert config == NodeConfig(name="file", heartbeat_interval=70)
    assert ignored == ["election-timeout", "name", "snapshot-count"]


def test_an_etcd_configuration_file_serves_with_its_peer_urls_as_given(tmp_path: Path) -> None:
    file = tmp_path / "etcd.yaml"
    file.write_text(
        "name: a\ndata-dir: /var/lib/a\n"
        "listen-peer-urls: http://127.0.0.1:23430, http://[::1]:23430\n"
        "initial-advertise-peer-urls: http://10.0.0.1:23430\n"
        "initial-cluster: a=http://10.0.0.1:23430,b=http://10.0.0.2:23430\n"
        "initial-cluster-state: new\ninitial-cluster-token: tok\nelection-timeout: 2000\n"
    )
    config, _, _ = settled("--config-file", str(file))
    config.check_bootstrap()
    assert config.listen_peer_urls == ("http://127.0.0.1:23430", "http://[::1]:23430")
    assert config.cluster()["b"] == ("http://10.0.0.2:23430",)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("name: a\nbogus: 1\n", "has keys that are not known: bogus"),
        ("heartbeat-interval: fast\n", "--heartbeat-interval must be a number, not 'fast'"),
        ("heartbeat-interval: true\n", "--heartbeat-interval must be a number, not True"),
        ("name: 1\n", "--name must be text, not 1"),
        ("listen-peer-urls: [a, b]\n", "--listen-peer-urls must be text, separated by commas"),
        ("- a\n", "must hold `key: value` lines"),
        ("name: [\n", "is no YAML"),
        ("client-transport-security: yes\n", "client-transport-security must hold"),
        ("client-transport-security:\n  allowed-cn: x\n", "client-transport-security has keys that are not known"),
        ("cert-file: a\nkey-file: b\nclient-transport-security:\n  cert-file: c\n", "says cert-file twice"),
        ("client-transport-security:\n  client-cert-auth: 3\n", "--client-cert-auth must be true or false, not 3"),
        ("cipher-suites: [BAD]\n", 'unexpected TLS cipher suite "BAD"'),
        ("listen-client-urls: tcp://127.0.0.1:23431\n", "--advertise-client-urls is required"),
    ],
)
def test_a_configuration_file_is_refused_with_one_line(
    tmp_path: Path, content: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "zkv.yaml"
    file.write_text(content)
    assert why in refusal(capsys, "--config-file", str(file))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--bogus"], "No such option '--bogus'"),
        (["stray"], "unexpected extra argument"),
        (["--name"], "requires an argument"),
        (["--heartbeat-interval", "x"], "Invalid value for '--heartbeat-interval'"),
        (["--config-file", "/nonexistent"], "cannot be read"),
        (["--storage", "tape"], "--storage must be one of disk, memory"),
        (["--heartbeat-interval", "0"], "--heartbeat-interval must be >0 (set to 0ms)"),
        (
            ["--election-timeout", "300"],
            "--election-timeout[300ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        (["--listen-client-urls", "tcp://127.0.0.1:23431"], "--advertise-client-urls is required when"),
        (["--curve-secret-key", "/nonexistent"], "/nonexistent"),
        (["--cert-file", "/nonexistent", "--key-file", "/nonexistent"], "certificate file /nonexistent cannot be read"),
        (["--listen-peer-urls", "http://192.0.2.1:23431"], "listen tcp 192.0.2.1:23431: bind: cannot assign"),
    ],
)
def test_a_command_line_is_refused_with_one_line(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is made: the default data directory would be here."""
    monkeypatch.chdir(tmp_path)
    assert why in refusal(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--listen-peer-urls", "--listen-client-urls"])
def test_a_port_in_use_is_refused_before_anything_is_made(
    flag: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = [flag, f"tcp://127.0.0.1:{port}", "--advertise-client-urls", "tcp://127.0.0.1:1"]
        assert f"listen tcp 127.0.0.1:{port}: bind: address already in use" in refusal(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_two_fronts_on_one_port_are_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ConfigError, match="address already in use"):
        server.check_ports(NodeConfig(listen_client_urls=(url,), listen_peer_urls=(url,)))


def test_keys_that_will_serve_are_taken(tmp_path: Path) -> None:
    _, secret = write_keys(str(tmp_path), "server")
    server_security.check_files(
        NodeConfig(curve_secret_key=secret, peer_curve_secret_key=secret, curve_allow_dir=str(tmp_path))
    )


def test_help_shows_every_flag_under_etcds_headings() -> None:
    text = server.server.get_help(click.Context(server.server, info_name="zkv server"))
    assert all(f"--{flag}" in text for flag in [*server.FLAGS, "config-file"])
    assert [heading for heading in ("Member:", "Clustering:", "Security:", "Logging:") if heading not in text] == []


def test_settings_can_be_checked_without_starting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check-config` says yes or what is wrong, and touches nothing."""
    where = tmp_path / "data"
    with pytest.raises(SystemExit) as good:
        server.server.main(["--check-config", "--name", "n1", "--data-dir", str(where)])
    assert (good.value.code, capsys.readouterr().out) == (0, "the settings of member n1 can be served\n")
    with pytest.raises(SystemExit) as bad:
        server.server.main(["--check-config", "--name", "n1", "--initial-cluster", "n2=http://a:1"])
    assert (bad.value.code, "n1" in capsys.readouterr().err) == (1, True)
    assert not where.exists()


def test_an_etcd_configuration_file_has_sections_for_certificates(tmp_path: Path) -> None:
    """`client-transport-security`, `peer-transport-security`, and what etcd has outside of them."""
    file = tmp_path / "etcd.yaml"
    file.write_text(
        "client-transport-security:\n  cert-file: c\n  key-file: k\n  client-cert-auth: true\n"
        "  trusted-ca-file: ca\n  auto-tls: false\n  crl-file: crl\n"
        "peer-transport-security:\n  cert-file: pc\n  key-file: pk\n  client-cert-auth: true\n"
        "  trusted-ca-file: pca\n  auto-tls: false\n  allowed-cn: peer\n"
        "self-signed-cert-validity: 1\ntls-min-version: 'TLS1.2'\n"
        "cipher-suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]\n"
    )
    config, _, _ = settled("--config-file", str(file))
    assert config.client_security == TransportSecurity("c", "k", "ca", client_cert_auth=True, crl_file="crl")
    assert config.peer_security == TransportSecurity("pc", "pk", "pca", client_cert_auth=True, allowed_cn="peer")
    assert config.cipher_suites == ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256")


def secured(pki: Path, *more: str) -> list[str]:
    """A command line whose urls are all secure, by the files of `zkv cert init`."""
    return [
        "--listen-client-urls", "https://127.0.0.1:23441,curve://127.0.0.1:23442",
        "--advertise-client-urls", "https://127.0.0.1:23441,curve://127.0.0.1:23442",
        "--listen-peer-urls", "https://127.0.0.1:23443", "--initial-advertise-peer-urls", "https://127.0.0.1:23443",
        "--cert-file", f"{pki}/server.pem", "--key-file", f"{pki}/server-key.pem",
        "--trusted-ca-file", f"{pki}/ca.pem", "--client-cert-auth",
        "--peer-cert-file", f"{pki}/peer.pem", "--peer-key-file", f"{pki}/peer-key.pem",
        "--peer-trusted-ca-file", f"{pki}/ca.pem", "--data-dir", str(pki / "data"), *more,
    ]  # fmt: skip


def test_certificates_are_looked_at_when_settings_are_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Good ones are taken; one for another usage, another host or by another CA is told. Nothing is made."""
    pki, other = tmp_path / "pki", tmp_path / "other"
    for directory in (pki, other):
        assert play_zkv("", Step(f"cert init --hosts 127.0.0.1 --dir {directory}")).code == 0
    with pytest.raises(SystemExit) as good:
        server.server.main([*secured(pki), "--check-config"])
    assert (good.value.code, capsys.readouterr().out) == (0, "the settings of member default can be served\n")
    for wrong, why in (
        (("--cert-file", f"{pki}/client.pem", "--key-file", f"{pki}/client-key.pem"), "it is not for a server"),
        (("--cert-file", f"{pki}/client.pem"), "is not that of the certificate in"),
        (("--peer-cert-file", f"{pki}/server.pem", "--peer-key-file", f"{pki}/server-key.pem"), "not for a peer"),
        (("--peer-trusted-ca-file", f"{other}/ca.pem"), "signed by unknown authority"),
        (("--peer-cert-allowed-cn", "nobody"), "is not on the list"),
        (("--trusted-ca-file", f"{pki}/client.pem"), "holds a certificate that is not that of a CA"),
        (("--client-crl-file", f"{pki}/ca.pem"), "is damaged, or holds no revocation list"),
        (("--advertise-client-urls", "https://zkv.example.com:2379"), "certificate is for another host"),
    ):
        assert why in refusal(capsys, *secured(pki, *wrong), "--check-config")
    assert not (pki / "data").exists()


def test_auto_tls_makes_certificates_once(tmp_path: Path) -> None:
    """Below the data directory, for their owner only; those that are there and last are kept."""
    config, _, _ = settled(
        "--data-dir", str(tmp_path), "--auto-tls", "--peer-auto-tls",
        "--listen-client-urls", "https://127.0.0.1:23441", "--advertise-client-urls", "https://127.0.0.1:23441",
        "--listen-peer-urls", "https://127.0.0.1:23443", "--initial-advertise-peer-urls", "https://127.0.0.1:23443",
    )  # fmt: skip
    server_security.make_own_certificates(config)
    made = {path: path.read_bytes() for path in tmp_path.rglob("*.pem")}
    assert {str(path.relative_to(tmp_path)) for path in made} == {
        f"fixtures/{side}/{name}.pem" for side in ("client", "peer") for name in ("cert", "key")
    }
    assert (tmp_path / "fixtures/client/key.pem").stat().st_mode & 0o777 == 0o600
    server_security.check_files(config)
    server_security.make_own_certificates(config)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.pem")} == made


def test_plain_urls_are_warned_of_where_somebody_may_listen() -> None:
    """Not on loopback; and where certificates are given, on loopback too, for they do not hold there."""
    with structlog.testing.capture_logs() as logs:
        server_security.warn(NodeConfig(), [])
        assert logs == []
        server_security.warn(NodeConfig(listen_client_urls=("tcp://0.0.0.0:1",)), ["expired"])
        server_security.warn(NodeConfig(cert_file="c", key_file="k"), [])
    assert [log["event"].split(":")[0] for log in logs] == [
        "others will not believe this member's certificate",
        "whoever can reach this url may come in, and nothing is encrypted",
        "this url is plain",
        "this url is plain",
    ]
