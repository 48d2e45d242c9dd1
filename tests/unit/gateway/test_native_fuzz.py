"""The native door among hostile clients, in a house where anything may fail: no seed may break it.

Honest clients ask beside hostile ones, whose messages are mutations of valid ones. Raft and storage are played by
chance: they answer, stream, refuse, forget, restart. The watch actor is the real one: what the door lets through must
not break it. ZKV_FUZZ_SEED=n runs that seed (alone).
"""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from random import Random
from typing import Any

import pytest

from tests.harness import hostile
from zkv import errors
from zkv.actors.watch_actor import WatchActor
from zkv.config import Limits
from zkv.errors import Code
from zkv.gateway import validate
from zkv.gateway.doors import PLAIN_DOOR
from zkv.gateway.native import NativeGateway
from zkv.wire import codec
from zkv.wire import messages as m

SEEDS = [int(os.environ["ZKV_FUZZ_SEED"])] if "ZKV_FUZZ_SEED" in os.environ else list(range(24))
TURNS, HOSTILE_PER_TURN = 250, 6  # 24 seeds: 36,000 mutated messages

LIMITS = Limits(
    in_flight_groups_max=200, in_flight_bytes_max=20_000, request_bytes_max=4000, txn_ops_max=20,
    watch_streams_max=5, watches_max=60,
)  # fmt: skip
TIMEOUT, INCARNATION = 5000, 7
HONEST = [b"\0%04d" % number for number in range(3)]
HOSTILE = [b"\0h%03d" % number for number in range(3)]


FILLED_FROM = {int(m.Op.LEASE_GRANT): 2, int(m.Op.USER_ADD): 3, int(m.Op.USER_CHANGE_PASSWORD): 2}
"""At which field that begins."""


def _as_asked(op: int, fields: tuple[Any, ...]) -> tuple[Any, ...]:
    """Without what the door has filled in."""
    return fields[: FILLED_FROM.get(op, len(fields))]


