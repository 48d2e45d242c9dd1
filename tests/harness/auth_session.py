"""Command lines about users and roles, for `zkv` and etcdctl alike: before and after authentication is enabled.

Left out is where zkv is stricter than etcd 3.5.1 (docs/ETCD.md tells): to compact one must be somebody, keys on a lease
are told to who may read them, moving the leader is root's, a put inside a txn needs leave to read what it returns. And
where etcd keeps two permissions of one key.
"""

from __future__ import annotations

from tests.harness.ctl import Step, each_format

ROOT = "--user root:rootpw"
ALICE = "--user alice:pw"
NO_TABLE = ("simple", "json", "fields")


def formats(*lines: str) -> list[Step]:
    """In those that can show it: where a format cannot, etcdctl has done the work all the same."""
    return [Step(f"{line} -w {name}") for line in lines for name in NO_TABLE]


def as_(who: str, *lines: str) -> list[Step]:
    return [Step(f"{line} {who}") for line in lines]


BEFORE = [
    *each_format("auth status", "user list", "role list"),
    Step("auth status x"),
    Step("auth enable"),  # without root
    Step("user add root --interactive=false", "rootpw\n"),
    Step("user add root:other"),
    Step("user add u:pw -w fields"),
    Step("user add nopw --no-password"),
    Step("user add no:password --no-password"),
    Step("user add :pw"),
    Step("user add"),
    Step("user add a b"),
    Step("user add empty --interactive=false"),
    Step("user add words --interactive=false", "  two words\n"),
    Step("user add asked", "pw\npw\n"),
    Step("user add asked2", "pw\nother\n"),
    Step("user add asked2", "\n"),
    Step("user add flag --new-user-password=pw"),
    Step("user add flag:kept --new-user-password=pw"),
    Step("user add '' --new-user-password=pw"),
    *each_format("user get u"),
    Step("user get nobody"),
    Step("user get u --detail"),
    Step("user get"),
    *each_format("user list"),
    Step("user list x"),
    *[Step(f"role add r{at} -w {name}") for at, name in enumerate(NO_TABLE)],
    Step("role add r0"),
    Step("role add ''"),
    Step("role add"),
    *each_format("role get r0", "role list"),
    Step("role get nobody"),
    Step("role get"),
    Step("role list x"),
    Step("role grant-permission r0 read foo"),
    Step("role grant-permission r0 write w x"),
    Step("role grant-permission r0 readwrite pre --prefix"),
    Step("role grant-permission r0 readwrite zfrom --from-key"),
    Step("role grant-permission r0 READ up"),
    Step("role grant-permission r0 bogus x"),
    Step("role grant-permission r0 read ''"),
    Step("role grant-permission r0 read z a"),
    Step("role grant-permission nobody read x"),
    Step("role grant-permission r0"),
    Step("role grant-permission r0 read"),
    Step("role grant-permission r0 read a b --prefix"),
    Step("role grant-permission r0 read a b --from-key"),
    Step("role grant-permission r0 read a --prefix --from-key"),
    *formats("role grant-permission r0 readwrite foo"),
    Step("role grant-permission r1 readwrite '' --prefix"),
    Step("role grant-permission r2 write '' --from-key"),
    *each_format("role get r0", "role get r1"),
    Step("role get r2"),
    Step("role revoke-permission r0 foo"),
    Step("role revoke-permission r0 w x"),
    Step("role revoke-permission r0 pre --prefix"),
    Step("role revoke-permission r0 zfrom --from-key"),
    Step("role revoke-permission r0 nope"),
    Step("role revoke-permission nobody nope"),
    Step("role revoke-permission r0"),
    Step("role revoke-permission r1 '' --prefix -w json"),
    Step("role revoke-permission r0 up -w fields"),
    *each_format("role get r0"),
    *formats("user grant-role u r0"),
    Step("user grant-role u nobody"),
    Step("user grant-role nobody r0"),
    Step("user grant-role u"),
    Step("user grant-role u root"),
    *each_format("user get u"),
    Step("user get u --detail"),  # root's role is not there
    Step("user revoke-role u root"),
    Step("user revoke-role u root"),
    Step("user revoke-role nobody r0"),
    Step("user revoke-role u"),
    Step("user get u --detail"),
    Step("user get u --detail -w json"),
    *[Step(f"user passwd u --interactive=false -w {name}", "pw\n") for name in NO_TABLE],
    Step("user passwd u", "pw\npw\n"),
    Step("user passwd nobody --interactive=false", "x\n"),
    Step("user passwd nopw --interactive=false", "x\n"),
    Step("user passwd"),
    Step("role delete r1"),
    Step("role delete r1"),
    Step("role delete r2 -w json"),
    Step("role delete"),
    Step("user delete flag"),
    Step("user delete flag"),
    Step("user delete empty -w fields"),
    Step("user delete"),
    Step("put before anybody"),
    Step("auth enable x"),
    Step("auth disable"),
    Step("auth disable -w json"),
    Step("put with a --user u:pw"),  # nobody is asked yet
    Step("auth enable"),  # makes the role root, and gives it to him
]
AFTER = [
    *as_(ROOT, "user add alice:pw", "role add r", "user grant-role alice r", "role list", "role get root"),
    Step("put foo bar"),
    Step("get foo"),
    Step("put foo bar --user root:wrong"),
    Step("put foo bar --user nobody:x"),
    Step("put foo bar --user nopw:x"),
    Step("put foo bar --user :x"),
    Step("put foo bar --password x"),
    Step("put foo bar --user root --password rootpw"),
    Step("put foo bar --user root:rootpw --password rootpw"),
    Step("put foo bar --user root", "rootpw\n"),
    *as_(ALICE, "put foo bar", "get foo", "del foo"),
    *as_(
        ROOT,
        "role grant-permission r readwrite foo",
        "role grant-permission r read ro --prefix",
        "role grant-permission r write wo --prefix",
        "put wo 1",
        "put other 1",
    ),
    *as_(
        ALICE,
        "put foo bar",
        "put foo baz --prev-kv",
        "get foo",
        "get foo fop",
        "get fop foo",
        "get foo foo",
        "get ro --prefix",
        "get ro rp",
        "get ro1 ro",
        "get r --prefix",
        "get ro --from-key",
        "put wo 1",
        "put wo 1 --prev-kv",
        "put wox 1",
        "put x 1",
        "get wo",
        "del wo --prev-kv",
        "del wo",
        "del wo --prefix",
        "del ro",
        "del foo --from-key",
        "compact 2",
    ),
    *[
        Step(f"txn {who}", text)
        for who in ("", ALICE)
        for text in (
            "\n\nget foo\n\nget other\n\n",
            'value("other") = "x"\n\nget foo\n\nget foo\n\n',
            'value("foo") = "x"\n\ndel wo --prev-kv\n\nput foo 1\n\n',
            'value("foo") = "x"\n\ndel wo\n\nput foo 1\n\n',
            "\n\nput foo 1\n\nput x 1\n\n",
            "\n\n\n\n",
        )
    ],
    Step("lease grant 500"),
    Step("lease timetolive LEASE"),
    *as_(ALICE, "put foo x --lease LEASE", "put wo x --lease LEASE"),
    *as_(ROOT, "put other x --lease LEASE"),
    *as_(ALICE, "put foo y --lease LEASE", "lease revoke LEASE"),
    Step("lease keep-alive LEASE --once"),
    Step("lease revoke LEASE"),
    *as_(ROOT, "lease revoke LEASE"),
    *as_(ALICE, "lease grant 500", "lease revoke LEASE", "lease revoke LEASE"),
    *[
        Step(f"{line} {who}")
        for who in ("", ALICE)
        for line in (
            "alarm list",
            "member add x --peer-urls http://127.0.0.1:1",
            "member remove 1234",
            "member update 1234 --peer-urls http://127.0.0.1:1",
            "member promote 1234",
            "user list",
            "user get alice",
            "user get alice --detail",
            "user get root",
            "user get nobody",
            "user add x:y",
            "user delete alice",
            "user grant-role alice root",
            "user revoke-role alice r",
            "role list",
            "role get r",
            "role get nobody",
            "role add x",
            "role delete r",
            "role grant-permission r read x",
            "role revoke-permission r foo",
            "auth status",
            "auth enable",
            "auth disable",
            "watch zzz",
        )
    ],
    *as_(ROOT, "auth status", "auth status -w json", "auth enable", "user get alice"),
    Step(f"user passwd alice --interactive=false {ALICE}", "x\n"),
    *as_(ROOT, "user delete root", "user revoke-role root root", "role delete root"),
    *as_(ROOT, "role revoke-permission r foo"),
    *as_(ALICE, "put foo 1"),
    Step(f"user passwd alice --interactive=false {ROOT}", "new\n"),
    *as_(ALICE, "put foo 1"),
    *as_("--user alice:new", "put wo 1"),
    *as_(ROOT, "user delete alice"),
    *as_("--user alice:new", "put wo 1"),
    *as_(ROOT, "auth disable", "auth status"),
    Step("put foo 1 --user root:wrong"),  # nobody is asked any more
    Step("put foo 1"),
    Step("user delete root"),
    Step("auth enable"),
]
SESSION = [*BEFORE, *AFTER]
