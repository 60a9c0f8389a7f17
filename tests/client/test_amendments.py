"""Edits, deletions and reactions: what devices show, and the library end to end."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import imclient
import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from imclient.amendments import AmendmentPush, AnyAmendment, amendment_of
from imclient.events import Page
from imclient.said import message_of
from imclient.thread import Thread

from imserver.protocol import codec
from imserver.protocol.pushes import MessagePush
from tests.client.program import Home, tcp_url, ws_url
from tests.dialogue.play import PASSWORD
from tests.dialogue.stages import MemoryLine, MemoryStage
from tests.server import Server


class Device:
    """One that shows the conversation of alice and bob, by whatever it is given."""

    def __init__(self, stage: MemoryStage, user: str, device: str) -> None:
        self._stage, self._user, self._device = stage, user, device
        self._line: MemoryLine | None = None
        self._at: str | None = None
        self.shows = Thread()

    def come(self) -> None:
        """From where it was."""
        if self._line is None:
            self._line = self._stage.open()
            login = {"op": "login", "ref": 0, "user": self._user, "password": PASSWORD, "device": self._device}
            self.ask(login if self._at is None else {**login, "since": self._at})

    def go(self) -> None:
        if self._line is not None:
            self.hear()
            self._line.close()
            self._line = None

    def ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        """The reply; whatever else comes is taken in."""
        assert self._line is not None
        self._line.send(json.dumps(frame))
        while True:
            heard: dict[str, Any] = self._line.receive()
            if "re" in heard:
                self._at = heard.get("ok", {}).get("at", self._at) if "prev" in heard.get("ok", {}) else self._at
                return heard
            self._take(heard)

    def hear(self) -> None:
        if self._line is not None:
            self.ask({"op": "ping", "ref": 1})

    def _take(self, heard: dict[str, Any]) -> None:
        assert heard["ev"] in ("msg", "edit", "delete", "reaction", "removed", "synced", "truncated"), heard
        if "prev" in heard:
            assert self._at is None or heard["prev"] == self._at or self._is_cut, heard
            self._at, self._is_cut = heard["at"], False
        elif heard["ev"] == "truncated":
            self._is_cut = True
        push = codec.decode_server_frame(json.dumps(heard).encode())
        if isinstance(push, MessagePush):
            self.shows.add(message_of(push))
        elif isinstance(push, AmendmentPush):
            self.shows.add(amendment_of(push))

    _is_cut = False

    def read_back(self, partner: str, limit: int) -> None:
        """The whole history, page by page."""
        before: dict[str, str] = {}
        while True:
            reply = self.ask({"op": "history", "ref": 2, "with": partner, "limit": limit, **before})
            page = msgspec.convert(reply["ok"], Page)
            self.shows.add_page(page)
            if not page.more:
                return
            before = {"before": str(page.next)}

    def view(self) -> list[tuple[Any, ...]]:
        return [(it.message.reference, it.body, it.is_edited, it.reactions) for it in self.shows.lines()]


ACT = st.tuples(
    st.sampled_from(["send", "edit", "edit", "edit", "delete", "react", "react", "unreact"]),
    st.booleans(),  # who
    st.integers(0, 2),  # which message
)
STEPS = st.lists(st.one_of(ACT, ACT, ACT, st.sampled_from(["go", "come", "history"])), min_size=5, max_size=40)


class Play:
    def __init__(self) -> None:
        self.stage = MemoryStage(websocket=False)
        line = self.stage.open()
        for user in ("alice", "bob"):
            line.send(json.dumps({"op": "register", "ref": 1, "user": user, "password": PASSWORD}))
            line.receive()
        self.actors = [Device(self.stage, user, "laptop") for user in ("alice", "bob")]
        self.watcher = Device(self.stage, "bob", "tablet")  # always there
        self.guest = Device(self.stage, "bob", "phone")  # comes and goes
        self.other = Device(self.stage, "alice", "tablet")  # always there
        for device in (*self.actors, self.watcher, self.other):
            device.come()
        self.sent: list[dict[str, str]] = []
        self.shown: dict[str, tuple[str, bool, dict[str, str]]] = {}  # by id: what it says, whether edited, reactions
        self.number = 0

    def act(self, what: str, is_bob: bool, which: int) -> None:
        me, to = ("bob", "alice") if is_bob else ("alice", "bob")
        self.number += 1
        frame: dict[str, Any] = {"op": what, "ref": 3, "id": f"c{self.number}", "to": to}
        if what == "send":
            self.sent.append({"from": me, "device": "laptop", "id": frame["id"]})
            frame["body"] = f"said {self.number}"
        elif not self.sent:
            return
        else:
            frame["of"] = self.sent[which % len(self.sent)]
        if what == "edit":
            frame["body"] = f"edited {self.number}"
        elif what in ("react", "unreact"):
            frame["op"] = "react"
            if what == "react":
                frame["emoji"] = "abc"[which % 3]
        if "ok" in self.actors[is_bob].ask(frame):
            self._note(frame, me)

    def _note(self, frame: dict[str, Any], me: str) -> None:
        """What was done last is what is to be shown."""
        id = frame["of"]["id"] if "of" in frame else frame["id"]
        body, is_edited, reactions = self.shown.get(id, (frame.get("body", ""), False, {}))
        match frame["op"]:
            case "send":
                self.shown[id] = (body, False, {})
            case "edit":
                self.shown[id] = (frame["body"], True, reactions)
            case "delete":
                del self.shown[id]
            case "react":
                others = {user: emoji for user, emoji in reactions.items() if user != me}
                mine = {me: frame["emoji"]} if "emoji" in frame else {}
                self.shown[id] = (body, is_edited, dict(sorted((others | mine).items())))


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, limit=st.integers(1, 4))
def test_devices_show_the_same_however_they_come_to_know_it(steps: list[Any], limit: int) -> None:
    play = Play()
    for step in steps:
        match step:
            case "go":
                play.guest.go()
            case "come":
                play.guest.come()
            case "history":
                play.guest.come()
                play.guest.read_back("alice", limit)
            case (what, is_bob, which):
                play.act(what, is_bob, which)
    play.guest.come()
    late, reader = Device(play.stage, "bob", "late"), Device(play.stage, "alice", "late")
    late.come()
    reader.come()
    reader.shows = Thread()  # it has nothing but the history
    reader.read_back("bob", limit)
    for device in (play.watcher, play.guest, play.other, late):
        device.hear()
    views = [device.view() for device in (play.watcher, play.guest, play.other, late, reader)]
    assert all(view == views[0] for view in views), views
    assert {reference.id: tuple(shown) for reference, *shown in views[0]} == play.shown


def reaction(stamp: int, emoji: str | None, sender: str = "bob") -> AnyAmendment:
    of = imclient.Reference("alice", "pad", "m")
    return imclient.Reacted(
        at=f"{stamp}-0", of=of, sender=sender, device="d", to="alice", id=str(stamp), stamp=stamp, emoji=emoji
    )


def test_the_newest_reaction_of_each_user_counts() -> None:
    shows = Thread()
    shows.add(imclient.Message(at="1-0", sender="alice", device="pad", to="bob", id="m", body="x"))
    for what in (reaction(3, "c"), reaction(2, "b"), reaction(4, "d", "carol"), reaction(5, None, "carol")):
        shows.add(what)
    [line] = shows.lines()
    assert line.reactions == {"bob": "c"}


def test_a_conversation_with_second_thoughts(server: Server, name: Callable[[str], str]) -> None:
    async def main() -> None:
        alice, bob = name("alice"), name("bob")
        for user in (alice, bob):
            await imclient.register(tcp_url(server, user), "secret")
        connect = partial(imclient.connect, password="secret")
        async with connect(tcp_url(server, alice)) as a, connect(ws_url(server, bob)) as b:
            sent, shows, events = await a.send(bob, "at for"), Thread(), b.events()

            async def take(kind: type) -> Any:
                while not isinstance(event := await anext(events), kind):
                    pass
                assert isinstance(event, imclient.Message | AnyAmendment)
                shows.add(event)
                return event

            message = await take(imclient.Message)
            await a.edit(sent, "at four")
            await take(imclient.Edited)
            await b.react(message, "+")
            line = shows.line(message.reference)
            assert line is not None
            assert (line.body, line.is_edited) == ("at four", True)
            page = await a.history(bob)
            back = Thread()
            back.add_page(page)
            assert back.lines()[0].reactions == {bob: "+"}
            with pytest.raises(imclient.NotAllowed):
                await b.edit(message, "never")
            with pytest.raises(imclient.BadRequest, match="emoji"):
                await b.react(message, "x" * 33)
            await a.delete(sent)
            assert (await take(imclient.Deleted)).of == message.reference
            assert shows.lines() == []
            assert (await a.history(bob)).messages == []
            with pytest.raises(imclient.NotFound):
                await a.edit(sent, "too late")

    trio.run(main)


def test_the_program(server: Server, home: Home, new_home: Callable[[str], Home], name: Callable[[str], str]) -> None:
    alice, bob = name("alice"), name("bob")
    home.run("register", tcp_url(server, alice))
    other = new_home("bob's")
    other.run("register", tcp_url(server, bob))
    home.run("chat", tcp_url(server, alice), bob, given="at for\n")
    said = other.run("chat", tcp_url(server, bob), alice, given="/react +\n").stderr
    assert f'{bob} says + to "at for"' in said
    changed = home.run("chat", tcp_url(server, alice), bob, given="/history\n/edit at four\n/history\n")
    assert f"at for [+ {bob}]" in changed.stdout
    assert f'{alice} has changed "at for": "at four"' in changed.stderr
    read = other.run("chat", tcp_url(server, bob), alice, given="/history\n/edit never\n", status=1)
    assert f"at four (edited) [+ {bob}]" in read.stdout
    assert "! there is no message here to which this could be done" in read.stderr
    gone = home.run("chat", tcp_url(server, alice), bob, given="/history\n/delete\n").stderr
    assert f'{alice} has deleted "at four"' in gone
    assert "at four" not in other.run("chat", tcp_url(server, bob), alice, given="/history\n").stdout
