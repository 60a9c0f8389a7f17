"""The parent's side of the client processes."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import TracebackType

from imswarm.client_process import Order, Plan, Progress, client_main
from imswarm.report import Report
from imswarm.stats import Tally

_TICK_SECONDS = 0.5
_KINDS_SHOWN = 20
_STOP_SECONDS = 5.0

Show = Callable[[int, int], None]
"""Called now and then with the sessions open and the messages delivered in this stage."""


class SwarmError(Exception):
    """A client process ended, or the swarm could not do what the scenario needs."""


class Swarm:
    """Client processes, one for each plan, as a context manager.

    Every method raises SwarmError if a process has ended.
    """

    def __init__(self, plans: Sequence[Plan], show: Show) -> None:
        self._show = show
        self.errors: Counter[str] = Counter()  # of all processes, since the beginning
        self._progress: dict[Pipe, Progress] = {}
        self._processes: dict[Pipe, SpawnProcess] = dict(map(_started, plans))

    def __enter__(self) -> Swarm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for pipe, process in self._processes.items():
            pipe.close()
            process.join(_STOP_SECONDS)
            if process.is_alive():
                process.kill()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values() if process.pid]

    def order(self, order: Order) -> Tally:
        """Give this order to every process and wait until all have answered; the sum."""
        return self.order_each([order] * len(self._processes))

    def order_each(self, orders: Sequence[Order]) -> Tally:
        """Give each process its own order, in the order of the plans."""
        for pipe, order in zip(self._processes, orders, strict=True):
            pipe.send(order)
        answers: dict[Pipe, Tally] = {}
        while len(answers) < len(self._processes):
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
        for pipe in wait(list(self._processes), longest_seconds):
            assert isinstance(pipe, Pipe)
            message = self._message(pipe)
            if isinstance(message, Tally):
                answers[pipe] = message
            else:
                self._progress[pipe] = message
        progress = self._progress.values()
        self._show(sum(p.sessions for p in progress), sum(p.delivered for p in progress))
        return answers

    def _message(self, pipe: Pipe) -> Tally | Progress:
        try:
            message: Tally | Progress = pipe.recv()
        except (EOFError, ConnectionError):
            process = self._processes[pipe]
            process.join(_STOP_SECONDS)
            raise SwarmError(f"a client process ended with status {process.exitcode}") from None
        return message


def _started(plan: Plan) -> tuple[Pipe, SpawnProcess]:
    """Started anew, not forked: a fork would share the parent's descriptors."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=client_main, args=(plan, theirs), daemon=True)
    process.start()
    theirs.close()
    return ours, process
