"""Bad input over real sockets: it gets the error that it deserves, and harms nobody else.

Every test ends with two bystanders, who were there before, talking to each other.
"""

import contextlib
import json
import random
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import PATIENCE_SECONDS, Client, Ended, Frame, Refused, TcpClient, WebSocketClient
from tests.e2e.raw_websocket import BINARY, CLOSE, PING, TEXT, RawWebSocket, frame
from tests.server import Server

MAX_FRAME = 65_536
DEEP = 10_000
Opener = Callable[[], Client]


@pytest.fixture(autouse=True)
def bystanders(
    tcp: Callable[[], TcpClient], websocket: Callable[[], WebSocketClient], user: Callable[[str], str]
) -> Iterator[Callable[[], None]]:
    """Two who talk to each other whenever they are called, and after the test."""
    ann, ben = tcp(), websocket()
    names = user("ann"), user("ben")
    for client, name in zip((ann, ben), names, strict=True):
        client.register(name)
        client.enter(name, "desk")
    count = 0

    def talk() -> None:
        nonlocal count
        count += 1
        ann.tell(names[1], f"a{count}")
        assert ben.hear("msg")["id"] == f"a{count}"
        ben.tell(names[0], f"b{count}")
        assert ann.hear("msg")["id"] == f"b{count}"

    talk()
    yield talk
    talk()


@pytest.fixture(params=["tcp", "websocket"])
def opened(request: pytest.FixtureRequest) -> Client:
    """A client that has not logged in, over each transport."""
    opener: Opener = request.getfixturevalue(request.param)
    return opener()


def is_alive(client: Client) -> bool:
    return client.ask("ping") == {}


# -- frames that are wrong


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nonsense", "bad-frame"),
        ("{", "bad-frame"),
        ("[]", "bad-frame"),
        ('"ping"', "bad-frame"),
        ("5", "bad-frame"),
        ("null", "bad-frame"),
        ("[" * DEEP, "bad-frame"),
        ("[" * DEEP + "]" * DEEP, "bad-frame"),
        ('{"a":' * DEEP + "1" + "}" * DEEP, "bad-request"),
        ('{"op":"ping"} {"op":"ping"}', "bad-frame"),
        ("{}", "bad-request"),
    ],
)
def test_what_is_no_frame(opened: Client, text: str, code: str) -> None:
    opened.send_text(text)
    push = opened.receive()
    assert push["ev"] == "error"
    assert push["code"] in {code, "bad-frame"}
    assert push["text"]
    assert is_alive(opened)


@pytest.mark.parametrize(
    ("frame", "code", "names"),
    [
        ({"op": "fly"}, "unknown-op", "fly"),
        ({"op": 7}, "bad-request", "op"),
        ({"op": "login", "device": 5}, "bad-request", "device"),
        ({"op": "login", "device": "d", "user": 5, "password": "x"}, "bad-request", "user"),
        ({"op": "login", "device": "d", "user": ["x"], "password": "x"}, "bad-request", "user"),
        ({"op": "login", "device": "d"}, "bad-request", "user"),
        ({"op": "login", "user": "x", "password": "x"}, "bad-request", "device"),
        ({"op": "login", "device": "d/e", "user": "x", "password": "x"}, "bad-request", "device"),
        ({"op": "login", "device": "d", "user": "-x", "password": "x"}, "bad-request", "user"),
        ({"op": "login", "device": "d" * 65, "user": "x", "password": "x"}, "bad-request", "device"),
        ({"op": "login", "device": "d", "token": "nonsense"}, "bad-credentials", "token"),
        ({"op": "register", "user": "ü", "password": "x"}, "bad-request", "user"),
        ({"op": "register", "user": "a b", "password": "x"}, "bad-request", "user"),
        ({"op": "register", "user": "", "password": "x"}, "bad-request", "user"),
        ({"op": "register", "user": "abc", "password": ""}, "bad-request", "password"),
        ({"op": "send", "id": "1", "to": "x", "body": "x"}, "not-logged-in", "log in"),
    ],
)
def test_what_is_no_command(opened: Client, frame: Frame, code: str, names: str) -> None:
    with pytest.raises(Refused) as refused:
        opened.ask(**frame)
    assert refused.value.code == code
    assert names in refused.value.text
    assert is_alive(opened)