class House:
    """A gateway, its clients, and the rest of the node as chance plays it."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.now = 0
        self.gateway = NativeGateway(
            limits=LIMITS,
            member_id=1,
            cluster_id=2,
            incarnation=INCARNATION,
            request_timeout_ms=TIMEOUT,
            post=self.post,
        )
        self.blocked = False
        self.next_id = dict.fromkeys(HONEST, 1)
        self.asked: set[tuple[bytes, int]] = set()
        self.answered: Counter[tuple[bytes, int]] = Counter()
        self.cancelled: set[tuple[bytes, int]] = set()
        self.lost: set[tuple[bytes, int]] = set()  # an answer could not be sent: its client will ask again
        self.mail: list[Any] = []  # for the gateway, in its next turn
        self.held: list[tuple[int, list[int]]] = []  # groups with storage: gid, ids not yet answered
        self.incarnations = {"raft": 1, "storage": 1, "watch": 1}
        self.for_watch: list[tuple[str, Any]] = []
        self.revision = 1
        self.watch = self.watch_actor()
        self.term = 1

    # --- what the gateway posts ---------------------------------------------------------------------

    def post(self, address: Any, message: Any) -> bool:
        if isinstance(address, tuple):
            return self.to_client(address[1], m.Answers(*codec.unpack(message)))
        if self.blocked and self.chance.random() < 0.5:
            return False
        message = codec.decode(codec.encode(message))
        if address == "watch":
            self.for_watch.append(("node", message))
            return True
        if isinstance(message, m.StreamCredit | m.Slow):
            return True
        if isinstance(message, m.Relay):  # keep-alives for the leader's lease actor
            message = codec.decode(message.message)
        frame = codec.decode_frame(message.frames[0] if isinstance(message, m.StampedRead) else message.frame)
        for gid, group in frame.groups:
            self.take(gid, group)
        return True

    def take(self, gid: int, group: bytes) -> None:
        """What gets past the door is in order, whoever sent it."""
        assert len(group) <= LIMITS.request_bytes_max
        version, kind, session, floor, requests = codec.unpack(group)
        assert (version, kind, len(session) in (0, 16), 0 <= floor < 1 << 63) == (1, 1, True, True)
        ids = [id_ for id_, _, _ in requests]
        assert len(set(ids)) == len(ids) > 0
        ways = {validate.check(op, _as_asked(op, fields), LIMITS) & ~validate.FILLED for _, op, fields in requests}
        assert len(ways) == 1
        assert len(ids) == 1 or max(ways) < validate.STREAMED
        self.held.append((gid, ids))

    # --- the watch actor ----------------------------------------------------------------------------

    def watch_actor(self) -> WatchActor:
        return WatchActor(limits=LIMITS, cluster_id=2, member_id=1, post=self.post_of_watch)

    def post_of_watch(self, address: str, message: Any) -> bool:
        if address == "gateway":
            self.mail.append(message)
        elif isinstance(message, m.WatchNeeds):
            self.for_watch.append(("node", m.Applied(self.revision, (), self.revision, 1, message.events, True)))
        elif isinstance(message, m.HistoryWanted):
            self.for_watch.append(("node", m.History(message.ticket, message.first, self.revision, ())))
        return True

    def serve_watch(self) -> None:
        """Something happens, and is told."""
        key = bytes([self.chance.randrange(97, 103)])
        since, self.revision = self.revision, self.revision + 1
        event = m.Event(self.chance.random() < 0.3, m.KeyValue(key, 1, self.revision, 1, bytes(20), 0), None)
        applied = m.Applied(self.revision, ((self.revision, (event,)),), since, 1, True, True)
        inbox, self.for_watch = [*self.for_watch, ("node", applied)], []
        self.watch.handle(inbox, self.now)
        assert self.watch.watching.count <= LIMITS.watches_max

    # --- clients ------------------------------------------------------------------------------------

    def to_client(self, client: bytes, answers: m.Answers) -> bool:
        finals = [(client, id_) for id_, code, *_ in answers.answers if code != Code.CHUNK]
        if self.blocked and self.chance.random() < 0.3:
            self.lost.update((client, id_) for id_, *_ in answers.answers)
            return False
        self.answered.update(finals)
        return True

    # --- what chance does ------------------------------------------------------------------------------

    def turn(self) -> None:
        chance = self.chance
        self.now += chance.choice((0, 1, 10, 500))
        self.blocked = chance.random() < 0.1
        inbox: list[tuple[str, Any]] = [("node", each) for each in self.mail]
        self.mail = []
        inbox += [(PLAIN_DOOR, (client, self.honest(client))) for client in HONEST if chance.random() < 0.7]
        for _ in range(HOSTILE_PER_TURN):
            what = chance.random()
            if what < 0.6:
                valid = hostile.requests(chance, chance.randrange(1, 50))
            else:
                valid = hostile.word(chance, 50) if what < 0.7 else hostile.watch_word(chance, 50)
            inbox.append((PLAIN_DOOR, (chance.choice(HOSTILE), hostile.mutated(chance, valid))))
        chance.shuffle(inbox)
        self.gateway.handle(inbox, self.now)
        groups, size = self.gateway.in_flight
        assert groups <= LIMITS.in_flight_groups_max
        assert size <= LIMITS.in_flight_bytes_max
        assert len(self.gateway._watches) <= LIMITS.watch_streams_max
        self.serve()
        self.serve_watch()

    def honest(self, client: bytes) -> bytes:
        first = self.next_id[client]
        if self.chance.random() < 0.2:
            return codec.pack(hostile.watch_word(self.chance, 50))
        if first > 1 and self.chance.random() < 0.2:
            word = hostile.word(self.chance, first - 1)
            if word[1] == m.ClientKind.CANCEL:
                self.cancelled.add((client, word[2]))
            return codec.pack(word)
        message = hostile.requests(self.chance, first)
        self.next_id[client] += len(message[4])
        self.asked.update((client, request[0]) for request in message[4])
        return codec.pack(message)

    def serve(self) -> None:
        """Raft and storage do something, or not, with what they hold."""
        chance = self.chance
        answers: list[tuple[int, bytes, bool]] = []
        kept = []
        for gid, ids in self.held:
            fate = chance.random()
            if fate < 0.4:
                answers.append((gid, self.packed(ids, Code.OK), True))
            elif fate < 0.5 and len(ids) > 1:
                answers.append((gid, self.packed(ids[:1], Code.OK), False))
                kept.append((gid, ids[1:]))
            elif fate < 0.6 and len(ids) == 1 and self.is_stream(gid):
                answers.append((gid, self.packed(ids, Code.CHUNK), False))
                kept.append((gid, ids))
            elif fate < 0.65:
                self.mail.append(m.Refused(INCARNATION, chance.choice((200, 201, 206)), (gid,)))
            elif fate < 0.9:
                kept.append((gid, ids))
            else:
                pass  # lost on the way
        self.held = kept
        if answers:
            self.mail.append(m.GatewayAnswers(INCARNATION, tuple(answers)))
        if chance.random() < 0.02:
            actor = chance.choice(("raft", "storage", "watch"))
            self.incarnations[actor] += 1
            if actor == "watch":
                self.watch, self.for_watch = self.watch_actor(), []
            else:
                self.held = []
            self.mail.append(m.Hello(actor, self.incarnations[actor]))
        if chance.random() < 0.05:
            self.term += chance.randrange(2)
            self.mail.append(m.LeaderIs(self.term, chance.randrange(3)))

    def is_stream(self, gid: int) -> bool:
        return gid in self.gateway._streams.values()

    def packed(self, ids: list[int], code: int) -> bytes:
        return codec.pack(m.Answers(1, 2, 1, self.term, tuple((id_, code, 1, ()) for id_ in ids)))

    def settle(self) -> None:
        """Storage restarts (streams have no other end here), and every deadline passes."""
        self.blocked = False
        self.gateway.handle([("node", each) for each in self.mail], self.now)
        self.gateway.handle([("node", m.Hello("storage", 1 << 40))], self.now)
        while (wakeup := self.gateway.next_wakeup(self.now)) is not None:
            self.now = wakeup
            self.gateway.handle([], self.now)
        self.serve_watch()


@cache
def played(seed: int) -> House:
    house = House(seed)
    for _ in range(TURNS):
        house.turn()
    house.settle()
    return house


@pytest.mark.parametrize("seed", SEEDS)
def test_no_message_breaks_the_door(seed: int) -> None:
    """It raises for none, holds no more than its limits, lets through what is in order only, and forgets everything."""
    gateway = played(seed).gateway
    assert gateway.in_flight == (0, 0)
    assert not gateway._groups
    assert not gateway._streams
    assert not gateway._outgoing
    assert (len(gateway._watches), played(seed).watch.watching.count) == (0, 0)
    assert len(gateway._deadlines) <= TIMEOUT // 100 + 2
    assert gateway.counts.keys() <= {error.__name__ for error in errors.BY_CODE.values()} | {"answers dropped"}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_honest_request_is_answered_once(seed: int) -> None:
    """However the house behaves and whatever others send; unless its client cancelled it, or did not read."""
    house = played(seed)
    honest = {request: count for request, count in house.answered.items() if request[0] in HONEST and request[1]}
    assert set(honest) <= house.asked
    assert set(honest.values()) == {1}
    assert house.asked - set(honest) <= house.cancelled | house.lost
