"""Client processes as their parent has them: started, given orders, heard, stopped."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

_STOP_SECONDS = 5.0


class SwarmError(Exception):
    """A client process ended, or the swarm could not do what the scenario needs."""


class Children:
    """A process for each plan: `main(plan, pipe)`, which MUST end when its pipe does."""

    def __init__(self, main: Callable[[Any, Pipe], None], plans: Sequence[object]) -> None:
        self._processes: dict[Pipe, SpawnProcess] = {}
        for plan in plans:
            self._start(main, plan)

    def _start(self, main: Callable[[Any, Pipe], None], plan: object) -> None:
        """Anew, not by a fork, which would share the parent's descriptors."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=main, args=(plan, theirs), daemon=True)
        process.start()
        theirs.close()
        self._processes[ours] = process

    @property
    def pipes(self) -> list[Pipe]:
        """In the order of the plans."""
        return list(self._processes)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values() if process.pid]

    def receive(self, longest_seconds: float) -> list[tuple[Pipe, Any]]:
        """What comes next, at most one message of each process. Raises SwarmError if one has ended."""
        pipes = (pipe for pipe in wait(self.pipes, longest_seconds) if isinstance(pipe, Pipe))
        return [(pipe, self._message(pipe)) for pipe in pipes]

    def _message(self, pipe: Pipe) -> Any:
        try:
            return pipe.recv()
        except (EOFError, ConnectionError):
            process = self._processes[pipe]
            process.join(_STOP_SECONDS)
            raise SwarmError(f"a client process ended with status {process.exitcode}") from None

    def stop(self) -> None:
        for pipe in self._processes:
            pipe.close()
        for process in self._processes.values():
            process.join(_STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
