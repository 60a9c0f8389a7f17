"""A worker's side of the channel to its supervisor: JSON objects, one a line."""

import socket
from typing import TYPE_CHECKING

import msgspec
import trio

from imserver.config import Settings

if TYPE_CHECKING:
    from imserver.worker import Worker


class Start(msgspec.Struct):
    """The supervisor's first line."""

    settings: Settings
    tcp_fds: list[int]
    http_fds: list[int]
    redis: str
    number: int


class Request(msgspec.Struct):
    """Its later ones."""

    do: str
    ref: int | None = None
    seconds: float = 0.0


class Control:
    """The channel to the supervisor: JSON objects, one a line."""

    def __init__(self, sock: socket.socket) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._buffer = b""

    async def receive(self) -> bytes | None:
        """The next line, None at the end."""
        while b"\n" not in self._buffer:
            try:
                data = await self._stream.receive_some()
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    async def send(self, message: object) -> None:
        try:
            await self._stream.send_all(msgspec.json.encode(message) + b"\n")
        except trio.BrokenResourceError:
            pass  # `receive` is about to see the end

    async def serve(self, worker: "Worker") -> None:
        """Answers until told to drain, or until the supervisor is gone."""
        while (line := await self.receive()) is not None:
            request = msgspec.json.decode(line, type=Request)
            if request.do == "statistics":
                await self.send({"re": request.ref, "statistics": worker.statistics()})
            elif request.do == "drain":
                await worker.drain(request.seconds)
                return
        await worker.abandon()
