"""Raft cores joined by a fake wire, for unit tests: nothing is lost, late or random unless the test says so.

cores = Cores(3)
leader = cores.elect(1)
leader.propose([b"x"], cores.now)
cores.deliver()
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from zkv.core.raft.log import MemoryLog
from zkv.core.raft.raft import Raft, RaftConfig, Ready
from zkv.wire.messages import ConfState, Entry, EntryKind, HardState, Message, MessageKind

if TYPE_CHECKING:
    from collections.abc import Iterable

BYTES_UNBOUNDED = 1 << 62


def entries(*terms: int, first: int = 1) -> list[Entry]:
    """Log entries of these terms: `entries(1, 1, 2)` is how the paper draws a log."""
    return [Entry(index, term, EntryKind.BATCH, 0, b"x") for index, term in enumerate(terms, first)]


def terms(log: MemoryLog) -> list[int]:
    """The reverse of `entries`."""
    return [log.term(index) for index in range(log.first_index, log.last_index + 1)]


def log_of(*entry_terms: int, conf: ConfState, hard_state: HardState | None = None) -> MemoryLog:
    log = MemoryLog(conf)
    if entry_terms:
        log.append(entries(*entry_terms))
    log.set_hard_state(hard_state or HardState(max(entry_terms, default=0), 0, 0))
    return log


def conf_of(voters: int) -> ConfState:
    return ConfState(tuple(range(1, voters + 1)))


def core_of(log: MemoryLog, member: int = 1, *, append_bytes_max: int = 1 << 20, window: int = 64) -> Raft:
    config = RaftConfig(member, append_bytes_max=append_bytes_max, in_flight_appends_max=window)
    return Raft(config, log, random.Random(member), 0)


def message(kind: int, term: int, sender: int = 2, to: int = 1, **fields: Any) -> Message:
    return Message(kind, to, sender, term, **fields)


def settle(core: Raft) -> list[Ready]:
    """The actor's loop, once; every sync succeeds at once."""
    readies = [core.ready()]
    while readies[-1].must_sync:
        readies.append(core.synced())
    return readies


def sent(core: Raft) -> list[Message]:
    """All the messages that come of the inputs so far."""
    return [sent_message for ready in settle(core) for sent_message in ready.messages]


class Cores:
    def __init__(self, voters: int = 3, *, learners: tuple[int, ...] = ()) -> None:
        self.now = 0
        self.conf = conf_of(voters)._replace(learners=learners)
        self.logs: dict[int, MemoryLog] = {}
        self.cores: dict[int, Raft] = {}
        self.cut: set[int] = set()
        """Members that no message reaches or leaves."""
        self.reads: dict[int, list[tuple[int, int]]] = {}
        self.refused_reads: dict[int, list[int]] = {}
        self.snapshots_wanted: list[int] = []
        self.passed: list[Message] = []
        """Every message that arrived."""
        for member in (*self.conf.voters, *learners):
            self.add(member, MemoryLog(self.conf))

    def add(self, member: int, log: MemoryLog, **config: int) -> Raft:
        self.logs[member] = log
        self.cores[member] = Raft(RaftConfig(member, **config), log, random.Random(member), self.now)
        self.reads[member], self.refused_reads[member] = [], []
        return self.cores[member]

    def deliver(self) -> None:
        """Pass messages on until there are none."""
        busy = True
        while busy:
            busy = False
            for member, core in list(self.cores.items()):
                for ready in settle(core):
                    self.reads[member] += ready.reads
                    self.refused_reads[member] += ready.refused_reads
                    self.snapshots_wanted += ready.snapshots_wanted
                    busy |= self._pass(ready.messages)

    def _pass(self, messages: Iterable[Message]) -> bool:
        arrived = [one for one in messages if not {one.to, one.sender} & self.cut and one.to in self.cores]
        for one in arrived:
            self.cores[one.to].step(one, self.now)
        self.passed += arrived
        return bool(arrived)

    def elect(self, member: int) -> Raft:
        """Make `member` stand for election as if its leader had asked it to, and win."""
        core = self.cores[member]
        core.step(message(MessageKind.TIMEOUT_NOW, core.term, to=member), self.now)
        self.deliver()
        assert core.leader == member
        return core

    def run(self, duration: int) -> None:
        """Let time pass, in steps of 10 ms, ticking who is due."""
        for _ in range(duration // 10):
            self.now += 10
            for core in self.cores.values():
                if core.next_wakeup() <= self.now:
                    core.tick(self.now)
            self.deliver()

    def commits(self) -> list[int]:
        return [core.commit for core in self.cores.values()]
