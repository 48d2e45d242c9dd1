"""The life of a group of requests at the native door."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from zkv import errors
from zkv.config import Limits
from zkv.errors import Code
from zkv.gateway.doors import CURVE_DOOR, PLAIN_DOOR
from zkv.gateway.leaving import DEADLINE_STEP_MS
from zkv.gateway.native import CREDIT_MAX, DRAIN_MS, NativeGateway
from zkv.mailbox import Stop
from zkv.wire import codec
from zkv.wire import messages as m
from zkv.wire.messages import ClientKind, Op

MEMBER, CLUSTER, INCARNATION, TIMEOUT = 11, 22, 33, 7000
ALICE, BOB = b"\0alic", b"\0bobb"

PUT = (Op.PUT, (b"k", b"v"))
GET = (Op.RANGE, (b"k",))
LOCAL_GET = (Op.RANGE, (b"k", b"", 0, 0, 0, 0, True))
SCAN = (Op.RANGE, (b"k", b"l"))
LOCAL_SCAN = (Op.RANGE, (b"k", b"l", 0, 0, 0, 0, True))
STATUS = (Op.STATUS, ())
KEEP_ALIVE = (Op.LEASE_KEEP_ALIVE, (7,))


class Groups(NamedTuple):
    """A frame as its receiver sees it: (address, class of the message, its flag, gids, ids of the requests)."""

    address: str
    message: type
    local: bool
    gids: tuple[int, ...]
    ids: tuple[tuple[int, ...], ...]


class Desk:
    """A gateway, the mail it has posted, and a hand to put mail in."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.now = 1000
        self.full: set[object] = set()  # addresses whose queue is full
        self.mail: list[tuple[str, Any]] = []
        self.answers: list[tuple[tuple[str, bytes], m.Answers]] = []
        self.gateway = NativeGateway(
            limits=limits or Limits(), member_id=MEMBER, cluster_id=CLUSTER, incarnation=INCARNATION,
            request_timeout_ms=TIMEOUT, post=self._post,
        )  # fmt: skip
        self.put_in(m.LeaderIs(5, MEMBER), m.Hello("raft", 1), m.Hello("storage", 1))

    def _post(self, address: Any, message: Any) -> bool:
        if address in self.full:
            return False
        if isinstance(address, str):
            self.mail.append((address, codec.decode(codec.encode(message))))
        else:
            self.answers.append((address, m.Answers(*codec.unpack(message))))
        return True

    def put_in(self, *mail: object) -> None:
        self.gateway.handle([("supervisor" if isinstance(each, Stop) else "node", each) for each in mail], self.now)

    def say(self, client: bytes, *fields: Any, door: str = PLAIN_DOOR) -> None:
        self.gateway.handle([(door, (client, codec.pack((m.PROTOCOL_VERSION, *fields))))], self.now)

    def ask(self, client: bytes, *requests: Any) -> None:
        self.say(client, ClientKind.REQUESTS, b"", 0, requests)

    def answer(self, gid: int, *answers: tuple[int, int], last: bool = True) -> None:
        """Storage answers (id, code) each, in one payload."""
        body = tuple((id_, code, 9, ()) for id_, code in answers)
        packed = codec.pack(m.Answers(m.PROTOCOL_VERSION, CLUSTER, MEMBER, 5, body))
        self.put_in(m.GatewayAnswers(INCARNATION, ((gid, packed, last),)))

    def posted(self) -> list[Groups]:
        """The frames posted since the last call."""
        found = []
        for address, message in self.mail:
            if isinstance(message, m.StreamCredit):
                continue
            packed = message.frames[0] if isinstance(message, m.StampedRead) else message.frame
            frame = codec.decode_frame(packed)
            assert frame[:2] == (MEMBER, INCARNATION)
            ids = tuple(tuple(request[0] for request in codec.unpack(group)[4]) for _, group in frame.groups)
            local = isinstance(message, m.Read) and message.local
            found.append(Groups(address, type(message), local, tuple(gid for gid, _ in frame.groups), ids))
        self.mail = [each for each in self.mail if isinstance(each[1], m.StreamCredit)]
        return found

    def credits(self) -> list[tuple[int, int, int]]:
        """(gid, id, chunks) of the credits posted since the last call."""
        found = [tuple(message) for _, message in self.mail if isinstance(message, m.StreamCredit)]
        self.mail = [each for each in self.mail if not isinstance(each[1], m.StreamCredit)]
        return found  # type: ignore[return-value]

    def heard(self, client: bytes = ALICE, door: str = PLAIN_DOOR) -> list[tuple[int, int]]:
        """(id, code) of the answers sent to a client since the last call."""
        found = [
            (a[0], a[1]) for address, answers in self.answers if address == (door, client) for a in answers.answers
        ]
        self.answers = [each for each in self.answers if each[0] != (door, client)]
        return found

    def is_idle(self) -> bool:
        return self.gateway.in_flight == (0, 0) and not self.gateway._streams and not self.gateway._groups


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- the way of a group ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "address", "message", "local"),
    [
        (PUT, "raft", m.Propose, False),
        (GET, "raft", m.Read, False),
        (SCAN, "raft", m.Read, False),
        (STATUS, "raft", m.Read, True),
        (LOCAL_GET, "storage", m.StampedRead, False),
        (LOCAL_SCAN, "storage", m.StampedRead, False),
        (KEEP_ALIVE, "lease", m.LeaseRequests, False),
    ],
)
def test_each_way_leads_to_its_actor(desk: Desk, request_: Any, address: str, message: type, local: bool) -> None:
    """Writes and linearizable reads to raft, status there too, serializable reads to storage, keep-alives to lease."""
    desk.ask(ALICE, (7, *request_))
    assert desk.posted() == [(address, message, local, (1,), ((7,),))]


