"""`zkv member list`."""

from __future__ import annotations

from zkv.ctl.command import Call, Command
from zkv.wire import messages as m


def _list(call: Call) -> int:
    printer = call.printer("member_list")
    with call.connect() as connection:
        printer.member_list(*connection.ask(m.MemberList(), m.MemberListAnswer))
    return 0


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
