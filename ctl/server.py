"""`zkv server`: reads flags, environment or a configuration file into a NodeConfig, and runs the node.

As with etcd a flag wins over its environment variable, and a configuration file stands alone: flags and
environment beside it are ignored, with a warning. ZKV_NAME, or else ETCD_NAME, is --name. Flags of etcd's that have no
meaning here are in server_etcd.py. Whatever is refused is one line on stderr, exit status 1, and
nothing touched.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
import time
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from zkv.config import NodeConfig
from zkv.ctl import server_etcd, version
from zkv.ctl import server_security as security
from zkv.errors import ConfigError, CorruptionError
from zkv.files import is_open_to_others
from zkv.urls import introductions_port, socket_endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

# (group, fields of NodeConfig): help texts are the fields' own docstrings' first lines, kept here in one table.
HELP: dict[str, dict[str, str]] = {
    "Member": {
        "name": "Human-readable name for this member.",
        "data_dir": "Path to the data directory [default: NAME.zkv].",
        "storage": "Where data is kept: disk, or memory (nothing survives a restart; peers refill the member).",
        "snapshot_count": "Number of log entries kept for members that are behind, before they need a snapshot.",
        "heartbeat_interval": "Time (in milliseconds) of a heartbeat interval.",
        "election_timeout": "Time (in milliseconds) for an election to timeout.",
        "listen_peer_urls": "URLs to listen on for peer traffic: tcp, curve, http (= tcp), https (= curve).",
        "listen_client_urls": "URLs to listen on for clients: native ones by tcp or curve, etcd's by http or https.",
        "listen_client_http_urls": "More URLs for etcd's clients; there are proxies that want JSON apart from gRPC.",
        "listen_metrics_urls": "URLs to listen on for /health, /livez, /readyz, /version and /metrics: http or https.",
        "max_request_bytes": "Maximum client request size in bytes the server will accept.",
        "max_concurrent_streams": "Calls that one connection of etcd's clients may have open.",
        "grpc_keepalive_min_time": "How often at most a client of etcd's API may ping.",
        "grpc_keepalive_interval": "After how much silence such a client is asked whether it lives (0: never).",
        "grpc_keepalive_timeout": "How long it is waited for then.",
        "experimental_watch_progress_notify_interval": "How often quiet watches are told how far the store is.",
        "max_txn_ops": "Maximum number of operations permitted in a transaction.",
        "max_client_requests": "Requests a second of one client: its user, certificate or address (0: no bound).",
        "max_client_bytes": "Bytes of one client's messages under way at once (0: no bound).",
        "max_client_watches": "Watches of one client (0: no bound).",
        "max_client_leases": "Leases granted to one client (0: no bound).",
        "max_client_connections": "Connections of one client (0: no bound).",
        "warning_apply_duration": "Warning is generated if requests take longer than this to be applied.",
        "warning_unary_request_duration": "Warning is generated if a request takes longer than this, and where.",
        "quota_backend_bytes": "Raise an alarm when so many bytes are in use (0: 2 GiB; below 0: never).",
        "auto_compaction_mode": "What the retention counts: 'periodic' (time) or 'revision'.",
        "experimental_initial_corrupt_check": "Compare the data with the other members' before serving.",
        "experimental_corrupt_check_time": "How often the leader compares the data of all members (0s: never).",
        "experimental_compact_hash_check_enabled": "Compare the members after compactions, too.",
        "experimental_compact_hash_check_time": "How often the leader looks whether there was a compaction.",
        "auto_compaction_retention": "History kept: a time (8h, 30m; plain numbers are hours), or revisions; 0: all.",
    },
    "Clustering": {
        "initial_advertise_peer_urls": "Comma-separated peer URLs of this member, as the others find it.",
        "initial_cluster": "Initial cluster configuration, NAME=URL,NAME=URL [default: this member alone].",
        "initial_cluster_state": "Initial cluster state ('new' or 'existing').",
        "force_new_cluster": "Make a cluster of one of this member's data: the others count as removed.",
        "initial_cluster_token": "Initial cluster token for the cluster during bootstrap.",
        "advertise_client_urls": "Comma-separated client URLs of this member, as clients are told.",
    },
    "Security": {
        "cert_file": "Path to the client server TLS cert file, for https and curve client URLs.",
        "key_file": "Path to the client server TLS key file.",
        "client_cert_auth": "Enable client cert authentication.",
        "client_crl_file": "Path to the client certificate revocation list file.",
        "client_cert_allowed_hostname": "Allowed TLS hostname for client cert authentication.",
        "trusted_ca_file": "Path to the client server TLS trusted CA cert file.",
        "auto_tls": "Client TLS using generated certificates.",
        "peer_cert_file": "Path to the peer server TLS cert file, for https and curve peer URLs.",
        "peer_key_file": "Path to the peer server TLS key file.",
        "peer_client_cert_auth": "Enable peer client cert authentication.",
        "peer_trusted_ca_file": "Path to the peer server TLS trusted CA file.",
        "peer_cert_allowed_cn": "Required CN for client certs connecting to the peer endpoint.",
        "peer_cert_allowed_hostname": "Allowed TLS hostname for inter peer authentication.",
        "peer_auto_tls": "Peer TLS using self-generated certificates if no peer cert and key files are provided.",
        "self_signed_cert_validity": "Years that the certificates of auto-tls and peer-auto-tls are valid.",
        "peer_crl_file": "Path to the peer certificate revocation list file.",
        "cipher_suites": "Comma-separated list of TLS 1.2 cipher suites at https client URLs [default: OpenSSL's].",
        "tls_min_version": "Minimum TLS version at https client URLs: TLS1.2 or TLS1.3.",
        "tls_max_version": "Maximum TLS version there [default: the newest].",
        "cors": "Origins of web pages that may ask by JSON, separated by commas; * for all.",
        "host_whitelist": "Hosts that JSON may be asked for in plain HTTP, separated by commas; * for all.",
        "curve_secret_key": "File with the CURVE key pair of the client front, for curve client URLs.",
        "curve_allow_dir": "Directory of the public key files of clients that may come in [default: all may].",
        "peer_curve_secret_key": "File with the CURVE key pair that all members share, for curve peer URLs.",
    },
    "Auth": {
        "auth_token": "Kind of tokens: 'simple', or 'jwt,pub-key=FILE,priv-key=FILE,sign-method=RS512,ttl=10m'.",
        "auth_token_ttl": "Seconds that a simple token lives without being shown.",
        "audit_log": "File that is told who asked what of which keys, and whether it was allowed, a JSON line each.",
        "bcrypt_cost": "Specify the cost / strength of the bcrypt algorithm for hashing auth passwords (4 to 31).",
    },
    "Logging": {
        "log_level": "Log level: debug, info, warn, error, panic or fatal.",
    },
}
ALIASES = {
    "experimental-warning-apply-duration": "warning_apply_duration",
    "experimental-warning-unary-request-duration": "warning_unary_request_duration",
}
"""Names that etcd 3.5 has for what is called otherwise by now."""
PORT_PATIENCE_S = 1.0
"""A node that was killed whole leaves its ports a moment later; a start right behind it waits that long for them."""
SECTIONS = {
    "client-transport-security": {
        "cert-file": "cert_file",
        "key-file": "key_file",
        "client-cert-file": "client-cert-file",
        "client-key-file": "client-key-file",
        "client-cert-auth": "client_cert_auth",
        "trusted-ca-file": "trusted_ca_file",
        "crl-file": "client_crl_file",
        "allowed-hostname": "client_cert_allowed_hostname",
        "auto-tls": "auto_tls",
        "tls-min-version": "tls_min_version",
        "tls-max-version": "tls_max_version",
        "cipher-suites": "cipher_suites",
    },
    "peer-transport-security": {
        "cert-file": "peer_cert_file",
        "key-file": "peer_key_file",
        "client-cert-file": "peer-client-cert-file",
        "client-key-file": "peer-client-key-file",
        "client-cert-auth": "peer_client_cert_auth",
        "trusted-ca-file": "peer_trusted_ca_file",
        "crl-file": "peer_crl_file",
        "allowed-cn": "peer_cert_allowed_cn",
        "allowed-hostname": "peer_cert_allowed_hostname",
        "auto-tls": "peer_auto_tls",
    },
}
"""What stands together in a configuration file, as in etcd's; the flags' names serve as well."""
_LISTS = {"cipher_suites", "cors", "host_whitelist", "listen_client_http_urls"}
FLAGS = {name.replace("_", "-"): name for group in HELP.values() for name in group}
_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(NodeConfig) if field.default is not MISSING}


class _GroupedHelp(click.Command):
    """The options under the headings etcd's help has, and refusals in one line."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """What click would explain in several lines is one, like every other refusal."""
        extra["standalone_mode"] = False
        try:
            status = super().main(*args, **extra)
        except click.ClickException as error:
            click.echo(f"Error: {error.format_message()}", err=True)
            status = 1
        sys.exit(status)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(
            ctx, server_etcd.spelled(args, {*FLAGS, *ALIASES, *server_etcd.IDLE, "config-file", "version"})
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        params = self.get_params(ctx)
        grouped = {heading: [param for param in params if param.name in names] for heading, names in HELP.items()}
        grouped["Other"] = [param for param in params if param.name not in FLAGS.values()]
        for heading, members in grouped.items():
            rows = [row for param in members if (row := param.get_help_record(ctx))]
            with formatter.section(heading):
                formatter.write_dl(rows)


def _aliases_of(name: str) -> list[str]:
    return [alias for alias, meant in ALIASES.items() if meant == name]


def _click_type(default: Any) -> click.ParamType[Any]:
    if isinstance(default, bool):
        return click.BOOL
    return click.INT if isinstance(default, int) else click.STRING


def _options(command: click.Command) -> click.Command:
    for group in HELP.values():
        for name, text in group.items():
            default = _DEFAULTS[name]
            shown = ",".join(default) if isinstance(default, tuple) else default
            command.params.append(
                click.Option(
                    [f"--{name.replace('_', '-')}", *(f"--{alias}" for alias in _aliases_of(name)), name],
                    type=_click_type(default),
                    **_switch(isinstance(default, bool)),
                    default=None,
                    envvar=server_etcd.environment(name, *_aliases_of(name)),
                    help=text if not shown else f"{text} [default: {shown}]",
                )
            )
    for name, idle in server_etcd.IDLE.items():
        command.params.append(
            click.Option(
                [f"--{name}", name.replace("-", "_")],
                **_switch(idle.is_switch),
                envvar=server_etcd.environment(name),
                hidden=True,
            )
        )
    return command


def _tell_version(context: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        click.echo(version.text(), nl=False)
        context.exit(0)


def _switch(is_switch: bool) -> dict[str, Any]:
    """A switch may have a value behind it, as with etcd: --client-cert-auth=false."""
    return {"is_flag": False, "flag_value": "true"} if is_switch else {}


@click.command(
    cls=_GroupedHelp,
    short_help="Starts a member of a cluster",
    help="Start a member. Without any flag: a working single node under ./default.zkv, on loopback.\n\n"
    "Example: zkv server --name n1 --data-dir /var/lib/zkv",
)
@click.option(
    "--config-file", "config_file", envvar=server_etcd.environment("config-file"), type=click.Path(),
    help="Path to a YAML file with these settings; other flags and environment variables are then ignored.",
)  # fmt: skip
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_version,
    help="Print the version and end.",
)
@click.option("--check-config", is_flag=True, help="Check the settings, say whether they can be served, and end.")
@click.pass_context
def server(context: click.Context, /, config_file: str | None, check_config: bool, **given: Any) -> None:
    try:
        config, ignored, idle = settle(config_file, given)
        security.check_files(config)
        doubts = security.doubts(config)
        if check_config:
            config.check_bootstrap()
            security.insist(doubts)
            click.echo(f"the settings of member {config.name} can be served")
            context.exit(0)
        check_ports(config)
        begin_logging(config.log_level)
        if ignored:
            import structlog

            structlog.get_logger().warning(
                "a configuration file is given, these settings beside it are ignored", ignored=ignored
            )
        if config_file is not None and is_open_to_others(config_file):
            import structlog

            structlog.get_logger().warning(
                "the configuration file is open to other users", path=config_file, want="mode 0640"
            )
        for line in idle:
            import structlog

            structlog.get_logger().warning(line)
        for name in _unrecognized(context):
            import structlog

            structlog.get_logger().warning("unrecognized environment variable", name=name)
        security.warn(config, doubts)
        security.make_own_certificates(config)
        from zkv.actors import supervisor

        status = supervisor.run(config)
    except (ConfigError, CorruptionError) as error:
        click.echo(f"Error: {error.detail or error}", err=True)
        status = 1
    context.exit(status)


def _unrecognized(context: click.Context) -> list[str]:
    """Of the environment; what the other commands read there is known."""
    from zkv.ctl.options import GLOBAL_FLAGS

    ours: set[str] = {name for each in context.command.params for name in _names(each.envvar)}
    return server_etcd.unrecognized(os.environ, ours | {flag.environment for flag in GLOBAL_FLAGS})


def _names(envvar: str | Sequence[str] | None) -> Sequence[str]:
    return [envvar] if isinstance(envvar, str) else envvar or ()


def settle(config_file: str | None, given: dict[str, Any]) -> tuple[NodeConfig, list[str], list[str]]:
    """What holds of a file and of the settings beside it (None: not given), those beside it that are ignored, and a
    line for each of etcd's that have no meaning here.

    Raises ConfigError.
    """
    beside = {name: value for name, value in given.items() if value is not None}
    values = beside if config_file is None else read_file(config_file)
    idle = server_etcd.take(values)
    ignored = [] if config_file is None else sorted(name.replace("_", "-") for name in beside)
    return configure(values), ignored, idle


def configure(values: dict[str, Any]) -> NodeConfig:
    """A NodeConfig of settings by their field names; comma-separated text stands for several urls.

    Raises ConfigError.
    """
    if "listen_client_urls" in values and "advertise_client_urls" not in values:
        raise ConfigError("--advertise-client-urls is required when --listen-client-urls is set explicitly")
    return NodeConfig(**{name: _typed(name, value) for name, value in values.items()})


def _typed(name: str, value: Any) -> Any:
    default = _DEFAULTS[name]
    if name == "auto_compaction_retention" and type(value) is int:  # in a file, where nobody quotes it
        value = str(value)
    if isinstance(default, tuple):
        if name in _LISTS and isinstance(value, list):  # as etcd's file has them
            value = ",".join(map(str, value))
        if not isinstance(value, str):
            raise ConfigError(f"--{name.replace('_', '-')} must be text, separated by commas, not {value!r}")
        return tuple(url.strip() for url in value.split(",") if url.strip())
    if type(value) is not type(default):
        kind = {bool: "true or false", int: "a number"}.get(type(default), "text")
        raise ConfigError(f"--{name.replace('_', '-')} must be {kind}, not {value!r}")
    return value


def read_file(path: str) -> dict[str, Any]:
    """The settings in a YAML file with etcd's keys, by their field names. Raises ConfigError."""
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} is no YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"configuration file {path} must hold `key: value` lines")
    known = {**ALIASES, **FLAGS, **{name: name for name in server_etcd.IDLE}}
    unknown = sorted(str(key) for key in content if key not in known and key not in SECTIONS)
    if unknown:
        raise ConfigError(f"configuration file {path} has keys that are not known: {', '.join(unknown)}")
    values = {known[key]: value for key, value in content.items() if value is not None and key in known}
    for section, names in SECTIONS.items():
        for name, value in _section(path, section, names, content.get(section)).items():
            if name in values:
                flag = name.replace("_", "-")
                raise ConfigError(f"configuration file {path} says {flag} twice: in {section}, and outside of it")
            values[name] = value
    return values


