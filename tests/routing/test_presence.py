"""Presence on a network under a test's control: whatever order things happen in, what is heard last is what holds."""

import json
import random
from collections.abc import Callable
from functools import partial

import pytest

from imserver.model import UserId
from imserver.protocol.contacts import SWITCHES, Event
from tests.model_store import World
from tests.session.node import ServerNode, token_for
from tests.session.peer import Peer, entered, world_of

ADD = SWITCHES[Event.ADD]
ACTS: tuple[dict[str, object], ...] = (
    {"op": "presence", "show": "away"},
    {"op": "presence", "show": "invisible"},
    {"op": "presence", "show": "online", "status": "here"},
    {"op": "logout"},
)


def befriended(*users: str, shards: int = 1) -> World:
    world = world_of(*users, shards=shards)
    for user in users:
        for other in users:
            if user != other:
                world.database.rosters.relate(user, other, str(ADD), 1, "", 0)
                world.database.rosters.relate(other, user, str(ADD.mirrored()), 1, "", 0)
    for user in users:
        world.database.rosters.settle(user, "", 0, None)
    return world


class Screen:
    """What a client shows of one contact: a new session knows of nobody."""

    def __init__(self) -> None:
        self.show = "offline"
        self.is_synced = False
        self._rest = b""

    def hear(self, peer: Peer, contact: str) -> None:
        *lines, self._rest = (self._rest + peer.wire.read()).split(b"\n")
        for frame in map(json.loads, lines):
            self.is_synced = self.is_synced or frame.get("ev") == "synced"
            if frame.get("ev") == "presence" and frame["user"] == contact:
                self.show = frame["show"]


def move(nodes: list[ServerNode], chance: random.Random) -> None:
    """Everything that can move does, one thing at a time, in any order."""
    while True:
        moves: list[Callable[[], bool]] = []
        for node in nodes:
            moves += [node.turn, node.store.tasks.run]
            for number, link in enumerate(node.store.links):
                moves += [link.execute, partial(_deliver, node, number)]
        chance.shuffle(moves)
        if not any(one() for one in moves):
            return


def _deliver(node: ServerNode, link: int) -> bool:
    return bool(node.store.links[link].back) and node.deliver(link)


@pytest.mark.parametrize("seed", range(60))
def test_two_who_come_at_once_hear_of_each_other(seed: int) -> None:
    world, chance = befriended("alice", "bob", shards=2), random.Random(seed)
    nodes = [ServerNode(world, "n1"), ServerNode(world, "n2")]
    peers = {"alice": Peer(nodes[0]), "bob": Peer(nodes[1])}
    screens = {user: Screen() for user in peers}
    for user, peer in peers.items():
        _log_in(peer, user)
    move(nodes, chance)
    for user, other in (("alice", "bob"), ("bob", "alice")):
        screens[user].hear(peers[user], other)
        assert screens[user].is_synced
        assert screens[user].show == "online"


@pytest.mark.parametrize("seed", range(120))
def test_what_is_heard_last_is_what_the_store_has_told(seed: int) -> None:
    """Alice is at two devices at two workers and changes what they show, while Bob comes."""
    world, chance = befriended("alice", "bob", shards=2), random.Random(seed)
    nodes = [ServerNode(world, "n1"), ServerNode(world, "n2")]
    alice = [entered(nodes[0], "alice", "pad"), entered(nodes[1], "alice", "phone")]
    bob, screen = Peer(nodes[seed % 2]), Screen()
    _log_in(bob, "bob")
    for peer in alice:
        for act in chance.sample(ACTS, chance.randrange(1, 4)):
            peer.say(str(act["op"]), **{name: value for name, value in act.items() if name != "op"})
            if act["op"] == "logout":
                break
    move(nodes, chance)
    screen.hear(bob, "alice")
    told = world.database.accounts["alice"].roster.told.show
    assert screen.is_synced
    assert screen.show == told
    assert not world.database.accounts["alice"].roster.is_news


def test_a_client_that_does_not_read_is_told_how_things_stand_when_it_does() -> None:
    world = befriended("alice", "bob")
    node = ServerNode(world, "n1", max_frame_bytes=1024, out_buffer_bytes=2048, rate_burst=100_000)
    alice, screen = entered(node, "alice"), Screen()
    bob = Peer(node, capacity=256)
    _log_in(bob, "bob")
    node.settle()
    screen.hear(bob, "alice")
    for number in range(60):
        alice.ask("presence", show=("away", "busy")[number % 2], status="x" * 100)
    alice.ask("presence", show="online")
    for _ in range(60):
        node.pass_time(1)
        node.settle()
        screen.hear(bob, "alice")
    assert screen.show == "online"


def test_who_is_on_a_shard_that_is_lost_is_offline_until_it_is_back() -> None:
    world = befriended("alice", "bob", shards=2)
    assert world.shard_of("alice") != world.shard_of("bob")
    nodes = [ServerNode(world, "n1"), ServerNode(world, "n2")]
    bob = entered(nodes[1], "bob")
    alice, screen = Peer(nodes[0]), Screen()
    _log_in(alice, "alice")

    def settle() -> None:
        for node in nodes:
            node.pass_time(1)
        while sum(node.move() for node in nodes):
            pass
        screen.hear(alice, "bob")

    settle()
    assert screen.show == "online"
    link = nodes[0].store.link_of("bob")
    link.cut()
    nodes[0].presence.missed()  # another shard was lost, and is back
    settle()
    assert screen.show == "online", "it may come back within the lease"
    link.lost_lease = True
    nodes[0].presence.missed()
    settle()
    assert screen.show == "offline"
    bob.ask("presence", show="busy")
    for _ in range(2):
        link.restore()
    settle()
    assert screen.show == "busy"


