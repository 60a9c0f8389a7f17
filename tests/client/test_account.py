"""Devices, password, profile and the end of an account: the library against the real server."""

from collections.abc import Callable
from functools import partial

import imclient
import pytest
import trio
from imclient.client import Client

from tests.client.program import tcp_url, ws_url
from tests.server import Server

PATIENCE_SECONDS = 20


async def wait_ended(client: Client) -> imclient.SessionEnded:
    with trio.fail_after(PATIENCE_SECONDS), pytest.raises(imclient.SessionEnded) as ended:
        async for _ in client.events():
            pass
    return ended.value


@pytest.mark.parametrize("url", [tcp_url, ws_url], ids=["tcp", "ws"])
def test_an_account_from_beginning_to_end(
    server: Server, url: Callable[[Server, str], str], name: Callable[[str], str]
) -> None:
    async def main() -> None:
        alice, bob = name("alice"), name("bob")
        for user in (alice, bob):
            await imclient.register(tcp_url(server, user), "secret")
        connect = partial(imclient.connect, url(server, alice), password="secret")
        async with connect(device="desk") as desk, connect(device="phone") as phone:
            await desk.account.name_device("phone", "the red one")
            found = {device.device: device for device in await desk.account.devices()}
            assert (found["phone"].name, found["phone"].connected) == ("the red one", True)
            await desk.account.revoke_device("phone")
            assert (await wait_ended(phone)).code == "revoked"
            assert [device.device for device in await desk.account.devices()] == ["desk"]
            async with connect(device="phone") as again:
                await again.account.revoke_others()
                assert (await wait_ended(desk)).code == "revoked"
        async with connect(device="desk") as desk, connect(device="phone") as phone:
            with pytest.raises(imclient.BadCredentials, match="old"):
                await desk.account.change_password("guess", "better")
            await desk.account.change_password("secret", "better", keep_others=True)
            await phone.account.change_password("better", "best")
            assert (await wait_ended(desk)).code == "revoked"
            version = await phone.account.set_profile(name="Alice", about="I like tea.")
            assert (await phone.account.profile(alice)).version == version
            async with imclient.connect(tcp_url(server, bob), password="secret") as b:
                seen = await b.account.profiles({alice: 0, name("nobody"): 0})
                assert [(one.user, one.name, one.about) for one in seen.profiles] == [(alice, "Alice", None)]
                assert seen.gone == [name("nobody")]
                assert (await b.account.profiles({alice: seen.profiles[0].version})).profiles == []
                sent = await b.send(alice, "hello")
                (entry,) = [one async for one in b.account.export()]
                assert (entry["at"], entry["ev"], entry["body"]) == (sent.at, "msg", "hello")
                await b.people.report(alice, "spam")
                with pytest.raises(imclient.NotAllowed, match="off"):
                    await b.people.search(alice[:3])
            await phone.account.delete("best")
            assert (await wait_ended(phone)).code == "revoked"
        with pytest.raises(imclient.BadCredentials):
            async with imclient.connect(url(server, alice), password="best"):
                pass

    trio.run(main)
