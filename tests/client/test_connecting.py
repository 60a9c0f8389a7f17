"""The client over memory streams, against the model server; time is trio's mock clock."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import imclient
import pytest
import trio
import trio.testing
from anyio.abc import ByteStream
from imclient import State
from imclient.address import Address
from imclient.client import Client
from imclient.reader import ACK_SECONDS
from wsproto.connection import ConnectionType

from imserver.protocol import codec
from imserver.protocol.commands import Ack, Login, Logout
from imserver.protocol.framing import WebSocketFraming
from imserver.protocol.pushes import Bye, PingPush
from tests.client.peer import Dialled, Peer

URLS = ["tcp://alice@chat.example", "ws://alice@chat.example"]


def run(scene: Callable[[Peer], Awaitable[None]], *, uses_threads: bool = False) -> None:
    """Plays a scene with a server at which alice and bob have accounts; nobody waits for real.

    The mock clock would not wait for a thread.
    """

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            peer = Peer(nursery)
            peer.server.add_user("alice")
            peer.server.add_user("bob")
            with trio.fail_after(100_000):
                await scene(peer)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=None if uses_threads else trio.testing.MockClock(autojump_threshold=0))


def enter(peer: Peer, user: str = "alice", **options: Any) -> AbstractAsyncContextManager[Client]:
    options = {"password": "secret", "device": "laptop", "dial": peer.dial, **options}
    return imclient.connect(f"tcp://{user}@chat.example", **options)


@pytest.mark.parametrize("url", URLS)
def test_alice_and_bob_talk(url: str) -> None:
    async def scene(peer: Peer) -> None:
        connect = partial(imclient.connect, password="secret", dial=peer.dial)
        async with connect(url) as alice, connect(url.replace("alice", "bob")) as bob:
            sent = await alice.send("bob", "hi")
            async for message in bob.messages():
                assert (message.sender, message.body, message.id) == ("alice", "hi", sent.id)
                break
            await bob.send("alice", {"text": "hello", "mood": 3})
            async for message in alice.messages():
                assert message.body == {"text": "hello", "mood": 3}
                assert message.at != sent.at
                break
            page = await alice.history("bob", limit=1)
            assert [m.body for m in page.messages] == [{"text": "hello", "mood": 3}]
            assert page.more
            assert await alice.ping() >= 0

    run(scene)


def test_the_backlog_comes_before_synced() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer, "bob") as bob:
            await bob.send("alice", "one")
        async with enter(peer) as alice:
            await alice.wait_synced()
            assert alice.state is State.LIVE
            events = alice.events()
            kinds = [type(await anext(events)).__name__ for _ in range(3)]
            assert kinds == ["Welcomed", "Message", "Synced"]

    run(scene)


# -- acknowledging


def test_a_message_is_acknowledged_when_the_next_one_is_taken() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer, "bob") as bob:
            for number in range(3):
                await bob.send("alice", str(number))
        async with enter(peer) as alice:
            messages = alice.messages()
            first, second = await anext(messages), await anext(messages)
            assert alice.cursors == {"": first.at}
            await trio.sleep(ACK_SECONDS * 2)
            assert peer.sessions[-1].heard[-1] == Ack(upto=first.at)
            alice.ack(second)
        assert peer.sessions[-1].heard[-2:] == [Ack(upto=second.at), Logout()]
        async with enter(peer) as alice:
            assert (await anext(alice.messages())).body == "2"

    run(scene)


def test_without_auto_ack_nothing_is_acknowledged() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer, "bob") as bob:
            await bob.send("alice", "one")
            await bob.send("alice", "two")
        async with enter(peer) as alice:
            messages = alice.messages(auto_ack=False)
            await anext(messages)
            await anext(messages)
        assert not any(isinstance(command, Ack) for command in peer.sessions[-1].heard)

    run(scene)


# -- losing the connection


def test_comes_back_and_resumes() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer) as alice, enter(peer, "bob") as bob:
            messages = bob.messages()
            await alice.send("bob", "one")
            one = await anext(messages)
            peer.refuses = True
            await peer.cut()
            await trio.sleep(10)
            assert alice.state is State.OFFLINE
            with pytest.raises(imclient.ConnectionLost, match="not connected"):
                await alice.history("bob")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(alice.send, "bob", "two")
                await trio.sleep(10)
                peer.refuses = False
            assert (await anext(messages)).body == "two"
            await alice.wait_sent()
            logins = [c for session in peer.sessions for c in session.heard if isinstance(c, Login)]
            assert logins[-1].token is not None
            assert Login(ref=0, device="laptop", token="token:bob:laptop", since=one.at, resend=True) in logins

    run(scene)


def test_attempts_are_spread_between_0_and_a_bound_that_grows_to_30_s() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer):
            peer.refuses = True
            await peer.cut()
            await trio.sleep(2000)
            waits = [b - a for a, b in zip(peer.dialled[1:], peer.dialled[2:], strict=False)]
            for number, wait in enumerate(waits):
                assert 0 <= wait <= min(30, 2 ** (number + 1))
            assert max(waits) > 15
            assert len(waits) < 2000 / 15 * 2

    run(scene)


def test_the_first_failure_to_connect_is_an_error() -> None:
    async def scene(peer: Peer) -> None:
        peer.refuses = True
        with pytest.raises(imclient.ConnectionLost, match=r"chat\.example:7400 can't be reached: Connection refused"):
            async with enter(peer):
                pass
        assert len(peer.dialled) == 1

    run(scene)


def test_a_login_without_an_answer_is_given_up() -> None:
    async def scene(peer: Peer) -> None:
        peer.is_mute = True
        with pytest.raises(imclient.ConnectionLost, match="nothing was heard"):
            async with enter(peer):
                pass
        assert trio.current_time() - peer.dialled[0] == pytest.approx(30)

    run(scene)


def test_a_dead_server_is_noticed() -> None:
    async def scene(peer: Peer) -> None:
        peer.server.ping = 20.0
        async with enter(peer) as alice:
            events = alice.events()
            peer.is_mute = True
            started = trio.current_time()
            async for event in events:
                if isinstance(event, imclient.Disconnected):
                    break
            assert trio.current_time() - started == pytest.approx(40)
            peer.is_mute = False
            await alice.wait_synced()

    run(scene)


def test_an_idle_connection_stays() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer) as alice:
            await trio.sleep(3590)
            assert alice.state is State.LIVE
            assert len(peer.dialled) == 1
            peer.sessions[0].push(PingPush())
            heard = len(peer.sessions[0].heard)
            peer.poke()
            await trio.testing.wait_all_tasks_blocked()
            assert len(peer.sessions[0].heard) == heard + 1

    run(scene)


def test_a_gap_is_healed_without_a_word() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer) as alice, enter(peer, "bob") as bob:
            await bob.wait_synced()
            await alice.send("bob", "one")
            peer.server.append("bob", {"sender": "alice", "device": "x", "to": "bob", "id": "1", "body": "two"}, None)
            session = next(s for s in peer.sessions if s.user == "bob")
            session.out.pop()
            await alice.send("bob", "three")
            messages = bob.messages()
            assert [(await anext(messages)).body for _ in range(3)] == ["one", "two", "three"]

    run(scene)


# -- the server says goodbye


def test_bye_says_when_to_come_back() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer) as alice:
            await alice.wait_synced()
            peer.sessions[0].bye("drain", reconnect=True, after=7.5)
            peer.poke()
            said = trio.current_time()
            await trio.sleep(60)
            assert alice.state is State.LIVE
            assert 7.5 <= peer.dialled[1] - said <= 7.5 * 1.1

    run(scene)


def test_replaced_is_an_error_for_everybody_who_waits() -> None:
    async def scene(peer: Peer) -> None:
        outcomes: list[str] = []

        async def expect_the_end(what: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(imclient.SessionEnded, match="because of replaced") as raised:
                await what()
            outcomes.append(raised.value.code)

        async with enter(peer) as alice:
            await alice.wait_synced()
            peer.is_mute = True
            messages = alice.messages()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect_the_end, messages.__anext__)
                nursery.start_soon(expect_the_end, partial(alice.send, "bob", "hi"))
                nursery.start_soon(expect_the_end, alice.ping)
                await trio.testing.wait_all_tasks_blocked()
                peer.sessions[0].bye("replaced", reconnect=False)
                peer.poke()
            await expect_the_end(partial(alice.send, "bob", "hi again"))
            await expect_the_end(messages.__anext__)
            assert outcomes == ["replaced"] * 5
            assert alice.state is State.ENDED
            await trio.sleep(1000)
            assert len(peer.dialled) == 1

    run(scene)


# -- logging in


def test_a_wrong_password_is_an_error() -> None:
    async def scene(peer: Peer) -> None:
        with pytest.raises(imclient.BadCredentials):
            async with enter(peer, password="guess"):
                pass

    run(scene)


def test_errors_of_the_body_come_out_as_they_are() -> None:
    async def scene(peer: Peer) -> None:
        with pytest.raises(ZeroDivisionError):
            async with enter(peer):
                raise ZeroDivisionError
        with pytest.raises(KeyboardInterrupt):
            async with enter(peer):
                raise KeyboardInterrupt

    run(scene)


def test_after_the_block_everything_is_closed() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer) as alice:
            pass
        with pytest.raises(imclient.ConnectionLost, match="the client was closed"):
            await alice.send("bob", "hi")
        assert peer.server.sessions == []

    run(scene)


@pytest.mark.parametrize("url", URLS)
def test_who_is_cancelled_logs_out(url: str) -> None:
    async def scene(peer: Peer) -> None:
        with trio.move_on_after(10):
            async with imclient.connect(url, password="secret", device="laptop", dial=peer.dial) as alice:
                await alice.wait_synced()
                await trio.sleep_forever()
        assert peer.sessions[-1].heard[-1] == Logout()
        assert peer.server.sessions == []

    run(scene)


def test_who_is_cancelled_while_it_enters_is_not_kept_waiting() -> None:
    async def scene(peer: Peer) -> None:
        peer.is_mute = True
        with trio.move_on_after(1):
            async with enter(peer):
                pass
        assert trio.current_time() <= 4

    run(scene)


def test_leaving_does_not_wait_for_a_server_that_takes_nothing() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer) as alice:
            await alice.wait_synced()
            peer.refuses = True
            await peer.cut()
            await trio.sleep(100)
            left = trio.current_time()
        assert trio.current_time() - left <= 3

    run(scene)


# -- sending


def test_a_cancelled_send_that_has_not_left_is_taken_back() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer) as alice:
            await alice.wait_synced()
            peer.refuses = True
            await peer.cut()
            await trio.sleep(1)
            with trio.move_on_after(5):
                await alice.send("bob", "never mind")
            assert alice.unsent == 0
            peer.refuses = False
            await alice.send("bob", "now")
        assert [entry.body for entry in peer.server.logs["bob"]] == ["now"]

    run(scene)


def test_a_cancelled_send_that_has_left_goes_on() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer) as alice:
            await alice.wait_synced()
            peer.is_mute = True
            with trio.move_on_after(1):
                await alice.send("bob", "on its way")
            assert alice.unsent == 1
            peer.is_mute = False
            await peer.cut()
            await alice.wait_sent()
        assert [entry.body for entry in peer.server.logs["bob"]] == ["on its way"]

    run(scene)


def test_many_senders_at_once_keep_their_order() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer) as alice:
            ids = [alice.send_nowait("bob", str(number)) for number in range(50)]
            peer.server.faults += ["", "unavailable", "half", "whole"]
            await trio.sleep(0.1)
            await peer.cut()
            await alice.wait_sent()
            sent = [event async for event in until_synced_and(alice, 50) if isinstance(event, imclient.Sent)]
            assert [event.id for event in sent] == ids
        assert [entry.body for entry in peer.server.logs["bob"]] == [str(number) for number in range(50)]

    run(scene)


async def until_synced_and(client: Client, most: int) -> AsyncIterator[imclient.Notice]:
    """Events up to the `most`th `Sent`."""
    sent = 0
    async for event in client.events():
        yield event
        sent += isinstance(event, imclient.Sent)
        if sent == most:
            return


def test_a_refused_message_of_send_nowait_is_an_event() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer) as alice:
            id = alice.send_nowait("nobody", "hi")
            async for event in alice.events():
                if isinstance(event, imclient.SendFailed):
                    assert event.id == id
                    assert isinstance(event.error, imclient.NotFound)
                    break

    run(scene)


def test_a_client_that_never_takes_its_messages_can_send_for_ever() -> None:
    async def scene(peer: Peer) -> None:
        async with enter(peer, "bob") as bob, enter(peer) as alice:
            for number in range(300):
                await bob.send("alice", "x" * 60_000)
                if number % 50 == 0:
                    await alice.send("bob", "still here")
            await alice.send("bob", "still here")
            messages = alice.messages()
            for _ in range(300):
                assert (await anext(messages)).sender == "bob"

    run(scene)


# -- WebSocket


def test_what_comes_with_the_handshake_is_not_lost() -> None:
    async def scene(peer: Peer) -> None:
        server_side = WebSocketFraming(65536, ConnectionType.SERVER)
        peer.early = server_side.encode(codec.encode_push(PingPush()))
        async with imclient.connect(URLS[1], password="secret", dial=peer.dial) as alice:
            await alice.wait_synced()
            assert any(type(command).__name__ == "Ping" for command in peer.sessions[0].heard)

    run(scene)


def test_a_server_that_says_goodbye_with_the_handshake_is_come_back_to() -> None:
    """It has closed before the login could be sent."""

    async def scene(peer: Peer) -> None:
        server_side = WebSocketFraming(65536, ConnectionType.SERVER)
        bye = codec.encode_push(Bye("drain", "this server is being replaced", True, 0.1))
        early = [server_side.encode(bye) + server_side.encode_close(), b""]

        async def dial(address: Address) -> ByteStream:
            peer.early = early.pop(0)
            return await peer.dial(address)

        async with imclient.connect(URLS[1], password="secret", dial=dial) as alice:
            await alice.wait_synced()
            assert 0.1 <= peer.dialled[1] - peer.dialled[0] <= 0.11 + 1e-6

    run(scene)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "answered 503 Service Unavailable"),
        (b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: no\r\n\r\n", "not that of a WebSocket"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "does not speak HTTP"),
        (b"", "closed the connection instead of opening a WebSocket"),
    ],
)
def test_a_server_that_opens_no_websocket_is_named(answer: bytes, text: str) -> None:
    async def scene(peer: Peer) -> None:
        async def dial(address: object) -> ByteStream:
            ours, theirs = trio.testing.memory_stream_pair()
            await theirs.send_all(answer)
            await theirs.send_stream.aclose()
            return Dialled(ours)

        with pytest.raises(imclient.ConnectionLost, match=text):
            async with imclient.connect(URLS[1], password="secret", dial=dial):
                pass

    run(scene)


# -- registering


@pytest.mark.parametrize("url", ["tcp://eve@chat.example", "ws://eve@chat.example"])
def test_register(url: str) -> None:
    async def scene(peer: Peer) -> None:
        await imclient.register(url, "pass", dial=peer.dial)
        assert peer.server.passwords["eve"] == "pass"
        with pytest.raises(imclient.Exists, match="eve exists"):
            await imclient.register(url, "pass", dial=peer.dial)

    run(scene)


# -- remembering


def test_a_profile_goes_on_where_the_last_program_was(tmp_path: Path) -> None:
    async def scene(peer: Peer) -> None:
        path = tmp_path / "profile.json"
        async with enter(peer, "bob") as bob:
            for number in range(4):
                await bob.send("alice", str(number))
        async with enter(peer, device=None, profile=imclient.Profile.load(path)) as alice:
            messages = alice.messages()
            assert [(await anext(messages)).body for _ in range(3)] == ["0", "1", "2"]
            device = alice.device
        assert path.stat().st_mode & 0o777 == 0o600
        async with enter(peer, device=None, password=None, profile=imclient.Profile.load(path)) as alice:
            assert alice.device == device
            messages = alice.messages()
            assert [(await anext(messages)).body for _ in range(2)] == ["2", "3"]
        login = peer.sessions[-1].heard[0]
        assert isinstance(login, Login)
        assert login.token == f"token:alice:{device}"

    run(scene, uses_threads=True)
