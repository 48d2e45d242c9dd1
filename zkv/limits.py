"""What one node holds at most, each limit saying what turning it does.

A module of its own, and a record as the messages are: clients keep to these limits too, and a client may be a command
that lives for a moment, which pays for what it imports (`dataclasses` costs as much as an empty Python process).
"""

from __future__ import annotations

from typing import Final, NamedTuple, Self

MEBIBYTE = 1 << 20
NEVER: Final = 1 << 61
"""A moment (ms) beyond any clock. What is greater is an object where modules are compiled."""
LEASE_SLACK_MS = 750
"""The log lets a lease live this much longer than its TTL, so that one renewed more often costs no log entry: how much
longer than asked for a lease may live after its leader is gone. No setting: all members must agree on it."""


class Limits(NamedTuple):
    """What one node holds at most. Names end in their unit; larger means more memory, smaller more refusals."""

    request_bytes_max: int = 3 * MEBIBYTE // 2
    """One client message (etcd's --max-request-bytes, 1.5 MiB)."""
    txn_ops_max: int = 128
    """Compares, success or failure operations of one txn (etcd's --max-txn-ops)."""
    message_requests_max: int = 1024
    """Requests in one client message."""
    in_flight_groups_max: int = 20_000
    """Client messages one gateway has passed on and not yet answered; more are refused as TooManyRequests."""
    in_flight_bytes_max: int = 64 * MEBIBYTE
    """Their bytes."""
    chunk_bytes: int = 256 * 1024
    """One chunk of a streamed range, and of a snapshot, holds about this much, one key at least."""
    chunk_credit: int = 4
    """Chunks a client is sent before it must say that it took some."""
    streams_max: int = 256
    """Ranges being streamed at once by one storage actor."""
    answer_bytes_max: int = 8 * MEBIBYTE
    """A range inside a txn, or a sorted one, larger than this is refused (RangeTooLarge)."""
    sorted_keys_max: int = 1_000_000
    """Keys a range sorted by something else than its key may look at, when no limit bounds what is kept."""
    sorted_bytes_max: int = 64 * MEBIBYTE
    """Bytes of the keys (and values, where those sort) that such a range may keep meanwhile."""
    entry_bytes_max: int = 2 * MEBIBYTE
    """Frames gather into one log entry up to this size (one frame may be larger, up to in_flight_bytes_max)."""
    append_bytes_max: int = 4 * MEBIBYTE
    """Entries in one append message (at least one entry)."""
    in_flight_appends_max: int = 64
    """Append messages to one follower not yet answered."""
    uncommitted_bytes_max: int = 64 * MEBIBYTE
    """Log bytes a leader holds uncommitted before it refuses proposals."""
    feed_bytes_max: int = 8 * MEBIBYTE
    """Entries raft has sent to storage that are not yet applied."""
    log_cache_bytes: int = 16 * MEBIBYTE
    """The newest entries raft keeps in memory; older ones are read from disk."""
    flush_bytes: int = 16 * MEBIBYTE
    """Storage makes its state durable each time about this much was written: more means longer replay after a crash."""
    sessions_max: int = 65_536
    """Client sessions whose answers are remembered for retries."""
    session_idle_ms: int = 600_000
    """A session unused for this long (cluster clock) may be forgotten ..."""
    session_kept_ms: int = 60_000
    """... and none is forgotten before this; a client must not retry a write for longer."""
    session_answers_max: int = 1024
    """Unacknowledged answers kept per session, and with them writes one session may have in flight."""
    session_answer_bytes_max: int = 64 * 1024
    """An answer larger than this is not kept; its retry gets AnswerLost."""
    session_bytes_max: int = 256 * 1024
    """Bytes of the answers kept per session; an answer that does not fit is not kept either."""

    client_requests_max: int = 0
    """Requests a second that one client has of one door. 0: no bound; bytes in flight keep the balance, however fast
    the machine is, while a rate is a promise of its operator."""
    client_bytes_max: int = 32 * MEBIBYTE
    """Bytes of one client's messages that a door has passed on and not yet answered: half of what there is for all.
    0: no bound, here and for the following."""
    client_watches_max: int = 250_000
    """Watches of one client at one door; with it goes half of `watch_streams_max`."""
    client_leases_max: int = 250_000
    """Leases that one door has granted to one client."""
    client_connections_max: int = 10_000
    """Connections of one client at one door."""

    watch_streams_max: int = 10_000
    """Connections with watches on one node."""
    watches_max: int = 1_000_000
    """Watches of one node."""
    watch_window_bytes: int = MEBIBYTE
    """Watch answers on their way to one client that it has not said to have taken; beyond it waits for history."""
    watch_silence_ms: int = 60_000
    """A client with watches that says nothing for so long is gone (the library speaks every third of it), and one that
    is owed events and takes none for so long has its watches cancelled."""
    watch_flight_bytes_max: int = 256 * MEBIBYTE
    """The same of all clients of one node together: beyond it, a client is sent no more before it has taken all."""
    watch_progress_ms: int = 600_000
    """A watch with progress_notify that had no events for so long is told how far the store is."""
    history_bytes: int = MEBIBYTE
    """One slice of history, read for all watchers that catch up."""
    lease_keys_max: int = 1_000
    """Keys deleted by one log entry for leases that expire; the rest of a larger lease follow in the next."""
    leases_per_entry_max: int = 1_000
    """Leases expired, or renewed, by one log entry."""
    lease_ttl_min: int = 2
    """Seconds; whoever asks this node for a lease of less gets one of this (etcd: one and a half election timeouts)."""

    def checked(self) -> Self:
        """Itself, if what must hold between the limits does."""
        assert self.chunk_bytes <= self.answer_bytes_max
        assert self.request_bytes_max <= self.in_flight_bytes_max
        assert self.session_kept_ms < self.session_idle_ms
        return self
