"""A process's certificate, its key and whom it trusts, as the files say now: read again when they change.

Files are replaced one after the other, so that what is read may not belong together. Then what was read before stays
in force, the log says why once, and the next change is tried again. Nothing is half new.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zkv.certificates import load_credentials
from zkv.errors import ConfigError
from zkv.trust import load_trust

if TYPE_CHECKING:
    from zkv.certificates import Credentials
    from zkv.transport_security import TransportSecurity
    from zkv.trust import Trust

LOOK_MS = 1_000
"""How often to look whether a file has changed."""


class Papers:
    """`credentials`: who this process is (None: it need not say); `trust`: whom it believes (None: it asks nobody)."""

    def __init__(self, security: TransportSecurity, now_ms: int) -> None:
        """Raises ConfigError for files that cannot be used."""
        self.security = security
        self.credentials: Credentials | None = None
        self.trust: Trust | None = None
        self.version = 0
        """Rises with each change."""
        self._seen = self._look()
        self._load(now_ms)

    def refresh(self, now_ms: int) -> bool:
        """Whether there is something new."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self._load(now_ms)
        except ConfigError as error:
            import structlog  # a command that has nothing to tell does not pay for it

            structlog.get_logger().error(
                "certificates cannot be read again, those of before stay in force", reason=error.detail
            )
            return False
        return True

    def _load(self, now_ms: int) -> None:
        security = self.security
        credentials = load_credentials(security.cert_file, security.key_file) if security.cert_file else None
        trust = None
        if security.trusted_ca_file:
            trust = load_trust(security.trusted_ca_file, security.crl_file, now_ms)
        self.credentials, self.trust = credentials, trust
        self.version += 1

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What shows that a file is another one; None where there is none right now."""
        security = self.security
        paths = (security.cert_file, security.key_file, security.trusted_ca_file, security.crl_file)
        return tuple(_stamp(path) for path in paths if path)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
