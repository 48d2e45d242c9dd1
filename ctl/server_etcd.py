"""What of etcd 3.5's command line, environment and configuration file has no meaning here, and is taken all the same.

So that what starts etcd starts zkv. Each such flag says why it changes nothing; one line of the log says so when it
asks for something that zkv does not do anyway. A few cannot be passed over, for the member would become another than
was meant; they are refused, with what to do instead.

Go's spelling of flags is read too: `-name x` is `--name x`, and a switch may have a value behind `=`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from zkv.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class Idle(NamedTuple):
    """`harmless`: values that ask for what zkv does anyway. `is_refused`: all others are."""

    why: str
    harmless: tuple[str, ...] = ("",)
    is_refused: bool = False
    is_switch: bool = False


_OFF: Final = ("false",)
_ON: Final = ("true",)
_ROCKS: Final = "the store is RocksDB, which has no such setting"
_V2: Final = "there is no v2 API and no v2 store"
_PROXY: Final = "there is no v2 proxy: start a member, or none"
_TRACING: Final = "there is no tracing: /metrics has histograms of what takes how long"
_ROTATION: Final = "the log goes to stderr, and whoever takes it from there rotates it"
_BOTH_WAYS: Final = (
    "a member shows one certificate, to whom it asks and to who asks it: --peer-cert-file, for both usages"
)
_ASKS_ITSELF: Final = "etcd shows it where it asks itself; here nobody does"
_MEMBERS: Final = "members are found by --initial-cluster: name them there"
IDLE: Final[dict[str, Idle]] = {
    "wal-dir": Idle("the log lies in the data directory, under member/wal: mount the faster disk there"),
    "initial-election-tick-advance": Idle("a member that starts asks for votes as soon as no leader is heard", _ON),
    "client-cert-file": Idle(_ASKS_ITSELF),
    "client-key-file": Idle(_ASKS_ITSELF),
    "peer-client-cert-file": Idle(_BOTH_WAYS),
    "peer-client-key-file": Idle(_BOTH_WAYS),
    "max-snapshots": Idle("a member keeps no snapshot files: its store is one", ("5",)),
    "max-wals": Idle("log files are reused, and go as soon as the store has what they hold", ("5",)),
    "backend-bbolt-freelist-type": Idle(_ROCKS, ("map", "array")),
    "backend-batch-interval": Idle("writes are gathered while one is under way, and wait for no timer"),
    "backend-batch-limit": Idle("writes are gathered while one is under way", ("0",)),
    "socket-reuse-port": Idle("ports are not shared between processes", _OFF, is_switch=True),
    "socket-reuse-address": Idle("it is always on", ("false", "true"), is_switch=True),
    "discovery": Idle(_MEMBERS, is_refused=True),
    "discovery-fallback": Idle(_MEMBERS, ("proxy", "exit")),
    "discovery-proxy": Idle(_MEMBERS),
    "discovery-srv": Idle(_MEMBERS, is_refused=True),
    "discovery-srv-name": Idle(_MEMBERS),
    "strict-reconfig-check": Idle("changes that would lose the quorum are always refused", _ON, is_switch=True),
    "pre-vote": Idle("who cannot win never disturbs the others: pre-vote is always on", _ON, is_switch=True),
    "enable-v2": Idle(_V2, _OFF, is_switch=True),
    "v2-deprecation": Idle(_V2, ("not-yet", "write-only", "write-only-drop-data", "gone")),
    "experimental-enable-v2v3": Idle(_V2),
    "experimental-peer-skip-client-san-verification": Idle(
        "members are believed by their CA, and by --peer-cert-allowed-cn or -hostname", _OFF, is_switch=True
    ),
    "enable-pprof": Idle("there is no profiler: py-spy looks into a process that runs", _OFF, is_switch=True),
    "metrics": Idle("/metrics always has its histograms", ("basic", "extensive")),
    "logger": Idle("the log is JSON lines, as zap writes them", ("zap",)),
    "log-outputs": Idle("the log goes to stderr", ("default", "stderr")),
    "log-format": Idle("the log is JSON lines, and for people on a terminal", ("json",)),
    "enable-log-rotation": Idle(_ROTATION, _OFF, is_switch=True),
    "log-rotation-config-json": Idle(
        _ROTATION, ('{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}', "")
    ),
    "log-package-levels": Idle("there is one --log-level"),
    "experimental-enable-distributed-tracing": Idle(_TRACING, _OFF, is_switch=True),
    "experimental-distributed-tracing-address": Idle(_TRACING, ("localhost:4317",)),
    "experimental-distributed-tracing-service-name": Idle(_TRACING, ("etcd",)),
    "experimental-distributed-tracing-instance-id": Idle(_TRACING),
    "experimental-distributed-tracing-sampling-rate": Idle(_TRACING, ("0",)),
    "proxy": Idle(_PROXY, ("off",), is_refused=True),
    "proxy-failure-wait": Idle(_PROXY, ("5000",)),
    "proxy-refresh-interval": Idle(_PROXY, ("30000",)),
    "proxy-dial-timeout": Idle(_PROXY, ("1000",)),
    "proxy-write-timeout": Idle(_PROXY, ("5000",)),
    "proxy-read-timeout": Idle(_PROXY, ("0",)),
    "experimental-enable-lease-checkpoint": Idle(
        "what is left of a lease always outlives a leader", ("false", "true"), is_switch=True
    ),
    "experimental-enable-lease-checkpoint-persist": Idle(
        "what is left of a lease always outlives a leader", ("false", "true"), is_switch=True
    ),
    "experimental-compaction-batch-limit": Idle("compaction runs in steps that make room for others", ("1000",)),
    "experimental-compaction-sleep-interval": Idle("compaction runs in steps that make room for others", ("10ms",)),
    "experimental-txn-mode-write-with-shared-buffer": Idle(_ROCKS, ("true", "false"), is_switch=True),
    "experimental-bootstrap-defrag-threshold-megabytes": Idle(
        "RocksDB gives space back by itself; `zkv defrag` helps", ("0", "")
    ),
    "experimental-memory-mlock": Idle("memory is not locked: turn swap off", _OFF, is_switch=True),
    "experimental-max-learners": Idle("one member at a time learns", ("1",)),
    "experimental-wait-cluster-ready-timeout": Idle("a member serves as soon as there is a leader", ("5s",)),
    "experimental-snapshot-catchup-entries": Idle("--snapshot-count says how many entries are kept", ("5000",)),
    "experimental-stop-grpc-service-on-defrag": Idle("a defragmentation does not stop reads", _OFF, is_switch=True),
    "experimental-downgrade-check-time": Idle("there is no version to go back to", ("5s",)),
    "unsafe-no-fsync": Idle("what is acknowledged is always on the disk", _OFF, is_switch=True),
}  # fmt: skip


def take(values: dict[str, Any]) -> list[str]:
    """Take what is idle out of settings by their flags' names, or with underscores; a line for each that is to be told.

    Raises ConfigError for what is refused.
    """
    lines = []
    for name, idle in IDLE.items():
        given = [values.pop(key) for key in {name, name.replace("-", "_")} & set(values)]
        for value in given:
            if value is None or _text(value) in idle.harmless:
                continue
            if idle.is_refused:
                raise ConfigError(f"--{name} is not served: {idle.why}")
            lines.append(f"--{name} changes nothing: {idle.why}")
    return lines


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def unrecognized(given: Iterable[str], known: Iterable[str]) -> list[str]:
    """Variables of the environment that look like ours, or etcd's, and mean nothing."""
    owners = ("ZKV_", "ETCD_")
    return sorted({name for name in given if name.startswith(owners)} - set(known))


def spelled(arguments: Iterable[str], names: Collection[str]) -> list[str]:
    """A command line as Go reads it: `-name` is `--name`, where there is such a flag."""
    return [
        f"-{argument}" if argument[:1] == "-" and argument[1:].partition("=")[0] in names else argument
        for argument in arguments
    ]


def environment(*names: str) -> list[str]:
    """Where a flag of these names is looked for in the environment: ours first, then etcd's."""
    return [f"{owner}_{name.upper().replace('-', '_')}" for owner in ("ZKV", "ETCD") for name in names]
