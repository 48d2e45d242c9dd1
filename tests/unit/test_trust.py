"""Who is believed. Claims are made twice: with ECDSA, where the library finds paths, and with Ed25519, where we do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.harness.certificates import (
    CA,
    DAY,
    DAY_MS,
    HOSTS,
    NOW,
    NOW_MS,
    build,
    crl,
    hosts,
    key_usage,
    leaf,
    named,
    root,
    usage,
)
from zkv.authority import certificate_pem, make_authority, make_leaf, new_key, renew
from zkv.certificates import Credentials, parse
from zkv.errors import (
    BadCertificate,
    CertificateExpired,
    CertificateNotYetValid,
    CertificateRevoked,
    ConfigError,
    NotAllowed,
    NotTrusted,
    UnknownAuthority,
    WrongHost,
    WrongUsage,
)
from zkv.trust import CHAIN_MAX, Identity, Purpose, Trust, check_allowed, check_host, load_trust

if TYPE_CHECKING:
    from pathlib import Path

SERVER, CLIENT, PEER = Purpose.SERVER, Purpose.CLIENT, Purpose.PEER
WEAK_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
SAFE = (key_usage("digital_signature"), usage("server"))


@pytest.fixture(params=["ecdsa", "ed25519"])
def ca(request: pytest.FixtureRequest) -> Credentials:
    return root(key_type=request.param)


def verify(shown: Credentials, ca: Credentials, purpose: Purpose = SERVER, now_ms: int = NOW_MS) -> Identity:
    return Trust(ca.chain).verify(shown.chain, purpose, now_ms)


def test_a_leaf_of_a_trusted_ca_is_believed(ca: Credentials) -> None:
    """And known by its common name and its hosts, until its end."""
    made = leaf(ca, "peer", "node-1")
    identity = verify(made, ca, PEER)
    assert identity.common_name == "node-1"
    assert identity.dns_names == ("node.example.com", "*.pods.example.com")
    assert identity.addresses == ("127.0.0.1", "::1")
    assert identity.until == int(made.leaf.not_valid_after_utc.timestamp()) * 1000


def test_another_authority_is_not_believed(ca: Credentials) -> None:
    """Not even one of the same name."""
    impostor = root(key_type="ecdsa" if isinstance(ca.key, ec.EllipticCurvePrivateKey) else "ed25519")
    assert impostor.leaf.subject == ca.leaf.subject
    with pytest.raises(UnknownAuthority):
        verify(leaf(impostor), ca)
    with pytest.raises(UnknownAuthority):  # also when it brings its own root along
        verify(Credentials((*leaf(impostor).chain, impostor.leaf), impostor.key), ca)


def test_a_certificate_does_not_vouch_for_itself(ca: Credentials) -> None:
    """Self-signed."""
    with pytest.raises(UnknownAuthority):
        verify(build("root", SAFE, key=new_key(type_of(ca))), ca)


@pytest.mark.parametrize(("at", "error"), [(-2, CertificateNotYetValid), (31, CertificateExpired)])
def test_time_is_kept(ca: Credentials, at: int, error: type[NotTrusted]) -> None:
    """Before its begin and after its end a leaf is nobody's."""
    with pytest.raises(error):
        verify(leaf(ca), ca, now_ms=NOW_MS + at * DAY_MS)


def test_the_end_is_exact(ca: Credentials) -> None:
    """To the second."""
    made = leaf(ca)
    end = int(made.leaf.not_valid_after_utc.timestamp()) * 1000
    verify(made, ca, now_ms=end)
    with pytest.raises(CertificateExpired):
        verify(made, ca, now_ms=end + 1000)


def test_an_authority_ends_too() -> None:
    """What an expired CA has signed ends with it, whatever the leaf says."""
    for key_type in ("ecdsa", "ed25519"):
        old = make_authority("old", 1, NOW, key_type=key_type)
        made = build("someone", SAFE, by=old)
        verify(made, old)
        with pytest.raises(NotTrusted):
            verify(made, old, now_ms=NOW_MS + 2 * DAY_MS)


@pytest.mark.parametrize("kind", ["server", "peer", "client"])
@pytest.mark.parametrize("purpose", Purpose)
def test_a_certificate_is_for_what_it_says(ca: Credentials, kind: str, purpose: Purpose) -> None:
    """A server's does not make a client, nor the other way round; a peer's is both."""
    good = {"server": {SERVER}, "client": {CLIENT}, "peer": {SERVER, CLIENT, PEER}}[kind]
    if purpose in good:
        verify(leaf(ca, kind), ca, purpose)
    else:
        with pytest.raises(WrongUsage):
            verify(leaf(ca, kind), ca, purpose)


