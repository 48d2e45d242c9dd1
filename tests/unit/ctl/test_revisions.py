"""Events of an etcd watch become transactions: whole revisions, in order, no key twice, within bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zkv.ctl.revisions import Changes, Revisions
from zkv.gateway.pb import kv_pb2 as kv
from zkv.gateway.pb import rpc_pb2 as pb


def put(key: str, revision: int, value: str = "") -> kv.Event:
    return kv.Event(kv=kv.KeyValue(key=key.encode(), mod_revision=revision, value=value.encode()))


def response(*events: kv.Event, fragment: bool = False, revision: int = 0) -> pb.WatchResponse:
    return pb.WatchResponse(header=pb.ResponseHeader(revision=revision), events=events, fragment=fragment)


def taken(revisions: Revisions, ops: int = 100, size: int = 1000) -> list[tuple[int, list[bytes]]]:
    found = []
    while changes := revisions.take(ops, size):
        found.append((changes.revision, [each.key for _, each in changes.changes]))
    return found


def test_revisions_go_together_until_a_key_comes_again() -> None:
    revisions = Revisions()
    revisions.add(response(put("a", 2), put("b", 3), put("a", 4), put("c", 4)))
    assert taken(revisions) == [(3, [b"a", b"b"]), (4, [b"a", b"c"])]


def test_a_revision_in_fragments_waits_for_its_end() -> None:
    revisions = Revisions()
    revisions.add(response(put("a", 2), put("b", 3), fragment=True))
    assert taken(revisions) == [(2, [b"a"])]
    revisions.add(response(put("c", 3), revision=7))
    assert taken(revisions) == [(3, [b"b", b"c"])]
    assert revisions.told == 7


def test_a_revision_too_large_for_one_transaction_is_cut_and_counts_when_it_is_whole() -> None:
    revisions = Revisions()
    revisions.add(response(*(put(key, 5) for key in "abcde"), put("f", 6)))
    assert taken(revisions, ops=2) == [(4, [b"a", b"b"]), (4, [b"c", b"d"]), (6, [b"e", b"f"])]
    revisions.add(response(*(put(key, 7, "x" * 600) for key in "ab")))
    assert taken(revisions) == [(6, [b"a"]), (7, [b"b"])]


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True), max_size=12),
    st.integers(1, 5),
    st.data(),
)
def test_nothing_is_lost_and_states_are_those_of_etcd(made: list[list[str]], ops: int, data: st.DataObject) -> None:
    """However responses are cut: who applies what is taken has been, at each revision told, where etcd was."""
    events = [(number, put(key, number, str(number))) for number, keys in enumerate(made, 2) for key in keys]
    states: dict[int, dict[bytes, bytes]] = {1: {}}
    for number, keys in enumerate(made, 2):
        states[number] = states[number - 1] | {key.encode(): str(number).encode() for key in keys}
    revisions = Revisions()
    here: dict[bytes, bytes] = {}

    def apply(changes: Changes) -> None:
        assert len(changes.changes) <= ops
        for _, each in changes.changes:
            here[each.key] = each.value
        whole = states[changes.revision]
        later = states.get(changes.revision + 1, whole)
        assert whole.items() <= here.items() or all(here[key] in {value, later[key]} for key, value in whole.items())

    while events:
        cut = data.draw(st.integers(1, len(events)))
        now, events = events[:cut], events[cut:]
        inside = bool(events) and events[0][0] == now[-1][0]
        revisions.add(response(*(event for _, event in now), fragment=inside))
        while changes := revisions.take(ops, 1000):
            apply(changes)
    assert here == states[len(made) + 1]
