"""What a transport must offer; `tcp` and `ws` are the two.

Written for little CPU, not for hostile peers: the server is trusted to frame correctly, and
where it does not, the connection ends with a `FramingError` that says so.
"""

from __future__ import annotations

from typing import Protocol

PING = b'{"ev":"ping"'
"""How every keepalive begins, whichever way the transport carries it."""


class FramingError(Exception):
    """The server's bytes are not what the transport's specification allows."""


class Framing(Protocol):
    """Bytes to frames and back, for one connection."""

    @property
    def greeting(self) -> bytes:
        """What the client sends first; empty if frames may flow at once."""

    @property
    def ended(self) -> str:
        """Why the server has ended the conversation; empty while it goes on."""

    def greet(self, data: bytes) -> bool:
        """Take bytes of the answer to the greeting; true when it is complete.

        What follows the answer is kept for `feed`. Raises FramingError if the server refuses.
        """

    def feed(self, data: bytes) -> list[bytes]:
        """The frames now complete, in order, keepalives (see PING) among them.

        Raises FramingError.
        """

    def frame(self, payload: bytes) -> bytes:
        """The bytes to send for one frame of JSON."""

    def pong(self, frame: bytes) -> bytes:
        """The bytes that answer a keepalive."""
