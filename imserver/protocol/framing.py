"""Bytes to frames: lines over TCP, text messages over WebSocket. The same classes serve server and client.

A framing takes whatever chunk arrived and returns the frames completed by it. At rest it keeps nothing. The chunking
never matters: any way to split the same bytes gives the same frames (tests/protocol/test_framing.py).
"""

from typing import Protocol

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason

from imserver.errors import FramingError


class Framing(Protocol):
    """What both framings offer."""

    @property
    def closed(self) -> bool:
        """The peer has said that it sends no more frames; what is queued for it may be dropped."""

    def receive(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes.

        Raises FramingError, with the frames completed before the break, after which it MUST NOT be called again.
        """

    def encode(self, payload: bytes) -> bytes:
        """The bytes that carry one frame."""

    def encode_close(self) -> bytes:
        """The bytes that say that no more frames follow."""

    def encode_keepalive(self) -> bytes | None:
        """The transport's own keepalive, None where the protocol must send one."""

    def take_replies(self) -> bytes:
        """What the transport itself has to answer to what it received (pongs, closes)."""


class LineFraming:
    """One frame a line, ended by `\\n` or `\\r\\n`; empty lines are skipped."""

    __slots__ = ("_limit", "_partial")

    def __init__(self, max_frame_bytes: int) -> None:
        self._limit = max_frame_bytes
        self._partial: bytearray | None = None

    @property
    def closed(self) -> bool:
        return False  # TCP says so by itself

    def receive(self, data: bytes) -> list[bytes]:
        partial = self._partial
        if partial is None:
            lines = data.split(b"\n")
        else:
            # The bytearray grows in place: a client that trickles single bytes costs linear time, not quadratic.
            head, newline, behind = data.partition(b"\n")
            partial += head
            if not newline:
                self._keep(partial, [])
                return []
            self._partial = None
            lines = [bytes(partial), *behind.split(b"\n")]
        rest = lines.pop()
        frames = self._frames(lines)
        if rest:
            self._keep(bytearray(rest), frames)
        return frames

    def _frames(self, lines: list[bytes]) -> list[bytes]:
        frames: list[bytes] = []
        for line in lines:
            frame = line[:-1] if line.endswith(b"\r") else line
            if len(frame) > self._limit:
                raise _too_large(self._limit, frames)
            if frame:
                frames.append(frame)
        return frames

    def _keep(self, partial: bytearray, frames: list[bytes]) -> None:
        if len(partial) > self._limit + 1:  # one more for a \r
            raise _too_large(self._limit, frames)
        self._partial = partial

    def encode(self, payload: bytes) -> bytes:
        return payload + b"\n"

    def encode_close(self) -> bytes:
        return b""

    def encode_keepalive(self) -> bytes | None:
        return None

    def take_replies(self) -> bytes:
        return b""


class WebSocketFraming:
    """One frame a text message (RFC 6455), after the handshake. Fragments are joined; pings are answered."""

    __slots__ = ("_connection", "_limit", "_partial", "_partial_size", "_replies")

    def __init__(self, max_frame_bytes: int, kind: ConnectionType) -> None:
        """`kind` says which side this is."""
        self._limit = max_frame_bytes
        self._connection = Connection(kind)
        self._partial: list[str] | None = None
        self._partial_size = 0  # characters
        self._replies = b""

    @property
    def closed(self) -> bool:
        return self._connection.state is not ConnectionState.OPEN

    def receive(self, data: bytes) -> list[bytes]:
        frames: list[bytes] = []
        if self.closed:
            return frames
        self._connection.receive_data(data)
        for event in self._connection.events():
            if isinstance(event, TextMessage):
                self._add_text(event, frames)
            elif isinstance(event, Ping):
                self._replies += self._connection.send(event.response())
            elif isinstance(event, BytesMessage):
                raise FramingError("a binary message: frames are text messages", frames)
            elif isinstance(event, CloseConnection):
                self._answer_close(event, frames)
        return frames

    def _add_text(self, event: TextMessage, frames: list[bytes]) -> None:
        text = event.data
        if self._partial is not None or not event.message_finished:
            self._partial_size += len(text)
            if self._partial_size > self._limit:
                raise _too_large(self._limit, frames)
            self._partial = self._partial or []
            self._partial.append(text)
            if not event.message_finished:
                return
            text = "".join(self._partial)
            self._partial, self._partial_size = None, 0
        frame = text.encode()
        if len(frame) > self._limit:
            raise _too_large(self._limit, frames)
        frames.append(frame)

    def _answer_close(self, event: CloseConnection, frames: list[bytes]) -> None:
        # wsproto reports the peer's close and a failure to parse by the same event; only the first changes the state.
        if self._connection.state is ConnectionState.OPEN:
            raise FramingError(f"not a WebSocket frame: {event.reason}", frames)
        if self._connection.state is ConnectionState.REMOTE_CLOSING:
            self._replies += self._connection.send(event.response())

    def encode(self, payload: bytes) -> bytes:
        return bytes(self._connection.send(TextMessage(data=payload.decode())))

    def encode_close(self) -> bytes:
        if self.closed:
            return b""
        return bytes(self._connection.send(CloseConnection(code=CloseReason.NORMAL_CLOSURE)))

    def encode_keepalive(self) -> bytes | None:
        return bytes(self._connection.send(Ping()))

    def take_replies(self) -> bytes:
        replies, self._replies = self._replies, b""
        return bytes(replies)


def _too_large(limit: int, frames: list[bytes]) -> FramingError:
    return FramingError(f"a frame is larger than {limit} bytes", frames)
