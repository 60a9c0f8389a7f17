"""When a client comes back of its own accord: full jitter, so that those who were cut off together come back spread."""

from __future__ import annotations

import random

FIRST_SECONDS, MOST_SECONDS = 1.0, 30.0
_JITTER = 0.1


def backoff_seconds(failures: int) -> float:
    """Anything from 0 to a bound that doubles with each failure, from the first to the last."""
    return random.random() * min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures, 16))


def told_seconds(seconds: float) -> float:
    """What the server said, and a little more, so that not all come in the same instant."""
    return seconds * (1 + _JITTER * random.random())
