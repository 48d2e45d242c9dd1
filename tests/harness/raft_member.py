"""One simulated member: a raft core, its disk, and a state machine that is but the index it has applied.

It runs the actor's loop (head of zkv/core/raft/raft.py) with syncs that take time: messages that arrive meanwhile
wait in the inbox. The process may be paused, and may crash at any moment, in the middle of a sync too;
disk and durable state survive, as far as they do.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from tests.harness.raft_disk import FaultyLog
from zkv.core.raft.raft import Raft, RaftConfig, Ready, Role
from zkv.errors import ZkvError
from zkv.wire.messages import ConfState, Message, SnapshotMeta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.harness.raft_checks import Watcher
    from tests.harness.raft_world import World

BYTES_UNBOUNDED = 1 << 62


class Snapshot(NamedTuple):
    """A whole state machine on its way to another member: being but an index, it is its own meta."""

    meta: SnapshotMeta


class Member:
    def __init__(self, world: World, watcher: Watcher, config: RaftConfig, conf: ConfState) -> None:
        self.id = config.member
        self.core: Raft | None = None  # None: the process is down
        self.log = FaultyLog(conf)
        self.sync_ms = 0
        """How long the disk takes for a sync."""
        self.sync_in_thread = False
        """Whether messages are taken in while a sync runs."""
        self.applied = 0
        self._world = world
        self._watcher = watcher
        self._config = config
        self._durable = SnapshotMeta(0, 0, 0, conf)  # what the state machine would be after a crash
        self._installed = False  # that came from another member
        self._inbox: list[Message] = []
        self._life = 0  # counts starts; what was planned in an earlier life does not happen
        self._busy = False  # a sync is under way
        self._paused = False
        self._turn_planned = False
        self._wakeup_planned = 0
        self._term_led = 0  # the last term in which it was seen to lead
        self._conf_watched = conf  # the configuration as of then
        self._watched = 0  # commit index up to which the watcher has seen the log
        self._reads: dict[int, int] = {}  # context -> the watcher's floor
        self._read_context = 0
        self.reads_served = 0
        self.log.on_append = lambda entries: watcher.appends(self.core, self.log, entries)
        world.processes[self.id] = self

    # --- life and death --------------------------------------------------------------------------------

    def start(self) -> None:
        self._life += 1
        self._busy = self._paused = self._turn_planned = False
        self._wakeup_planned = 0
        self._inbox.clear()
        self._reads.clear()
        assert self._installed or self._durable.index <= self.log.last_index, "the log has lost what was applied"
        assert self._durable.index + 1 >= self.log.first_index, "the log was cut before the state was durable"
        self.applied = self._durable.index
        seed = random.Random(self._world.rng.getrandbits(64))
        self.core = Raft(self._config, self.log, seed, self._world.now)
        self.core.patient = self._world.rng.random() < 0.5
        self.core.restore(self._durable)  # perhaps it went down between installing a snapshot and telling the log
        self._watched = self.log.base.index
        self._watch(self.core)
        self._plan_turn()

    def crash(self) -> None:
        self.core = None
        self._life += 1
        self.log.crash(self._world.rng)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._plan_turn()

    # --- inputs ------------------------------------------------------------------------------------

    def deliver(self, message: object) -> None:
        if self.core is None:
            return
        if isinstance(message, Snapshot):
            self._install(message.meta)
        else:
            assert isinstance(message, Message)
            self._inbox.append(message)
            self._plan_turn()

    def ask(self, request: Callable[[Raft, int], object]) -> bool:
        """Ask something of the core, as its actor would; False if it is not up to it now."""
        if self.core is None or self._busy or self._paused:
            return False
        try:
            request(self.core, self._world.now)
        except ZkvError:
            return False
        self._plan_turn()
        return True

    def disconnected(self, others: Iterable[int]) -> None:
        """Its connections to these members break."""

        def tell(core: Raft, now: int) -> None:
            for other in others:
                core.report_unreachable(other)
                if other == core.leader:
                    core.suspect_leader(now)

        self.ask(tell)

    def read(self) -> None:
        self._read_context += 1
        context, floor = self._read_context, self._watcher.read_asked()
        if self.ask(lambda core, now: core.read_index(context, now)):
            self._reads[context] = floor

    def make_durable(self) -> None:
        """The state machine flushes what it has applied."""
        if self.core is not None and self.applied > self._durable.index and self.core.conf.index <= self.applied:
            last = self.log.entries(self.applied, self.applied + 1, 0)[0]
            self._durable = SnapshotMeta(last.index, last.term, last.time, self.core.conf)
            self._installed = False

    def compact(self) -> None:
        if self.core is not None:
            self.core.compact(self._durable.index)

    def _install(self, meta: SnapshotMeta) -> None:
        assert self.core is not None
        if meta.index <= self.core.commit or self._busy or self._paused:
            return
        self._watcher.restores(meta)
        self._durable, self._installed, self.applied = meta, True, meta.index
        if self._world.rng.random() < 0.1:
            self.crash()  # before the log knows
            self._world.plan(50, lambda: self.start() if self.core is None else None)
            return
        self.core.restore(meta)
        self._watched = max(self._watched, meta.index)
        self._plan_turn()

    # --- the loop --------------------------------------------------------------------------------------

    def _plan(self, delay: int, deed: Callable[[], None]) -> None:
        life = self._life
        self._world.plan(delay, lambda: deed() if life == self._life else None)

    def _plan_turn(self) -> None:
        if not self._turn_planned:
            self._turn_planned = True
            self._plan(0, self._turn)

    def _turn(self) -> None:
        self._turn_planned = False
        core, now = self.core, self._world.now
        if core is None or self._paused or (self._busy and not self.sync_in_thread):
            return
        messages, self._inbox = self._inbox, []
        for message in messages:
            core.step(message, now)
            self._watch(core)
        if core.next_wakeup() <= now:
            core.tick(now)
        if not self._busy:
            self._publish(core, core.ready())

    def _synced(self, written: int) -> None:
        core = self.core
        if core is None:
            return
        if self._paused:
            self._plan(20, lambda: self._synced(written))
            return
        self.log.sync_until(written)
        self._busy = False
        self._publish(core, core.synced())
        self._plan_turn()

    def _publish(self, core: Raft, ready: Ready) -> None:
        self._watch(core)
        world = self._world
        for message in ready.messages:
            self._watcher.sends(message, self.log, self._leaders_log(message))
            world.send(self.id, message.to, message)
        self.applied = max(self.applied, ready.commit)
        for context, index in ready.reads:
            self.reads_served += 1
            self._watcher.read_answered(self._reads.pop(context), index)
        for context in ready.refused_reads:
            del self._reads[context]
        for member in ready.snapshots_wanted:
            self._plan(world.rng.randint(1, 200), lambda to=member: self._stream(to))  # type: ignore[misc]
        if ready.must_sync:
            self._busy = True
            written = self.log.written
            self._plan(world.rng.randint(0, self.sync_ms), lambda: self._synced(written))
        self._plan_wakeup(core)

    def _plan_wakeup(self, core: Raft) -> None:
        wakeup = max(core.next_wakeup(), self._world.now + 1)
        if not self._world.now < self._wakeup_planned <= wakeup:
            self._wakeup_planned = wakeup
            self._plan(wakeup - self._world.now, self._wake)

    def _wake(self) -> None:
        if self.core is None:
            return
        if self.core.next_wakeup() <= self._world.now:
            self._plan_turn()
        else:
            self._plan_wakeup(self.core)

    def _stream(self, to: int) -> None:
        """Send `to` the state: the durable one, as it would be read from disk."""
        self.make_durable()
        if self._durable.index:
            self._world.send(self.id, to, Snapshot(self._durable))
        self._plan(300, lambda: self.core.report_snapshot(to) if self.core else None)

    # --- the watcher -------------------------------------------------------------------------------

    def _leaders_log(self, message: Message) -> FaultyLog | None:
        other = self._world.processes.get(message.to)
        if isinstance(other, Member) and (core := other.core) and core.leader == core.id and core.term == message.term:
            return other.log
        return None

    def _holds(self, member: int, index: int, term: int) -> bool:
        other = self._world.processes[member]
        assert isinstance(other, Member)
        durable = other.log.durable
        return durable.base.index >= index or (durable.last_index >= index and durable.term(index) == term)

    def _watch(self, core: Raft) -> None:
        conf_before, self._conf_watched = self._conf_watched, core.conf
        if core.commit > self._watched:
            low = max(self._watched + 1, self.log.first_index)
            if low <= core.commit:
                self._watcher.commits(core, self.log.entries(low, core.commit + 1, BYTES_UNBOUNDED))
            self._watched = core.commit
            if core.role is Role.LEADER and core.term == self._term_led:
                self._watcher.counts(core, (conf_before, core.conf), self._holds)
        if core.role is Role.LEADER and core.term != self._term_led:
            self._term_led = core.term
            self._watcher.leads(core, self.log)
