"""What only zkv prints; all else is held against etcdctl in tests/conformance."""

from __future__ import annotations

import io

import pytest

from zkv.client.ticket import Header
from zkv.client.watch_events import WatchEvent, WatchResponse
from zkv.ctl.printers import make_printer
from zkv.wire import messages as m

HEADER = Header(7, 8, 9, 2)


def printed(name: str, result: str, *arguments: object) -> str:
    out = io.BytesIO()
    getattr(make_printer(name, out), result)(*arguments)
    return out.getvalue().decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("simple", "OK\n"),
        ("json", '{"header":{"cluster_id":7,"member_id":8,"revision":9,"raft_term":2},"lease":5}\n'),
        ("fields", '"ClusterID" : 7\n"MemberID" : 8\n"Revision" : 9\n"RaftTerm" : 2\n"Lease" : 5\n'),
    ],
)
def test_a_put_with_a_ttl_tells_its_lease(name: str, shown: str) -> None:
    """To programs: so they can keep it alive."""
    assert printed(name, "put", HEADER, m.PutAnswer(None, 5)) == shown


def test_what_went_with_a_lease_is_bytes() -> None:
    """Keys need not be text."""
    answer = m.LeaseTimeToLiveAnswer(0x1F, 3, 5, (b"a", b"\xff"))
    out = io.BytesIO()
    make_printer("simple", out).lease_time_to_live(HEADER, answer, keys=True)
    assert out.getvalue() == b"lease 000000000000001f granted with TTL(5s), remaining(3s), attached keys([a \xff])\n"


def test_all_events_of_a_revision_are_one_response() -> None:
    """In JSON one line, which tells what was there before too."""
    before = m.KeyValue(b"a", 1, 2, 2, b"x", 0)
    events = (
        WatchEvent("DELETE", m.KeyValue(b"a", 0, 9, 0, b"", 0), before),
        WatchEvent("PUT", m.KeyValue(b"b", 9, 9, 1, b"y", 0)),
    )
    (line,) = printed("json", "watch", WatchResponse(HEADER, events)).splitlines()
    assert '"Events":[{"type":1,"kv":{"key":"YQ==","mod_revision":9},"prev_kv":{"key":"YQ==",' in line
    assert printed("simple", "watch", WatchResponse(HEADER, events)) == "DELETE\na\nx\na\n\nPUT\nb\ny\n"
