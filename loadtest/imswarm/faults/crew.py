"""The parent's side of the client processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection as Pipe
from types import TracebackType

from imswarm.children import Children, SwarmError
from imswarm.faults.client import client_main
from imswarm.faults.incidents import Incident
from imswarm.faults.plan import Done, News, Order, Plan

_TICK_SECONDS = 0.2
_GRACE_SECONDS = 60.0
"""An order that has a deadline is answered soon after it; one that is not, never is."""

Show = Callable[[int, int], None]
"""Called now and then with the devices that are live and the deliveries so far."""


class Crew:
    """Client processes, one for each plan, as a context manager. Every method may raise SwarmError."""

    def __init__(self, plans: Sequence[Plan], show: Show) -> None:
        self.troubles: list[str] = []
        self.incidents: list[Incident] = []
        self._show = show
        self._news: dict[Pipe, News] = {}
        self._children = Children(client_main, plans)

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._children.stop()

    def order(self, order: Order, seconds: float = 0.0) -> list[str]:
        """Give every process this order, which may take `seconds`; what did not happen in time, in words."""
        for pipe in self._children.pipes:
            pipe.send(order)
        missing: list[str] = []
        left, end = set(self._children.pipes), time.monotonic() + seconds + _GRACE_SECONDS
        while left:
            if time.monotonic() > end:
                raise SwarmError(f"{len(left)} client processes do not answer")
            for pipe, done in self._receive(_TICK_SECONDS):
                left.remove(pipe)
                missing += done.missing
        return missing

    def let_run(self, seconds: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Let the devices do what they do for so long, or until it is over."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not is_over():
            self._receive(min(left, _TICK_SECONDS))

    def _receive(self, longest_seconds: float) -> list[tuple[Pipe, Done]]:
        answers = []
        for pipe, message in self._children.receive(longest_seconds):
            if isinstance(message, Done):
                answers.append((pipe, message))
            else:
                self._news[pipe] = message
                self.troubles += message.troubles
                self.incidents += message.incidents
        news = self._news.values()
        self._show(sum(each.live for each in news), sum(each.delivered for each in news))
        return answers