@pytest.mark.parametrize(
    ("fields", "code", "names"),
    [
        ({"to": 5}, "bad-request", "to"),
        ({"id": 5}, "bad-request", "id"),
        ({"id": ""}, "bad-request", "id"),
        ({"id": "x" * 65}, "bad-request", "id"),
        ({"id": "ü"}, "bad-request", "id"),
        ({"to": "nobody.there"}, "not-found", "to"),
        ({"to": "#nothing"}, "not-found", "to"),
        ({"to": "not a name"}, "bad-request", "to"),
        ({"body": 5}, "bad-request", "body"),
        ({"body": [1]}, "bad-request", "body"),
        ({"body": None}, "bad-request", "body"),
        ({"body": "\0"}, "bad-request", "body"),
        ({"body": "\ufffe"}, "bad-request", "body"),
        ({"body": {"a": ["\u0007"]}}, "bad-request", "body"),
        ({"body": {"\u0007": 1}}, "bad-request", "body"),
    ],
)
def test_what_is_no_message(opened: Client, user: Callable[[str], str], fields: Frame, code: str, names: str) -> None:
    me = user("carl")
    opened.register(me)
    opened.enter(me, "desk")
    with pytest.raises(Refused) as refused:
        opened.ask("send", **{"id": "m1", "to": me, "body": "x"} | fields)
    assert refused.value.code == code
    assert names in refused.value.text
    assert opened.ask("history", **{"with": me})["messages"] == []


def test_a_lone_surrogate(opened: Client, user: Callable[[str], str]) -> None:
    """No JSON decoder makes text of it, so not even the `ref` beside it is found."""
    me = user("carl")
    opened.register(me)
    opened.enter(me, "desk")
    opened.say("send", id="m1", to=me, body="\ud800")
    push = opened.hear("error")
    assert push["code"] == "bad-request"
    assert "body" in push["text"]
    assert is_alive(opened)


def test_a_body_nested_too_deeply(opened: Client, user: Callable[[str], str]) -> None:
    me = user("carl")
    opened.register(me)
    opened.enter(me, "desk")
    head = f'{{"op":"send","id":"m1","to":"{me}",'
    opened.send_text(head + '"ref":1,"body":' + "[" * DEEP + "]" * DEEP + "}")
    assert (opened.receive().get("err") or {"code": "bad-frame"})["code"] in {"bad-frame", "bad-request"}
    opened.send_text(head + '"ref":2,"body":' + '{"a":' * 100 + "1" + "}" * 101)
    reply = opened.receive()
    assert reply["re"] == 2
    assert reply["err"]["code"] == "bad-request"
    assert "body" in reply["err"]["text"]
    assert is_alive(opened)


def test_too_many_bad_frames(opened: Client) -> None:
    for _ in range(6):
        opened.send_text("nonsense")
    *errors, bye = (it for it in opened.hear_rest())
    assert bye["ev"] in {"bye", "error"}
    assert [it["code"] for it in (*errors, bye) if it["ev"] == "bye"] == ["bad-frame"]


# -- bytes that are wrong, over TCP


@pytest.mark.parametrize(
    "line",
    [
        b'{"op":"ping","ref":"\xc3"}',  # half a character
        b'{"op":"ping","ref":"\xed\xa0\x80"}',  # a surrogate
        b"\xff\xfe{\x00}\x00",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(128, 160)),  # TLS
        b"x" * (MAX_FRAME + 1),
    ],
)
def test_what_ends_a_tcp_connection(tcp: Callable[[], TcpClient], line: bytes) -> None:
    client = tcp()
    client.send_text(line)
    frames = client.hear_rest()
    assert [it["code"] for it in frames if it["ev"] == "bye"] == ["bad-frame"]
    assert frames[-1]["reconnect"] is False


def test_what_came_before_the_break_counts(tcp: Callable[[], TcpClient]) -> None:
    client = tcp()
    client.send_bytes(b'{"op":"ping","ref":1}\n{"op":"ping","ref":2}\n' + b"x" * (MAX_FRAME + 1) + b"\n")
    assert [it.get("re") for it in client.hear_rest()] == [1, 2, None]


