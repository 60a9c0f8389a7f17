"""How much a client may ask. Pure: the time is an argument."""

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """What all buckets of a server have in common: `burst` tokens at most, filled at `rate` per second."""

    rate: float
    burst: float


class TokenBucket:
    """The tokens of one session."""

    __slots__ = ("_tokens", "_updated")

    def __init__(self, burst: float, now: float) -> None:
        self._tokens = burst
        self._updated = now

    def take(self, cost: float, limits: Limits, now: float) -> float:
        """Takes `cost` tokens; returns 0.0, or, having taken nothing, the seconds until there are enough."""
        tokens = self._tokens + (now - self._updated) * limits.rate
        if tokens > limits.burst:  # noqa: PLR1730 - a call of `min` costs more than all the rest here
            tokens = limits.burst
        self._updated = now
        if tokens < cost:
            self._tokens = tokens
            return (cost - tokens) / limits.rate
        self._tokens = tokens - cost
        return 0.0
