"""The raft actor: one raft core, its log on disk, and the members and neighbours round it.

It waits for storage to say where it stands (`StorageAt(feed=True)`) before it takes part in anything: a node that
cannot apply must neither vote nor lead. Then each turn goes

    drain -> core.step / core.propose / core.read_index -> send -> log.sync -> send what waited for it -> feed storage

- *Writes*: the frames that gathered become one entry (a few when they are large); a follower forwards them to the
  leader, whose appends leave before its own sync, so that all members' disks work at once (Raft thesis 10.2.1).
- *Linearizable reads* (reads.py): all frames of a turn share one ReadIndex round, and go to storage with its index.
- *Feed* (storage_feed.py): committed entries go to storage in order, at most a window ahead of what it has applied.
- *Log*: cut only behind what storage has made durable, and not while it is short.
- *Snapshots* for members that are too far behind pass through here between the two storages (transfers.py).
- *Membership*: requests to change it pass the leader's member_desk.py; what storage's member table then says is meant,
  the leader brings about (reconciler.py). A member publishes its name and client urls until the table shows them; one
  that keeps nothing, or whose disk is empty, begins by rejoin.py; one that was removed is told, and ends.
- *Leases*: mail between a member's lease actor or gateway and the leader's passes through here (relays.py). The cluster
  clock is the core's; what this member knows of it is kept for its next life (anchor.py).
- *A full disk*: where the log has no room for its next segment, the member falls silent, refuses writes with etcd's
  error, and tries again; where storage has none, it is not fed, and the leadership goes to somebody else.
- *Liveness*: a member whose storage owes an answer for longer than STORAGE_STALL_MS falls silent, and leads no more.
"""

from __future__ import annotations

import contextlib
import random
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

import structlog

from zkv.actors import refill
from zkv.actors.acquaintances import USHER, Acquaintances
from zkv.actors.anchor import AnchorFile, AnchorKeeper, boot_id
from zkv.actors.elbow_room import ElbowRoom
from zkv.actors.log_desk import LogDesk
from zkv.actors.member_desk import MemberDesk
from zkv.actors.node import INSIGHT_ASKS
from zkv.actors.pacing import Pacing
from zkv.actors.peers import DOOR, PeerLinks, PeerMessage, shared_keys
from zkv.actors.publisher import Publisher
from zkv.actors.raft_door import AtTheDoor
from zkv.actors.reads import Reads
from zkv.actors.reconciler import Reconciler
from zkv.actors.rejoin import ASK_MS, Passivity, Probation, Readmission
from zkv.actors.relays import Relays
from zkv.actors.stages import RaftStages
from zkv.actors.storage_feed import StorageFeed
from zkv.actors.transfers import Transfers
from zkv.actors.wal import Wal
from zkv.core.raft import membership
from zkv.core.raft.log import MemoryLog
from zkv.core.raft.raft import Raft, RaftConfig, Ready
from zkv.errors import (
    ConfigError,
    CorruptionError,
    DiskFull,
    NoLeader,
    NoSpace,
    NotCapable,
    TooManyRequests,
    ZkvError,
)
from zkv.mailbox import LOST, Mailbox, Stop
from zkv.wire import codec
from zkv.wire import messages as m
from zkv.wire.groups import are_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zkv.actors.anchor import Anchors
    from zkv.actors.node import Node
    from zkv.config import Limits
    from zkv.core.raft.log import LogPort
    from zkv.gauges import Value

CHORES_MS: Final = 20  # what does not hang on each message is looked at so often, where messages come faster
AWAITED_MS: Final = 1_000  # so long after a write left for the leader, somebody here is taken to wait for its commit
HANDOVER_MS: Final = 2_000  # how long a leader that stops, or cannot apply, waits for another to take over

_JUDGES: Final = {False: codec.is_frame, True: are_requests}  # of what is forwarded: the latter are looked into here
_FREQUENT: Final = frozenset({m.Message, m.Forward, m.Relay, m.StorageAt})  # and not about what chores look at


