"""One worker process: started with its share of the listening sockets, watched, drained, and ended if need be."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from imserver.config import Settings
from imserver.observe.log import get_logger
from imserver.observe.metrics import Statistics
from imserver.store.keeper import described
from imserver.supervisor.control import ControlChannel, NotUnderstood

log = get_logger("supervisor")

WORKER_COMMAND = (sys.executable, "-m", "imserver.worker")
READY_SECONDS = 60.0  # for links and subscriptions to be proven, on a machine that is busy
DRAIN_GRACE_SECONDS = 5.0  # beyond the drain itself, for writing what is still queued
DISMISS_SECONDS = 5.0  # for one `bye` per session, and the store being told that they left


@dataclass(frozen=True, slots=True)
class Launch:
    """What is the same for all workers."""

    settings: Settings
    tcp_fds: list[int]
    http_fds: list[int]
    redis: str
    held_fds: tuple[int, ...]  # a worker merely keeps them open, which says that it lives: see `store.keeper`
    command: Sequence[str] = WORKER_COMMAND  # the descriptor of the control channel is added

    def first_line(self, number: int) -> dict[str, Any]:
        return {
            "do": "start",
            "settings": self.settings,
            "tcp_fds": self.tcp_fds,
            "http_fds": self.http_fds,
            "redis": self.redis,
            "number": number,
        }


class WorkerFailed(Exception):
    """The worker ended, or was ended, before it was ready."""


class WorkerProcess:
    """`run` MUST be running for anything to happen; `ended` is set when the process is gone."""

    def __init__(self, number: int, launch: Launch) -> None:
        """Raises OSError when the system has no descriptors left."""
        self.number = number
        self.node = ""  # until it is ready
        self.started = trio.current_time()
        self.leaving = False  # its end is wanted
        self.ended = trio.Event()
        self._launch = launch
        self._life = trio.CancelScope()
        self._settled = trio.Event()  # ready, or ended
        self._process: trio.Process | None = None
        ours, self._theirs = trio.socket.socketpair()
        self._channel = ControlChannel(trio.SocketStream(ours), self._on_ready)

    # -- the life of the process

    async def run(self) -> None:
        """From start to end. When cancelled, kills it."""
        try:
            with self._life, self._theirs:
                async with self._channel:
                    await self._live()
        except* OSError as errors:
            log.error("worker can't be started", worker=self.number, why=str(errors.exceptions[0]))
        finally:
            self.ended.set()
            self._settled.set()

    async def _live(self) -> None:
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(self._processing(self._theirs.fileno()))
            self._theirs.close()  # else the end of the process would not end the channel
            self._process = process
            nursery.start_soon(self._hear, process)
            await self._channel.tell(self._launch.first_line(self.number))
            await process.wait()
            nursery.cancel_scope.cancel()

    def _processing(self, control: int) -> "partial[Any]":
        launch = self._launch
        return partial(
            trio.run_process,
            [*launch.command, str(control)],
            stdin=subprocess.DEVNULL,
            pass_fds=(control, *launch.tcp_fds, *launch.http_fds, *launch.held_fds),
            check=False,
            deliver_cancel=_kill,
            process_group=0,  # the terminal's Ctrl-C is the supervisor's business: it drains
        )

    async def _hear(self, process: trio.Process) -> None:
        try:
            await self._channel.hear()
        except NotUnderstood as error:
            log.error("worker is not understood, killing it", worker=self.number, pid=self.pid, why=str(error))
            process.kill()  # not `self.kill`: this is a crash, and the worker is started again

    def _on_ready(self, node: str) -> None:
        self.node = node
        self._settled.set()

    async def wait_ready(self) -> None:
        """Raises WorkerFailed if the process ends instead, or is too late and therefore killed."""
        try:
            with trio.move_on_after(READY_SECONDS):
                await self._settled.wait()
        finally:
            if not self.node:
                self.kill()
        if not self.node:
            why = self.end if self.ended.is_set() else f"not ready within {READY_SECONDS:g} s"
            raise WorkerFailed(f"worker {self.number} did not start: {why}")

    async def drain(self, seconds: float) -> None:
        """Lets it send its clients elsewhere over `seconds`. Returns when it has ended, by force if need be."""
        self.leaving = True
        with trio.move_on_after(seconds + DRAIN_GRACE_SECONDS):
            await self._channel.tell({"do": "drain", "seconds": seconds})
            await self.ended.wait()
        await self._make_sure()

    async def dismiss(self) -> None:
        """The same at once."""
        self.leaving = True
        await self._channel.aclose()
        with trio.move_on_after(DISMISS_SECONDS):
            await self.ended.wait()
        await self._make_sure()

    async def _make_sure(self) -> None:
        if not self.ended.is_set():
            log.warning("worker does not end by itself, killing it", worker=self.number, pid=self.pid)
            self.kill()
            await self.ended.wait()

    def kill(self) -> None:
        """Ends the process whatever it is doing; `ended` comes soon."""
        self.leaving = True
        self._life.cancel()

    # -- what is known of it

    @property
    def pid(self) -> int:
        """0 before it is started."""
        return self._process.pid if self._process else 0

    @property
    def end(self) -> str:
        """How the process ended."""
        status = self._process.returncode if self._process else None
        return described(status) if status is not None else "it never ran"

    @property
    def statistics(self) -> Statistics | None:
        """The last it gave."""
        return self._channel.statistics

    async def ask_statistics(self) -> Statistics | None:
        """What it says now; None if it has ended, or does not answer in time."""
        return await self._channel.ask_statistics()


async def _kill(process: trio.Process) -> None:
    process.kill()