def test_keep_alives_go_to_the_lease_actor_of_the_leader(desk: Desk) -> None:
    """Through raft's connections where another member leads; where nobody does, this member's own says so."""
    for leader in (MEMBER, 0, 3):
        desk.put_in(m.LeaderIs(6, leader))
        desk.ask(ALICE, (7, *KEEP_ALIVE))
    (own, _), (nobodys, _), (to, relay) = desk.mail
    assert (own, nobodys, to, relay.member, relay.actor) == ("lease", "lease", "raft", 3, "lease")
    assert isinstance(codec.decode(relay.message), m.LeaseRequests)


def test_groups_of_one_turn_leave_in_one_frame_per_way(desk: Desk) -> None:
    """However many clients they are from."""
    packed = codec.pack((1, ClientKind.REQUESTS, b"", 0, ((1, *PUT), (2, *GET))))
    desk.gateway.handle([(PLAIN_DOOR, (ALICE, packed)), (CURVE_DOOR, (ALICE, packed))], desk.now)
    assert desk.posted() == [
        ("raft", m.Propose, False, (1, 3), ((1,), (1,))),
        ("raft", m.Read, False, (2, 4), ((2,), (2,))),
    ]


def test_a_frame_grows_to_about_the_size_of_a_log_entry() -> None:
    """So that no entry of the log is larger than it must be."""
    desk = Desk(Limits(entry_bytes_max=1000))
    large = codec.pack((1, ClientKind.REQUESTS, b"", 0, ((1, Op.PUT, (b"k", bytes(400))),)))
    desk.gateway.handle([(PLAIN_DOOR, (ALICE, large))] * 5, desk.now)
    assert [frame.gids for frame in desk.posted()] == [(1, 2), (3, 4), (5,)]


def test_answers_find_their_client(desk: Desk) -> None:
    """By the number of the group, unopened, at the door it came in by; then the group is forgotten."""
    desk.ask(ALICE, (1, *PUT))
    desk.say(ALICE, ClientKind.REQUESTS, b"", 0, ((2, *PUT),), door=CURVE_DOOR)
    desk.ask(BOB, (3, *PUT))
    desk.answer(2, (2, Code.OK))
    desk.answer(3, (3, Code.OK))
    assert (desk.heard(ALICE), desk.heard(ALICE, CURVE_DOOR), desk.heard(BOB)) == ([], [(2, 0)], [(3, 0)])
    desk.answer(1, (1, Code.OK))
    desk.answer(1, (1, Code.OK))
    assert desk.heard() == [(1, 0)]
    assert desk.is_idle()


