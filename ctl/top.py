"""`zkv top`: the members of a cluster at work, drawn anew every second until one has seen enough.

Each frame asks every endpoint what its processes tell of themselves; what it shows is the difference to the frame
before. A member that does not answer is shown as down, and asked again for the next frame.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any

from zkv.ctl.command import Call, Command
from zkv.ctl.connection import Connection, answer_of
from zkv.ctl.endpoint import CLUSTER, NATIVE_SCHEMES, endpoints_of
from zkv.ctl.options import EXIT_ERROR, CommandError, Flag, switch
from zkv.ctl.top_numbers import Frame, Seen, frame
from zkv.errors import PermissionDenied, RequestError, UserEmpty, ZkvError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


PATIENCE_MS = 1_000
"""As long a member may take to answer; it answers within half a second, whatever its processes do."""
INTERVAL_NS_MIN = 200_000_000


class Watch:
    """Looks at all endpoints, again and again."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._endpoints: Sequence[str] = endpoints_of(call)
        self._connection = self._connect()
        self._before: dict[str, Seen] = {}
        self.names: dict[int, str] = {}
        self.cluster = 0

    def _connect(self) -> Connection:
        return self._call.connect(self._endpoints, patience_ms=PATIENCE_MS)

    def close(self) -> None:
        self._connection.__exit__(None, None, None)

    def look(self) -> Frame:
        now = self._look()
        found = frame(self._before, now)
        self._before |= {seen.endpoint: seen for seen in now if seen.answer is not None}
        if any(seen.answer is not None for seen in now):
            self._learn_members()
        return found

    def _look(self) -> list[Seen]:
        replies = self._connection.ask_each([m.Look()] * len(self._endpoints))
        at = time.monotonic_ns()
        found = []
        for endpoint, reply in zip(self._endpoints, replies, strict=True):
            try:
                header, answer = answer_of(reply.ticket, m.LookAnswer)
            except ZkvError as error:
                before = self._before.get(endpoint)
                why = (
                    f"{error}: with authentication on, root may look (--user root)"
                    if _wants_root(error)
                    else str(error)
                )
                refused = isinstance(error, RequestError)
                found.append(Seen(endpoint, at, before.member if before else 0, error=why, refused=refused))
            else:
                self.cluster = header.cluster_id
                found.append(Seen(endpoint, at, header.member_id, answer))
        return found

    def _learn_members(self) -> None:
        """Their names, and with --cluster, where they are now."""
        with contextlib.suppress(ZkvError):
            _, answer = self._connection.ask(m.MemberList(linearizable=False), m.MemberListAnswer)
            self.names = {member.id: member.name for member in answer.members}
            urls = {url for member in answer.members for url in member.client_urls if url.startswith(NATIVE_SCHEMES)}
            if self._call.values.is_on("cluster") and urls and urls != set(self._endpoints):
                self.close()
                self._endpoints = sorted(urls)
                self._connection = self._connect()


def _wants_root(error: ZkvError) -> bool:
    return isinstance(error, UserEmpty | PermissionDenied)


def _top(call: Call) -> int:
    if call.arguments:
        raise CommandError("top takes no arguments: name members with --endpoints")
    values = call.values
    interval = values.number("interval")
    if interval < INTERVAL_NS_MIN:
        raise CommandError("--interval must be at least 200ms")
    gc.enable()  # `main` has turned it off, for commands that live for a moment
    as_json = values.text("write-out") == "json"
    if not as_json:
        call.printer()  # refuses what is no format at all
        if values.text("write-out") != "simple":
            raise CommandError(f"{values.text('write-out')} not supported as output format", 4)
    with contextlib.closing(Watch(call)) as watch:
        watch.look()
        if as_json or values.is_on("once") or not call.out.isatty():
            time.sleep(interval / 1e9)
            return _once(call, watch, as_json=as_json)
        return _live(call, watch, interval / 1e9)


def _once(call: Call, watch: Watch, *, as_json: bool) -> int:
    """One frame, of one interval."""
    found = watch.look()
    if as_json:
        from zkv.ctl.printer_json import dumps

        call.out.write(dumps(_as_json(watch, found)).encode() + b"\n")
    else:
        from zkv.ctl.top_view import plain

        call.out.write(plain(found, watch.names, _title(watch, found)).encode())
    return EXIT_ERROR if any(row.error for row in found.members) else 0


def _as_json(watch: Watch, found: Frame) -> dict[str, Any]:
    def told(value: Any) -> Any:
        if hasattr(value, "_asdict"):
            return {name: told(field) for name, field in value._asdict().items()}
        if isinstance(value, tuple):
            return [told(each) for each in value]
        return None if value == float("inf") else value  # a latency beyond all bounds: JSON has no word for it

    members = [{"name": watch.names.get(row.member, ""), **told(row)} for row in found.members]
    prefixes = [{"prefix": prefix, "rate": rate} for prefix, rate in found.prefixes]
    quotas = [told(row) for row in found.quotas]
    return {"cluster_id": watch.cluster, "members": members, "prefixes": prefixes, "quotas": quotas}


def _title(watch: Watch, found: Frame) -> str:
    leader = next((row for row in found.members if row.leads), None)
    led = (watch.names.get(leader.member) or f"{leader.member:x}") if leader else "nobody"
    up = sum(not row.error or row.refused for row in found.members)
    count = f"{up} of {len(found.members)} up"
    return "  ".join(("zkv top", f"cluster {watch.cluster:x}", count, f"led by {led}", time.strftime("%H:%M:%S")))


def _live(call: Call, watch: Watch, interval: float) -> int:
    from rich.live import Live

    from zkv.ctl.top_view import terminal, view

    with (
        contextlib.suppress(KeyboardInterrupt),
        _keys() as keys,
        Live(console=terminal(call.out.fileno()), screen=True, auto_refresh=False) as live,
    ):
        while True:
            found = watch.look()
            live.update(view(found, watch.names, f"{_title(watch, found)}  (q to end)"), refresh=True)
            if _ends(keys, interval):
                break
    return 0


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """The terminal that keys come from, each as it is pressed; None where there is none."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield None
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield terminal
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _ends(keys: int | None, seconds: float) -> bool:
    """Wait; was a `q` pressed?"""
    readable, _, _ = select.select([keys] if keys is not None else [], [], [], seconds)
    return bool(readable) and keys is not None and os.read(keys, 64)[:1] in {b"q", b"Q", b""}


TOP = Command(
    usage="[options]",
    summary="Shows the members of a cluster at work: rates, latencies, hottest prefixes, watches, actors",
    description="""\
A live view until q or Ctrl-C, of each of --endpoints (with --cluster: of all members). With --once, or where the output
is no terminal, one frame over one interval, as text or (-w json) for programs; the exit code is 1 when a member did not
answer. Latencies are of clients' messages at the member, told as the bound they stayed below. Members count what
is shown here only while somebody looks; prefixes are told from a sample of the requests at each member.""",
    example="""\
zkv top --cluster
zkv top --endpoints 10.0.0.1:2378,10.0.0.2:2378,10.0.0.3:2378 --once""",
    run=_top,
    flags=(
        CLUSTER,
        Flag("interval", "duration", "1s", "time between two frames"),
        switch("once", "print one frame, and end"),
    ),
)