class RaftActor:
    """See the module. `post` reaches the other actors of this node by the end of the turn, or of `flush`; `post_peer`
    the other members' raft actors. `attributes`: name and client urls to publish. `forgetful`: the log was not on disk,
    and what it held is lost. `refilled`: what it held was set aside, and this is to be called when it counts again.
    `anchors`: keeps what is known of the cluster clock. `outer_gauges`: what the log and the links tell of themselves.
    """

    def __init__(
        self,
        *,
        config: RaftConfig,
        log: LogPort,
        limits: Limits,
        snapshot_count: int,
        seed: int,
        post: Callable[[str, NamedTuple], bool],
        flush: Callable[[], None] = lambda: None,
        post_peer: Callable[[int, NamedTuple], bool],
        set_peers: Callable[[Sequence[m.Member]], None],
        dismiss: Callable[[m.Member], None] = lambda _: None,
        cluster_id: int = 0,
        attributes: tuple[str, tuple[str, ...]] | None = None,
        forgetful: bool = False,
        refilled: Callable[[], None] | None = None,
        anchors: Anchors | None = None,
        doors: Sequence[str] = ("gateway",),
        outer_gauges: Callable[[], Sequence[Value]] = tuple,
        look_about: Callable[[int, int, int], None] = lambda _leader, _bytes, _now: None,
    ) -> None:
        self.finished = False
        self._config = config
        self._member_id = config.member
        self._log = log
        self._limits = limits
        self._snapshot_count = snapshot_count
        self._random = random.Random(seed)  # noqa: S311 - spreads elections, hides nothing
        self._post = post
        self._flush = flush
        self._post_peer = post_peer
        self._set_peers = set_peers
        self._dismiss = dismiss
        self._cluster_id = cluster_id
        self._logger = structlog.get_logger().bind(actor="raft")
        self._core: Raft | None = None
        self._anchors = AnchorKeeper(anchors)
        self._relays = Relays(config.member, limits.in_flight_bytes_max, post=post, post_peer=post_peer)
        self._doors = doors
        self._outer_gauges = outer_gauges
        self._look_about = look_about
        self._leader_changes = self._reads_refused = self._read_context = 0
        self._untold: set[str] = set()  # actors whose queue was full when they were to be told who leads
        self._members: dict[int, m.Member] = {}  # as storage's table, of the entry `_members_index`
        self._members_index = 0
        self._removed: dict[int, m.Member] = {}
        self._reconciler = Reconciler()
        self._desk = MemberDesk(cluster_id, config, post)
        self._log_desk = LogDesk(config.member, cluster_id, log, post)
        self._awaited = False  # somebody waits here for what is committed, says storage
        self._forwarded_at = -AWAITED_MS
        self._commit = 0  # committed, and on our own disk
        self._feed = StorageFeed(log, limits.feed_bytes_max, snapshot_count, post)
        self._reads = Reads(self._feed, post, self._stamp)
        self._stages = RaftStages()
        self._transfers = Transfers(rng=self._random, post=post, post_peer=post_peer, ended=self._snapshot_ended)
        self._publisher = Publisher(config.member, attributes)
        self._forgetful = forgetful
        self._refilled = refilled
        self._incarnation = seed
        self._passivity = Passivity(config.member, seed, post_peer) if forgetful or refilled else None
        self._probation: Probation | None = None
        self._readmission = Readmission(post_peer)
        self._stop_by: int | None = None
        self._sync_owed = self._log_is_full = False
        self._hand_over_at = self._chores_at = 0
        self._pacing = Pacing()
        self._held: list[bytes] = []  # proposals that wait for the next entry to set out

    # --- the actor's face ----------------------------------------------------------------------

    def handle(self, inbox: Sequence[tuple[str, object]], now: int) -> None:
        proposals, self._held = self._held, []
        changes: list[bytes] = []  # of the membership
        reads: list[bytes] = []
        lone = False
        for source, message in inbox:
            if source == "node":
                if type(message) is m.Propose:
                    (changes if message.members else proposals).append(message.frame)
                elif type(message) is m.Read and not message.local:
                    reads.append(message.frame)
                    lone = message.lone
                else:
                    self._from_node(message, now)
            elif source == DOOR:
                assert isinstance(message, PeerMessage)
                self._from_peer(message.sender, message.message, proposals, changes, now)
            elif source == LOST:
                assert isinstance(message, str)
                self._peer_lost(int(message), now)
            elif isinstance(message, Stop):
                self._begin_stop(now)
        core = self._core
        if core is None or self._feed.stalled(now):
            self._refuse([*proposals, *changes, *reads], NoLeader)
            self.finished = self._stop_by is not None
            return
        if self._log_is_full and not self._sync(core, now):
            self._refuse([*proposals, *changes], NoSpace)
            self._refuse(reads, NoLeader)
            self.finished = self._stop_by is not None
            return
        if changes:
            changes = self._log_desk.answer(changes, self._commit, core.term, core.cluster_time(now))
        if self._feed.is_full:
            self._refuse([*proposals, *changes], NoSpace)
            proposals, changes = [], []
            self._hand_over(core, now)
        if changes:
            self._chores_at = now
            proposals += self._changes_to_log(core, changes, now)
        if self._probation is not None and self._probation.is_over(core.conf):
            self._probation = None
        if self._probation is not None:
            self._probation.ask(core.conf, now)
        elif self._passivity is None:
            core.tick(now)
        else:
            self._passivity.ask(core.conf, core.leader, now, fresh=self._is_fresh(core))
        if proposals:
            self._propose(core, proposals, now)
        if reads:
            self._read(core, reads, now)
        if now >= self._chores_at:
            self._do_chores(core, now)
            self._chores_at = now + CHORES_MS if self._publisher.is_done else now
        self._turn(core, now)
        self._feed.feed(self._commit, core.term, now)
        if lone and len(reads) == len(self._reads) == 1:
            self._flush()  # the question of the read's round is to be under way before storage is told
            self._reads.read_ahead(self._read_context, core.commit, now)
        if self._passivity is not None:
            self._leave_passivity(core, self._passivity)
        elif self._forgetful and core.is_learner:
            # a leader took it at its word just as it learned that all are starting: now it must ask for its vote
            self._passivity = Passivity(self._member_id, self._incarnation, self._post_peer)
        if self._stop_by is not None and (now >= self._stop_by or core.leader != self._member_id):
            self._refuse(self._held, NoLeader)
            self._log.sync()
            self.finished = True

    def _do_chores(self, core: Raft, now: int) -> None:
        self._publish(core, now)
        self._reconciler.step(core, self._members, self._members_index, self._readmission.forgetful, now)
        self._leave_if_removed(core)
        self._desk.tend(core, now)
        self._anchors.keep(core.anchor(now), now)
        self._look_about(core.leader, self._feed.fed_bytes, now)
        for actor in tuple(self._untold):
            self._tell_leader(actor)
        self._transfers.tend(now, leading=core.leader == self._member_id)

    def next_wakeup(self, now: int) -> int | None:
        if self._core is None:
            return None
        if self._feed.stalled(now) or self._log_is_full:
            return now + self._config.heartbeat_ms
        active = self._passivity is None and self._probation is None
        wakeup = self._core.next_wakeup() if active else now + ASK_MS
        if self._held:
            wakeup = min(wakeup, self._pacing.next_at)
        return wakeup if self._stop_by is None else min(wakeup, self._stop_by)

    def gauges(self) -> Sequence[Value]:
        core, log = self._core, self._log
        leader, learner = (core.leader, core.is_learner) if core else (0, False)
        numbers = {
            "leader": leader,
            "has leader": bool(leader),
            "is leader": leader == self._member_id,
            "is learner": learner,
            "leader changes": self._leader_changes,
            "term": log.hard_state.term,
            "committed": self._commit,
            "applied": self._feed.applied,
            "fed bytes": self._feed.outstanding_bytes,
            "reads waiting": len(self._reads),
            "reads refused": self._reads_refused,
            "log first": log.first_index,
            "log last": log.last_index,
        }
        return [*((name, "", int(number)) for name, number in numbers.items()), *self._outer_gauges()]

    # --- from the other actors of this node --------------------------------------------------------

    def _from_node(self, message: object, now: int) -> None:
        if type(message) not in _FREQUENT:
            self._chores_at = now  # it may be about what they look at
        match message:
            case m.StorageAt():
                self._storage_at(message, now)
            case m.Relay():
                left = self._relays.pass_on(message)
                self._refuse([] if left is None else [left], NoLeader)
            case m.Read(frame=frame):
                self._post("storage", m.StampedRead(0, self._stamp(now), (frame,)))
            case m.MembersAre(members=members, removed=removed, index=index):
                self._members = {member.id: member for member in members}
                self._removed = {member.id: member for member in removed}
                self._members_index = index
                if members:  # else this one is joining, and the links it was started with are all it has
                    self._set_peers(members)
            case m.Slow():
                self._post("storage", self._stages.explained(message))
            case m.SnapshotOut():
                self._transfers.out(message, now)
            case m.SnapshotTaken():
                self._snapshot_taken(message)
            case m.Hello(actor="gateway" | "grpc" as door):
                self._tell_leader(door)
            case m.Hello(actor="lease"):
                self._tell_leader("lease")
                self._lease_restarted(message.incarnation)
            case m.Hello():
                pass
            case _:
                raise AssertionError(f"unexpected mail {type(message).__name__}")

    def _storage_at(self, at: m.StorageAt, now: int) -> None:
        if at.feed:
            self._storage_begins(at, now)
        self._feed.at(at.applied, at.durable, now)
        self._feed.is_full = at.full
        self._awaited = at.awaited
        if self._core is not None and (keep_from := self._feed.keep_from(self._commit)) > self._log.first_index:
            self._core.compact(keep_from)

    def _storage_begins(self, at: m.StorageAt, now: int) -> None:
        """Storage (re)started: it has what is at or below `at.applied`, and wants what follows."""
        log = self._log
        if at.base is not None and at.base.index > log.last_index:
            # a snapshot became the store, and the node went down before the log knew
            if self._core is None:
                log.reset(at.base)
            else:
                self._core.restore(at.base)
        if at.applied + 1 < log.first_index:
            raise CorruptionError(
                f"the store has applied the log up to {at.applied}, but the log begins at {log.first_index}: "
                f"the store lost data it had made durable; {refill.REMEDY}"
            )
        if at.applied > log.last_index:
            raise CorruptionError(
                f"the store has applied entry {at.applied}, but the log ends at {log.last_index}: "
                f"the log lost entries it had synced; {refill.REMEDY}"
            )
        self._feed.begin(at.applied, at.durable)
        self._reads.storage_begins()
        self._transfers.broken_off()
        if self._core is None:
            self._core = Raft(self._config, log, self._random, now, self._anchors.load())
            if self._passivity is None and self._is_fresh(self._core) and self._member_id in self._core.conf.voters:
                self._probation = Probation(self._member_id, self._post_peer)
        self._tell_leader("storage")

    # --- from other members --------------------------------------------------------------------------

    def _from_peer(
        self, sender: int, message: NamedTuple, proposals: list[bytes], changes: list[bytes], now: int
    ) -> None:
        core = self._core
        if self._log_is_full:
            return  # nothing can be taken into the log, nor a vote given
        if type(message) is m.Relay and message.actor == "storage" and sender not in self._removed:
            self._relays.take_in(sender, message)  # storages compare what they hold before they take part in anything
            return
        if core is None or self._feed.stalled(now):
            return
        if sender in self._removed:
            self._dismiss(self._removed[sender])
        elif type(message) is m.Message:
            if self._probation is None and (self._passivity is None or self._passivity.may_step(message)):
                core.step(message, now)
        elif type(message) is m.Dismissed:
            self._dismissed()
        elif type(message) is m.Join:
            self._asked_to_join(message)
        elif type(message) is m.Newcomer:
            known = self._members.get(sender)
            self._post_peer(sender, m.NewcomerAnswer(known is not None and bool(known.client_urls)))
        elif type(message) is m.NewcomerAnswer:
            if self._probation is not None:
                self._probation.answered(sender, known=message.known)
        elif self._probation is not None:
            return  # nothing may come into the log of one that ought not to be here: it would look like one of ours
        elif type(message) is m.Forward and all(map(_JUDGES[message.members], message.frames)):
            (changes if message.members else proposals).extend(message.frames)
        elif type(message) is m.Relay:
            self._relays.take_in(sender, message)
        elif type(message) is m.ForwardRefused and all(map(codec.is_frame, message.frames)):
            self._refuse_with(message.frames, message.code)
        elif type(message) is m.SnapshotChunk:
            if message.meta.index > core.commit:
                self._post("storage", m.SnapshotIn(sender, message))
            else:  # its last word was lost, or it came by the log meanwhile
                self._post_peer(sender, m.SnapshotAck(message.stream, 0, refused=True))
        elif type(message) is m.SnapshotAck:
            self._transfers.acknowledged(sender, message, now)
        elif type(message) is m.Rejoin:
            self._asked_to_rejoin(core, sender, message, now)
        elif type(message) is m.RejoinAnswer:
            if self._passivity is not None:
                self._passivity.answered(sender, message)
        else:
            self._logger.warning("unexpected message from a peer", peer=f"{sender:x}", kind=type(message).__name__)

    def _peer_lost(self, member: int, now: int) -> None:
        core = self._core
        if core is None:
            return
        core.report_unreachable(member)
        if member == core.leader:
            core.suspect_leader(now)

    # --- writes and reads ----------------------------------------------------------------------------

    def _propose(self, core: Raft, frames: list[bytes], now: int) -> None:
        if core.leader != self._member_id:
            self._forward(core, frames, now)
            return
        if now < self._pacing.next_at:
            self._held += frames
            return
        crowded = len(frames) > 1 or core.commit < core.last_index
        bodies: list[bytes] = []
        at = 0
        while at < len(frames):
            size = 0
            start = at
            while at < len(frames) and (at == start or size + len(frames[at]) <= self._limits.entry_bytes_max):
                size += len(frames[at])
                at += 1
            bodies.append(codec.pack(frames[start:at]))
        try:
            last = core.propose(bodies, now)
        except (NoLeader, TooManyRequests) as error:
            self._refuse(frames, type(error))
        else:
            self._pacing.set_out(last, now, crowded=crowded)

    def _forward(self, core: Raft, frames: list[bytes], now: int, *, members: bool = False) -> None:
        """To the leader, what is ours; what another member forwarded to us goes back: we do not lead any more."""
        own: list[bytes] = []
        strangers: list[bytes] = []
        for frame in frames:
            (own if codec.unpack(frame)[0] == self._member_id else strangers).append(frame)  # it is known to be a frame
        self._refuse(strangers, NoLeader)
        self._forwarded_at = now
        if own and not (core.leader and self._post_peer(core.leader, m.Forward(tuple(own), members))):
            self._refuse(own, NoLeader)

    def _read(self, core: Raft, frames: list[bytes], now: int) -> None:
        self._read_context += 1
        try:
            core.read_index(self._read_context, now)
        except NoLeader as error:
            self._reads_refused += 1
            self._refuse(frames, type(error))
        else:
            self._reads.wait(self._read_context, frames)
            self._stages.read_asked(self._read_context)

    def _refuse(self, frames: Sequence[bytes], error: type[ZkvError]) -> None:
        if frames:
            self._refuse_with(frames, error.code)

    def _refuse_with(self, frames: Sequence[bytes], code: int) -> None:
        """Tell whoever sent these frames that nothing of them will be served."""
        strangers: dict[int, list[bytes]] = {}
        for packed in frames:
            frame = codec.decode_frame(packed)
            if frame.member_id == self._member_id:
                to = "insight" if frame.incarnation == INSIGHT_ASKS else m.door_of(frame.incarnation)
                self._post(to, m.Refused(frame.incarnation, code, tuple(gid for gid, _ in frame.groups)))
            else:
                strangers.setdefault(frame.member_id, []).append(packed)
        for member, theirs in strangers.items():
            self._post_peer(member, m.ForwardRefused(code, tuple(theirs)))

    def _stamp(self, now: int) -> m.Stamp:
        if (core := self._core) is None:
            return m.Stamp(self._log.hard_state.term, 0, self._log.hard_state.commit, False)
        learns = core.is_learner or self._passivity is not None
        return tuple.__new__(m.Stamp, (core.term, core.leader, core.commit, learns, core.cluster_time(now)))

    # --- the turn --------------------------------------------------------------------------------------

    def _turn(self, core: Raft, now: int) -> None:
        """Let out what the core has to say; what rests on the disk after one sync for all of it."""
        core.patient = not self._awaited and now - self._forwarded_at > AWAITED_MS
        ready = core.ready()
        self._let_out(core, ready, now)
        self._sync_owed = ready.must_sync
        self._stages.appended(core.last_index)
        if self._sync(core, now):
            self._stages.turned(core.last_index, self._commit)

    def _sync(self, core: Raft, now: int) -> bool:
        """Make durable what is owed, and let out what waited for it. False: there is no room on the disk."""
        while self._sync_owed:
            self._flush()  # what does not rest on it is not to wait for the disk
            try:
                self._log.sync()
            except DiskFull as error:
                if not self._log_is_full:
                    self._logger.warning("no space left on the disk, waiting for some", reason=error.detail)
                self._log_is_full = True
                return False
            ready = core.synced()
            self._let_out(core, ready, now)
            self._flush()  # a leader waits for this answer, and nobody for what storage is fed next
            self._sync_owed = ready.must_sync
        if self._log_is_full:
            self._logger.info("there is space on the disk again")
        self._log_is_full = False
        return True

    def _let_out(self, core: Raft, ready: Ready, now: int) -> None:
        for message in ready.messages:
            if not self._post_peer(message.to, message):
                core.report_unreachable(message.to)
        self._commit = ready.commit
        self._pacing.committed(core.commit, now)
        for context, index in ready.reads:
            if self._readmission.confirmed(core, context):
                continue
            self._stages.read_ended(context, confirmed=True)
            self._refuse(self._reads.let_pass(context, index, now), TooManyRequests)
        self._reads_refused += len(ready.refused_reads)
        for context in ready.refused_reads:
            self._stages.read_ended(context, confirmed=False)
            if not self._readmission.refused(context):
                self._refuse(self._reads.give_up(context), NoLeader)
        for member in ready.snapshots_wanted:
            self._transfers.begin(member, now)
        if ready.leader_changed or ready.conf_changed:
            self._chores_at = now
            self._untold.update(self._doors)  # of who leads, and whether this member has a vote
        if ready.leader_changed:
            self._leader_changes += core.leader != 0
            self._logger.info("leader is", term=core.term, leader=f"{core.leader:x}" if core.leader else "unknown")
            for actor in (*self._doors, "lease", "storage"):
                self._tell_leader(actor)

    def _tell_leader(self, actor: str) -> None:
        if (core := self._core) is not None:
            told = self._post(actor, m.LeaderIs(core.term, core.leader, core.clock, core.is_learner))
            (self._untold.discard if told else self._untold.add)(actor)

    def _lease_restarted(self, incarnation: int) -> None:
        if self._core is not None and self._core.leader == self._member_id:
            self._relays.tell_lease_restarted(self._members, incarnation)

    # --- snapshots ---------------------------------------------------------------------------------------

    def _snapshot_ended(self, member: int) -> None:
        if self._core is not None:
            self._core.report_snapshot(member)

    def _snapshot_taken(self, taken: m.SnapshotTaken) -> None:
        core = self._core
        if core is not None and taken.installed is not None and taken.installed.index > core.commit:
            self._logger.info("snapshot installed", index=taken.installed.index, member=f"{taken.member:x}")
            core.restore(taken.installed)
            self._feed.begin(taken.installed.index, taken.installed.index)
        self._post_peer(taken.member, taken.ack)

    # --- membership ----------------------------------------------------------------------------------------

    def _changes_to_log(self, core: Raft, frames: list[bytes], now: int) -> list[bytes]:
        """What may go into the log of requests that change the membership."""
        if core.leader != self._member_id:
            for frame in frames:
                self._desk.note_moves(codec.decode_frame(frame), now)
            self._forward(core, frames, now, members=True)
            return []
        passed, refused = self._desk.examine(core, self._members, frames, now)
        for group, error in refused:
            self._refuse([group], error)
        return passed

    def _asked_to_join(self, question: m.Join) -> None:
        """A server that was added asks who it is: whoever is at those urls is told, and nobody else."""
        for member in self._members.values():
            if member.peer_urls == question.peer_urls:
                answer = m.JoinAnswer(self._cluster_id, member.id, tuple(self._members.values()))
                self._post_peer(member.id, answer)

    def _leave_if_removed(self, core: Raft) -> None:
        """Once the configuration in force is without this member. Raises ConfigError."""
        if self._member_id in self._removed and self._member_id not in membership.members(core.conf):
            self._dismissed()

    def _dismissed(self) -> NoReturn:
        raise ConfigError(
            f"the member {self._member_id:x} has been permanently removed from the cluster: "
            "remove its data directory, and add it again if it is to come back"
        )

    def _publish(self, core: Raft, now: int) -> None:
        # with something on the disk: who is known and has nothing there has lost it
        may_propose = bool(core.leader and self._commit)
        frame = self._publisher.look(self._members.get(self._member_id), now, may_propose=may_propose)
        if frame is not None:
            self._propose(core, [frame], now)

    def _is_fresh(self, core: Raft) -> bool:
        """Nothing was ever decided here, nor voted."""
        return core.term == 0 and self._log.last_index == 0 and self._refilled is None

    def _leave_passivity(self, core: Raft, passivity: Passivity) -> None:
        """Once storage has come so far, too: behind that lies what made others count this member out."""
        known = self._members.get(self._member_id)
        stays_learner = self._refilled is not None and known is not None and known.is_learner
        if self._feed.applied >= core.conf.index and passivity.is_over(core.conf, stays_learner=stays_learner):
            self._logger.info("this member learns again" if core.is_learner else "this member has a vote again")
            self._passivity = None
            if self._refilled is not None:
                self._refilled()
                self._refilled = None

    def _asked_to_rejoin(self, core: Raft, sender: int, question: m.Rejoin, now: int) -> None:
        if self._passivity is not None:
            self._passivity.asked(sender, question)
        self._read_context += 1
        fresh = self._is_fresh(core)
        self._readmission.asked(core, sender, question.incarnation, self._read_context, now, fresh=fresh)

    # --- the end -----------------------------------------------------------------------------------------

    def _hand_over(self, core: Raft, now: int) -> None:
        """Who cannot apply ought not to lead, if there is somebody else."""
        if now >= self._hand_over_at and core.leader == self._member_id and (successor := core.successor()):
            self._hand_over_at = now + HANDOVER_MS
            with contextlib.suppress(NoLeader, NotCapable):  # it is under way, or has no sense any more
                core.transfer_leadership(successor, now)

    def _begin_stop(self, now: int) -> None:
        self._stop_by = now
        core = self._core
        if core is not None and (successor := core.successor()):
            try:
                core.transfer_leadership(successor, now)
            except NoLeader:
                return  # nothing to hand over any more
            self._stop_by = now + HANDOVER_MS


