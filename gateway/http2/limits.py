"""What one HTTP/2 connection may cost, each limit saying what turning it does."""

from __future__ import annotations

from typing import NamedTuple, Self

from zkv.gateway.http2.words import DEFAULT_FRAME_BYTES_MAX, DEFAULT_WINDOW, FRAME_BYTES_MAX_MAX, WINDOW_MAX

MEBIBYTE = 1 << 20


class Http2Limits(NamedTuple):
    """One connection's limits. Names end in their unit; times are milliseconds."""

    streams_max: int = 1_000
    """Streams a peer may have open (SETTINGS_MAX_CONCURRENT_STREAMS); more are refused, to be tried again."""
    header_list_bytes_max: int = 16_384
    """A request's fields, uncompressed and with 32 bytes each (SETTINGS_MAX_HEADER_LIST_SIZE)."""
    header_block_bytes_max: int = 16_384
    """The same compressed, over all its frames."""
    continuations_max: int = 8
    """CONTINUATION frames of one header block."""
    cached_requests_max: int = 64
    """Heads of requests remembered; a client that sends the same ones costs next to nothing for them."""
    frame_bytes_max: int = DEFAULT_FRAME_BYTES_MAX
    """One frame of the peer (SETTINGS_MAX_FRAME_SIZE)."""
    stream_window_bytes: int = DEFAULT_WINDOW
    """What a peer may send on a stream before we ask for more (SETTINGS_INITIAL_WINDOW_SIZE)."""
    connection_window_bytes: int = 4 * MEBIBYTE
    """The same for all streams together: larger lets more be under way on a long line. No bound on memory: what is
    taken from the socket is given back at once, and what is kept of it has its limit in `held_bytes_max`."""
    held_bytes_max: int = 16 * MEBIBYTE
    """Messages not yet whole, of all calls together: half of it for large ones, which wait for their turn."""
    message_bytes_max: int = 2 * MEBIBYTE
    """One gRPC message of a client, uncompressed (etcd: --max-request-bytes and 512 KiB)."""
    queued_bytes_max: int = 64 * MEBIBYTE
    """Answers that wait for a peer to read them. When half of it is taken, new streams are refused."""
    stream_queued_bytes: int = 256 * 1024
    """A streaming call with more than this queued should stop and wait until told that it was drained."""
    bomb_kib_burst: int = 32 * 1024
    """KiB that compressed messages may become beyond 32 times their size, at once ..."""
    bomb_kib_per_s: int = 4 * 1024
    """... and in the long run."""
    handshake_ms: int = 10_000
    """For the preface, the peer's first SETTINGS, and its acknowledgement of ours."""
    frame_ms: int = 30_000
    """For a frame once begun, and for a header block once begun."""
    stall_ms: int = 60_000
    """A peer that opens no window for so long while answers wait is gone."""
    drain_ms: int = 1_000
    """For the answer to the PING of a graceful end, after which no more requests can be on their way."""
    keepalive_ms: int = 7_200_000
    """A peer that has been silent for so long is asked with a PING (etcd: --grpc-keepalive-interval), 0: never ..."""
    keepalive_timeout_ms: int = 20_000
    """... and is gone when it does not answer for so long (etcd: --grpc-keepalive-timeout)."""
    ping_min_ms: int = 0
    """A peer that pings more often is cut off at its third try (etcd: --grpc-keepalive-min-time); 0: it may."""
    ping_idle_ms: int = 7_200_000
    """The same while it has no stream open."""
    resets_burst: int = 2_000
    """Streams that ended by the peer's RST_STREAM, or by its fault, at once ..."""
    resets_per_s: int = 200
    """... and in the long run. A client that cancels more is cut off."""
    chatter_burst: int = 2_000
    """Frames that ask for nothing (PING, SETTINGS, WINDOW_UPDATE, empty DATA, PRIORITY, unknown ones), at once ..."""
    chatter_per_s: int = 200
    """... in the long run ..."""
    chatter_per_work: int = 4
    """... and for each stream opened and each DATA frame sent: a client that works has cause to talk."""

    def checked(self) -> Self:
        """Itself, if what must hold between the limits does."""
        assert DEFAULT_FRAME_BYTES_MAX <= self.frame_bytes_max <= FRAME_BYTES_MAX_MAX
        # Until it has acknowledged our settings, a peer goes by the default, and must not be blamed for it.
        assert DEFAULT_WINDOW <= self.stream_window_bytes <= WINDOW_MAX
        assert self.stream_window_bytes <= self.connection_window_bytes <= WINDOW_MAX
        assert 0 < self.message_bytes_max + 5 <= self.held_bytes_max // 2
        assert self.stream_window_bytes <= self.held_bytes_max // 2
        assert self.stream_queued_bytes <= self.queued_bytes_max
        # All the calls of a client may end at once by their deadline, and be tried again, and end again.
        assert 0 < 2 * self.streams_max <= self.resets_burst
        return self
