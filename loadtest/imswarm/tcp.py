"""Frames over TCP: one a line."""

from __future__ import annotations


class LineFraming:
    """See `framing.Framing`."""

    __slots__ = ("_partial",)

    greeting = b""
    ended = ""

    def __init__(self) -> None:
        self._partial = b""

    def greet(self, data: bytes) -> bool:
        self._partial = data
        return True

    def feed(self, data: bytes) -> list[bytes]:
        if self._partial:
            data = self._partial + data
        frames = data.split(b"\n")
        self._partial = frames.pop()
        return frames

    def frame(self, payload: bytes) -> bytes:
        return payload + b"\n"

    def pong(self, frame: bytes) -> bytes:
        """Any frame proves that the client lives; without `ref` this one asks for no reply."""
        return b'{"op":"ping"}\n'
