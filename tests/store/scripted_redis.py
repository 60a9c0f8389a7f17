"""A Redis of which the test says what it sends, and when."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import trio

from tests.store.node import PATIENCE_SECONDS


class ScriptedRedis:
    """Completes handshakes by itself; what is asked later is for the test to read and to answer."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self.url = f"redis://127.0.0.1:{listener.socket.getsockname()[1]}"
        self.connections = 0
        self._asked_send, self._asked = trio.open_memory_channel[list[Any]](1000)
        self._stream: trio.SocketStream | None = None
        self._sending = trio.Lock()  # the test may go on before the task that confirmed the last subscription does

    async def asked(self) -> list[Any]:
        """The next command after a handshake."""
        with trio.fail_after(PATIENCE_SECONDS):
            return await self._asked.receive()

    def was_asked(self) -> bool:
        return self._asked.statistics().current_buffer_used > 0

    async def send(self, data: bytes) -> None:
        assert self._stream is not None
        async with self._sending:
            await self._stream.send_all(data)

    async def publish(self, message: bytes) -> None:
        await self.send(b">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$%d\r\n%b\r\n" % (len(message), message))

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        self._stream = stream
        reader = hiredis.Reader()
        async with stream:
            try:
                async for data in stream:
                    reader.feed(bytes(data))
                    while (command := reader.gets()) is not False:
                        await self._answer(command)
            except trio.BrokenResourceError:
                pass

    async def _answer(self, command: list[Any]) -> None:
        answer: Callable[[list[Any]], bytes] | None = _HANDSHAKE.get(command[0])
        if answer is None:
            await self._asked_send.send(command)
        else:
            await self.send(answer(command))


_HANDSHAKE: dict[bytes, Callable[[list[Any]], bytes]] = {
    b"HELLO": lambda _: b"%0\r\n",
    b"INFO": lambda _: b"$12\r\nrun_id:abc\r\n\r\n",
    b"FUNCTION": lambda command: b"*0\r\n" if command[1] == b"LIST" else b"+im_1\r\n",
    b"SSUBSCRIBE": lambda _: b">3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n",
}


@asynccontextmanager
async def scripted_redis() -> AsyncIterator[ScriptedRedis]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    redis = ScriptedRedis(listener)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, redis.serve, [listener])
        yield redis
        nursery.cancel_scope.cancel()
