"""Users who try everything, by chance, against a storage and a watch actor; and what they may, by the simplest rules.

`Realm` is what is known of users and roles by those who only saw which commands were accepted: a key is a user's if one
permission of one of his roles names it. It knows neither intervals nor caches nor mirrors. Each answer is held against
it: what was done must have been allowed, what was told must have been the user's to read, at that very moment.
"""

from __future__ import annotations

from random import Random
from typing import Any

from tests.harness.kv_log import OP_OF, entry, group
from zkv.actors.storage_actor import StorageActor
from zkv.actors.watch_actor import WatchActor
from zkv.core.mvcc.engine import MemoryEngine
from zkv.limits import Limits
from zkv.wire import codec
from zkv.wire import messages as m

KEYS = (b"a", b"a\0", b"ab", b"b", b"ba", b"c")
ENDS = (b"", b"", b"\0", b"b", b"b\0", b"c", b"a")
PEOPLE = ("root", "ann", "ann", "ann", "bob", "bob", "")
NAMES = ("ann", "bob", "eve")
ROLES = ("r", "s", "root")
LEASES = (1, 2)
LIMITS = Limits()
DOOR = 1


def holds(key: bytes, start: bytes, end: bytes) -> bool:
    if not end:
        return key == start
    return key >= start and (end == b"\0" or key < end)


class Realm:
    """See the module."""

    def __init__(self) -> None:
        self.enabled = False
        self.revision = 1
        self.users: dict[str, set[str]] = {}
        self.roles: dict[str, dict[tuple[bytes, bytes], int]] = {}

    def accepted(self, request: Any) -> None:
        """A command was answered OK."""
        changes = True
        match request:
            case m.AuthEnable():
                self.enabled, changes = True, False
            case m.AuthDisable():
                changes, self.enabled = self.enabled, False
            case m.UserAdd(name=name):
                self.users[name] = set()
            case m.UserDelete(name=name):
                del self.users[name]
            case m.UserChangePassword():
                pass
            case m.UserGrantRole(name=name, role=role):
                changes = role not in self.users[name]
                self.users[name].add(role)
            case m.UserRevokeRole(name=name, role=role):
                self.users[name].remove(role)
            case m.RoleAdd(name=name):
                self.roles[name] = {}
            case m.RoleDelete(name=name):
                del self.roles[name]
                for roles in self.users.values():
                    roles.discard(name)
            case m.RoleGrantPermission():
                self.roles[request.name][request.key, request.range_end] = request.kind
            case m.RoleRevokePermission():
                del self.roles[request.name][request.key, request.range_end]
            case _:
                changes = False
        self.revision += changes

    def is_root(self, name: str) -> bool:
        return "root" in self.users.get(name, ())

    def may(self, name: str, key: bytes, *kinds: int) -> bool:
        if not self.enabled or self.is_root(name):
            return True
        permissions = [each for role in self.users.get(name, ()) for each in self.roles.get(role, {}).items()]
        return any(kind in kinds and holds(key, *keys) for keys, kind in permissions)

    def may_read(self, name: str, key: bytes) -> bool:
        return self.may(name, key, m.PermissionKind.READ, m.PermissionKind.READWRITE)

    def may_write(self, name: str, key: bytes) -> bool:
        return self.may(name, key, m.PermissionKind.WRITE, m.PermissionKind.READWRITE)

    def allowed(self, name: str, request: Any) -> bool:
        """Of what was done: might it be, by him, now?"""
        if not self.enabled:
            return True
        match request:
            case m.Range():
                return all(self.may_read(name, key) for key in KEYS if holds(key, request.key, request.range_end))
            case m.Put():
                return self.may_write(name, request.key) and (not request.prev_kv or self.may_read(name, request.key))
            case m.DeleteRange():
                keys = [key for key in KEYS if holds(key, request.key, request.range_end)]
                return all(
                    self.may_write(name, key) and (not request.prev_kv or self.may_read(name, key)) for key in keys
                )
            case m.Txn():
                compared = all(
                    self.may_read(name, key)
                    for each in request.compares
                    for key in KEYS
                    if holds(key, each.key, each.range_end)
                )
                return compared and all(self.allowed(name, inner) for _, inner in (*request.success, *request.failure))
            case m.UserGet():
                return self.is_root(name) or name == request.name
            case m.RoleGet():
                return self.is_root(name) or request.name in self.users.get(name, ())
            case m.LeaseGrant() | m.LeaseRevoke() | m.LeaseTimeToLive() | m.Compact():
                return True  # what becomes of keys, and what is told of them, is looked at beside
            case _:
                return self.is_root(name)