def test_who_leaves_a_node_that_has_its_lease_again_has_the_grace() -> None:
    """The node had lost its lease, and told its sessions to go; what it clears are those."""
    world = befriended("alice", "bob")
    one, two = ServerNode(world, "n1"), ServerNode(world, "n2")
    alice, bob, screen = entered(one, "alice"), Peer(two), Screen()
    _log_in(bob, "bob")

    settle = partial(_settle, (one, two), bob, screen)
    settle(1)
    alice.wire.hang_up()
    settle(1)
    one.store.tasks.spawn(one.presence.clear, UserId("alice"), "n1")
    grace = one.context.settings.presence_grace_seconds
    settle(1)
    settle(grace - 6)
    assert screen.show == "online"
    again = Peer(one)
    _log_in(again, "alice")
    settle(1)
    again.wire.hang_up()
    settle(1)
    settle(grace - 5)
    assert screen.show == "online", "it was back, and its grace begins anew"
    settle(6)
    assert screen.show == "offline"


def test_who_logs_out_and_is_gone_at_once_is_not_waited_for() -> None:
    world = befriended("alice", "bob")
    node = ServerNode(world, "n1")
    alice, screen, bob = entered(node, "alice"), Screen(), Peer(node)
    _log_in(bob, "bob")
    node.settle()
    screen.hear(bob, "alice")
    assert screen.show == "online"
    alice.say("logout")
    node.turn()
    node.reactor.reset(alice.wire)  # before any task has run
    node.settle()
    screen.hear(bob, "alice")
    assert screen.show == "offline"


def test_each_device_has_a_grace_of_its_own() -> None:
    """Contacts were told of the one that logged in last. It goes; the other is there, and then away for a moment."""
    world = befriended("alice", "bob")
    one, two = ServerNode(world, "n1"), ServerNode(world, "n2")
    pad, phone, bob, screen = entered(two, "alice", "pad"), entered(one, "alice", "phone"), Peer(two), Screen()
    _log_in(bob, "bob")
    grace = one.context.settings.presence_grace_seconds

    settle = partial(_settle, (one, two), bob, screen)
    settle(1)
    assert screen.show == "online"
    phone.wire.hang_up()
    settle(0)
    settle(grace - 2)
    pad.wire.hang_up()
    settle(0)
    settle(3)
    assert screen.show == "online", "the pad has been gone for 3 s"
    settle(grace)
    assert screen.show == "offline"


def test_a_device_that_has_been_elsewhere_since_has_its_whole_grace() -> None:
    """The worker that it was at first still counts its first absence."""
    world = befriended("alice", "bob")
    one, two = ServerNode(world, "n1"), ServerNode(world, "n2")
    pad, bob, screen = entered(one, "alice", "pad"), Peer(two), Screen()
    _log_in(bob, "bob")
    grace = one.context.settings.presence_grace_seconds

    settle = partial(_settle, (one, two), bob, screen)
    settle(1)
    pad.wire.hang_up()
    settle(0)
    settle(grace - 2)
    pad = Peer(two)
    _log_in(pad, "alice", "pad")
    settle(0)
    pad.wire.hang_up()
    settle(3)
    assert screen.show == "online", "it has been gone for 3 s"
    settle(grace)
    assert screen.show == "offline"


def test_under_strain_typing_is_dropped_and_presence_waits() -> None:
    world = befriended("alice", "bob")
    node = ServerNode(world, "n1")
    alice, bob = Peer(node), Peer(node)
    for peer, user in ((alice, "alice"), (bob, "bob")):
        _log_in(peer, user)
    node.settle()
    node.store.links[0].oldest_seconds = 0.6
    assert alice.ask("typing", ref=1, to="bob", on=True)[-1]["err"]["code"] == "overloaded"
    late = Peer(node)
    late.say("login", ref="login", token=token_for("alice", "late"), device="late")
    node.settle()
    bob.hear()
    node.pass_time(3)
    node.settle()
    assert [frame for frame in late.hear() if frame.get("ev") == "presence"] == []
    node.store.links[0].oldest_seconds = 0.0
    node.pass_time(1)
    node.settle()
    assert [frame["user"] for frame in late.hear() if frame.get("ev") == "presence"] == ["bob"]
    assert [frame for frame in bob.hear() if frame.get("ev") == "typing"] == []


def _settle(nodes: tuple[ServerNode, ServerNode], bob: Peer, screen: "Screen", seconds: float) -> None:
    """Time passes, everything moves, and bob looks what he is shown of alice."""
    for node in nodes:
        node.pass_time(seconds)
    while sum(node.move() for node in nodes):
        pass
    screen.hear(bob, "alice")


def _log_in(peer: Peer, user: str, device: str = "tab") -> None:
    peer.say("login", ref="login", token=token_for(user, device), device=device)
