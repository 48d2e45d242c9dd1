"""Requests with passwords, before they go on: to add a user a hash takes its place, to authenticate a token.

    AUTHENTICATE --> look at the password --> make a token --+--------------------------------> (token,)
                     (passwords.py)          (tokens.py)     +--> Login into the log --answer-> (token,)
    USER_ADD     --> hash it ----------------------------------> USER_ADD(hash) into the log

A login whose auth revision is an old one when it is applied begins anew, a few times: the password may be another one.
`log` is the door's: it proposes a request of the door's own, and calls back with what became of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zkv import errors
from zkv.gateway.tokens import digest_of
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.gateway.callers import Callers
    from zkv.gateway.passwords import Passwords
    from zkv.gateway.shares import Share

    Told = Callable[[int, int, Any], None]
    """(code, revision, body), as an answer has them."""

ATTEMPTS: Final = 3


class Logins:
    def __init__(
        self, callers: Callers, passwords: Passwords, log: Callable[[int, tuple[Any, ...], Told, int], None]
    ) -> None:
        """`log(op, fields, told, now)`; raises ZkvError where it cannot set out."""
        self._callers = callers
        self._passwords = passwords
        self._log = log

    def authenticate(self, fields: tuple[Any, ...], now: int, told: Told, share: Share) -> None:
        """`told` is called exactly once, perhaps at once; never raises."""
        self._attempt(fields, now, told, ATTEMPTS, share=share)

    def _attempt(self, fields: tuple[Any, ...], now: int, told: Told, attempts: int, *, share: Share) -> None:
        name, password = fields
        callers = self._callers
        try:
            hash_, revision = callers.hash_of(name), callers.revision
        except errors.ZkvError as error:
            told(*failure(error))
            return

        def looked(fits: bool) -> None:
            if not fits:
                told(*failure(errors.AuthFailed()))
                return
            try:
                token = callers.tokens.make(name, revision, now)
                if callers.tokens.logged:
                    self._log(
                        int(m.Op.LOGIN),
                        tuple(m.Login(name, digest_of(token), revision)),
                        lambda code, at, body: logged(token, code, at, body),
                        now,
                    )
                else:
                    told(0, 0, (token,))
            except errors.ZkvError as error:
                told(*failure(error))

        def logged(token: str, code: int, at: int, body: Any) -> None:
            if code == errors.AuthOldRevision.code and attempts > 1:
                self._attempt(fields, now, told, attempts - 1, share=share)
            else:
                told(code, at, (token,) if code == 0 else body)

        try:
            self._passwords.look(name, password, hash_, looked, share=share, now=now)
        except errors.TooManyRequests as error:
            told(*failure(error))

    def fill(
        self, op: int, fields: tuple[Any, ...], then: Callable[[tuple[Any, ...]], None], share: Share, now: int
    ) -> None:
        """`then` is given the fields with a hash in the password's place. Raises TooManyRequests."""
        if op == m.Op.USER_ADD:
            user = m.UserAdd(*fields)
            if user.no_password:
                then(tuple(user._replace(password="")))
            else:
                filled = lambda hash_: then(tuple(user._replace(password="", hashed=hash_)))  # noqa: E731
                self._passwords.hash(user.password, filled, share, now)
        else:
            change = m.UserChangePassword(*fields)
            changed = lambda hash_: then(tuple(change._replace(password="", hashed=hash_)))  # noqa: E731
            self._passwords.hash(change.password, changed, share, now)


def failure(error: errors.ZkvError) -> tuple[int, int, Any]:
    return error.code, 0, error.fields()