def test_what_says_nothing_of_its_usage_may_be_used(ca: Credentials) -> None:
    """As openssl's plain recipes make them, without any extension (or with "any")."""
    plain = build("someone", by=ca)
    anything = build("someone", [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), True)], by=ca)
    for purpose in Purpose:
        verify(plain, ca, purpose)
        verify(anything, ca, purpose)


def test_a_key_that_may_not_sign_signs_nothing(ca: Credentials) -> None:
    """Key usage without digitalSignature."""
    with pytest.raises(WrongUsage):
        verify(build("someone", [key_usage("key_agreement")], by=ca), ca)


def test_an_authority_is_no_leaf(ca: Credentials) -> None:
    """Nobody is introduced by the CA's own certificate, trusted as it is."""
    with pytest.raises(NotTrusted):
        verify(ca, ca)
    with pytest.raises(WrongUsage):
        verify(build("below", [CA], by=ca), ca)


def test_chains_lead_over_what_is_shown(ca: Credentials) -> None:
    """Intermediates need not be known, in whatever order they come."""
    middle = build("middle", [CA], by=ca)
    lower = build("lower", [CA], by=middle)
    made = build("someone", SAFE, by=lower)
    assert len(made.chain) == 3
    verify(made, ca)
    verify(Credentials((made.leaf, *reversed(made.chain[1:])), made.key), ca)
    with pytest.raises(UnknownAuthority):
        verify(Credentials(made.chain[:2], made.key), ca)


def test_a_leaf_signs_nobody(ca: Credentials) -> None:
    """Neither a plain leaf, nor one that says it is no CA, nor a CA whose key may not sign certificates."""
    for extensions in (
        (),
        SAFE,
        [(x509.BasicConstraints(ca=False, path_length=None), True)],
        [CA, key_usage("digital_signature")],
    ):
        middle = build("middle", extensions, by=ca)
        with pytest.raises(UnknownAuthority):
            verify(build("someone", SAFE, by=middle), ca)


def test_path_length_is_kept(ca: Credentials) -> None:
    """A CA of path length 0, as `zkv cert ca` makes it, has no CA below it."""
    short = build("short", [(x509.BasicConstraints(ca=True, path_length=0), True)], by=ca)
    verify(build("someone", SAFE, by=short), ca)
    too_far = build("below", [CA], by=short)
    with pytest.raises(UnknownAuthority):
        verify(build("someone", SAFE, by=too_far), ca)


def test_an_authority_for_clients_makes_no_servers(ca: Credentials) -> None:
    """Its extended key usage, where it has one, bounds what is below it."""
    middle = build("middle", [CA, usage("client")], by=ca)
    verify(build("someone", [usage("client")], by=middle), ca, CLIENT)
    with pytest.raises(NotTrusted):
        verify(build("someone", [usage("server")], by=middle), ca, SERVER)


def test_name_constraints_are_kept_or_the_path_refused() -> None:
    """The library keeps them. Our own search takes no path with any."""
    within = x509.NameConstraints([x509.DNSName("example.com")], None)
    for key_type, taken in (("ecdsa", True), ("ed25519", False)):
        ca = root(key_type=key_type, extensions=(CA, (within, True)))
        good = build("someone", [*SAFE, hosts("a.example.com")], by=ca)
        if taken:
            verify(good, ca)
        else:
            with pytest.raises(UnknownAuthority):
                verify(good, ca)
        with pytest.raises(UnknownAuthority):
            verify(build("someone", [*SAFE, hosts("a.example.org")], by=ca), ca)


def test_what_is_critical_must_be_understood(ca: Credentials) -> None:
    """An unknown critical extension, on the leaf or above it, is refused."""
    odd = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
    with pytest.raises(NotTrusted):
        verify(build("someone", [*SAFE, odd], by=ca), ca)
    with pytest.raises(NotTrusted):
        verify(build("someone", SAFE, by=build("middle", [CA, odd], by=ca)), ca)
    verify(build("someone", [*SAFE, (odd[0], False)], by=ca), ca)


def test_weak_keys_are_not_taken() -> None:
    """RSA below 2048 bits, and curves that no TLS library speaks."""
    ca = root()
    for key in (WEAK_RSA, ec.generate_private_key(ec.SECP256K1())):
        with pytest.raises(BadCertificate):
            verify(build("someone", SAFE, by=ca, key=key), ca)


def test_weak_digests_are_not_taken(ca: Credentials) -> None:
    """SHA-224 stands for whatever is below SHA-256; SHA-1 cannot even be made here."""
    if isinstance(ca.key, ec.EllipticCurvePrivateKey):
        with pytest.raises(UnknownAuthority):
            verify(build("someone", SAFE, by=ca, digest=hashes.SHA224()), ca)


