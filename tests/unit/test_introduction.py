"""How CURVE keys are introduced, and how nobody else is."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.certificates import CA, DAY, DAY_MS, NOW, NOW_MS, build, crl, hosts, leaf, root, usage
from zkv.errors import (
    BadIntroduction,
    BadSignature,
    CertificateExpired,
    CertificateRevoked,
    ConfigError,
    DowngradedIntroduction,
    EarlyIntroduction,
    ExpiredIntroduction,
    NotAllowed,
    NotTrusted,
    ReplayedIntroduction,
    UnknownAuthority,
    WrongAudience,
    WrongCluster,
    WrongCurveKey,
    WrongHost,
    WrongPurpose,
    WrongUsage,
)
from zkv.introduction import (
    CLOCK_SKEW_MS,
    DOMAIN,
    LIFETIME_MS,
    LIFETIME_MS_MAX,
    CurveStatement,
    Expectations,
    Introduced,
    introduce,
    verify,
)
from zkv.trust import Purpose, Trust
from zkv.wire import codec

if TYPE_CHECKING:
    from zkv.certificates import Credentials

MINE, OTHER, SERVERS = b"m" * 32, b"o" * 32, b"s" * 32
NONCE, STALE_NONCE = b"n" * 32, b"p" * 32
STATEMENT = CurveStatement(
    1, 1, Purpose.CLIENT, MINE, NOW_MS, NOW_MS + LIFETIME_MS, cluster="cafe", audience=SERVERS, nonce=NONCE
)
EXPECTED = Expectations(Purpose.CLIENT, MINE, None, "cafe", SERVERS, NONCE)


@functools.cache
def authority() -> Credentials:
    return root()


@functools.cache
def authority_of(key_type: str) -> Credentials:
    return root(key_type=key_type)


@functools.cache
def alice() -> Credentials:
    return leaf(authority(), "client", "alice")


@functools.cache
def server() -> Credentials:
    return leaf(authority(), "server", "node-1")


def trust() -> Trust:
    return Trust(authority().chain)


def seen(introduction: bytes, expected: Expectations = EXPECTED, *, now_ms: int = NOW_MS) -> Introduced:
    return verify(introduction, trust(), now_ms, expected)


def refused(introduction: bytes, error: type[NotTrusted], expected: Expectations = EXPECTED) -> None:
    with pytest.raises(NotTrusted) as caught:
        seen(introduction, expected)
    assert type(caught.value) is error


def enveloped(packed: bytes, chain: tuple[bytes, ...], signature: bytes) -> bytes:
    return codec.pack((packed, chain, signature))


def signed_anyhow(packed: bytes, chain: tuple[bytes, ...], credentials: Credentials, domain: bytes = DOMAIN) -> bytes:
    """What somebody with a key can make, whatever it says."""
    assert isinstance(credentials.key, ec.EllipticCurvePrivateKey)
    data = domain + hashlib.sha256(codec.pack(chain)).digest() + packed
    return enveloped(packed, chain, credentials.key.sign(data, ec.ECDSA(hashes.SHA256())))


def der(credentials: Credentials) -> tuple[bytes, ...]:
    return tuple(each.public_bytes(Encoding.DER) for each in credentials.chain)


@pytest.mark.parametrize(
    ("above", "below"),
    [("ecdsa", "ecdsa"), ("ecdsa", "ed25519"), ("ed25519", "ecdsa"), ("ed25519", "ed25519"), ("rsa", "rsa")],
)
def test_a_key_is_introduced(above: str, below: str) -> None:
    """Whatever the types of the keys: known by name, until the statement ends."""
    ca = authority_of(above)
    made = introduce(STATEMENT, leaf(ca, "client", "alice", below))
    known = verify(made, Trust(ca.chain), NOW_MS, EXPECTED)
    assert known.identity.common_name == "alice"
    assert (known.curve_key, known.cluster, known.purpose) == (MINE, "cafe", Purpose.CLIENT)
    assert known.identity.until == STATEMENT.not_after
    assert len(made) < 4096


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_larger_curves_serve(curve: ec.EllipticCurve) -> None:
    """With the digest of their size."""
    made = build("alice", [usage("client")], by=authority(), key=ec.generate_private_key(curve))
    assert seen(introduce(STATEMENT, made)).identity.common_name == "alice"


def test_a_server_is_introduced_at_its_host() -> None:
    """Before there is a connection, to anybody, without a challenge: so one statement serves for hours."""
    statement = STATEMENT._replace(purpose=Purpose.SERVER, audience=b"", nonce=b"")
    expected = Expectations(Purpose.SERVER, None, "node.example.com", None, b"", b"")
    made = introduce(statement, server())
    assert seen(made, expected).curve_key == MINE
    refused(made, WrongHost, expected._replace(host="other.example.com"))


# --- the threats ---------------------------------------------------------------------------------


def test_a_man_in_the_middle_has_no_certificate() -> None:
    """Another CA's, of the same names; or a statement of his key under another's signature and certificate."""
    refused(introduce(STATEMENT, leaf(root(), "client", "alice")), UnknownAuthority)
    genuine = codec.unpack(introduce(STATEMENT, alice()))
    his = codec.pack(STATEMENT._replace(curve_key=OTHER))
    refused(enveloped(his, genuine[1], genuine[2]), BadSignature, EXPECTED._replace(curve_key=OTHER))
    eve = leaf(authority(), "client", "eve")
    refused(signed_anyhow(codec.pack(STATEMENT), der(alice()), eve), BadSignature)


def test_a_statement_is_not_taken_over_by_another_certificate() -> None:
    """Neither a second certificate of the same key, nor another chain, fits a signature that is there."""
    packed, chain, signature = codec.unpack(introduce(STATEMENT, alice()))
    twin = build("root", [usage("client")], by=authority(), key=alice().key)
    refused(enveloped(packed, der(twin), signature), BadSignature)
    refused(enveloped(packed, (*chain, *der(authority())), signature), BadSignature)


def test_someone_elses_curve_key_is_refused() -> None:
    """A statement heard elsewhere is of no use on a connection of another key."""
    refused(introduce(STATEMENT, alice()), WrongCurveKey, EXPECTED._replace(curve_key=OTHER))


def test_a_replayed_introduction_is_refused() -> None:
    """It answers an older challenge; or none, where there was one; or one, where there was none."""
    refused(introduce(STATEMENT, alice()), ReplayedIntroduction, EXPECTED._replace(nonce=STALE_NONCE))
    refused(introduce(STATEMENT._replace(nonce=b""), alice()), ReplayedIntroduction)
    refused(introduce(STATEMENT, alice()), ReplayedIntroduction, EXPECTED._replace(nonce=b""))


def test_what_was_said_to_another_is_refused() -> None:
    """A server cannot pass on what a client told it, not even to its own cluster; and clusters are told apart."""
    made = introduce(STATEMENT, alice())
    refused(made, WrongAudience, EXPECTED._replace(audience=OTHER))
    refused(made, WrongAudience, EXPECTED._replace(audience=b""))
    refused(introduce(STATEMENT._replace(audience=b""), alice()), WrongAudience)
    refused(made, WrongCluster, EXPECTED._replace(cluster="beef"))
    refused(introduce(STATEMENT._replace(cluster=""), alice()), WrongCluster)


@pytest.mark.parametrize("said", Purpose)
@pytest.mark.parametrize("wanted", Purpose)
def test_a_statement_serves_its_purpose_only(said: Purpose, wanted: Purpose) -> None:
    """Also with a certificate that would be good for all."""
    peer = leaf(authority(), "peer")
    made = introduce(STATEMENT._replace(purpose=said), peer)
    if said is wanted:
        seen(made, EXPECTED._replace(purpose=wanted))
    else:
        refused(made, WrongPurpose, EXPECTED._replace(purpose=wanted))


@pytest.mark.parametrize("kind", ["server", "client"])
@pytest.mark.parametrize("purpose", Purpose)
def test_a_certificate_serves_its_usage_only(kind: str, purpose: Purpose) -> None:
    """A server's makes no client, a client's no server, and neither a peer."""
    made = introduce(STATEMENT._replace(purpose=purpose), leaf(authority(), kind))
    if purpose.name.lower() == kind:
        seen(made, EXPECTED._replace(purpose=purpose))
    else:
        refused(made, WrongUsage, EXPECTED._replace(purpose=purpose))


def test_time_is_kept() -> None:
    """Statements begin (but for the difference of clocks) and end, to the millisecond."""
    made = introduce(STATEMENT, alice())
    seen(made, now_ms=NOW_MS - CLOCK_SKEW_MS)
    seen(made, now_ms=STATEMENT.not_after - 1)
    with pytest.raises(EarlyIntroduction):
        seen(made, now_ms=NOW_MS - CLOCK_SKEW_MS - 1)
    with pytest.raises(ExpiredIntroduction):
        seen(made, now_ms=STATEMENT.not_after)


def test_a_statement_does_not_outlive_its_certificate() -> None:
    """What is believed ends with the earlier of the two, and with a CA between them."""
    soon = NOW + DAY / 24
    ends = build("alice", [usage("client")], by=authority(), end=soon)
    made = introduce(STATEMENT, ends)
    assert seen(made).identity.until == NOW_MS + DAY_MS // 24 < STATEMENT.not_after
    with pytest.raises(CertificateExpired):
        seen(made, now_ms=NOW_MS + DAY_MS // 24 + 1000)
    above = build("middle", [CA], by=authority(), end=soon)
    assert seen(introduce(STATEMENT, leaf_below(above))).identity.until == NOW_MS + DAY_MS // 24


def leaf_below(above: Credentials) -> Credentials:
    return build("alice", [usage("client")], by=above)


def test_nobody_makes_a_statement_that_lasts() -> None:
    """Neither our own side, nor somebody who signs what ours would not: a stolen key is good for a day at most."""
    long = STATEMENT._replace(not_after=NOW_MS + LIFETIME_MS_MAX + 1)
    with pytest.raises(ConfigError, match="lifetime"):
        introduce(long, alice())
    refused(signed_anyhow(codec.pack(long), der(alice()), alice()), BadIntroduction)


def test_the_revoked_are_refused() -> None:
    """A stolen client certificate is put on the list, and its statements end at once."""
    made = introduce(STATEMENT, alice())
    disowned = Trust(authority().chain, [crl(authority(), [alice().leaf.serial_number])])
    with pytest.raises(CertificateRevoked):
        verify(made, disowned, NOW_MS, EXPECTED)


def test_a_downgrade_is_refused() -> None:
    """Where both speak version 2, one of version 1 has been forced upon somebody; between old ones it is fine."""
    new_maker = introduce(STATEMENT._replace(newest=2), alice())
    refused(new_maker, DowngradedIntroduction, EXPECTED._replace(speaks=2))
    seen(new_maker)
    seen(introduce(STATEMENT, alice()), EXPECTED._replace(speaks=2))
    refused(introduce(STATEMENT._replace(version=2, newest=2), alice()), BadIntroduction)


def test_signatures_of_other_protocols_prove_nothing() -> None:
    """What the same key signs elsewhere begins otherwise (TLS 1.3: 64 spaces and a sentence)."""
    for domain in (b"", b" " * 64 + b"TLS 1.3, client CertificateVerify\0", DOMAIN[:-1]):
        refused(signed_anyhow(codec.pack(STATEMENT), der(alice()), alice(), domain), BadSignature)


def test_only_those_on_the_list_are_peers() -> None:
    """allowed-cn and allowed-hostname, for peers whose CA signs others too."""
    peer = build("node-1", [usage("peer"), hosts("n1.example.com")], by=authority())
    made = introduce(STATEMENT._replace(purpose=Purpose.PEER), peer)
    expected = EXPECTED._replace(purpose=Purpose.PEER)
    seen(made, expected._replace(allowed_cn="node-1"))
    seen(made, expected._replace(allowed_hostname="n1.example.com"))
    refused(made, NotAllowed, expected._replace(allowed_cn="node-2"))
    refused(made, NotAllowed, expected._replace(allowed_hostname="n2.example.com"))


# --- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"curve_key": b"short"}, {"curve_key": "k" * 32}, {"audience": b"short"}, {"nonce": b"short"}, {"nonce": None},
        {"cluster": "c" * 65}, {"cluster": b"cafe"}, {"cluster": "é"}, {"not_before": -1}, {"not_after": 1 << 60},
        {"not_after": NOW_MS}, {"not_after": float(NOW_MS + 1)}, {"purpose": True}, {"version": 0},
        {"version": 2}, {"newest": "1"},
    ],
)  # fmt: skip
def test_odd_statements_are_neither_made_nor_taken(change: dict[str, object]) -> None:
    """Types, sizes and relations are checked on both sides."""
    odd = STATEMENT._replace(**change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        introduce(odd, alice())
    refused(signed_anyhow(codec.pack(odd), der(alice()), alice()), BadIntroduction)


def test_sizes_are_bounded() -> None:
    """Before anything is parsed; and nobody is made to send what nobody would take."""
    packed, chain, signature = codec.unpack(introduce(STATEMENT, alice()))
    for bad in (
        enveloped(packed, (*chain, *[b"\0" * 8192] * 3), signature),
        enveloped(packed, (), signature),
        enveloped(packed, chain * 6, signature),
        enveloped(packed, (chain[0] + b"\0" * 8192,), signature),
        enveloped(packed, chain, b"\0" * 1025),
    ):
        refused(bad, BadIntroduction)
    refused(enveloped(packed, chain, b""), BadSignature)
    long = build("alice", [usage("client"), hosts(*(f"host-{i}.example.com" for i in range(500)))], by=authority())
    with pytest.raises(ConfigError, match="too large"):
        introduce(STATEMENT, long)


def test_there_is_one_spelling() -> None:
    """The same values in longer msgpack forms, or with bytes behind, are refused."""
    good = introduce(STATEMENT, alice())
    assert good[0] == 0x93
    longer = b"\xdc\x00\x03" + good[1:]
    assert codec.unpack(longer) == codec.unpack(good)
    refused(longer, BadIntroduction)
    refused(good + b"\0", BadIntroduction)
    refused(b"", BadIntroduction)
    packed = codec.pack(STATEMENT)
    assert packed[:2] == b"\x99\x01"
    refused(signed_anyhow(b"\x99\xcc\x01" + packed[2:], der(alice()), alice()), BadIntroduction)


SEVERAL = settings(max_examples=150, deadline=None, derandomize=True)


@functools.cache
def good_ones() -> tuple[bytes, ...]:
    middle = build("middle", [CA], by=authority())
    return introduce(STATEMENT, alice()), introduce(STATEMENT, leaf_below(middle))


@SEVERAL
@given(st.integers(0, 1), st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), min_size=1, max_size=4))
def test_mutated_bytes_never_verify(which: int, flips: list[tuple[int, int]]) -> None:
    """Any change of any byte is refused, with the family's error and no other."""
    good = good_ones()[which]
    data = bytearray(good)
    for at, flip in flips:
        data[at % len(data)] ^= flip
    if bytes(data) != good:
        with pytest.raises(NotTrusted):
            seen(bytes(data))


