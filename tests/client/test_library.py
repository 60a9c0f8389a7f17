"""The library against the real server, on trio and on asyncio: nothing lost, nothing twice, in order."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread
import imclient
import pytest

from tests.client.program import tcp_url, ws_url
from tests.server import Server

Url = Callable[[Server, str], str]
both_ways = pytest.mark.parametrize("url", [tcp_url, ws_url], ids=["tcp", "ws"])
on_both = pytest.mark.parametrize("loop", ["trio", "asyncio"])
MESSAGES = 60


async def register(server: Server, *users: str) -> None:
    for user in users:
        await imclient.register(tcp_url(server, user), "secret")


@on_both
def test_nobody_listens_there(loop: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    async def main() -> None:
        with pytest.raises(imclient.ConnectionLost) as caught:
            async with imclient.connect(f"tcp://alice@127.0.0.1:{port}", password="secret"):
                pass
        assert str(caught.value) == f"127.0.0.1:{port} can't be reached: Connection refused"

    anyio.run(main, backend=loop)


@on_both
@both_ways
def test_a_conversation(server: Server, url: Url, name: Callable[[str], str], loop: str) -> None:
    async def main() -> None:
        alice, bob = name("alice"), name("bob")
        await register(server, alice, bob)
        connect = partial(imclient.connect, password="secret")
        async with connect(url(server, alice)) as a, connect(tcp_url(server, bob)) as b:
            first = await a.send(bob, "hi")
            message = await anext(b.messages())
            assert (message.sender, message.to, message.body) == (alice, bob, "hi")
            assert abs((message.sent_at - first.sent_at).total_seconds()) < 10
            await b.send(alice, {"text": "hello"})
            assert (await anext(a.messages())).body == {"text": "hello"}
            page = await a.history(bob, limit=1)
            assert [m.body for m in page.messages] == [{"text": "hello"}]
            page = await a.history(bob, before=page.next)
            assert [m.body for m in page.messages] == ["hi"]
            assert await a.ping() < 10
            with pytest.raises(imclient.NotFound):
                await a.send(name("nobody"), "x")

    anyio.run(main, backend=loop)


@on_both
@both_ways
@pytest.mark.parametrize("catastrophe", ["kill_workers", "kill_store", "restart"])
def test_nothing_is_lost_or_doubled(
    server: Server, url: Url, name: Callable[[str], str], catastrophe: str, loop: str
) -> None:
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
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(write, a, bob, "a")
            tasks.start_soon(write, b, alice, "b")
            tasks.start_soon(read, a, MESSAGES, received["alice"])
            tasks.start_soon(read, b, MESSAGES, received["bob"])
            tasks.start_soon(read, phone, MESSAGES * 2, received["phone"])
            await anyio.to_thread.run_sync(happen)
        numbers = list(map(str, range(MESSAGES)))
        assert received["bob"] == [f"a{n}" for n in numbers]
        assert received["alice"] == [f"b{n}" for n in numbers]
        for side in "ab":
            assert [body for body in received["phone"] if body.startswith(side)] == [f"{side}{n}" for n in numbers]

    anyio.run(main, backend=loop)


async def write(me: imclient.Client, to: str, mark: str) -> None:
    for number in range(MESSAGES):
        await me.send(to, f"{mark}{number}")
        await anyio.sleep(0.02)  # so that the catastrophe comes in the middle


async def read(me: imclient.Client, count: int, bodies: list[str]) -> None:
    messages = me.messages()
    for _ in range(count):
        bodies.append((await anext(messages)).body)


# -- the manners of each loop


@asynccontextmanager
async def entered(server: Server, user: str) -> AsyncIterator[imclient.Client]:
    await register(server, user)
    async with imclient.connect(tcp_url(server, user), password="secret") as me:
        yield me


@on_both
def test_errors_of_the_body_come_out_as_they_are(server: Server, name: Callable[[str], str], loop: str) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with entered(server, name("alice")):
                raise ZeroDivisionError

    anyio.run(main, backend=loop)


async def cancelled_by_asyncio(work: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await work()


async def cancelled_by_anyio(work: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(TimeoutError), anyio.fail_after(0.05):
        await work()


CANCELS = [("trio", cancelled_by_anyio), ("asyncio", cancelled_by_anyio), ("asyncio", cancelled_by_asyncio)]
Cancelled = Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]


@pytest.mark.parametrize(("loop", "cancelled"), CANCELS)
def test_a_client_can_be_cancelled_in_all_it_does(
    server: Server, name: Callable[[str], str], loop: str, cancelled: Cancelled
) -> None:
    alice = name("alice")

    async def main() -> None:
        async with entered(server, alice) as me:
            await me.send(alice, "one")
            await cancelled(anext_of(me))
            assert (await me.history(alice)).messages[0].body == "one"

        async def stay() -> None:
            async with imclient.connect(tcp_url(server, alice), password="secret") as other:
                left.append(other)
                await anyio.sleep_forever()

        left: list[imclient.Client] = []
        while not left:  # a slow machine: it was not in yet
            await cancelled(stay)
        with pytest.raises(imclient.ConnectionLost, match="the client was closed"):
            await left[0].ping()

    anyio.run(main, backend=loop)


def anext_of(me: imclient.Client) -> Callable[[], Awaitable[object]]:
    messages = me.messages()
    return lambda: anext(messages)
