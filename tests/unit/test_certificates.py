"""Certificate and key files, whoever made them: read, or refused with the file's name and the reason."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import warnings
from typing import TYPE_CHECKING

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.certificates import CA, build, hosts, leaf, root, usage
from zkv.authority import certificate_pem, key_pem, new_key
from zkv.certificates import FILE_BYTES_MAX, load_certificates, load_credentials, load_key, parse
from zkv.errors import BadCertificate, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from zkv.certificates import Credentials

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")


def files(directory: Path, credentials: Credentials) -> tuple[str, str]:
    certificate, key = directory / "c.pem", directory / "c-key.pem"
    certificate.write_bytes(certificate_pem(credentials.chain))
    key.touch(0o600)
    key.write_bytes(key_pem(credentials.key))
    return str(certificate), str(key)


def test_what_is_only_warned_of_is_refused_of_a_stranger_and_told_of_an_owner(tmp_path: Path) -> None:
    """A country of seven letters is none; nobody's standard error is written to for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nowhere = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "Nowhere", _validate=False)])
        odd = build(nowhere)
    with pytest.raises(BadCertificate):
        parse(odd.chain[0].public_bytes(Encoding.DER))
    certificate, _ = files(tmp_path, odd)
    assert len(load_certificates(certificate)) == 1


@pytest.mark.parametrize("key_type", ["ecdsa", "ed25519"])
def test_what_was_written_is_read(tmp_path: Path, key_type: str) -> None:
    """The chain with its leaf first, and the key; without a warning."""
    made = leaf(build("middle", [CA], by=root()), key_type=key_type)
    with structlog.testing.capture_logs() as logs:
        found = load_credentials(*files(tmp_path, made))
    assert found.chain == made.chain
    assert found.leaf == made.chain[0]
    assert key_pem(found.key) == key_pem(made.key)
    assert logs == []


def test_a_key_is_not_shown() -> None:
    """Not even that there is an object holding it."""
    assert "key" not in repr(leaf(root())).lower().replace("keyusage", "")


def test_an_open_key_is_warned_about(tmp_path: Path) -> None:
    """It still loads (containers mount secrets so), with a warning that names the file and nothing in it."""
    certificate, key = files(tmp_path, leaf(root()))
    (tmp_path / "c-key.pem").chmod(0o640)
    with structlog.testing.capture_logs() as logs:
        load_credentials(certificate, key)
    assert [(log["log_level"], log["path"], log["want"]) for log in logs] == [("warning", key, "mode 0600")]


def test_certificate_and_key_must_belong_together(tmp_path: Path) -> None:
    """As after half of a renewal."""
    certificate, key = files(tmp_path, leaf(root()))
    (tmp_path / "c-key.pem").write_bytes(key_pem(new_key()))
    with pytest.raises(ConfigError, match="is not that of the certificate"):
        load_credentials(certificate, key)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n" + b"A" * 100,
        b"\xff\xfe\x00" * 10,
    ],
)
def test_what_is_no_certificate_file_is_refused(tmp_path: Path, data: bytes) -> None:
    """Also what is no key file; both in a line that names the file."""
    path = tmp_path / "bad.pem"
    path.write_bytes(data)
    for load in (load_certificates, load_key):
        with pytest.raises(ConfigError, match=r"bad\.pem is damaged, or holds no") as caught:
            load(str(path))
        assert len(str(caught.value).splitlines()) == 1


def test_a_key_file_is_no_certificate_file(tmp_path: Path) -> None:
    """`zkv cert show *.pem` meets both, and says which was taken for what."""
    _, key = files(tmp_path, leaf(root()))
    with pytest.raises(ConfigError, match="holds a private key, where a certificate is wanted"):
        load_certificates(key)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Missing, a directory, too large, or no path at all."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    for name, why in (
        ("nowhere", "No such file"), (".", "directory"), ("large", "larger than"), ("a\0b", "cannot be read"),
    ):  # fmt: skip
        for load in (load_certificates, load_key):
            with pytest.raises(ConfigError, match=why):
                load(f"{tmp_path}/{name}")


def test_keys_we_cannot_use_are_refused(tmp_path: Path) -> None:
    """Encrypted ones, with what to do; and other kinds."""
    path = tmp_path / "key.pem"
    path.touch(0o600)
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    with pytest.raises(ConfigError, match="is encrypted"):
        load_key(str(path))
    other = dsa.generate_private_key(1024)  # noqa: S505 - to be refused
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigError, match="none of ECDSA, RSA and Ed25519"):
        load_key(str(path))


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_older_forms_of_keys_are_read(tmp_path: Path, form: PrivateFormat, kind: str) -> None:
    """EC PRIVATE KEY and RSA PRIVATE KEY, as cfssl writes them."""
    made = build("x", by=root(), key=rsa.generate_private_key(65537, 2048) if kind == "rsa" else new_key())
    certificate, key = files(tmp_path, made)
    (tmp_path / "c-key.pem").write_bytes(made.key.private_bytes(Encoding.PEM, form, NoEncryption()))
    load_credentials(certificate, key)


@needs_openssl
@pytest.mark.parametrize(
    "command",
    ["ecparam -name prime256v1 -genkey", "genrsa 2048", "genrsa -traditional 2048", "genpkey -algorithm ed25519"],
)
def test_keys_of_openssl_are_read(tmp_path: Path, command: str) -> None:
    """By each of its recipes; `ecparam` puts the curve's parameters before the key."""
    path = tmp_path / "key.pem"
    path.touch(0o600)
    made = subprocess.run(["openssl", *command.split()], capture_output=True, check=True)
    path.write_bytes(made.stdout)
    load_key(str(path))


def test_text_around_the_certificates_is_skipped(tmp_path: Path) -> None:
    """`openssl ca` and bundles of distributions have comments between them."""
    one, two = root("one"), root("two")
    path = tmp_path / "bundle.pem"
    path.write_bytes(
        b"# One\n" + certificate_pem(one.chain) + b"\nCertificate:\n  Data: two\n" + certificate_pem(two.chain)
    )
    assert load_certificates(str(path)) == (one.leaf, two.leaf)


GOOD = leaf(root(), "server").leaf.public_bytes(Encoding.DER)
NAMED = build("x", [usage("client"), hosts("a", "1.2.3.4")], by=root()).leaf.public_bytes(Encoding.DER)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from([GOOD, NAMED]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), min_size=1, max_size=3),
    st.integers(0, 20),
)
def test_mutated_certificates_are_read_or_refused(good: bytes, flips: list[tuple[int, int]], cut: int) -> None:
    """Nothing else happens: no other error, no crash."""
    data = bytearray(good[: len(good) - cut])
    for at, flip in flips:
        data[at % len(data)] ^= flip
    with contextlib.suppress(BadCertificate):
        parse(bytes(data))
