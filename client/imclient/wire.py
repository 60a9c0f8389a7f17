"""One connection: a stream, and the framing of what goes over it."""

import os
import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import anyio
from anyio.abc import ByteStream
from wsproto.connection import ConnectionType

from imclient.address import Address
from imclient.errors import ConnectionLost
from imclient.handshake import Handshake, HandshakeFailed
from imserver.errors import FramingError
from imserver.protocol.framing import Framing, LineFraming, WebSocketFraming

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 1.0
RECEIVE_BYTES = 65536
MAX_FRAME = 32 * 1024 * 1024  # of the server: a page of 200 of the largest messages is 13 MB

Dial = Callable[[Address], Awaitable[ByteStream]]
_BROKEN = (
    OSError,
    ssl.SSLError,
    anyio.EndOfStream,  # in the middle of an opening
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.BusyResourceError,  # TLS had to answer for a reader, while a writer wrote
)


class Wire:
    def __init__(self, stream: ByteStream, framing: Framing) -> None:
        self._stream = stream
        self._framing = framing
        self._replies = b""  # what the transport itself has to answer: pongs
        self._early: list[bytes] = []

    async def receive(self) -> list[bytes]:
        """Waits for bytes; the frames completed by them, if any. Raises ConnectionLost."""
        if self._early:
            early, self._early = self._early, []
            return early
        try:
            return self._frames_of(await self._stream.receive(RECEIVE_BYTES))
        except anyio.EndOfStream:
            raise ConnectionLost("the server closed the connection") from None
        except _BROKEN as error:
            raise ConnectionLost(f"the connection broke: {_reason(error)}") from None

    def _frames_of(self, data: bytes) -> list[bytes]:
        try:
            frames = self._framing.receive(data)
        except FramingError as error:
            raise ConnectionLost(f"the server does not speak the protocol: {error}") from None
        self._replies += self._framing.take_replies()
        if self._framing.closed and not frames:
            raise ConnectionLost("the server closed the connection")
        return frames

    def received_early(self, data: bytes) -> None:
        """Bytes that came with the opening."""
        if data:
            self._early = self._frames_of(data)

    @property
    def has_replies(self) -> bool:
        """`send` must be called, with or without frames."""
        return bool(self._replies)

    async def send(self, frames: Iterable[bytes]) -> None:
        """Raises ConnectionLost. To a server that has said that it closes nothing is said: `receive` tells of it."""
        replies, self._replies = self._replies, b""
        said = b"" if self._framing.closed else b"".join(map(self._framing.encode, frames))
        try:
            await self._stream.send(replies + said)
        except _BROKEN as error:
            raise ConnectionLost(f"the connection broke: {_reason(error)}") from None

    async def aclose(self) -> None:
        """Says goodbye in the transport's own way, for at most a second, and closes."""
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            try:
                await self._stream.send(self._replies + self._framing.encode_close())
            except _BROKEN:
                pass  # nobody is there to be polite to
            await self._stream.aclose()
            return
        await anyio.aclose_forcefully(self._stream)


async def open_wire(address: Address, dial: Dial) -> Wire:
    """A connection on which frames can be exchanged. Raises ConnectionLost."""
    with anyio.move_on_after(CONNECT_SECONDS):
        try:
            stream = await dial(address)
        except _BROKEN as error:
            raise ConnectionLost(f"{address.place} can't be reached: {_reason(error)}") from None
        if not address.kind.is_websocket:
            return Wire(stream, LineFraming(MAX_FRAME))
        return await _open_websocket(stream, address)
    raise ConnectionLost(f"{address.place} can't be reached: no answer within {CONNECT_SECONDS:g} s")


async def _open_websocket(stream: ByteStream, address: Address) -> Wire:
    try:
        trailing = await _shake_hands(stream, Handshake(address.place, address.path, secrets.token_bytes(16)))
        wire = Wire(stream, WebSocketFraming(MAX_FRAME, ConnectionType.CLIENT))
        wire.received_early(trailing)
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
    return wire


async def _shake_hands(stream: ByteStream, handshake: Handshake) -> bytes:
    try:
        await stream.send(handshake.request())
        while (accepted := handshake.receive(await stream.receive(RECEIVE_BYTES))) is None:
            pass
    except anyio.EndOfStream:
        raise ConnectionLost("the server closed the connection instead of opening a WebSocket") from None
    except HandshakeFailed as error:
        raise ConnectionLost(str(error)) from None
    except _BROKEN as error:
        raise ConnectionLost(f"the connection broke: {_reason(error)}") from None
    return accepted.trailing


def dialler(ssl_context: ssl.SSLContext | None = None) -> Dial:
    """Dials by TCP, and TLS where the address says so. anyio sets TCP_NODELAY on the sockets that it opens."""
    return partial(_dial, ssl_context=ssl_context)


async def _dial(address: Address, ssl_context: ssl.SSLContext | None) -> ByteStream:
    if not address.kind.is_encrypted:
        return await anyio.connect_tcp(address.host, address.port)
    context = ssl_context or ssl.create_default_context()
    # Lines and messages have ends of their own; a peer that leaves without TLS's goodbye cuts off nothing unnoticed.
    return await anyio.connect_tcp(address.host, address.port, ssl_context=context, tls_standard_compatible=False)


def _reason(error: BaseException) -> str:
    """What the operating system or TLS said: anyio wraps it, once for each address of the host."""
    while error.__cause__ is not None or isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)  # without the address, which trio puts into the text
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
