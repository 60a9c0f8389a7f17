"""A connection on a real socket: what is half written, half read, stuck, paused, closed."""

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from wsproto.connection import Connection as WebSocketPeer
from wsproto.connection import ConnectionType
from wsproto.events import CloseConnection, Event, Ping, TextMessage

from imserver.session.session import Session
from imserver.wire.connection import Connection
from imserver.wire.linger import LINGER_SECONDS
from tests.session.node import token_for
from tests.wire.host import Host, at_end, hosting, received


@pytest.fixture
def host() -> Iterator[Host]:
    with hosting("alice", "bob") as host:
        yield host


def line(op: str, **fields: Any) -> bytes:
    return json.dumps({"op": op} | fields).encode() + b"\n"


def log_in(host: Host, user: str, **options: Any) -> socket.socket:
    client = host.connect(**options)
    client.send(line("login", token=token_for(user, "pad"), device="pad"))
    host.settle()
    assert frames(received(client))[-1]["ev"] == "synced"
    return client


def frames(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(one) for one in data.splitlines()]


def session_of(host: Host, user: str) -> Session:
    return next(session for session in host.node.context.registry if session.user == user)


def tail_state(session: Session) -> str:
    assert session.tail is not None
    return session.tail.state.value


def deliver(host: Host, sender: socket.socket, count: int, body: str = "x" * 900) -> None:
    """Bob is told so many things; the sender hears nothing of it."""
    for number in range(count):
        sender.send(line("send", id=f"c{number}", to="bob", body=body))
        host.settle()


# -- in and out


def test_a_frame_in_many_packets(host: Host) -> None:
    client = host.connect()
    for byte in line("ping", ref=1) + line("ping", ref=2):
        client.send(bytes([byte]))
        host.settle()
    assert frames(received(client)) == [{"re": 1, "ok": {}}, {"re": 2, "ok": {}}]


def test_many_frames_in_one_packet_are_answered_by_one_packet(host: Host) -> None:
    client = host.connect()
    client.send(b"".join(line("ping", ref=number) for number in range(100)))
    host.reactor.turn()
    assert [frame["re"] for frame in frames(client.recv(1 << 20))] == list(range(100))


def test_what_the_socket_does_not_take_at_once_goes_out_later_and_whole(host: Host) -> None:
    alice, bob = log_in(host, "alice"), log_in(host, "bob", unix=True, buffers=4096)
    deliver(host, alice, 60)
    data = b""
    while chunk := received(bob):
        data += chunk
        host.settle()
    assert [frame["id"] for frame in frames(data)] == [f"c{number}" for number in range(60)]
    assert session_of(host, "bob").channel.out_bytes == 0


def test_a_reader_that_is_stuck_holds_a_bounded_number_of_bytes_and_misses_nothing() -> None:
    with hosting("alice", "bob", out_buffer_bytes=10_000, page_entries=8) as host:
        alice, bob = log_in(host, "alice"), log_in(host, "bob", unix=True, buffers=4096)
        deliver(host, alice, 100)
        session = session_of(host, "bob")
        assert tail_state(session) == "behind"
        assert session.channel.out_bytes < 12_000
        assert session.channel.stuck_seconds(host.reactor.now + 5) >= 5
        alice.send(line("ping", ref="alice is served"))
        host.settle()
        assert frames(received(alice)) == [{"re": "alice is served", "ok": {}}]

        data = b""
        while chunk := received(bob):
            data += chunk
            host.settle()
        assert [frame["id"] for frame in frames(data)] == [f"c{number}" for number in range(100)]
        assert tail_state(session) == "live"
        assert session.channel.stuck_seconds(host.reactor.now + 5) == 0


def test_an_overflow_that_the_socket_takes_at_once_stops_nothing() -> None:
    """The tail stops at the bound within a turn; when the turn ends, the kernel takes all of it."""
    with hosting("alice", "bob", out_buffer_bytes=2_000, page_entries=8) as host:
        alice = log_in(host, "alice")
        deliver(host, alice, 20)
        bob = host.connect()
        bob.send(line("login", token=token_for("bob", "pad"), device="pad"))
        host.settle()
        deliver(host, alice, 21)
        host.settle()
        heard = [frame.get("id") for frame in frames(received(bob)) if frame.get("ev") == "msg"]
        assert heard == [f"c{number}" for number in range(21)]


