"""`zkv keys`: CURVE key files for servers and clients."""

from __future__ import annotations

from zkv.ctl.command import Call, Command
from zkv.ctl.options import Flag

NAMES = ("server", "client", "peer")
"""What a cluster of which all is encrypted needs."""


def _keys(call: Call) -> int:
    from zkv.identity import write_keys

    for name in call.arguments or NAMES:
        public, secret = write_keys(call.values.text("dir"), name)
        call.out.write(f"{name}: {public} (public), {secret} (secret)\n".encode("utf-8", "surrogateescape"))
    return 0


KEYS = Command(
    usage="[options] [<name>...]",
    summary="Makes CURVE key pairs for servers and clients",
    description="""\
For each name (server, client and peer if none is given) two files: <name>.key holds the public key and
may be handed out, <name>.key_secret (mode 0600) holds both and may not. Key files that are there already
are left alone.

A server gets its own secret file, and the one that all members share for what they tell each other; a client
gets the server's public file and its own secret file. A server that is given a directory of clients' public
files refuses all other clients.""",
    example="""\
zkv keys --dir keys
zkv server --curve-secret-key keys/server.key_secret --listen-client-urls curve://10.0.0.1:2378 ...
zkv keys --dir keys alice
zkv --endpoints curve://10.0.0.1:2378 --curve-server-key keys/server.key --curve-key keys/alice.key_secret get a""",
    flags=(Flag("dir", "text", ".", "directory for the key files, made if it is not there", file=True),),
    run=_keys,
)
