"""A WebSocket client that can break every rule of RFC 6455."""

import os
import socket
from collections.abc import Iterator

from tests.e2e.client import PATIENCE_SECONDS, Address

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


def frame(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True, size: int | None = None) -> bytes:
    """One frame. `size`: the length it claims, in place of the true one."""
    claimed = len(payload) if size is None else size
    mask_bit = 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | opcode])
    if claimed < 126:
        head += bytes([mask_bit | claimed])
    elif claimed < 1 << 16:
        head += bytes([mask_bit | 126]) + claimed.to_bytes(2, "big")
    else:
        head += bytes([mask_bit | 127]) + claimed.to_bytes(8, "big")
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


class RawWebSocket:
    """After the handshake. Frames of the server are taken as they come."""

    def __init__(self, address: Address) -> None:
        self.socket = socket.create_connection(address, timeout=PATIENCE_SECONDS)
        self.socket.sendall(
            b"GET /ws HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        self._file = self.socket.makefile("rb")
        assert self._file.readline().startswith(b"HTTP/1.1 101")
        while self._file.readline() != b"\r\n":
            pass

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> tuple[int, bytes] | None:
        """Opcode and payload of the next frame, None at the end. All frames of the server are whole and unmasked."""
        head = self._file.read(2)
        if len(head) < 2:
            return None
        assert head[0] & 0x80
        assert head[1] < 0x80
        size = head[1]
        if size >= 126:
            size = int.from_bytes(self._file.read(2 if size == 126 else 8), "big")
        return head[0] & 0x0F, self._file.read(size)

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Until the server has closed."""
        try:
            while (found := self.receive()) is not None:
                yield found
        except ConnectionError:
            return

    def close(self) -> None:
        self._file.close()
        self.socket.close()
