"""Registering by invitation: each use is used once, however often somebody says it, whoever is killed in between."""

from tests.model_database import Invite
from tests.model_store import World
from tests.session.node import ServerNode
from tests.session.peer import Peer, events, world_of


def invited(uses: int, *users: str) -> tuple[World, Invite]:
    world = world_of(*users)
    world.database.invites["abc"] = invite = Invite(uses)
    return world, invite


def register(node: ServerNode, user: str, **code: str) -> list[str]:
    return events(Peer(node).ask("register", ref=1, user=user, password="p", **code))


def test_nobody_comes_in_without_a_code() -> None:
    world, invite = invited(1)
    node = ServerNode(world, "n1", registration="invited")
    for code in ({}, {"code": "abd"}, {"code": "a b"}, {"code": "*"}):
        assert register(node, "alice", **code) == ["err 1 not-allowed"]
    assert invite.used == 0
    assert register(node, "alice", code=" ABC ") == ["ok 1"]
    assert register(node, "bob", code="abc") == ["err 1 not-allowed"]
    assert (invite.used, sorted(world.database.accounts)) == (1, ["alice"])


def test_a_code_is_not_asked_for_where_registration_is_open() -> None:
    world, invite = invited(1)
    node = ServerNode(world, "n1")
    assert register(node, "alice", code="abc") == ["ok 1"]
    assert invite.used == 0


def test_a_name_that_is_taken_takes_no_use() -> None:
    world, invite = invited(2, "alice")
    node = ServerNode(world, "n1", registration="invited")
    assert register(node, "alice", code="abc") == ["err 1 exists"]
    assert invite.used == 0
    assert register(node, "bob", code="abc") == ["ok 1"]
    assert register(node, "bob", code="abc") == ["err 1 exists"], "said again: it is there, and nothing more was used"
    assert invite.used == 1


def test_whoever_is_cut_off_after_any_step_comes_again_for_the_same_use() -> None:
    """The worker dies when the store has done so many calls."""
    for done in range(8):
        world, invite = invited(1)
        node = ServerNode(world, "n1", registration="invited")
        peer = Peer(node)
        peer.say("register", ref=1, user="alice", password="p", code="abc")
        node.turn()
        node.store.tasks.run()
        for _ in range(done):
            for number, link in enumerate(node.store.links):
                while link.execute() or (link.back and node.deliver(number)):
                    break
            node.store.tasks.run()
        world.kill_node("n1", 1)
        other = ServerNode(world, "n2", registration="invited")
        assert register(other, "alice", code="abc") in (["ok 1"], ["err 1 exists"])
        assert "alice" in world.database.accounts
        assert invite.used == 1
        assert register(other, "bob", code="abc") == ["err 1 not-allowed"]


def test_two_who_want_one_name_at_once_use_one() -> None:
    world, invite = invited(5)
    node = ServerNode(world, "n1", registration="invited")
    peers = [Peer(node), Peer(node)]
    for peer in peers:
        peer.say("register", ref=1, user="alice", password="p", code="abc")
    node.settle()
    assert sorted(events(peers[0].hear()) + events(peers[1].hear())) == ["err 1 exists", "ok 1"]
    assert invite.used == 1
