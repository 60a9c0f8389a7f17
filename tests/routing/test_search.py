"""Search where everybody is found, and where nobody is."""

from tests.session.node import ServerNode
from tests.session.peer import entered, events, world_of


def test_nobody_is_found_unless_the_operator_says_so() -> None:
    node = ServerNode(world_of("alice", "alan"), "n1")
    assert events(entered(node, "alice").ask("search", ref=1, prefix="al")) == ["err 1 not-allowed"]


def test_everybody_is_found_a_bounded_number_at_a_time() -> None:
    users = [f"al{number}" for number in range(30)]
    node = ServerNode(world_of("alice", *users), "n1", search="all")
    alice = entered(node, "alice")
    (answer,) = alice.ask("search", ref=1, prefix="al")
    assert [found["user"] for found in answer["ok"]["users"]] == sorted(users)[:20]
    assert answer["ok"]["more"] is True
    (answer,) = alice.ask("search", ref=1, prefix="al", limit=50)
    assert ([found["user"] for found in answer["ok"]["users"]], answer["ok"]["more"]) == (sorted(users), False)
    (answer,) = alice.ask("search", ref=1, prefix="al2", limit=1)
    assert answer["ok"] == {"users": [{"user": "al2"}], "more": True}


def test_whoever_is_no_more_is_not_found() -> None:
    world = world_of("alice", "alan")
    node = ServerNode(world, "n1", search="all")
    alice = entered(node, "alice")
    world.database.names_from = lambda beginning: ["alan", "albert"]  # type: ignore[method-assign]
    (answer,) = alice.ask("search", ref=1, prefix="al")
    assert answer["ok"]["users"] == [{"user": "alan"}]
