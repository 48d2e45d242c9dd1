"""What a command of `zkv` is (`Command`), and what it is given when it runs (`Call`)."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, NamedTuple

from zkv.ctl.options import GLOBAL_FLAGS, CommandError, Flag, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zkv.client.client import Client
    from zkv.client.login import Login
    from zkv.client.transport import Files
    from zkv.ctl.connection import Connection
    from zkv.ctl.printers import Printer


SECOND_NS = 1_000_000_000


class Command(NamedTuple):
    """`run` returns the exit code. `usage` is what stands behind the name; `example` lines are shown as they are.

    Its name stands in `main.COMMANDS`.
    """

    usage: str
    summary: str
    example: str
    run: Callable[[Call], int]
    flags: tuple[Flag, ...] = ()
    description: str = ""
    words: tuple[str, ...] = ()
    """What a shell offers as an argument, where only a few words make sense."""

    @property
    def all_flags(self) -> tuple[Flag, ...]:
        own = {flag.name for flag in self.flags}  # which may mean something else here than elsewhere
        return (*self.flags, *(flag for flag in GLOBAL_FLAGS if flag.name not in own))


class Streams(NamedTuple):
    """Results go to `out`, troubles and nothing else to `err`."""

    stdin: IO[bytes]
    out: IO[bytes]
    err: IO[bytes]


def certificates(values: Values) -> Files:
    from zkv.client.transport import Files

    given = [values.text(name) for name in ("cacert", "cert", "key")]
    return Files(given[0], given[1], given[2], values.is_on("insecure-skip-tls-verify"))


class Call:
    """One run of a command: its command line, read; its streams; and the way to printer and cluster."""

    def __init__(
        self, values: Values, arguments: Sequence[str], streams: Streams, environment: Mapping[str, str] | None = None
    ) -> None:
        self.values = values
        self.arguments = arguments
        self.stdin, self.out, self.err = streams
        self.environment = environment or {}
        self._credentials: tuple[str, str] | None = None

    def argument(self, at: int) -> bytes:
        """An argument as the bytes the shell gave."""
        return os.fsencode(self.arguments[at])

    def printer(self, result: str = "") -> Printer:
        """The printer for `--write-out`.

        Raises CommandError when there is none, or it cannot show `result` (a method's name, or "" for not yet known).
        """
        from zkv.ctl.printers import make_printer

        printer = make_printer(self.values.text("write-out"), self.out, as_hex=self.values.is_on("hex"))
        if result:
            printer.require(result)
        return printer

    def connect(self, endpoints: Sequence[str] = (), *, patience_ms: int = 0) -> Connection:
        """To `endpoints`, or those of the command line; to be used in a `with`. `patience_ms`: instead of the timeouts
        of the command line.

        Raises CommandError.
        """
        from zkv.ctl.connection import Connection

        return Connection(self._checked(endpoints), self.values, self.login(), patience_ms=patience_ms)

    def login(self) -> Login | None:
        """Who asks, if anybody said so."""
        known = self.credentials()
        if known is None:
            return None
        from zkv.client.login import Login

        return Login(*known)

    def credentials(self) -> tuple[str, str] | None:
        """Name and password of who asks, if anybody said so."""
        if not self.values.text("user"):
            return None
        from zkv.ctl.secrets import credentials

        if self._credentials is None:  # the prompt asks once
            self._credentials = credentials(self)
        return self._credentials if self._credentials[0] else None

    def client(self) -> Client:
        """The library's client, for commands that last; to be used in a `with`. Raises CommandError."""
        import gc

        from zkv.client.client import Client

        gc.enable()  # `main` has turned it off, for commands that live for a moment
        self.login()
        user, password = self._credentials or ("", "")
        return Client(
            self._checked(),
            timeout=self.values.number("command-timeout") / SECOND_NS,
            server_key=self.values.text("curve-server-key") or None,
            client_key=self.values.text("curve-key") or None,
            cacert=self.values.text("cacert"),
            cert=self.values.text("cert"),
            key=self.values.text("key"),
            user=user,
            password=password,
            insecure_skip_tls_verify=self.values.is_on("insecure-skip-tls-verify"),
        )

    def elsewhere(self, endpoints: Sequence[str], flags: Mapping[str, str]) -> Call:
        """The same call to another cluster, where each of `flags` has the value of another flag."""
        values = self.values.renamed(flags, endpoints=tuple(endpoints))
        return Call(values, self.arguments, Streams(self.stdin, self.out, self.err), self.environment)

    def _checked(self, endpoints: Sequence[str] = ()) -> Sequence[str]:
        endpoints = endpoints or self.values.list("endpoints")
        if not endpoints:
            raise CommandError("no endpoints available: name some with --endpoints or ZKV_ENDPOINTS")
        known = self.values.text("curve-server-key") or certificates(self.values).are_given
        if any(each.startswith("curve://") for each in endpoints) and not known:
            raise CommandError(
                "curve:// endpoints need a CA, or the server's public key: name its file with --cacert or ZKV_CACERT, "
                "or with --curve-server-key or ZKV_CURVE_SERVER_KEY (see `zkv cert init --help`)"
            )
        return endpoints

    def complain(self, text: str) -> None:
        self.err.write(text.encode("utf-8", "surrogateescape") + b"\n")
