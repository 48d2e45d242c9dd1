"""A node's data directory: whose it is, what lies where, and the lock on it.

    DATA-DIR/member/lock          held (flock) while the node runs
                   /identity      who this is: written once, before anything else, synced and renamed into place
                   /clock         what is known of the cluster clock (anchor.py)
                   /wal           the raft log
                   /snap/db       the store (RocksDB)
                   /refill ..     of a member that gets its data anew (refill.py)

laid out as etcd's. With data there, the initial-* settings are not consulted: the identity says who this is, the
store who the others are. Everything that can be refused is refused before the first file is made.

The sockets between the node's processes do not lie here, because a Unix socket's path has at most 107 bytes:
they are in a private directory of their own with a short name, made from the data directory's, so that the
next start finds and clears what a killed node left. The same goes for the data of `--storage memory`: the same layout
on a file system in memory, emptied at the start and gone at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zkv.actors import refill
from zkv.actors.join import who_am_i
from zkv.actors.node import Node
from zkv.core import ids
from zkv.errors import ConfigError, CorruptionError
from zkv.files import sync_directory
from zkv.wire import codec
from zkv.wire.messages import Member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zkv.config import NodeConfig

FORMAT = 1
"""The newest layout this program reads and writes."""
MEMORY_ROOTS = ("/dev/shm",)  # noqa: S108 - what is made there is 0700 and checked to be ours
MEMORY_BYTES_MIN = 512 << 20
"""Free there, for a log and a small store; containers often have 64 MiB, which a log of that size would fill."""
LOCK_PATIENCE_S = 1.0
"""Processes of a node that was killed leave by themselves, the last of them a moment later; its lock goes with them."""
PARENT_BYTES_MAX = 40  # of the directory the sockets' directory is made in


class Identity(NamedTuple):
    """What must not change over a member's life, and the members its cluster started with."""

    format: int
    name: str
    member_id: int
    cluster_id: int
    bootstrap: tuple[Member, ...]
    peers: tuple[Member, ...] = ()
    """Who else there was when this member joined a running cluster, or was refilled (then `bootstrap` is empty)."""


@contextlib.contextmanager
def opened(config: NodeConfig) -> Iterator[Node]:
    """The node whose data these are, locked against a second process until the end of the block.

    Raises ConfigError when the directory is in use, another member's, a newer version's or cannot be written, or
    when a new member's initial-* settings do not fit; CorruptionError for a damaged identity.
    """
    with contextlib.ExitStack() as stack:
        data_dir = Path(config.data_dir).absolute()
        if config.storage == "memory":
            identity = _first_identity(config)
            member_dir = stack.enter_context(_private("memory", data_dir, _memory_root()))
        else:
            member_dir = data_dir / "member"
            if _known_identity(member_dir, config) is None:
                _refuse_others_data(member_dir, config)
                new_identity(config)  # refuses what can be refused before anything is made
            _make_private(member_dir)
            stack.enter_context(_locked(member_dir / "lock", config.data_dir))
            known = _known_identity(member_dir, config)
            identity = known or _first_identity(config)
            if known is None:
                write_identity(member_dir / "identity", identity)
            else:
                refill.check(member_dir)
                identity = _made_anew(identity, member_dir, config)
        for part in ("wal", "snap"):
            (member_dir / part).mkdir(mode=0o700, exist_ok=True)
        rundir = stack.enter_context(_private("run", data_dir, _runtime_root()))
        yield Node(
            config=config,
            limits=config.limits(),
            member_id=identity.member_id,
            cluster_id=identity.cluster_id,
            bootstrap=identity.bootstrap,
            peers=identity.peers,
            wal_dir=str(member_dir / "wal"),
            store_dir=str(member_dir / "snap" / "db"),
            rundir=str(rundir),
        )


def new_identity(config: NodeConfig) -> Identity:
    """As computed by every member of a new cluster alike. Raises ConfigError."""
    config.check_bootstrap()
    members = []
    for name, urls in config.cluster().items():
        member_id = ids.member_id(urls, config.initial_cluster_token)
        members.append(Member(member_id, name, tuple(sorted(urls)), (), is_learner=False))
    members.sort()
    member_ids = [member.id for member in members]
    if len(set(member_ids)) != len(member_ids):
        raise ConfigError(f"--initial-cluster: two members have the same urls: {config.initial_cluster}")
    own = next(member.id for member in members if member.name == config.name)
    # a name is known to the others once its member has published it: as etcd's
    unnamed = tuple(member._replace(name="") for member in members)
    return Identity(FORMAT, config.name, own, ids.cluster_id(member_ids), unnamed)


@contextlib.contextmanager
def stopped(data_dir: str) -> Iterator[Path]:
    """The `member` directory of a node that does not run, locked against its start until the end of the block.

    Raises ConfigError when there is none, or it is in use.
    """
    member_dir = Path(data_dir).absolute() / "member"
    if not (member_dir / "identity").exists():
        raise ConfigError(f"{data_dir} is no data directory of zkv")
    with _locked(member_dir / "lock", data_dir):
        yield member_dir


def _first_identity(config: NodeConfig) -> Identity:
    """Of a member with nothing on its disk: computed, or told by the cluster that it was added to.

    Raises ConfigError.
    """
    identity = new_identity(config)
    if config.initial_cluster_state == "new":
        return identity
    answer = who_am_i(config)
    peers = tuple(member for member in answer.members if member.id != answer.member_id)
    return Identity(FORMAT, config.name, answer.member_id, answer.cluster_id, (), peers)


