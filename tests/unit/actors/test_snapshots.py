"""A store in chunks: what the sender makes, what the receiver takes, whatever gets lost, doubled or damaged between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.kv_log import everything
from zkv.actors.snapshots import IncomingSnapshot, OutgoingSnapshot, SnapshotDesk
from zkv.core.mvcc.engine import MemoryEngine
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.core.mvcc.engine import Reader

META = m.SnapshotMeta(9, 1, 0, m.ConfState((1, 2)))
CHUNK_BYTES = 100


def store(keys: int, value: bytes = bytes(20)) -> MemoryEngine:
    engine = MemoryEngine()
    engine.write([(b"%04d" % number, value) for number in range(keys)], ())
    return engine


def outgoing(engine: MemoryEngine) -> OutgoingSnapshot:
    return OutgoingSnapshot(5, META, engine.snapshot(), CHUNK_BYTES)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 40), st.lists(st.integers(0, 50), max_size=30))
def test_a_store_arrives_whole_whichever_chunks_are_made_and_sent_again(keys: int, noise: list[int]) -> None:
    """Any chunk made before can be made anew, the same; only the one wanted is taken."""
    source = store(keys)
    sender, receiver = outgoing(source), IncomingSnapshot(5, MemoryEngine())
    wanted = 0
    while not receiver.complete:
        if noise and (again := sender.chunk(noise.pop())) is not None:
            wanted = receiver.take(again).wanted
            continue
        chunk = sender.chunk(wanted)
        assert chunk is not None
        assert receiver.take(chunk) == m.SnapshotAck(5, wanted + 1)
        wanted += 1
    assert list(everything(receiver.staging)) == list(everything(source))


def test_chunks_hold_about_so_many_bytes_and_one_key_at_least() -> None:
    sender = outgoing(store(10))
    first = sender.chunk(0)
    assert first is not None
    assert 1 < len(first.pairs) < 10
    big = outgoing(store(3, bytes(1000)))
    chunks = [big.chunk(number) for number in range(3)]
    assert [(len(chunk.pairs), chunk.last) for chunk in chunks if chunk] == [(1, False), (1, False), (1, True)]


def test_a_snapshot_stands_still_while_the_store_goes_on() -> None:
    """A chunk made again after a write is the chunk it was."""
    engine = store(20)
    sender = outgoing(engine)
    before = [sender.chunk(0), sender.chunk(1)]
    engine.write([(b"0000", b"new"), (b"00005", b"new")], [b"0001"])
    assert [sender.chunk(0), sender.chunk(1)] == before


def test_a_damaged_chunk_is_asked_for_again_and_leaves_nothing() -> None:
    """Its digest does not fit what came before it."""
    sender, receiver = outgoing(store(20)), IncomingSnapshot(5, MemoryEngine())
    chunk = sender.chunk(0)
    assert chunk is not None
    damaged = chunk._replace(pairs=((b"0000", b"other"), *chunk.pairs[1:]))
    assert receiver.take(damaged) == m.SnapshotAck(5, 0)
    assert list(everything(receiver.staging)) == []
    assert receiver.take(chunk) == m.SnapshotAck(5, 1)


def test_a_chunk_that_is_not_yet_due_cannot_be_made() -> None:
    assert outgoing(store(40)).chunk(2) is None


def test_the_desk_begins_a_stream_with_its_first_chunk_only() -> None:
    """A later one of a stream it does not know was a predecessor's; another takes the place of the one before."""
    engine = store(20)
    opened: list[Reader] = []

    def place() -> tuple[m.SnapshotMeta, Reader]:
        opened.append(engine.snapshot())
        return META, opened[-1]

    desk = SnapshotDesk(CHUNK_BYTES, MemoryEngine)
    assert desk.wanted(2, 5, 1, place) is None
    assert opened == []
    for stream, sequence, opens in ((5, 0, 1), (5, 1, 1), (6, 0, 2), (6, 1, 2)):
        assert desk.wanted(2, stream, sequence, place) is not None
        assert len(opened) == opens
    desk.end(2, 5)
    assert desk.wanted(2, 6, 1, place) is not None
    desk.end(2, 6)
    assert desk.wanted(2, 6, 1, place) is None
    desk.wanted(2, 7, 0, place)
    desk.end_all()
    assert desk.wanted(2, 7, 1, place) is None


def test_the_desk_takes_one_snapshot_at_a_time() -> None:
    """A new stream takes the place of the one before; who comes in the middle of an unknown one begins again."""
    first, second = outgoing(store(20)), OutgoingSnapshot(6, META, store(8).snapshot(), CHUNK_BYTES)
    desk = SnapshotDesk(CHUNK_BYTES, MemoryEngine)
    assert desk.take(_made(first, 0)) == (m.SnapshotAck(5, 1), None)
    ack, staging = desk.take(_made(second, 0))
    assert (ack, staging) == (m.SnapshotAck(6, 1), None)
    assert desk.take(_made(first, 1)) == (m.SnapshotAck(5, 0), None)
    ack, staging = desk.take(_made(second, 1))
    assert staging is not None
    assert len(list(everything(staging))) == 8


def _made(sender: OutgoingSnapshot, sequence: int) -> m.SnapshotChunk:
    for number in range(sequence + 1):
        chunk = sender.chunk(number)
    assert chunk is not None
    return chunk
