"""Signed tokens (RFC 7519), as etcd's `--auth-token jwt,pub-key=..,priv-key=..,sign-method=..,ttl=..` has them.

A token says whose it is, at which auth revision it was given, and until when it holds; any member with the key can tell
that a member has signed it. After any change of users or roles it is refused as of an old revision, and the client asks
for another one. A member with the public key alone looks at tokens and gives none.

Elliptic curves, RSA and Ed25519 sign with `priv-key` and are verified with `pub-key` (or what follows from `priv-key`);
HS256 and its like have one secret for both, the file `priv-key`.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt.exceptions import PyJWTError

from zkv.errors import AuthFailed, ConfigError
from zkv.gateway.tokens import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zkv.wire.messages import Caller

METHODS: Final = (
    *(f"{family}{bits}" for family in ("HS", "RS", "PS", "ES") for bits in (256, 384, 512)),
    "EdDSA",
)
SECRET_BYTES_MIN: Final = 32
"""Of an HMAC's secret: a shorter one can be guessed."""
TTL_S: Final = 300
"""etcd's default."""
TOKEN_CHARS_MAX: Final = 8192
VERIFIED_MAX: Final = 10_000
"""Tokens whose signature was found good, so that it is not looked at for each request."""
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class JwtTokens:
    logged = False

    def __init__(self, options: dict[str, str]) -> None:
        """Raises ConfigError."""
        unknown = sorted(set(options) - {"pub-key", "priv-key", "sign-method", "ttl"})
        if unknown:
            raise ConfigError(f"--auth-token jwt knows no option {', '.join(unknown)}")
        self._method = options.get("sign-method", "")
        if self._method not in METHODS:
            raise ConfigError(f"--auth-token jwt needs sign-method, one of {', '.join(METHODS)}")
        self._ttl_s = _seconds(options["ttl"]) if "ttl" in options else TTL_S
        self._signing, self._verifying = _keys(self._method, options.get("priv-key", ""), options.get("pub-key", ""))
        try:
            if self._signing is not None:
                self._decode(self._encode("", 0, 10**10))  # fits the key the method, the two keys each other?
        except (PyJWTError, TypeError, ValueError) as error:
            raise ConfigError(f"--auth-token jwt: its keys do not fit {self._method} or each other: {error}") from None
        self._verified: OrderedDict[bytes, tuple[str, int, int]] = OrderedDict()  # digest -> (user, revision, until)

    def _encode(self, name: str, revision: int, until: int) -> str:
        return jwt.encode({"username": name, "revision": revision, "exp": until}, self._signing, algorithm=self._method)

    def _decode(self, token: str) -> tuple[str, int, int]:
        """Raises PyJWTError, TypeError."""
        claims = jwt.decode(
            token, self._verifying, algorithms=[self._method], options={"require": ["exp"], "verify_aud": False}
        )
        name, revision, until = claims.get("username"), claims.get("revision"), claims["exp"]
        if type(name) is not str or type(revision) is not int:
            raise TypeError("claims")
        return name, revision, int(until)

    def make(self, name: str, revision: int, now: int) -> str:  # noqa: ARG002 - other members have other clocks
        if self._signing is None:
            raise AuthFailed("this member can verify tokens, not sign them: --auth-token has no priv-key")
        return self._encode(name, revision, int(time.time() + self._ttl_s))

    def caller(self, token: str, revision: int, now: int) -> Caller | None:  # noqa: ARG002 - the token says it
        if len(token) > TOKEN_CHARS_MAX:
            return None
        digest = digest_of(token)
        known = self._verified.get(digest)
        if known is None:
            try:
                known = self._decode(token)
            except (PyJWTError, TypeError, ValueError):
                return None
            self._verified[digest] = known
            if len(self._verified) > VERIFIED_MAX:
                self._verified.popitem(last=False)
        elif known[2] <= time.time():
            del self._verified[digest]
            return None
        return known[0], known[1]

    def learn(self, given: Iterable[tuple[bytes, str]], now: int) -> None:
        """No member tells of one."""

    def forget(self, names: Iterable[str]) -> None:
        """A changed user has changed the auth revision: it voids them."""

    def forget_all(self) -> None:
        self._verified.clear()


def _keys(method: str, private: str, public: str) -> tuple[Any, Any]:
    """What signs (None: nothing does), and what verifies. Raises ConfigError."""
    if not private and not public:
        raise ConfigError("--auth-token jwt needs priv-key, or pub-key to verify only")
    if method.startswith("HS"):
        secret = _read(private or public)
        if len(secret) < SECRET_BYTES_MIN:
            raise ConfigError(f"--auth-token jwt: a secret of less than {SECRET_BYTES_MIN} bytes can be guessed")
        return secret, secret
    try:
        signing: Any = load_pem_private_key(_read(private), None) if private else None
        verifying = load_pem_public_key(_read(public)) if public else signing.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"--auth-token jwt: {private or public} holds no PEM key that can be used") from None
    return signing, verifying


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"--auth-token jwt: {path} cannot be read: {error.strerror}") from None


def _seconds(text: str) -> float:
    """A time as Go writes it: 10m, 1h30m, 90s."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError(f"--auth-token jwt: ttl must be a time like 10m, not {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
