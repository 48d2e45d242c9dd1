"""`zkv cert`: files made, shown and made anew; with openssl, files made elsewhere."""

from __future__ import annotations

import base64
import datetime as dt
import functools
import io
import json
import os
import shutil
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.harness.certificates import CA as CA_EXTENSION
from tests.harness.certificates import build, hosts, key_usage, usage
from zkv.authority import certificate_pem
from zkv.certificates import Credentials, load_certificates, load_credentials
from zkv.ctl.command import Streams
from zkv.ctl.main import run

ALL = {f"{name}{kind}.pem" for name in ("ca", "server", "peer", "client") for kind in ("", "-key")}
needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def zkv(*words: object) -> Outcome:
    streams = Streams(io.BytesIO(), io.BytesIO(), io.BytesIO())
    code = run([str(word) for word in words], streams, {})
    return Outcome(code, streams.out.getvalue().decode(), streams.err.getvalue().decode())  # type: ignore[attr-defined]


def cert(*words: object) -> Outcome:
    """That works."""
    outcome = zkv("cert", *words)
    assert outcome.code == 0, outcome.err
    return outcome


def shown(*files: Path) -> list[dict[str, object]]:
    found = json.loads(cert("show", *files, "-w", "json").out)
    assert isinstance(found, list)
    return found


def openssl(directory: Path, *commands: str) -> None:
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a cluster; not to be changed."""
    directory = tmp_path_factory.mktemp("made") / "pki"
    cert("init", "--hosts", "127.0.0.1,::1,localhost,*.example.com", "--dir", directory)
    return directory


@pytest.fixture
def pki(made: Path, tmp_path: Path) -> Path:
    """A copy."""
    return Path(shutil.copytree(made, tmp_path / "pki"))


def test_init_makes_what_a_cluster_needs(made: Path) -> None:
    """A CA, and what it signed for servers, peers and clients, each for its own use."""
    assert {path.name for path in made.iterdir()} == ALL
    found = {name: shown(made / f"{name}.pem")[0] for name in ("ca", "server", "peer", "client")}
    assert {name: each["usage"] for name, each in found.items()} == {
        "ca": ["ca"], "server": ["server"], "peer": ["server", "client"], "client": ["client"],
    }  # fmt: skip
    assert found["server"]["names"] == ["127.0.0.1", "::1", "localhost", "*.example.com"]
    assert {each["issuer"] for each in found.values()} == {"CN=zkv-ca"}
    assert found["server"]["days_left"] == 364
    for name in found:
        load_credentials(str(made / f"{name}.pem"), str(made / f"{name}-key.pem"))


def test_keys_are_for_their_owner_only(pki: Path) -> None:
    """Also when the umask would let others read them, and when a file is renewed in place."""
    before = os.umask(0)
    try:
        cert("server", "other", "--hosts", "b", "--dir", pki)
        cert("renew", pki / "client.pem", "--in-place", "--new-key", "--ca", pki / "ca.pem")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in pki.iterdir()}
    assert modes == {name: 0o600 if name.endswith("-key.pem") else 0o644 for name in modes}


@pytest.mark.parametrize("there", ["ca.pem", "client-key.pem"])
def test_nothing_is_overwritten_and_all_or_nothing_is_made(tmp_path: Path, there: str) -> None:
    """One file in the way, and none is made, nor left over."""
    (tmp_path / there).write_text("precious")
    refused = zkv("cert", "init", "--dir", tmp_path)
    assert refused.code == 1
    assert f"{there} exists already" in refused.err
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


def test_a_file_that_comes_in_between_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made before it is taken back."""
    real = Path.hardlink_to

    def late(path: Path, target: Path) -> None:
        if path.name == "peer.pem":
            path.write_text("precious")
        real(path, target)

    monkeypatch.setattr(Path, "hardlink_to", late)
    assert zkv("cert", "init", "--dir", tmp_path).code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["peer.pem"]
    assert (tmp_path / "peer.pem").read_text() == "precious"


