"""What members say to each other: raft's messages, in etcd-io/raft's vocabulary, and what travels beside them.

How records lie on the wire: messages.py.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final, NamedTuple

from zkv.wire.requests import Member
from zkv.wire.shapes import Natural, UInt64


class EntryKind:
    """Plain numbers, as in MessageKind."""

    BATCH: Final = 0  # body: frames of requests, opened by storage only; empty for a new leader's first entry
    CONF_CHANGE: Final = 1  # body: a packed ConfChange


class Entry(NamedTuple):
    """One slot of the log. `time` is the cluster clock in ms, stamped by the leader; it never runs backwards."""

    index: Natural  # type: ignore[assignment] # hides tuple's method, as meant
    term: Natural
    kind: Annotated[int, frozenset((EntryKind.BATCH, EntryKind.CONF_CHANGE))]
    time: Natural
    body: bytes


class HardState(NamedTuple):
    """What must be on disk before any message that rests on it leaves (Raft, figure 2)."""

    term: int = 0
    vote: int = 0
    commit: int = 0


class ConfState(NamedTuple):
    """Who votes and who only listens, as of the conf change at `index` (0: as bootstrapped).

    `voters_outgoing` is not empty while a joint configuration is in force (Raft section 6).
    """

    voters: tuple[int, ...]
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    index: int = 0  # type: ignore[assignment] # hides tuple's method, as meant


class ConfChangeKind(IntEnum):
    ADD_VOTER = 0
    ADD_LEARNER = 1
    REMOVE = 2
    UPDATE = 3  # same rights, other peer urls


class ConfChange(NamedTuple):
    """`changes`: (ConfChangeKind, member id, peer urls). More than one go through a joint configuration.

    No changes at all means: leave the joint configuration. `context` travels along for the proposer.
    """

    changes: tuple[tuple[Annotated[int, ConfChangeKind], UInt64, tuple[str, ...]], ...]
    context: bytes = b""


class SnapshotMeta(NamedTuple):
    """The state machine as of `index`: what a follower starts from when the log before it is gone."""

    index: Natural  # type: ignore[assignment] # hides tuple's method, as meant
    term: Natural
    time: Natural
    conf: ConfState


class MessageKind:
    """Plain numbers: a message is asked for its kind again and again, and compiled code takes 600 instructions to find
    a member of an enumeration, while it has these within it.
    """

    APPEND: Final = 1
    APPEND_ANSWER: Final = 2
    HEARTBEAT: Final = 3
    HEARTBEAT_ANSWER: Final = 4
    PRE_VOTE: Final = 5
    PRE_VOTE_ANSWER: Final = 6
    VOTE: Final = 7
    VOTE_ANSWER: Final = 8
    SNAPSHOT: Final = 9  # "I need a snapshot": a joining member answers an append so; SnapshotChunks follow
    READ_INDEX: Final = 10
    READ_INDEX_ANSWER: Final = 11
    TIMEOUT_NOW: Final = 12


class Message(NamedTuple):
    """What one raft core says to another. Unused fields keep their defaults.

    `index` and `log_term` name a place in the log (of the entry before `entries`, of the candidate's last
    entry, of the follower's match); `reject_hint` and `log_term` of a rejecting append answer tell where to
    look next; `context` ties a read or heartbeat answer to its question, and tells two kinds of an append, and of its
    answer, apart (TOLD and PATIENT in core/raft/leader.py).
    """

    kind: int
    to: int
    sender: int
    term: Natural
    index: Natural = 0  # type: ignore[assignment] # hides tuple's method, as meant
    log_term: Natural = 0
    commit: Natural = 0
    entries: tuple[Entry, ...] = ()
    reject: bool = False
    reject_hint: int = 0
    context: int = 0


# Beside raft's own messages, members tell each other (all inside a PeerFrame):


class Rejoin(NamedTuple):
    """From a member that keeps nothing on disk and has started: whatever it once acknowledged, it has forgotten.

    `incarnation` is another after each start: who was given its vote back and asks on has but not heard of it yet.
    `fresh`: it has not voted since it started, and its log is empty.
    """

    incarnation: int = 0
    fresh: bool = False


class RejoinAnswer(NamedTuple):
    """`fresh`: neither has the member asked voted, nor does its log hold anything; it is starting as well.

    `learner_as_of` (from the leader): the asking member is a learner, in the configuration of that index.
    """

    fresh: bool
    learner_as_of: int | None = None


class Join(NamedTuple):
    """From a server that was added as a member and starts with nothing: who am I? Told by its peer urls."""

    peer_urls: tuple[str, ...]


class JoinAnswer(NamedTuple):
    """Sent to the member's own peer url, which the member table has."""

    cluster_id: int
    member_id: int
    members: tuple[Member, ...]


class Dismissed(NamedTuple):
    """To a member that was removed and does not know it yet: it is to end."""


class Newcomer(NamedTuple):
    """From a member whose disk is empty: have I been here before?"""


class NewcomerAnswer(NamedTuple):
    """`known`: the asking member has once been at work in this cluster, and said so through the log."""

    known: bool


class Forward(NamedTuple):
    """Frames of proposals that came in at a follower, for the leader's log. `members`: as in Propose."""

    frames: tuple[bytes, ...]
    members: bool = False


class ForwardRefused(NamedTuple):
    """The leader did not take these frames into its log: nothing of them will ever be applied."""

    code: int
    frames: tuple[bytes, ...]


class SnapshotChunk(NamedTuple):
    """Part `sequence` (from 0) of the snapshot `meta` of the sender; `pairs`: engine keys and values.

    `digest` runs over all chunks so far, so that chunk `sequence` proves those before it.
    """

    meta: SnapshotMeta
    stream: int
    sequence: int
    pairs: tuple[tuple[bytes, bytes], ...]
    digest: int
    last: bool


class SnapshotAck(NamedTuple):
    """The receiver wants chunk `wanted` of `stream` next, and no longer needs those before it."""

    stream: int
    wanted: int
    refused: bool = False
