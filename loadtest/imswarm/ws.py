"""Frames over WebSocket (RFC 6455), the client's side.

A client must mask what it sends, with a key of its choice: the key 0 leaves the payload as it is,
so that a prepared frame can be sent over and over. No extension is offered, so none may be used.
"""

from __future__ import annotations

import base64
import hashlib

from imswarm.framing import PING, FramingError

_KEY = base64.b64encode(b"imswarm loadtest")
_ACCEPT = base64.b64encode(hashlib.sha1(_KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())

_FINAL_TEXT, _FINAL_PONG = 0x81, 0x8A
_CONTINUATION, _TEXT, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x8, 0x9, 0xA
_RESERVED_BITS, _FINAL = 0x70, 0x80
_MASKED, _LENGTH_16, _LENGTH_64 = 0x80, 126, 127
_ZERO_KEY = bytes(4)


def _client_frame(kind: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < _LENGTH_16:
        return bytes((kind, _MASKED | length)) + _ZERO_KEY + payload
    if length < 1 << 16:
        return bytes((kind, _MASKED | _LENGTH_16)) + length.to_bytes(2) + _ZERO_KEY + payload
    return bytes((kind, _MASKED | _LENGTH_64)) + length.to_bytes(8) + _ZERO_KEY + payload


def upgrade_request(host: str, path: str = "/ws", subprotocol: str = "im.v1") -> bytes:
    """The greeting of a connection to `host` (`HOST:PORT`). Without a subprotocol it asks for none."""
    asked = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    return (
        b"GET %b HTTP/1.1\r\nHost: %b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: 13\r\n"
        b"%b\r\n" % (path.encode(), host.encode(), _KEY, asked.encode())
    )


class WebSocketFraming:
    """See `framing.Framing`."""

    __slots__ = ("_fragments", "_partial", "ended", "greeting")

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting
        self.ended = ""
        self._partial = b""
        self._fragments: list[bytes] = []

    def greet(self, data: bytes) -> bool:
        head, blank_line, rest = (self._partial + data).partition(b"\r\n\r\n")
        if not blank_line:
            self._partial = head
            return False
        if not head.startswith(b"HTTP/1.1 101 ") or _ACCEPT not in head:
            status = head.partition(b"\r\n")[0].decode("latin-1")
            raise FramingError(f"no WebSocket: the server answered {status!r}")
        self._partial = rest
        return True

    def feed(self, data: bytes) -> list[bytes]:
        if self._partial:
            data = self._partial + data
        frames: list[bytes] = []
        start = 0
        while (span := _payload_span(data, start)) is not None:
            payload = data[span[0] : span[1]]
            if data[start] == _FINAL_TEXT:
                frames.append(payload)
            else:
                self._take_other(data[start], payload, frames)
            start = span[1]
        self._partial = data[start:]
        return frames

    def _take_other(self, first: int, payload: bytes, frames: list[bytes]) -> None:
        kind = first & ~_FINAL
        if kind == _PING:
            frames.append(PING + payload)
        elif kind == _CLOSE:
            self.ended = f"closed by the server with code {int.from_bytes(payload[:2])}"
        elif kind in (_TEXT, _CONTINUATION):
            self._take_fragment(first, payload, frames)
        elif kind != _PONG:
            raise FramingError(f"a WebSocket frame that begins with {first:#04x}")

    def _take_fragment(self, first: int, payload: bytes, frames: list[bytes]) -> None:
        self._fragments.append(payload)
        if first & _FINAL:
            frames.append(b"".join(self._fragments))
            self._fragments = []

    def frame(self, payload: bytes) -> bytes:
        return _client_frame(_FINAL_TEXT, payload)

    def pong(self, frame: bytes) -> bytes:
        """RFC 6455 5.5.3: a pong carries the payload of its ping."""
        return _client_frame(_FINAL_PONG, frame[len(PING) :])


def _payload_span(data: bytes, start: int) -> tuple[int, int] | None:
    """Where the payload of the frame that begins at `start` lies; None if it is not all there."""
    available = len(data) - start
    if available < 2:
        return None
    length, begin = data[start + 1], start + 2
    if length >= _LENGTH_16:
        if length >= _MASKED:
            raise FramingError("a masked WebSocket frame from the server")
        width = 2 if length == _LENGTH_16 else 8
        if available < 2 + width:
            return None
        begin += width
        length = int.from_bytes(data[start + 2 : begin])
    end = begin + length
    return (begin, end) if end <= len(data) else None
