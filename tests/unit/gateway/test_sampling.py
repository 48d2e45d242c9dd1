"""Hottest prefixes: what the sketch promises, and how keys come into it."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from zkv.gateway.sampling import EVERY, TOLD, Sampler, key_of, prefix_of
from zkv.gateway.space_saving import SpaceSaving
from zkv.wire import codec
from zkv.wire import messages as m


@pytest.mark.parametrize("seed", range(20))
def test_no_key_is_counted_too_low_nor_too_high_by_more_than_told(seed: int) -> None:
    """And none that came more often than one in `capacity` is missing."""
    rng = random.Random(seed)
    capacity = rng.choice((1, 3, 10))
    sketch: SpaceSaving[int] = SpaceSaving(capacity)
    true: Counter[int] = Counter()
    for _ in range(2_000):
        key, weight = int(rng.paretovariate(0.7)) % 1_000, rng.randint(1, 5)
        sketch.add(key, weight)
        true[key] += weight
    told = {counted.key: counted for counted in sketch.top(capacity)}
    assert len(told) == min(capacity, len(true))
    for key, counted in told.items():
        assert counted.count - counted.error <= true[key] <= counted.count
    for key, count in true.items():
        assert key in told or count * capacity <= true.total()
    assert [counted.count for counted in sketch.top(capacity)] == sorted((c.count for c in told.values()), reverse=True)


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        (b"/registry/pods/ns1/p7", "/registry/pods/ns1/"),
        (b"/registry/pods/", "/registry/"),
        (b"users:7:name", "users:7:"),
        (b"plain", "plain"),
        (b"/", "/"),
        (b"", ""),
        (b"a/" * 100, "a/" * 32),
        (b"x" * 100, "x" * 64),
        (b"\xff\x00/k\n", "\\xff\x00/"),
    ],
)
def test_a_key_counts_for_what_stands_before_its_last_separator(key: bytes, prefix: str) -> None:
    assert prefix_of(key) == prefix


def test_a_txn_counts_for_the_first_key_it_may_touch() -> None:
    put = (int(m.Op.PUT), (b"a/k", b"v"))
    assert key_of(m.Op.TXN, ((), (put,), ())) == b"a/k"
    assert key_of(m.Op.TXN, ((), (), (put,))) == b"a/k"
    assert key_of(m.Op.TXN, ((), ((int(m.Op.TXN), ((), (put,), ())),), ())) == b"a/k"
    assert key_of(m.Op.TXN, ((), (), ())) is None
    assert key_of(m.Op.LEASE_GRANT, (5,)) is None


def packed(*keys: bytes) -> bytes:
    requests = tuple((number, int(m.Op.PUT), (key, b"v")) for number, key in enumerate(keys, 1))
    return codec.pack((m.PROTOCOL_VERSION, int(m.ClientKind.REQUESTS), b"", 0, requests))


def test_a_sample_tells_about_how_often_each_prefix_is_asked_for() -> None:
    """Messages of any size, two thirds of all requests under one prefix."""
    rng = random.Random(7)
    sampler = Sampler(rng)
    sampler.look(True)
    asked: Counter[str] = Counter()
    for _ in range(20_000):
        keys = [rng.choice((b"hot/k", b"hot/k", b"cold/k")) for _ in range(rng.randint(1, 5))]
        asked.update(prefix_of(key) for key in keys)
        sampler.message(packed(*keys), len(keys))
    told = {label: count for name, label, count in sampler.gauges() if name == "hot"}
    for prefix, count in asked.items():
        assert told[prefix] == pytest.approx(count, rel=0.15)


def test_what_comes_by_itself_is_sampled_alike_and_little_is_told() -> None:
    sampler = Sampler(random.Random(7))
    sampler.look(True)
    for number in range(40_000):
        sampler.request(m.Op.RANGE, (b"%d/k" % (number % 1_000),))
    told = sampler.gauges()
    assert len(told) == TOLD
    assert all(isinstance(count, int) and count % EVERY == 0 for _, _, count in told)


def test_nothing_is_told_once_nobody_looks_and_who_looks_again_begins_anew() -> None:
    sampler = Sampler(random.Random(7))
    sampler.look(True)
    for _ in range(1_000):
        sampler.request(m.Op.RANGE, (b"old/k",))
    sampler.look(False)
    assert not sampler.gauges()
    sampler.look(True)
    assert not sampler.gauges()
