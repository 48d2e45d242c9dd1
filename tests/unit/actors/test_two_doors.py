"""Two gateway processes, and actors that answer each: which is which, the number says."""

from __future__ import annotations

from typing import Any

from zkv.actors.watch_actor import WatchActor
from zkv.limits import Limits
from zkv.wire import codec
from zkv.wire import messages as m

NATIVE, ETCD = 5, 5 | m.ETCD_DOOR
WATCH = int(m.ClientKind.WATCH)


class House:
    def __init__(self) -> None:
        self.posted: list[tuple[str, Any]] = []
        self.full: set[str] = set()
        self.actor = WatchActor(limits=Limits(), cluster_id=1, member_id=2, post=self._post)

    def _post(self, to: str, message: Any) -> bool:
        if to in self.full:
            return False
        self.posted.append((to, message))
        return True

    def hear(self, *mail: Any) -> None:
        self.actor.handle([("node", each) for each in mail], 0)

    def told(self) -> dict[str, list[tuple[int, int]]]:
        """Door -> (stream, kind of answer) each, since the last time."""
        found: dict[str, list[tuple[int, int]]] = {}
        for to, message in self.posted:
            if isinstance(message, m.WatchOut):
                assert m.door_of(message.incarnation) == to
                for stream, payload in message.answers:
                    found.setdefault(to, []).extend((stream, kind) for _, kind, *_ in codec.unpack(payload)[6])
        self.posted.clear()
        return found


def watching() -> House:
    """A stream at each door, both live."""
    house = House()
    for incarnation in (NATIVE, ETCD):
        stream = 1 | (incarnation & m.ETCD_DOOR)
        watch = (WATCH, ((tuple(m.Watch(1, b"k")),),))
        house.hear(m.Hello(m.door_of(incarnation), incarnation), m.WatchWords(incarnation, ((stream, *watch),)))
    house.hear(m.Applied(5, (), since=5, at_once=True))
    return house


def event(revision: int) -> m.Applied:
    put = m.Event(False, m.KeyValue(b"k", revision, revision, 1, b"v", 0), None)
    return m.Applied(revision, ((revision, (put,)),), since=revision - 1, at_once=True)


def test_each_door_is_told_of_its_own_streams() -> None:
    """The same event, for a stream at each of them."""
    house = watching()
    assert house.told() == {
        "gateway": [(1, m.WatchKind.CREATED)],
        "grpc": [(1 | m.ETCD_DOOR, m.WatchKind.CREATED)],
    }
    house.hear(event(6))
    assert house.told() == {
        "gateway": [(1, m.WatchKind.EVENTS)],
        "grpc": [(1 | m.ETCD_DOOR, m.WatchKind.EVENTS)],
    }


def test_a_door_that_starts_anew_ends_its_own_streams_only() -> None:
    """The other's go on."""
    house = watching()
    house.told()
    house.hear(m.Hello("grpc", ETCD + 2), event(6))
    assert house.told() == {"gateway": [(1, m.WatchKind.EVENTS)]}
    assert house.actor.watching.count == 1


def test_a_door_that_takes_nothing_does_not_hold_up_the_other() -> None:
    """What waits for it leaves, in order, once there is room."""
    house = watching()
    house.told()
    house.full.add("grpc")
    house.hear(event(6))
    house.hear(event(7))
    assert [kind for _, kind in house.told()["gateway"]] == [m.WatchKind.EVENTS] * 2
    house.full.clear()
    house.hear()
    assert house.told() == {"grpc": [(1 | m.ETCD_DOOR, m.WatchKind.EVENTS)] * 2}
