"""The control channel between supervisor and worker: JSON objects, one a line, over a socket pair.

    supervisor                                                   worker
    {"do":"start","settings":{...},"tcp_fds":[...],...}  ->
                                                         <-  {"ready":{"node":"k3f9x2ab","pid":123}}
    {"do":"statistics","ref":7}                          ->
                                                         <-  {"re":7,"statistics":{...}}
    {"do":"drain","seconds":10.0}                        ->  closes its sessions gently, exits 0
    (end of the channel)                                 ->  closes its sessions, exits at once

**Invariant: at most one question is unanswered.** A worker that hangs is asked once, not once per scrape: so a line to
it never blocks half-written, and the next one (`drain`) is never glued to a torn one.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import trio

from imserver.observe.log import get_logger
from imserver.observe.metrics import Statistics

log = get_logger("supervisor")

STATISTICS_SECONDS = 2.0  # well below the time-out of a scrape
_LINE_BYTES_MAX = 1 << 20


class NotUnderstood(Exception):
    """The worker says what is not in the protocol above."""


class _Ready(msgspec.Struct):
    node: str
    pid: int


class _Line(msgspec.Struct):
    """What a worker says: one of these."""

    ready: _Ready | None = None
    re: int | None = None
    statistics: Statistics | None = None


class ControlChannel(trio.abc.AsyncResource):
    """The supervisor's end of it. `hear` MUST be running."""

    def __init__(self, stream: trio.SocketStream, on_ready: Callable[[str], None]) -> None:
        """`on_ready` gets the worker's node."""
        self.statistics: Statistics | None = None  # the last it gave
        self._stream, self._on_ready = stream, on_ready
        self._sending = trio.Lock()
        self._asked = 0
        self._answer: trio.Event | None = None  # while a question is unanswered
        self._has_ended = False

    async def tell(self, message: dict[str, Any]) -> None:
        """Sends one line, if anybody is there to read it."""
        try:
            async with self._sending:
                await self._stream.send_all(msgspec.json.encode(message) + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("worker hears nothing any more")

    async def ask_statistics(self) -> Statistics | None:
        """What the worker says now; None if it does not answer within STATISTICS_SECONDS."""
        with trio.move_on_after(STATISTICS_SECONDS):
            if not self._has_ended:
                answer = self._answer if self._answer is not None else await self._ask()
                await answer.wait()
            return None if self._has_ended else self.statistics
        return None

    async def _ask(self) -> trio.Event:
        answer = self._answer = trio.Event()
        self._asked += 1
        await self.tell({"do": "statistics", "ref": self._asked})
        return answer

    async def aclose(self) -> None:
        """Tells the worker to go at once."""
        await self._stream.aclose()

    async def hear(self) -> None:
        """Until the channel ends. Raises NotUnderstood."""
        try:
            await self._hear_lines()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("control channel is broken")
        except msgspec.MsgspecError as error:
            raise NotUnderstood(str(error)) from error
        finally:
            self._has_ended = True
            if self._answer is not None:
                self._answer.set()

    async def _hear_lines(self) -> None:
        rest = b""
        async for chunk in self._stream:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._on_line(msgspec.json.decode(line, type=_Line))
            if len(rest) > _LINE_BYTES_MAX:
                raise NotUnderstood(f"a line of more than {_LINE_BYTES_MAX} bytes")

    def _on_line(self, line: _Line) -> None:
        if line.ready is not None:
            self._on_ready(line.ready.node)
        elif line.statistics is not None and line.re == self._asked and self._answer is not None:
            self.statistics = line.statistics
            self._answer.set()
            self._answer = None
        else:
            raise NotUnderstood("an answer to what nobody asked")
