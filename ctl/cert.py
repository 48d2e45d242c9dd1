"""`zkv cert`: the certificates of a cluster, for TLS and CURVE alike. See docs/SECURITY.md."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

from zkv.ctl.command import Call, Command
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, Flag, switch
from zkv.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zkv.certificates import Credentials

CA_DAYS, LEAF_DAYS = 3650, 365
CA_NAME = "zkv-ca"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _name(call: Call, default: str) -> str:
    if len(call.arguments) > 1:
        raise CommandError("one name at most is expected", EXIT_BAD_ARGS)
    return call.arguments[0] if call.arguments else default


def _authority(call: Call) -> Credentials:
    from zkv.certificates import load_credentials
    from zkv.ctl.cert_files import key_file_of

    path = call.values.text("ca")
    directory = call.values.text("dir") if "dir" in call.values else "."
    cert_file = path if Path(path).suffix else str(Path(directory, f"{path}.pem"))
    return load_credentials(cert_file, call.values.text("ca-key") or key_file_of(cert_file))


def _write(call: Call, made: Iterable[tuple[str, Credentials]]) -> int:
    from zkv.authority import certificate_pem, key_pem
    from zkv.ctl.cert_files import files_of, write_new

    directory = call.values.text("dir")
    files = {
        file: (data, mode)
        for name, each in made
        for file, data, mode in files_of(name, certificate_pem(each.chain), key_pem(each.key))
    }
    write_new(directory, files)
    for file in files:
        call.out.write(f"{Path(directory, file)}\n".encode("utf-8", "surrogateescape"))
    return 0


def _ca(call: Call) -> int:
    from zkv.authority import make_authority

    values = call.values
    made = make_authority(values.text("cn"), values.number("days"), _now(), key_type=values.text("key-type"))
    return _write(call, [(_name(call, "ca"), made)])


def _leaf(usage: str) -> Callable[[Call], int]:
    def run(call: Call) -> int:
        from zkv.authority import make_leaf

        values = call.values
        name = _name(call, usage)
        hosts = values.list("hosts")
        if usage != "client" and not hosts:
            raise CommandError("name the hosts it is for with --hosts: others will refuse it elsewhere", EXIT_BAD_ARGS)
        made = make_leaf(
            _authority(call),
            usage,
            values.text("cn") or name,
            hosts,
            days=values.number("days"),
            now=_now(),
            key_type=values.text("key-type"),
        )
        return _write(call, [(name, made)])

    return run


def _init(call: Call) -> int:
    from zkv.authority import make_authority, make_leaf

    if call.arguments:
        raise CommandError("no argument is expected: files are named ca, server, peer and client", EXIT_BAD_ARGS)
    values, now = call.values, _now()
    hosts, days, key_type = values.list("hosts"), values.number("days"), values.text("key-type")
    ca = make_authority(values.text("cn"), values.number("ca-days"), now, key_type=key_type)
    names = {"server": ("server", hosts), "peer": ("peer", hosts), "client": (values.text("client-cn"), ())}
    leaves = [
        (usage, make_leaf(ca, usage, cn, at, days=days, now=now, key_type=key_type))
        for usage, (cn, at) in names.items()
    ]
    return _write(call, [("ca", ca), *leaves])


def _show(call: Call) -> int:
    from zkv.certificates import load_certificates
    from zkv.ctl.cert_facts import facts_of

    if not call.arguments:
        raise CommandError("cert show needs at least one certificate file", EXIT_BAD_ARGS)
    printer = call.printer("certificates")
    now = _now()
    printer.certificates(
        [facts_of(file, certificate, now) for file in call.arguments for certificate in load_certificates(file)]
    )
    return 0


def _renew(call: Call) -> int:
    from zkv.authority import between, certificate_pem, key_pem, new_key, renew
    from zkv.certificates import load_certificates
    from zkv.ctl.cert_files import PUBLIC, SECRET, files_of, key_file_of, replace, write_new

    values = call.values
    if len(call.arguments) != 1:
        raise CommandError("cert renew needs one certificate file", EXIT_BAD_ARGS)
    path = call.arguments[0]
    beside, in_place = values.text("name"), values.is_on("in-place")
    if bool(beside) == in_place:
        raise CommandError("say where to: --name NEW for a file beside it, or --in-place", EXIT_BAD_ARGS)
    old = load_certificates(path)[0]
    key_file = key_file_of(path)
    if in_place and values.is_on("new-key") and not Path(key_file).exists():
        raise ConfigError(f"{key_file} is not there, and a new key would have nowhere to go: use --name")
    authority = _authority(call)
    key = new_key(values.text("key-type")) if values.is_on("new-key") else None
    chain = (renew(authority, old, values.number("days"), _now(), key), *between(authority))
    pem, secret = certificate_pem(chain), key_pem(key) if key else None
    if in_place:
        if secret:
            replace(key_file, secret, SECRET)
        replace(path, pem, PUBLIC)
        written = [path, *([key_file] if secret else [])]
    else:
        files = {file: (data, mode) for file, data, mode in files_of(beside, pem, secret)}
        write_new(str(Path(path).parent), files)
        written = [str(Path(path).parent / file) for file in files]
    for file in written:
        call.out.write(f"{file}\n".encode("utf-8", "surrogateescape"))
    return 0


def _verify(call: Call) -> int:
    from zkv.certificates import load_certificates, load_credentials
    from zkv.ctl.cert_files import key_file_of
    from zkv.introduction import try_out
    from zkv.trust import Purpose, check_host, load_trust

    values = call.values
    if len(call.arguments) != 1:
        raise CommandError("cert verify needs one certificate file", EXIT_BAD_ARGS)
    purpose = values.text("purpose")
    if purpose not in PURPOSES:
        raise CommandError(f"say what it should be good for with --purpose ({', '.join(PURPOSES)})", EXIT_BAD_ARGS)
    path = call.arguments[0]
    now_ms = int(_now().timestamp() * 1000)
    trust = load_trust(values.text("ca"), values.text("crl"), now_ms)
    key_file = values.text("key") or key_file_of(path)
    if values.text("key") or Path(key_file).exists():
        identity = try_out(load_credentials(path, key_file), trust, Purpose[purpose.upper()], now_ms)
        told = f"{path} and {key_file} are"
    else:
        identity = trust.verify(load_certificates(path), Purpose[purpose.upper()], now_ms)
        told = f"{path} is"
    if values.text("host"):
        check_host(identity, values.text("host"))
    until = dt.datetime.fromtimestamp(identity.until // 1000, dt.UTC)
    text = f"{told} good for a {purpose}, {identity.common_name!r}, until {until:%Y-%m-%dT%H:%M:%SZ}\n"
    call.out.write(text.encode("utf-8", "surrogateescape"))
    return 0


PURPOSES = ("client", "peer", "server")
_KEY_TYPE = Flag(
    "key-type", "text", "ecdsa", "ecdsa (P-256), ed25519 or rsa (3072)", values=("ecdsa", "ed25519", "rsa")
)
_DIR = Flag("dir", "text", ".", "directory for the files, made if it is not there", file=True)
_HOSTS = Flag("hosts", "list", "", "names and addresses it is for (subject alternative names)")
_DAYS = Flag("days", "number", str(LEAF_DAYS), "lifetime in days, not beyond the CA's")
_CA = (
    Flag("ca", "text", "ca", "the CA: a file, or the name of one in --dir", file=True),
    Flag("ca-key", "text", "", "the CA's key file [CA-key.pem beside the CA's file]", file=True),
)
_FILES = """\
Two files: <name>.pem, and <name>-key.pem (mode 0600) with the key, which is not encrypted. Nothing is overwritten."""

CA = Command(
    usage="[<name>] [options]",
    summary="Makes a certificate authority",
    description=f"""\
