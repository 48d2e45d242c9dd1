"""A data directory made of what an etcd held: the same keys, versions and revisions in a new cluster.

Every event keeps its revision, create revision, version and lease, for they stand in our records as in etcd's
(layout.py). What etcd keeps in memory is found again on the way: which version each event supersedes, and which keys a
lease holds. An event whose predecessor was compacted away supersedes nothing; and what compaction was still to forget
in etcd, the new cluster forgets, for it begins its own from the first event. The rest is as in `restore.py`: revisions
may go up by a bump, leases have their full TTL, the members are new. Users and roles are as they were, and so is
whether authentication is enabled: both sides hash passwords by bcrypt, so they go along.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from zkv.actors.restore import RESTORED_TERM, Restored, begin, being_made, first_records, new_home
from zkv.core.mvcc import layout
from zkv.core.mvcc.layout import CURRENT, NOT_COUNTED, Lease, Place
from zkv.core.mvcc.users import NAMES_MAX
from zkv.errors import ConfigError
from zkv.limits import LEASE_SLACK_MS
from zkv.wire.codec import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from zkv.actors.rocks_engine import RocksEngine
    from zkv.config import NodeConfig
    from zkv.wire.messages import KeyValue

BATCH_CHANGES: Final = 1000
BATCH_BYTES: Final = 4 << 20


class EtcdChange(Protocol):
    """What one revision did to one key."""

    @property
    def revision(self) -> int: ...
    @property
    def sub(self) -> int: ...
    @property
    def deleted(self) -> bool: ...
    @property
    def kv(self) -> KeyValue: ...


class EtcdStore(Protocol):
    """What was read of etcd's, and found whole."""

    revision: int
    compacted: int
    auth: tuple[bool, int]

    def changes(self) -> Iterable[EtcdChange]: ...

    def leases(self) -> Iterable[tuple[int, int]]: ...
    def users(self) -> Iterable[tuple[str, bytes, bool, tuple[str, ...]]]: ...
    def roles(self) -> Iterable[tuple[str, tuple[tuple[int, bytes, bytes], ...]]]: ...


def import_etcd(
    source: EtcdStore, config: NodeConfig, *, bump: int, mark_compacted: bool, progress: Callable[[int], object]
) -> Restored:
    """Make `config.data_dir`. `progress` is told the changes written so far.

    Raises ConfigError (the directory exists, or the settings do not fit), OSError, and what `source` raises.
    """
    target, identity = new_home(config)
    was = Place(0, 0, RESTORED_TERM, 0, source.revision, source.compacted, 0, 0, b"")
    place = begin(was, identity, bump=bump, mark_compacted=mark_compacted)
    with being_made(target, identity) as (engine, _):
        engine.write(_auth_records(source), ())
        written = 0
        for lease, ttl in source.leases():
            until = place.time + ttl * 1000 + LEASE_SLACK_MS
            engine.write(((layout.lease_key(lease), layout.lease_record(Lease(ttl, until, NOT_COUNTED))),), ())
        for batch in _batches(source.changes()):
            _write(engine, batch)
            written += len(batch)
            progress(written)
        engine.write(first_records(place, identity), ())
    return Restored(identity.cluster_id, identity.member_id, place.revision, written)


def _auth_records(source: EtcdStore) -> list[tuple[bytes, bytes]]:
    """Raises ConfigError."""
    enabled, revision = source.auth
    users, roles = list(islice(source.users(), NAMES_MAX + 1)), list(islice(source.roles(), NAMES_MAX + 1))
    if max(len(users), len(roles)) > NAMES_MAX:
        raise ConfigError(f"there are more than {NAMES_MAX} users, or roles")
    if not (users or roles or enabled):
        return []
    return [
        (layout.AUTH, pack((enabled, max(1, revision)))),
        *((layout.USER + user[0].encode(), pack(user)) for user in users),
        *((layout.ROLE + name.encode(), pack(permissions)) for name, permissions in roles),
    ]


def _batches(changes: Iterable[EtcdChange]) -> Iterator[list[EtcdChange]]:
    batch: list[EtcdChange] = []
    held = 0
    for change in changes:
        batch.append(change)
        held += len(change.kv.key) + len(change.kv.value)
        if len(batch) == BATCH_CHANGES or held >= BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _write(engine: RocksEngine, batch: list[EtcdChange]) -> None:
    """Some changes, in one write: the events, and what is current after them."""
    names = list({CURRENT + change.kv.key: None for change in batch})
    current = dict(zip(names, engine.get_many(names), strict=True))
    puts: list[tuple[bytes, bytes]] = []
    attached: dict[bytes, bool] = {}
    for revision, sub, deleted, kv in ((each.revision, each.sub, each.deleted, each.kv) for each in batch):
        name = CURRENT + kv.key
        record = current[name]
        before, before_sub, lease = (0, 0, 0)
        if record is not None:
            before, before_sub, _, _, lease = layout.current_head(record)
        if lease != kv.lease:
            if lease:
                attached[layout.attached_key(lease, kv.key)] = False
            if kv.lease and engine.get(layout.lease_key(kv.lease)) is not None:
                attached[layout.attached_key(kv.lease, kv.key)] = True
        flag, mark = (layout.TOMBSTONE_FLAG, layout.TOMBSTONE_MARK) if deleted else (layout.PUT_FLAG, layout.PUT_MARK)
        made = {"create": kv.create_revision, "version": kv.version, "lease": kv.lease}
        event = layout.packed_event(kv.key, kv.value, flags=flag, before=(before, before_sub), **made)
        puts.append((layout.event_key(revision, sub), event))
        puts.append((layout.history_key(kv.key, revision, sub), mark))
        current[name] = None if deleted else layout.packed_current(revision, sub, value=kv.value, **made)
    deletes = [key for key, is_attached in attached.items() if not is_attached]
    puts += ((key, b"") for key, is_attached in attached.items() if is_attached)
    for name, record in current.items():
        if record is None:
            deletes.append(name)
        else:
            puts.append((name, record))
    engine.write(puts, deletes)
