"""The reactor and its poller: who is called, in which order, and what an error costs."""

import socket
import sys
from collections.abc import Iterator

import pytest

from imserver.observe.metrics import Counters
from imserver.session.keepalive import TimerWheel
from imserver.wire.listener import Listener, is_loopback
from imserver.wire.poller import READ, WRITE, new_poller
from imserver.wire.reactor import OUTSIDE_SOCKETS, Reactor
from tests.wire.host import Taken, at_end, received


class Pair:
    """A socket in the reactor, and the other end of it."""

    def __init__(self, reactor: Reactor, seen: list[str], name: str, *, outside: bool = False) -> None:
        self.reactor, self.seen, self.name = reactor, seen, name
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        reactor.add(self.ours.fileno(), self, outside=outside)

    def on_readable(self) -> None:
        self.seen.append(f"{self.name} reads {self.ours.recv(100).decode()}")

    def on_writable(self) -> None:
        self.seen.append(f"{self.name} can write")

    def flush(self) -> None:
        self.seen.append(f"{self.name} flushes")

    def drop(self, why: str) -> None:
        self.seen.append(f"{self.name} is dropped: {why}")
        self.leave()

    def leave(self) -> None:
        self.reactor.remove(self.ours.fileno())
        self.ours.close()


class Scene:
    def __init__(self) -> None:
        self.reactor = Reactor(Counters())
        self.wheel = TimerWheel(self.reactor.now)
        self.seen: list[str] = []
        self.pairs: list[Pair] = []

    def pair(self, name: str, kind: type[Pair] = Pair, *, outside: bool = False) -> Pair:
        self.pairs.append(kind(self.reactor, self.seen, name, outside=outside))
        return self.pairs[-1]

    def turn(self) -> list[str]:
        self.reactor.turn()
        seen = self.seen[:]
        self.seen.clear()
        return seen

    def close(self) -> None:
        for pair in self.pairs:
            pair.ours.close()
            pair.theirs.close()
        self.reactor.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


def test_whoever_is_ready_is_called(scene: Scene) -> None:
    one, two = scene.pair("one"), scene.pair("two")
    assert scene.turn() == []
    two.theirs.send(b"hello")
    assert scene.turn() == ["two reads hello"]
    scene.reactor.want(one.ours.fileno(), read=True, write=True)
    assert scene.turn() == ["one can write"]
    scene.reactor.want(one.ours.fileno(), read=False, write=False)
    one.theirs.send(b"unheard")
    assert scene.turn() == []
    scene.reactor.want(one.ours.fileno(), read=True, write=False)
    assert scene.turn() == ["one reads unheard"]


def test_a_crowd_outside_has_a_bounded_part_of_each_turn(scene: Scene) -> None:
    crowd = [scene.pair(f"stranger{number}", outside=True) for number in range(3 * OUTSIDE_SOCKETS)]
    inside = scene.pair("friend")
    for pair in crowd:
        pair.theirs.send(b"x")
    heard: list[str] = []
    for number in range(3):
        inside.theirs.send(b"%d" % number)
        seen = scene.turn()
        assert f"friend reads {number}" in seen
        assert len(seen) == 1 + OUTSIDE_SOCKETS
        heard += seen
    assert len(set(heard)) == 3 * (1 + OUTSIDE_SOCKETS), "each once"
    assert scene.turn() == []


def test_who_is_admitted_keeps_what_it_waits_for(scene: Scene) -> None:
    crowd = [scene.pair(f"stranger{number}", outside=True) for number in range(OUTSIDE_SOCKETS)]
    guest = scene.pair("guest", outside=True)
    guest.theirs.send(b"hello")
    scene.reactor.want(guest.ours.fileno(), read=False, write=False)
    assert scene.turn() == []
    scene.reactor.admit(guest.ours.fileno(), read=False, write=True)
    for pair in crowd:
        pair.theirs.send(b"x")
    assert "guest can write" in scene.turn()
    scene.reactor.want(guest.ours.fileno(), read=True, write=False)
    assert scene.turn() == ["guest reads hello"]
    scene.reactor.admit(guest.ours.fileno(), read=False, write=False)  # inside already: nothing changes
    guest.theirs.send(b"again")
    assert scene.turn() == ["guest reads again"]
    for pair in [guest, *crowd]:
        pair.leave()
    assert scene.reactor.sockets == 0


def test_an_error_outside_costs_the_one_who_made_it(scene: Scene) -> None:
    class Failing(Pair):
        def on_readable(self) -> None:
            raise ZeroDivisionError

    bad, good = scene.pair("bad", Failing, outside=True), scene.pair("good", outside=True)
    bad.theirs.send(b"x")
    good.theirs.send(b"y")
    assert sorted(scene.turn()) == ["bad is dropped: an error in the server", "good reads y"]
    assert scene.reactor.sockets == 1


def test_an_error_costs_the_one_who_made_it(scene: Scene) -> None:
    class Failing(Pair):
        def on_readable(self) -> None:
            raise ZeroDivisionError

    bad, good = scene.pair("bad", Failing), scene.pair("good")
    bad.theirs.send(b"x")
    good.theirs.send(b"y")
    assert sorted(scene.turn()) == ["bad is dropped: an error in the server", "good reads y"]
    assert scene.reactor.sockets == 1


