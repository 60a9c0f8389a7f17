"""Typing in groups: who hears of it, and how often. Between contacts: test_presence.py, and the dialogues."""

import pytest

from imserver.routing.typing import NOTICES_PER_SECOND
from tests.model_store import World
from tests.session.node import ServerNode
from tests.session.peer import Peer, entered, world_of

G = "#g"


@pytest.fixture
def world() -> World:
    return world_of("alice", "bob", "carol")


def group_of(node: ServerNode, *members: str) -> Peer:
    alice = entered(node, "alice")
    alice.ask("group.create", ref=1, group=G, name="G", members=members)
    return alice


def notices(peer: Peer) -> int:
    return sum(frame.get("ev") == "typing" for frame in peer.hear())


def say(peer: Peer, times: int) -> None:
    for _ in range(times):
        peer.say("typing", to=G, on=True)
    peer.node.settle()


def test_more_than_can_be_shown_is_dropped_until_the_next_second(world: World) -> None:
    node = ServerNode(world, "n1")
    alice = group_of(node, "bob", "carol")
    bob, carol = entered(node, "bob"), entered(node, "carol")
    say(alice, NOTICES_PER_SECOND - 1)
    say(carol, 3)
    assert notices(bob) == NOTICES_PER_SECOND
    node.pass_time(1)
    say(carol, 1)
    assert notices(bob) == 1
    assert notices(carol) == NOTICES_PER_SECOND - 1, "nobody hears of oneself"


@pytest.mark.parametrize(("most", "heard"), [(2, 1), (1, 0)])
def test_only_in_small_groups(world: World, most: int, heard: int) -> None:
    node = ServerNode(world, "n1", group_typing_members=most)
    alice = group_of(node, "bob")
    bob = entered(node, "bob")
    say(alice, 1)
    assert notices(bob) == heard


def test_who_does_not_read_misses_it(world: World) -> None:
    node = ServerNode(world, "n1", max_frame_bytes=1024, out_buffer_bytes=2048)
    alice = group_of(node, "bob", "carol")
    bob, carol = entered(node, "bob", capacity=1024), entered(node, "carol")
    for number in range(20):
        alice.say("send", id=f"m{number}", to=G, body="x" * 200)
    node.settle()
    say(alice, 1)
    assert notices(carol) == 1
    heard = b""
    while data := bob.wire.read():
        heard += data
        node.settle()
    assert heard.count(b'"ev":"msg"') == 20
    assert b"typing" not in heard


def test_under_strain_it_is_refused_before_anything_else(world: World) -> None:
    node = ServerNode(world, "n1")
    alice = group_of(node, "bob")
    bob = entered(node, "bob")
    node.store.links[0].oldest_seconds = 0.3
    assert alice.ask("typing", ref=2, to=G, on=True)[-1]["err"]["code"] == "overloaded"
    assert "ok" in alice.ask("send", ref=3, id="m1", to=G, body="x")[-1]
    assert notices(bob) == 0