def test_chains_are_short(ca: Credentials) -> None:
    """More certificates than anybody needs are not looked at, and none is not a chain."""
    made = leaf(ca)
    for chain in ((), (*made.chain, *(root(f"{i}").leaf for i in range(CHAIN_MAX)))):
        with pytest.raises(BadCertificate):
            Trust(ca.chain).verify(chain, SERVER, NOW_MS)


def test_a_maze_of_chains_ends(ca: Credentials) -> None:
    """Cross-signed CAs in a ring, which lead nowhere, are given up."""
    first, second, third = (build(name, [CA], by=root(above, type_of(ca))) for name, above in RING)
    made = build("someone", SAFE, by=first)
    with pytest.raises(UnknownAuthority):
        verify(Credentials((made.leaf, first.leaf, second.leaf, third.leaf), made.key), ca)


def test_no_search_grows_with_what_is_shown(ca: Credentials) -> None:
    """CAs of one name, which could all have signed each other, are refused before a signature is checked."""
    loops = [build("loop", [CA], by=ca) for _ in range(2)]
    made = build("someone", SAFE, by=loops[0])
    verify(made, ca)
    with pytest.raises(BadCertificate, match="same subject"):
        verify(Credentials((made.leaf, *(each.leaf for each in loops)), made.key), ca)


RING = (("a", "b"), ("b", "c"), ("c", "a"))


def type_of(ca: Credentials) -> str:
    return "ecdsa" if isinstance(ca.key, ec.EllipticCurvePrivateKey) else "ed25519"


def test_mixed_types_of_keys() -> None:
    """An RSA or ECDSA leaf below an Ed25519 CA, and the other way round."""
    for above in ("ecdsa", "ed25519"):
        ca = root(key_type=above)
        for below in ("ecdsa", "ed25519", "rsa")[: 2 if above == "ecdsa" else 3]:
            verify(leaf(ca, key_type=below), ca)


def test_old_and_new_authority_side_by_side(ca: Credentials) -> None:
    """While a CA is replaced both are believed, under one name or two; then only the new one."""
    for name in ("root", "root 2"):
        new = root(name, type_of(ca))
        both = Trust((*ca.chain, *new.chain))
        for each in (ca, new):
            both.verify(leaf(each).chain, SERVER, NOW_MS)
        with pytest.raises(UnknownAuthority):
            Trust(new.chain).verify(leaf(ca).chain, SERVER, NOW_MS)
        renewed = renew(new, leaf(ca).leaf, 10, NOW)
        Trust(new.chain).verify((renewed,), SERVER, NOW_MS)


# --- revocation ----------------------------------------------------------------------------------


def test_the_revoked_are_not_believed(ca: Credentials) -> None:
    """A leaf, or a CA above it; others of the same CA are."""
    bad, good = leaf(ca), leaf(ca)
    trust = Trust(ca.chain, [crl(ca, [bad.leaf.serial_number])])
    trust.verify(good.chain, SERVER, NOW_MS)
    with pytest.raises(CertificateRevoked):
        trust.verify(bad.chain, SERVER, NOW_MS)
    middle = build("middle", [CA], by=ca)
    trust = Trust(ca.chain, [crl(ca, [middle.leaf.serial_number])])
    with pytest.raises(CertificateRevoked):
        trust.verify(build("someone", SAFE, by=middle).chain, SERVER, NOW_MS)


def test_an_authority_disowns_its_own_only(ca: Credentials) -> None:
    """A serial number on another CA's list means nothing."""
    other = root("other")
    made = leaf(ca)
    Trust((*ca.chain, *other.chain), [crl(other, [made.leaf.serial_number])]).verify(made.chain, SERVER, NOW_MS)


def write(directory: Path, name: str, data: bytes) -> str:
    (directory / name).write_bytes(data)
    return str(directory / name)


def test_lists_are_read_from_files(ca: Credentials, tmp_path: Path) -> None:
    """PEM or DER."""
    made = leaf(ca)
    bundle = write(tmp_path, "ca.pem", certificate_pem(ca.chain))
    found = crl(ca, [made.leaf.serial_number])
    for encoding in (Encoding.PEM, Encoding.DER):
        path = write(tmp_path, "crl", found.public_bytes(encoding))
        with pytest.raises(CertificateRevoked):
            load_trust(bundle, path, NOW_MS).verify(made.chain, SERVER, NOW_MS)


