"""`make run`: three members on loopback with CURVE on, a key put through one and read through another, until Ctrl-C.

What it leaves behind is nothing: members, their sockets, keys and data go with it.
"""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import zkv
from zkv.testing import ClusterError, LocalCluster

if TYPE_CHECKING:
    from types import FrameType

NODES = 3
KEY, VALUE = "hello", "world"


def _end(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - what signal.signal wants
    """Any wish to end is heard once: a second Ctrl-C must not break off the cleaning up."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(0)


def _say(text: str = "") -> None:
    print(text, flush=True)


def _try(cluster: LocalCluster) -> None:
    """Raises what the client raises."""
    options = cluster.client_options
    first, last = cluster.endpoints[0], cluster.endpoints[-1]
    with zkv.Client(first, **options) as kv:
        revision = kv.put(KEY, VALUE).header.revision
    with zkv.Client(last, **options) as kv:
        found = kv.get(KEY)
    _say(f"put {KEY} = {VALUE} through {first}: revision {revision}")
    _say(f"got {KEY} = {found.value.decode() if found else None} through {last}")


def _explain(cluster: LocalCluster) -> None:
    options = cluster.client_options
    command = shlex.quote(str(Path(sys.executable).with_name("zkv").relative_to(Path.cwd())))
    _say("\nTalk to it from another terminal, in this directory:\n")
    _say(f"  export ZKV_ENDPOINTS={','.join(cluster.endpoints)}")
    _say(f"  export ZKV_CURVE_SERVER_KEY={options['server_key']} ZKV_CURVE_KEY={options['client_key']}")
    _say(f"  {command} put greeting hello")
    _say(f"  {command} get --prefix ''")
    _say(f"  {command} endpoint status -w table")
    _say("\nor from Python:\n")
    _say(f"  zkv.Client({cluster.endpoints!r},")
    _say(f"             server_key={str(options['server_key'])!r},")
    _say(f"             client_key={str(options['client_key'])!r})")
    _say("\nCtrl-C ends it, and removes what it wrote.")


def main() -> int:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _end)
    _say(f"starting {NODES} members ...")
    try:
        with LocalCluster(nodes=NODES, curve=True) as cluster:
            _try(cluster)
            _explain(cluster)
            while True:
                signal.pause()
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        _say("\nall stopped")


if __name__ == "__main__":
    sys.exit(main())
