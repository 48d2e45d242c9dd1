"""Passwords: hashed, and looked at, by bcrypt, in threads of their own. Nobody else in the house sees one.

bcrypt is slow, which is what it is for: some 60 ms at etcd's cost of 10. So it runs beside the door's loop (the library
lets go of the interpreter's lock), with less claim to the processor than the loop has; what waits is bounded, and
refused beyond.

Clients that reconnect by the thousand do not pay for it again: of a password that was found right, a keyed digest is
remembered (`_Seen`), together with the hash it fits, under a key that never leaves this process. A password that was
changed has another hash, so what is remembered of it is void. A wrong password is never remembered.

bcrypt looks at 72 bytes, and other libraries end at a zero byte. Longer passwords, and those with one, are digested
first; all others have the hashes that etcd would give them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import threading
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import bcrypt

from zkv.errors import TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from zkv.gateway.shares import Share, Shares

WORKERS: Final = 2
PENDING_MAX: Final = 1024
"""Passwords that wait to be looked at; more are refused as TooManyRequests."""
WAITING_MAX: Final = 16_384
"""Clients that wait for a look that is under way already."""
SEEN_MAX: Final = 10_000
"""Users whose password is remembered as right ..."""
SEEN_MS: Final = 600_000
"""... for so long."""
NICENESS: Final = 10
BCRYPT_BYTES_MAX: Final = 72


def _fitted(password: str) -> bytes:
    raw = password.encode("utf-8", "surrogatepass")
    if len(raw) <= BCRYPT_BYTES_MAX and b"\0" not in raw:
        return raw
    return base64.b64encode(hashlib.sha256(raw).digest())


def hashed(password: str, cost: int) -> bytes:
    return bcrypt.hashpw(_fitted(password), bcrypt.gensalt(cost))


def fits(password: str, hash_: bytes) -> bool:
    try:
        return bcrypt.checkpw(_fitted(password), hash_)
    except ValueError:  # the hash is none: nothing fits it
        return False


class _Seen:
    """Passwords found right."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._right: OrderedDict[str, tuple[bytes, bytes, int]] = OrderedDict()  # user -> (hash, digest, until)

    def digest(self, name: str, password: str) -> bytes:
        raw = password.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, key=self._key, person=hashlib.sha256(name.encode()).digest()[:16]).digest()

    def fits(self, name: str, password: str, hash_: bytes, now: int) -> bool:
        known = self._right.get(name)
        if known is None or known[0] != hash_ or known[2] < now:
            return False
        return hmac.compare_digest(known[1], self.digest(name, password))

    def add(self, name: str, password: str, hash_: bytes, now: int) -> None:
        self._right[name] = hash_, self.digest(name, password), now + SEEN_MS
        self._right.move_to_end(name)
        while len(self._right) > SEEN_MAX:
            self._right.popitem(last=False)


class Passwords:
    """`tend` calls back, on the thread that calls it, whoever's work is done. `shares`: of whom the work is."""

    def __init__(self, cost: int, shares: Shares) -> None:
        self._cost = cost
        self._shares = shares
        self._seen = _Seen()
        self._pool: ThreadPoolExecutor | None = None
        self._pending: deque[tuple[Future[bytes], Callable[[bytes], None]]] = deque()
        self._asked: dict[tuple[str, bytes, bytes], list[Callable[[bool], None]]] = {}  # who waits for the same
        self._waiting = 0  # of these, all but the first

    @property
    def is_busy(self) -> bool:
        return bool(self._pending)

    def hash(self, password: str, then: Callable[[bytes], None], share: Share, now: int) -> None:
        """Raises TooManyRequests."""
        cost = self._cost
        self._submit(lambda: hashed(password, cost), then, share, now)

    def look(
        self, name: str, password: str, hash_: bytes, then: Callable[[bool], None], *, share: Share, now: int
    ) -> None:
        """Is it the user's, whose hash this is? `then` may be called at once. Raises TooManyRequests."""
        if self._seen.fits(name, password, hash_, now):
            then(True)
            return
        key = name, hash_, self._seen.digest(name, password)
        asked = self._asked.get(key)
        if asked is not None:  # somebody has just asked the same: a crowd that comes back at once costs one look
            if self._waiting >= WAITING_MAX:
                raise TooManyRequests("passwords")
            self._waiting += 1
            asked.append(then)
            return

        def told(answer: bytes) -> None:
            if answer:
                self._seen.add(name, password, hash_, now)
            thens = self._asked.pop(key)
            self._waiting -= len(thens) - 1
            for each in thens:
                each(bool(answer))

        self._submit(lambda: b"fits" if fits(password, hash_) else b"", told, share, now)
        self._asked[key] = [then]

    def _submit(self, work: Callable[[], bytes], then: Callable[[bytes], None], share: Share, now: int) -> None:
        if len(self._pending) >= PENDING_MAX:
            raise TooManyRequests("passwords")
        error = self._shares.look_at_password(share, now)
        if error is not None:
            raise error

        def told(answer: bytes) -> None:
            share.passwords -= 1
            then(answer)

        if self._pool is None:  # most nodes never see a password
            self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="password", initializer=_step_back)
        self._pending.append((self._pool.submit(work), told))

    def tend(self) -> None:
        """Work is done in about the order it was given, and told in just that."""
        while self._pending and self._pending[0][0].done():
            future, then = self._pending.popleft()
            then(future.result())

    def close(self) -> None:
        """What waits is given up."""
        self._pending.clear()
        self._asked.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _step_back() -> None:
    """This thread yields to the loop's: on Linux each thread has a priority of its own."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
