"""What a raft core is told once, at its start."""

from __future__ import annotations

from dataclasses import dataclass

from zkv.config import Limits

_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Times are ms. The same on all members, but for `member`."""

    member: int
    """Who this is; not 0, which means nobody."""
    heartbeat_ms: int = 100
    """A leader says so this often. Less: more idle traffic. More: lost messages are repaired later."""
    election_ms: int = 1000
    """Nobody stands for election, or votes, within this time of hearing from a leader; then at a random moment
    within the same time again. Must be several round trips and several heartbeats long."""
    append_bytes_max: int = _LIMITS.append_bytes_max
    """Entries in one append message (one entry may be larger)."""
    in_flight_appends_max: int = _LIMITS.in_flight_appends_max
    """Appends to one follower not yet answered ..."""
    in_flight_bytes_max: int = 4 * _LIMITS.append_bytes_max
    """... and their entries' bytes: no further append leaves once so many are under way. This is what a follower that
    catches up costs in memory."""
    uncommitted_bytes_max: int = _LIMITS.uncommitted_bytes_max
    """Proposed and not yet committed; proposals beyond are refused (a single one may be larger)."""

    def __post_init__(self) -> None:
        assert self.member > 0
        assert 0 < self.heartbeat_ms * 2 < self.election_ms, "a lost heartbeat must not cost the leadership"
        assert self.in_flight_appends_max > 0
        assert self.append_bytes_max > 0
        assert self.in_flight_bytes_max > 0