def test_a_gigabyte_without_a_newline(tcp: Callable[[], TcpClient]) -> None:
    """The server says so after about one frame, whatever else is on its way."""
    client = tcp()
    sent, chunk = 0, b"x" * 16_384
    with contextlib.suppress(Ended):
        while sent < 1 << 30 and not select.select([client.socket], [], [], 0)[0]:
            client.send_bytes(chunk)
            sent += len(chunk)
    assert client.receive()["code"] == "bad-frame"
    assert sent < 16 << 20  # the rest of it is in the kernel's buffers
    with pytest.raises(Ended):
        client.receive()
    with pytest.raises(Ended):  # and a client that does not care is cut off soon
        while True:
            client.send_bytes(b"x")
            select.select([], [], [], 0.01)


def test_a_frame_as_large_as_allowed(opened: Client, user: Callable[[str], str]) -> None:
    me = user("carl")
    opened.register(me)
    opened.enter(me, "desk")
    empty = json.dumps({"op": "send", "ref": 1, "id": "m1", "to": me, "body": ""})
    opened.send_text(json.dumps({"op": "send", "ref": 1, "id": "m1", "to": me, "body": "x" * (MAX_FRAME - len(empty))}))
    assert opened.receive()["ok"]["id"] == "m1"


def test_a_trickle_of_single_bytes_is_a_frame(tcp: Callable[[], TcpClient]) -> None:
    client = tcp()
    for byte in b'\r\n\n{"op":"ping","ref":"slow"}\r\n':
        client.send_bytes(bytes([byte]))
    assert client.receive() == {"re": "slow", "ok": {}}


def test_http_on_the_tcp_port(tcp: Callable[[], TcpClient]) -> None:
    client = tcp()
    client.send_bytes(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert [client.receive()["code"] for _ in range(2)] == ["bad-frame"] * 2


def test_noise(shared: Server) -> None:
    chance = random.Random(7)
    for address in (shared.tcp, shared.http):
        for _ in range(30):
            with socket.create_connection(address, timeout=PATIENCE_SECONDS) as sock, contextlib.suppress(OSError):
                sock.sendall(chance.randbytes(chance.randrange(1, 2000)))
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass


# -- bytes that are wrong, over HTTP


@pytest.mark.parametrize(
    "data",
    [
        b'{"op":"ping","ref":1}\n\n',
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET /ws HTTP/1.1\r\nHost: here\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: here\r\nX: " + b"x" * 20_000,
    ],
)
def test_what_is_no_http(shared: Server, data: bytes) -> None:
    with socket.create_connection(shared.http, timeout=PATIENCE_SECONDS) as sock:
        sock.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := sock.recv(65536):
                answer += chunk
    assert answer[:10] in {b"HTTP/1.1 4", b"HTTP/1.1 5", b""}


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/nothing", "GET", 404), ("/../../etc/passwd", "GET", 404), ("/", "DELETE", 405), ("/ws", "GET", 426)],
)
def test_http_requests_for_nothing(shared: Server, path: str, method: str, status: int) -> None:
    assert shared.get(path, method=method)[0] == status


# -- WebSocket frames that are wrong


@pytest.fixture
def raw(shared: Server) -> Iterator[RawWebSocket]:
    client = RawWebSocket(shared.http)
    yield client
    client.close()


PING_COMMAND = b'{"op":"ping","ref":1}'


@pytest.mark.parametrize(
    "data",
    [
        frame(BINARY, PING_COMMAND),
        frame(TEXT, PING_COMMAND, masked=False),
        frame(TEXT, b'{"op":"ping","ref":"\xc3"}'),
        frame(TEXT, b"x" * (MAX_FRAME + 1)),
        frame(TEXT, b"x", size=1 << 40),
        frame(TEXT, b"x", size=(1 << 63) - 1),
        frame(TEXT, b"x" * MAX_FRAME, fin=False) + frame(0, b"x" * MAX_FRAME),
        frame(TEXT, b"x", fin=False) * 2,  # a message inside a message
        frame(0, b"x"),  # the rest of nothing
        frame(TEXT, b"{\xc3", fin=False) + frame(0, b"}"),
        frame(PING, b"x" * 126),
        frame(PING, b"x", fin=False),
        frame(3, b"x"),  # reserved
        b"\xc1\x80abcd",  # a reserved bit
        b"\xff" * 20,
    ],
)
def test_what_ends_a_websocket(raw: RawWebSocket, data: bytes) -> None:
    raw.send(data)
    frames = list(raw.frames())
    byes = [json.loads(payload) for opcode, payload in frames if opcode == TEXT]
    assert [(bye["ev"], bye["code"], bye["reconnect"]) for bye in byes] == [("bye", "bad-frame", False)]


