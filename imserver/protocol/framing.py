"""Bytes to frames: lines over TCP, text messages over WebSocket. The same classes serve server and client.

A framing takes whatever chunk arrived and returns the frames completed by it. At rest it keeps nothing. The chunking
never matters: any way to split the same bytes gives the same frames (tests/protocol/test_framing.py).
"""

from typing import Protocol

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason

from imserver.errors import FramingError
from imserver.model import Entry
from imserver.protocol.codec import encode_entry


class Framing(Protocol):
    """What both framings offer."""

    @property
    def has_replies(self) -> bool:
        """`take_replies` has something to give."""

    @property
    def closed(self) -> bool:
        """The peer has said that it sends no more frames; what is queued for it may be dropped."""

    def receive(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes.

        Raises FramingError, with the frames completed before the break, after which it MUST NOT be called again.
        """

    def encode(self, payload: bytes) -> bytes:
        """The bytes that carry one frame."""

    def encode_entry(self, entry: Entry) -> bytes:
        """The bytes that carry the push of an entry: made once, and shared by all who have this framing."""

    def encode_close(self) -> bytes:
        """The bytes that say that no more frames follow."""

    def encode_keepalive(self) -> bytes | None:
        """The transport's own keepalive, None where the protocol must send one."""

    def take_replies(self) -> bytes:
        """What the transport itself has to answer to what it received (pongs, closes); often nothing."""


class LineFraming:
    """One frame a line, ended by a newline, a carriage return before it accepted; empty lines are skipped."""

    __slots__ = ("_limit", "_partial")

    def __init__(self, max_frame_bytes: int) -> None:
        self._limit = max_frame_bytes
        self._partial: bytearray | None = None

    @property
    def closed(self) -> bool:
        return False  # TCP says so by itself

    has_replies = False

    def receive(self, data: bytes) -> list[bytes]:
        partial = self._partial
        if partial is None:
            if self._is_one_frame(data):
                return [data[:-1]]
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

    def _is_one_frame(self, data: bytes) -> bool:
        """As almost always."""
        end = len(data) - 1
        return 0 < end <= self._limit and data.find(b"\n") == end and data[end - 1] != _CARRIAGE_RETURN

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

    def encode_entry(self, entry: Entry) -> bytes:
        if entry.line is None:
            entry.line = encode_entry(entry) + b"\n"
        return entry.line

    def encode_close(self) -> bytes:
        return b""

    def encode_keepalive(self) -> bytes | None:
        return None

    def take_replies(self) -> bytes:
        return b""


class WebSocketFraming:
    """One frame a text message (RFC 6455), after the handshake.

    What nearly every message is, one whole text frame, is cut and unmasked here: that takes 2 microseconds, through
    wsproto 24. All the rest is wsproto's: fragments, pings, closes, and saying what is wrong with what is not RFC 6455.
    """

    __slots__ = ("_buffer", "_connection", "_fragments", "_fragments_size", "_is_server", "_limit", "_replies")

    def __init__(self, max_frame_bytes: int, kind: ConnectionType) -> None:
        """`kind` says which side this is."""
        self._limit = max_frame_bytes
        self._is_server = kind is ConnectionType.SERVER
        self._connection = Connection(kind)
        self._buffer: bytearray | None = None  # a frame that is not complete yet
        self._fragments: list[str] | None = None  # of a message that is not complete yet
        self._fragments_size = 0  # characters
        self._replies = b""

    @property
    def has_replies(self) -> bool:
        return bool(self._replies)

    @property
    def closed(self) -> bool:
        return self._connection.state is not ConnectionState.OPEN

    def receive(self, data: bytes) -> list[bytes]:
        received: bytes | bytearray = data
        if self._buffer is not None:
            self._buffer += data
            received, self._buffer = self._buffer, None
        frames: list[bytes] = []
        start = 0
        while start < len(received) and not self.closed:
            if len(received) > start + 1 and self._is_server != bool(received[start + 1] & _MASKED):
                raise FramingError(f"not a WebSocket frame: {_WRONG_MASK[self._is_server]}", frames)
            head, end = self._extent(received, start, frames)
            if end > len(received):
                self._buffer = bytearray(received[start:])
                break
            frame = received[start:end]
            if frame[0] == _WHOLE_TEXT and self._fragments is None:
                frames.append(_unmasked(frame, head) if self._is_server else bytes(frame[head:]))
            else:
                self._receive_other(bytes(frame), frames)
            start = end
        return frames

    def _extent(self, received: bytes | bytearray, start: int, frames: list[bytes]) -> tuple[int, int]:
        """RFC 6455, section 5.2: the length of the header, and where the frame ends (past the end: incomplete)."""
        if len(received) < start + 2:
            return 0, len(received) + 1
        size = received[start + 1] & 0x7F
        head = 2
        if size >= 126:
            head = 4 if size == 126 else 10
            if len(received) < start + head:
                return 0, len(received) + 1
            size = int.from_bytes(received[start + 2 : start + head], "big")
        if size > self._limit:
            raise _too_large(self._limit, frames)
        if received[start + 1] & _MASKED:
            head += 4
        return head, start + head + size

    def _receive_other(self, frame: bytes, frames: list[bytes]) -> None:
        self._connection.receive_data(frame)
        for event in self._connection.events():
            if isinstance(event, TextMessage):
                self._add_fragment(event, frames)
            elif isinstance(event, Ping):
                self._replies += self._connection.send(event.response())
            elif isinstance(event, BytesMessage):
                raise FramingError("a binary message: frames are text messages", frames)
            elif isinstance(event, CloseConnection):
                self._answer_close(event, frames)

    def _add_fragment(self, event: TextMessage, frames: list[bytes]) -> None:
        self._fragments = self._fragments or []
        if event.data:
            self._fragments.append(event.data)
            self._fragments_size += len(event.data)
        if self._fragments_size > self._limit:
            raise _too_large(self._limit, frames)
        if event.message_finished:
            frame = "".join(self._fragments).encode()
            self._fragments, self._fragments_size = None, 0
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
        if not self._is_server:
            return bytes(self._connection.send(TextMessage(data=payload.decode())))
        size = len(payload)
        if size < 126:
            return bytes((_WHOLE_TEXT, size)) + payload
        if size < 65536:
            return b"\x81\x7e" + size.to_bytes(2, "big") + payload
        return b"\x81\x7f" + size.to_bytes(8, "big") + payload

    def encode_entry(self, entry: Entry) -> bytes:
        if entry.message is None:
            entry.message = self.encode(encode_entry(entry))
        return entry.message

    def encode_close(self) -> bytes:
        if self.closed:
            return b""
        return bytes(self._connection.send(CloseConnection(code=CloseReason.NORMAL_CLOSURE)))

    def encode_keepalive(self) -> bytes | None:
        return bytes(self._connection.send(Ping()))

    def take_replies(self) -> bytes:
        replies, self._replies = self._replies, b""
        return bytes(replies)


_CARRIAGE_RETURN = ord("\r")
_WHOLE_TEXT = 0x81  # FIN and opcode 1
_MASKED = 0x80
_WRONG_MASK = {True: "a client must mask its frames", False: "a server must not mask its frames"}  # section 5.1


def _unmasked(frame: bytes | bytearray, head: int) -> bytes:
    """RFC 6455, section 5.3, on whole integers."""
    size = len(frame) - head
    mask = bytes(frame[head - 4 : head]) * (size // 4 + 1)
    masked = int.from_bytes(frame[head:], "big")
    return (masked ^ int.from_bytes(mask[:size], "big")).to_bytes(size, "big")


def _too_large(limit: int, frames: list[bytes]) -> FramingError:
    return FramingError(f"a frame is larger than {limit} bytes", frames)
