"""Sockets and a reactor in memory: bytes move only when a test says so.

`Wire` is a connection as the client sees it; `Wire.server` is what `imserver.wire.connection.Connection` takes for its
socket. `MemoryReactor` dispatches and flushes in the order of `imserver.wire.reactor.Reactor`, without a poller.
"""

import itertools

from imserver.wire.reactor import Flushable, Handler


class Pipe:
    """One direction. Holds `capacity` bytes, as the kernel's buffers do."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.data = bytearray()
        self.ended = False  # the writer writes no more
        self.broken = False  # the reader reads no more

    def take(self, most: int) -> bytes:
        taken = bytes(self.data[:most])
        del self.data[:most]
        return taken


class MemorySocket:
    """The server's end of a wire: non-blocking."""

    def __init__(self, fd: int, incoming: Pipe, outgoing: Pipe) -> None:
        self._fd, self._in, self._out = fd, incoming, outgoing

    def fileno(self) -> int:
        return self._fd

    @property
    def is_readable(self) -> bool:
        return bool(self._in.data) or self._in.ended

    @property
    def is_writable(self) -> bool:
        return self._out.broken or len(self._out.data) < self._out.capacity

    def recv(self, most: int) -> bytes:
        if not self.is_readable:
            raise BlockingIOError
        return self._in.take(most)

    def send(self, data: bytes) -> int:
        if self._out.broken:
            raise BrokenPipeError(32, "Broken pipe")
        room = self._out.capacity - len(self._out.data)
        if room <= 0:
            raise BlockingIOError
        self._out.data += data[:room]
        return min(room, len(data))

    def shutdown(self, how: int) -> None:
        self._out.ended = True

    def close(self) -> None:
        self._out.ended = self._in.broken = True
        self._fd = -1


class Wire:
    """A connection, from the client's side."""

    def __init__(self, fd: int, capacity: int) -> None:
        self._up, self._down = Pipe(1 << 30), Pipe(capacity)
        self.server = MemorySocket(fd, self._up, self._down)

    def write(self, data: bytes) -> None:
        self._up.data += data

    def read(self, most: int = 1 << 30) -> bytes:
        return self._down.take(most)

    @property
    def at_end(self) -> bool:
        """The server has said all it had to say, and the client has read it."""
        return self._down.ended and not self._down.data

    @property
    def waiting(self) -> int:
        """Bytes for the client that it has not read."""
        return len(self._down.data)

    def hang_up(self) -> None:
        """The client is gone; what it has not read is lost."""
        self._up.ended = self._down.broken = True
        self._down.data.clear()


class MemoryReactor:
    """What connections need of a reactor. `now` is set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._fds = itertools.count(1)
        self._handlers: dict[int, Handler] = {}
        self._sockets: dict[int, MemorySocket] = {}
        self._wanted: dict[int, tuple[bool, bool]] = {}
        self._touched: dict[Flushable, None] = {}
        self._in_turn = False

    def wire(self, capacity: int = 1 << 20) -> Wire:
        """A new connection that nobody handles yet."""
        wire = Wire(next(self._fds), capacity)
        self._sockets[wire.server.fileno()] = wire.server
        return wire

    def add(self, fd: int, handler: Handler) -> None:
        self._handlers[fd], self._wanted[fd] = handler, (True, False)

    def admit(self, fd: int, *, read: bool, write: bool) -> None:
        """Here all are alike."""

    def replace(self, fd: int, handler: Handler) -> None:
        self._handlers[fd] = handler

    def want(self, fd: int, *, read: bool, write: bool) -> None:
        assert fd in self._handlers, "the kernel does not know this descriptor"
        self._wanted[fd] = (read, write)

    def remove(self, fd: int) -> None:
        del self._handlers[fd], self._wanted[fd], self._sockets[fd]

    def touch(self, client: Flushable) -> None:
        if self._in_turn:
            self._touched[client] = None
        else:
            client.flush()

    def is_read(self, wire: Wire) -> bool:
        """Whether the server takes bytes of this client now."""
        return self._wanted.get(wire.server.fileno(), (False, False))[0]

    def reset(self, wire: Wire) -> None:
        """The connection breaks: the kernel tells even of a socket that is not read from."""
        wire.hang_up()
        self._handlers[wire.server.fileno()].drop("reset")

    def turn(self) -> bool:
        """All ready sockets, then one flush. False: none was ready."""
        ready = [fd for fd in self._handlers if self._readiness(fd) != (False, False)]
        if not ready:
            return False
        with self.batch():
            for fd in ready:
                self._dispatch(fd)
        return True

    def _readiness(self, fd: int) -> tuple[bool, bool]:
        (read, write), sock = self._wanted[fd], self._sockets[fd]
        return read and sock.is_readable, write and sock.is_writable

    def _dispatch(self, fd: int) -> None:
        handler = self._handlers.get(fd)
        if handler is None:
            return
        readable, writable = self._readiness(fd)
        if readable:
            handler.on_readable()
        if writable and self._handlers.get(fd) is handler:
            handler.on_writable()

    def batch(self) -> "MemoryReactor":
        """For `with`: one flush at its end. A generator would be nicer to read, and costs a tenth of a simulation."""
        return self

    def __enter__(self) -> None:
        self._in_turn = True

    def __exit__(self, *_: object) -> None:
        self._in_turn = False
        while self._touched:
            touched, self._touched = self._touched, {}
            for client in touched:
                client.flush()
