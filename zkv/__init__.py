"""zkv: a strongly consistent, replicated key-value store with etcd v3 semantics.

    import zkv

    with zkv.Client(["tcp://127.0.0.1:2378"]) as kv:
        kv.put("a", "1")
        print(kv.get("a").value)

Names are resolved when first used, so that a program pays only for what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zkv import errors as errors
    from zkv.client.async_client import AsyncClient as AsyncClient
    from zkv.client.cache import AsyncCache as AsyncCache
    from zkv.client.cache import Cache as Cache
    from zkv.client.client import Client as Client
    from zkv.client.election import AsyncElection as AsyncElection
    from zkv.client.election import Election as Election
    from zkv.client.lease import AsyncLease as AsyncLease
    from zkv.client.lease import Lease as Lease
    from zkv.client.lock import AsyncLock as AsyncLock
    from zkv.client.lock import Lock as Lock
    from zkv.client.observation import WatchOptions as WatchOptions
    from zkv.client.ops import RangeOptions as RangeOptions
    from zkv.client.ops import create_revision as create_revision
    from zkv.client.ops import delete as delete
    from zkv.client.ops import get as get
    from zkv.client.ops import lease_of as lease_of
    from zkv.client.ops import mod_revision as mod_revision
    from zkv.client.ops import put as put
    from zkv.client.ops import value as value
    from zkv.client.ops import version as version
    from zkv.client.retry import RetryPolicy as RetryPolicy
    from zkv.client.stm import AsyncStm as AsyncStm
    from zkv.client.stm import Stm as Stm
    from zkv.client.watch import AsyncWatch as AsyncWatch
    from zkv.client.watch import Watch as Watch
    from zkv.client.watch_events import WatchEvent as WatchEvent
    from zkv.client.watch_events import WatchResponse as WatchResponse
    from zkv.errors import ZkvError as ZkvError
    from zkv.wire.messages import KeyValue as KeyValue
    from zkv.wire.messages import Member as Member
    from zkv.wire.messages import Quota as Quota

_HOMES = {
    "AsyncCache": "zkv.client.cache",
    "AsyncClient": "zkv.client.async_client",
    "AsyncElection": "zkv.client.election",
    "AsyncLease": "zkv.client.lease",
    "AsyncLock": "zkv.client.lock",
    "AsyncStm": "zkv.client.stm",
    "AsyncWatch": "zkv.client.watch",
    "Cache": "zkv.client.cache",
    "Client": "zkv.client.client",
    "Election": "zkv.client.election",
    "KeyValue": "zkv.wire.messages",
    "Lease": "zkv.client.lease",
    "Lock": "zkv.client.lock",
    "Member": "zkv.wire.messages",
    "Quota": "zkv.wire.messages",
    "RangeOptions": "zkv.client.ops",
    "RetryPolicy": "zkv.client.retry",
    "Stm": "zkv.client.stm",
    "Watch": "zkv.client.watch",
    "WatchEvent": "zkv.client.watch_events",
    "WatchOptions": "zkv.client.observation",
    "WatchResponse": "zkv.client.watch_events",
    "ZkvError": "zkv.errors",
    "create_revision": "zkv.client.ops",
    "delete": "zkv.client.ops",
    "get": "zkv.client.ops",
    "lease_of": "zkv.client.ops",
    "mod_revision": "zkv.client.ops",
    "put": "zkv.client.ops",
    "value": "zkv.client.ops",
    "version": "zkv.client.ops",
}

__all__ = [*_HOMES, "errors"]  # noqa: PLE0604 (one list of names, not two)


def __getattr__(name: str) -> object:
    import importlib

    if name == "errors":
        return importlib.import_module("zkv.errors")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'zkv' has no attribute {name!r}")
    found: object = getattr(importlib.import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