@pytest.mark.parametrize("key_type", ["ecdsa", "rsa", "ed25519"])
def test_each_type_of_key_serves(tmp_path: Path, key_type: str) -> None:
    """Its files are loaded by OpenSSL, through Python's `ssl`."""
    cert("init", "--dir", tmp_path, "--key-type", key_type)
    for name in ("server", "peer", "client"):
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}-key.pem")


@needs_openssl
@pytest.mark.parametrize(("name", "purpose"), [("server", "sslserver"), ("peer", "sslserver"), ("client", "sslclient")])
def test_openssl_accepts_them_to_the_letter_of_the_standard(made: Path, name: str, purpose: str) -> None:
    """`openssl verify -x509_strict`, for the purpose they are made for."""
    openssl(made, f"verify -x509_strict -purpose {purpose} -CAfile ca.pem {name}.pem")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("server --hosts 10.0.0.1:2379", "no name or address"),
        ("server --hosts https://a", "no name or address"),
        ("server --hosts 10.0.0", "no name or address"),
        ("server --hosts a..b", "no name or address"),
        ("server --hosts a.*.b", "no name or address"),
        ("server --hosts straße", "no name or address"),
        ("server", "--hosts"),
        ("peer", "--hosts"),
        ("server ../up --hosts a", "no name for a certificate file"),
        ("server .up --hosts a", "no name for a certificate file"),
        ("client a b", "one name at most"),
        ("client --days 0", "a lifetime is"),
        ("client --days -3", "a lifetime is"),
        ("client --days 99999", "a lifetime is"),
        ("client --days 3651", "the CA ends on"),
        ("client --key-type dsa", "no such type of key"),
        ("client --ca nowhere", "cannot be read"),
        ("client --ca server", "not that of a CA"),
        ("client --ca-key server-key.pem", "cannot be read"),
        ("ca root --key-type dsa", "no such type of key"),
        ("init extra", "no argument"),
        ("show", "at least one"),
        ("renew", "one certificate file"),
    ],
)
def test_what_makes_no_sense_is_refused(pki: Path, words: str, complaint: str) -> None:
    """With the reason, and nothing is made."""
    where = [] if words.startswith(("show", "renew")) else ["--dir", pki]
    refused = zkv("cert", *words.split(), *where)
    assert refused.code != 0
    assert complaint in refused.err
    assert {path.name for path in pki.iterdir()} == ALL


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\x1b[31m"])
def test_a_common_name_can_be_shown(pki: Path, name: str) -> None:
    """Of bounded length, and without control characters. (An empty one is the file's name.)"""
    outcome = zkv("cert", "client", "odd", "--dir", pki, "--cn", name)
    assert outcome.code == (0 if not name else 1)


def test_a_key_of_another_ca_signs_nothing(pki: Path) -> None:
    """CA certificate and key must belong together."""
    cert("ca", "second", "--dir", pki)
    refused = zkv("cert", "client", "eve", "--dir", pki, "--ca-key", pki / "second-key.pem")
    assert "is not that of the certificate" in refused.err


def test_renewed_beside_it_is_the_same_leaf_for_longer(pki: Path) -> None:
    """Subject, names, usage and key stay; the serial number and the lifetime are new. The old file stays too."""
    before = (pki / "server.pem").read_bytes()
    outcome = cert("renew", pki / "server.pem", "--name", "next", "--days", 700, "--ca", pki / "ca.pem")
    assert outcome.out == f"{pki}/next.pem\n"
    assert (pki / "server.pem").read_bytes() == before
    old, new = shown(pki / "server.pem", pki / "next.pem")
    changed = {name for name in old if old[name] != new[name]}
    assert changed <= {"file", "serial", "not_before", "not_after", "days_left", "fingerprint"}
    assert changed >= {"serial", "days_left"}
    load_credentials(str(pki / "next.pem"), str(pki / "server-key.pem"))


def test_renewed_in_place_with_a_new_key(pki: Path) -> None:
    """Both files are replaced, and belong together; nothing is left over."""
    before = (pki / "server-key.pem").read_bytes()
    cert("renew", pki / "server.pem", "--in-place", "--new-key", "--ca", pki / "ca.pem")
    assert (pki / "server-key.pem").read_bytes() != before
    load_credentials(str(pki / "server.pem"), str(pki / "server-key.pem"))
    assert {path.name for path in pki.iterdir()} == ALL


def test_renewed_in_place_rights_stay_or_narrow(pki: Path) -> None:
    """A certificate that only its owner could read stays so; a key that others could read no longer is."""
    (pki / "server.pem").chmod(0o600)
    (pki / "server-key.pem").chmod(0o644)
    cert("renew", pki / "server.pem", "--in-place", "--new-key", "--ca", pki / "ca.pem")
    assert [stat.S_IMODE((pki / f"server{kind}.pem").stat().st_mode) for kind in ("", "-key")] == [0o600, 0o600]


def test_a_link_leads_to_what_is_renewed(pki: Path) -> None:
    """The file behind it is replaced, the link stays."""
    link = pki.parent / "link.pem"
    link.symlink_to(pki / "client.pem")
    before = (pki / "client.pem").read_bytes()
    cert("renew", link, "--in-place", "--ca", pki / "ca.pem")
    assert link.is_symlink()
    assert (pki / "client.pem").read_bytes() != before


def test_a_new_key_needs_a_place(pki: Path) -> None:
    """In place it goes where the old one is; where there is none, nothing changes."""
    (pki / "server-key.pem").rename(pki / "elsewhere.pem")
    before = (pki / "server.pem").read_bytes()
    refused = zkv("cert", "renew", pki / "server.pem", "--in-place", "--new-key", "--ca", pki / "ca.pem")
    assert "would have nowhere to go" in refused.err
    assert (pki / "server.pem").read_bytes() == before


def test_renewing_asks_where_to(pki: Path) -> None:
    """Neither, both, or a name that is taken: refused, and nothing changes."""
    before = {path: path.read_bytes() for path in pki.iterdir()}
    for words in ((), ("--in-place", "--name", "x"), ("--name", "peer"), ("--name", "../x")):
        assert zkv("cert", "renew", pki / "server.pem", "--ca", pki / "ca.pem", *words).code != 0
    assert "make a new one" in zkv("cert", "renew", pki / "ca.pem", "--ca", pki / "ca.pem", "--in-place").err
    assert {path: path.read_bytes() for path in pki.iterdir()} == before


@needs_openssl
def test_certificates_of_openssl_are_shown_and_renewed(tmp_path: Path) -> None:
    """Made by its simplest recipes: no key usage, no key identifiers, an old form of key with parameters before it."""
    (tmp_path / "san").write_text("subjectAltName=DNS:db.example.com,IP:10.1.2.3,email:a@example.com\n")
    openssl(
        tmp_path,
        "ecparam -name prime256v1 -genkey -out ca-key.pem",
        "req -x509 -new -key ca-key.pem -subj /O=Example/CN=Root -days 30 -out ca.pem",
        "req -new -newkey rsa:2048 -nodes -keyout db-key.pem -subj /O=Example/CN=db -out db.csr",
        "x509 -req -in db.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 7 -extfile san -out db.pem",
    )
    (tmp_path / "ca-key.pem").chmod(0o600)
    (facts,) = shown(tmp_path / "db.pem")
    assert facts["subject"] == "CN=db,O=Example"
    assert facts["names"] == ["db.example.com", "10.1.2.3", "email:a@example.com"]
    assert facts["key"] == "RSA 2048"
    assert facts["usage"] == []
    assert facts["days_left"] == 6
    cert("renew", tmp_path / "db.pem", "--in-place", "--days", 20, "--ca", tmp_path / "ca.pem")
    (again,) = shown(tmp_path / "db.pem")
    assert again["names"] == facts["names"]
    assert again["days_left"] == 19
    load_credentials(str(tmp_path / "db.pem"), str(tmp_path / "db-key.pem"))
    openssl(tmp_path, "verify -CAfile ca.pem db.pem")


def test_a_bundle_is_shown_whole(pki: Path) -> None:
    """One entry for each certificate in a file, in each format that can show lists."""
    bundle = pki / "bundle.pem"
    bundle.write_bytes((pki / "ca.pem").read_bytes() + (pki / "server.pem").read_bytes())
    assert [each["subject"] for each in shown(bundle)] == ["CN=zkv-ca", "CN=server"]
    simple, table = (cert("show", bundle, "-w", name).out for name in ("simple", "table"))
    assert simple.count("fingerprint") == 2
    assert "364 days left" in simple
    assert table.count("bundle.pem") == 2
    assert zkv("cert", "show", bundle, "-w", "fields").code == 4


def test_what_is_no_certificate_is_not_shown(pki: Path) -> None:
    """A key, a missing file, garbage: one line each, and nothing of the contents."""
    (pki / "garbage").write_bytes(b"-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n")
    for name in ("server-key.pem", "nowhere.pem", "garbage"):
        refused = zkv("cert", "show", pki / name)
        assert (refused.code, refused.out) == (1, "")
        assert name in refused.err
        assert len(refused.err.splitlines()) == 1
        assert "c2VjcmV0" not in refused.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("server.pem --purpose server", 0),
        ("server.pem --purpose server --host localhost", 0),
        ("peer.pem --purpose peer", 0),
        ("client.pem --purpose client", 0),
        ("server.pem --purpose server --host elsewhere", 1),
        ("server.pem --purpose client", 1),
        ("client.pem --purpose server", 1),
        ("client.pem --purpose peer", 1),
        ("ca.pem --purpose server", 1),
        ("client.pem --purpose client --key server-key.pem", 1),
        ("client.pem --purpose client --ca server.pem", 1),
        ("client.pem --purpose nonsense", 128),
        ("client.pem", 128),
        ("--purpose client", 128),
    ],
)
def test_verify_says_what_others_would(made: Path, monkeypatch: pytest.MonkeyPatch, words: str, code: int) -> None:
    """One line, and an exit code for scripts."""
    monkeypatch.chdir(made)
    outcome = zkv("cert", "verify", *words.split())
    assert outcome.code == code, outcome
    assert len((outcome.out + outcome.err).splitlines()) == 1


