"""A shard fails over and has lost its newest writes: who is asked to send again, and what waits until then."""

from typing import Any

import pytest

from tests.model_store import Link
from tests.session.node import ServerNode
from tests.session.peer import Peer, events, world_of


@pytest.fixture
def node() -> ServerNode:
    """Alice and bob lie on different shards, so a message takes two calls."""
    world = world_of("alice", "bob", shards=2)
    world.remember_writes()
    assert world.shard_of("alice") != world.shard_of("bob")
    return ServerNode(world, "n1")


def entered(node: ServerNode, user: str, **fields: Any) -> Peer:
    peer = Peer(node)
    heard = peer.log_in(user, **fields)
    assert events(heard)[-1] == "synced"
    return peer


def fail_over(node: ServerNode, user: str, lost: int) -> Link:
    """The shard of the user comes back without its last writes."""
    link = node.store.link_of(user)
    link.cut()
    node.store.world.fail_over(link.shard, lost)
    link.restore()
    return link


def back(node: ServerNode, link: Link) -> None:
    with node.reactor.batch():
        link.restore()
    node.settle()


def test_nothing_newer_gets_in_before_what_is_sent_again(node: ServerNode) -> None:
    alice = entered(node, "alice", resend=True)
    alice.ask("send", ref=1, id="c1", to="bob", body="x")
    back(node, fail_over(node, "bob", 1))
    assert events(alice.hear()) == ["resend"]
    assert events(alice.ask("send", ref=2, id="c2", to="bob", body="x")) == ["err 2 unavailable"]
    assert events(alice.ask("resend", ref="r")) == ["ok r"]
    assert events(alice.ask("send", ref=3, id="c1", to="bob", body="x")) == ["ok 3"]
    assert events(alice.ask("send", ref=4, id="c2", to="bob", body="x")) == ["ok 4"]
    assert ids(node, "bob") == ids(node, "alice") == ["c1", "c2"]


def ids(node: ServerNode, user: str) -> list[str]:
    log = node.store.world.database.accounts[user].log
    return [entry.content.partition(b'"id":"')[2].partition(b'"')[0].decode() for entry in log]


def test_a_client_that_does_not_keep_what_was_confirmed_goes_on(node: ServerNode) -> None:
    alice = entered(node, "alice")
    alice.ask("send", ref=1, id="c1", to="bob", body="x")
    back(node, fail_over(node, "bob", 1))
    assert events(alice.ask("send", ref=2, id="c2", to="bob", body="x")) == ["ok 2"]
    assert ids(node, "bob") == ["c2"]


def test_unanswered_messages_are_refused_after_the_question(node: ServerNode) -> None:
    alice = entered(node, "alice", resend=True)
    link = fail_over(node, "bob", 0)
    alice.say("send", ref=1, id="c1", to="bob", body="x")
    node.turn()
    back(node, link)
    assert events(alice.hear()) == ["resend", "err 1 unavailable"]
    assert ids(node, "bob") == []


def test_half_a_message_goes_no_further(node: ServerNode) -> None:
    """The recipient has it; the sender's own log has lost what came before it."""
    alice = entered(node, "alice", resend=True)
    alice.ask("send", ref=1, id="c1", to="bob", body="x")
    alice.say("send", ref=2, id="c2", to="bob", body="x")
    node.turn()
    assert node.store.link_of("bob").execute()  # c2 is in bob's log, and the answer on its way
    back(node, fail_over(node, "alice", 1))
    assert events(alice.hear()) == ["resend", "regressed", "err 2 unavailable"]
    assert (ids(node, "bob"), ids(node, "alice")) == (["c1", "c2"], [])
    alice.ask("resend")
    for message_id in ("c1", "c2"):
        alice.ask("send", id=message_id, to="bob", body="x")
    assert ids(node, "bob") == ids(node, "alice") == ["c1", "c2"]


