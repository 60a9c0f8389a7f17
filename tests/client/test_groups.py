"""Groups in the client: a cursor for each log, by frames alone; then the library and the program on a real server."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import imclient
import pytest
import trio
from imclient.core import Replica
from imclient.events import Event, GroupChanged, Message, Reconnect, Regressed, Truncated
from imclient.outbox import Outbox
from imclient.reader import Reader
from imclient.stages import Identity

from imserver.model import DeviceId, UserId
from tests.client.program import Home, tcp_url, ws_url
from tests.server import Server

WELCOME = {"user": "bob", "device": "pad", "token": "t", "expires": 1, "at": "0-0", "ping": 60, "max_frame": 65536}


class Bob:
    """A replica, and what it is told."""

    def __init__(self) -> None:
        identity = Identity(user=UserId("bob"), device=DeviceId("pad"), token="t")
        self.replica = Replica(identity, Reader({}), Outbox("run"), lambda: 0.5)

    def enter(self) -> dict[str, Any]:
        """Connects; its login."""
        self.replica.connected(0.0)
        (login,) = self.replica.take_frames(0.0)
        fields: dict[str, Any] = json.loads(login)
        since = fields.get("since", "0-0")
        own = since[""] if isinstance(since, dict) else since
        self.hear(re=0, ok=WELCOME | {"at": own})
        self.hear(ev="synced", at=own)
        return fields

    def hear(self, **frame: Any) -> list[Event]:
        return self.replica.receive(json.dumps(frame).encode(), 0.0)

    def message(self, at: int, prev: int, sender: str = "alice") -> list[Event]:
        return self.hear(
            **{"ev": "msg", "log": "#g", "at": f"{at}-0", "prev": f"{prev}-0", "from": sender, "device": "d"},
            to="#g",
            id=f"m{at}",
            body="x",
        )

    def own(self, at: int, prev: int, change: str, since: int) -> list[Event]:
        return self.hear(
            **{
                "ev": "group",
                "at": f"{at}-0",
                "prev": f"{prev}-0",
                "group": "#g",
                "change": change,
                "from": f"{since}-0",
            }
        )


@pytest.fixture
def bob() -> Bob:
    bob = Bob()
    bob.enter()
    return bob


def test_a_group_is_read_from_where_it_was_joined_and_gaps_in_it_are_noticed(bob: Bob) -> None:
    (joined,) = bob.own(1, 0, "joined", 5)
    assert isinstance(joined, GroupChanged)
    assert (joined.group, joined.log, joined.change, joined.user) == ("#g", "", "joined", "bob")
    assert [type(event) for event in bob.message(6, 5)] == [Message]
    assert bob.message(6, 5) == []
    (gap,) = bob.message(8, 7)
    assert isinstance(gap, Reconnect)
    assert bob.enter()["since"] == {"": "1-0", "#g": "6-0"}


def test_entries_about_the_group_take_their_places_in_its_log(bob: Bob) -> None:
    bob.own(1, 0, "joined", 5)
    bob.message(6, 5)
    (event,) = bob.hear(
        ev="group", log="#g", at="7-0", prev="6-0", change="role", user="carol", role="admin", by="alice"
    )
    assert event == GroupChanged(at="7-0", log="#g", group="#g", change="role", user="carol", by="alice", role="admin")
    assert [type(event) for event in bob.message(8, 7)] == [Message]


def test_who_leaves_and_comes_back_reads_from_there(bob: Bob) -> None:
    bob.own(1, 0, "joined", 5)
    bob.message(6, 5)
    bob.own(2, 1, "left", 6)
    assert bob.enter()["since"] == "2-0"
    bob.own(3, 2, "joined", 20)
    assert [type(event) for event in bob.message(21, 20)] == [Message]


def test_a_backlog_of_comings_and_goings_does_not_move_a_cursor_back(bob: Bob) -> None:
    bob.message(21, 20)
    bob.own(1, 0, "joined", 5)
    bob.own(2, 1, "left", 6)
    bob.own(3, 2, "joined", 20)
    assert [type(event) for event in bob.message(22, 21)] == [Message]


def test_what_was_too_much_is_told_and_gone_on_behind(bob: Bob) -> None:
    bob.own(1, 0, "joined", 5)
    hole = Truncated("900-0", "#g", 1001, "7-0")
    assert bob.hear(ev="truncated", log="#g", at="900-0", count=1001, after="7-0") == [hole]
    assert [type(event) for event in bob.message(901, 900)] == [Message]


def test_what_comes_again_after_the_log_went_back_is_given_once(bob: Bob) -> None:
    bob.own(1, 0, "joined", 5)
    bob.message(6, 5)
    bob.message(7, 6)
    assert bob.hear(ev="regressed", log="#g", at="6-0") == [Regressed("6-0", "#g")]
    same = {"ev": "msg", "log": "#g", "at": "20-0", "prev": "6-0", "from": "alice", "device": "d"}
    assert bob.hear(**same, to="#g", id="m7", body="x") == []
    assert [type(event) for event in bob.message(21, 20)] == [Message]


def test_an_own_message_is_stood_for_by_its_reply(bob: Bob) -> None:
    bob.own(1, 0, "joined", 5)
    sent = bob.replica.send("#g", "hello")
    bob.replica.take_frames(0.0)
    bob.hear(re=sent, ok={"id": sent, "at": "6-0"})
    assert [type(event) for event in bob.message(7, 6)] == [Message]


# -- on a server


@pytest.mark.parametrize("url", [tcp_url, ws_url], ids=["tcp", "ws"])
def test_the_library(server: Server, url: Callable[[Server, str], str], name: Callable[[str], str]) -> None:
    async def main() -> None:
        alice, bob = name("alice"), name("bob")
        for user in (alice, bob):
            await imclient.register(tcp_url(server, user), "secret")
        connect = partial(imclient.connect, password="secret")
        async with connect(url(server, alice)) as a, connect(tcp_url(server, bob), device="pad") as b:
            group = await a.groups.create("Room", topic="tea", history="all")
            await a.send(group, "first")
            with pytest.raises(imclient.NotFound):
                await b.groups.join(group)
            await a.groups.invite(group, bob)
            assert [it.group for it in (await b.groups.mine()).invited] == [group]
            await b.groups.join(group)
            await b.send(group, "hi")
            assert (await anext(a.messages())).body == "hi"
            page = await b.history(group)
            assert [message.body for message in page.messages] == ["first", "hi"]
            await a.groups.set(group, topic="coffee", posting="admins")
            with pytest.raises(imclient.NotAllowed):
                await b.send(group, "no")
            await a.groups.set_role(group, bob, "admin")
            await b.send(group, "yes")
            info = await b.groups.info(group)
            assert (info.topic, info.posting, info.members, info.role) == ("coffee", "admins", 2, "admin")
            assert {it.user: it.role async for it in a.groups.members(group)} == {alice: "owner", bob: "admin"}
            cursors = b.cursors
        async with connect(url(server, alice)) as a:
            await a.send(group, "meanwhile")
        async with connect(tcp_url(server, bob), device="pad", since=cursors) as b:
            messages = b.messages()
            while (message := await anext(messages)).sender == bob:
                pass
            assert message.body == "meanwhile"
            await b.groups.leave(group)
            assert (await b.groups.mine()).groups == []

    trio.run(main)


def test_the_program(server: Server, home: Home, new_home: Callable[[str], Home], name: Callable[[str], str]) -> None:
    alice, bob, group = tcp_url(server, name("alice")), tcp_url(server, name("bob")), f"#{name('room')}"
    home.run("register", alice)
    other = new_home("bob's")
    other.run("register", bob)
    made = home.run("chat", alice, given=f"/open {group} The room\none\n/groups\n/members\n")
    assert f"{group}  The room  (owner)" in made.stderr
    assert f"{name('alice')}  (owner)" in made.stderr
    joined = other.run("chat", bob, given=f"/join {group}\ntwo\n/to {name('alice')}\n{group}: three\n")
    assert "! " not in joined.stderr
    # What came meanwhile, then what the history has before it.
    read = home.run("chat", alice, given=f"/to {group}\n/history\n").stdout
    assert [line.rpartition(": ")[2] for line in read.splitlines() if line][-3:] == ["two", "three", "one"]
