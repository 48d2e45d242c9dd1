"""Coverage-guided fuzzing of ZMTP and CURVE, as strangers meet them: `make fuzz`, or `make fuzz ARGS=-runs=1000000`.

An input is what comes to a listening end behind the greeting, and how it is cut into reads. Whatever it is, it is
messages or refused, and no more of it is kept than one message may be long. Behind CURVE nothing comes that was not
sealed, so that an input also says which of its messages are to be sealed first, by who has shaken hands.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["zkv.zmtp", "zkv.curve"]):
    from zkv import curve, zmtp

from zkv.curve_keys import new_keys

BYTES_MAX = 10_000
SERVER, CLIENT = new_keys(), new_keys()
SEEDS = (
    zmtp.hello(b"DEALER")[64:] + b"\0\3put" + b"\1\1a\0\1b" + b"\x04\x09\x04PING\0\0ab" + b"\2" + bytes(7) + b"\2zz",
    b"\x04\xc8\x05HELLO\1\0" + bytes(192),
    b"\x06" + bytes(6) + b"\1\1\x08INITIATE" + bytes(248),
    b"\x04\x0a\x05ERROR\3400",
)


def one_input(data: bytes) -> None:
    """The first byte says how large reads are, the second what is spoken: NULL, CURVE, or CURVE after the handshake."""
    if len(data) < 2:
        return
    size, kind, body = 1 + data[0], data[1] % 3, data[2:]
    server = zmtp.End(b"ROUTER", curve.Server(SERVER) if kind else None, BYTES_MAX)
    client = zmtp.End(b"DEALER", curve.Client(CLIENT, SERVER.public) if kind else None, BYTES_MAX)
    if kind == 2:
        told = [client.answer(), server.answer()]
        while any(told):
            server.feed(told[0])
            client.feed(told[1])
            told = [client.answer(), server.answer()]
        channel = client._channel
        assert channel is not None
        sealed = channel.seal(body[0] if body else 0, body[1:])
        body = zmtp.head(len(sealed)) + sealed + body
    else:
        server.feed(client.answer()[:64])
    for piece in (body[at : at + size] for at in range(0, len(body), size)):
        try:
            server.feed(piece)
        except zmtp.NotZmtp:
            return
        assert len(server.answer()) < 1000
        assert len(server._rest) <= BYTES_MAX + 100


def main() -> None:
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS):
            for kind in range(3):
                (Path(corpus) / f"{number}-{kind}").write_bytes(bytes((255, kind)) + seed)
        atheris.Setup([*sys.argv, "-max_len=4096", "-rss_limit_mb=2048", corpus], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
