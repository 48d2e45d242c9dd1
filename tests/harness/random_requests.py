"""Requests of all kinds at random, from a seed: few keys, so that they meet; past, present and impossible revisions.

Most are sound, some are refused: what is refused, and with which sentence, is part of what a store answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zkv.client.lanes import writes
from zkv.wire import messages as m

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

KEYS: Final = (b"\0", b"a", b"a\0", b"ab", b"abc", b"b", b"ba", b"c", b"\xfe", b"\xff", b"\xff\xff", b"z")
ENDS: Final = (*KEYS, b"\0", b"\0", b"\0", b"b", b"ac", b"c\xff", b"\xff\xff\0")
VALUES: Final = (b"", b"0", b"1", b"1", b"10", b"2", b"\0\xff", b"value " * 40)
UNKNOWN_LEASE: Final = 99
LEASES: Final = (1, 2, 3, -4, (1 << 63) - 1)
LEASE_TTL: Final = 3600
"""Seconds: none of them expires while one plays, and not one second of it is hit by two clocks alike."""
TTL_MAX: Final = 9_000_000_000
TXN_DEPTH: Final = 3


def ends_etcd(txn: m.Txn) -> bool:
    """Might a put of it that needs its key find it deleted by the txn itself? etcd 3.5 panics then, on all members.

    Only a delete to the end of the keyspace can: all others are checked against the keys put.
    """
    requests = list(_flat(txn))
    return any(isinstance(each, m.DeleteRange) and each.range_end == b"\0" for each in requests) and any(
        isinstance(each, m.Put) and (each.ignore_value or each.ignore_lease) for each in requests
    )


def _flat(txn: m.Txn) -> Iterator[m.TxnRequest]:
    for _, request in (*txn.success, *txn.failure):
        if isinstance(request, m.Txn):
            yield from _flat(request)
        else:
            yield request


class RandomRequests:
    """`revision` and `compacted` are the owner's to keep up: what is asked for lies round about them."""

    def __init__(self, random: random.Random) -> None:
        self._random = random
        self.revision = 1
        self.compacted = 0
        self._short_lease = 1000  # none of these is named again: they end when they end

    def read(self) -> m.Range | m.Txn | m.LeaseTimeToLive | m.LeaseList:
        dice = self._random.random()
        if dice < 0.75:
            return self.range()
        if dice < 0.9:
            return self.txn(writes=False)
        return m.LeaseList() if dice < 0.92 else m.LeaseTimeToLive(self._lease(), self._seldom(0.8))

    def write(self) -> m.Put | m.DeleteRange | m.Txn | m.Compact | m.LeaseGrant | m.LeaseRevoke:
        dice = self._random.random()
        if dice < 0.12:
            return self.lease()
        if dice < 0.45:
            return self.put()
        if dice < 0.6:
            return self.delete_range()
        if dice < 0.97:
            txn = self.txn(writes=True)
            return txn if writes(txn) else self.put()  # a txn that only reads is a read
        return self.compact()

    def put(self) -> m.Put:
        ignore_value, ignore_lease = self._seldom(0.1), self._seldom(0.1)
        value = b"" if ignore_value and not self._seldom(0.1) else self._random.choice(VALUES)
        lease = self._lease() if self._seldom(0.02 if ignore_lease else 0.4) else 0
        return m.Put(self._key(), value, lease, self._seldom(0.4), ignore_value, ignore_lease)

    def lease(self) -> m.LeaseGrant | m.LeaseRevoke:
        if self._seldom(0.25):
            return m.LeaseRevoke(self._random.choice((0, self._lease())))
        # Beyond the greatest TTL whether there is such a lease or not; a short one gets the least TTL there is.
        ttl = self._random.choice((LEASE_TTL, LEASE_TTL, TTL_MAX, TTL_MAX + 1))
        if self._seldom(0.1):
            self._short_lease += 1
            return m.LeaseGrant(self._random.choice((-5, 0, 1, 2)), self._short_lease)
        return m.LeaseGrant(ttl, self._random.choice(LEASES))

    def delete_range(self) -> m.DeleteRange:
        return m.DeleteRange(self._key(), self._end() if self._seldom(0.3) else b"", self._seldom(0.5))

    def compact(self) -> m.Compact:
        revision = self._random.choice((self.compacted, self._random.randint(self.compacted - 1, self.revision + 1)))
        return m.Compact(revision, self._seldom(0.5))

    def range(self) -> m.Range:
        pick = self._random.choice
        return m.Range(
            self._key(),
            self._end() if self._seldom(0.8) else b"",
            limit=pick((0, 0, 1, 2, 3, 5, 100, -1)),
            revision=self._revision() if self._seldom(0.5) else 0,
            sort_order=pick(tuple(m.SortOrder)),
            sort_target=pick((m.SortTarget.KEY, *m.SortTarget)),
            serializable=self._seldom(0.2),
            keys_only=self._seldom(0.2),
            count_only=self._seldom(0.1),
            min_mod_revision=self._revision() if self._seldom(0.15) else 0,
            max_mod_revision=self._revision() if self._seldom(0.15) else 0,
            min_create_revision=self._revision() if self._seldom(0.15) else 0,
            max_create_revision=self._revision() if self._seldom(0.15) else 0,
        )

    def txn(self, *, writes: bool, depth: int = 0) -> m.Txn:
        if self._seldom(0.005):
            return m.Txn((), ((int(m.Op.RANGE), m.Range(b"a")),) * self._random.choice((127, 128, 129)), ())
        while True:
            txn = m.Txn(
                tuple(self._compare() for _ in range(self._random.choice((0, 0, 1, 1, 2, 3)))),
                self._branch(writes, depth),
                self._branch(writes, depth),
            )
            if not ends_etcd(txn):
                return txn

    def _branch(self, writes: bool, depth: int) -> tuple[tuple[int, m.TxnRequest], ...]:
        return tuple(self._operation(writes, depth) for _ in range(self._random.choice((0, 1, 1, 2, 3, 5))))

    def _operation(self, writes: bool, depth: int) -> tuple[int, m.TxnRequest]:
        dice = self._random.random()
        if depth < TXN_DEPTH and dice < 0.15:
            return int(m.Op.TXN), self.txn(writes=writes, depth=depth + 1)
        if writes and dice < 0.6:
            return int(m.Op.PUT), self.put()
        if writes and dice < 0.7:
            return int(m.Op.DELETE_RANGE), self.delete_range()
        return int(m.Op.RANGE), self.range()

    def _compare(self) -> m.Compare:
        pick = self._random.choice
        target = pick(tuple(m.CompareTarget))
        operand: int | bytes
        match target:
            case m.CompareTarget.VALUE:
                operand = pick(VALUES)
            case m.CompareTarget.VERSION:
                operand = pick((0, 1, 2, 3))
            case m.CompareTarget.LEASE:
                operand = pick((0, 0, 1, self._lease()))
            case _:
                operand = pick((0, self._random.randint(0, self.revision)))
        end = self._end() if self._seldom(0.3) else b""
        return m.Compare(pick(tuple(m.CompareResult)), target, self._key(), operand, end)

    def _lease(self) -> int:
        return UNKNOWN_LEASE if self._seldom(0.05) else self._random.choice(LEASES)

    def _key(self) -> bytes:
        return b"" if self._seldom(0.005) else self._random.choice(KEYS)

    def _end(self) -> bytes:
        return self._random.choice(ENDS)

    def _revision(self) -> int:
        if self._seldom(0.05):
            return self._random.choice((-1, self.revision + 1, self.revision + 100))
        return self._random.randint(max(0, self.compacted - 1), self.revision)

    def _seldom(self, chance: float) -> bool:
        return self._random.random() < chance