def test_who_leaves_in_the_middle_of_a_batch_is_not_called(scene: Scene) -> None:
    class Jealous(Pair):
        def on_readable(self) -> None:
            super().on_readable()
            for other in scene.pairs:
                if other is not self and other.ours.fileno() >= 0:
                    other.leave()

    for name in ("one", "two", "three"):
        scene.pair(name, Jealous).theirs.send(b"x")
    assert len(scene.turn()) == 1
    assert scene.reactor.sockets == 1


def test_flushes_come_last_and_once(scene: Scene) -> None:
    class Eager(Pair):
        def on_readable(self) -> None:
            super().on_readable()
            self.reactor.touch(self)
            self.reactor.touch(self)

    for name in ("one", "two"):
        scene.pair(name, Eager).theirs.send(b"x")
    seen = scene.turn()
    assert sorted(seen[:2]) == ["one reads x", "two reads x"]
    assert sorted(seen[2:]) == ["one flushes", "two flushes"]


def test_a_flush_may_make_another_necessary(scene: Scene) -> None:
    two = scene.pair("two")

    class Chain(Pair):
        def flush(self) -> None:
            super().flush()
            self.reactor.touch(two)

    one = scene.pair("one", Chain)
    with scene.reactor.batch():
        scene.reactor.touch(one)
        assert scene.seen == []
    assert scene.seen == ["one flushes", "two flushes"]


def test_outside_of_a_turn_a_touch_flushes_at_once(scene: Scene) -> None:
    scene.reactor.touch(scene.pair("one"))
    assert scene.seen == ["one flushes"]


def test_a_socket_can_be_given_to_another_handler(scene: Scene) -> None:
    one, heir = scene.pair("one"), scene.pair("heir")
    heir.ours.close()
    heir.ours = one.ours
    scene.reactor.replace(one.ours.fileno(), heir)
    one.theirs.send(b"for the heir")
    assert scene.turn() == ["heir reads for the heir"]


# -- the listener


def listening(scene: Scene, most: int, opened: list[Taken]) -> tuple[Listener, tuple[str, int]]:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)

    def open_connection(client: socket.socket, host: str) -> Taken:
        opened.append(Taken(scene.reactor, client, host))
        return opened[-1]

    listener = Listener(sock, scene.reactor, scene.wheel, open_connection, most_sockets=most, counters=Counters())
    listener.start()
    return listener, sock.getsockname()


def test_new_clients_are_taken_with_their_addresses(scene: Scene) -> None:
    opened: list[Taken] = []
    listener, address = listening(scene, 10, opened)
    clients = [socket.create_connection(address) for _ in range(3)]
    scene.turn()
    assert [client.host for client in opened] == ["127.0.0.1"] * 3
    assert all(client.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for client in opened)
    assert not any(client.sock.getblocking() for client in opened)
    listener.stop()
    listener.stop()
    for client in clients:
        client.close()
    scene.turn()
    assert scene.reactor.sockets == 0


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("128.0.0.1", False),
        ("::1:2:3", False),
        ("1.127.0.0", False),
        ("", False),
    ],
)
def test_who_is_on_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_full_server_says_so_and_when_to_come_back(scene: Scene) -> None:
    opened: list[Taken] = []
    listener, address = listening(scene, 1, opened)
    with socket.create_connection(address) as client:
        scene.turn()
        client.setblocking(False)
        heard = received(client)
        assert heard.startswith(b'{"ev":"bye","code":"overloaded","text":"this server is full","reconnect":true')
        assert heard.endswith(b"}\n")
        assert at_end(client)
    assert opened == []
    listener.stop()


def test_a_full_worker_leaves_connections_to_the_others_for_a_while(scene: Scene) -> None:
    opened: list[Taken] = []
    listener, address = listening(scene, 1, opened)
    with socket.create_connection(address):
        scene.turn()
    with socket.create_connection(address) as client:
        scene.turn()
        client.setblocking(False)
        assert received(client) == b"", "it waits for another worker"
        scene.wheel.sweep(scene.reactor.now + 3)
        scene.turn()
        assert received(client).startswith(b'{"ev":"bye","code":"overloaded"')
    listener.stop()
    assert scene.reactor.sockets == 0


# -- the poller


def test_the_poller_reports_what_is_asked_for() -> None:
    poller, (ours, theirs) = new_poller(), socket.socketpair()
    fd = ours.fileno()
    poller.register(fd, READ)
    assert poller.poll(0, 10) == []
    theirs.send(b"x")
    assert poller.poll(0, 10) == [(fd, READ)]
    assert poller.poll(0, 10) == [(fd, READ)], "as long as it lasts, not once"
    poller.modify(fd, WRITE)
    assert poller.poll(0, 10) == [(fd, WRITE)]
    poller.modify(fd, 0)
    assert poller.poll(0, 10) == []
    poller.unregister(fd)
    for sock in (ours, theirs):
        sock.close()
    poller.close()


@pytest.mark.skipif(sys.platform == "linux", reason="Linux has epoll")
def test_kqueue_reports_both_kinds() -> None:
    poller, (ours, theirs) = new_poller(), socket.socketpair()
    poller.register(ours.fileno(), READ | WRITE)
    theirs.send(b"x")
    assert sorted(poller.poll(0, 10)) == [(ours.fileno(), READ), (ours.fileno(), WRITE)]
    poller.unregister(ours.fileno())
    for sock in (ours, theirs):
        sock.close()
    poller.close()
