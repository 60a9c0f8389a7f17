"""A worker on real sockets and the real reactor, on the model store; the test turns it by hand."""

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from wsproto import ConnectionType

from imserver.observe.metrics import Counters
from imserver.protocol.framing import Framing, LineFraming, WebSocketFraming
from imserver.session.keepalive import TimerWheel
from imserver.wire.connection import Connection
from imserver.wire.linger import Lingering
from imserver.wire.reactor import Reactor
from tests.model_store import World
from tests.session.node import ServerNode

_TURNS = 10_000


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    for end in (server, client):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server, client


class Taken:
    """A client that a listener has taken: where it is, and what it has said."""

    def __init__(self, reactor: Reactor, sock: socket.socket, host: str) -> None:
        self._reactor = reactor
        self.sock, self.host, self.heard = sock, host, b""

    def on_readable(self) -> None:
        data = self.sock.recv(1 << 16)
        self.heard += data
        if not data:
            self.drop("gone")

    def on_writable(self) -> None:
        """Never asked for."""

    def drop(self, why: str) -> None:
        self._reactor.remove(self.sock.fileno())
        self.sock.close()


class Host:
    """`settle` lets everything move that can."""

    def __init__(self, *users: str, **settings: object) -> None:
        self.world = World(1)
        for user in users:
            self.world.database.register(user, "")
        self.reactor = Reactor(Counters())
        self.node = ServerNode(self.world, "n1", **settings)
        self.node.context.clock = self.reactor
        self.node.context.wheel = TimerWheel(self.reactor.now)
        self._clients: list[socket.socket] = []

    def connect(self, *, websocket: bool = False, unix: bool = False, buffers: int | None = None) -> socket.socket:
        """A client's end, not blocking; `buffers` bounds what the kernel holds for it, more or less."""
        server, client = socket.socketpair() if unix else tcp_pair()
        if buffers is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        server.setblocking(False)
        client.setblocking(False)
        self._clients.append(client)
        most = self.node.settings.max_frame_bytes
        framing: Framing = WebSocketFraming(most, ConnectionType.SERVER) if websocket else LineFraming(most)
        connection = Connection(server, framing, self.node.context, self.reactor, host=None)
        self.reactor.add(server.fileno(), connection)
        return client

    @property
    def is_ready(self) -> bool:
        return bool(select.select([self.reactor._poller], [], [], 0)[0])

    def settle(self) -> None:
        """Turns until nothing is ready any more."""
        for _ in range(_TURNS):
            moved = self.is_ready
            if moved:
                self.reactor.turn()
            if not (self._move_store() or moved):
                return
        raise AssertionError("it does not come to rest")

    def _move_store(self) -> bool:
        moved = False
        for link in self.node.store.links:
            with self.reactor.batch():
                while link.execute() or link.deliver():
                    moved = True
        while self.node.store.tasks.run():
            moved = True
        return moved

    def connections(self) -> list[Connection | Lingering]:
        """Those that are open, lingering ones included."""
        handlers = self.reactor._handlers.values()
        return [handler for handler in handlers if isinstance(handler, Connection | Lingering)]

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.settle()
        self.pass_time(1000.0)  # whoever lingers is cut off
        self.reactor.close()

    def pass_time(self, seconds: float) -> None:
        """Timers see it; the sockets do not."""
        self.node.context.wheel.sweep(self.reactor.now + seconds)


@contextmanager
def hosting(*users: str, **settings: object) -> Iterator[Host]:
    host = Host(*users, **settings)
    try:
        yield host
    finally:
        host.close()


def received(client: socket.socket) -> bytes:
    """All that has come; empty also at the end."""
    data = b""
    try:
        while chunk := client.recv(1 << 20):
            data += chunk
    except BlockingIOError:
        pass
    return data


def at_end(client: socket.socket) -> bool:
    """Whether the server has said all it had to say, and this end has read it."""
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