def test_a_message_in_fragments_with_a_ping_between(raw: RawWebSocket) -> None:
    raw.send(frame(TEXT, PING_COMMAND[:5], fin=False) + frame(PING, b"there?") + frame(0, PING_COMMAND[5:]))
    found = dict(filter(None, (raw.receive(), raw.receive())))
    assert found == {10: b"there?", TEXT: b'{"re":1,"ok":{}}'}


def test_a_websocket_trickle_of_single_bytes(raw: RawWebSocket) -> None:
    for byte in frame(TEXT, PING_COMMAND):
        raw.send(bytes([byte]))
    assert raw.receive() == (TEXT, b'{"re":1,"ok":{}}')


def test_closing_a_websocket(raw: RawWebSocket) -> None:
    raw.send(frame(CLOSE, (1000).to_bytes(2, "big")))
    assert [opcode for opcode, _ in raw.frames()] == [CLOSE]


# -- clients that do nothing


def test_a_thousand_connections_that_never_log_in(shared: Server, bystanders: Callable[[], None]) -> None:
    with contextlib.ExitStack() as stack:
        waiting = {
            sock.fileno(): sock
            for sock in (stack.enter_context(socket.create_connection(shared.tcp)) for _ in range(1000))
        }
        poll = select.poll()
        for descriptor in waiting:
            poll.register(descriptor, select.POLLIN)
        said: dict[int, bytes] = {}
        bystanders()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while waiting and time.monotonic() < deadline:
            for descriptor, _ in poll.poll(1000):
                data = waiting[descriptor].recv(65536)
                if data:
                    said[descriptor] = said.get(descriptor, b"") + data
                else:
                    poll.unregister(descriptor)
                    del waiting[descriptor]
        assert not waiting
        assert len(said) == 1000
        assert {json.loads(line)["code"] for line in said.values()} == {"login-timeout"}


def memory_of(pids: list[int]) -> int:
    """Resident bytes, of all together."""
    lines = (line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def test_a_client_that_never_reads(
    shared: Server, tcp: Callable[[], TcpClient], user: Callable[[str], str], bystanders: Callable[[], None]
) -> None:
    """Its memory in the server is bounded; others notice nothing; when it reads at last it misses nothing."""
    count, body = 1500, "x" * 8_000
    deaf_name, speaker_name = user("deaf"), user("speaker")
    speaker = tcp()
    with TcpClient(shared.tcp, receive_buffer=4096) as deaf:
        for client, name in ((deaf, deaf_name), (speaker, speaker_name)):
            client.register(name)
            client.enter(name, "desk")
        before = memory_of(shared.worker_pids) if sys.platform == "linux" else 0
        say_many(speaker, deaf_name, count, body)
        bystanders()
        if sys.platform == "linux":
            assert memory_of(shared.worker_pids) - before < 6 << 20  # twelve were said
        heard = [deaf.hear("msg") for _ in range(count)]
        assert [it["id"] for it in heard] == [f"m{number}" for number in range(count)]
        speaker.tell(deaf_name, "live")
        assert deaf.hear("msg")["id"] == "live"
        assert is_alive(deaf)


def say_many(client: TcpClient, to: str, count: int, body: Any, window: int = 32) -> None:
    """`count` messages, all of them acknowledged at the end."""
    said = acknowledged = 0
    while acknowledged < count:
        while said < count and said - acknowledged < window:
            client.say("send", ref=said, id=f"m{said}", to=to, body=body)
            said += 1
        reply = client.receive()
        assert "ok" in reply, reply
        acknowledged += 1


@pytest.mark.parametrize(("count", "size"), [(2000, 10), (600, 2_000), (150, 60_000)])
def test_a_long_backlog_comes_whole(
    opened: Client, tcp: Callable[[], TcpClient], user: Callable[[str], str], count: int, size: int
) -> None:
    speaker, names = tcp(), (user("speaker"), user("late"))
    for name in names:
        speaker.register(name)
    speaker.enter(names[0], "desk")
    say_many(speaker, names[1], count, "x" * size)
    heard = opened.enter(names[1], "desk")
    assert [it["id"] for it in heard] == [f"m{number}" for number in range(count)]
    speaker.tell(names[1], "live")
    assert opened.hear("msg")["id"] == "live"
