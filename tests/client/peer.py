"""The model server behind memory streams, or behind a listener: what `imclient.connect` can be pointed at."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio
import h11
import trio
import trio.testing
from anyio.abc import ByteStream
from imclient.address import Address
from wsproto.connection import ConnectionType

from imserver.protocol.framing import Framing, LineFraming, WebSocketFraming
from tests.client.model_server import ModelServer, ModelSession

MAX_FRAME = 65536


class Dialled(ByteStream):
    """A stream of trio's as one of anyio's."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def receive(self, max_bytes: int = 65536) -> bytes:
        with _translated():
            data = bytes(await self._stream.receive_some(max_bytes))
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        with _translated():
            await self._stream.send_all(item)

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except trio.BrokenResourceError:
        raise anyio.BrokenResourceError from None
    except trio.ClosedResourceError:
        raise anyio.ClosedResourceError from None


@dataclass
class Peer:
    """`dial` is for `imclient.connect`. Its streams are served in `nursery`."""

    nursery: trio.Nursery
    server: ModelServer = field(default_factory=ModelServer)
    refuses: bool = False  # nobody listens
    is_mute: bool = False  # takes everything and says nothing
    early: bytes = b""  # sent in one piece with the answer to a handshake
    dialled: list[float] = field(default_factory=list)
    sessions: list[ModelSession] = field(default_factory=list)
    _streams: list[trio.abc.Stream] = field(default_factory=list)
    _pokes: list[Callable[[], None]] = field(default_factory=list)

    async def dial(self, address: Address) -> ByteStream:
        self.dialled.append(trio.current_time())
        if self.refuses:
            raise OSError(111, "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.serve, theirs, address.kind.is_websocket)
        return Dialled(ours)

    async def cut(self) -> None:
        """All connections break."""
        for stream in list(self._streams):
            await trio.aclose_forcefully(stream)

    def poke(self) -> None:
        """What the test has put into a session's `out` is sent."""
        for poke in self._pokes:
            poke()

    async def serve(self, stream: trio.abc.Stream, is_websocket: bool) -> None:
        self._streams.append(stream)
        try:
            await self._serve(stream, is_websocket)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # cut, or left
        finally:
            self._streams.remove(stream)

    async def _serve(self, stream: trio.abc.Stream, is_websocket: bool) -> None:
        framing: Framing = LineFraming(MAX_FRAME)
        if is_websocket:
            await answer_handshake(stream, self.early)
            framing = WebSocketFraming(MAX_FRAME, ConnectionType.SERVER)
        session = self.server.connect()
        self.sessions.append(session)
        sender, receiver = trio.open_memory_channel[None](1)
        poke = partial(_poke, sender)
        self._pokes.append(poke)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, stream, framing, session, receiver)
            try:
                await self._read(stream, framing, session)
            finally:
                session.close()
                self._pokes.remove(poke)
                nursery.cancel_scope.cancel()

    async def _read(self, stream: trio.abc.Stream, framing: Framing, session: ModelSession) -> None:
        while data := await stream.receive_some():
            for frame in framing.receive(bytes(data)):
                if not self.is_mute:
                    session.receive(frame)
            self.poke()

    async def _write(
        self,
        stream: trio.abc.Stream,
        framing: Framing,
        session: ModelSession,
        poked: "trio.MemoryReceiveChannel[None]",
    ) -> None:
        async for _ in poked:
            frames = [session.out.popleft() for _ in range(len(session.out))]
            data = framing.take_replies() + b"".join(map(framing.encode, frames))
            if data:
                await stream.send_all(data)


def _poke(sender: "trio.MemorySendChannel[None]") -> None:
    try:
        sender.send_nowait(None)
    except trio.WouldBlock:
        pass  # poked already


async def answer_handshake(stream: trio.abc.Stream, early: bytes = b"") -> None:
    connection = h11.Connection(h11.SERVER)
    event = connection.next_event()
    while event is h11.NEED_DATA:
        connection.receive_data(bytes(await stream.receive_some()))
        event = connection.next_event()
    assert isinstance(event, h11.Request)
    headers = dict(event.headers)
    assert event.target == b"/ws"
    assert headers[b"sec-websocket-protocol"] == b"im.v1"
    key = headers[b"sec-websocket-key"] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    answer = h11.InformationalResponse(
        status_code=101,
        headers=[
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key).digest()).decode()),
        ],
    )
    await stream.send_all((connection.send(answer) or b"") + early)
