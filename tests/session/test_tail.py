"""A log that is cut while a session follows it: what is gone is told at once, not with the next entry."""

import json

import pytest

from imserver.store.calls import Bounds
from tests.session.node import ServerNode, token_for
from tests.session.peer import Peer, entered, events, world_of


@pytest.fixture
def node() -> ServerNode:
    return ServerNode(world_of("alice", "bob"), "n1")


def cut_all(node: ServerNode, user: str) -> None:
    database = node.store.world.database
    database.trim(user, database.milliseconds + 1, Bounds(most_entries=1000, longest_age_seconds=0, dedupe_seconds=0))
    assert not database.accounts[user].log


def lose_all_while_away(node: ServerNode) -> None:
    """The link of `node` is lost; an entry comes to bob's log and is cut off; the link comes back."""
    link = node.store.links[0]
    link.cut()
    elsewhere = ServerNode(node.store.world, "n2")
    assert events(entered(elsewhere, "alice").ask("send", ref=1, id="lost", to="bob", body="x")) == ["ok 1"]
    cut_all(node, "bob")
    link.restore()
    link.restore()
    node.settle()


def read_all(node: ServerNode, peer: Peer) -> list[str]:
    """The client takes all that there is, bit by bit."""
    data = b""
    while more := peer.wire.read():
        data += more
        node.settle()
    return events([json.loads(line) for line in data.splitlines()])


def test_a_session_whose_link_was_lost_is_told(node: ServerNode) -> None:
    """Before, it stayed silent: the reading found nothing."""
    entered(node, "alice").ask("send", id="first", to="bob", body="x")
    bob = entered(node, "bob")
    lose_all_while_away(node)
    assert events(bob.hear()) == ["truncated"]
    entered(node, "alice", "phone").ask("send", id="next", to="bob", body="x")
    assert events(bob.hear()) == ["msg next"]


def test_also_a_device_that_was_new_and_found_an_empty_log(node: ServerNode) -> None:
    """To a new device a cut past is no news; what is cut off after its `synced` is."""
    bob = entered(node, "bob")
    lose_all_while_away(node)
    assert events(bob.hear()) == ["truncated"]


def test_a_slow_reader_is_told() -> None:
    """It fell behind; when it reads again, the rest is gone."""
    node = ServerNode(world_of("alice", "bob"), "n1", out_buffer_bytes=300)
    bob = Peer(node, capacity=10)
    bob.say("login", ref="login", token=token_for("bob", "pad"), device="pad")
    node.settle()
    heard = read_all(node, bob)
    alice = entered(node, "alice")
    for number in range(10):
        alice.ask("send", id=f"c{number}", to="bob", body="x" * 50)
    cut_all(node, "bob")
    told = read_all(node, bob)
    assert heard[-1:] == ["synced"]
    assert told[0] == "msg c0"
    assert told[-1] == "truncated"
    assert "msg c9" not in told


@pytest.mark.parametrize("ids", [("c1",), ("c1", "c2", "c3"), ("c2",), ("c3",), ("c2", "c3")])
def test_what_has_vanished_was_not_cut_off(node: ServerNode, ids: tuple[str, ...]) -> None:
    """Wherever it stood in the log, and whether it has left the store or not, a device that was away hears the same."""
    alice = entered(node, "alice")
    for id in ("c1", "c2", "c3"):
        alice.ask("send", id=id, to="bob", body="x", ttl=60 if id in ids else 90_000)
    database = node.store.world.database
    database.milliseconds += 60_000
    before = since_the_beginning(node)
    database.trim("bob", database.milliseconds, Bounds(1000, 90_000, 10))
    assert len(database.accounts["bob"].log) == 3 - len(ids)
    after = since_the_beginning(node)
    assert [told for told in before if told != "removed"] == [told for told in after if told != "removed"]
    assert (
        set(before)
        == set(after)
        == {"ok login", "removed", *(f"msg {id}" for id in {"c1", "c2", "c3"} - {*ids}), "synced"}
    )


def since_the_beginning(node: ServerNode) -> list[str]:
    """Every entry names the one before it."""
    bob = Peer(node)
    bob.say("login", ref="login", token=token_for("bob", "pad"), device="pad", since="0-0")
    node.settle()
    heard, at = bob.hear(), "0-0"
    for entry in heard:
        if "prev" in entry:
            assert entry["prev"] == at
            at = entry["at"]
    assert at == heard[-1]["at"]
    return events(heard)


def test_a_client_that_takes_nothing_is_read_a_page_or_two_and_when_it_takes_something_all() -> None:
    """What is kept for it would be much more than the socket takes."""
    node = ServerNode(world_of("alice", "bob"), "n1", page_entries=4, rate_burst=100_000)
    alice = entered(node, "alice")
    for number in range(40):
        alice.ask("send", id=f"c{number}", to="bob", body="x" * 50)
    before = node.counters.log_reads
    bob = Peer(node, capacity=100)
    bob.say("login", ref="login", token=token_for("bob", "pad"), device="pad")
    node.settle()
    assert node.counters.log_reads - before <= 2
    heard = read_all(node, bob)
    assert heard == ["ok login", *(f"msg c{number}" for number in range(40)), "synced"]