@pytest.mark.parametrize(("clients", "lone"), [(1, True), (2, False)])
def test_raft_is_told_that_a_read_comes_alone(desk: Desk, clients: int, lone: bool) -> None:
    """Then it may be read ahead."""
    packed = codec.pack((1, ClientKind.REQUESTS, b"", 0, ((1, *GET),)))
    desk.gateway.handle([(PLAIN_DOOR, (client, packed)) for client in (ALICE, BOB)[:clients]], desk.now)
    ((_, read),) = desk.mail
    assert read.lone is lone


def ahead(gid: int, id_: int, incarnation: int = INCARNATION) -> m.AnsweredAhead:
    """What storage has read for the one request of a group, which is still to be let pass."""
    packed = codec.pack(m.Answers(m.PROTOCOL_VERSION, CLUSTER, MEMBER, 5, ((id_, Code.OK, 9, ()),)))
    return m.AnsweredAhead(incarnation, gid, packed)


@pytest.mark.parametrize("raft_first", [True, False])
def test_what_was_read_ahead_leaves_when_raft_has_let_it_pass(desk: Desk, raft_first: bool) -> None:
    """Whichever of the two comes second lets it out; and not that of another group."""
    desk.ask(ALICE, (1, *GET))
    desk.ask(BOB, (2, *GET))
    halves = [ahead(1, 1), m.Confirmed(INCARNATION, 1)]
    first, second = reversed(halves) if raft_first else halves
    desk.put_in(first, ahead(2, 2))
    assert desk.heard() == []
    desk.put_in(second)
    assert (desk.heard(), desk.heard(BOB)) == ([(1, 0)], [])
    desk.put_in(m.Confirmed(INCARNATION, 2))
    assert desk.heard(BOB) == [(2, 0)]
    assert desk.is_idle()


def test_what_was_read_ahead_of_too_little_never_leaves(desk: Desk) -> None:
    """Raft has it read again, and that is the answer: what was found before, or comes late, is for nobody."""
    for id_, order in enumerate(((0, 1), (1, 0)), 1):
        desk.ask(ALICE, (id_, *GET))
        packed = codec.pack(m.Answers(m.PROTOCOL_VERSION, CLUSTER, MEMBER, 5, ((id_, Code.OK, 10, ()),)))
        mail = ahead(id_, id_), m.GatewayAnswers(INCARNATION, ((id_, packed, True),))
        desk.put_in(*(mail[at] for at in order))
        assert [answers.answers for _, answers in desk.answers] == [((id_, Code.OK, 10, ()),)]
        desk.answers.clear()
    assert desk.is_idle()
    assert len(desk.gateway._ahead._halves) == 1
    desk.ask(ALICE, (3, *GET))
    desk.put_in(ahead(3, 3))
    assert list(desk.gateway._ahead._halves) == [3]


@pytest.mark.parametrize("actor", ["raft", "storage"])
@pytest.mark.parametrize("raft_first", [True, False])
def test_a_half_is_lost_with_the_process_that_owes_the_other(desk: Desk, actor: str, raft_first: bool) -> None:
    """The client is told to ask again, and whatever comes from before is for nobody."""
    desk.ask(ALICE, (1, *GET))
    halves = [ahead(1, 1), m.Confirmed(INCARNATION, 1)]
    first, second = reversed(halves) if raft_first else halves
    desk.put_in(first, m.Hello(actor, 2), second)
    assert desk.heard() == [(1, errors.Unavailable.code)]
    assert desk.is_idle()


@pytest.mark.parametrize("half", [ahead(1, 1), m.Confirmed(INCARNATION, 1)], ids=lambda half: type(half).__name__)
def test_half_of_an_answer_does_not_keep_a_group_from_its_deadline(desk: Desk, half: Any) -> None:
    """The other may be lost."""
    desk.ask(ALICE, (1, *GET))
    desk.put_in(half)
    desk.now += TIMEOUT + DEADLINE_STEP_MS
    desk.put_in()
    assert desk.heard() == [(1, errors.RequestTimeout.code)]
    assert desk.is_idle()


