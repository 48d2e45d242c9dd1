"""How a server that was added to a running cluster learns who it is: `--initial-cluster-state existing`, no data.

Its member id was made by the entry that added it, so nobody can compute it: the server asks the peers that
`--initial-cluster` names, and whoever knows a member with its peer urls answers. Peer sockets carry messages one way
only; the answer comes to the listening one, by the connection that the members keep to that url anyway.

This is asked before the node's processes are forked, and takes threads, which a process that forks must not have had:
so a short-lived child asks, and hands the answer back through a pipe.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING, NoReturn

from zkv.actors.peers import asking, connecting, listening, said_in, shared_keys
from zkv.errors import ConfigError, CorruptionError
from zkv.monotonic import monotonic_ms
from zkv.urls import socket_endpoint
from zkv.wire import codec
from zkv.wire.messages import Join, JoinAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.actors.meeting import Meeting
    from zkv.actors.peers import PeerCurve
    from zkv.config import NodeConfig
    from zkv.door import Door
    from zkv.line import Line
    from zkv.wire.messages import Member

ASK_MS = 500
TURN_S = 0.05
PATIENCE_MS = 30_000
"""How long peers are asked. Members come up in any order, and who was just added may ask before all know it."""
ANSWER_BYTES_MAX = 1 << 20


def who_am_i(config: NodeConfig, known: Sequence[Member] = (), *, refill: bool = False) -> JoinAnswer:
    """Asked of `known` members, too. One that is to be `refill`ed has been a member before.

    Raises ConfigError when nobody knows this server, or when it has been a member before and lost its data.
    """
    urls = ",".join(config.initial_advertise_peer_urls)
    others = _others(config, known)
    if refill and not others:
        raise ConfigError("there is nobody to refill this member from: name the others in --initial-cluster")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(config, others, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        try:
            said = pipe.read()
        except KeyboardInterrupt:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            os.waitpid(child, 0)
    answer = codec.decode(said) if said else None
    if not isinstance(answer, JoinAnswer):
        if refill:
            raise ConfigError(
                f"this member is to be refilled, and none of {', '.join(others)} says that it knows a member with the "
                f"peer urls {urls}: its data are left as they are"
            )
        raise ConfigError(
            f"none of the members in --initial-cluster knows a member with the peer urls {urls}: "
            "add it first (zkv member add), and check --initial-cluster"
        )
    own = next((member for member in answer.members if member.id == answer.member_id), None)
    if own is not None and own.client_urls and config.storage != "memory" and not refill:
        raise ConfigError(
            f"member {own.id:x} has already been bootstrapped, but its data directory is empty: "
            "remove the member and add it again, or give it its data back"
        )
    return answer


def _others(config: NodeConfig, known: Sequence[Member]) -> tuple[str, ...]:
    """Peer urls to ask at."""
    own = frozenset(config.initial_advertise_peer_urls)
    told = (*config.cluster().values(), *(member.peer_urls for member in known))
    return tuple(dict.fromkeys(url for urls in told for url in urls if url not in own))


def _child(config: NodeConfig, others: Sequence[str], writer: int) -> NoReturn:
    """Ends with the process, whatever happens in it."""
    try:
        answer = _ask(config, others)
        if answer is not None:
            os.write(writer, codec.encode(answer))
    finally:
        os._exit(0)


def _ask(config: NodeConfig, others: Sequence[str]) -> JoinAnswer | None:
    own = frozenset(config.initial_advertise_peer_urls)
    polls = select.epoll()
    meeting: Meeting | None = None
    curve: PeerCurve | None = None
    if config.peers_are_introduced:
        from zkv.actors.meeting import Meeting

        meeting = Meeting(config)
        curve = meeting.curve
    elif config.peer_curve_secret_key:
        curve = shared_keys(config.peer_curve_secret_key)
    door = listening(polls, config.listen_peer_urls, curve, ANSWER_BYTES_MAX)
    peers: dict[str, Line] = {}
    question = asking(Join(tuple(sorted(own))))
    now = monotonic_ms()
    give_up, ask_at = now + PATIENCE_MS, now
    while now < give_up:
        if now >= ask_at:
            ask_at = now + ASK_MS
            for url in others:
                if url not in peers and meeting is not None and socket_endpoint(url).secure:
                    meeting.meet(url)
                if url not in peers and (line := connecting(polls, url, curve, bytes_max=0, keeps=True)) is not None:
                    peers[url] = line
            for peer in peers.values():
                peer.put(question)
        for frame in _turn(polls, door, tuple(peers.values())):
            with contextlib.suppress(CorruptionError):
                answer = said_in(frame)
                if isinstance(answer, JoinAnswer):
                    return answer
        now = monotonic_ms()
    return None


def _turn(polls: select.epoll, door: Door, lines: Sequence[Line]) -> list[bytes]:
    """Let out what was put; returns what comes in meanwhile."""
    came: list[bytes] = []
    for line in lines:
        line.flush()
    for fd, _ in polls.poll(TURN_S):
        if fd in door:
            came += [frame for _, frame in door.hear(fd) if frame is not None]
        for line in lines:
            if fd in line:
                line.hear(fd)
    now = monotonic_ms()
    door.tend(now)
    for line in lines:
        line.tend(now)
    return came