def _made_anew(identity: Identity, member_dir: Path, config: NodeConfig) -> Identity:
    """Itself, unless the member is to be refilled: then its data are set aside once the others say that they know it.

    Raises ConfigError.
    """
    if not refill.is_wanted(member_dir):
        return identity
    if config.force_new_cluster:
        raise ConfigError("--force-new-cluster: this member is to be refilled from the others, and has no data")
    if refill.is_begun(member_dir):
        return identity
    answer = who_am_i(config, (*identity.bootstrap, *identity.peers), refill=True)
    if (answer.cluster_id, answer.member_id) != (identity.cluster_id, identity.member_id):
        raise ConfigError(
            f"data directory {config.data_dir} belongs to member {identity.member_id:x} of cluster "
            f"{identity.cluster_id:x}, but the others know {answer.member_id:x} of cluster {answer.cluster_id:x} here"
        )
    peers = tuple(member for member in answer.members if member.id != identity.member_id)
    identity = identity._replace(bootstrap=(), peers=peers)
    write_identity(member_dir / "identity", identity)
    refill.set_aside(member_dir)
    return identity


def _known_identity(member_dir: Path, config: NodeConfig) -> Identity | None:
    identity = read_identity(member_dir / "identity")
    if identity is not None and identity.name != config.name:
        raise ConfigError(
            f"data directory {config.data_dir} belongs to member {identity.name!r}, not to {config.name!r}"
        )
    return identity


def _refuse_others_data(member_dir: Path, config: NodeConfig) -> None:
    """The identity is written before anything else, so data without one are not zkv's. Raises ConfigError."""
    if (member_dir / "snap" / "db").is_file():
        raise ConfigError(
            f"data directory {config.data_dir} holds etcd's data: import {member_dir}/snap/db with "
            "zkv snapshot import-etcd, and give zkv another directory"
        )
    if any(
        entry for part in ("wal", "snap") if (member_dir / part).is_dir() for entry in (member_dir / part).iterdir()
    ):
        raise ConfigError(
            f"data directory {config.data_dir} holds data, and {member_dir}/identity, which says whose, is missing: "
            "give zkv another directory"
        )


def read_identity(path: Path) -> Identity | None:
    """None where there is none. Raises ConfigError, CorruptionError."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    checksum, body = data[:4], data[4:]
    if zlib.crc32(body).to_bytes(4, "big") != checksum:
        raise CorruptionError(f"{path} is damaged: remove this member and let it join again with an empty directory")
    fields = codec.unpack(body)
    if fields[0] > FORMAT:
        raise ConfigError(
            f"data directory {path.parent.parent} was written by a newer version (format {fields[0]}, this program "
            f"knows {FORMAT}): start that version"
        )
    identity = Identity(*fields)
    return identity._replace(
        bootstrap=tuple(Member(*member) for member in identity.bootstrap),
        peers=tuple(Member(*member) for member in identity.peers),
    )


def write_identity(path: Path, identity: Identity) -> None:
    body = codec.pack(identity)
    aside = path.with_suffix(".new")
    with aside.open("wb") as file:
        file.write(zlib.crc32(body).to_bytes(4, "big") + body)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    for directory in (path.parent, path.parent.parent, path.parent.parent.parent):
        sync_directory(directory)


def _make_private(member_dir: Path) -> None:
    try:
        (member_dir.parent).mkdir(mode=0o700, parents=True, exist_ok=True)
        member_dir.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"data directory {member_dir.parent} cannot be written: {error.strerror}") from None
    if not os.access(member_dir, os.W_OK | os.X_OK):
        raise ConfigError(f"data directory {member_dir.parent} cannot be written: Permission denied")


@contextlib.contextmanager
def _locked(path: Path, data_dir: str) -> Iterator[None]:
    deadline = time.monotonic() + LOCK_PATIENCE_S
    try:
        while (descriptor := _try_lock(path)) is None:
            if time.monotonic() > deadline:
                raise ConfigError(f"data directory {data_dir} is in use by another process")
            time.sleep(0.05)
    except OSError as error:
        raise ConfigError(f"data directory {data_dir} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:  # or its last holder removed it, and the lock means nothing
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _runtime_root() -> str:
    parent = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    fits = len(os.fsencode(parent)) <= PARENT_BYTES_MAX and os.access(parent, os.W_OK | os.X_OK)
    return parent if fits else "/tmp"  # noqa: S108 - what is made there is 0700 and checked to be ours


def _memory_root() -> str:
    """A file system in memory, where there is one with room; else where temporary files go."""
    return next((root for root in MEMORY_ROOTS if _has_room(root)), tempfile.gettempdir())


def _has_room(root: str) -> bool:
    if not os.access(root, os.W_OK | os.X_OK):
        return False
    state = os.statvfs(root)
    return state.f_bavail * state.f_frsize >= MEMORY_BYTES_MIN


@contextlib.contextmanager
def _private(purpose: str, data_dir: Path, parent: str) -> Iterator[Path]:
    """A directory of our own whose name follows from the data directory's: empty at first, gone at the end."""
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    path = Path(parent, f"zkv-{purpose}-{os.getuid()}-{digest}")
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    state = path.lstat()
    if state.st_uid != os.getuid() or not stat.S_ISDIR(state.st_mode):
        raise ConfigError(f"{path} is not ours: remove it")
    path.chmod(0o700)
    with _locked(path / "lock", str(data_dir)):
        for stale in path.iterdir():
            if stale.is_dir() and not stale.is_symlink():
                shutil.rmtree(stale)
            elif stale.name != "lock":
                stale.unlink()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
