"""HTTP on the admin port: dialogues over memory streams, time by a mock clock."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from imserver.observe.admin import CONNECTIONS_MAX, EXCHANGE_SECONDS, AdminPort, Page

PIECES = [
    b"GET ",
    b"HEAD ",
    b"PRI ",
    b"*",
    b"/status",
    b" HTTP/1.1",
    b" HTTP/2.0",
    b"\r\n",
    b"\n",
    b"host: x",
    b"content-length: 3",
]
GET = b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n"


async def status() -> Page:
    return Page("application/json", b"{}\n")


async def broken() -> Page:
    raise KeyError("a mistake")


def port() -> AdminPort:
    return AdminPort({"/status": status, "/broken": broken})


Client = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


def dialogue(talk: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        client, server = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port().handle, server)
            with trio.fail_after(10 * EXCHANGE_SECONDS):
                await talk(client)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def read_all(client: Client) -> bytes:
    return b"".join([bytes(chunk) async for chunk in client])


def answer_to(request: bytes) -> bytes:
    """All that comes until the port closes the connection, which it does when the client has."""
    answers = []

    async def talk(client: Client) -> None:
        await client.send_all(request)
        await client.send_eof()
        answers.append(await read_all(client))

    dialogue(talk)
    return answers[0]


def test_a_page() -> None:
    assert answer_to(GET) == (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n{}\n")


def test_a_query_does_not_matter() -> None:
    assert answer_to(GET.replace(b"/status", b"/status?x=1")).startswith(b"HTTP/1.1 200 ")


def test_head_is_get_without_the_content() -> None:
    assert answer_to(GET.replace(b"GET", b"HEAD")) == answer_to(GET).removesuffix(b"{}\n")
    assert answer_to(GET.replace(b"GET /", b"HEAD /no")).endswith(b"\r\n\r\n")


def test_two_requests_on_one_connection() -> None:
    assert answer_to(GET + GET).count(b"HTTP/1.1 200 OK") == 2


def test_http_1_0_ends_the_connection() -> None:
    async def talk(client: Client) -> None:
        await client.send_all(b"GET /status HTTP/1.0\r\n\r\n")
        assert (await read_all(client)).startswith(b"HTTP/1.1 200 ")

    dialogue(talk)


@pytest.mark.parametrize(
    ("request_", "status", "why"),
    [
        (GET.replace(b"/status", b"/nope"), b"404 Not Found", b"there is /broken, /status"),
        (GET.replace(b"GET", b"POST"), b"405 Method Not Allowed", b"allow: GET, HEAD"),
        (b"GET /status HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx", b"400 Bad Request", b"no page takes a body"),
        (b"GET /status HTTP/1.1\r\n\r\n", b"400 Bad Request", b"Host"),
        (b'{"op":"login"}\n\n', b"400 Bad Request", b""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400 Bad Request", b""),
        (GET[:-2] + b"x: " + b"y" * 40_000 + b"\r\n\r\n", b"431 Request Header Fields Too Large", b""),
        (b"GET /status HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n", b"501 Not Implemented", b""),
        (GET.replace(b"/status", b"/broken"), b"500 Internal Server Error", b"the log says why"),
    ],
)
def test_what_can_not_be_answered(request_: bytes, status: bytes, why: bytes) -> None:
    answer = answer_to(request_)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert why in answer
    assert b"a mistake" not in answer


def test_a_request_may_come_in_pieces() -> None:
    async def talk(client: Client) -> None:
        for position in range(len(GET)):
            await client.send_all(GET[position : position + 1])
        await client.send_eof()
        assert (await read_all(client)).endswith(b"{}\n")

    dialogue(talk)


@pytest.mark.parametrize("sent", [b"", GET[:9], GET])
def test_a_client_that_takes_its_time_is_closed(sent: bytes) -> None:
    async def talk(client: Client) -> None:
        await client.send_all(sent)
        await read_all(client)
        assert trio.current_time() == pytest.approx(began + EXCHANGE_SECONDS)

    began = 0.0
    dialogue(talk)


def test_a_client_that_does_not_read_is_closed() -> None:
    async def main() -> None:
        client, server = trio.testing.lockstep_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port().handle, server)
            await client.send_all(GET)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_client_that_goes_away_harms_nobody() -> None:
    async def talk(client: Client) -> None:
        await client.send_all(GET)
        await client.aclose()

    dialogue(talk)


def test_more_connections_than_allowed_are_refused_until_one_ends() -> None:
    async def main() -> None:
        admin = port()
        async with trio.open_nursery() as nursery:

            async def connect() -> Client:
                client, server = trio.testing.memory_stream_pair()
                nursery.start_soon(admin.handle, server)
                await trio.testing.wait_all_tasks_blocked()
                return client

            clients = [await connect() for _ in range(CONNECTIONS_MAX)]
            assert (await read_all(await connect())).startswith(b"HTTP/1.1 503 ")
            await clients.pop().aclose()
            await trio.testing.wait_all_tasks_blocked()
            welcome = await connect()
            await welcome.send_all(GET)
            assert bytes(await welcome.receive_some()).startswith(b"HTTP/1.1 200 ")
            nursery.cancel_scope.cancel()

    trio.run(main)


@given(st.binary(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_any_bytes_get_answers_or_nothing(request_: bytes) -> None:
    answer = answer_to(request_)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
