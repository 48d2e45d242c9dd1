"""A member's name and client urls, told to all members by way of the log, as etcd's members do it when they start.

Told again now and then until the member table shows them: what is proposed may be lost.
"""

from __future__ import annotations

from typing import Final

from zkv.wire import codec
from zkv.wire import messages as m

PUBLISH_MS: Final = 1_000
"""How often."""


class Publisher:
    """`attributes`: name and client urls; None: there is nothing to tell. `is_done`: the member table shows them."""

    def __init__(self, member_id: int, attributes: tuple[str, tuple[str, ...]] | None) -> None:
        self.is_done = False
        self._member_id = member_id
        self._attributes = attributes
        self._again_at = 0

    def look(self, known: m.Member | None, now: int, *, may_propose: bool) -> bytes | None:
        """A frame to propose, if it is time for one. `known`: this member, as the member table has it."""
        self.is_done = known is not None and self._attributes in {None, (known.name, known.client_urls)}
        if self.is_done or self._attributes is None or known is None or not may_propose or now < self._again_at:
            return None
        self._again_at = now + PUBLISH_MS
        request = (1, int(m.Op.PUBLISH), m.Publish(self._member_id, *self._attributes))
        group = codec.pack((m.PROTOCOL_VERSION, int(m.ClientKind.REQUESTS), b"", 0, (request,)))
        # incarnation 0 is no gateway's: nobody waits for the answer
        return codec.pack(m.Frame(self._member_id, 0, ((0, group),)))
