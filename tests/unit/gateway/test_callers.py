"""Who asks: tokens of both kinds, what a door is told of users, and passwords."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from zkv import errors
from zkv.gateway import passwords
from zkv.gateway.callers import Callers, Who, tokens_of
from zkv.gateway.jwt_tokens import JwtTokens
from zkv.gateway.logins import Logins
from zkv.gateway.passwords import Passwords
from zkv.gateway.shares import PASSWORDS_MAX, USER, Shares
from zkv.gateway.tokens import SimpleTokens, digest_of
from zkv.limits import Limits
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COST = 4
HASH = passwords.hashed("pw", COST)
SHARES = Shares(Limits(), "test")
ALICE = SHARES.of(USER, "alice")


def told(**changes: Any) -> m.AuthNews:
    users = (("alice", HASH, False, ("r",)), ("root", HASH, False, ("root",)), ("cn", b"", True, ()))
    return m.AuthNews(enabled=True, revision=5, users=users, fresh=True)._replace(**changes)


@pytest.fixture
def callers() -> Callers:
    made = Callers(SimpleTokens(1000))
    made.news(told(tokens=((digest_of("token"), "alice"),)), 0)
    return made


def test_a_token_names_its_user_under_the_present_revision(callers: Callers) -> None:
    assert callers.caller(Who("token"), 10) == ("alice", 5)
    callers.news(m.AuthNews(enabled=True, revision=6), 10)
    assert callers.caller(Who("token"), 10) == ("alice", 6)


def test_a_token_wins_over_a_certificate(callers: Callers) -> None:
    assert callers.caller(Who("token", "cn"), 0) == ("alice", 5)
    assert callers.caller(Who("", "cn"), 0) == ("cn", 5)
    with pytest.raises(errors.InvalidAuthToken):
        callers.caller(Who("nonsense", "cn"), 0)


def test_who_shows_nothing_is_nobody(callers: Callers) -> None:
    assert callers.caller(Who(), 0) == ("", 5)


def test_a_token_lives_as_long_as_it_is_shown(callers: Callers) -> None:
    for now in (900, 1800, 2700):
        assert callers.caller(Who("token"), now) == ("alice", 5)
    with pytest.raises(errors.InvalidAuthToken):
        callers.caller(Who("token"), 3800)


@pytest.mark.parametrize(
    "news",
    [
        m.AuthNews(enabled=True, revision=6, users_gone=("alice",)),
        m.AuthNews(enabled=True, revision=6, users=(("alice", b"another hash", False, ("r",)),)),
        m.AuthNews(enabled=True, revision=6, users=(("root", HASH, False, ("root",)),), fresh=True),
        m.AuthNews(enabled=False, revision=6),
    ],
)
def test_tokens_go_with_the_user_the_password_and_authentication(callers: Callers, news: m.AuthNews) -> None:
    callers.news(news, 1)
    callers.news(told(revision=7), 2)
    with pytest.raises(errors.InvalidAuthToken):
        callers.caller(Who("token"), 3)


def test_tokens_stay_when_roles_change(callers: Callers) -> None:
    callers.news(m.AuthNews(enabled=True, revision=6, users=(("alice", HASH, False, ()),)), 1)
    assert callers.caller(Who("token"), 1) == ("alice", 6)


def test_until_storage_has_spoken_a_token_must_wait() -> None:
    """And who shows none goes on, to be judged there."""
    fresh = Callers(SimpleTokens(1000))
    with pytest.raises(errors.Unavailable):
        fresh.caller(Who("token"), 0)
    assert fresh.caller(Who(), 0) is None


def test_where_nobody_is_asked_tokens_are_not_looked_at() -> None:
    plain = Callers(SimpleTokens(1000))
    plain.news(m.AuthNews(enabled=False, revision=1, fresh=True), 0)
    assert plain.caller(Who("nonsense", "cn"), 0) is None


def test_those_shown_least_lately_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zkv.gateway.tokens.TOKENS_MAX", 2)
    tokens = SimpleTokens(1000)
    tokens.learn(((digest_of("a"), "u"), (digest_of("b"), "u")), 0)
    assert tokens.caller("a", 1, 1)
    tokens.learn(((digest_of("c"), "u"),), 2)
    assert [tokens.caller(name, 1, 3) is not None for name in "abc"] == [True, False, True]


@pytest.mark.parametrize(
    "setting",
    [
        "nonsense", "simple,ttl=1m", "jwt", "jwt,sign-method=none,priv-key=x", "jwt,sign-method=ES256",
        "jwt,sign-method", "jwt,sign-method=ES256,sign-method=ES256", "jwt,sign-method=ES256,priv-key=/nowhere",
        "jwt,sign-method=XX1,ttl=1m", "jwt,other=1,sign-method=ES256,priv-key=x",
    ],
)  # fmt: skip
def test_kinds_of_tokens_that_cannot_be_are_refused(setting: str) -> None:
    with pytest.raises(errors.ConfigError, match="--auth-token"):
        tokens_of(setting, 300)


# --- signed tokens ---------------------------------------------------------------------------------


def _pair(tmp_path: Path, private: Any) -> tuple[str, str]:
    (tmp_path / "key.pem").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (tmp_path / "key.pub").write_bytes(
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return str(tmp_path / "key.pem"), str(tmp_path / "key.pub")


@pytest.mark.parametrize(
    ("method", "make"),
    [
        ("ES256", lambda: ec.generate_private_key(ec.SECP256R1())),
        ("RS512", lambda: rsa.generate_private_key(65537, 2048)),
        ("PS256", lambda: rsa.generate_private_key(65537, 2048)),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate),
    ],
)
def test_a_signed_token_is_good_on_every_member_with_the_key(
    method: str, make: Callable[[], Any], tmp_path: Path
) -> None:
    """Also on one that has the public key alone, which can give none."""
    private, public = _pair(tmp_path, make())
    signer = tokens_of(f"jwt,priv-key={private},sign-method={method},ttl=1m", 300)
    verifier = tokens_of(f"jwt,pub-key={public},sign-method={method}", 300)
    token = signer.make("alice", 7, 0)
    assert signer.caller(token, 9, 0) == verifier.caller(token, 9, 0) == ("alice", 7)
    assert verifier.caller(token, 9, 0) == ("alice", 7)  # from memory
    with pytest.raises(errors.AuthFailed):
        verifier.make("alice", 7, 0)


def test_tokens_that_somebody_else_has_made_are_nobodys(tmp_path: Path) -> None:
    """Another key, another method, no method, a changed claim, one that has ended, or nonsense."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    tokens = JwtTokens({"priv-key": str(secret), "sign-method": "HS256"})
    claims = {"username": "root", "revision": 1, "exp": 1 << 40}
    head, body, signature = tokens.make("alice", 1, 0).split(".")
    forged = [
        jwt.encode(claims, b"x" * 32, algorithm="HS256"),
        jwt.encode(claims, b"s" * 64, algorithm="HS512"),
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode({**claims, "exp": 1}, b"s" * 32, algorithm="HS256"),
        jwt.encode({"username": "root", "revision": 1}, b"s" * 32, algorithm="HS256"),
        jwt.encode({**claims, "revision": "1"}, b"s" * 32, algorithm="HS256"),
        jwt.encode({"revision": 1, "exp": 1 << 40}, b"s" * 32, algorithm="HS256"),
        f"{head}.{body[:-2]}.{signature}",
        "a.b.c",
        "." * 9000,
    ]
    assert [tokens.caller(token, 1, 0) for token in forged] == [None] * len(forged)


