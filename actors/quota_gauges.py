"""What storage tells of prefix policies (core/mvcc/quotas.py), for metrics and `zkv top`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zkv.core.mvcc.quotas import Quotas
    from zkv.gauges import Value

TOLD_MAX: Final = 500
"""Those of the first prefixes: each is a series of several metrics."""


def quota_gauges(quotas: Quotas) -> Iterator[Value]:
    for quota, refused in quotas.first(TOLD_MAX):
        prefix = label(quota.prefix)
        yield "quota keys", prefix, quota.keys_used
        yield "quota keys max", prefix, quota.keys_max
        yield "quota bytes", prefix, quota.bytes_used
        yield "quota bytes max", prefix, quota.bytes_max
        yield "quota requests max", prefix, quota.requests_max
        yield "quota refused", prefix, refused


def label(prefix: bytes) -> str:
    """As text, without what stands between labels."""
    return prefix.decode("utf-8", "backslashreplace").replace("|", "\\x7c")
