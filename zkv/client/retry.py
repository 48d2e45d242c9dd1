"""Which failures are tried again, when, and for how long a silent endpoint is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from zkv.errors import ConfigError, LeaderChanged, RetryableError, StreamLost, Unavailable, ZkvError

if TYPE_CHECKING:
    from random import Random


RETRY_AFTER_MS_MAX = 60_000
"""No member is believed that wants to be spared for longer."""


class RetryPolicy(NamedTuple):
    """A retry never outlives the call's deadline, and a write's never the time its answer is kept for.

    A lost connection and an endpoint that says nothing count as `Unavailable`. `RetryPolicy(errors=())` passes
    every failure on to the caller at once.
    """

    errors: tuple[type[ZkvError], ...] = (RetryableError,)
    """Errors (and all below them in the tree) that are tried again."""
    at_once: tuple[type[ZkvError], ...] = (LeaderChanged, Unavailable, StreamLost)
    """Of these, the ones whose first retry waits for nothing: another endpoint can serve now."""
    backoff_ms_min: int = 20
    """The first wait; each further one is twice as long ..."""
    backoff_ms_max: int = 400
    """... up to this. Half of each wait is chance, so that clients refused together do not return together."""
    silence_ms: int = 1000
    """An endpoint that owes an answer and says nothing for this long is passed over for another one; less finds a
    hanging member sooner, more spares a slow one double work."""
    suspect_ms: int = 1000
    """For this long after a failure an endpoint is only taken when no other one is connected."""

    def checked(self) -> Self:
        """Itself, if its times are what they are to be. Raises ConfigError."""
        if any(type(time) is not int for time in self[2:]):
            raise ConfigError("the times of a RetryPolicy are whole milliseconds")
        return self

    def covers(self, error: ZkvError) -> bool:
        return isinstance(error, self.errors)

    def delay_ms(self, error: ZkvError, tries: int, rng: Random) -> int:
        """How long to wait after failure number `tries` (from 1). Not shorter than the member said, if it did."""
        if error.retry_after_ms:
            return error.retry_after_ms + int(rng.random() * min(error.retry_after_ms, self.backoff_ms_max))
        if tries == 1 and isinstance(error, self.at_once):
            return 0
        wait = min(self.backoff_ms_max, self.backoff_ms_min << min(tries - 1, 16))
        return wait - int(rng.random() * wait / 2)
