"""An epoll loop with timers: many sockets, one thread, plain calls."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from dataclasses import dataclass

_BATCH = 256
_COARSE_SECONDS = 0.005

Handler = Callable[[int], None]


@dataclass(slots=True)
class _Timer:
    due: float
    interval_seconds: float
    call: Callable[[], None]


class ClientLoop:
    """Calls a descriptor's handler with the epoll events that came, and timers when due."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[_Timer] = []
        self._next_due = float("inf")

    def register(self, descriptor: int, events: int, handler: Handler) -> None:
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, events)

    def modify(self, descriptor: int, events: int, handler: Handler) -> None:
        self._handlers[descriptor] = handler
        self._epoll.modify(descriptor, events)

    def unregister(self, descriptor: int) -> None:
        """The caller closes the descriptor next. Events of the same batch are then dropped."""
        del self._handlers[descriptor]
        self._epoll.unregister(descriptor)

    def every(self, interval_seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(_Timer(time.monotonic() + interval_seconds, interval_seconds, call))
        self._next_due = min(timer.due for timer in self._timers)

    def step(self, longest_seconds: float) -> None:
        """Wait at most so long for events, then handle one batch of them and the timers due."""
        handlers = self._handlers
        for descriptor, events in self._wait(longest_seconds):
            handler = handlers.get(descriptor)
            if handler is not None:
                handler(events)
        now = time.monotonic()
        if now >= self._next_due:
            self._run_timers(now)

    def _wait(self, longest_seconds: float) -> list[tuple[int, int]]:
        """Wait with epoll, which counts in whole milliseconds; for a short time with select, which is finer.

        The epoll descriptor is made before all others, hence below select's bound of 1,024.
        """
        if 0 < longest_seconds < _COARSE_SECONDS:
            select.select((self._epoll.fileno(),), (), (), longest_seconds)
            longest_seconds = 0
        return self._epoll.poll(longest_seconds, _BATCH)

    def _run_timers(self, now: float) -> None:
        for timer in self._timers:
            if now >= timer.due:
                timer.due = now + timer.interval_seconds
                timer.call()
        self._next_due = min(timer.due for timer in self._timers)