def test_a_client_that_asks_and_never_reads_is_bounded_too() -> None:
    with hosting("alice", "bob", out_buffer_bytes=10_000) as host:
        alice, bob = log_in(host, "alice"), log_in(host, "bob", unix=True, buffers=4096)
        deliver(host, alice, 50)
        received(bob)
        for number in range(50):
            bob.send(line("history", ref=number, **{"with": "alice"}))
            host.settle()
        assert session_of(host, "bob").channel.out_bytes < 100_000


# -- pauses


def test_bytes_behind_a_pause_stay_in_order(host: Host) -> None:
    client = host.connect()
    client.send(line("login", token=token_for("alice", "pad"), device="pad") + line("ping", ref=1))
    host.reactor.turn()
    client.send(line("ping", ref=2))
    host.reactor.turn()
    assert received(client) == b""
    host.settle()
    assert [frame["re"] for frame in frames(received(client)) if "re" in frame] == [1, 2]


def test_a_client_that_goes_during_a_pause_loses_nothing_it_had_said() -> None:
    """On a Unix socket its end is reported also to who does not want to read; so what follows is read early."""
    with hosting("alice", "bob") as host:
        client = host.connect(unix=True)
        said = [line("send", id=f"c{number}", to="bob", body="x") for number in range(4)]
        client.send(line("login", token=token_for("alice", "pad"), device="pad") + said[0] + said[1])
        host.reactor.turn()
        client.send(said[2] + said[3])
        client.close()
        host.settle()
        stored = [json.loads(entry.content)["id"] for entry in host.world.database.accounts["bob"].log]
        assert stored == ["c0", "c1", "c2", "c3"][: len(stored)]


def test_what_a_client_said_during_a_pause_is_done_in_order_though_it_is_gone() -> None:
    """The login is through before its end is seen."""
    with hosting("alice", "bob") as host:
        client = host.connect(unix=True)
        said = [line("send", id=f"c{number}", to="bob", body="x") for number in range(4)]
        client.send(line("login", token=token_for("alice", "pad"), device="pad") + said[0] + said[1])
        host.reactor.turn()
        client.send(said[2] + said[3])
        client.close()
        host.reactor.turn()
        while host._move_store():
            pass
        host.settle()
        stored = [json.loads(entry.content)["id"] for entry in host.world.database.accounts["bob"].log]
        assert stored == ["c0", "c1", "c2", "c3"]


# -- the end


def test_a_client_that_is_gone_before_it_is_told_ends_its_session_once(host: Host) -> None:
    """Its reset comes with the first word it is told; the second one meets a broken pipe, outside of a turn."""
    client = host.connect()
    client.send(line("login", device="!") + b"\xff\n")
    client.close()
    host.settle()
    assert host.connections() == []


def test_a_websocket_that_is_gone_before_it_is_told_is_closed_once(host: Host) -> None:
    peer, client = WebSocketPeer(ConnectionType.CLIENT), host.connect(websocket=True)
    login = {"op": "login", "token": token_for("alice", "pad"), "device": "pad"}
    client.send(peer.send(TextMessage(json.dumps(login))))
    host.settle()
    received(client)
    client.send(peer.send(TextMessage('{"op":"logout","ref":1}')))
    client.close()
    host.settle()
    assert host.connections() == []
    assert host.reactor.sockets == 0


def test_a_held_up_client_that_is_expelled_as_it_reads_on_hears_why() -> None:
    with hosting("alice", max_bad_frames=0, out_buffer_bytes=4096) as host:
        client = host.connect(unix=True, buffers=4096)
        ping, (connection,) = line("ping", ref="x" * 500), host.connections()
        assert isinstance(connection, Connection)
        while not connection.out_bytes:  # until the kernel takes no more, and the rest is kept
            client.send(ping)
            host.settle()
        client.send(ping * 50 + b"x\n")  # held up in the middle
        heard = b""
        while not at_end(client):
            host.settle()
            heard += received(client)
        assert {frame["code"] for frame in frames(heard) if frame.get("ev") == "bye"} == {"bad-frame"}


