"""Standing in line: what a lock and an election have in common, with the keys that etcd's concurrency package uses.

Whoever takes part puts a key of its own, on a lease of its own, below a common prefix: `name/<lease id in hex>`. The
key created first has the turn; the others wait, each for the deletion of the key created just before its own, so that
an end wakes one waiter and no crowd. A participant that dies leaves the line when its lease ends. So clients of etcd
and ours can stand in one line.

The revision that created the key is the *token*: it grows from holder to holder, and with it a holder can be told
from all others that ever were or will be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zkv.client import calls, ops
from zkv.client.steps import Await, ask, await_event, or_else
from zkv.errors import Compacted, InvalidRequest, LeaseLost, LeaseNotFound
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.client.calls import Call
    from zkv.client.keeper import Kept
    from zkv.client.lease import Tenure
    from zkv.client.records import TxnResult
    from zkv.client.steps import Steps
    from zkv.errors import ZkvError
    from zkv.wire.messages import KeyValue


class Place(NamedTuple):
    """A place in the line: the participant's key, and the revision that created it."""

    key: bytes
    token: int

    def holds(self) -> m.Compare:
        return m.Compare(m.CompareResult.EQUAL, m.CompareTarget.CREATE, self.key, self.token)


def first_of(prefix: bytes) -> m.Range:
    """Whose turn it is."""
    return m.Range(
        prefix, ops.prefix_end(prefix), limit=1, sort_order=m.SortOrder.ASCEND, sort_target=m.SortTarget.CREATE
    )


def before(prefix: bytes, token: int) -> m.Range:
    """Who stands just before the one with this token."""
    return m.Range(
        prefix,
        ops.prefix_end(prefix),
        limit=1,
        sort_order=m.SortOrder.DESCEND,
        sort_target=m.SortTarget.CREATE,
        keys_only=True,
        max_create_revision=token - 1,
    )


def _get(request: m.Range) -> tuple[int, m.Range]:
    return (int(m.Op.RANGE), request)


class Contest:
    """One participant. `lease` is its own, granted to stand in line and revoked to leave, unless it was `lent`."""

    def __init__(self, name: ops.Data, lease: Tenure, *, lent: bool) -> None:
        self._name = ops.to_bytes(name)
        self._prefix = self._name + b"/"
        self._lease = lease
        self._lent = lent
        self._place: Place | None = None

    def __repr__(self) -> str:
        held = f"held as {self._place.token}" if self._place else "not held"
        return f"<zkv.{type(self).__name__} {self._name!r} {held}>"

    def lost(self) -> ZkvError:
        raise NotImplementedError

    @property
    def held(self) -> bool:
        """Is it certain, by this side's clock, that it is held? See `Lease.alive`."""
        return self._place is not None and self._lease.alive

    def check(self) -> None:
        """Raise (LockLost, ElectionNotLeader) unless `held`."""
        if not self.held:
            raise self.lost()

    @property
    def place(self) -> Place:
        if self._place is None:
            raise self.lost()
        return self._place

    @property
    def key(self) -> bytes:
        """This participant's key. Raises what `check` raises if it never had its turn."""
        return self.place.key

    @property
    def token(self) -> int:
        """The fencing token: larger than that of every earlier holder. Raises as `key` does."""
        return self.place.token

    def is_owner(self) -> m.Compare:
        """For a transaction's `if_`: true while it is held. `guard=` does this, and raises. Raises as `key` does."""
        return self.place.holds()

    # --- recipes ---------------------------------------------------------------------------------

    def entering(self, value: bytes, *, wait: bool) -> Steps[bool]:
        """Stand in line, until it is our turn. Without `wait`: if it is not at once, leave again (False)."""
        if self._place is not None:
            raise InvalidRequest("it is held already")
        return (yield from or_else(self._turn(value, wait=wait), self._cleaning_up))

    def leaving(self) -> Steps[None]:
        """Leave the line. Raises what `check` raises if we were no longer in it."""
        place = self.place
        self._place = None
        if self._lent:
            there = (yield from self._leave(place)).succeeded
        else:
            there = yield from self._lease.revoking()
        if not there:
            raise self.lost()

    def _turn(self, value: bytes, *, wait: bool) -> Steps[bool]:
        if not self._lent:
            yield from self._lease.granting()
        kept = self._lease.kept
        key = b"%s%x" % (self._prefix, kept.id)
        put = (int(m.Op.PUT), m.Put(key, value, kept.id))
        request = m.Txn(
            (m.Compare(m.CompareResult.EQUAL, m.CompareTarget.CREATE, key, 0),),
            (put, _get(first_of(self._prefix))),
            (_get(m.Range(key)), _get(first_of(self._prefix))),
        )
        try:
            entered: TxnResult = yield from ask(calls.txn(request))
        except LeaseNotFound:  # we were away for long
            raise LeaseLost(f"{kept.id:x}") from None
        mine = calls.kvs_of(entered, 0) if not entered.succeeded else ()
        place = Place(key, mine[0].create_revision if mine else entered.revision)
        first = calls.kvs_of(entered, 1)
        if first[0].create_revision != place.token:
            if not wait:
                yield from self._cleaning_up()
                return False
            yield from self._wait(place, kept)
        self._place = place
        if mine and mine[0].value != value:
            yield from self._say(place, value)
        return True

    def _wait(self, place: Place, kept: Kept) -> Steps[None]:
        while True:
            ahead = yield from ask(calls.range_of(before(self._prefix, place.token)))
            if not ahead.kvs:
                break
            try:
                yield from await_event(Await(ahead.kvs[0].key, b"", ahead.revision + 1, puts=False, kept=kept))
            except Compacted:
                continue  # we were away for long: look again
        mine: KeyValue | None = yield from ask(calls.get(place.key, revision=0, serializable=False))
        if mine is None or mine.create_revision != place.token:
            raise LeaseLost(f"{kept.id:x}")

    def _say(self, place: Place, value: bytes) -> Steps[TxnResult]:
        """Put our key again. Raises what `check` raises when it is no longer ours."""
        request = m.Put(place.key, value, self._lease.kept.id)
        said = yield from ask(calls.txn(m.Txn((place.holds(),), ((int(m.Op.PUT), request),), ())))
        if not said.succeeded:
            raise self.lost()
        return said

    def _leave(self, place: Place, *, grace: bool = False) -> Steps[TxnResult]:
        request = m.DeleteRange(place.key)
        call: Call[TxnResult] = calls.txn(m.Txn((place.holds(),), ((int(m.Op.DELETE_RANGE), request),), ()))
        return (yield from ask(call, grace=grace))

    def _cleaning_up(self) -> Steps[None]:
        """We gave up, or failed: leave no key in the line for others to wait for."""
        self._place = None
        if not self._lent:
            yield from self._lease.revoking(grace=True)
            return
        key = b"%s%x" % (self._prefix, self._lease.kept.id)
        yield from ask(calls.delete(m.DeleteRange(key)), grace=True)