@pytest.mark.parametrize("raft_first", [True, False])
def test_what_was_not_begun_ahead_is_asked_of_storage_when_it_may_be(desk: Desk, raft_first: bool) -> None:
    """The read comes back, and goes there as one that has been stamped; refused where that has no room."""
    read = m.StampedRead(4, m.Stamp(5, MEMBER, 4, is_learner=False), (b"frame",))
    for gid in (1, 2):
        desk.ask(ALICE, (gid, *SCAN))
        desk.posted()
        halves = [m.AnsweredAhead(INCARNATION, gid, b"", read), m.Confirmed(INCARNATION, gid)]
        for half in reversed(halves) if raft_first else halves:
            assert desk.mail == []
            desk.put_in(half)
        if gid == 1:
            assert desk.mail == [("storage", read)]
            desk.mail.clear()
            desk.full.add("storage")
    assert desk.heard() == [(2, errors.TooManyRequests.code)]


def test_answers_for_an_earlier_life_are_dropped(desk: Desk) -> None:
    """Numbers begin anew with every gateway, so its incarnation goes with them."""
    desk.ask(ALICE, (1, *PUT))
    desk.put_in(m.GatewayAnswers(INCARNATION - 1, ((1, b"", True),)), m.Refused(INCARNATION - 1, 200, (1,)))
    desk.put_in(ahead(1, 1, INCARNATION - 1), m.Confirmed(INCARNATION - 1, 1), m.Confirmed(INCARNATION, 1))
    assert desk.heard() == []
    assert desk.gateway.in_flight[0] == 1


def test_the_head_of_an_answer(desk: Desk) -> None:
    """The gateway's own answers carry cluster, member and the term it has last heard of."""
    desk.say(ALICE, ClientKind.PING, 77)
    assert desk.answers == [((PLAIN_DOOR, ALICE), m.Answers(m.PROTOCOL_VERSION, CLUSTER, MEMBER, 5, (), 77))]


# --- refusals ----------------------------------------------------------------------------------------------


def test_what_raft_refuses_is_refused_to_the_client(desk: Desk) -> None:
    """With its code, for every request of the group."""
    desk.ask(ALICE, (1, *PUT), (2, *PUT))
    desk.put_in(m.Refused(INCARNATION, errors.NoLeader.code, (1, 99)))
    assert desk.heard() == [(1, errors.NoLeader.code), (2, errors.NoLeader.code)]
    assert desk.is_idle()


@pytest.mark.parametrize(
    ("request_", "address"), [(PUT, "raft"), (GET, "raft"), (LOCAL_GET, "storage"), (KEEP_ALIVE, "lease")]
)
def test_a_full_queue_refuses(desk: Desk, request_: Any, address: str) -> None:
    """Nothing was sent, so nothing can have happened: TooManyRequests."""
    desk.full = {address}
    desk.ask(ALICE, (1, *request_))
    assert desk.heard() == [(1, errors.TooManyRequests.code)]
    assert desk.is_idle()


def test_groups_in_flight_are_bounded() -> None:
    """The one too many is refused at once, and an answer makes room."""
    desk = Desk(Limits(in_flight_groups_max=2))
    for id_ in (1, 2, 3):
        desk.ask(ALICE, (id_, *PUT))
    assert desk.heard() == [(3, errors.TooManyRequests.code)]
    desk.answer(1, (1, Code.OK))
    desk.ask(ALICE, (4, *PUT))
    assert desk.heard() == [(1, Code.OK)]
    assert desk.gateway.counts == {"TooManyRequests": 1}


def test_bytes_in_flight_are_bounded() -> None:
    """As the groups are."""
    desk = Desk(Limits(request_bytes_max=1000, in_flight_bytes_max=1500))
    for id_ in (1, 2):
        desk.ask(ALICE, (id_, Op.PUT, (b"k", bytes(900))))
    assert desk.heard() == [(2, errors.TooManyRequests.code)]
    desk.ask(ALICE, (3, *PUT))
    assert desk.heard() == []


def test_a_user_that_is_added_costs_one_request() -> None:
    """Not one before its password is hashed, and another behind that."""
    desk = Desk(Limits(client_requests_max=2))
    for id_ in (1, 2, 3):
        desk.ask(ALICE, (id_, Op.USER_ADD, ("who", "", True, b"")))
    assert [groups.ids for groups in desk.posted()] == [((1,),), ((2,),)]
    assert desk.heard() == [(3, errors.LimitExceeded.code)]


def test_a_message_is_one_frame(desk: Desk) -> None:
    """Several are refused, for nobody knows what they mean."""
    desk.gateway.handle([(PLAIN_DOOR, (ALICE, None))], desk.now)
    assert desk.heard() == [(0, errors.InvalidRequest.code)]


