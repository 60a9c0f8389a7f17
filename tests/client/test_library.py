"""The library against the real server: nothing lost, nothing twice, in order."""

import socket
from collections.abc import Callable
from functools import partial

import imclient
import pytest
import trio

from tests.client.program import tcp_url, ws_url
from tests.server import Server

Url = Callable[[Server, str], str]
both_ways = pytest.mark.parametrize("url", [tcp_url, ws_url], ids=["tcp", "ws"])
MESSAGES = 60


async def register(server: Server, *users: str) -> None:
    for user in users:
        await imclient.register(tcp_url(server, user), "secret")


def test_nobody_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    async def main() -> None:
        with pytest.raises(imclient.ConnectionLost) as caught:
            async with imclient.connect(f"tcp://alice@127.0.0.1:{port}", password="secret"):
                pass
        assert str(caught.value) == f"127.0.0.1:{port} can't be reached: Connection refused"

    trio.run(main)


@both_ways
def test_a_conversation(server: Server, url: Url, name: Callable[[str], str]) -> None:
    async def main() -> None:
        alice, bob = name("alice"), name("bob")
        await register(server, alice, bob)
        connect = partial(imclient.connect, password="secret")
        async with connect(url(server, alice)) as a, connect(tcp_url(server, bob)) as b:
            first = await a.send(bob, "hi")
            message = await anext(b.messages())
            assert (message.sender, message.to, message.body) == (alice, bob, "hi")
            assert abs((message.sent_at - first.sent_at).total_seconds()) < 10
            second = await b.send(alice, {"text": "hello"})
            assert second.at != first.at
            assert (await anext(a.messages())).body == {"text": "hello"}
            page = await a.history(bob, limit=1)
            assert [m.body for m in page.messages] == [{"text": "hello"}]
            page = await a.history(bob, before=page.next)
            assert [m.body for m in page.messages] == ["hi"]
            assert await a.ping() < 10
            with pytest.raises(imclient.NotFound):
                await a.send(name("nobody"), "x")

    trio.run(main)


@both_ways
@pytest.mark.parametrize("catastrophe", ["kill_workers", "kill_store", "restart"])
def test_nothing_is_lost_or_doubled(server: Server, url: Url, name: Callable[[str], str], catastrophe: str) -> None:
    """Alice and bob write to each other all the time, and alice's phone listens."""

    def happen() -> None:
        if catastrophe == "restart":
            server.stop()
            server.start()
        else:
            getattr(server, catastrophe)()

    async def main() -> None:
        alice, bob = name("alice"), name("bob")
        await register(server, alice, bob)
        connect = partial(imclient.connect, password="secret")
        received: dict[str, list[str]] = {"alice": [], "phone": [], "bob": []}
        async with (
            connect(url(server, alice)) as a,
            connect(url(server, alice), device="phone") as phone,
            connect(url(server, bob)) as b,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(write, a, bob, "a")
            nursery.start_soon(write, b, alice, "b")
            nursery.start_soon(read, a, MESSAGES, received["alice"])
            nursery.start_soon(read, b, MESSAGES, received["bob"])
            nursery.start_soon(read, phone, MESSAGES * 2, received["phone"])
            await trio.to_thread.run_sync(happen)
        numbers = list(map(str, range(MESSAGES)))
        assert received["bob"] == [f"a{n}" for n in numbers]
        assert received["alice"] == [f"b{n}" for n in numbers]
        for side in "ab":
            assert [body for body in received["phone"] if body.startswith(side)] == [f"{side}{n}" for n in numbers]

    trio.run(main)


async def write(me: imclient.Client, to: str, mark: str) -> None:
    for number in range(MESSAGES):
        await me.send(to, f"{mark}{number}")
        await trio.sleep(0.02)  # so that the catastrophe comes in the middle


async def read(me: imclient.Client, count: int, bodies: list[str]) -> None:
    messages = me.messages()
    for _ in range(count):
        bodies.append((await anext(messages)).body)
