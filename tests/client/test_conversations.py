"""Marks and unread messages: the tally by itself, the library and the program against the real server."""

from collections.abc import Callable
from functools import partial

import anyio
import imclient
import msgspec
import pytest
from imclient.amendments import Deleted, Reacted
from imclient.client import Client
from imclient.conversations import Conversations, Tally
from imclient.events import Truncated

from imserver.errors import RateLimited
from imserver.protocol import commands
from imserver.protocol.commands import Command
from imserver.protocol.pushes import Conversation as Listed
from imserver.protocol.pushes import ConversationsPage, Mark
from tests.client.program import Home, tcp_url, ws_url
from tests.server import Server

ENTER = "\r"
PATIENCE_SECONDS = 20


def message(at: str, sender: str = "bob", to: str = "alice") -> imclient.Message:
    return imclient.Message(at=at, sender=sender, device="d", to=to, id=at, body="x", log=to if to[0] == "#" else "")


def read(upto: str, by: str = "alice", partner: str = "bob", **what: str) -> imclient.Read:
    return imclient.Read(by=by, partner=partner, upto=upto, **what)


def listed(tally: Tally, *conversations: Listed, at: str = "9-0", version: int = 7, full: bool = False) -> None:
    tally.begin()
    tally.on_pages([ConversationsPage(list(conversations), version, at, full=full)])


def test_messages_of_others_are_unread_until_they_are_read_anywhere() -> None:
    tally = Tally("alice")
    for at in ("1-0", "2-0", "3-0"):
        tally.on_event(message(at))
    assert tally.known["bob"].unread == 3
    tally.on_event(read("2-0"))
    assert tally.known["bob"].unread == 1
    tally.on_event(read("1-0"))
    assert (tally.known["bob"].unread, tally.known["bob"].read) == (1, "2-0")
    tally.on_event(read("9-0", by="bob", partner="alice", device="d", id="m1"))
    assert (tally.known["bob"].unread, tally.known["bob"].read_by) == (1, Mark("9-0", "d", "m1"))


def test_who_answers_has_read_what_came_before() -> None:
    tally = Tally("alice")
    tally.on_event(message("1-0"))
    tally.on_event(message("2-0", sender="alice", to="bob"))
    assert tally.known["bob"].unread == 0
    tally.on_event(message("3-0", to="#tea"))
    tally.on_event(imclient.Sent("c1", "#tea", "4-0"))
    tally.on_event(message("5-0", to="#tea"))
    assert tally.known["#tea"].unread == 1


def test_what_was_scheduled_is_no_answer() -> None:
    tally = Tally("alice")
    tally.on_event(message("1-0"))
    tally.on_event(msgspec.structs.replace(message("2-0", sender="alice", to="bob"), scheduled=7))
    assert (tally.known["bob"].unread, tally.known["bob"].last) == (1, "2-0")


def test_what_the_server_has_counted_is_counted_on() -> None:
    tally = Tally("alice")
    for at in ("8-0", "12-0"):
        tally.on_event(message(at))
    listed(tally, Listed(partner="bob", at="9-0", unread=4, last="8-0"), full=True)
    assert tally.known["bob"].unread == 5
    tally.on_event(message("7-0"))  # counted, and late
    assert tally.known["bob"].unread == 5
    assert not tally.is_outdated
    tally.on_event(read("8-0"))
    assert (tally.known["bob"].unread, tally.is_outdated) == (1, False)


def test_a_mark_among_what_is_only_a_number_has_to_be_asked_for() -> None:
    tally = Tally("alice")
    listed(tally, Listed(partner="bob", at="9-0", unread=4, last="8-0"), full=True)
    tally.on_event(read("5-0"))
    assert tally.is_outdated
    listed(tally, Listed(partner="bob", at="9-0", unread=2, last="8-0", read="5-0"), version=8)
    assert (tally.known["bob"].unread, tally.is_outdated) == (2, False)


def test_a_mark_that_overtook_the_list_is_not_forgotten() -> None:
    tally = Tally("alice")
    tally.on_event(message("8-0"))
    tally.on_event(read("8-0"))
    listed(tally, Listed(partner="bob", at="9-0", unread=1, last="8-0"), full=True)
    assert (tally.known["bob"].unread, tally.known["bob"].read, tally.is_outdated) == (0, "8-0", False)


