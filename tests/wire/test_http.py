"""The HTTP port: what is answered, and what becomes of those who do not speak HTTP."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from imserver.observe.metrics import Counters
from imserver.protocol.schema import encoded
from imserver.session.keepalive import TimerWheel
from imserver.wire.http import IDLE_SECONDS, HttpConnection
from imserver.wire.reactor import Reactor
from imserver.wire.site import Site, web_folder
from tests.wire.host import at_end, received, tcp_pair

HEADERS = "host: example.org\r\n"
UPGRADE = (
    HEADERS + "upgrade: websocket\r\nconnection: keep-alive, Upgrade\r\nsec-websocket-version: 13\r\n"
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Port:
    """One client of the HTTP port. `upgraded` has what was read past the handshake."""

    def __init__(self, folder: Path) -> None:
        self.why_not_ready = ""
        self.reactor = Reactor(Counters())
        self.wheel = TimerWheel(self.reactor.now)
        self.upgraded: list[bytes] = []
        server, self.client = tcp_pair()
        server.setblocking(False)
        self.client.setblocking(False)
        self._server = server
        site = Site(folder, lambda: self.why_not_ready)
        self.reactor.add(server.fileno(), HttpConnection(server, site, self.reactor, self.wheel, self._upgrade))

    def _upgrade(self, sock: socket.socket, trailing: bytes) -> None:
        self.upgraded.append(trailing)

    def ask(self, data: str | bytes) -> bytes:
        self.client.send(data.encode() if isinstance(data, str) else data)
        return self.hear()

    def hear(self) -> bytes:
        answer = b""
        for _ in range(20):
            self.reactor.turn()
            answer += received(self.client)
        return answer

    def close(self) -> None:
        self.client.close()
        self._server.close()
        self.reactor.close()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    (tmp_path / "index.html").write_text("<title>imserver</title>")
    (tmp_path / "js").mkdir()
    (tmp_path / "js" / "app.js").write_text("export {};")
    port = Port(tmp_path)
    yield port
    port.close()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def headers(answer: bytes) -> dict[bytes, bytes]:
    lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return {name.lower(): value for name, value in (one.split(b": ", 1) for one in lines)}


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


# -- answers


def test_the_web_client(port: Port) -> None:
    page = port.ask(f"GET / HTTP/1.1\r\n{HEADERS}\r\n")
    assert (status(page), body(page)) == (200, b"<title>imserver</title>")
    assert headers(page)[b"content-type"] == b"text/html; charset=utf-8"
    assert b"default-src 'self'" in headers(page)[b"content-security-policy"]
    script = port.ask(f"GET /js/app.js?v=1 HTTP/1.1\r\n{HEADERS}\r\n")
    assert (status(script), headers(script)[b"content-type"]) == (200, b"text/javascript; charset=utf-8")


def test_what_the_browser_has_is_not_sent_again(port: Port) -> None:
    etag = headers(port.ask(f"GET / HTTP/1.1\r\n{HEADERS}\r\n"))[b"etag"].decode()
    again = port.ask(f"GET / HTTP/1.1\r\n{HEADERS}if-none-match: {etag}\r\n\r\n")
    assert (status(again), body(again)) == (304, b"")
    changed = port.ask(f'GET / HTTP/1.1\r\n{HEADERS}if-none-match: "old"\r\n\r\n')
    assert status(changed) == 200


def test_head_has_the_headers_of_get_and_no_body(port: Port) -> None:
    got = port.ask(f"GET / HTTP/1.1\r\n{HEADERS}\r\n")
    asked = port.ask(f"HEAD / HTTP/1.1\r\n{HEADERS}\r\n")
    assert (status(asked), body(asked)) == (200, b"")
    assert headers(asked)[b"content-length"] == headers(got)[b"content-length"]
    assert status(port.ask(f"GET /healthz HTTP/1.1\r\n{HEADERS}\r\n")) == 200, "the connection goes on"


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        ("GET /healthz", 200),
        ("GET /nothing", 404),
        ("GET /../pyproject.toml", 404),
        ("GET /js", 404),
        ("POST /nothing", 404),
        ("POST /", 405),
        ("DELETE /ws", 405),
        ("GET /ws", 426),
        ("OPTIONS *", 404),
    ],
)
def test_status(port: Port, request_line: str, expected: int) -> None:
    assert status(port.ask(f"{request_line} HTTP/1.1\r\n{HEADERS}\r\n")) == expected
    assert status(port.ask(f"GET /healthz HTTP/1.1\r\n{HEADERS}\r\n")) == 200


def test_the_protocol_is_described(port: Port) -> None:
    described = port.ask(f"GET /protocol.json HTTP/1.1\r\n{HEADERS}\r\n")
    assert (status(described), headers(described)[b"content-type"]) == (200, b"application/json")
    assert body(described) == encoded()


def test_ready_only_while_delivery_is_proven(port: Port) -> None:
    ready = port.ask(f"GET /readyz HTTP/1.1\r\n{HEADERS}\r\n")
    assert (status(ready), json.loads(body(ready))) == (200, {"ready": True, "why": ""})
    port.why_not_ready = "draining"
    draining = port.ask(f"GET /readyz HTTP/1.1\r\n{HEADERS}\r\n")
    assert (status(draining), json.loads(body(draining))) == (503, {"ready": False, "why": "draining"})
    assert headers(draining)[b"cache-control"] == b"no-store"


def test_a_method_that_is_not_allowed_is_told_which_are(port: Port) -> None:
    answer = port.ask(f"PUT / HTTP/1.1\r\n{HEADERS}content-length: 3\r\n\r\nabc")
    assert (status(answer), headers(answer)[b"allow"]) == (405, b"GET, HEAD")


def test_requests_may_come_all_at_once_and_in_pieces(port: Port) -> None:
    one = f"GET /healthz HTTP/1.1\r\n{HEADERS}\r\n"
    assert port.ask(one * 3).count(b"alive\n") == 3
    for byte in one[:-1]:
        assert port.ask(byte) == b""
    assert body(port.ask("\n")) == b"alive\n"


def test_http_1_0_is_answered_and_closed(port: Port) -> None:
    assert body(port.ask("GET /healthz HTTP/1.0\r\n\r\n")) == b"alive\n"
    assert at_end(port.client)


def test_who_asks_to_close_is_closed(port: Port) -> None:
    assert body(port.ask(f"GET /healthz HTTP/1.1\r\n{HEADERS}connection: close\r\n\r\n")) == b"alive\n"
    assert at_end(port.client)


# -- the WebSocket's handshake (the key and its answer are those of RFC 6455, section 1.3)


def test_the_handshake(port: Port) -> None:
    answer = port.ask(f"GET /ws HTTP/1.1\r\n{UPGRADE}sec-websocket-protocol: chat, im.v1\r\n\r\nread too far")
    assert status(answer) == 101
    assert headers(answer)[b"sec-websocket-accept"] == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert headers(answer)[b"sec-websocket-protocol"] == b"im.v1"
    assert port.upgraded == [b"read too far"]


def test_a_subprotocol_is_optional_and_never_made_up(port: Port) -> None:
    answer = port.ask(f"GET /ws HTTP/1.1\r\n{UPGRADE}sec-websocket-protocol: chat\r\n\r\n")
    assert status(answer) == 101
    assert b"sec-websocket-protocol" not in headers(answer)
    assert port.upgraded == [b""]


def test_the_handshake_after_another_request(port: Port) -> None:
    answer = port.ask(f"GET /healthz HTTP/1.1\r\n{HEADERS}\r\nGET /ws HTTP/1.1\r\n{UPGRADE}\r\n")
    assert b"alive\n" in answer
    assert b" 101 " in answer
    assert port.upgraded == [b""]


@pytest.mark.parametrize(
    ("replaced", "by", "expected"),
    [
        ("sec-websocket-version: 13", "sec-websocket-version: 8", 426),
        ("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
        ("connection: keep-alive, Upgrade", "connection: keep-alive", 400),
        ("upgrade: websocket", "upgrade: h2c", 426),
    ],
)
def test_half_a_handshake(port: Port, replaced: str, by: str, expected: int) -> None:
    assert replaced in UPGRADE
    answer = port.ask(f"GET /ws HTTP/1.1\r\n{UPGRADE.replace(replaced, by)}\r\n")
    assert status(answer) == expected
    assert port.upgraded == []


# -- who does not speak HTTP


@pytest.mark.parametrize(
    "garbage",
    [
        b'{"op":"login","user":"alice","password":"secret","device":"pad"}\n\n',
        b"\x00\x01\x02\xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nno host\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n",
    ],
)
def test_garbage_is_refused_and_closed(port: Port, garbage: bytes) -> None:
    answer = port.ask(garbage)
    assert (status(answer), body(answer)) == (400, b"not HTTP\n")
    assert at_end(port.client)


def test_a_client_that_is_still_sending_sees_why_it_is_refused(port: Port) -> None:
    port.client.send(b"POST / HTTP/1.0\r\nhost\r\n\r\n" + b"x" * 100_000)
    answer = port.hear()
    port.client.send(b"x" * 1_000)
    assert status(answer + port.hear()) == 400
    assert at_end(port.client)
    port.client.close()
    port.reactor.turn()
    assert port.reactor.sockets == 0


def test_headers_without_end_are_refused(port: Port) -> None:
    port.ask(f"GET / HTTP/1.1\r\n{HEADERS}x: " + "x" * 16_000)
    answer = port.ask(b"x" * 1_000)
    assert status(answer) == 431
    assert at_end(port.client)


def test_an_idle_client_is_closed(port: Port) -> None:
    port.ask("GET / HT")
    port.wheel.sweep(port.reactor.now + IDLE_SECONDS / 2)
    assert not at_end(port.client)
    port.wheel.sweep(port.reactor.now + 2 * IDLE_SECONDS + 2)
    assert at_end(port.client)


def test_a_client_that_goes_is_forgotten(port: Port) -> None:
    port.client.close()
    port.reactor.turn()
    assert port.reactor.sockets == 0
    port.wheel.sweep(port.reactor.now + 100)


def test_a_long_answer_to_a_slow_reader_is_whole(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes(b"0123456789" * 1_000_000)
    port = Port(tmp_path)
    request = f"GET / HTTP/1.1\r\n{HEADERS}\r\n"
    answer = port.ask(request * 2)
    while answer.count(b"HTTP/1.1 200") != 2 or len(answer) < 20_000_000:
        more = port.hear()
        answer += more
    assert answer.count(b"0123456789" * 1_000_000) == 2
    port.close()


def test_the_web_client_of_this_project_is_found() -> None:
    assert (web_folder() / "index.html").is_file()
