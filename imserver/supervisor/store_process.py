"""The embedded store as the supervisor runs it: the keeper, and the store that the keeper keeps."""

import os
import subprocess
from collections.abc import Callable
from functools import partial

import trio

from imserver.errors import SetupError
from imserver.observe.log import get_logger
from imserver.store.embedded import KEEPER_STOP_SECONDS, POLL_SECONDS, EmbeddedStore
from imserver.store.keeper import described
from imserver.supervisor.backoff import Backoff

log = get_logger("supervisor")

_PATIENCE_SECONDS = 10.0  # loading the data can take minutes; say now and then that it does


class StoreProcess:
    """Keeps the embedded store running. `held_fd` MUST be inherited by every worker."""

    def __init__(self, store: EmbeddedStore, lock_fd: int, changed: Callable[[], None]) -> None:
        """`lock_fd`: of `children.lock`. `changed`: called when the store runs under another process id."""
        self.store = store
        self.pid: int | None = None
        self.restarts = 0
        self._lock_fd, self._changed = lock_fd, changed
        self._life_fd, self.held_fd = os.pipe()
        self._released, self._ended = trio.Event(), trio.Event()
        self._is_answering = False

    async def stop(self) -> None:
        """To be called when no worker is left: the keeper stops the store, and `run` returns."""
        self._released.set()
        os.close(self.held_fd)
        with trio.move_on_after(KEEPER_STOP_SECONDS):
            await self._ended.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Starts the store, and again whenever it dies. Started when it answers; raises SetupError if it never does."""
        backoff = Backoff()
        try:
            while not self._released.is_set():
                began = trio.current_time()
                end = await self._run_to_its_end(task_status)
                if not self._released.is_set():
                    delay = backoff.delay_after(trio.current_time() - began)
                    log.error("embedded store ended, starting it again", end=end, after_seconds=delay)
                    await self._pause(delay)
        finally:
            os.close(self._life_fd)
            self.store.clean_up()
            self._ended.set()

    async def _pause(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._released.wait()
        self.restarts += not self._released.is_set()

    async def _run_to_its_end(self, task_status: trio.TaskStatus[None]) -> str:
        """How it ended. Raises SetupError if it has never answered: then no second attempt mends it."""
        try:
            return await self._run_once(task_status)
        except SetupError as error:
            if self.pid is None and not self._released.is_set():
                raise
            return str(error)

    async def _run_once(self, task_status: trio.TaskStatus[None]) -> str:
        """How the keeper ended. Raises SetupError if the store did not come to answer."""
        self._is_answering = False
        await trio.to_thread.run_sync(self.store.prepare)
        command = self.store.keeper_command(self._life_fd, self._lock_fd)
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(
                partial(
                    trio.run_process,
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(self._life_fd, self._lock_fd),
                    check=False,
                    deliver_cancel=_stop_keeper,
                    process_group=0,  # Ctrl-C in the terminal MUST NOT stop the store before the workers
                )
            )
            nursery.start_soon(self._await_answer, task_status)
            status = await process.wait()
            nursery.cancel_scope.cancel()
        if not self._is_answering:
            raise self.store.failure(status)
        return described(status)

    async def _await_answer(self, task_status: trio.TaskStatus[None]) -> None:
        say_at = trio.current_time() + _PATIENCE_SECONDS
        while (pid := await trio.to_thread.run_sync(self.store.answering_pid, abandon_on_cancel=True)) is None:
            if trio.current_time() >= say_at:
                log.info("embedded store is still loading its data")
                say_at += _PATIENCE_SECONDS
            await trio.sleep(POLL_SECONDS)
        is_first, self.pid, self._is_answering = self.pid is None, pid, True
        log.info("embedded store runs", server=self.store.server.name, pid=pid)
        self._changed()
        if is_first:
            task_status.started()


async def _stop_keeper(process: trio.Process) -> None:
    process.terminate()
    await trio.sleep(KEEPER_STOP_SECONDS)
    process.kill()
