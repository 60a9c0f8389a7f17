"""How long to wait before the next attempt to connect."""

from collections.abc import Callable

FIRST_SECONDS = 1.0
MOST_SECONDS = 30.0


class Backoff:
    """Full jitter: anything from 0 to a bound that doubles from 1 s to 30 s, so that clients don't return in step."""

    def __init__(self, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 to 1."""
        self._random = random
        self._failures = 0

    def next_delay(self) -> float:
        """Seconds."""
        bound = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return bound * self._random()

    def reset(self) -> None:
        """The connection has proven itself."""
        self._failures = 0
