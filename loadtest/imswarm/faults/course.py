"""The course of a run: each step is begun, waited for and mended, until all are done or the time is over."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType

from imswarm.faults.catalogue import FAULTS
from imswarm.faults.figures import Injury
from imswarm.faults.injuries import Scene
from imswarm.faults.schedule import Step
from imswarm.report import Progress


class Limit:
    """When to break nothing more: after so many seconds, or at Ctrl-C. What was done until then is judged."""

    def __init__(self, seconds: float = float("inf")) -> None:
        self._end = time.monotonic() + seconds
        self.was_interrupted = False

    @property
    def is_over(self) -> bool:
        return self.was_interrupted or time.monotonic() >= self._end

    @contextmanager
    def heeding_interrupts(self) -> Iterator[None]:
        """The first Ctrl-C ends the course, the second one the run."""
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.was_interrupted:
            raise KeyboardInterrupt
        self.was_interrupted = True


class _UnderWay:
    """A fault that has begun. It MUST be closed, which mends it; then it is waited for."""

    def __init__(self, scene: Scene, kind: str) -> None:
        self._victim = scene.victim
        self._context = ExitStack()
        self._kind, self._begin = kind, time.monotonic()
        self._is_back = self._context.enter_context(FAULTS[kind].inflict(scene))

    @property
    def seconds_left(self) -> float:
        return max(self._begin + FAULTS[self._kind].seconds - time.monotonic(), 0.0)

    def close(self) -> None:
        self._context.close()

    def wait_back(self) -> Injury:
        """Raises DeploymentError if the server does not come back."""
        self._victim.wait_until(self._is_back, f"what {self._kind} broke")
        return Injury(self._kind, self._begin, time.monotonic())


class Course:
    """`let_run` lets everybody talk for so many seconds, or less once `limit` is over."""

    def __init__(self, scene: Scene, let_run: Callable[[float], None], limit: Limit, progress: Progress) -> None:
        self._scene, self._let_run, self._limit, self._progress = scene, let_run, limit, progress

    def run(self, steps: Sequence[Step], pause_seconds: float) -> list[Injury]:
        """The faults as they happened, in the order in which they began. Raises DeploymentError, SwarmError."""
        injuries: list[Injury] = []
        total = sum(len(step.kinds) for step in steps)
        for step in steps:
            if self._limit.is_over:
                break
            self._progress.stage(f"fault {len(injuries) + 1} of {total}: {' with '.join(step.kinds)}")
            injuries += self._take(step)
            self._let_run(pause_seconds)
        return injuries

    def _take(self, step: Step) -> list[Injury]:
        with ExitStack() as stack:
            under_way = [self._begin(stack, step.kinds[0])]
            for kind in step.kinds[1:]:
                self._let_run(under_way[0].seconds_left * step.after)
                under_way.append(self._begin(stack, kind))
            for fault in sorted(under_way, key=lambda fault: fault.seconds_left):
                self._let_run(fault.seconds_left)
                fault.close()
        return [fault.wait_back() for fault in under_way]

    def _begin(self, stack: ExitStack, kind: str) -> _UnderWay:
        fault = _UnderWay(self._scene, kind)
        stack.callback(fault.close)
        return fault