@SEVERAL
@given(st.integers(0, 1), st.integers(0, 1 << 16), st.integers(0, 1 << 16), st.binary(max_size=40))
def test_cut_and_spliced_bytes_never_verify(which: int, start: int, end: int, between: bytes) -> None:
    """A piece taken out, another put in."""
    good = good_ones()[which]
    start, end = sorted((start % (len(good) + 1), end % (len(good) + 1)))
    data = good[:start] + between + good[end:]
    if data != good:
        with pytest.raises(NotTrusted):
            seen(data)


@SEVERAL
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), min_size=1, max_size=3))
def test_mutated_certificates_never_verify(flips: list[tuple[int, int]]) -> None:
    """Also when who changed them holds the key and signs again: then it is the CA's signature that does not fit."""
    (certificate,) = der(alice())
    data = bytearray(certificate)
    for at, flip in flips:
        data[at % len(data)] ^= flip
    if bytes(data) != certificate:
        with pytest.raises(NotTrusted):
            seen(signed_anyhow(codec.pack(STATEMENT), (bytes(data),), alice()))


RECORDS = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=40) | st.text(max_size=10)
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=10).map(tuple),
    max_leaves=20,
)  # fmt: skip


@SEVERAL
@given(st.binary(max_size=200) | RECORDS.map(codec.pack))
def test_garbage_is_refused(data: bytes) -> None:
    """Bytes, and records of any shape."""
    with pytest.raises(BadIntroduction):
        seen(data)


