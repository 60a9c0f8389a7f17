"""Marks and counts on a network under a test's control: under load, over lost links, between two calls."""

import random
from typing import Any

import pytest

from imserver.model import Position
from imserver.routing import conversations
from imserver.routing.unread import MOST_ENTRIES
from imserver.session.forwarded import MOST_SENDERS
from tests.model_store import World
from tests.session.node import ServerNode
from tests.session.peer import Peer, entered, world_of
from tests.store.node import message


def marks(heard: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(frame["ev"], frame.get("id", "")) for frame in heard if frame.get("ev") in ("read", "delivered")]


def say(world: World, sender: str, to: str, message_id: str, device: str = "laptop") -> str:
    """Stored for both, as a send is."""
    said = message(sender, to, message_id, device=device)
    world.database.append(sender, said.dedupe, said.content, b"-")
    appended: Any = world.database.append(to, said.dedupe, said.content, b"-")
    world.own_pushes(None)  # on their way to whoever is there
    return str(appended.at.decode())


def shards_apart(*users: str) -> World:
    world = world_of(*users, shards=2)
    assert len({world.shard_of(user) for user in users}) == 2
    return world


def test_under_load_acknowledgements_are_stored_and_senders_hear_of_all_of_them_later() -> None:
    world = world_of("alice", "bob")
    node = ServerNode(world, "n")
    alice, bob = entered(node, "alice"), entered(node, "bob")
    first = say(world, "alice", "bob", "a1")
    node.settle()
    node.store.links[0].oldest_seconds, node.store.links[0].up_since = 1.5, -100.0
    bob.ask("ack", upto=first, ref=1)
    assert world.database.accounts["bob"].cursors["pad"] == first.encode()
    assert marks(alice.hear()) == []
    assert bob.ask("read", with_="alice", upto=first, ref=2)[-1]["err"]["code"] == "overloaded"
    node.store.links[0].oldest_seconds = 0.0
    second = say(world, "alice", "bob", "a2")
    bob.ask("ack", upto=second, ref=3)
    assert marks(alice.hear()) == [("delivered", "a2")]


def test_all_senders_are_told_whatever_the_session_remembers() -> None:
    """The first acknowledgement, some that follow, one after more than is remembered, one after a lost link."""
    names = ("bob", "carol", "dave")
    world = world_of("alice", *names)
    node = ServerNode(world, "n")
    alice, senders = entered(node, "alice"), {name: entered(node, name) for name in names}
    chance, link = random.Random(1), node.store.links[0]
    for turn in range(30):
        newest = {}
        for number in range(MOST_SENDERS + 2 if turn == 20 else chance.randrange(6)):
            sender, device = chance.choice(names), f"device{number}"
            newest[sender] = f"{turn}.{number}"
            upto = say(world, sender, "alice", newest[sender], device)
            if turn == 10:
                link.sever()
        if turn == 10:
            link.restore()
            link.restore()
        node.settle()
        alice.hear()
        if newest:
            alice.ask("ack", upto=upto, ref=1)
        for name, peer in senders.items():
            told = [message_id for kind, message_id in marks(peer.hear()) if kind == "delivered"]
            assert told == ([newest[name]] if name in newest else []), (turn, name)


def test_what_was_put_off_is_told_when_the_session_ends() -> None:
    """More comes all the time than is acknowledged, and then the client is gone."""
    world = world_of("alice", "bob", "carol")
    node = ServerNode(world, "n")
    alice, bob, carol = entered(node, "alice"), entered(node, "bob"), entered(node, "carol")
    before = say(world, "carol", "alice", "c0")
    for number in range(1, 6):
        upto, before = before, say(world, "bob" if number == 3 else "carol", "alice", f"m{number}")
        node.settle()
        alice.ask("ack", upto=upto, ref=number)
    bob.hear()
    alice.wire.hang_up()
    node.settle()
    assert marks(bob.hear()) == [("delivered", "m3")]
    assert marks(carol.hear())[-1] == ("delivered", "m4")


def test_a_sender_out_of_reach_is_told_with_the_next_acknowledgement() -> None:
    world = shards_apart("alice", "bob")
    node, other = ServerNode(world, "n"), ServerNode(world, "other")
    alice, bob = entered(other, "alice"), entered(node, "bob")
    first = say(world, "alice", "bob", "a1")
    node.settle()
    node.store.link_of("alice").sever()
    bob.ask("ack", upto=first, ref=1)
    node.store.link_of("alice").fail()
    node.store.link_of("alice").restore()
    node.store.link_of("alice").restore()
    node.settle()
    other.settle()
    assert marks(alice.hear()) == []
    bob.ask("ack", upto=first, ref=2)
    other.settle()
    assert marks(alice.hear()) == [("delivered", "a1")]


def test_what_was_acknowledged_last_is_told_when_the_session_ends() -> None:
    world = world_of("alice", "bob")
    node = ServerNode(world, "n")
    alice, bob = entered(node, "alice"), entered(node, "bob")
    first = say(world, "alice", "bob", "a1")
    bob.ask("ack", upto=first)
    alice.hear()
    bob.wire.hang_up()
    node.settle()
    assert marks(alice.hear()) == [("delivered", "a1")]


def test_a_repeat_completes_what_a_dead_worker_left_half_done() -> None:
    world = shards_apart("alice", "bob")
    node, other = ServerNode(world, "n"), ServerNode(world, "other")
    alice, bob = entered(other, "alice"), entered(node, "bob")
    first = say(world, "alice", "bob", "a1")
    node.settle()
    bob.say("read", with_="alice", upto=first, ref=1)
    node.turn()
    assert node.store.link_of("bob").execute()  # the reader's mark; the partner's never
    world.kill_node("n", 0)
    other.settle()
    assert marks(alice.hear()) == []
    again = entered(other, "bob", "phone")
    assert again.ask("read", with_="alice", upto=first, ref=1)[-1] == {"re": 1, "ok": {}}
    assert marks(alice.hear()) == [("read", "a1")]


