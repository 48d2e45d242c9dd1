"""A world for recipes: a store in a dict, leases that end, a clock, and processes that take turns as a seed has it.

What yields effects (zkv/client/steps.py) is a process here. One turn is one effect of one process, so that everything
may happen between any two steps of a recipe. Processes may be stopped (they take no turns, and nobody keeps their
leases alive), go on, be killed, or be interrupted.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from zkv import errors
from zkv.client.steps import Ask, Await, Invoke, Keep, Nanoseconds, Pause, patience_ms
from zkv.client.ticket import Ticket
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.client.calls import Call
    from zkv.client.keeper import Kept
    from zkv.client.steps import Effect, Steps

STEP_MS = 50
FIELDS = {m.CompareTarget.VERSION: 3, m.CompareTarget.CREATE: 1, m.CompareTarget.MOD: 2, m.CompareTarget.LEASE: 5}
SORTED_BY = (0, 3, 1, 2, 4)


class Event(NamedTuple):
    type: str
    kv: m.KeyValue
    revision: int


def inside(key: bytes, start: bytes, end: bytes) -> bool:
    return key == start if not end else key >= start and (end == b"\0" or key < end)


class Store:
    """etcd's store as far as recipes use it. Every state is kept, by revision."""

    def __init__(self) -> None:
        self.revision = 1
        self.states: dict[int, dict[bytes, m.KeyValue]] = {1: {}}
        self.events: list[Event] = []
        self.compacted = 0
        self.leases: dict[int, list[int]] = {}  # id: [ttl in s, the end in ms]
        self._granted = 0

    @property
    def kvs(self) -> dict[bytes, m.KeyValue]:
        return self.states[self.revision]

    def ask(self, request: m.Request, now: int) -> Any:
        """Answer a request: all or nothing, at one revision."""
        if isinstance(request, m.LeaseGrant):
            self._granted += 1
            id_ = 0xFF + self._granted
            self.leases[id_] = [request.ttl, now + request.ttl * 1000]
            return m.LeaseGrantAnswer(id_, request.ttl)
        if isinstance(request, m.LeaseRevoke):
            self.end_lease(request.id)
            return m.LeaseRevokeAnswer()
        if isinstance(request, m.LeaseKeepAlive):
            if request.id not in self.leases:
                raise errors.LeaseNotFound
            ttl = self.leases[request.id][0]
            self.leases[request.id][1] = now + ttl * 1000
            return m.LeaseKeepAliveAnswer(request.id, ttl)
        state, changes = dict(self.kvs), cast("list[Event]", [])
        answer = self._do(cast("m.TxnRequest", request), state, changes)
        self._commit(state, changes)
        return answer

    def end_lease(self, id_: int) -> None:
        if self.leases.pop(id_, None) is None:
            raise errors.LeaseNotFound
        state, changes = dict(self.kvs), cast("list[Event]", [])
        for kv in [kv for kv in state.values() if kv.lease == id_]:
            self._delete(kv.key, state, changes)
        self._commit(state, changes)

    def end_leases(self, now: int) -> None:
        for id_ in [id_ for id_, (_, end) in self.leases.items() if end <= now]:
            self.end_lease(id_)

    def first_event(self, wanted: Await) -> Event | None:
        if wanted.from_revision <= self.compacted:
            raise errors.Compacted
        for event in self.events:
            right = wanted.puts if event.type == "PUT" else wanted.deletes
            if right and event.revision >= wanted.from_revision and inside(event.kv.key, wanted.key, wanted.range_end):
                return event
        return None

    def _commit(self, state: dict[bytes, m.KeyValue], changes: list[Event]) -> None:
        if changes:
            self.revision += 1
            self.states[self.revision] = state
            self.events += changes

    def _do(self, request: m.TxnRequest, state: dict[bytes, m.KeyValue], changes: list[Event]) -> Any:
        if isinstance(request, m.Txn):
            succeeded = all(self._holds(compare, state) for compare in request.compares)
            branch = request.success if succeeded else request.failure
            return m.TxnAnswer(succeeded, tuple((op, self._do(inner, state, changes)) for op, inner in branch))
        if isinstance(request, m.Put):
            return self._put(request, state, changes)
        if isinstance(request, m.DeleteRange):
            gone = [kv for kv in state.values() if inside(kv.key, request.key, request.range_end)]
            for kv in gone:
                self._delete(kv.key, state, changes)
            return m.DeleteRangeAnswer(len(gone), tuple(gone) if request.prev_kv else ())
        return self._range(request, state)

    def _put(self, request: m.Put, state: dict[bytes, m.KeyValue], changes: list[Event]) -> m.PutAnswer:
        if request.lease and request.lease not in self.leases:
            raise errors.LeaseNotFound
        old, revision = state.get(request.key), self.revision + 1
        created, version = (old.create_revision, old.version + 1) if old else (revision, 1)
        kv = m.KeyValue(request.key, created, revision, version, request.value, request.lease)
        state[request.key] = kv
        changes.append(Event("PUT", kv, revision))
        return m.PutAnswer(old if request.prev_kv else None)

    def _delete(self, key: bytes, state: dict[bytes, m.KeyValue], changes: list[Event]) -> None:
        del state[key]
        revision = self.revision + 1
        changes.append(Event("DELETE", m.KeyValue(key, 0, revision, 0, b"", 0), revision))

    def _range(self, request: m.Range, state: dict[bytes, m.KeyValue]) -> m.RangeAnswer:
        if request.revision > self.revision:
            raise errors.FutureRevision
        if request.revision and request.revision < self.compacted:
            raise errors.Compacted
        found = self.states[request.revision] if request.revision else state
        most = request.max_create_revision
        kvs = [
            kv
            for _, kv in sorted(found.items())
            if inside(kv.key, request.key, request.range_end) and (not most or kv.create_revision <= most)
        ]
        kvs.sort(key=lambda kv: kv[SORTED_BY[request.sort_target]], reverse=request.sort_order == m.SortOrder.DESCEND)
        limit = request.limit or len(kvs)
        return m.RangeAnswer(tuple(kvs[:limit]), len(kvs) > limit, len(kvs))

    @staticmethod
    def _holds(compare: m.Compare, state: dict[bytes, m.KeyValue]) -> bool:
        kv = state.get(compare.key)
        left: Any
        if compare.target == m.CompareTarget.VALUE:
            if kv is None:
                return False
            left = kv.value
        else:
            left = kv[FIELDS[m.CompareTarget(compare.target)]] if kv else 0
        right: Any = compare.operand
        return bool((left == right, left > right, left < right, left != right)[compare.result])


