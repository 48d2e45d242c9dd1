"""Who asks? A door's knowledge of users: whether they are asked at all, their tokens, their passwords' hashes.

Storage tells it (AuthNews); nothing here decides what somebody may do: that is judged where the request is applied,
under the revision it was let in with (core/mvcc/guard.py). Only what raft looks at before (members, moving the leader)
is refused here too.

A token wins over a certificate's common name, as in etcd, and one that is not known is refused, never passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from zkv.errors import (
    AuthFailed,
    AuthNotEnabled,
    ConfigError,
    InvalidAuthToken,
    NoPasswordUser,
    PermissionDenied,
    Unavailable,
    UserEmpty,
    UserNotFound,
    ZkvError,
)
from zkv.gateway.tokens import SimpleTokens

if TYPE_CHECKING:
    from zkv.gateway.grpc_line import Answers
    from zkv.gateway.http2.grpc import Call
    from zkv.gateway.tokens import Tokens
    from zkv.wire.messages import AuthNews, Caller

ROOT: Final = "root"


class Who(NamedTuple):
    """What a client shows of itself."""

    token: str = ""
    common_name: str = ""
    address: str = ""
    """Where it is, for the audit log."""


NOBODY: Final = Who()


def who_calls(line: Answers, call: Call, callers: Callers) -> Who:
    """What a call of etcd's API shows of its caller: a token in its metadata, under one of etcd's two names; its
    connection's certificate. Where nobody asks, tokens are not looked for.
    """
    token = ""
    for name, value in call.head.metadata if callers.asks else ():
        if name == b"token" or (name == b"authorization" and not token):
            token = value.decode("utf-8", "replace")
    return Who(token, line.common_name, line.address) if token or line.common_name or callers.audited else NOBODY


class _User(NamedTuple):
    password: bytes
    no_password: bool
    is_root: bool


class Callers:
    """`enabled`: users are asked who they are; `asks`: or it is not known yet, for storage has not spoken.

    `audited`: there is an audit log, so that it counts where somebody is though nobody asks who.
    """

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.enabled = False
        self.audited = False
        self.asks = True
        self.revision = 0
        self._users: dict[str, _User] = {}

    def news(self, news: AuthNews, now: int) -> None:
        users = {} if news.fresh else self._users
        changed = {name: _User(hash_, no_password, ROOT in roles) for name, hash_, no_password, roles in news.users}
        void = [name for name in news.users_gone if name in self._users]
        void += [name for name, user in changed.items() if name in self._users and _differ(user, self._users[name])]
        if news.fresh:
            void += [name for name in self._users if name not in changed]
        for name in news.users_gone:
            users.pop(name, None)
        users.update(changed)
        self._users = users
        self.tokens.forget(void)
        if self.enabled and not news.enabled:
            self.tokens.forget_all()
        self.tokens.learn(news.tokens, now)
        self.enabled = self.asks = news.enabled
        self.revision = news.revision

    def caller(self, who: Who, now: int) -> Caller | None:
        """None while nobody is asked. Raises InvalidAuthToken, Unavailable."""
        if not self.enabled:
            if who.token and self.asks:
                raise Unavailable
            return None
        if who.token:
            caller = self.tokens.caller(who.token, self.revision, now)
            if caller is None:
                raise InvalidAuthToken
            return caller
        return who.common_name, self.revision

    def check_root(self, caller: Caller | None) -> None:
        """Raises UserEmpty, UserNotFound, PermissionDenied; Unavailable while nobody knows who is asked."""
        if caller is None:
            if self.asks:
                raise Unavailable
            return
        if not caller[0]:
            raise UserEmpty
        user = self._users.get(caller[0])
        if user is None:
            raise UserNotFound
        if not user.is_root:
            raise PermissionDenied

    def refusal_unless_root(self, caller: Caller | None) -> ZkvError | None:
        try:
            self.check_root(caller)
        except ZkvError as error:
            return error
        return None

    def hash_of(self, name: str) -> bytes:
        """Of the user's password. Raises AuthNotEnabled, AuthFailed, NoPasswordUser; Unavailable before it is known.

        Who hears that nobody is asked goes on without a token, and so must not hear it too early.
        """
        if not self.enabled:
            raise Unavailable if self.asks else AuthNotEnabled
        user = self._users.get(name)
        if user is None:
            raise AuthFailed
        if user.no_password:
            raise NoPasswordUser
        return user.password


def _differ(one: _User, other: _User) -> bool:
    return (one.password, one.no_password) != (other.password, other.no_password)


def tokens_of(setting: str, ttl_s: int) -> Tokens:
    """The kind of tokens that `--auth-token` names. Raises ConfigError."""
    kind, *words = setting.split(",")
    options = dict(word.partition("=")[::2] for word in words)
    if len(options) != len(words) or any("=" not in word for word in words):
        raise ConfigError(f"--auth-token: options are name=value, each once: {setting!r}")
    if kind == "simple":
        if options:
            raise ConfigError(f"--auth-token simple takes no options: {setting!r}")
        return SimpleTokens(ttl_s * 1000)
    if kind == "jwt":
        from zkv.gateway.jwt_tokens import JwtTokens  # few want them

        return JwtTokens(options)
    raise ConfigError(f"--auth-token must be simple or jwt,..., not {kind!r}")