def start(node: Node, incarnation: int) -> tuple[AtTheDoor, Mailbox]:
    """The actor on its real disk and sockets, for `mailbox.run`."""
    config = node.config
    neighbours = ("storage", *node.doors, "lease")
    introduced = config.peers_are_introduced
    mailbox = Mailbox(node.rundir, "raft", (*neighbours, USHER) if introduced else neighbours, reports=node.reports)
    acquaintances = Acquaintances(partial(mailbox.post, USHER)) if introduced else None
    curve = acquaintances.curve if acquaintances is not None else None
    if config.peer_curve_secret_key:
        curve = shared_keys(config.peer_curve_secret_key)
    conf = m.ConfState(tuple(sorted(member.id for member in node.bootstrap)))
    in_memory = config.storage == "memory"
    member_dir = Path(node.wal_dir).parent
    refilling = not in_memory and refill.is_begun(member_dir)
    log: LogPort = MemoryLog(conf) if in_memory else Wal(node.wal_dir, node.limits, conf)
    links = PeerLinks(
        mailbox,
        member_id=node.member_id,
        cluster_id=node.cluster_id,
        curve=curve,
        message_bytes_max=2 * node.limits.uncommitted_bytes_max,
        election_ms=config.election_timeout,
        acquaintances=acquaintances,
    )
    actor = RaftActor(
        config=RaftConfig(
            member=node.member_id,
            heartbeat_ms=config.heartbeat_interval,
            election_ms=config.election_timeout,
            append_bytes_max=node.limits.append_bytes_max,
            in_flight_appends_max=node.limits.in_flight_appends_max,
            uncommitted_bytes_max=node.limits.uncommitted_bytes_max,
        ),
        log=log,
        limits=node.limits,
        snapshot_count=config.snapshot_count,
        seed=incarnation,
        post=mailbox.post,
        flush=mailbox.flush,
        post_peer=links.send,
        set_peers=links.set_members,
        dismiss=links.dismiss,
        cluster_id=node.cluster_id,
        attributes=(config.name, config.advertise_client_urls),
        forgetful=in_memory,
        refilled=(lambda: refill.complete(member_dir)) if refilling else None,
        look_about=ElbowRoom(links.core_of).look_about,
        outer_gauges=lambda: [*(log.gauges() if isinstance(log, Wal) else ()), *links.gauges()],
        anchors=None if in_memory else AnchorFile(member_dir / "clock", boot_id()),
        doors=node.doors,
    )
    links.set_members(node.peers)
    links.listen(config.listen_peer_urls)
    for neighbour in neighbours:
        mailbox.post(neighbour, m.Hello("raft", incarnation))
    return AtTheDoor(actor, links), mailbox
