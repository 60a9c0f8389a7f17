"""The parent's side of the client processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection as Pipe
from types import TracebackType

from imswarm.children import Children
from imswarm.client_process import Order, Plan, Progress, ResumingPlan, client_main
from imswarm.report import Report
from imswarm.stats import Tally

_TICK_SECONDS = 0.5
_KINDS_SHOWN = 20

Show = Callable[[int, int], None]
"""Called now and then with the sessions open and the messages delivered in this stage."""


class Swarm:
    """Client processes, one for each plan, as a context manager.

    Every method raises SwarmError if a process has ended.
    """

    def __init__(self, plans: Sequence[Plan | ResumingPlan], show: Show) -> None:
        self._show = show
        self.errors: Counter[str] = Counter()  # of all processes, since the beginning
        self._progress: dict[Pipe, Progress] = {}
        self._children = Children(client_main, plans)

    def __enter__(self) -> Swarm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._children.stop()

    @property
    def pids(self) -> list[int]:
        return self._children.pids

    def order(self, order: Order) -> Tally:
        """Give this order to every process and wait until all have answered; the sum."""
        return self.order_each([order] * len(self._children.pipes))

    def order_each(self, orders: Sequence[Order]) -> Tally:
        """Give each process its own order, in the order of the plans."""
        for pipe, order in zip(self._children.pipes, orders, strict=True):
            pipe.send(order)
        answers: dict[Pipe, Tally] = {}
        while len(answers) < len(self._children.pipes):
            answers.update(self._receive(_TICK_SECONDS))
        tally = sum(answers.values(), Tally())
        self.errors += tally.errors
        return tally

    def let_run(self, seconds: float) -> None:
        """Let the processes do what they do for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._receive(min(left, _TICK_SECONDS))

    def report_errors(self) -> Report:
        """How many since the beginning, and the most frequent kinds."""
        kinds = dict(self.errors.most_common(_KINDS_SHOWN))
        return {"errors": self.errors.total(), "error_kinds": kinds}

    def _receive(self, longest_seconds: float) -> dict[Pipe, Tally]:
        """The answers that come next, at most one of each process."""
        answers = {}
        for pipe, message in self._children.receive(longest_seconds):
            if isinstance(message, Tally):
                answers[pipe] = message
            else:
                self._progress[pipe] = message
        progress = self._progress.values()
        self._show(sum(p.sessions for p in progress), sum(p.delivered for p in progress))
        return answers
