"""What clients ask of prefix policies: requests and answers. `requests.py` numbers them."""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple, TypeAlias

from zkv.wire.shapes import INT64_MAX, BytesMost

KEPT: Final = -1
"""Of a limit: as it was, or none where there was none."""
QUOTA_PREFIX_BYTES_MAX: Final = 256
QUOTA_REQUESTS_MAX: Final = ((1 << 64) - 1) // 1000
"""Counted in thousandths (core/mvcc/quotas.py), it fits into 64 bits."""

Prefix: TypeAlias = Annotated[bytes, BytesMost(QUOTA_PREFIX_BYTES_MAX)]
Limit: TypeAlias = Annotated[int, range(KEPT, INT64_MAX + 1)]


class QuotaSet(NamedTuple):
    """Keys that begin with `prefix` may be so many, take so many bytes, and be changed by so many requests a second.

    0: as many as may be; KEPT: as it was.
    """

    prefix: Prefix
    keys_max: Limit = KEPT
    bytes_max: Limit = KEPT
    requests_max: Annotated[int, range(KEPT, QUOTA_REQUESTS_MAX + 1)] = KEPT


class QuotaDelete(NamedTuple):
    prefix: Prefix


class QuotaGet(NamedTuple):
    prefix: Prefix


class QuotaList(NamedTuple):
    pass


class QuotaCount(NamedTuple):
    """By members only: the leader's storage has the next keys counted that were there before their policy was."""


class Quota(NamedTuple):
    """A policy, and what lies under its prefix: current keys, and bytes of keys and values.

    `counting`: not all of it is counted yet, and until then `keys_max` and `bytes_max` are not in force.
    """

    prefix: bytes
    keys_max: int
    bytes_max: int
    requests_max: int
    keys_used: int
    bytes_used: int
    counting: bool


class QuotaAnswer(NamedTuple):
    """As it is now; to a QuotaDelete, as it was."""

    quota: Quota


class QuotaListAnswer(NamedTuple):
    """In the order of the prefixes."""

    quotas: tuple[Quota, ...]


QuotaRequest: TypeAlias = QuotaSet | QuotaDelete | QuotaGet | QuotaList | QuotaCount
QuotaResponse: TypeAlias = QuotaAnswer | QuotaListAnswer
QUOTA_RECORDS: Final[tuple[tuple[type[QuotaRequest], type[QuotaResponse]], ...]] = (
    (QuotaSet, QuotaAnswer),
    (QuotaDelete, QuotaAnswer),
    (QuotaGet, QuotaAnswer),
    (QuotaList, QuotaListAnswer),
    (QuotaCount, QuotaListAnswer),
)
"""Request and answer, in the order of their operations from Op.QUOTA_SET on."""
