"""`zkv member add`, `list`, `promote`, `remove`, `update`, and `zkv move-leader`."""

from __future__ import annotations

from zkv.ctl.command import Call, Command
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, Flag, switch
from zkv.errors import ConfigError
from zkv.wire import messages as m


def _list(call: Call) -> int:
    printer = call.printer("member_list")
    with call.connect() as connection:
        printer.member_list(*connection.ask(m.MemberList(), m.MemberListAnswer))
    return 0


def _add(call: Call) -> int:
    if not call.arguments:
        raise CommandError("member name not provided", EXIT_BAD_ARGS)
    if len(call.arguments) > 1:
        text = "too many arguments"
        if "http" in call.arguments[1]:
            text += f", did you mean --peer-urls={call.arguments[1]}"
        raise CommandError(text, EXIT_BAD_ARGS)
    urls = _peer_urls(call)
    name = call.arguments[0]
    printer = call.printer("member_add")
    with call.connect() as connection:
        header, answer = connection.ask(m.MemberAdd(urls, call.values.is_on("learner")), m.MemberAddAnswer)
        printer.member_add(header, answer)
        if printer.name != "simple":
            return 0
        others = [(member.name, url) for member in answer.members if member.name for url in member.peer_urls]
        cluster = [*others, *((name, url) for url in urls)]
    printer.line()
    for variable, value in (
        ("NAME", name),
        ("INITIAL_CLUSTER", ",".join(f"{who}={url}" for who, url in cluster)),
        ("INITIAL_ADVERTISE_PEER_URLS", ",".join(urls)),
        ("INITIAL_CLUSTER_STATE", "existing"),
    ):
        printer.line(f'ZKV_{variable}="{value}"')
    return 0


def _remove(call: Call) -> int:
    return _change(call, m.MemberRemove(_member(call)), "removed from")


def _promote(call: Call) -> int:
    return _change(call, m.MemberPromote(_member(call)), "promoted in")


def _update(call: Call) -> int:
    member = _member(call)
    return _change(call, m.MemberUpdate(member, _peer_urls(call)), "updated in")


def _change(call: Call, request: m.MemberRemove | m.MemberUpdate | m.MemberPromote, done: str) -> int:
    printer = call.printer("member_change")
    with call.connect() as connection:
        header, answer = connection.ask(request, m.MembersAnswer)
    printer.member_change(header, answer, request.id, done)
    return 0


def _member(call: Call) -> int:
    """The one argument: a member's id, in hex as it is printed."""
    if len(call.arguments) != 1:
        raise CommandError("member ID is not provided", EXIT_BAD_ARGS)
    word = call.arguments[0]
    try:
        return parse_id(word)
    except ValueError as error:
        raise CommandError(f"bad member ID arg ({error}), expecting ID in Hex", EXIT_BAD_ARGS) from None


def parse_id(word: str) -> int:
    """Raises ValueError, in Go's words."""
    plain = word.isascii() and word.isalnum()
    try:
        number = int(word, 16) if plain else -1
    except ValueError:
        number = -1
    if number < 0:
        raise ValueError(f'strconv.ParseUint: parsing "{word}": invalid syntax')
    if number >= 1 << 64:
        raise ValueError(f'strconv.ParseUint: parsing "{word}": value out of range')
    return number


def _peer_urls(call: Call) -> tuple[str, ...]:
    urls = tuple(url.strip() for url in call.values.text("peer-urls").split(",") if url.strip())
    if not urls:
        raise CommandError("member peer urls not provided", EXIT_BAD_ARGS)
    return urls


def _move_leader(call: Call) -> int:
    if len(call.arguments) != 1:
        raise CommandError("move-leader command needs 1 argument", EXIT_BAD_ARGS)
    try:
        target = parse_id(call.arguments[0])
    except ValueError as error:
        raise CommandError(str(error), EXIT_BAD_ARGS) from None
    with call.connect() as connection:
        _, status = connection.ask(m.Status(), m.StatusAnswer)
        connection.ask(m.MoveLeader(target), m.MoveLeaderAnswer)
    call.out.write(f"Leadership transferred from {status.leader:x} to {target:x}\n".encode())
    return 0


def _refill(call: Call) -> int:
    from zkv.actors import datadir, refill

    data_dir = call.values.text("data-dir")
    if call.arguments or not data_dir:
        raise CommandError("member refill needs --data-dir, and nothing else", EXIT_BAD_ARGS)
    try:
        with datadir.stopped(data_dir) as member_dir:
            refill.want(member_dir)
    except (ConfigError, OSError) as error:
        text = error.detail if isinstance(error, ConfigError) else error.strerror or str(error)
        raise CommandError(f"could not mark {data_dir} to be refilled: {text}") from None
    call.out.write(f"{data_dir} will be refilled from the other members when its server is started next\n".encode())
    return 0


_PEER_URLS = Flag("peer-urls", "text", "", "comma separated peer URLs of the member")

ADD = Command(
    usage="<memberName> [options]",
    summary="Adds a member into the cluster",
    description="""\
Prints the environment with which `zkv server`, started on the new member's machine, becomes this member.
It begins as a learner and votes once it has caught up (unless --learner says that it shall not).""",
    example="""\
zkv member add n4 --peer-urls=http://10.0.0.4:2380
zkv member add n5 --peer-urls=http://10.0.0.5:2380 --learner""",
    run=_add,
    flags=(switch("learner", "indicates if the new member is raft learner"), _PEER_URLS),
)

LIST = Command(
    usage="[options]",
    summary="Lists all members in the cluster",
    description="""\
In the simple format, for each member: ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.
A member is unstarted until it has told the others its name.""",
    example="""\
zkv member list
zkv member list -w table""",
    run=_list,
)

PROMOTE = Command(
    usage="<memberID>",
    summary="Promotes a non-voting member in the cluster",
    description="Promotes a non-voting learner member to a voting one in the cluster.",
    example="zkv member promote 8e9e05c52164694d",
    run=_promote,
)

REFILL = Command(
    usage="--data-dir DIR",
    summary="Has a member that does not run get its data anew from the others",
    description="""\
For one whose data are damaged, or other than the others' (alarm CORRUPT). It stays a member, under its id: when its
server is started next, its data are set aside, the others send it theirs, and until it holds them it counts for
nothing. What was set aside is removed then. Where the others are not reached, nothing is touched.""",
    example="zkv member refill --data-dir /var/lib/zkv/data",
    run=_refill,
    flags=(Flag("data-dir", "text", "", "data directory of the member, not in use by zkv", file=True),),
)

REMOVE = Command(
    usage="<memberID>",
    summary="Removes a member from the cluster",
    description="The member's server ends by itself, and does not start again with its old data.",
    example="zkv member remove 8e9e05c52164694d",
    run=_remove,
)

UPDATE = Command(
    usage="<memberID> [options]",
    summary="Updates a member in the cluster",
    description="Tells all members that this one is at other peer URLs now.",
    example="zkv member update 8e9e05c52164694d --peer-urls=http://10.0.0.9:2380",
    run=_update,
    flags=(_PEER_URLS,),
)

MOVE_LEADER = Command(
    usage="<transferee-member-id>",
    summary="Transfers leadership to another zkv cluster member",
    example="zkv move-leader 8e9e05c52164694d",
    run=_move_leader,
)
