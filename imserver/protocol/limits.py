"""How much a client may ask. Pure: the time is an argument."""


class TokenBucket:
    """`burst` tokens at most, filled at `rate` per second."""

    __slots__ = ("_tokens", "_updated")

    def __init__(self, burst: float, now: float) -> None:
        self._tokens = burst
        self._updated = now

    def take(self, cost: float, rate: float, burst: float, now: float) -> float:
        """Takes `cost` tokens; returns 0.0, or, having taken nothing, the seconds until there are enough.

        Rate and burst are arguments, not fields: there is one bucket for each session.
        """
        tokens = min(burst, self._tokens + (now - self._updated) * rate)
        self._updated = now
        if tokens < cost:
            self._tokens = tokens
            return (cost - tokens) / rate
        self._tokens = tokens - cost
        return 0.0