@SEVERAL
@given(RECORDS)
def test_signed_garbage_is_refused(record: object) -> None:
    """Of somebody with a good certificate, in place of a statement."""
    with pytest.raises(BadIntroduction):
        seen(signed_anyhow(codec.pack(record), der(alice()), alice()))


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "purpose": st.integers(0, 4),
        "curve_key": st.sampled_from([MINE, OTHER]),
        "not_before": st.integers(NOW_MS - 2 * DAY_MS, NOW_MS + 2 * DAY_MS),
        "not_after": st.integers(NOW_MS - 2 * DAY_MS, NOW_MS + 2 * DAY_MS),
        "cluster": st.sampled_from(["cafe", "", "beef"]),
        "audience": st.sampled_from([SERVERS, OTHER, b""]),
        "nonce": st.sampled_from([NONCE, STALE_NONCE, b""]),
    },
)


@SEVERAL
@given(FIELDS, st.integers(-DAY_MS, DAY_MS))
def test_a_statement_is_taken_exactly_when_all_of_it_fits(change: dict[str, object], passed: int) -> None:
    """Against the rule, written out once more."""
    statement = STATEMENT._replace(**change)  # type: ignore[arg-type]
    now_ms = NOW_MS + passed
    same = statement._replace(not_before=STATEMENT.not_before, not_after=STATEMENT.not_after) == STATEMENT
    short = 0 < statement.not_after - statement.not_before <= LIFETIME_MS_MAX
    fits = same and short and statement.not_before - CLOCK_SKEW_MS <= now_ms < statement.not_after
    made = signed_anyhow(codec.pack(statement), der(alice()), alice())
    if fits:
        assert seen(made, now_ms=now_ms).curve_key == MINE
    else:
        with pytest.raises(BadIntroduction):
            seen(made, now_ms=now_ms)
