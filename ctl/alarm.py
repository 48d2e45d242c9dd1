"""`zkv alarm list` and `zkv alarm disarm`."""

from __future__ import annotations

from zkv.ctl.command import Call, Command
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError
from zkv.wire import messages as m


def _list(call: Call) -> int:
    return _show(call, "list", disarm=False)


def _disarm(call: Call) -> int:
    return _show(call, "disarm", disarm=True)


def _show(call: Call, name: str, *, disarm: bool) -> int:
    if call.arguments:
        raise CommandError(f"alarm {name} command accepts no arguments", EXIT_BAD_ARGS)
    printer = call.printer("alarms")
    with call.connect() as connection:
        header, answer = connection.ask(m.Alarm(), m.AlarmAnswer)
        if disarm:
            gone: list[tuple[int, int]] = []
            for member, alarm in answer.alarms:
                request = m.Alarm(m.AlarmAction.DEACTIVATE, member, alarm)
                header, one = connection.ask(request, m.AlarmAnswer)
                gone += one.alarms
            answer = m.AlarmAnswer(tuple(gone))
    printer.alarms(header, answer)
    return 0


LIST = Command(
    usage="",
    summary="Lists all alarms",
    description="NOSPACE: the store has outgrown its quota. CORRUPT: a member holds other data than the others.",
    example="zkv alarm list",
    run=_list,
)

DISARM = Command(
    usage="",
    summary="Disarms all alarms",
    description="A NOSPACE alarm also ends by itself when there is room again (delete, compaction).",
    example="zkv alarm disarm",
    run=_disarm,
)
