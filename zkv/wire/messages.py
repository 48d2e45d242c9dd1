"""Every message of zkv, once.

Three families, told apart by who speaks:

1. **Client requests and answers** (requests.py: `Range` .. `MemberList`, `KeyValue` ..; auth.py: users and roles;
   quota.py: prefix policies; what they travel in: envelopes.py): between a client and a gateway and, unchanged, through
   the raft log into storage.
2. **Raft messages** (raft.py: `Message`, `Entry`, `ConfChange` ..): what one member says to another.
3. **Actor mail** (mail.py: `Hello`, `Propose`, `Apply` ..): what the processes of one node tell each other.

They are defined there, and known by this module's name everywhere: who reads `m.Apply` need not know the family.

Every record is a `NamedTuple` of ints, bytes, bools, None and tuples of those (text only where people
write it: names, urls); what its annotations say is checked wherever one comes in (shapes.py). On the wire a record is
the msgpack array of its fields in this order; fields may be added at the end with a default, never moved or removed.
`wire/codec.py` does the packing.

A request's return address is its *group*: one client message is one group, which the gateway numbers
(`gid`). A group is validated, logged, applied and answered as a whole; only the gateway that made
it knows which client is behind it.
"""

from __future__ import annotations

from zkv.wire.auth import *  # noqa: F403
from zkv.wire.doors import *  # noqa: F403
from zkv.wire.envelopes import *  # noqa: F403
from zkv.wire.mail import *  # noqa: F403
from zkv.wire.quota import *  # noqa: F403
from zkv.wire.raft import *  # noqa: F403
from zkv.wire.requests import *  # noqa: F403