def test_a_list_must_be_of_a_trusted_authority_and_whole(ca: Credentials, tmp_path: Path) -> None:
    """Another's, a forged one, half a list, and garbage are refused: each could hide a revocation."""
    bundle = write(tmp_path, "ca.pem", certificate_pem(ca.chain))
    delta = (x509.DeltaCRLIndicator(1), True)
    genuine = bytearray(crl(ca, [5]).public_bytes(Encoding.DER))
    genuine[-1] ^= 1
    for data, complaint in (
        (crl(root("other"), [5]).public_bytes(Encoding.PEM), "not signed by any"),
        (crl(root(key_type=type_of(ca)), [5]).public_bytes(Encoding.PEM), "not signed by any"),
        (crl(ca, [5], extensions=[delta]).public_bytes(Encoding.PEM), "a part only"),
        (bytes(genuine), "not signed by any"),
        (b"garbage", "damaged"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "damaged"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            load_trust(bundle, write(tmp_path, "crl", data), NOW_MS)


def test_a_stale_list_stays_in_force(ca: Credentials, tmp_path: Path) -> None:
    """With a warning: the revoked do not come back, and the others are not locked out."""
    bad, good = leaf(ca), leaf(ca)
    bundle = write(tmp_path, "ca.pem", certificate_pem(ca.chain))
    path = write(tmp_path, "crl", crl(ca, [bad.leaf.serial_number], due=NOW - DAY).public_bytes(Encoding.PEM))
    with structlog.testing.capture_logs() as logs:
        trust = load_trust(bundle, path, NOW_MS)
    assert [(log["log_level"], log["path"]) for log in logs] == [("warning", path)]
    trust.verify(good.chain, SERVER, NOW_MS)
    with pytest.raises(CertificateRevoked):
        trust.verify(bad.chain, SERVER, NOW_MS)


def test_a_bundle_holds_authorities_only(ca: Credentials, tmp_path: Path) -> None:
    """A leaf among them would be believed for ever, or for nothing: it is refused, and named."""
    bundle = write(tmp_path, "ca.pem", certificate_pem((*ca.chain, leaf(ca, name="stray").leaf)))
    with pytest.raises(ConfigError, match="CN=stray"):
        load_trust(bundle, "", NOW_MS)


# --- names ---------------------------------------------------------------------------------------


def identity_at(*names: str) -> Identity:
    ca = root()
    return verify(make_leaf(ca, "server", "trap.example.com", names, days=3, now=NOW), ca)


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("::1", True),
        ("[::1]", True),
        ("0:0:0:0:0:0:0:1", True),
        ("::ffff:127.0.0.1", False),
        ("node.example.com", True),
        ("NODE.Example.com.", True),
        ("xnode.example.com", False),
        ("node.example.com.evil.org", False),
        ("a.pods.example.com", True),
        ("a.b.pods.example.com", False),
        ("pods.example.com", False),
        (".pods.example.com", False),
        ("*.pods.example.com", False),
        ("someone", False),
        ("trap.example.com", False),
        ("", False),
    ],
)
def test_hosts_are_found_among_the_names(host: str, good: bool) -> None:
    """Names by their letters, addresses by their value; a star is one label. The common name is no host."""
    identity = identity_at(*HOSTS)
    if good:
        check_host(identity, host)
    else:
        with pytest.raises(WrongHost):
            check_host(identity, host)


def test_a_certificate_without_names_is_for_no_host() -> None:
    """Also when the dialled host is its common name."""
    ca = root()
    with pytest.raises(WrongHost, match="none"):
        check_host(verify(build("node.example.com", by=ca), ca), "node.example.com")


def test_only_the_allowed_are_let_in() -> None:
    """allowed-cn by the whole common name, allowed-hostname by a name of its hosts; without a list all are."""
    identity = identity_at("node.example.com")
    check_allowed(identity)
    check_allowed(identity, "trap.example.com", "node.example.com")
    for common_name, hostname in (("trap", ""), ("TRAP.example.com", ""), ("", "other.example.com")):
        with pytest.raises(NotAllowed):
            check_allowed(identity, common_name, hostname)


@pytest.mark.parametrize("names", [("alice", "root"), ("ro\x00ot",), ("al\nice",), ("\u202etoor",)])
def test_an_ambiguous_common_name_is_nobodys(names: tuple[str, ...]) -> None:
    """Two, or one with characters that do not show as what they are: different programs would read different names."""
    ca = root()
    with pytest.raises(BadCertificate, match="ambiguous"):
        verify(build(named(*names), by=ca), ca, CLIENT)


def test_no_common_name_is_no_name() -> None:
    """It is believed, as nobody in particular."""
    ca = root()
    assert not verify(build(x509.Name([]), [usage("client")], by=ca), ca, CLIENT).common_name


@pytest.mark.parametrize("der", [b"", b"\x30\x00", b"garbage", b"\x30\x80" * 1000])
def test_what_is_no_certificate_is_refused(der: bytes) -> None:
    """With the family's error, and no other."""
    with pytest.raises(BadCertificate):
        parse(der)