def test_a_switch_that_overtook_the_list_is_asked_for() -> None:
    tally = Tally("alice")
    tally.begin()
    tally.on_event(imclient.Arranged(partner="bob", muted=True))
    tally.on_pages([ConversationsPage([Listed(partner="bob", at="9-0")], 7, "9-0")])
    assert tally.is_outdated


def test_what_is_lost_makes_the_whole_list_be_read() -> None:
    tally = Tally("alice")
    listed(tally, Listed(partner="bob", at="9-0", unread=1, last="9-0"), full=True)
    tally.on_event(message("10-0"))
    assert tally.version == 7
    tally.on_event(imclient.Regressed("9-0"))
    assert (tally.known["bob"].unread, tally.is_outdated, tally.begin()) == (1, True, 0)
    tally.on_event(Truncated("20-0"))
    tally.on_pages([ConversationsPage([], 9, "15-0", full=True)])
    assert (tally.known, tally.is_outdated, tally.begin()) == ({}, True, 0)


def test_archived_until_a_new_message_comes_unless_muted() -> None:
    tally = Tally("alice")
    tally.on_event(message("1-0"))
    tally.on_event(imclient.Arranged(partner="bob", archived="1-0"))
    was_archived = [tally.known["bob"].is_archived]
    tally.on_event(message("2-0"))
    was_archived.append(tally.known["bob"].is_archived)
    tally.on_event(imclient.Arranged(partner="bob", archived="1-0", muted=True))
    was_archived.append(tally.known["bob"].is_archived)
    assert was_archived == [True, False, True]


def deleted(message: imclient.Message, at: str, by: str = "bob") -> Deleted:
    return Deleted(at=at, of=message.reference, sender=by, device="d", to="alice", id="x", stamp=1)


def test_what_is_deleted_counts_no_more() -> None:
    tally, first = Tally("alice"), message("3-0")
    listed(tally, Listed(partner="bob", at="2-0", unread=1, last="2-0"), full=True)
    tally.on_event(first)
    tally.on_event(message("4-0"))
    tally.on_event(deleted(first, "5-0"))
    assert (tally.known["bob"].unread, tally.is_outdated) == (2, False)
    tally.on_event(deleted(message("2-0"), "6-0"))  # one of those that are only a number, or read long ago
    assert (tally.is_outdated, tally.begin()) == (True, 0)


def test_who_reacts_has_read_what_came_before() -> None:
    tally, first = Tally("alice"), message("1-0")
    tally.on_event(first)
    tally.on_event(
        Reacted(at="2-0", of=first.reference, sender="alice", device="d", to="bob", id="x", stamp=1, emoji="+")
    )
    assert (tally.known["bob"].unread, tally.known["bob"].last) == (0, "1-0")


def test_a_group_that_was_left_is_no_conversation() -> None:
    tally = Tally("alice")
    tally.on_event(message("1-0", to="#tea"))
    tally.on_event(imclient.GroupChanged(at="2-0", log="", group="#tea", change="left", user="alice"))
    assert tally.known == {}


# -- the library


async def until(client: Client, *wanted: Callable[[imclient.Notice], bool]) -> None:
    """Notices like these, among others."""
    missing = list(wanted)
    with anyio.fail_after(PATIENCE_SECONDS):
        async for notice in client.events(auto_ack=False):
            if isinstance(notice, imclient.Message):
                client.ack(notice)
            missing = [is_it for is_it in missing if not is_it(notice)]
            if not missing:
                return


def is_read(by: str, id: str) -> Callable[[imclient.Notice], bool]:
    return lambda notice: isinstance(notice, imclient.Read) and (notice.by, notice.id) == (by, id)


def is_delivered(by: str, id: str) -> Callable[[imclient.Notice], bool]:
    return lambda notice: isinstance(notice, imclient.Delivered) and (notice.by, notice.id) == (by, id)


def is_message(body: str) -> Callable[[imclient.Notice], bool]:
    return lambda notice: isinstance(notice, imclient.Message) and notice.body == body


