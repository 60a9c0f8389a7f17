"""The opening of a WebSocket (RFC 6455, section 4.1), the client's side, sans-IO."""

import base64
import hashlib
from typing import NamedTuple

import h11

SUBPROTOCOL = "im.v1"
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of section 1.3


class HandshakeFailed(Exception):
    """The server does not open a WebSocket; str() says why."""


class Accepted(NamedTuple):
    trailing: bytes  # the first bytes behind the handshake


class Handshake:
    def __init__(self, host: str, path: str, nonce: bytes) -> None:
        """`host` with the port, as in a URL; `nonce`: 16 random bytes."""
        self._key = base64.b64encode(nonce).decode()
        self._request = h11.Request(
            method="GET",
            target=path,
            headers=[
                ("Host", host),
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Key", self._key),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Protocol", SUBPROTOCOL),
            ],
        )
        self._connection = h11.Connection(h11.CLIENT)

    def request(self) -> bytes:
        """The bytes to send first."""
        return (self._connection.send(self._request) or b"") + (self._connection.send(h11.EndOfMessage()) or b"")

    def receive(self, data: bytes) -> Accepted | None:
        """None: more is needed. Raises HandshakeFailed."""
        try:
            self._connection.receive_data(data)
            event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            raise HandshakeFailed(f"the server does not speak HTTP: {error}") from None
        if event is h11.NEED_DATA:
            return None
        if not isinstance(event, h11.InformationalResponse) or event.status_code != 101:
            raise HandshakeFailed(f"the server does not open a WebSocket: it answered {_shown(event)}")
        self._check(dict(event.headers))
        return Accepted(self._connection.trailing_data[0])

    def _check(self, headers: dict[bytes, bytes]) -> None:
        digest = base64.b64encode(hashlib.sha1((self._key + _GUID).encode(), usedforsecurity=False).digest())
        if headers.get(b"upgrade", b"").lower() != b"websocket" or headers.get(b"sec-websocket-accept") != digest:
            raise HandshakeFailed("the server's answer is not that of a WebSocket")


def _shown(event: object) -> str:
    if isinstance(event, h11.Response | h11.InformationalResponse):
        return f"{event.status_code} {event.reason.decode('latin-1')}".strip()
    return "something else"