Its certificate is what everybody is told to trust; its key signs all others, and is best kept away from servers.
{_FILES}""",
    example="zkv cert ca --dir pki --cn my-cluster --days 3650",
    run=_ca,
    flags=(
        Flag("cn", "text", CA_NAME, "common name of the CA"),
        Flag("days", "number", str(CA_DAYS), "lifetime in days"),
        _DIR,
        _KEY_TYPE,
    ),
)


def _leaf_command(usage: str, summary: str, description: str, example: str) -> Command:
    flags = (*_CA, Flag("cn", "text", "", "common name [the file's name]"), _DAYS, _DIR, _HOSTS, _KEY_TYPE)
    return Command("[<name>] [options]", summary, example, _leaf(usage), flags, f"{description}\n{_FILES}")


SERVER = _leaf_command(
    "server",
    "Makes a certificate for what clients connect to",
    "Clients accept it at --hosts only. No client can use it.",
    "zkv cert server --dir pki --hosts 10.0.0.1,node-1.example.com\nzkv cert server node-2 --dir pki --hosts 10.0.0.2",
)
PEER = _leaf_command(
    "peer",
    "Makes a certificate for members among themselves",
    "It is for both ends of a connection between members.",
    "zkv cert peer --dir pki --hosts 10.0.0.1,10.0.0.2,10.0.0.3",
)
CLIENT = _leaf_command(
    "client",
    "Makes a certificate for a client",
    "The common name is who the client is. No server can use it.",
    "zkv cert client alice --dir pki --days 30",
)

INIT = Command(
    usage="[options]",
    summary="Makes all certificates of a cluster: ca, server, peer and client",
    description="""\
