"""Contacts, presence and typing: the roster by itself, the library and the program against the real server."""

from collections.abc import Callable, Iterable
from functools import partial

import imclient
import msgspec
import pytest
import trio
from imclient.client import Client
from imclient.events import Welcomed
from imclient.people import ContactsPage, Roster

from tests.client.program import Home, tcp_url, ws_url
from tests.server import Server

ENTER = "\r"
PATIENCE_SECONDS = 20


def contact(user: str, state: str, **more: object) -> imclient.Contact:
    return imclient.Contact(user=user, state=state, **more)  # type: ignore[arg-type]


def names(roster: Roster) -> list[str]:
    return sorted(roster.contacts)


def test_the_list_is_kept_in_step_by_what_happens() -> None:
    roster = Roster()
    roster.on_pages([ContactsPage([contact("bob", "mutual"), contact("carol", "asked")], 7, full=True)])
    assert (names(roster), roster.version) == (["bob", "carol"], 7)
    roster.on_event(contact("dave", "asking", quiet=True))
    roster.on_event(contact("bob", "none"))
    assert names(roster) == ["carol", "dave"]
    roster.on_event(contact("bob", "none", blocked=True))
    assert names(roster) == ["bob", "carol", "dave"]


def test_a_reading_in_pages_is_as_old_as_its_first_page() -> None:
    roster = Roster()
    roster.on_pages([ContactsPage([contact("bob", "mutual")], 7, True, True, 5), ContactsPage([], 9, full=True)])
    assert roster.version == 7
    roster.on_pages([ContactsPage([contact("bob", "none")], 9)])
    assert (names(roster), roster.version) == ([], 9)
    roster.on_event(contact("eve", "asked"))
    roster.on_pages([ContactsPage([contact("dave", "mutual")], 12, full=True)])
    assert names(roster) == ["dave"]


def test_nobody_is_there_until_this_connection_has_heard_of_it() -> None:
    roster = Roster()
    roster.on_event(contact("bob", "mutual"))
    roster.on_event(imclient.Presence("bob", "away", "lunch", 5))
    assert roster.presence["bob"].status == "lunch"
    roster.on_event(Welcomed("alice", "pad", "token", 0))
    assert roster.presence == {}
    roster.on_event(imclient.Presence("bob", "online"))
    roster.on_event(imclient.Presence("bob", "offline"))
    assert roster.presence == {}
    roster.on_event(imclient.Presence("bob", "online"))
    roster.on_event(contact("bob", "none"))
    assert roster.presence == {}


async def until(client: Client, *wanted: object) -> None:
    """All of these notices, among others."""
    missing = list(wanted)
    with trio.fail_after(PATIENCE_SECONDS):
        async for notice in client.events():
            if isinstance(notice, imclient.Contact):
                notice = msgspec.structs.replace(notice, at="")  # noqa: PLW2901 - wherever it stands in the log
            if isinstance(notice, imclient.Presence):
                notice = imclient.Presence(notice.user, notice.show, notice.status)  # noqa: PLW2901 - without `since`
            if notice in missing:
                missing.remove(notice)
            if not missing:
                return


async def register(server: Server, users: Iterable[str]) -> None:
    for user in users:
        await imclient.register(tcp_url(server, user), "secret")


@pytest.mark.parametrize("url", [tcp_url, ws_url], ids=["tcp", "ws"])
def test_two_become_contacts_and_see_each_other(
    server: Server, url: Callable[[Server, str], str], name: Callable[[str], str]
) -> None:
    async def main() -> None:
        alice, bob = name("alice"), name("bob")
        await register(server, (alice, bob))
        connect = partial(imclient.connect, password="secret")
        async with connect(url(server, alice)) as a, connect(tcp_url(server, bob)) as b:
            await a.people.add(bob, "it's me")
            await until(b, contact(alice, "asking", quiet=True, note="it's me"))
            await b.people.accept(alice)
            await until(a, contact(bob, "mutual"), imclient.Presence(bob, "online"))
            await b.people.show("away", "lunch")
            await until(a, imclient.Presence(bob, "away", "lunch"))
            assert a.people.presence[bob].show == "away"
            await b.people.typing(alice)
            await until(a, imclient.Typing(bob, alice, True))
            await a.people.describe(bob, "Bob", ["work"])
            assert await a.people.read() == {bob: contact(bob, "mutual", name="Bob", groups=("work",))}
            assert (await a.people.privacy(write="contacts")).write == "contacts"
            await a.people.block(bob)
            assert await a.people.blocked() == [bob]
            with pytest.raises(imclient.Blocked):
                await b.send(alice, "x")
            await a.people.unblock(bob)
            await a.people.remove(bob)
            await until(b, contact(alice, "none"))
            assert await a.people.read() == await b.people.read() == {}
            with pytest.raises(imclient.NotFound, match="no request"):
                await a.people.accept(bob)

    trio.run(main)


def test_the_program_shows_contacts(
    server: Server, name: Callable[[str], str], home: Home, new_home: Callable[[str], Home]
) -> None:
    alice, bob = name("alice"), name("bob")
    trio.run(register, server, (alice, bob))
    with (
        home.terminal("chat", tcp_url(server, alice), bob) as screen,
        new_home("bob").terminal("chat", tcp_url(server, bob), alice) as other,
    ):
        screen.see("online")
        other.see("online")
        screen.type("/contacts" + ENTER)
        screen.see("no contacts yet")
        screen.type("/add" + ENTER)
        screen.see("! /add NAME: whom?")
        screen.type(f"/add {bob} let us talk" + ENTER)
        screen.see("asked, no answer yet")
        other.see(rf"{alice}: asks to be your contact \(let us talk\); /accept {alice}")
        other.type(f"/accept {alice}" + ENTER)
        screen.see(f"{bob} is your contact")
        screen.see(f"{bob} is online")
        other.type("/away lunch" + ENTER)
        screen.see(rf"{bob} is away \(lunch\)")
        screen.type("/contacts" + ENTER)
        screen.see(rf"{bob}: away \(lunch\)")
        screen.type(f"/remove {bob}" + ENTER)
        other.see(f"{alice} is no contact")
        for terminal in (screen, other):
            terminal.type("/quit" + ENTER)
            assert terminal.end() == 0