def test_the_end_of_the_client_ends_the_session(host: Host) -> None:
    alice = log_in(host, "alice")
    alice.close()
    host.settle()
    assert len(host.node.context.registry) == 0
    assert host.connections() == []
    assert host.world.database.accounts["alice"].on == {}


def test_a_reset_does_too(host: Host) -> None:
    alice = log_in(host, "alice")
    alice.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    alice.close()
    host.settle()
    assert host.connections() == []


def test_a_client_reads_the_reason_before_the_end_though_it_is_still_sending(host: Host) -> None:
    client = host.connect()
    client.send(b"x" * 70_000)
    host.settle()
    client.send(b"x" * 10_000)
    host.settle()
    heard = frames(received(client))
    assert [(frame["ev"], frame["code"]) for frame in heard] == [("bye", "bad-frame")]
    assert heard[0]["text"] == "a frame is larger than 65536 bytes"
    assert at_end(client)
    client.close()
    host.settle()
    assert host.connections() == []


def test_a_client_that_does_not_see_the_end_is_cut_off(host: Host) -> None:
    client = host.connect()
    client.send(b"\xff\n")
    host.settle()
    assert len(host.connections()) == 1
    host.pass_time(LINGER_SECONDS + 1)
    assert host.connections() == []
    assert frames(received(client))[0]["text"].startswith("a frame is not UTF-8")


def test_an_error_in_a_handler_costs_that_connection_only(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = log_in(host, "alice"), log_in(host, "bob")
    guilty = session_of(host, "alice")

    def fails_for_alice(session: Session, command: object) -> None:
        if session is guilty:
            raise ZeroDivisionError
        ping(session, command)

    kind = next(kind for kind in host.node.context.handlers if kind.__name__ == "Ping")
    ping: Any = host.node.context.handlers[kind]
    host.node.context.handlers[kind] = fails_for_alice
    alice.send(line("ping", ref=1))
    bob.send(line("ping", ref=1))
    host.settle()
    assert at_end(alice)
    assert frames(received(bob)) == [{"re": 1, "ok": {}}]
    assert [session.user for session in host.node.context.registry] == ["bob"]


# -- WebSocket


def events(peer: WebSocketPeer, client: socket.socket) -> list[Event]:
    peer.receive_data(received(client))
    return list(peer.events())


def test_a_websocket_ping_is_answered_and_counts_as_a_sign_of_life(host: Host) -> None:
    peer, client = WebSocketPeer(ConnectionType.CLIENT), host.connect(websocket=True)
    client.send(peer.send(Ping(b"there?")))
    host.settle()
    assert [type(event).__name__ for event in events(peer, client)] == ["Pong"]


def test_a_websocket_close_is_answered_and_ends_the_session(host: Host) -> None:
    peer, client = WebSocketPeer(ConnectionType.CLIENT), host.connect(websocket=True)
    client.send(peer.send(TextMessage('{"op":"ping","ref":1}')) + peer.send(CloseConnection(1000)))
    host.settle()
    assert [type(event).__name__ for event in events(peer, client)] == ["TextMessage", "CloseConnection"]
    assert at_end(client)
    client.close()
    host.settle()
    assert host.connections() == []


def test_a_broken_websocket_hears_bye_and_a_close_and_nothing_after_it(host: Host) -> None:
    peer, client = WebSocketPeer(ConnectionType.CLIENT), host.connect(websocket=True)
    client.send(peer.send(Ping()) + b"\x82\x80abcd" + peer.send(Ping()))
    host.settle()
    heard = [event for event in events(peer, client) if type(event).__name__ != "Pong"]
    assert [type(event).__name__ for event in heard] == ["TextMessage", "CloseConnection"]
    assert at_end(client)


def test_nothing_follows_the_close_of_a_websocket() -> None:
    """The last of too many bad frames closes; the ping in the same packet has no answer any more."""
    with hosting("alice", max_bad_frames=1) as host:
        peer, client = WebSocketPeer(ConnectionType.CLIENT), host.connect(websocket=True)
        client.send(peer.send(TextMessage("x")) + peer.send(TextMessage("x")) + peer.send(Ping()))
        host.settle()
        assert [type(event).__name__ for event in events(peer, client)][-1] == "CloseConnection"
