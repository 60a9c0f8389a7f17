"""Messages that wait: the library and the program against the real server."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import imclient
import pytest
import trio
from imclient.chat_later import parse_later

from tests.client.program import Home, tcp_url, ws_url
from tests.server import Server

PATIENCE_SECONDS = 20
NOON = datetime(2030, 5, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "when", "text"),
    [
        ("18:30 tea?", NOON.replace(hour=18, minute=30), "tea?"),
        ("9:05 good  morning", datetime(2030, 6, 1, 9, 5, tzinfo=UTC), "good  morning"),
        ("12:00 now", NOON + timedelta(days=1), "now"),
        ("2031-01-02 07:00 7:15 is too late", datetime(2031, 1, 2, 7, 0, tzinfo=UTC), "7:15 is too late"),
        ("2020-01-02 07:00 at once", datetime(2020, 1, 2, 7, 0, tzinfo=UTC), "at once"),
    ],
)
def test_times_that_a_person_types(line: str, when: datetime, text: str) -> None:
    assert parse_later(line, NOON) == (when, text)


@pytest.mark.parametrize("line", ["", "18:30", "25:00 x", "tomorrow x", "2030-02-30 10:00 x", "18.30 x"])
def test_what_is_no_time(line: str) -> None:
    with pytest.raises(imclient.BadRequest, match="TIME is 18:30"):
        parse_later(line, NOON)


def test_the_library(server: Server, name: Callable[[str], str]) -> None:
    async def main() -> None:
        alice, bob = name("alice"), name("bob")
        for user in (alice, bob):
            await imclient.register(tcp_url(server, user), "secret")
        connect = partial(imclient.connect, password="secret")
        tomorrow = datetime.now(timezone(timedelta(hours=2))).replace(microsecond=0) + timedelta(days=1)
        async with (
            connect(tcp_url(server, alice), device="pad") as a,
            connect(tcp_url(server, alice), device="phone") as phone,
            connect(ws_url(server, bob)) as b,
        ):
            await a.later.schedule(bob, "tomorrow", tomorrow, id="c1", location=imclient.Location(48.2, 16.4))
            [one] = await phone.later.waiting()
            assert (one.when, one.failed, one.message.device, one.message.body) == (tomorrow, None, "pad", "tomorrow")
            assert one.message.location == imclient.Location(48.2, 16.4)
            with pytest.raises(imclient.NotFound):
                await phone.later.cancel("c1")
            await phone.later.cancel("c1", device="pad")
            with pytest.raises(imclient.Conflict, match="cancelled"):
                await a.later.schedule(bob, "tomorrow", tomorrow, id="c1")
            assert await a.later.waiting() == []
            said = await a.later.schedule(bob, {"text": "at once"}, datetime.now(UTC))
            with trio.fail_after(PATIENCE_SECONDS):
                for client in (a, phone, b):
                    message = await anext(aiter(client.messages()))
                    assert (message.sender, message.id, message.body) == (alice, said, {"text": "at once"})
            with pytest.raises(imclient.BadRequest, match="time zone"):
                await a.later.schedule(bob, "x", datetime(2030, 1, 1))
            with pytest.raises(imclient.BadRequest, match="366 days"):
                await a.later.schedule(bob, "x", tomorrow + timedelta(days=700))

    trio.run(main)


def test_the_program(server: Server, home: Home, name: Callable[[str], str]) -> None:
    alice, bob = name("alice"), name("bob")
    trio.run(imclient.register, tcp_url(server, bob), "secret")
    home.run("register", tcp_url(server, alice))
    day = (datetime.now(UTC) + timedelta(days=7)).strftime("%Y-%m-%d")
    told = home.run(
        *("chat", tcp_url(server, alice), bob),
        given=f"/scheduled\n/later {day} 18:30 tea?\n/later {day} 9:15 coffee?\n"
        "/scheduled\n/unschedule 1\n/scheduled\n",
    ).stderr
    assert "nothing waits" in told
    assert f"to be said at {day} 18:30" in told
    assert f"1  {day} 09:15  {bob}: coffee?" in told
    assert f"2  {day} 18:30  {bob}: tea?" in told
    assert "it will not be said: coffee?" in told
    assert f"1  {day} 18:30  {bob}: tea?" in told
    wrong = home.run("chat", tcp_url(server, alice), bob, given="/later soon x\n/unschedule 1\n", status=1).stderr
    assert "! /later TIME TEXT: TIME is 18:30, or 2030-12-24 18:30" in wrong
    assert "! /unschedule N: which one? /scheduled shows their numbers" in wrong