class AuthPlay:
    """`done`, `refused`, `told`: what has happened, so that a play in which nothing does is noticed."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.realm = Realm()
        self.done = self.refused = self.told = self.ended = 0
        self._engine = MemoryEngine()
        self._index = 0
        self._to_door: list[Any] = []
        self._to_watch: list[Any] = []
        self._to_storage: list[Any] = []
        self._streams: dict[int, str] = {}  # whose they are: whoever began the last watch there
        self._watchers: dict[int, str] = {}
        self._last_watch = 0
        self._watch = WatchActor(limits=LIMITS, cluster_id=9, member_id=1, post=self._post)
        self._storage = self._open()
        self._watch.handle([("node", m.Hello("gateway", DOOR))], 0)
        self._carry()
        people = [m.UserAdd(name) for name in ("root", *NAMES)]
        self._apply([("", 0, (*people, m.RoleAdd("root"), m.UserGrantRole("root", "root"), m.RoleAdd("r")))])
        self._apply([("", 0, (*(m.Put(key, b"of " + key) for key in KEYS), m.AuthEnable()))])

    def _open(self) -> StorageActor:
        """A storage on what the one before has left."""
        self._to_watch.append(m.Hello("storage", self.rng.getrandbits(30)))
        return StorageActor(
            store=self,
            limits=LIMITS,
            cluster_id=9,
            member_id=1,
            bootstrap=(),
            flusher=self,
            post=self._post,
            mirrors=("gateway", "watch"),
        )

    # --- the store's and the flusher's face --------------------------------------------------------------

    @property
    def engine(self) -> Any:
        return self._engine

    @engine.setter
    def engine(self, engine: Any) -> None:
        raise AssertionError("no snapshot comes here")

    def staging(self) -> Any:
        raise AssertionError("no snapshot comes here")

    def swap_in(self, staging: Any) -> None:
        raise AssertionError("no snapshot comes here")

    def begin(self, engine: Any) -> None: ...

    def is_done(self) -> bool:
        return True

    def _post(self, to: str, message: Any) -> bool:
        boxes = {"watch": self._to_watch, "storage": self._to_storage, "gateway": self._to_door}
        if to in boxes:
            boxes[to].append(codec.decode(codec.encode(message)))
        return True

    def _carry(self) -> None:
        """Until nobody has anything to say: what was asked for under former permissions has come before they change."""
        idle = 0
        while idle < 5:  # storage reads a slice of history in several steps
            mail, self._to_watch = self._to_watch, []
            self._watch.handle([("node", each) for each in mail], 0)
            mail, self._to_storage = self._to_storage, []
            self._storage.handle([("node", each) for each in mail], 1_000)
            idle = 0 if self._to_watch or self._to_storage else idle + 1

    # --- a step ------------------------------------------------------------------------------------------

    def step(self) -> None:
        dice = self.rng.random()
        if dice < 0.05:
            self._storage = self._open()
            self._carry()
            self._look()
        elif dice < 0.2:
            self._begin_watch()
        elif dice < 0.4:
            self._read()
        else:
            self._apply([self._asked() for _ in range(self.rng.choice((1, 1, 1, 2, 3)))])

    def _caller(self) -> tuple[str, int]:
        stale = self.rng.random() < 0.1
        return self.rng.choice(PEOPLE), self.realm.revision - stale

    def _keys(self) -> tuple[bytes, bytes]:
        return self.rng.choice(KEYS), self.rng.choice(ENDS)

    def _asked(self) -> tuple[str, int, tuple[Any, ...]]:
        name, revision = self._caller()
        if self.rng.random() < 0.5:
            if self.rng.random() < 0.85:
                name = "root"
            return name, revision, (self._command(),)
        return name, revision, tuple(self._request() for _ in range(self.rng.choice((1, 1, 2))))

    def _command(self) -> Any:
        rng = self.rng
        name, role = rng.choice(NAMES), rng.choice(ROLES)
        kind = rng.randrange(3)
        return rng.choice(
            (
                m.AuthEnable,
                lambda: m.AuthDisable() if rng.random() < 0.2 else m.AuthEnable(),
                lambda: m.UserAdd(name),
                lambda: m.UserDelete(name) if rng.random() < 0.3 else m.UserGrantRole(name, "r"),
                lambda: m.UserChangePassword(name, "", b"hash"),
                lambda: m.UserGrantRole(name, role if rng.random() < 0.2 else "r"),
                lambda: m.UserGrantRole(name, "s"),
                lambda: m.UserRevokeRole(name, role),
                lambda: m.RoleAdd(role),
                lambda: m.RoleDelete("s"),
                lambda: m.RoleGrantPermission(role, kind, *self._keys()),
                lambda: m.RoleGrantPermission("r", kind, *self._keys()),
                lambda: m.RoleGrantPermission("s", kind, *self._keys()),
                self._revocation,
                self._revocation,
            )
        )()

    def _revocation(self) -> m.RoleRevokePermission:
        """Mostly of what was granted."""
        role = self.rng.choice(("r", "s"))
        granted = sorted(self.realm.roles.get(role, ()))
        return m.RoleRevokePermission(role, *(self.rng.choice(granted) if granted else self._keys()))

    def _request(self, depth: int = 0) -> Any:
        rng = self.rng
        key, end = self._keys()
        dice = rng.random()
        if dice < 0.35:
            return m.Put(key, b"of " + key, rng.choice((0, 0, *LEASES)), prev_kv=rng.random() < 0.3)
        if dice < 0.55:
            return m.Range(key, end, revision=rng.choice((0, 0, 2, 5)))
        if dice < 0.7:
            return m.DeleteRange(key, end, prev_kv=rng.random() < 0.5)
        if dice < 0.8 and depth < 2:
            compares = tuple(
                m.Compare(rng.randrange(4), m.CompareTarget.VERSION, *self._keys()[:1], 1, b"")
                for _ in range(rng.randrange(2))
            )
            branches = [
                tuple((OP_OF[type(each)], each) for each in (self._inner(depth) for _ in range(rng.randrange(3))))
                for _ in range(2)
            ]
            return m.Txn(compares, *branches)
        if depth:
            return m.Range(key, end)
        return rng.choice((m.LeaseGrant(60, rng.choice(LEASES)), m.LeaseRevoke(rng.choice(LEASES)), m.Compact(3)))

    def _inner(self, depth: int) -> Any:
        request = self._request(depth + 1)
        return request._replace(revision=0) if isinstance(request, m.Range) else request

    def _state(self) -> dict[bytes, tuple[int, ...]]:
        machine = self._storage._machine
        found = {}
        for key in KEYS:
            record = machine.store.current(key)
            if record is not None:
                found[key] = tuple(record[:4])
        return found

    def _apply(self, groups: list[tuple[str, int, tuple[Any, ...]]]) -> None:
        """One entry; each group's answers are held against the realm as it was when its turn came."""
        self._index += 1
        packed = [
            group(*requests, caller=(name, revision) if self.realm.enabled or name else None)
            for name, revision, requests in groups
        ]
        before = self._state()
        self._to_door.clear()
        self._storage.handle([("node", m.Apply(1, (entry(self._index, *packed),)))], 1_000)
        answers = [each for mail in self._to_door if isinstance(mail, m.GatewayAnswers) for each in mail.answers]
        assert len(answers) == len(groups)
        alone = len(groups) == 1 and len(groups[0][2]) == 1
        for (name, revision, requests), (_, payload, _) in zip(groups, answers, strict=True):
            for request, (_, code, _, body) in zip(requests, codec.unpack(payload)[4], strict=True):
                if code:
                    self.refused += 1
                    continue
                self.done += 1
                enabled = self.realm.enabled
                assert self.realm.allowed(name, request), (name, request)
                if enabled and not isinstance(request, m.LeaseGrant | m.Txn | m.LeaseRevoke):
                    assert revision >= self.realm.revision, "a stale decision"
                self._seen(name, body)
                if alone:
                    after = self._state()
                    changed = [key for key in KEYS if before.get(key) != after.get(key)]
                    assert all(self.realm.may_write(name, key) for key in changed), (name, request)
                self.realm.accepted(request)
        self._carry()
        self._look()

    def _seen(self, name: str, body: Any) -> None:
        """All keys and values that an answer holds must have been his to read."""
        if isinstance(body, tuple):
            if len(body) == 6 and type(body[0]) is bytes:
                assert self.realm.may_read(name, body[0]), (name, body)
                self.told += 1
                return
            for each in body:
                self._seen(name, each)

    def _read(self) -> None:
        rng = self.rng
        name, revision = self._caller()
        key, end = self._keys()
        request: Any = rng.choice(
            (
                m.Range(key, end),
                m.Range(key, end, serializable=True),
                m.Range(key, end, revision=2),
                m.Txn((), ((1, m.Range(key, end)),), ((1, m.Range(*self._keys())),)),
                m.LeaseTimeToLive(rng.choice(LEASES), True),
                m.Snapshot(),
                m.HashKV(),
                m.UserGet(rng.choice(NAMES)),
                m.RoleGet("r"),
                m.UserList(),
                m.AuthStatus(),
            )
        )
        caller = (name, revision) if self.realm.enabled or name else None
        frame = codec.pack((1, DOOR, ((77, group(request, caller=caller)),)))
        self._to_door.clear()
        self._storage.handle([("node", m.StampedRead(0, None, (frame,)))], 1_000)
        for _ in range(50):
            self._storage.handle([], 1_000)
        for mail in self._to_door:
            for _, payload, _ in mail.answers if isinstance(mail, m.GatewayAnswers) else ():
                for _, code, _, body in codec.unpack(payload)[4]:
                    if code >= 100:
                        self.refused += 1
                        continue
                    self.done += 1
                    assert self.realm.allowed(name, request), (name, request)
                    if isinstance(request, m.LeaseTimeToLive):
                        assert all(self.realm.may_read(name, each) for each in (body[3] if len(body) > 3 else ()))
                    elif isinstance(request, m.Range | m.Txn):
                        self._seen(name, body)

    # --- watches -----------------------------------------------------------------------------------------

    def _begin_watch(self) -> None:
        name, revision = self._caller()
        stream = self.rng.randrange(1, 5)
        key, end = self._keys()
        self._last_watch += 1
        watch = m.Watch(self._last_watch, key, end, self.rng.choice((0, 0, 1)), prev_kv=self.rng.random() < 0.5)
        caller = (name, revision) if self.realm.enabled or name else None
        self._watchers[watch.id] = name
        self._to_watch.append(m.WatchWords(DOOR, ((stream, int(m.ClientKind.WATCH), ((tuple(watch),), caller)),)))
        self._carry()
        self._look()

    def _look(self) -> None:
        """What watchers were told."""
        mails, self._to_door = self._to_door, []
        for mail in mails:
            if not isinstance(mail, m.WatchOut):
                continue
            for stream, payload in mail.answers:
                for ids, kind, _, body in codec.unpack(payload)[6]:
                    if kind == m.WatchKind.CREATED:
                        self._streams[stream] = self._watchers[ids[-1]]
                    if kind == m.WatchKind.CANCELLED:
                        self.ended += 1
                    elif kind in {m.WatchKind.EVENTS, m.WatchKind.FRAGMENT}:
                        for _, kv, prev_kv in body:
                            self._seen(self._streams[stream], (kv, prev_kv))
