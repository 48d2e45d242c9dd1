"""Who a member and a cluster are, as numbers: derived as etcd derives them, so every member computes the same ones.

etcd:server/etcdserver/api/membership/member.go (computeMemberId) and cluster.go (genID).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def member_id(peer_urls: Iterable[str], token: str) -> int:
    """The first 8 bytes of the SHA-1 over the sorted peer urls, as given, and the cluster token."""
    return _first_8_bytes("".join(sorted(peer_urls)).encode() + token.encode())


def cluster_id(member_ids: Iterable[int]) -> int:
    """The first 8 bytes of the SHA-1 over the sorted ids of the members the cluster started with."""
    return _first_8_bytes(b"".join(member.to_bytes(8, "big") for member in sorted(member_ids)))


def _first_8_bytes(data: bytes) -> int:
    return int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest()[:8], "big")
