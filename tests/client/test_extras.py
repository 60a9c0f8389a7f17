"""What a message has beside its body, end to end with the library."""

from collections.abc import Callable
from functools import partial

import imclient
import pytest
import trio

from tests.client.program import tcp_url, ws_url
from tests.server import Server

FILE = imclient.Attachment(id="blob 1", name="menu.pdf", type="application/pdf", size=7)


def test_extras_arrive_and_stand_in_history(server: Server, name: Callable[[str], str]) -> None:
    async def main() -> None:
        alice, bob = name("alice"), name("bob")
        for user in (alice, bob):
            await imclient.register(tcp_url(server, user), "secret")
        connect = partial(imclient.connect, password="secret")
        async with connect(tcp_url(server, alice)) as a, connect(ws_url(server, bob)) as b:
            await a.send(bob, "lunch?", attachment=FILE)
            question = await anext(b.messages())
            assert question.attachment == FILE
            await b.send(alice, "yes", reply=question.reference, location=imclient.Location(48.2, 16.4, label="here"))
            answer = await anext(a.messages())
            assert answer.reply == imclient.Reference(alice, a.device, question.id)
            assert answer.location == imclient.Location(48.2, 16.4, label="here")
            await b.send(alice, "", encrypted=imclient.Encrypted(["k1"], "b3BhcXVl"), forwarded=question.reference)
            page = await a.history(bob)
            assert [m.reply for m in page.messages] == [None, question.reference, None]
            assert page.messages[0].attachment == FILE
            assert page.messages[2].encrypted == imclient.Encrypted(["k1"], "b3BhcXVl")
            assert page.messages[2].forwarded == question.reference
            with pytest.raises(imclient.BadRequest, match="location"):
                await a.send(bob, "", location=imclient.Location(100, 0))
            with pytest.raises(imclient.BadRequest, match="attachment: one of"):
                await a.send(bob, "", attachment=imclient.Attachment(name="a", type="text/plain", size=1))

    trio.run(main)
