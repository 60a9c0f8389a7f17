"""What the operator asks for by signals.

SIGTERM, SIGINT     stop: drain the workers first; a second one: at once
SIGHUP              replace the workers one by one; if the terminal has gone away, stop
"""

import os
import signal
from collections.abc import Awaitable, Callable

import trio

from imserver.observe.log import get_logger

log = get_logger("supervisor")


class Stop:
    """Whether the server shall stop (`asked`), and whether it shall stop without draining (`hurry`)."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.hurry = trio.Event()

    def ask(self) -> None:
        if self.asked.is_set():
            self.hurry.set()
        self.asked.set()


class Terminal:
    """The terminal in which the server was started, if it was one."""

    def __init__(self) -> None:
        self._descriptors = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]

    def is_gone(self) -> bool:
        """Whether it went away since. Then nothing is written there any more: each attempt would be an error."""
        if not self._descriptors or any(map(os.isatty, self._descriptors)):
            return False
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in self._descriptors:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
        return True


async def heed_signals(
    stop: Stop,
    replace: Callable[[], None],
    terminal: Terminal,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Turns signals into `stop.ask()` and `replace()`, until cancelled."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            wants_new_workers = number == signal.SIGHUP and not terminal.is_gone()
            log.info("signal", signal=signal.Signals(number).name)
            if wants_new_workers:
                replace()
            else:
                stop.ask()


async def unless(event: trio.Event, work: Callable[[], Awaitable[None]]) -> None:
    """Runs `work`, but cancels it when `event` happens."""

    async def cancel_on_event() -> None:
        await event.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_on_event)
        await work()
        nursery.cancel_scope.cancel()
