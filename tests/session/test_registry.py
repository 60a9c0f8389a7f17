"""Who is here."""

from imserver.model import UserId
from imserver.session.registry import Registry
from tests.session.node import ServerNode
from tests.session.peer import entered, world_of

ALICE, BOB = UserId("alice"), UserId("bob")


def registry_of(node: ServerNode) -> Registry:
    return node.context.registry


def test_sessions_by_user() -> None:
    node = ServerNode(world_of("alice", "bob"), "n1")
    entered(node, "alice", "pad")
    entered(node, "alice", "phone")
    entered(node, "bob", "pad")
    registry = registry_of(node)
    assert [session.device for session in registry.sessions_of(ALICE)] == ["pad", "phone"]
    assert [session.device for session in registry.sessions_of(BOB)] == ["pad"]
    assert registry.sessions_of(UserId("carol")) == ()
    assert len(registry) == len(list(registry)) == 3


def test_whoever_leaves_is_gone_and_the_others_stay() -> None:
    node = ServerNode(world_of("alice"), "n1")
    pad, phone = entered(node, "alice", "pad"), entered(node, "alice", "phone")
    before = registry_of(node).sessions_of(ALICE)
    pad.ask("logout")
    assert [session.device for session in registry_of(node).sessions_of(ALICE)] == ["phone"]
    assert len(before) == 2, "who walks over the sessions is not disturbed"
    phone.ask("logout")
    assert (len(registry_of(node)), list(registry_of(node)), registry_of(node).sessions_of(ALICE)) == (0, [], ())
