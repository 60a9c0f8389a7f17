"""Tasks that move only when a test says so: what trio does for the rare commands of a worker."""

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from imserver.errors import ImError


class Question:
    """What a task waits for: the answer of a call."""

    def __init__(self, tasks: "Tasks") -> None:
        self._tasks = tasks
        self.task: Coroutine[Any, Any, None] | None = None

    def answer(self, result: Any) -> None:
        assert self.task is not None
        task, tasks = self.task, self._tasks
        tasks.ready.append(lambda: tasks.go_on(task, result))

    def __await__(self) -> Generator["Question", Any, Any]:
        return (yield self)


class Tasks:
    """Runs the tasks of rare commands, one step at a time, when told to."""

    def __init__(self) -> None:
        self.ready: deque[Callable[[], None]] = deque()

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        self.ready.append(lambda: self.go_on(function(*arguments), None))

    def run(self) -> bool:
        """One task goes on until it waits again. False: all are waiting."""
        if not self.ready:
            return False
        self.ready.popleft()()
        return True

    def go_on(self, task: Coroutine[Any, Any, None], result: Any) -> None:
        try:
            question = task.throw(result) if isinstance(result, ImError) else task.send(result)
        except StopIteration:
            return
        question.task = task