@pytest.mark.parametrize("url", [tcp_url, ws_url], ids=["tcp", "ws"])
def test_two_devices_and_the_partner_are_in_step(
    server: Server, url: Callable[[Server, str], str], name: Callable[[str], str]
) -> None:
    async def main() -> None:
        alice, bob = name("alice"), name("bob")
        for user in (alice, bob):
            await imclient.register(tcp_url(server, user), "secret")
        connect = partial(imclient.connect, password="secret")
        async with connect(url(server, alice)) as a:
            ids = [(await a.send(bob, body)).id for body in ("one", "two")]
            async with connect(tcp_url(server, bob), device="pad") as pad:
                await until(pad, is_message("two"))
                await pad.conversations.refresh()
                assert pad.conversations.known[alice].unread == 2
                async with connect(url(server, bob), device="phone") as phone:
                    await until(phone, is_message("two"))
                    await phone.conversations.refresh()
                    await phone.conversations.read(alice)
                    assert phone.conversations.known[alice].unread == 0
                    await phone.conversations.pin(alice)
                    await until(pad, is_read(bob, ids[1]), lambda it: isinstance(it, imclient.Arranged) and it.pinned)
                    assert pad.conversations.known[alice].unread == 0
                    assert pad.conversations.known[alice].pinned
                await until(a, is_read(bob, ids[1]))
                assert (read_by := a.conversations.known[bob].read_by) is not None
                assert (read_by.device, read_by.id) == (a.device, ids[1])
                last = await a.send(bob, "three")
                await until(pad, is_message("three"))
                assert pad.conversations.known[alice].unread == 1
                await pad.send(alice, "hi")
                assert pad.conversations.known[alice].unread == 0
                await pad.conversations.archive(alice)
                assert pad.conversations.known[alice].is_archived
                await until(a, is_delivered(bob, last.id))
            # Bob's phone was away for all of that.
            async with connect(url(server, bob), device="phone") as phone:
                await phone.wait_synced()
                known = (await phone.conversations.refresh())[alice]
                assert (known.unread, known.pinned, known.is_archived) == (0, True, True)

    anyio.run(main, backend="trio")


def test_a_list_that_is_asked_for_too_fast_is_read_on_later() -> None:
    waits: list[float] = []
    pages = [
        ConversationsPage([Listed(partner="bob", at="5-0", unread=2)], 7, "5-0", more=True, full=True, next=9),
        ConversationsPage([Listed(partner="#g", at="3-0")], 8, "0-0", full=True),
    ]

    async def ask(command: Command) -> msgspec.Raw:
        assert isinstance(command, commands.Conversations)
        if command.after == 9 and not waits:
            raise RateLimited("too much at once", 0.5)
        return msgspec.Raw(msgspec.json.encode(pages[command.after == 9]))

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def main() -> None:
        known = await Conversations("alice", ask, sleep).refresh()
        assert {partner: it.unread for partner, it in known.items()} == {"bob": 2, "#g": 0}

    anyio.run(main, backend="trio")
    assert waits == [0.5]


def test_the_program_shows_what_is_unread_and_what_was_read(
    server: Server, name: Callable[[str], str], home: Home, new_home: Callable[[str], Home]
) -> None:
    alice, bob = name("alice"), name("bob")

    async def main() -> None:
        for user in (alice, bob):
            await imclient.register(tcp_url(server, user), "secret")

    anyio.run(main, backend="trio")
    with home.terminal("chat", tcp_url(server, alice), bob) as screen:
        screen.see("online")
        screen.type("hello" + ENTER)
        screen.see("sent")
        with new_home("bob").terminal("chat", tcp_url(server, bob)) as other:
            other.see(rf"new messages: {alice} \(1\); /to NAME shows them")
            screen.see("delivered")
            other.type(f"/to {alice}" + ENTER)
            other.see("hello")
            screen.see("read|rad")  # a terminal paints what has changed: "delivered" was there
            other.type("/quit" + ENTER)
            assert other.end() == 0
        screen.type("/quit" + ENTER)
        assert screen.end() == 0
