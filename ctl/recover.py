"""`zkv recover`: what is left of a cluster that lost its quorum for good, and a new cluster made of it.

Without --new-data-dir it only looks. With it, one directory is made, and none that exists is changed. What was found,
and what was made, are two results: to programs, a line of JSON each.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zkv.ctl.command import Call, Command
from zkv.ctl.connection import answer_of
from zkv.ctl.lasting import INTERRUPTED, ended_by_signals
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, Flag
from zkv.ctl.progress import Progress
from zkv.ctl.snapshot import BUMP
from zkv.errors import ConfigError, CorruptionError, DiskError, ZkvError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.actors.recover import Holding
    from zkv.client.ticket import Header
    from zkv.config import NodeConfig
    from zkv.core.recovery import Verdict

UNCHANGED = "Nothing was changed. Make a new cluster of it with --new-data-dir."


def _recover(call: Call) -> int:
    values = call.values
    if call.arguments:
        raise CommandError("recover takes no arguments: name directories with --data-dir", EXIT_BAD_ARGS)
    directories = values.list("data-dir")
    if directories and "endpoints" in values.given:
        raise CommandError(
            "recover looks at data directories or at endpoints, not at both: stop the members that still run, "
            "and name their data directories too",
            EXIT_BAD_ARGS,
        )
    call.printer("told")
    new = values.text("new-data-dir")
    if new and os.path.lexists(new):
        raise CommandError(f'data-dir "{new}" exists')
    with ended_by_signals(INTERRUPTED):
        if directories:
            _of_directories(call, directories, new)
        else:
            _of_endpoints(call, values.list("endpoints"), new)
    return 0


# --- of directories ---------------------------------------------------------------------------------


def _of_directories(call: Call, directories: Sequence[str], new: str) -> None:
    from zkv.core.recovery import judge, most

    held = _look(call, directories)
    ends = [holding.end for holding in held]
    best = held[most(ends)]
    verdict = judge(ends, best.confs)
    report = _report(held, best, verdict)
    if not new and not verdict.quorum:
        report.append(UNCHANGED)
    call.printer().told(report, _facts(held, best, verdict))
    if not new:
        return
    if verdict.quorum:
        raise CommandError("this cluster has not lost its quorum: start these members as they are")
    known = {member.id: member for member in best.members}[best.end.member] if _is_known(best) else None
    config = _new_config(call, new, best.name, known.peer_urls if known else ())
    _make(call, best.data_dir, config)


def _is_known(holding: Holding) -> bool:
    return holding.end.member in {member.id for member in holding.members}


def _look(call: Call, directories: Sequence[str]) -> list[Holding]:
    """What they hold. A damaged one is told of, and left out. Raises CommandError."""
    from zkv.actors import recover

    held: list[Holding] = []
    for data_dir in directories:
        with tempfile.TemporaryDirectory(prefix="zkv-recover-") as scratch:
            try:
                held.append(recover.look(data_dir, Path(scratch)))
            except ConfigError as error:
                raise CommandError(error.detail) from None
            except (CorruptionError, DiskError) as error:
                call.complain(f"{data_dir} is damaged, and left out: {error.detail}")
            except OSError as error:
                raise CommandError(f"could not read {data_dir}: {error.strerror or error}") from None
    if not held:
        raise CommandError("none of these data directories can be used")
    for holding in held[1:]:
        if holding.cluster_id != held[0].cluster_id:
            raise CommandError(
                f"{held[0].data_dir} is of cluster {held[0].cluster_id:x}, {holding.data_dir} of cluster "
                f"{holding.cluster_id:x}: recover one cluster at a time"
            )
    members = [holding.end.member for holding in held]
    twice = next((member for member in members if members.count(member) > 1), None)
    if twice is not None:
        named = [holding.data_dir for holding in held if holding.end.member == twice]
        raise CommandError(f"{' and '.join(named)} are both of member {twice:x}: name the newer one alone")
    return held


def _report(held: Sequence[Holding], best: Holding, verdict: Verdict) -> list[str]:
    names = _names(held)
    lines = []
    for holding in held:
        end = holding.end
        lines.append(
            f"{holding.data_dir}: {end.member:x} ({holding.name}), {_rights(end.member, best)}; log up to entry "
            f"{end.last} of term {end.term}, known to be agreed on up to {end.commit}; revision {holding.revision}"
        )
    missing = ", ".join(f"{member:x} ({names.get(member, 'never started')})" for member in verdict.missing) or "none"
    lines.append(f"Cluster {best.cluster_id:x}: {len(_voters(best))} voters, of which not here: {missing}")
    if verdict.quorum:
        lines.append("These members are a quorum: start them as they are, nothing is lost.")
        return lines
    lines.append(f"{best.data_dir} holds the most.")
    if verdict.complete:
        lines.append("Nothing that was acknowledged is lost: those that are not here were no majority.")
    else:
        lines.append(
            f"May be lost: what those that are not here agreed on among themselves behind entry {best.end.last}; "
            "how much that is, nobody here can tell."
        )
    if best.end.last > best.end.commit:
        lines.append(
            f"Entries {best.end.commit + 1} to {best.end.last} may never have been acknowledged, and are kept."
        )
    return lines


def _facts(held: Sequence[Holding], best: Holding, verdict: Verdict) -> dict[str, object]:
    """The same for programs. `complete`: nothing that was acknowledged is lost."""
    names = _names(held)
    return {
        "clusterID": best.cluster_id,
        "dataDirs": [
            {
                "dataDir": holding.data_dir,
                "memberID": holding.end.member,
                "name": holding.name,
                "is": _rights(holding.end.member, best),
                "term": holding.end.term,
                "lastIndex": holding.end.last,
                "committedIndex": holding.end.commit,
                "revision": holding.revision,
            }
            for holding in held
        ],
        "voters": len(_voters(best)),
        "missing": [{"memberID": member, "name": names.get(member, "")} for member in verdict.missing],
        "quorum": verdict.quorum,
        "complete": verdict.complete,
        "holdsMost": best.data_dir,
    }


def _names(held: Sequence[Holding]) -> dict[int, str]:
    names = {member.id: member.name for holding in held for member in holding.members if member.name}
    return names | {holding.end.member: holding.name for holding in held}


def _voters(best: Holding) -> set[int]:
    return {voter for conf in best.confs for voter in (*conf.voters, *conf.voters_outgoing)}


def _rights(member: int, best: Holding) -> str:
    if member in _voters(best):
        return "voter"
    return "learner" if any(member in conf.learners for conf in best.confs) else "no member"


def _make(call: Call, source: str, config: NodeConfig) -> None:
    from zkv.actors import recover

    values = call.values
    bump = values.number("bump-revision")
    try:
        with Progress(0, "B", "recovering") as bar:
            made = recover.make(source, config, bump=bump, mark_compacted=bump > 0, progress=bar.show)
    except (ConfigError, CorruptionError, DiskError) as error:
        raise CommandError(error.detail) from None
    except OSError as error:
        raise CommandError(f"could not recover {source}: {error.strerror or error}") from None
    _tell_made(call, config, made.member_id, made.cluster_id, made.revision)


def _new_config(call: Call, new: str, name: str, peer_urls: Sequence[str]) -> NodeConfig:
    """Of the one member that the new cluster begins with. Raises ConfigError, CommandError."""
    from zkv.config import NodeConfig

    values = call.values
    if values.number("bump-revision") < 0:
        raise CommandError("--bump-revision must not be negative", EXIT_BAD_ARGS)
    urls = values.list("initial-advertise-peer-urls") or tuple(peer_urls)
    if not urls:
        raise CommandError("nobody knows the peer urls of this member: give --initial-advertise-peer-urls")
    secure = any(url.startswith(("curve:", "https:")) for url in urls)
    return NodeConfig(
        name=values.text("name") or name,
        data_dir=new,
        initial_cluster_token=values.text("initial-cluster-token") or f"recovered-{os.urandom(8).hex()}",
        initial_advertise_peer_urls=tuple(urls),
        peer_curve_secret_key="given to the server" if secure else "",  # no socket is opened here
    )


def _tell_made(call: Call, config: NodeConfig, member: int, cluster: int, revision: int) -> None:
    urls = ",".join(config.initial_advertise_peer_urls)
    call.printer().told(
        [
            (
                f"Recovered {config.data_dir}: member {member:x} ({config.name}) of cluster {cluster:x}, "
                f"revision {revision}"
            ),
            f"Start it with --name {config.name} --initial-advertise-peer-urls {urls}, and add the others anew.",
        ],
        {
            "dataDir": config.data_dir,
            "clusterID": cluster,
            "memberID": member,
            "name": config.name,
            "peerURLs": config.initial_advertise_peer_urls,
            "revision": revision,
        },
    )


# --- of endpoints -----------------------------------------------------------------------------------


class Survivor(NamedTuple):
    endpoint: str
    header: Header
    status: m.StatusAnswer


def _of_endpoints(call: Call, endpoints: Sequence[str], new: str) -> None:
    """Members that run tell how far they know to be agreed on; behind it their logs may hold more."""
    found = _survivors(call, endpoints)
    lines = [
        f"{endpoint}: {header.member_id:x}, {'learner' if status.is_learner else 'voter'}; known to be agreed on up to "
        f"entry {status.raft_index} of term {status.raft_term}; store at {status.raft_applied_index}, revision "
        f"{header.revision}"
        for endpoint, header, status in found
    ]
    best = max(found, key=lambda survivor: (survivor.status.raft_applied_index, survivor.header.revision))
    leader = next((survivor.status.leader for survivor in found if survivor.status.leader), 0)
    if leader:
        lines.append(f"This cluster has not lost its quorum: {leader:x} leads.")
    else:
        lines.append(f"{best.endpoint} holds the most of what is known to be agreed on.")
        lines.append(
            "May be lost: what was acknowledged shortly before the quorum was lost. A log may hold more than a member "
            "that runs can tell: stop them, and name their data directories, to keep all of it."
        )
        if not new:
            lines.append(UNCHANGED)
    call.printer().told(lines, _facts_of_running(found, best, leader))
    if not new:
        return
    if leader:
        raise CommandError("this cluster has not lost its quorum: its members are to be left as they are")
    _make_of(call, best, new)


def _facts_of_running(found: Sequence[Survivor], best: Survivor, leader: int) -> dict[str, object]:
    return {
        "clusterID": best.header.cluster_id,
        "endpoints": [
            {
                "endpoint": endpoint,
                "memberID": header.member_id,
                "is": "learner" if status.is_learner else "voter",
                "term": status.raft_term,
                "committedIndex": status.raft_index,
                "appliedIndex": status.raft_applied_index,
                "revision": header.revision,
            }
            for endpoint, header, status in found
        ],
        "quorum": bool(leader),
        "holdsMost": best.endpoint,
    }


def _survivors(call: Call, endpoints: Sequence[str]) -> list[Survivor]:
    """Those that answer. Raises CommandError."""
    found: list[Survivor] = []
    with call.connect(endpoints) as connection:
        replies = connection.ask_each([m.Status()] * len(endpoints))
    for endpoint, reply in zip(endpoints, replies, strict=True):
        try:
            found.append(Survivor(endpoint, *answer_of(reply.ticket, m.StatusAnswer)))
        except ZkvError as error:
            call.complain(f"{endpoint} does not answer, and is left out: {error}")
    if not found:
        raise CommandError("none of these endpoints answers: name the data directories of its members with --data-dir")
    clusters = {survivor.header.cluster_id for survivor in found}
    if len(clusters) > 1:
        raise CommandError(f"these endpoints are of {len(clusters)} clusters: recover one cluster at a time")
    return found


def _make_of(call: Call, best: Survivor, new: str) -> None:
    from zkv.actors.restore import restore
    from zkv.ctl.snapshot import download

    with call.connect([best.endpoint]) as connection:
        _, answer = connection.ask(m.MemberList(linearizable=False), m.MemberListAnswer)
        member = next((each for each in answer.members if each.id == best.header.member_id), None)
        config = _new_config(call, new, member.name if member else "default", member.peer_urls if member else ())
        bump = call.values.number("bump-revision")
        part = Path(f"{new}.part")
        with contextlib.ExitStack() as stack:
            stack.callback(part.unlink, missing_ok=True)
            try:
                download(connection, part)
                with Progress(part.stat().st_size, "B", "recovering") as bar:
                    made = restore(
                        part, config, check_digest=True, bump=bump, mark_compacted=bump > 0, progress=bar.show
                    )
            except OSError as error:
                raise CommandError(f"could not recover {best.endpoint}: {error.strerror or error}") from None
            except (ConfigError, CorruptionError) as error:
                raise CommandError(error.detail) from None
    if made.cluster_id == best.header.cluster_id:
        raise AssertionError("a token made by chance makes another cluster")
    _tell_made(call, config, made.member_id, made.cluster_id, made.revision)


RECOVER = Command(
    usage="--data-dir DIR,DIR [--new-data-dir DIR] [options]",
    summary="Finds what is left of a cluster that lost its quorum for good, and makes a new cluster of it",
    description="""\
Looks at the data directories of all members there still are (or, without any, at --endpoints of those that run), tells
which holds the most and what may be lost, and changes nothing. With --new-data-dir it makes one data directory of the
one that holds the most: the first member of a new cluster, with another id, so that old members that come back are
refused. Revisions go on behind all that clients can have seen (--bump-revision).
What runs must be stopped first; learners count as well, and so do copies of data directories.""",
    example="""\
zkv recover --data-dir n2.zkv,n3.zkv
zkv recover --data-dir n2.zkv,n3.zkv --new-data-dir new.zkv""",
    run=_recover,
    flags=(
        Flag("bump-revision", "number", str(BUMP), "how much to increase the latest revision by"),
        Flag("data-dir", "list", "", "data directories of members that do not run", file=True),
        Flag("initial-advertise-peer-urls", "list", "", "peer URLs of the new member [those of the old one]"),
        Flag("initial-cluster-token", "text", "", "token of the new cluster, for its id [one made by chance]"),
        Flag("name", "text", "", "human-readable name of the new member [that of the old one]"),
        Flag("new-data-dir", "text", "", "make this data directory, of a new cluster", file=True),
    ),
)