def test_who_may_have_missed_something_is_told_to_ask() -> None:
    world = world_of("alice", "bob")
    node, other = ServerNode(world, "n"), ServerNode(world, "other")
    pad, phone = entered(node, "alice", "pad"), entered(other, "alice", "phone")
    first = say(world, "bob", "alice", "b1")
    node.settle()
    pad.hear()
    link = node.store.links[0]
    link.sever()
    phone.ask("read", with_="bob", upto=first, ref=1)
    link.restore()
    link.restore()
    node.settle()
    assert marks(pad.hear()) == []
    node.pass_time(1)
    node.settle()
    assert [frame["ev"] for frame in pad.hear() if "ev" in frame] == ["conversations"]
    (listed,) = pad.ask("conversations", ref=2)[-1]["ok"]["conversations"]
    assert (listed["with"], listed["read"], listed.get("unread", 0)) == ("bob", first, 0)


def test_a_client_that_takes_nothing_is_told_to_ask_when_it_has() -> None:
    world = world_of("alice", "bob")
    node = ServerNode(world, "n", out_buffer_bytes=4096)
    pad, phone = entered(node, "alice", "pad", capacity=1024), entered(node, "alice", "phone")
    for number in range(60):
        last = say(world, "bob", "alice", f"b{number}")
    node.settle()
    phone.ask("read", with_="bob", upto=last, ref=1)
    node.pass_time(1)
    seen: list[bytes] = []
    while piece := pad.wire.read():
        seen.append(piece)
        node.settle()
    assert b'"ev":"read"' not in b"".join(seen)
    node.pass_time(1)
    node.settle()
    assert pad.hear() == [{"ev": "conversations"}]


@pytest.fixture(scope="module")
def long() -> World:
    """Alice has more than is looked through: one message of Bob, then many of Carol."""
    world = world_of("alice", "bob", "carol")
    say(world, "bob", "alice", "b1")
    for number in range(MOST_ENTRIES + 1):
        say(world, "carol", "alice", f"c{number}")
    return world


def listed(peer: Peer, **fields: Any) -> dict[str, Any]:
    (reply,) = (frame for frame in peer.ask("conversations", ref=1, **fields) if "re" in frame)
    return {one.pop("with"): one for one in reply["ok"]["conversations"]}


def test_what_was_not_looked_through_is_said_to_be_unsure(long: World) -> None:
    node = ServerNode(long, "n")
    peer = Peer(node)
    last = long.database.accounts["alice"].last.decode()
    peer.log_in("alice", since=last)
    found = listed(peer)
    assert found == {"carol": {"at": last, "unread": MOST_ENTRIES, "more": True, "last": last}}


def test_only_what_is_in_doubt_is_looked_through(long: World, monkeypatch: pytest.MonkeyPatch) -> None:
    node = ServerNode(long, "m")
    peer = Peer(node)
    log = long.database.accounts["alice"].log
    peer.log_in("alice", since=log[-1].at.decode())
    pages = 0

    def count(*arguments: Any) -> Any:
        nonlocal pages
        pages += 1
        return read_back(*arguments)

    read_back = node.store.read_back
    monkeypatch.setattr(node.store, "read_back", count)
    peer.ask("read", ref=2, with_="carol", upto=log[-300].at.decode())
    peer.ask("read", ref=2, with_="carol", upto=log[-150].at.decode())
    found = listed(peer, since=long.database.accounts["alice"].conversations.version - 1)
    assert found["carol"]["unread"] == 149
    assert "more" not in found["carol"]
    assert pages == 1
    assert Position(found["carol"]["at"].encode()) == log[-1].at


def test_all_of_many_groups_are_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "MOST_LISTED", 5)
    world = world_of("alice", "bob")
    node = ServerNode(world, "n")
    alice = entered(node, "alice")
    say(world, "bob", "alice", "b1")
    groups = {f"#g{number}" for number in range(17)}
    for group in groups:
        assert "ok" in alice.ask("group.create", name="g", group=group, ref=1)[-1]
    for group in ("#g3", "#g14"):
        assert "ok" in alice.ask("conversation.set", with_=group, pinned=True, ref=2)[-1]
    listed: list[str] = []
    after: int | None = 0
    pages = 0
    while after is not None:
        page = alice.ask("conversations", after=after, ref=3)[-1]["ok"]
        assert len(page["conversations"]) <= 2 * 5
        assert page["full"]
        listed += [line["with"] for line in page["conversations"]]
        after = page.get("next")
        assert page.get("more", False) is (after is not None)
        pages += 1
    assert sorted(listed) == sorted(groups | {"bob"})
    assert pages == 3


def test_typing_of_strangers_leaves_members_theirs() -> None:
    world = world_of("alice", "bob", "mallory")
    node = ServerNode(world, "n")
    alice, bob, mallory = (entered(node, user) for user in ("alice", "bob", "mallory"))
    assert "ok" in alice.ask("group.create", name="g", group="#g", members=["bob"], ref=1)[-1]
    bob.hear()
    for number in range(10):
        mallory.ask("typing", to="#g", on=True, ref=number)
    alice.ask("typing", to="#g", on=True, ref=2)
    assert [(frame["from"], frame["to"]) for frame in bob.hear() if frame.get("ev") == "typing"] == [("alice", "#g")]