@pytest.mark.parametrize("push_first", [True, False])
def test_a_stored_message_whose_answer_comes_too_late_is_given_as_an_entry(node: ServerNode, push_first: bool) -> None:
    """The own log has it, and no reply stands for it: the client may not be left with a gap."""
    node.store.world.push_first = push_first
    alice, phone, bob = entered(node, "alice", resend=True), Peer(node), entered(node, "bob")
    phone.log_in("alice", "phone")  # else nothing of it is published
    alice.say("send", ref=1, id="c1", to="bob", body="x")
    node.turn()
    link = node.store.link_of("bob")
    while link.execute() or node.deliver(link.shard):
        pass
    assert node.store.link_of("alice").execute()  # stored; push and reply are on their way
    back(node, fail_over(node, "bob", 0))
    heard = alice.hear()
    assert events(heard) == ["resend", "err 1 unavailable", "msg c1"]
    bob.ask("resend")
    bob.ask("send", id="d1", to="alice", body="x")
    (message,) = alice.hear()
    assert message["prev"] == heard[-1]["at"]


def test_an_answer_to_an_earlier_question_lets_nothing_in(node: ServerNode) -> None:
    alice = entered(node, "alice", resend=True)
    back(node, fail_over(node, "bob", 0))
    back(node, fail_over(node, "bob", 0))
    assert events(alice.hear()) == ["resend", "resend"]
    alice.ask("resend")
    assert events(alice.ask("send", ref=1, id="c1", to="bob", body="x")) == ["err 1 unavailable"]
    alice.ask("resend")
    assert events(alice.ask("send", ref=2, id="c1", to="bob", body="x")) == ["ok 2"]


def test_an_answer_without_a_question_is_for_nothing(node: ServerNode) -> None:
    alice = entered(node, "alice", resend=True)
    alice.ask("resend")
    back(node, fail_over(node, "bob", 0))
    assert events(alice.hear()) == ["resend"]
    assert events(alice.ask("send", ref=1, id="c1", to="bob", body="x")) == ["err 1 unavailable"]


def test_who_comes_in_later_is_asked_right_after_the_welcome(node: ServerNode) -> None:
    back(node, fail_over(node, "bob", 0))
    alice = Peer(node)
    assert events(alice.log_in("alice", resend=True)) == ["ok login", "resend", "synced"]
    assert events(alice.ask("send", ref=1, id="c1", to="bob", body="x")) == ["err 1 unavailable"]
    assert events(Peer(node).log_in("bob")) == ["ok login", "synced"]


@pytest.mark.parametrize("new", [0, 1])
def test_a_reader_is_told_where_its_log_goes_on(node: ServerNode, new: int) -> None:
    """With the log's end when the link is back, or by the next entry, whose `prev` is older than what it had."""
    elsewhere = ServerNode(node.store.world, "n2")
    alice, bob = entered(elsewhere, "alice"), entered(node, "bob")
    for number in range(3):
        alice.ask("send", id=f"c{number}", to="bob", body="x")
    node.settle()
    heard = bob.hear()
    link = fail_over(node, "bob", 2)
    back(elsewhere, fail_over(elsewhere, "bob", 0))
    for number in range(new):
        alice.ask("send", id=f"new{number}", to="bob", body="x")
    link.cut()
    link.restore()
    back(node, link)
    told = bob.hear()
    assert events(told) == ["regressed", *[f"msg new{number}" for number in range(new)]]
    assert told[0]["at"] == heard[0]["at"]
    assert all(entry["prev"] == told[0]["at"] for entry in told[1:])
    assert node.counters.regressions == 1


def test_a_device_whose_position_is_gone_is_told_at_login(node: ServerNode) -> None:
    bob = Peer(node)
    told = bob.log_in("bob", since="99999-0")
    assert events(told) == ["ok login", "regressed", "synced"]
    assert told[1]["at"] == told[2]["at"] == "0-0"


def test_the_reply_to_a_send_names_what_stands_before_it(node: ServerNode) -> None:
    alice = entered(node, "alice")
    [first] = alice.ask("send", ref=1, id="c1", to="bob", body="x")
    [second] = alice.ask("send", ref=2, id="c2", to="bob", body="x")
    [again] = alice.ask("send", ref=3, id="c2", to="bob", body="x")
    assert (first["ok"]["prev"], second["ok"]["prev"]) == ("0-0", first["ok"]["at"])
    assert again["ok"] == {"id": "c2", "at": second["ok"]["at"]}
