"""How long to wait before a process that died is started again."""

FIRST_SECONDS = 0.1
LAST_SECONDS = 5.0
STEADY_SECONDS = 30.0  # who has run for so long did not die of what killed it the last time


class Backoff:
    """Twice as long after each early death. Pure: the caller measures and sleeps."""

    def __init__(self) -> None:
        self._next = FIRST_SECONDS

    def delay_after(self, ran_seconds: float) -> float:
        if ran_seconds >= STEADY_SECONDS:
            self._next = FIRST_SECONDS
        delay = self._next
        self._next = min(delay * 2, LAST_SECONDS)
        return delay
