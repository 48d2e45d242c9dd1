"""`zkv version`."""

from __future__ import annotations

from zkv.ctl.command import Call, Command
from zkv.version import VERSION as ZKV_VERSION

API_VERSION = "3.5"
"""The etcd v3 API whose semantics these commands have."""


def text() -> str:
    return f"zkv version: {ZKV_VERSION}\nAPI version: {API_VERSION}\n"


def _version(call: Call) -> int:
    call.out.write(text().encode())
    return 0


VERSION = Command(usage="", summary="Prints the version of zkv", example="zkv version", run=_version)