Eight files: NAME.pem and NAME-key.pem (mode 0600) for ca, server, peer and client; all or none, nothing is overwritten.
Servers get ca.pem, and server and peer with their keys; clients get ca.pem, and client with its key. ca-key.pem
is needed to make more of them, and by nobody else.""",
    example="zkv cert init --hosts 127.0.0.1,localhost --dir pki",
    run=_init,
    flags=(
        Flag("ca-days", "number", str(CA_DAYS), "lifetime of the CA in days"),
        Flag("client-cn", "text", "client", "common name of the client, which is its user name"),
        Flag("cn", "text", CA_NAME, "common name of the CA"),
        Flag("days", "number", str(LEAF_DAYS), "lifetime of the others in days"),
        _DIR,
        Flag("hosts", "list", "127.0.0.1,localhost", "names and addresses of all members"),
        _KEY_TYPE,
    ),
)

SHOW = Command(
    usage="<file>...",
    summary="Shows what is in certificate files, whoever made them",
    description="Subject, issuer, names, usage, key, lifetime and SHA-256 of every certificate in the files.",
    example="zkv cert show pki/server.pem\nzkv cert show pki/ca.pem pki/server.pem -w table",
    run=_show,
)

RENEW = Command(
    usage="<file> (--name NEW | --in-place) --ca CA [options]",
    summary="Makes a certificate anew, with another lifetime",
    description="""\
Same subject, names, usage and, unless --new-key is given, key; signed by --ca, which need not be the one that signed it
before. The file may have been made by openssl or cfssl. --name writes NEW.pem beside it and overwrites nothing;
--in-place replaces the file in one step. (With --new-key the key file is replaced first: who reads both in between
finds that they do not belong together, and must read again.)""",
    example="""\
zkv cert renew pki/server.pem --ca pki/ca.pem --name server-2 --days 365
zkv cert renew pki/server.pem --ca pki/ca.pem --in-place --new-key""",
    run=_renew,
    flags=(
        Flag("ca", "text", "ca.pem", "the CA's file", file=True),
        _CA[1],
        _DAYS,
        switch("in-place", "replace the file"),
        _KEY_TYPE,
        Flag("name", "text", "", "name of the new file, beside the old one"),
        switch("new-key", "make a new key as well"),
    ),
)

VERIFY = Command(
    usage="<file> --purpose server|peer|client --ca CA [options]",
    summary="Tells whether others would accept a certificate",
    description="""\
Signatures up to the CA, lifetime, usage, revocation, and with --host the names; all as others check it, at this moment.
Where the key is at hand, a CURVE key is introduced with it, and that is verified too (docs/SECURITY.md).""",
    example="""\
zkv cert verify pki/server.pem --purpose server --ca pki/ca.pem --host node-1.example.com
zkv cert verify pki/client.pem --purpose client --ca pki/ca.pem --crl pki/revoked.pem""",
    run=_verify,
    flags=(
        Flag("ca", "text", "ca.pem", "file of the CAs that are trusted", file=True),
        Flag("crl", "text", "", "file of a revocation list of one of them", file=True),
        Flag("host", "text", "", "name or address at which it should be accepted"),
        Flag("key", "text", "", "the certificate's key file [NAME-key.pem beside NAME.pem, if there]", file=True),
        Flag("purpose", "text", "", "what it should be good for (client, peer, server)", values=PURPOSES),
    ),
)
