"""A line before the entrance: who comes in now, who waits, who is to come back, and when. Pure: time is an argument.

A bounded number is let in at once; whoever has come in makes room for the next. So the rate is what the store (or the
threads that hash passwords) can do, without being set: if it slows down, fewer come in. Those who would wait too long
are turned away with a *ticket*: when to come back, one after the other, at the rate at which the line moves. While they
are away they cost nothing.

The rate is an estimate, and the two mistakes differ: who returns too early costs one more refusal, who returns too late
waits at home while the line runs dry. So all is done on the early side: a rate that falls is believed slowly (while all
arrive, much of the worker's time goes into that alone), the first returns when half of the line has gone, and two
return for each who comes in.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from imserver.errors import Overloaded

_WINDOW_SECONDS = 0.5  # over which the rate is measured
_LEAST_RATE = 1.0
_DOUBT = 0.1  # so much of a fall of the rate is believed after each window
_RETURNS_PER_PLACE = 2
_TICKET_JITTER = 0.1

T = TypeVar("T")


class Line(Generic[T]):
    """In order of arrival. Whoever was let in MUST `leave`."""

    __slots__ = (
        "_at_once",
        "_booked_until",
        "_done",
        "_longest_retry",
        "_longest_wait",
        "_random",
        "_waiting",
        "_window_began",
        "rate",
        "under_way",
    )

    def __init__(
        self, *, at_once: int, longest_wait: float, longest_retry: float, rate: float, random: Callable[[], float]
    ) -> None:
        """Times are seconds; `rate`: how many a second come in, until that has been measured; `random`: 0 to 1."""
        self.rate = rate
        self.under_way = 0
        self._at_once = at_once
        self._longest_wait, self._longest_retry = longest_wait, longest_retry
        self._random = random
        self._waiting: deque[T] = deque()
        self._booked_until = 0.0  # when the last of those turned away is to come back
        # The rate is measured only while somebody waits: else it says how many come, not how many could.
        self._window_began: float | None = None
        self._done = 0  # in this window

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def wait(self) -> float:
        """How long one that came now would wait, in seconds."""
        return len(self._waiting) / self.rate

    @property
    def wait_share(self) -> float:
        """The same, as a share of the longest wait."""
        return self.wait / self._longest_wait

    def arrive(self, who: T, now: float) -> bool:
        """Whether its turn is now; else `leave` will give it. Raises Overloaded where the wait would be too long."""
        if self.under_way < self._at_once and not self._waiting:
            self.under_way += 1
            return True
        self._measure(now)
        if self.wait >= self._longest_wait:
            raise Overloaded("too many are coming in; wait for your turn", self._ticket(now))
        self._waiting.append(who)
        return False

    def leave(self, now: float) -> T | None:
        """One is through. Gives whose turn it is now, if somebody waits."""
        self.under_way -= 1
        if self._window_began is not None:
            self._done += 1
            self._measure(now)
        if not self._waiting:
            self._window_began = None
            return None
        self.under_way += 1
        return self._waiting.popleft()

    def _measure(self, now: float) -> None:
        if self._window_began is None:
            self._window_began, self._done = now, 0
            return
        seconds = now - self._window_began
        if seconds >= _WINDOW_SECONDS:
            measured = self._done / seconds
            self.rate = max(_LEAST_RATE, measured, self.rate + _DOUBT * (measured - self.rate))
            self._window_began, self._done = now, 0

    def _ticket(self, now: float) -> float:
        """Behind those who were turned away before."""
        self._booked_until = max(self._booked_until, now + self.wait / 2) + 1 / (_RETURNS_PER_PLACE * self.rate)
        seconds = self._booked_until - now
        if seconds > self._longest_retry:  # too far away to be exact: anywhere in the later half
            self._booked_until = now + self._longest_retry
            return round(self._longest_retry * (1 + self._random()) / 2, 3)
        return round(seconds * (1 + _TICKET_JITTER * self._random()), 3)
