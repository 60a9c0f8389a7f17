"""Connections from a load balancer's networks, on real sockets: whose they are, and what becomes of the rest."""

import gc
import json
import socket
from collections.abc import Iterator
from io import StringIO
from ipaddress import IPv4Address, ip_network

import pytest

from imserver.observe import log
from imserver.observe.metrics import Counters
from imserver.session.keepalive import TimerWheel
from imserver.wire.listener import Listener
from imserver.wire.reactor import Reactor
from imserver.wire.relayed import HEADER_SECONDS, Relayed
from tests.protocol.test_proxy_protocol import line, relayed, v2
from tests.wire.host import Taken, at_end

CLIENT = IPv4Address("203.0.113.9")
PROXIES = [ip_network("127.0.0.8/29"), ip_network("fd00::/8")]
PROXY, STRANGER = "127.0.0.9", "127.0.0.1"


class Front:
    """A listener that takes the PROXY protocol from PROXIES; `opened` has the addresses of its clients."""

    def __init__(self) -> None:
        self.reactor = Reactor(Counters())
        self.wheel = TimerWheel(self.reactor.now)
        self.opened: list[Taken] = []
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self._address = sock.getsockname()
        self._listener = Listener(
            sock, self.reactor, self.wheel, self._open_connection, most_sockets=10, counters=Counters(), proxies=PROXIES
        )
        self._listener.start()
        self._clients: list[socket.socket] = []

    def _open_connection(self, sock: socket.socket, host: str) -> Taken:
        self.opened.append(Taken(self.reactor, sock, host))
        return self.opened[-1]

    def connect(self, source: str) -> socket.socket:
        client = socket.create_connection(self._address, source_address=(source, 0))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        self._clients.append(client)
        self.settle()
        return client

    def settle(self) -> None:
        while self.reactor.turn():
            pass

    def send(self, client: socket.socket, data: bytes) -> None:
        client.send(data)
        self.settle()

    def close(self) -> None:
        self._listener.stop()
        for client in self._clients:
            client.close()
        self.settle()
        assert self.reactor.sockets == 0
        self.reactor._poller.close()


@pytest.fixture
def front() -> Iterator[Front]:
    front = Front()
    yield front
    front.close()


class Log:
    """What is logged meanwhile, down to debug."""

    def __init__(self) -> None:
        self._stream = StringIO()
        log.configure("debug", self._stream)

    def lines(self, *fields: str) -> list[tuple[str, ...]]:
        lines = map(json.loads, self._stream.getvalue().splitlines())
        return [tuple(line[field] for field in fields) for line in lines]


@pytest.fixture
def logged() -> Iterator[Log]:
    yield Log()
    log.configure("critical")


@pytest.mark.parametrize(
    ("header", "host"),
    [
        (relayed(CLIENT), "203.0.113.9"),
        (relayed(CLIENT, b"\x04\x00\xff" + b"x" * 255), "203.0.113.9"),
        (line(CLIENT), "203.0.113.9"),
        (v2(0x20, 0x00, b""), PROXY),
        (v2(0x21, 0x00, b""), ""),
    ],
)
def test_the_client_is_whom_the_header_names(front: Front, header: bytes, host: str) -> None:
    for data in (header + b"hello", header):
        front.send(front.connect(PROXY), data)
    assert [client.host for client in front.opened] == [host, host]
    assert [client.heard for client in front.opened] == [b"hello", b""], "what follows the header is the client's"


def test_the_header_may_come_a_byte_at_a_time(front: Front) -> None:
    client, data = front.connect(PROXY), relayed(CLIENT) + b"hello"
    for index in range(len(data)):
        front.send(client, data[index : index + 1])
    [taken] = front.opened
    assert (taken.host, taken.heard) == ("203.0.113.9", b"hello")


def test_from_elsewhere_the_same_bytes_are_ordinary(front: Front) -> None:
    front.send(front.connect(STRANGER), relayed(CLIENT))
    [taken] = front.opened
    assert (taken.host, taken.heard) == (STRANGER, relayed(CLIENT))


def test_a_load_balancer_that_says_nothing_of_the_client_is_refused(front: Front, logged: Log) -> None:
    client = front.connect(PROXY)
    front.send(client, b'{"op":"ping"}\n')
    assert front.opened == []
    with pytest.raises(ConnectionResetError):  # its bytes were not read
        at_end(client)
    assert logged.lines("level", "proxy", "why") == [("warning", PROXY, "no PROXY protocol header")]


def test_a_load_balancer_that_hangs_up_first(front: Front, logged: Log) -> None:
    client = front.connect(PROXY)
    front.send(client, relayed(CLIENT)[:20])
    client.close()
    front.settle()
    assert logged.lines("why") == [("closed before its PROXY protocol header was complete",)]
    front.wheel.sweep(front.reactor.now + 2 * HEADER_SECONDS)
    assert front.opened == []


def test_a_load_balancer_that_waits_too_long(front: Front, logged: Log) -> None:
    client = front.connect(PROXY)
    front.wheel.sweep(front.reactor.now + HEADER_SECONDS - 2)
    assert not at_end(client)
    front.wheel.sweep(front.reactor.now + HEADER_SECONDS + 2)
    assert at_end(client)
    assert logged.lines("why") == [("no PROXY protocol header within 5 s",)]


def test_a_client_that_has_come_in_is_not_timed_out(front: Front) -> None:
    client = front.connect(PROXY)
    front.send(client, relayed(CLIENT))
    front.wheel.sweep(front.reactor.now + 2 * HEADER_SECONDS)
    assert not at_end(client)


def test_nothing_of_it_is_left_behind(front: Front) -> None:
    for _ in range(5):
        front.send(front.connect(PROXY), relayed(CLIENT))
    front.wheel.sweep(front.reactor.now + 2 * HEADER_SECONDS)
    assert len(front.opened) == 5
    gc.collect()  # those of other tests
    assert [it for it in gc.get_objects() if isinstance(it, Relayed)] == []


def test_who_came_is_logged_for_those_who_ask(front: Front, logged: Log) -> None:
    front.send(front.connect(PROXY), relayed(CLIENT))
    assert logged.lines("level", "address", "proxy") == [("debug", "203.0.113.9", PROXY)]
