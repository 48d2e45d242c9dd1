"""The insight actor: tells the outside how its member does, by HTTP, and disturbs the others as little as possible.

    every actor -- Gauges --------> insight    what it tells of itself, once a second
    raft, storage <-- Read, StampedRead - insight    may I read? (when somebody asks for the member's health)
    storage, raft -- GatewayAnswers, Refused -> insight

A question for the member's health is answered from real reads: of this member's store, and, linearizable, through raft
and a quorum. However many ask, one read of each kind is under way; who comes meanwhile waits for the next.

It runs where --listen-metrics-urls or a url for etcd's clients is given, keeps nothing, and may die without harm to
anybody but those who ask. The server is in `insight_http.py`, metrics are rendered in `insight_metrics.py`, health is
judged in `core/health.py`.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Final, NamedTuple

from zkv import errors
from zkv.actors.node import INSIGHT_ASKS
from zkv.core.health import Findings
from zkv.mailbox import INSIGHT, Mailbox, Stop
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zkv.actors.node import Node
    from zkv.gauges import Value

SILENCE_MS: Final = 15_000
"""A process that has not told of itself for so long is taken for dead: they tell each second, but a delete of a million
keys, or a disk that is stuck, may take storage for longer."""
READ_MS: Final = 1_000
"""And two election timeouts: as long a read may take."""
QUESTIONS_MAX: Final = 64
"""More are told that there are too many."""
_NO_LEADER: Final = frozenset((errors.NoLeader.code, errors.LeaderChanged.code))


class Question:
    """What a thread of the HTTP server wants to know; the answer goes into `reply`."""

    __slots__ = ("alarms", "deadline", "left", "reply", "results")

    def __init__(self, *, local: bool, quorum: bool) -> None:
        self.left = {kind for kind, wanted in (("local", local), ("quorum", quorum)) if wanted}
        self.results: dict[str, str] = {}
        self.alarms: tuple[tuple[int, int], ...] = ()
        self.deadline = 0
        self.reply: queue.SimpleQueue[Found] = queue.SimpleQueue()


class Found(NamedTuple):
    findings: Findings
    reports: Mapping[str, m.Gauges]


class _Round:
    """A read under way, and who waits for it."""

    __slots__ = ("askers", "deadline", "gid")

    def __init__(self, gid: int, askers: list[Question], deadline: int) -> None:
        self.gid = gid
        self.askers = askers
        self.deadline = deadline


class InsightActor:
    """`actors`: those that are to be heard of. `questions`: where those of the HTTP server come in, with a bell."""

    def __init__(
        self,
        *,
        member_id: int,
        incarnation: int,
        read_ms: int,
        actors: Sequence[str],
        questions: queue.SimpleQueue[Question],
        post: Callable[[str, NamedTuple], bool],
        now: int,
    ) -> None:
        self.finished = False
        self._member_id = member_id
        self._gid = incarnation >> 1  # another start for each life: answers to a predecessor are not taken for ours
        self._read_ms = read_ms
        self._actors = tuple(actors)
        self._questions = questions
        self._post = post
        self._heard = dict.fromkeys(actors, now)
        self._reports: dict[str, m.Gauges] = {}
        self._open: list[Question] = []
        self._waiting: dict[str, list[Question]] = {"local": [], "quorum": []}
        self._rounds: dict[str, _Round | None] = {"local": None, "quorum": None}
        self._reads = 0

    def handle(self, inbox: Sequence[tuple[str, object]], now: int) -> None:
        for _, message in inbox:
            match message:
                case m.Gauges(actor=actor):
                    self._heard[actor] = now
                    self._reports[actor] = message
                case m.GatewayAnswers(answers=answers):
                    for gid, payload, last in answers:
                        if last:
                            self._answered(gid, payload)
                case m.Refused(code=code, gids=gids):
                    for gid in gids:
                        self._settle(gid, errors.from_code(code).text, ())
                case Stop():
                    self.finished = True
                case None:
                    self._take_questions(now)
                case _:
                    raise AssertionError(f"unexpected mail {type(message).__name__}")
        self._expire(now)
        for kind in self._rounds:
            self._begin(kind, now)
        self._reply(now)

    def next_wakeup(self, now: int) -> int | None:  # noqa: ARG002 - every actor has this face
        deadlines = [question.deadline for question in self._open]
        deadlines += [round_.deadline for round_ in self._rounds.values() if round_ is not None]
        return min(deadlines, default=None)

    def gauges(self) -> Sequence[Value]:
        return [("reads", "", self._reads), ("questions", "", len(self._open))]

    # --- questions -----------------------------------------------------------------------------------

    def _take_questions(self, now: int) -> None:
        while True:
            try:
                question = self._questions.get_nowait()
            except queue.Empty:
                return
            question.deadline = now + self._read_ms
            if len(self._open) >= QUESTIONS_MAX:
                question.results = dict.fromkeys(question.left, errors.TooManyRequests.text)
                question.left.clear()
            for kind in question.left:
                self._waiting[kind].append(question)
            self._open.append(question)

    def _begin(self, kind: str, now: int) -> None:
        """A read for all who wait for one of this kind, unless one is under way."""
        askers = self._waiting[kind]
        if self._rounds[kind] is not None or not askers:
            return
        self._gid += 1
        self._reads += 1
        self._waiting[kind] = []
        self._rounds[kind] = _Round(self._gid, askers, now + self._read_ms)
        requests = ((1, int(m.Op.ALARM), m.Alarm()), (2, int(m.Op.RANGE), m.Range(b"health", keys_only=True)))
        group = codec.pack((m.PROTOCOL_VERSION, int(m.ClientKind.REQUESTS), b"", 0, requests, m.HOUSE))
        frame = codec.pack(m.Frame(self._member_id, INSIGHT_ASKS, ((self._gid, group),)))
        if kind == "quorum":
            taken = self._post("raft", m.Read(frame))
        else:
            taken = self._post("storage", m.StampedRead(0, None, (frame,)))
        if not taken:
            self._settle(self._gid, errors.TooManyRequests.text, ())

    def _answered(self, gid: int, payload: bytes) -> None:
        alarms: tuple[tuple[int, int], ...] = ()
        trouble = ""
        for request, code, _, body in codec.unpack(payload)[4]:
            if code != errors.Code.OK:
                trouble = errors.from_code(code).text
            elif request == 1:
                alarms = m.AlarmAnswer(*body).alarms
        self._settle(gid, trouble, alarms)

    def _settle(self, gid: int, trouble: str, alarms: tuple[tuple[int, int], ...]) -> None:
        for kind, round_ in self._rounds.items():
            if round_ is not None and round_.gid == gid:
                self._rounds[kind] = None
                for question in round_.askers:
                    question.left.discard(kind)
                    question.results[kind] = trouble
                    question.alarms = question.alarms or alarms

    def _expire(self, now: int) -> None:
        for round_ in self._rounds.values():
            if round_ is not None and now >= round_.deadline:
                self._settle(round_.gid, errors.RequestTimeout.text, ())
        for question in self._open:
            if now >= question.deadline:
                for kind in question.left:
                    question.results[kind] = errors.RequestTimeout.text
                question.left = set()
        for kind, waiting in self._waiting.items():
            self._waiting[kind] = [question for question in waiting if kind in question.left]

    def _reply(self, now: int) -> None:
        done = [question for question in self._open if not question.left]
        if not done:
            return
        self._open = [question for question in self._open if question.left]
        silent = tuple(actor for actor in self._actors if now - self._heard[actor] > SILENCE_MS)
        reports = {actor: report for actor, report in self._reports.items() if now - self._heard[actor] <= SILENCE_MS}
        for question in done:
            results = question.results
            question.reply.put(
                Found(
                    Findings(self._actors, silent, question.alarms, results.get("local"), results.get("quorum")),
                    reports,
                )
            )


def start(node: Node, incarnation: int) -> tuple[InsightActor, Mailbox]:
    """The actor, and its HTTP server in threads of this process, for `mailbox.run`."""
    from zkv.actors import insight_http  # only nodes that are asked pay for it
    from zkv.monotonic import monotonic_ms

    mailbox = Mailbox(node.rundir, INSIGHT, ("raft", "storage"), reports=True)
    questions: queue.SimpleQueue[Question] = queue.SimpleQueue()
    read_ms = READ_MS + 2 * node.config.election_timeout
    insight_http.serve(
        insight_http.Desk(questions, mailbox.bell(), member_id=node.member_id, patience_s=2 * read_ms / 1000),
        node.config.listen_metrics_urls,
        node.insight_socket,
        insight_http.Secure(node.config)
        if any(u.startswith("https") for u in node.config.listen_metrics_urls)
        else None,
    )
    actor = InsightActor(
        member_id=node.member_id,
        incarnation=incarnation,
        read_ms=read_ms,
        actors=[actor for actor in node.actors if actor != INSIGHT],
        questions=questions,
        post=mailbox.post,
        now=monotonic_ms(),
    )
    return actor, mailbox
