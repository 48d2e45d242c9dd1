"""How `zkv top` looks: a frame of top_numbers.py as tables of `rich`, which draws them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from zkv.ctl.go_text import size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zkv.ctl.top_numbers import Frame, Latency, MemberRow

MEMBER_COLUMNS = (
    "MEMBER", "ENDPOINT", "ROLE", "TERM", "INDEX", "BEHIND", "REVISION", "DB SIZE", "IN USE", "LEASES", "CPU", "MEMORY",
)  # fmt: skip
LOAD_COLUMNS = (
    "MEMBER", "WRITES/s", "P50", "P99", "READS/s", "P50", "P99", "WAITING", "FSYNC P99", "APPLY P99", "WATCHES",
    "EVENTS/s", "LAG",
)  # fmt: skip
LAG_BAD = 10_000
"""Revisions a watch may be behind before it is shown in red (docs/METRICS.md)."""
BUSY_BAD = 0.9
PLAIN_WIDTH = 250
"""Where nobody knows how wide the paper is, nothing is cut off."""


def plain(frame: Frame, names: Mapping[int, str], title: str) -> str:
    """As text."""
    console = Console(file=io.StringIO(), width=PLAIN_WIDTH, highlight=False, emoji=False, markup=False)
    with console.capture() as captured:
        console.print(view(frame, names, title))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def terminal(descriptor: int) -> Console:
    file = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the command
    return Console(file=file, highlight=False, emoji=False, markup=False)


def view(frame: Frame, names: Mapping[int, str], title: str) -> Group:
    """`names`: of members, as far as they are known."""
    down = [Text(f"{row.endpoint}: {row.error}", style="red") for row in frame.members if row.error]
    up = [row for row in frame.members if not row.error]
    return Group(
        _bold(title),
        _members(frame, names),
        *down,
        _bold("Load"),
        _load(up, names),
        _bold("Hottest prefixes (sampled)"),
        _prefixes(frame),
        *((_bold("Quotas"), _quotas(frame)) if frame.quotas else ()),
        _bold("Actors (CPU, memory, share of the time it was busy)"),
        _actors(up, names),
    )


def _bold(title: str) -> Text:
    return Text(title, style="bold")


def _table(columns: Sequence[str], lefts: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at < lefts else "right", no_wrap=True, header_style="reverse")
    return table


def _members(frame: Frame, names: Mapping[int, str]) -> Table:
    table = _table(MEMBER_COLUMNS, 3)
    for row in frame.members:
        if row.error:
            table.add_row(
                Text(names.get(row.member, "?")),
                Text(row.endpoint),
                Text("REFUSED" if row.refused else "DOWN", style="bold red"),
            )
            continue
        table.add_row(
            Text(name_of(row, names)),
            Text(row.endpoint),
            _role(row),
            str(row.term),
            str(row.committed),
            str(row.committed - row.applied),
            str(row.revision),
            size(row.size),
            size(row.in_use),
            str(row.leases),
            _share(row.cpu),
            size(row.memory),
        )
    return table


def _role(row: MemberRow) -> Text:
    if row.alarms:
        return Text(" ".join(("leader" if row.leads else "member", *row.alarms)), style="bold red")
    if row.leads:
        return Text("leader", style="bold green")
    if not row.leader:
        return Text("no leader", style="bold red")
    return Text("learner" if row.learner else "follower")


def _load(up: Sequence[MemberRow], names: Mapping[int, str]) -> Table:
    table = _table(LOAD_COLUMNS, 1)
    for row in up:
        table.add_row(
            Text(name_of(row, names)),
            _rate(row.writes),
            *_latency(row.write_latency),
            _rate(row.reads),
            *_latency(row.read_latency),
            str(row.waiting),
            _latency(row.fsync)[1],
            _latency(row.apply)[1],
            str(row.watches),
            _rate(row.events),
            Text(str(row.lag), style="bold red" if row.lag > LAG_BAD else ""),
        )
    return table


def _prefixes(frame: Frame) -> Table:
    table = _table(("PREFIX", "REQUESTS/s"), 1)
    for prefix, rate in frame.prefixes:
        table.add_row(Text(printable(prefix)), _rate(rate))
    return table


def _quotas(frame: Frame) -> Table:
    table = _table(("PREFIX", "KEYS", "MAX", "BYTES", "MAX", "MAX REQUESTS/s", "REFUSED/s"), 1)
    for row in frame.quotas:
        table.add_row(
            Text(printable(row.prefix) or '""'),
            str(row.keys),
            str(row.keys_max or "-"),
            size(row.bytes_used),
            size(row.bytes_max) if row.bytes_max else "-",
            str(row.requests_max or "-"),
            Text(_rate(row.refused), style="bold red" if row.refused else ""),
        )
    return table


def _actors(up: Sequence[MemberRow], names: Mapping[int, str]) -> Table:
    """A row for each member, a column for each of its processes."""
    kinds = sorted({actor.actor for row in up for actor in row.actors})
    table = _table(("MEMBER", *map(str.upper, kinds)), 1)
    for row in up:
        cells = {
            actor.actor: Text(
                f"{_share(actor.cpu)} {size(actor.memory)} {_share(actor.busy)}",
                style="bold red" if (actor.busy or 0) > BUSY_BAD else "",
            )
            for actor in row.actors
        }
        table.add_row(Text(name_of(row, names)), *(cells.get(kind, Text("-")) for kind in kinds))
    return table


def name_of(row: MemberRow, names: Mapping[int, str]) -> str:
    return names.get(row.member) or f"{row.member:x}"


def printable(text: str) -> str:
    """Without what would move a terminal's cursor: keys are strangers' words."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}%"


def _latency(latency: Latency) -> tuple[str, str]:
    if not latency.count:
        return "-", "-"
    return _bound(latency.p50), _bound(latency.p99)


def _bound(seconds: float) -> str:
    return ">8s" if seconds == float("inf") else f"<{1000 * seconds:.0f}ms"