def _section(path: str, section: str, names: dict[str, str], content: Any) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"configuration file {path}: {section} must hold `key: value` lines")
    unknown = sorted(str(key) for key in content if key not in names)
    if unknown:
        raise ConfigError(f"configuration file {path}: {section} has keys that are not known: {', '.join(unknown)}")
    return {names[key]: value for key, value in content.items() if value is not None}


def check_ports(config: NodeConfig) -> None:
    """Raises ConfigError, before anything is touched, when an address to listen on is taken or is not ours."""
    with contextlib.ExitStack() as stack:
        urls = (
            *config.listen_peer_urls, *config.listen_client_urls, *config.listen_client_http_urls,
            *config.listen_metrics_urls,
        )  # fmt: skip
        introduced = (*config.introduced_peer_urls, *config.introduced_client_urls)
        for endpoint in (
            *map(socket_endpoint, urls),
            *(socket_endpoint(url)._replace(port=introductions_port(url)) for url in introduced),
        ):
            host = "127.0.0.1" if endpoint.host == "localhost" else endpoint.host
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            trial = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                _bind(trial, host, endpoint.port)
            except OSError as error:
                why = "address already in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
                raise ConfigError(f"listen tcp {host}:{endpoint.port}: bind: {why.lower()}") from None


def _bind(trial: socket.socket, host: str, port: int) -> None:
    deadline = time.monotonic() + PORT_PATIENCE_S
    while True:
        try:
            trial.bind((host, port))
            trial.listen(1)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def begin_logging(level: str) -> None:
    """Structured logs on stderr: for people on a terminal, JSON lines otherwise."""
    import structlog

    levels = {"warn": logging.WARNING, "panic": logging.CRITICAL, "fatal": logging.CRITICAL}
    number = levels.get(level) or logging.getLevelName(level.upper())
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not terminal),
            *(
                (structlog.dev.ConsoleRenderer(),)
                if terminal
                else (structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


_options(server)
