"""A client's message on its way through the node, as the native door keeps it until it is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zkv.gateway.audit import Audited
    from zkv.gateway.doors import Client
    from zkv.gateway.logins import Told
    from zkv.gateway.shares import Share


class Group:
    """`ids`: its requests not yet answered; `started`: its range's chunks have begun to flow.

    `taken`: when it set out. `share`: whose it is. `grants`: the ids that ask for leases. `told`: it is the door's own,
    has no client, and this is told of each answer.
    """

    __slots__ = ("audited", "client", "grants", "ids", "share", "size", "started", "taken", "told", "way")

    def __init__(self, client: Client, ids: tuple[int, ...], size: int, way: int, *, taken: int, share: Share) -> None:
        self.client = client
        self.ids = ids
        self.size = size
        self.way = way
        self.taken = taken
        self.share = share
        self.grants: tuple[int, ...] = ()
        self.started = False
        self.told: Told | None = None
        self.audited: Audited | None = None