class Process:
    def __init__(self, steps: Steps[Any], deadline: int | None) -> None:
        self.steps = steps
        self.deadline = deadline
        self.effect: Effect | None = None
        self.until = 0  # of a pause
        self.kept: list[Kept] = []
        self.stopped = False
        self.busy = False  # it has let the world turn while it does something itself
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None


class World:
    """`lost_answers`: this share of the calls is made, but their answers never come (a deadline passes)."""

    def __init__(self, seed: int = 1, lost_answers: float = 0.0) -> None:
        self.store = Store()
        self.now = 1_000_000
        self.rng = Random(seed)
        self.lost_answers = lost_answers
        self.processes: list[Process] = []
        self.calls = 0
        self._nanoseconds = 0

    def start(self, steps: Steps[Any], timeout_ms: int | None = None) -> Process:
        process = Process(steps, None if timeout_ms is None else self.now + timeout_ms)
        self.processes.append(process)
        self._resume(process, lambda: process.steps.send(None))
        return process

    def run(self, steps: Steps[Any]) -> Any:
        """Start one, and let the world turn until it is done; what it returned, or raises what it raised."""
        process = self.start(steps)
        self.until(lambda: process.done)
        if process.error:
            raise process.error
        return process.result

    def until(self, condition: Callable[[], bool], ms_max: int = 600_000) -> None:
        """Let the world turn until `condition` holds. AssertionError, after so many ms of its time."""
        end = self.now + ms_max
        while not condition():
            self.turn()
            assert self.now < end, "it never happens"

    def settle(self) -> None:
        """Let the world turn until all are done, or wait for something."""
        while any(self._try(process) for process in self._shuffled()):
            pass

    def turn(self) -> None:
        """One effect of one process; where none can be done, a moment passes."""
        if not any(self._try(process) for process in self._shuffled()):
            self.pass_ms(STEP_MS)

    def pass_ms(self, ms: int) -> None:
        until = self.now + ms
        while self.now < until:
            self.now = min(self.now + STEP_MS, until)
            for process in self.processes:
                for kept in process.kept if not process.stopped else ():
                    self._keep_alive(kept)
            self.store.end_leases(self.now)

    def kill(self, process: Process) -> None:
        """As kill -9: it cleans up nothing."""
        self.processes.remove(process)
        process.stopped = True

    def interrupt(self, process: Process, error: BaseException) -> None:
        self._resume(process, lambda: process.steps.throw(error))

    def compact(self) -> None:
        self.store.compacted = self.store.revision

    def _keep_alive(self, kept: Kept) -> None:
        if kept.alive(self.now):
            try:
                self.store.ask(m.LeaseKeepAlive(kept.id), self.now)
                kept.acknowledged(kept.ttl, self.now)
            except errors.LeaseNotFound:
                kept.lost = True

    def _shuffled(self) -> list[Process]:
        ready = [process for process in self.processes if not (process.done or process.stopped)]
        self.rng.shuffle(ready)
        return ready

    def _try(self, process: Process) -> bool:
        """Perform what the process has yielded, if it can be done now, and let it go on to its next effect."""
        if process.done or process.stopped or process.busy:
            return False
        process.busy = True
        try:
            ready, value = self._perform(process)
        except Exception as error:  # noqa: BLE001 (it is the recipe's to deal with)
            caught = error
            self._resume(process, lambda: process.steps.throw(caught))
            return True
        finally:
            process.busy = False
        if ready:
            self._resume(process, lambda: process.steps.send(value))
        return ready

    def _resume(self, process: Process, go: Callable[[], Effect]) -> None:
        try:
            process.effect = go()
        except StopIteration as end:
            process.done, process.result = True, end.value
        except BaseException as error:  # noqa: BLE001 (the test looks at it)
            process.done, process.error = True, error
        if isinstance(process.effect, Pause):
            process.until = self.now + process.effect.ms

    def _perform(self, process: Process) -> tuple[bool, Any]:
        effect = process.effect
        late = process.deadline is not None and process.deadline <= self.now
        match effect:
            case Ask():
                if late and not effect.grace:
                    raise errors.DeadlineExceeded
                return True, self._call(effect.call)
            case Await():
                event = self.store.first_event(effect)
                if event is None:
                    patience_ms(effect, process.deadline, self.now)  # raises when it has none left
                return event is not None, event
            case Keep():
                process.kept.append(effect.kept)
            case Pause():
                if late:
                    raise errors.DeadlineExceeded
                return self.now >= process.until, None
            case Nanoseconds():
                self._nanoseconds += self.rng.randrange(2)  # two may find the same
                return True, self._nanoseconds
            case Invoke():
                return True, effect.function(effect.argument)
        return True, None

    def _call(self, call: Call[Any]) -> Any:
        self.calls += 1
        answer = self.store.ask(call.request, self.now)
        if self.rng.random() < self.lost_answers:
            error = errors.DeadlineExceeded()
            error.maybe_applied = True
            raise error
        ticket = Ticket(call.request, 0, 0, 0, None)
        ticket.answer, ticket.revision, ticket.first_sent = answer, self.store.revision, self.now
        ticket.origin = (1, 1, 1)
        return call.result(ticket)
