"""`zkv version`."""

from __future__ import annotations

from zkv.ctl.command import Call, Command

API_VERSION = "3.5"
"""The etcd v3 API whose semantics these commands have."""


def installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("zkv")
    except PackageNotFoundError:
        return "unknown (zkv is run from a checkout that was not installed)"


def _version(call: Call) -> int:
    call.out.write(f"zkv version: {installed_version()}\nAPI version: {API_VERSION}\n".encode())
    return 0


VERSION = Command(usage="", summary="Prints the version of zkv", example="zkv version", run=_version)