def test_good_and_bad_requests_of_one_message(desk: Desk) -> None:
    """The bad one is refused at once, the good ones go on."""
    desk.ask(ALICE, (1, *PUT), (2, Op.PUT, (b"", b"")))
    assert desk.heard() == [(2, errors.EmptyKey.code)]
    assert desk.posted()[0].ids == ((1,),)


# --- in doubt ------------------------------------------------------------------------------------------------


def test_a_group_nobody_answers_times_out(desk: Desk) -> None:
    """At its deadline, not before; `next_wakeup` says when, and nothing when nothing is in flight."""
    assert desk.gateway.next_wakeup(desk.now) is None
    desk.ask(ALICE, (1, *PUT))
    asked = desk.now
    desk.now += 50
    desk.ask(ALICE, (2, *GET))
    wakeup = desk.gateway.next_wakeup(desk.now)
    assert wakeup is not None
    assert asked + TIMEOUT <= wakeup <= asked + TIMEOUT + DEADLINE_STEP_MS
    desk.now = wakeup - 1
    desk.put_in()
    assert desk.heard() == []
    desk.now = wakeup
    desk.put_in()
    assert desk.heard() == [(1, errors.RequestTimeout.code), (2, errors.RequestTimeout.code)]


def test_a_write_that_storage_says_is_under_way_has_no_deadline(desk: Desk) -> None:
    """A physical compaction; when storage starts anew, it may be asked for again."""
    desk.ask(ALICE, (1, *PUT))
    desk.ask(ALICE, (2, *PUT))
    for gid in (1, 2):
        desk.answer(gid, last=False)
    desk.now += 2 * TIMEOUT
    desk.put_in()
    desk.answer(1, (1, Code.OK))
    desk.put_in(m.Hello("storage", 2))
    assert desk.heard() == [(1, Code.OK), (2, errors.Unavailable.code)]
    assert desk.is_idle()
    assert desk.gateway.next_wakeup(desk.now) is None
    desk.answer(1, (1, Code.OK))
    assert desk.heard() == []