def test_verify_needs_no_key(pki: Path) -> None:
    """Where there is none it says less."""
    assert (
        "are good for a client" in cert("verify", pki / "client.pem", "--purpose", "client", "--ca", pki / "ca.pem").out
    )
    (pki / "client-key.pem").unlink()
    assert (
        "is good for a client" in cert("verify", pki / "client.pem", "--purpose", "client", "--ca", pki / "ca.pem").out
    )


def test_the_same_ca_never_gives_a_serial_number_twice(pki: Path) -> None:
    """They are drawn at random, 159 bits: CAs keep no count that copies of them could share."""
    for name in ("a", "b", "c"):
        cert("client", name, "--dir", pki)
    serials = {load_certificates(str(pki / f"{name}.pem"))[0].serial_number for name in ("a", "b", "c", "client")}
    assert len(serials) == 4
    assert min(serials) > 1 << 64


def test_only_cert_imports_cryptography() -> None:
    """Its import costs more than a put; neither the help of everything nor completion needs it."""
    program = (
        "import sys, io, zkv.ctl.main as main\n"
        "streams = main.Streams(io.BytesIO(), io.BytesIO(), io.BytesIO())\n"
        "main.run(['help'], streams, {}), main.run(['cert', 'show', '--help'], streams, {})\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "zkv.ctl.cert" in loaded
    assert not loaded & {"cryptography", "zkv.certificates", "zkv.authority"}


# --- made elsewhere ------------------------------------------------------------------------------

lasting = functools.partial(
    build, start=dt.datetime(2020, 1, 1, tzinfo=dt.UTC), end=dt.datetime(2120, 1, 1, tzinfo=dt.UTC)
)


def save(directory: Path, name: str, made: Credentials, form: PrivateFormat = PrivateFormat.PKCS8) -> None:
    (directory / f"{name}.pem").write_bytes(certificate_pem(made.chain))
    key = directory / f"{name}-key.pem"
    key.touch(0o600)
    key.write_bytes(made.key.private_bytes(Encoding.PEM, form, NoEncryption()))


def test_certificates_of_cfssl_are_shown_renewed_and_verified(tmp_path: Path) -> None:
    """In its shape: a full subject, both usages, key encipherment, no names for a client, keys as EC PRIVATE KEY."""
    place = [
        x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE"),
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Example"),
        x509.NameAttribute(x509.NameOID.COMMON_NAME, "web-1"),
    ]
    ca = lasting("cfssl CA", [key_usage("key_cert_sign", "crl_sign"), CA_EXTENSION])
    neither = (x509.BasicConstraints(ca=False, path_length=None), True)
    common = [key_usage("digital_signature", "key_encipherment"), usage("peer"), neither]
    save(tmp_path, "ca", ca, PrivateFormat.TraditionalOpenSSL)
    save(tmp_path, "web", lasting(x509.Name(place), [*common, hosts("web-1.example.com")], by=ca))
    save(tmp_path, "user", lasting("user", common, by=ca), PrivateFormat.TraditionalOpenSSL)
    ca_file = tmp_path / "ca.pem"
    for name, purpose in (("web", "peer"), ("web", "server"), ("user", "client")):
        cert("verify", tmp_path / f"{name}.pem", "--purpose", purpose, "--ca", ca_file)
    (before,) = shown(tmp_path / "web.pem")
    assert before["subject"] == "CN=web-1,O=Example,C=DE"
    cert("renew", tmp_path / "web.pem", "--in-place", "--days", 20, "--ca", ca_file)
    (after,) = shown(tmp_path / "web.pem")
    assert [after[each] for each in ("subject", "names", "usage", "key_usage", "days_left")] == [
        before["subject"], ["web-1.example.com"], ["server", "client"], ["digital signature", "key encipherment"], 19,
    ]  # fmt: skip
    cert("verify", tmp_path / "web.pem", "--purpose", "server", "--ca", ca_file, "--host", "web-1.example.com")


def test_an_intermediate_authority_goes_along(tmp_path: Path) -> None:
    """A leaf signed by a CA that is no root has that CA's certificate behind its own, also when it is renewed."""
    top = lasting("top", [CA_EXTENSION])
    save(tmp_path, "top", top)
    save(tmp_path, "middle", lasting("middle", [CA_EXTENSION], by=top))
    bundle = Credentials((*load_certificates(str(tmp_path / "middle.pem")), top.leaf), top.key)
    cert("server", "--hosts", "a", "--dir", tmp_path, "--ca", "middle")
    cert("renew", tmp_path / "server.pem", "--in-place", "--ca", tmp_path / "middle.pem")
    assert [each["subject"] for each in shown(tmp_path / "server.pem")] == ["CN=server", "CN=middle"]
    cert("verify", tmp_path / "server.pem", "--purpose", "server", "--ca", tmp_path / "top.pem")
    (tmp_path / "middle.pem").write_bytes(certificate_pem(bundle.chain))  # roots are not sent along
    cert("client", "--dir", tmp_path, "--ca", "middle")
    assert [each["subject"] for each in shown(tmp_path / "client.pem")] == ["CN=client", "CN=middle"]


def test_a_certificate_whose_key_is_damaged_is_renewed_with_a_new_one(pki: Path) -> None:
    """It is shown all the same, and nobody is told more than a line."""
    (old,) = load_certificates(str(pki / "server.pem"))
    point = old.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    damaged = old.public_bytes(Encoding.DER).replace(point, point[:1] + bytes(64))
    body = base64.encodebytes(damaged)
    (pki / "server.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n")
    assert shown(pki / "server.pem")[0]["key"] == "unknown"
    refused = zkv("cert", "renew", pki / "server.pem", "--in-place", "--ca", pki / "ca.pem")
    assert "a new one is needed" in refused.err
    assert len(refused.err.splitlines()) == 1
    cert("renew", pki / "server.pem", "--in-place", "--new-key", "--ca", pki / "ca.pem")
    load_credentials(str(pki / "server.pem"), str(pki / "server-key.pem"))
