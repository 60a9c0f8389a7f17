"""How long to wait before the next attempt to connect."""

from collections.abc import Callable

FIRST_SECONDS = 1.0
MOST_SECONDS = 30.0
HINT_JITTER = 0.1


class Backoff:
    """Full jitter: anything from 0 to a bound that doubles from 1 s to 30 s, so that clients don't return in step.

    What the server has said is never undercut, and exceeded by a tenth at most: it spreads its clients itself.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 to 1."""
        self._random = random
        self._failures = 0

    def next_delay(self, hint: float | None = None) -> float:
        """Seconds. `hint`: when the server said to come back."""
        if hint is not None:
            return hint * (1 + HINT_JITTER * self._random())
        bound = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return bound * self._random()

    def reset(self) -> None:
        """The connection has proven itself."""
        self._failures = 0
