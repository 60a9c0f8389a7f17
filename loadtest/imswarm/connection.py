"""One non-blocking socket that speaks frames."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from imswarm.client_loop import ClientLoop
from imswarm.framing import Framing, FramingError

_CHUNK = 16384
_READ, _WRITE = select.EPOLLIN, select.EPOLLOUT
_PORTS_PER_SOURCE = 5_000
_IP_BIND_ADDRESS_NO_PORT = 24

OnFrame = Callable[[bytes, int], None]


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def source_of(number: int, target: Address) -> str | None:
    """The address from which connection `number` of the whole swarm comes.

    A source address has some 28,000 ports towards one target, but once half of them are in use (those of connections
    just lost count) Linux looks through thousands for a free one. Loopback has many addresses; elsewhere the system
    chooses (None).
    """
    if not target.host.startswith("127."):
        return None
    third, fourth = divmod(number // _PORTS_PER_SOURCE, 254)
    return f"127.0.{third}.{1 + fourth}"


class Owner(Protocol):
    """Whoever uses a connection."""

    def on_open(self) -> None:
        """Frames may be sent now."""

    def on_frame(self, frame: bytes, now_ns: int) -> None: ...

    def on_closed(self, reason: str) -> None:
        """The server, or an error, has ended the connection (never called after `close`)."""


class Connection:
    """Connects at once; `owner` is told what happens.

    Making one raises OSError if the system refuses at once (descriptors, addresses, routes).

    `on_frame` starts as the owner's and may be replaced while the connection lives, so that a
    stage of a session is a function, not a test for every frame.
    """

    __slots__ = ("_framing", "_loop", "_out", "_owner", "_socket", "on_frame")

    def __init__(
        self,
        loop: ClientLoop,
        target: Address,
        source: str | None,
        framing: Framing,
        owner: Owner,
    ) -> None:
        self._loop = loop
        self._framing = framing
        self._owner = owner
        self._out = b""
        self.on_frame: OnFrame = owner.on_frame
        self._socket = _connecting_socket(target, source)
        loop.register(self._socket.fileno(), _WRITE, self._on_connected)

    @property
    def closed(self) -> bool:
        return self._socket.fileno() < 0

    def framed(self, payload: bytes) -> bytes:
        """The bytes that `send` needs for this frame."""
        return self._framing.frame(payload)

    def send_frame(self, payload: bytes) -> None:
        self.send(self._framing.frame(payload))

    def answer_ping(self, frame: bytes) -> None:
        self.send(self._framing.pong(frame))

    def send(self, data: bytes) -> None:
        """Send framed bytes; what the socket does not take now goes as soon as it can."""
        if self._out:
            self._out += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end(_reason(error))
            return
        if sent < len(data):
            self._out = data[sent:]
            self._loop.modify(self._socket.fileno(), _READ | _WRITE, self._on_events)

    def close(self) -> None:
        """Close without a word; harmless if already closed."""
        if not self.closed:
            self._loop.unregister(self._socket.fileno())
            self._socket.close()

    def _on_connected(self, events: int) -> None:
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._end(f"cannot connect: {os.strerror(error)}")
            return
        greeting = self._framing.greeting
        self._loop.modify(self._socket.fileno(), _READ, self._on_greeted if greeting else self._on_events)
        if greeting:
            self.send(greeting)
        else:
            self._owner.on_open()

    def _on_greeted(self, events: int) -> None:
        data = self._read()
        try:
            complete = bool(data) and self._framing.greet(data)
        except FramingError as error:
            self._end(str(error))
            return
        if complete:
            self._loop.modify(self._socket.fileno(), _READ, self._on_events)
            self._owner.on_open()
            self._take(b"")

    def _on_events(self, events: int) -> None:
        if events & _WRITE:
            self._flush()
        if events & ~_WRITE:
            data = self._read()
            if data:
                self._take(data)

    def _read(self) -> bytes:
        """What has arrived; nothing if there is nothing, or if the connection is over."""
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            self._end(_reason(error))
            return b""
        if not data:
            self._end("closed by the server")
        return data

    def _take(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        try:
            frames = self._framing.feed(data)
        except FramingError as error:
            self._end(str(error))
            return
        for frame in frames:
            self.on_frame(frame, now_ns)
        if self._framing.ended:
            self._end(self._framing.ended)

    def _flush(self) -> None:
        data, self._out = self._out, b""
        if data:
            self._loop.modify(self._socket.fileno(), _READ, self._on_events)
            self.send(data)

    def _end(self, reason: str) -> None:
        if not self.closed:
            self.close()
            self._owner.on_closed(reason)


def _connecting_socket(target: Address, source: str | None) -> socket.socket:
    connecting = socket.socket(_family(target), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if source:
        connecting.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        connecting.bind((source, 0))
    error = connecting.connect_ex((target.host, target.port))
    if error not in (0, errno.EINPROGRESS):
        connecting.close()
        raise OSError(error, os.strerror(error))
    return connecting


def _family(target: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in target.host else socket.AF_INET


def _reason(error: OSError) -> str:
    return f"connection broken: {error.strerror}"
