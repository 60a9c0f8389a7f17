"""One worker process and its control channel: JSON objects, one a line, over a socket pair.

    supervisor                                                   worker
    {"do":"start","settings":{...},"tcp_fds":[...],...}  ->
                                                         <-  {"ready":{"node":"k3f9x2ab","pid":123}}
    {"do":"statistics","ref":7}                          ->
                                                         <-  {"re":7,"statistics":{...}}
    {"do":"drain","seconds":10.0}                        ->  closes its sessions gently, exits 0
    (end of the channel)                                 ->  closes its sessions, exits at once

**Invariant: at most one question is unanswered.** A worker that hangs is asked once, not once per scrape, so a line
to it never blocks half-written, and the next one (`drain`) is never glued to a torn one.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import trio

from imserver.config import Settings
from imserver.observe.log import get_logger
from imserver.observe.metrics import Statistics
from imserver.store.keeper import described

log = get_logger("supervisor")

WORKER_COMMAND = (sys.executable, "-m", "imserver.worker")
READY_SECONDS = 60.0  # for links and subscriptions to be proven, on a machine that is busy
STATISTICS_SECONDS = 2.0  # well below the time-out of a scrape
DRAIN_GRACE_SECONDS = 5.0  # beyond the drain itself, for writing what is still queued
DISMISS_SECONDS = 5.0  # for one `bye` per session, and the store being told that they left
_LINE_BYTES_MAX = 1 << 20


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


class _Ready(msgspec.Struct):
    node: str
    pid: int


class _Line(msgspec.Struct):
    """What a worker says: one of these."""

    ready: _Ready | None = None
    re: int | None = None
    statistics: Statistics | None = None


class WorkerFailed(Exception):
    """The worker ended, or was ended, before it was ready."""


class WorkerProcess:
    """`run` MUST be running for anything to happen; `ended` is set when the process is gone."""

    def __init__(self, number: int, launch: Launch) -> None:
        self.number = number
        self.node = ""  # until it is ready
        self.pid = 0
        self.started = trio.current_time()
        self.leaving = False  # its end is wanted
        self.statistics: Statistics | None = None  # the last it gave
        self.ended = trio.Event()
        self._launch = launch
        self._life = trio.CancelScope()
        self._settled = trio.Event()  # ready, or ended
        self._process: trio.Process | None = None
        self._asked = 0
        self._answer: trio.Event | None = None  # while a question is unanswered
        self._sending = trio.Lock()

    # -- the life of the process

    async def run(self) -> None:
        """From start to end. When cancelled, kills it."""
        ours, theirs = trio.socket.socketpair()
        self._channel = trio.SocketStream(ours)
        try:
            with self._life, theirs:
                async with self._channel:
                    await self._live(theirs)
        except* OSError as errors:
            log.error("worker can't be started", worker=self.number, why=str(errors.exceptions[0]))
        finally:
            self.ended.set()
            self._settled.set()
            if self._answer is not None:
                self._answer.set()

    async def _live(self, theirs: trio.socket.SocketType) -> None:
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(self._processing(theirs.fileno()))
            theirs.close()  # else the end of the process would not end the channel
            self._process, self.pid = process, process.pid
            nursery.start_soon(self._hear, process)
            await self._tell(self._launch.first_line(self.number))
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

    @property
    def end(self) -> str:
        """How the process ended."""
        status = self._process.returncode if self._process else None
        return described(status) if status is not None else "it never ran"

    async def drain(self, seconds: float) -> None:
        """Lets it send its clients elsewhere over `seconds`. Returns when it has ended, by force if need be."""
        self.leaving = True
        with trio.move_on_after(seconds + DRAIN_GRACE_SECONDS):
            await self._tell({"do": "drain", "seconds": seconds})
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

    # -- statistics

    async def ask_statistics(self) -> Statistics | None:
        """Its statistics; None if it has ended or does not answer within STATISTICS_SECONDS."""
        if self.ended.is_set():
            return None
        with trio.move_on_after(STATISTICS_SECONDS):
            answer = self._answer if self._answer is not None else await self._ask()
            await answer.wait()
            return None if self.ended.is_set() else self.statistics
        return None

    async def _ask(self) -> trio.Event:
        answer = self._answer = trio.Event()
        self._asked += 1
        await self._tell({"do": "statistics", "ref": self._asked})
        return answer

    # -- the channel

    async def _tell(self, message: dict[str, Any]) -> None:
        try:
            async with self._sending:
                await self._channel.send_all(msgspec.json.encode(message) + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("worker hears nothing any more", worker=self.number, pid=self.pid)

    async def _hear(self, process: trio.Process) -> None:
        """Until the channel ends. A worker that can't be understood is of no use: it is killed, and so replaced."""
        try:
            await self._hear_lines()
        except msgspec.MsgspecError as error:
            log.error("worker is not understood, killing it", worker=self.number, pid=self.pid, why=str(error))
            process.kill()  # not `self.kill`: its end is a crash, and it is started again
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("control channel is broken", worker=self.number, pid=self.pid)

    async def _hear_lines(self) -> None:
        buffer = bytearray()
        async for chunk in self._channel:
            *lines, rest = (buffer + chunk).split(b"\n")
            for line in lines:
                self._on_line(msgspec.json.decode(line, type=_Line))
            if len(rest) > _LINE_BYTES_MAX:
                raise msgspec.DecodeError(f"a line of more than {_LINE_BYTES_MAX} bytes")
            buffer = rest

    def _on_line(self, line: _Line) -> None:
        if line.ready is not None:
            self.node = line.ready.node
            self._settled.set()
        elif line.statistics is not None and line.re == self._asked and self._answer is not None:
            self.statistics = line.statistics
            self._answer.set()
            self._answer = None
        else:
            log.warning("worker says what nobody asked", worker=self.number, pid=self.pid)


async def _kill(process: trio.Process) -> None:
    process.kill()
