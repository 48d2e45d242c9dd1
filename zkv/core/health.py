"""Is this member well? What is asked over HTTP, from what was found out about it: etcd's questions, and its words.

- /health: no alarm, a leader, and a read that a quorum confirms. `serializable=true`: a read of this member alone.
  `exclude=NOSPACE`: that alarm does not count (etcd:server/etcdserver/api/etcdhttp/health.go).
- /livez: its processes live. A quorum that is lost is no reason to start a member again.
- /readyz: it can serve: it is not corrupt, and reads work. `verbose` lists each check, `exclude=CHECK` leaves it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from zkv.errors import Corrupt, NoLeader
from zkv.wire.messages import AlarmType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Query = Mapping[str, Sequence[str]]

OK: Final = 200
UNAVAILABLE: Final = 503


class Findings(NamedTuple):
    """`silent`: processes, of `actors`, not heard of for too long. `alarms`: (member id, AlarmType) each.

    `local`, `quorum`: what became of a read of this member's own store, and of one that a quorum has confirmed: an
    error's text, "" if it succeeded, None if it was not tried.
    """

    actors: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    alarms: tuple[tuple[int, int], ...] = ()
    local: str | None = None
    quorum: str | None = None


class Verdict(NamedTuple):
    status: int
    body: str


def wanted(path: str, query: Query) -> tuple[bool, bool]:
    """Which reads the question needs: (local, quorum)."""
    if path == "/livez":
        return False, False
    return True, not (path == "/health" and is_serializable(query))


def is_serializable(query: Query) -> bool:
    return list(query.get("serializable", ()))[:1] == ["true"]


def health(findings: Findings, query: Query) -> Verdict:
    reason = _trouble(findings, set(query.get("exclude", ())))
    body = f'{{"health":"{"false" if reason else "true"}","reason":{_quoted(reason)}}}'
    return Verdict(UNAVAILABLE, body + "\n") if reason else Verdict(OK, body)


def _trouble(findings: Findings, excluded: set[str]) -> str:
    for _, alarm in findings.alarms:
        name = _alarm_name(alarm)
        if name not in excluded:
            return f"ALARM {name}"
    if findings.quorum == NoLeader.text:
        return "RAFT NO LEADER"
    error = findings.local or findings.quorum
    if error == Corrupt.text and "CORRUPT" in excluded:
        return ""  # that alarm is what refuses the read
    return f"RANGE ERROR:{error}" if error else ""


def _alarm_name(alarm: int) -> str:
    return AlarmType(alarm).name if alarm in {AlarmType.NOSPACE, AlarmType.CORRUPT} else "UNKNOWN"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def livez(findings: Findings, query: Query) -> Verdict:
    checks = {f"process_{actor}": _silence(actor in findings.silent) for actor in findings.actors}
    return _checked(checks, query)


def _silence(silent: bool) -> str:
    return "nothing was heard of it for too long" if silent else ""


def readyz(findings: Findings, query: Query) -> Verdict:
    corrupt = any(alarm == AlarmType.CORRUPT for _, alarm in findings.alarms)
    return _checked(
        {
            "data_corruption": "alarm activated: CORRUPT" if corrupt else "",
            "serializable_read": findings.local or "",
            "linearizable_read": findings.quorum or "",
        },
        query,
    )


def _checked(checks: Mapping[str, str], query: Query) -> Verdict:
    """`checks`: name -> why it failed, or ""."""
    excluded = set(query.get("exclude", ()))
    failed = [name for name, why in checks.items() if why and name not in excluded]
    lines = []
    for name, why in checks.items():
        if name in excluded:
            lines.append(f"[+]{name} excluded: ok\n")
        else:
            lines.append(f"[-]{name} failed: {why}\n" if why else f"[+]{name} ok\n")
    if failed:
        return Verdict(UNAVAILABLE, "".join(lines) + "not ok\n")
    return Verdict(OK, ("".join(lines) if "verbose" in query else "") + "ok\n")


QUESTIONS: Final[dict[str, Callable[[Findings, Query], Verdict]]] = {
    "/health": health,
    "/livez": livez,
    "/readyz": readyz,
}