def test_deadlines_kept_are_few(desk: Desk) -> None:
    """A hundred groups a millisecond for as long as a request may take need a deadline per step, not per group."""
    for _ in range(TIMEOUT // 10):
        desk.now += 10
        desk.ask(ALICE, (1, *PUT))
        desk.answer(desk.gateway._last_gid, (1, Code.OK))
    assert len(desk.gateway._deadlines) <= TIMEOUT // DEADLINE_STEP_MS + 2


def test_a_new_leader_puts_writes_in_doubt(desk: Desk) -> None:
    """Reads are raft's to repeat or refuse; writes may be in the old leader's log only, so they are asked again."""
    desk.ask(ALICE, (1, *PUT), (2, *GET), (3, *LOCAL_GET))
    desk.put_in(m.LeaderIs(5, MEMBER))
    assert desk.heard() == []
    desk.put_in(m.LeaderIs(6, 0))
    assert desk.heard() == [(1, errors.LeaderChanged.code)]
    desk.ask(ALICE, (4, *PUT))
    desk.put_in(m.LeaderIs(6, 2))  # the write was given to this leader, or else raft would have refused it
    assert desk.heard() == []
    desk.put_in(m.LeaderIs(7, 2))
    assert desk.heard() == [(4, errors.LeaderChanged.code)]
    assert desk.gateway.in_flight[0] == 2


@pytest.mark.parametrize("lease", ["lease", "leader's lease"])
def test_a_restart_of_a_lease_actor_makes_keep_alives_unavailable(desk: Desk, lease: str) -> None:
    """Of this member's or of the leader's: one of them had them, and nothing else."""
    desk.put_in(m.Hello(lease, 1))
    desk.ask(ALICE, (1, *KEEP_ALIVE), (2, *PUT), (3, *GET), (4, *LOCAL_GET))
    desk.put_in(m.Hello(lease, 1))
    assert desk.heard() == []
    desk.put_in(m.Hello(lease, 2))
    assert desk.heard() == [(1, errors.Unavailable.code)]
    assert desk.gateway.in_flight[0] == 3


def test_a_new_leader_has_keep_alives_asked_again(desk: Desk) -> None:
    """The lease actor of the one before had them."""
    desk.ask(ALICE, (1, *KEEP_ALIVE))
    desk.put_in(m.LeaderIs(6, 2))
    assert desk.heard() == [(1, errors.LeaderChanged.code)]


def test_a_restart_of_raft_makes_what_went_there_unavailable(desk: Desk) -> None:
    """Serializable reads never went there. The same incarnation twice is no restart."""
    desk.ask(ALICE, (1, *PUT), (2, *GET), (3, *STATUS), (4, *SCAN), (5, *LOCAL_GET), (6, *LOCAL_SCAN))
    desk.put_in(m.Hello("raft", 1))
    assert desk.heard() == []
    desk.put_in(m.Hello("raft", 2))
    assert sorted(desk.heard()) == [(id_, errors.Unavailable.code) for id_ in (1, 2, 3, 4)]
    assert desk.gateway.in_flight[0] == 2


def test_a_restart_of_storage_makes_everything_unavailable(desk: Desk) -> None:
    """All answers come from there; a range that had begun to flow has lost its rest."""
    desk.ask(ALICE, (1, *PUT), (2, *GET), (3, *LOCAL_SCAN), (4, *LOCAL_SCAN))
    flowing = desk.gateway._streams[(PLAIN_DOOR, ALICE), 4]
    desk.answer(flowing, (4, Code.CHUNK), last=False)
    desk.heard()
    desk.put_in(m.Hello("storage", 2))
    unavailable = errors.Unavailable.code
    assert sorted(desk.heard()) == [(1, unavailable), (2, unavailable), (3, unavailable), (4, errors.StreamLost.code)]
    assert desk.is_idle()


# --- streams ---------------------------------------------------------------------------------------------------


def test_a_stream_flows_as_its_client_takes(desk: Desk) -> None:
    """Chunks go out, credit goes to storage under the stream's number, no deadline ends it, its last chunk does."""
    desk.ask(ALICE, (5, *SCAN))
    desk.answer(1, (5, Code.CHUNK), last=False)
    desk.say(ALICE, ClientKind.CREDIT, 5, 3)
    assert desk.credits() == [(1, 5, 3)]
    desk.now += 10 * TIMEOUT
    desk.put_in()
    assert desk.heard() == [(5, Code.CHUNK)]
    assert desk.gateway.next_wakeup(desk.now) is None
    desk.answer(1, (5, Code.OK))
    assert desk.heard() == [(5, Code.OK)]
    assert desk.is_idle()
    desk.say(ALICE, ClientKind.CREDIT, 5, 1)
    assert desk.credits() == []


def test_credit_is_for_ones_own_streams(desk: Desk) -> None:
    """Another client's ids are its own; the same routing id at another door is another client."""
    desk.ask(ALICE, (5, *SCAN))
    for client, door in ((BOB, PLAIN_DOOR), (ALICE, CURVE_DOOR)):
        desk.say(client, ClientKind.CREDIT, 5, 1, door=door)
        desk.say(client, ClientKind.CANCEL, 5, door=door)
    assert desk.credits() == []


def test_a_cancelled_stream_is_answered_no_more(desk: Desk) -> None:
    """Storage is told to stop; should it begin only now, it is told again."""
    desk.ask(ALICE, (5, *SCAN))
    desk.say(ALICE, ClientKind.CANCEL, 5)
    assert desk.credits() == [(1, 5, 0)]
    desk.answer(1, (5, Code.CHUNK), last=False)
    assert desk.credits() == [(1, 5, 0)]
    assert desk.heard() == []
    assert desk.is_idle()


def test_a_stream_whose_client_does_not_take_it_is_let_go(desk: Desk) -> None:
    """A dropped chunk ends the stream: a range with a hole must not look whole."""
    desk.ask(ALICE, (5, *SCAN))
    desk.full = {(PLAIN_DOOR, ALICE)}
    desk.answer(1, (5, Code.CHUNK), last=False)
    desk.full.clear()
    desk.answer(1, (5, Code.OK))
    assert desk.credits() == [(1, 5, 0)]
    assert desk.heard() == []
    assert desk.is_idle()
    assert desk.gateway.counts["answers dropped"] == 1


def test_credit_that_cannot_be_passed_on_ends_the_stream(desk: Desk) -> None:
    """Better than a client that waits for chunks nobody sends."""
    desk.ask(ALICE, (5, *SCAN))
    desk.full = {"storage"}
    desk.say(ALICE, ClientKind.CREDIT, 5, 1)
    assert desk.heard() == [(5, errors.StreamLost.code)]
    assert desk.is_idle()


def test_an_id_is_not_used_for_two_streams_at_once(desk: Desk) -> None:
    """Whose chunks are whose? The second one is refused, and the id is free again afterwards."""
    desk.ask(ALICE, (5, *SCAN))
    desk.ask(ALICE, (5, *SCAN))
    assert desk.heard() == [(5, errors.InvalidRequest.code)]
    desk.answer(1, (5, Code.OK))
    desk.ask(ALICE, (5, *SCAN))
    assert desk.heard() == [(5, Code.OK)]


def test_a_group_answered_in_parts_fails_for_the_rest(desk: Desk) -> None:
    """No request is answered twice."""
    desk.ask(ALICE, (1, *PUT), (2, *PUT), (3, *PUT))
    desk.answer(1, (2, Code.OK), last=False)
    desk.put_in(m.Hello("storage", 2))
    unavailable = errors.Unavailable.code
    assert desk.heard() == [(2, Code.OK), (1, unavailable), (3, unavailable)]


@pytest.mark.parametrize(
    "fields",
    [
        (ClientKind.CREDIT,), (ClientKind.CREDIT, 5), (ClientKind.CREDIT, 5, 0), (ClientKind.CREDIT, 5, -1),
        (ClientKind.CREDIT, 5, CREDIT_MAX + 1), (ClientKind.CREDIT, 5, True), (ClientKind.CREDIT, 5, 1, 1),
        (ClientKind.CREDIT, b"5", 1), (ClientKind.CANCEL,), (ClientKind.CANCEL, 1 << 63), (ClientKind.CANCEL, (5,)),
        (ClientKind.PING,), (ClientKind.PING, "x"), (ClientKind.PING, 1.0), (0,), (99,), (99, 5), (-1, 5),
    ],
)  # fmt: skip
def test_malformed_words_are_refused_under_id_zero(desk: Desk, fields: tuple[Any, ...]) -> None:
    """Not under their own id: it is that of a range, which goes on."""
    desk.ask(ALICE, (5, *SCAN))
    desk.say(ALICE, *fields)
    assert desk.heard() == [(0, errors.InvalidRequest.code)]
    assert desk.credits() == []


# --- the end -----------------------------------------------------------------------------------------------------


def test_a_stopping_gateway_finishes_what_is_in_flight(desk: Desk) -> None:
    """New requests are sent elsewhere, ranges that flow are broken off, the others are answered; then it is done."""
    desk.ask(ALICE, (1, *PUT))
    desk.ask(ALICE, (2, *SCAN))
    desk.answer(2, (2, Code.CHUNK), last=False)
    desk.put_in(Stop())
    desk.ask(ALICE, (3, *PUT))
    assert desk.heard() == [(2, Code.CHUNK), (2, errors.StreamLost.code), (3, errors.Stopped.code)]
    assert not desk.gateway.finished
    desk.answer(1, (1, Code.OK))
    assert desk.heard() == [(1, Code.OK)]
    assert desk.gateway.finished


def test_a_stopping_gateway_does_not_wait_for_ever(desk: Desk) -> None:
    """What is not answered in time is in doubt."""
    desk.ask(ALICE, (1, *PUT))
    desk.put_in(Stop())
    desk.put_in(Stop())
    assert desk.gateway.next_wakeup(desk.now) == desk.now + DRAIN_MS
    desk.now += DRAIN_MS
    desk.put_in()
    assert desk.heard() == [(1, errors.Unavailable.code)]
    desk.put_in()
    assert desk.gateway.finished


def test_an_idle_gateway_stops_at_once(desk: Desk) -> None:
    """There is nothing to wait for."""
    desk.put_in(Stop())
    assert desk.gateway.finished


def test_mail_that_cannot_be_is_a_broken_belief(desk: Desk) -> None:
    """A neighbour that sends what is not for a gateway is a bug, not an accident."""
    with pytest.raises(AssertionError, match="unexpected mail"):
        desk.put_in(m.StorageAt(1, 1))