def test_a_signed_token_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that was looked at before."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    tokens = JwtTokens({"priv-key": str(secret), "sign-method": "HS256", "ttl": "1h30m"})
    token = tokens.make("alice", 1, 0)
    assert tokens.caller(token, 1, 0) == ("alice", 1)
    until = time.time() + 5401
    monkeypatch.setattr("zkv.gateway.jwt_tokens.time.time", lambda: until)
    assert tokens.caller(token, 1, 0) is None


def test_a_short_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"guess me")
    with pytest.raises(errors.ConfigError, match="guessed"):
        JwtTokens({"priv-key": str(tmp_path / "secret"), "sign-method": "HS256"})


def test_keys_that_do_not_fit_are_refused_at_the_start(tmp_path: Path) -> None:
    private, _ = _pair(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    other = tmp_path / "other"
    other.mkdir()
    _, public = _pair(other, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(errors.ConfigError, match="fit"):
        JwtTokens({"priv-key": private, "pub-key": public, "sign-method": "ES256"})
    with pytest.raises(errors.ConfigError, match="fit"):
        JwtTokens({"priv-key": private, "sign-method": "RS256"})


# --- passwords --------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["", "pw", "ü" * 36, "x" * 73, "x" * 4096, "with\0zero", "\ud800"])
def test_a_hash_fits_its_password_and_no_other(password: str) -> None:
    """To its last letter, however long it is."""
    hash_ = passwords.hashed(password, COST)
    assert passwords.fits(password, hash_)
    assert not passwords.fits(password + "x", hash_)
    assert not passwords.fits("other", hash_)
    assert password.encode("utf-8", "surrogatepass") not in hash_ or not password


def test_nothing_fits_a_hash_that_is_none() -> None:
    assert not passwords.fits("pw", b"")
    assert not passwords.fits("pw", b"nonsense")


def waited(work: Passwords) -> None:
    """Until all has been looked at."""
    while work.is_busy:
        work._pending[0][0].exception()  # waits
        work.tend()


@pytest.mark.patches
def test_what_was_found_right_once_is_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the password is another one now, or it was long ago; and a wrong one is never remembered."""
    work = Passwords(COST, SHARES)
    looked: list[str] = []
    real = passwords.fits

    def look(password: str, hash_: bytes) -> bool:
        looked.append(password)
        return real(password, hash_)

    monkeypatch.setattr(passwords, "fits", look)
    answers: list[bool] = []
    for password, hash_, now in (
        ("pw", HASH, 0), ("pw", HASH, 1), ("wrong", HASH, 2), ("wrong", HASH, 3), ("pw", HASH, 4),
        ("pw", passwords.hashed("new", COST), 5), ("pw", HASH, passwords.SEEN_MS + 10),
    ):  # fmt: skip
        work.look("alice", password, hash_, answers.append, share=ALICE, now=now)
        waited(work)
    assert answers == [True, True, False, False, True, False, True]
    assert looked == ["pw", "wrong", "wrong", "pw", "pw"]
    work.close()


def test_a_password_right_for_one_is_not_right_for_another() -> None:
    work = Passwords(COST, SHARES)
    answers: list[bool] = []
    work.look("alice", "pw", HASH, answers.append, share=ALICE, now=0)
    waited(work)
    work.look("bob", "pw", passwords.hashed("other", COST), answers.append, share=ALICE, now=0)
    waited(work)
    assert answers == [True, False]
    work.close()


def _append(answers: list[tuple[int, bool]], number: int, fits: bool) -> None:
    answers.append((number, fits))


@pytest.mark.patches
def test_a_crowd_that_comes_back_at_once_costs_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a restart of the door, which has forgotten whose password it has seen; who is wrong is wrong alone."""
    looked: list[str] = []
    real = passwords.fits

    def look(password: str, hash_: bytes) -> bool:
        looked.append(password)
        return real(password, hash_)

    monkeypatch.setattr(passwords, "fits", look)
    work = Passwords(COST, SHARES)
    answers: list[tuple[int, bool]] = []
    for number in range(1_000):
        password = "wrong" if number == 500 else "pw"
        work.look("alice", password, HASH, partial(_append, answers, number), share=ALICE, now=0)
    assert ALICE.passwords == 2
    waited(work)
    assert sorted(answers) == [(number, number != 500) for number in range(1_000)]
    assert sorted(looked) == ["pw", "wrong"]
    assert ALICE.passwords == 0
    work.close()


def test_one_client_has_no_more_than_its_share_of_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever guesses passwords keeps nobody from logging in."""
    gate = threading.Event()
    monkeypatch.setattr(passwords, "fits", lambda _password, _hash: gate.wait())
    work = Passwords(COST, SHARES)
    for guess in range(PASSWORDS_MAX):
        work.look("alice", f"guess {guess}", HASH, lambda _: None, share=ALICE, now=0)
    with pytest.raises(errors.LimitExceeded):
        work.look("alice", "one more", HASH, lambda _: None, share=ALICE, now=0)
    work.look("bob", "pw", HASH, lambda _: None, share=SHARES.of(USER, "bob"), now=0)
    gate.set()
    waited(work)
    assert ALICE.passwords == 0
    work.close()


@pytest.mark.patches
def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "PENDING_MAX", 1)
    gate = threading.Event()
    monkeypatch.setattr(passwords, "fits", lambda _password, _hash: gate.wait())
    work = Passwords(COST, SHARES)
    work.look("a", "pw", HASH, lambda _: None, share=ALICE, now=0)
    with pytest.raises(errors.TooManyRequests):
        work.look("b", "pw", HASH, lambda _: None, share=ALICE, now=0)
    gate.set()
    waited(work)
    work.close()


# --- logins -----------------------------------------------------------------------------------------


class Desk:
    """Logins, and a log that answers as it is told to."""

    def __init__(self, callers: Callers, *codes: int) -> None:
        self.passwords = Passwords(COST, SHARES)
        self.logged: list[tuple[Any, ...]] = []
        self.codes = list(codes)
        self.logins = Logins(callers, self.passwords, self._log)

    def _log(self, op: int, fields: tuple[Any, ...], told: Any, now: int) -> None:
        assert op == m.Op.LOGIN
        self.logged.append(fields)
        told(self.codes.pop(0), 9, ())

    def ask(self, name: str, password: str) -> tuple[int, int, Any]:
        answers: list[tuple[int, int, Any]] = []
        self.logins.authenticate((name, password), 0, lambda *answer: answers.append(answer), ALICE)
        waited(self.passwords)
        (answer,) = answers
        self.passwords.close()
        return answer


def test_a_login_gets_a_token_whose_digest_is_logged(callers: Callers) -> None:
    """And nothing else of it: neither the token nor the password."""
    desk = Desk(callers, 0)
    code, revision, (token,) = desk.ask("alice", "pw")
    assert (code, revision) == (0, 9)
    assert desk.logged == [("alice", digest_of(token), 5)]


@pytest.mark.parametrize(
    ("name", "password", "error"),
    [
        ("alice", "wrong", errors.AuthFailed),
        ("nobody", "pw", errors.AuthFailed),
        ("cn", "pw", errors.NoPasswordUser),
    ],
)
def test_a_login_that_fails_is_not_logged(
    callers: Callers, name: str, password: str, error: type[errors.ZkvError]
) -> None:
    desk = Desk(callers)
    assert desk.ask(name, password)[0] == error.code
    assert desk.logged == []


def test_nobody_logs_in_where_nobody_is_asked() -> None:
    """And before that is known, who would is to come again: he would go on without a token."""
    plain = Callers(SimpleTokens(1000))
    assert Desk(plain).ask("alice", "pw")[0] == errors.Unavailable.code
    plain.news(told(enabled=False), 0)
    assert Desk(plain).ask("alice", "pw")[0] == errors.AuthNotEnabled.code


def test_a_login_of_an_old_revision_is_tried_again_a_few_times(callers: Callers) -> None:
    old = errors.AuthOldRevision.code
    assert Desk(callers, old, old, 0).ask("alice", "pw")[0] == 0
    assert Desk(callers, old, old, old).ask("alice", "pw")[0] == old


@pytest.mark.parametrize(
    ("request_", "filled"),
    [
        (m.UserAdd("bob", "secret"), ("bob", "", False)),
        (m.UserChangePassword("bob", "secret"), ("bob", "")),
        (m.UserAdd("bob", "", no_password=True), ("bob", "", True)),
    ],
)
def test_a_password_goes_no_further_than_the_door(
    callers: Callers, request_: m.UserAdd | m.UserChangePassword, filled: tuple[Any, ...]
) -> None:
    desk = Desk(callers)
    went_on: list[tuple[Any, ...]] = []
    op = m.Op.USER_ADD if isinstance(request_, m.UserAdd) else m.Op.USER_CHANGE_PASSWORD
    desk.logins.fill(op, tuple(request_), went_on.append, ALICE, 0)
    waited(desk.passwords)
    (fields,) = went_on
    assert fields[:-1] == filled
    assert (fields[-1] == b"") == (len(filled) == 3 and filled[2])
    if fields[-1]:
        assert passwords.fits("secret", fields[-1])
    desk.passwords.close()
