"""Whose a number is: the two gateway processes of a node number apart what they number."""

from __future__ import annotations

from typing import Final

_ETCD_BIT: Final = 62
ETCD_DOOR: Final = 1 << _ETCD_BIT
"""A bit of the incarnation, and of the groups' and streams' numbers, of the gateway process "grpc" (etcd's API), and of
none of the process "gateway" (the native door): so that both may be answered by who knows neither."""


def door_of(number: int) -> str:
    """The gateway process whose incarnation, group or stream this is."""
    return "grpc" if number >> _ETCD_BIT & 1 else "gateway"  # compiled, ETCD_DOOR itself is an object
