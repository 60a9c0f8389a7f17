"""A small TCP proxy between a link and Redis, which breaks what a network breaks, at the byte where it is told to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import trio

Direction = Literal["to_redis", "from_redis"]
_CHUNK = 65536
PATIENCE_SECONDS = 20.0


class Proxy:
    """`run` MUST be running. Everything below applies from now on, to all connections."""

    def __init__(self, listener: trio.SocketListener, redis_port: int) -> None:
        self.url = f"redis://127.0.0.1:{listener.socket.getsockname()[1]}"
        self.connections = 0
        self.is_deaf = False  # nothing published comes through
        self._listener, self._redis_port = listener, redis_port
        self._open: set[trio.CancelScope] = set()
        self._budget: dict[Direction, int] = {}
        self._flowing = trio.Event()
        self._flowing.set()
        self.passed = b""  # the last of what came from Redis
        self._more = trio.Event()

    def cut(self) -> None:
        """Ends all connections."""
        for scope in self._open:
            scope.cancel()

    def cut_after(self, direction: Direction, count: int) -> None:
        """Ends all connections after so many more bytes in this direction."""
        self._budget[direction] = count

    def lead_to(self, redis_port: int) -> None:
        """New connections go there."""
        self._redis_port = redis_port

    def stall(self) -> None:
        """Nothing moves any more, and nobody is told."""
        self._flowing = trio.Event()

    def resume(self) -> None:
        self._flowing.set()

    async def wait_passed(self, text: bytes) -> None:
        """Until this was among what came from Redis last."""
        with trio.fail_after(PATIENCE_SECONDS):
            while text not in self.passed:
                await self._more.wait()

    def _note(self, data: bytes) -> None:
        self.passed = (self.passed + data)[-_CHUNK:]
        self._more.set()
        self._more = trio.Event()

    async def run(self) -> None:
        await trio.serve_listeners(self._serve, [self._listener])

    async def _serve(self, client: trio.SocketStream) -> None:
        self.connections += 1
        with trio.CancelScope() as scope:
            self._open.add(scope)
            try:
                redis = await trio.open_tcp_stream("127.0.0.1", self._redis_port)
                async with redis, client, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, client, redis, "to_redis", scope)
                    nursery.start_soon(self._pump, redis, client, "from_redis", scope)
            except* OSError:
                pass  # Redis is away, or somebody has gone: that is what a broken connection looks like
            finally:
                self._open.discard(scope)
        await trio.aclose_forcefully(client)

    async def _pump(
        self, source: trio.SocketStream, sink: trio.SocketStream, direction: Direction, scope: trio.CancelScope
    ) -> None:
        try:
            while data := await source.receive_some(_CHUNK):
                await self._flowing.wait()
                if self.is_deaf:
                    data = data.replace(b"smessage", b"nmessage")
                left = self._budget.get(direction, len(data) + 1)
                await sink.send_all(data[:left])
                if direction == "from_redis":
                    self._note(data[:left])
                if direction in self._budget:
                    self._budget[direction] = left - len(data)
                    if left <= len(data):
                        del self._budget[direction]
                        self.cut()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def proxied(redis_port: int) -> AsyncIterator[Proxy]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = Proxy(listener, redis_port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.run)
        yield proxy
        nursery.cancel_scope.cancel()
