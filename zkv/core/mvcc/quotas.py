"""Prefix policies: how much may live under a prefix, and how often it may be changed. Replicated state.

A policy covers all keys that begin with its prefix, and counts them: how many they are now, and the bytes of keys and
values. A request that would leave more than it allows is refused whole, by every member alike, for what it goes by is
the log alone: the keys as they are, and the leader's clock in the entry. A key may be covered by several policies, one
prefix within the other; each has its say.

    note      each key that a request puts or deletes, as it is done: what that changes under each policy
    settle    at the request's end: refuse, or make it so. Nothing has a revision yet, so all of it can be undone
    cancel    forget what was noted

Who is over a quota (it was set lower than what was there) may shrink and not grow: a request is refused when it would
grow what is then too much. So what deletes more than it puts always passes, and the end of a lease does, too.

Requests a second are counted by a bucket of tokens: it holds as many as the policy allows in a second, fills at that
rate by the cluster clock, and a request that changes keys under the prefix takes one. So the rate is held over any
second or longer, and a burst may be a second's worth. What is refused takes nothing.

A prefix may hold a million keys when it gets its policy. They are counted in slices, COUNT_KEYS at a time: the first
one when the policy is set; for each further one the leader's storage (actors/housekeeper.py) puts a request into the
log. Between two of them a policy knows how far it has come (`counted_to`): keys before that place are counted as they
change, those from there on when it comes to them. From the slice on that finds the last one, it is in force.

Which policies cover a key? Their prefixes lie sorted, and each knows the longest other one that is a prefix of it. The
greatest one not after the key either covers it, or lies below the longest that does: all between those begin with it,
too. So one search and a few steps upwards find it, however many policies there are; where there is none, nobody asks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from itertools import islice
from typing import TYPE_CHECKING, Final
from zlib import crc32

from zkv.core.mvcc import layout
from zkv.core.mvcc.layout import CURRENT_HEAD_BYTES
from zkv.errors import OverQuota, OverRate, QuotaNotFound, TooManyQuotas
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zkv.core.mvcc.engine import Reader

    Scan = Callable[[bytes, bytes], Iterator[tuple[bytes, bytes]]]
    """Live keys from the first on and before the second, as in a range, with their records."""

QUOTAS_MAX: Final = 10_000
"""No setting, as all numbers here: members must agree."""
NESTED_MAX: Final = 16
"""Policies that cover one key: a put of it pays for each."""
COUNT_KEYS: Final = 1_000
COUNT_BYTES: Final = 1 << 20
"""A slice is what a write may have to wait for."""
_TOKEN: Final = 1_000
"""Tokens are counted in thousandths: what a policy of one request a second gains in a millisecond."""


class Policy:
    """One prefix, its limits (0: none), what lies under it, and what the request being applied does to that."""

    __slots__ = (
        "bytes_max",
        "bytes_now",
        "bytes_used",
        "counted_to",
        "counting",
        "filled",
        "keys_max",
        "keys_now",
        "keys_used",
        "noted",
        "over",
        "prefix",
        "refused",
        "requests_max",
        "tokens",
    )

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.keys_max = 0
        self.bytes_max = 0
        self.requests_max = 0
        self.keys_used = 0
        self.bytes_used = 0
        self.counting = True
        self.counted_to = prefix
        self.tokens = 0
        self.filled = 0
        """When, by the cluster clock, there were so many tokens."""
        self.over: Policy | None = None
        """The one with the longest prefix of this one's."""
        self.refused = 0
        """Requests, since the store was opened: what this member has seen, and no state."""
        self.noted = False
        self.keys_now = 0
        self.bytes_now = 0

    def kept(self) -> bytes:
        return pack(
            (
                self.keys_max,
                self.bytes_max,
                self.requests_max,
                self.keys_used,
                self.bytes_used,
                self.counting,
                self.counted_to,
                self.tokens,
                self.filled,
            )
        )

    def told(self) -> m.Quota:
        return m.Quota(
            self.prefix,
            self.keys_max,
            self.bytes_max,
            self.requests_max,
            self.keys_used,
            self.bytes_used,
            self.counting,
        )

    def refusal(self, now: int) -> OverQuota | OverRate | None:
        """Of what was noted."""
        if not self.counting:
            if self.keys_max and self.keys_now > 0 and self.keys_used + self.keys_now > self.keys_max:
                return OverQuota(f"prefix {_shown(self.prefix)} may hold {self.keys_max} keys")
            if self.bytes_max and self.bytes_now > 0 and self.bytes_used + self.bytes_now > self.bytes_max:
                return OverQuota(f"prefix {_shown(self.prefix)} may hold {self.bytes_max} bytes")
        if self.requests_max:
            lacking = _TOKEN - self.tokens_at(now)
            if lacking > 0:
                wait = -(-lacking // self.requests_max)
                text = f"prefix {_shown(self.prefix)} may be changed by {self.requests_max} requests a second"
                return OverRate(text, wait)
        return None

    def tokens_at(self, now: int) -> int:
        return min(self.tokens + max(now - self.filled, 0) * self.requests_max, self.requests_max * _TOKEN)


class Quotas:
    """All policies, in memory; what changed is written with the batch that changed it."""

    def __init__(self, reader: Reader) -> None:
        self.any = False
        """Are there policies?"""
        self.slices = 0
        """Counted since this was opened."""
        self._policies: dict[bytes, Policy] = {}
        self._prefixes: list[bytes] = []  # sorted
        self._uncounted: set[bytes] = set()
        self._noted: list[Policy] = []
        self._changed: set[bytes] = set()
        self._undigested: set[bytes] = set()
        for name, record in reader.scan(layout.QUOTA, layout.after_prefix(layout.QUOTA)):
            policy = self._policies[name[1:]] = Policy(name[1:])
            limits, usage, bucket = (fields := unpack(record))[:3], fields[3:7], fields[7:]
            policy.keys_max, policy.bytes_max, policy.requests_max = limits
            policy.keys_used, policy.bytes_used, policy.counting, policy.counted_to = usage
            policy.tokens, policy.filled = bucket
            if policy.counting:
                self._uncounted.add(policy.prefix)
        self.any = bool(self._policies)
        self._prefixes = list(self._policies)
        above: list[Policy] = []
        for policy in self._policies.values():
            while above and not policy.prefix.startswith(above[-1].prefix):
                above.pop()
            policy.over = above[-1] if above else None
            above.append(policy)

    def cover(self, key: bytes) -> Policy | None:
        """The policy with the longest prefix of the key; all others that cover it are `over` that one."""
        at = bisect_right(self._prefixes, key)
        if not at:
            return None
        policy: Policy | None = self._policies[self._prefixes[at - 1]]
        while policy is not None and not key.startswith(policy.prefix):
            policy = policy.over
        return policy

    # --- a request that changes keys -----------------------------------------------------------------

    def note(self, key: bytes, before: bytes | None, after: bytes | None) -> None:
        """The request changes the key from one record of it to another; None: there is none."""
        policy = self.cover(key)
        if policy is None:
            return
        keys = (after is not None) - (before is not None)
        size = len(key) - CURRENT_HEAD_BYTES
        grown = (0 if after is None else size + len(after)) - (0 if before is None else size + len(before))
        while policy is not None:
            if not policy.noted:
                policy.noted = True
                policy.keys_now = policy.bytes_now = 0
                self._noted.append(policy)
            if not policy.counting or key < policy.counted_to:
                policy.keys_now += keys
                policy.bytes_now += grown
            policy = policy.over

    def settle(self, now: int) -> None:
        """The request is done, but for this. Raises OverQuota, OverRate."""
        for policy in self._noted:
            refusal = policy.refusal(now)
            if refusal is not None:
                policy.refused += 1
                raise refusal
        for policy in self._noted:
            if policy.requests_max:
                policy.tokens = policy.tokens_at(now) - _TOKEN
                policy.filled = now
        self.grant()

    def grant(self) -> None:
        """As `settle`, of what nobody asks leave for: leases that end."""
        for policy in self._noted:
            policy.noted = False
            policy.keys_used += policy.keys_now
            policy.bytes_used += policy.bytes_now
            self._note_change(policy.prefix)
        self._noted.clear()

    @property
    def is_noted(self) -> bool:
        return bool(self._noted)

    def cancel(self) -> None:
        for policy in self._noted:
            policy.noted = False
        self._noted.clear()

    def miscounted(self) -> Iterator[bytes]:
        """Prefixes under which there is something else than what was noted, when all keys were, as if they were new."""
        for policy in self._policies.values():
            noted = (policy.keys_now, policy.bytes_now) if policy.noted else (0, 0)
            if noted != (policy.keys_used, policy.bytes_used):
                yield policy.prefix

    # --- changing policies -----------------------------------------------------------------------------

    def change(self, asked: m.QuotaSet | m.QuotaDelete | m.QuotaCount, now: int, scan: Scan) -> m.QuotaResponse:
        """Raises QuotaNotFound, TooManyQuotas."""
        if isinstance(asked, m.QuotaSet):
            return m.QuotaAnswer(self._set(asked, now, scan).told())
        if isinstance(asked, m.QuotaDelete):
            return m.QuotaAnswer(self._delete(asked.prefix).told())
        self._count_on(scan)
        return m.QuotaListAnswer(())

    def _set(self, asked: m.QuotaSet, now: int, scan: Scan) -> Policy:
        policy = self._policies.get(asked.prefix)
        fresh = policy is None
        if policy is None:
            policy = self._add(asked.prefix)
        if asked.keys_max >= 0:
            policy.keys_max = asked.keys_max
        if asked.bytes_max >= 0:
            policy.bytes_max = asked.bytes_max
        if asked.requests_max >= 0:
            policy.requests_max = asked.requests_max
            policy.tokens, policy.filled = asked.requests_max * _TOKEN, now
        if fresh:
            self._count(policy, scan)
        self._note_change(policy.prefix)
        return policy

    def _add(self, prefix: bytes) -> Policy:
        """A policy that limits nothing yet. Raises TooManyQuotas."""
        if len(self._policies) >= QUOTAS_MAX:
            raise TooManyQuotas(f"there are {QUOTAS_MAX}")
        policy = Policy(prefix)
        policy.over = self.cover(prefix)
        below = list(self._below(prefix))
        if _height(policy.over) + 1 + max((_height(each, policy.over) for each in below), default=0) > NESTED_MAX:
            raise TooManyQuotas(f"{NESTED_MAX} of them cover one key already")
        for each in below:
            if each.over is policy.over:
                each.over = policy
        insort(self._prefixes, prefix)
        self._policies[prefix] = policy
        self._uncounted.add(prefix)
        self.any = True
        return policy

    def _delete(self, prefix: bytes) -> Policy:
        policy = self._found(prefix)
        for each in self._below(prefix):
            if each.over is policy:
                each.over = policy.over
        del self._policies[prefix]
        del self._prefixes[bisect_left(self._prefixes, prefix)]
        self._uncounted.discard(prefix)
        self.any = bool(self._policies)
        self._note_change(prefix)
        return policy

    def _below(self, prefix: bytes) -> Iterator[Policy]:
        """All whose prefixes begin with this one, and are longer."""
        for at in range(bisect_right(self._prefixes, prefix), len(self._prefixes)):
            if not self._prefixes[at].startswith(prefix):
                break
            yield self._policies[self._prefixes[at]]

    def _found(self, prefix: bytes) -> Policy:
        policy = self._policies.get(prefix)
        if policy is None:
            raise QuotaNotFound(_shown(prefix))
        return policy

    # --- counting what was there before ----------------------------------------------------------------

    @property
    def is_counting(self) -> bool:
        return bool(self._uncounted)

    def _count_on(self, scan: Scan) -> None:
        """One slice, of the first that is not done."""
        self.slices += 1
        if self._uncounted:
            policy = self._policies[min(self._uncounted)]
            self._count(policy, scan)
            self._note_change(policy.prefix)

    def _count(self, policy: Policy, scan: Scan) -> None:
        keys = held = 0
        for key, record in scan(policy.counted_to, prefix_end(policy.prefix)):
            if keys == COUNT_KEYS or held >= COUNT_BYTES:
                policy.counted_to = key
                break
            keys += 1
            held += len(key) + len(record) - CURRENT_HEAD_BYTES
        else:
            policy.counting, policy.counted_to = False, b""
            self._uncounted.discard(policy.prefix)
        policy.keys_used += keys
        policy.bytes_used += held

    # --- looking, keeping --------------------------------------------------------------------------------

    def look(self, asked: m.QuotaGet | m.QuotaList) -> m.QuotaResponse:
        """Raises QuotaNotFound."""
        if isinstance(asked, m.QuotaGet):
            return m.QuotaAnswer(self._found(asked.prefix).told())
        return m.QuotaListAnswer(tuple([self._policies[prefix].told() for prefix in self._prefixes]))

    def first(self, most: int) -> Iterator[tuple[m.Quota, int]]:
        """In the order of their prefixes; with how many requests this member has seen refused by each."""
        for prefix in islice(self._prefixes, most):
            policy = self._policies[prefix]
            yield policy.told(), policy.refused

    def _note_change(self, prefix: bytes) -> None:
        self._changed.add(prefix)
        self._undigested.add(prefix)

    def flush(self, puts: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        """Add what has changed since the last call."""
        if not self._changed:
            return
        changed, self._changed = sorted(self._changed), set()
        policies = self._policies
        puts += [(layout.QUOTA + prefix, policies[prefix].kept()) for prefix in changed if prefix in policies]
        deletes += [layout.QUOTA + prefix for prefix in changed if prefix not in policies]

    def digest(self, of_entry: int) -> int:
        """The checksum of an entry, which covers what has changed here since the last call, too."""
        if self._undigested:
            changed, self._undigested = sorted(self._undigested), set()
            policies = self._policies
            records = [prefix + (policies[prefix].kept() if prefix in policies else b"") for prefix in changed]
            return crc32(b"".join(records), of_entry)
        return of_entry


def _height(policy: Policy | None, upto: Policy | None = None) -> int:
    """How many policies lie one over the other, from this one up to (without) another."""
    count = 0
    while policy is not upto:
        assert policy is not None, "that one lies over this one"
        count, policy = count + 1, policy.over
    return count


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin with it."""
    stem = prefix.rstrip(b"\xff")
    return layout.after_prefix(stem) if stem else b"\0"


def _shown(prefix: bytes) -> str:
    """ASCII, which every member writes alike."""
    return repr(prefix)[1:]
