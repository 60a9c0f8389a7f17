"""Edits, deletions and reactions in a worker: what is half done, lost, repeated, or looked for in a long log."""

import json
from typing import Any

import pytest

from imserver.routing.amendments import PAGE_COST, PAGE_ENTRIES
from imserver.store.calls import Bounds
from tests.model_store import World
from tests.session.node import ServerNode
from tests.session.peer import Peer, entered, events, world_of

OF_ALICE = {"from": "alice", "device": "pad", "id": "m"}
OF_BOB = {"from": "bob", "device": "pad", "id": "m"}
A_WEEK = 7 * 86_400_000  # ms


def log_of(world: World, owner: str) -> list[dict[str, Any]]:
    return [json.loads(entry.content) for entry in world.database.accounts[owner].log]


def ids(world: World, owner: str) -> list[str]:
    return [entry["id"] for entry in log_of(world, owner)]


def answer(peer: Peer, op: str, **fields: Any) -> dict[str, Any]:
    """Without what else is heard."""
    (reply,) = [frame for frame in peer.ask(op, ref=1, **fields) if "re" in frame]
    return reply


def has_come(node: ServerNode, user: str, message_id: str) -> bool:
    """Everything goes on by one step, until it is in the user's log."""
    link = node.store.links[0]
    while message_id not in ids(node.store.world, user):
        moved = node.turn() or node.store.tasks.run()
        if not (link.execute() or moved or link.back):
            return False
        while message_id not in ids(node.store.world, user) and link.back:
            node.deliver(0)
    return True


def forget(world: World, *users: str) -> None:
    """Their dedupe indexes, as after a long time."""
    for user in users:
        world.database.trim(user, 10**15, Bounds(10_000, 10**12, 0))


# -- the store fails over


def fail_over(node: ServerNode, shard: int = 0) -> None:
    """What was written since `replicated` is lost."""
    link = node.store.links[shard]
    link.cut()
    node.store.world.fail_over(link.shard, lost=1000)
    for _ in range(2):
        with node.reactor.batch():
            link.restore()
    node.settle()


def reacted() -> tuple[ServerNode, Peer, Peer]:
    """Bob has said something, alice has reacted, and the store has lost both."""
    world = world_of("alice", "bob")
    world.remember_writes()
    node = ServerNode(world, "n1")
    alice, bob = Peer(node), Peer(node)
    for peer, user in ((alice, "alice"), (bob, "bob")):
        peer.log_in(user, resend=True)
    world.replicated(0)
    assert events(bob.ask("send", ref=1, id="m", to="alice", body="x")) == ["ok 1"]
    alice.hear()
    assert events(alice.ask("react", ref=1, id="r", to="bob", of=OF_BOB, emoji="+")) == ["ok 1"]
    fail_over(node)
    for peer in (alice, bob):
        assert "resend" in events(peer.hear())
    return node, alice, bob


def test_what_comes_before_the_message_that_is_sent_again_is_to_be_repeated() -> None:
    node, alice, bob = reacted()
    for peer in (alice, bob):
        peer.ask("resend")
    early = answer(alice, "react", id="r", to="bob", of=OF_BOB, emoji="+", again=True)
    assert (early["err"]["code"], early["err"]["retry"] > 0) == ("unavailable", True)
    assert events(bob.ask("send", ref=2, id="m", to="alice", body="x", again=True))[-1] == "ok 2"
    assert events(alice.ask("react", ref=3, id="r", to="bob", of=OF_BOB, emoji="+", again=True))[-1] == "ok 3"
    assert ids(node.store.world, "alice") == ids(node.store.world, "bob") == ["m", "r"]


def test_before_the_client_sends_again_nothing_is_looked_for() -> None:
    _, alice, _ = reacted()
    refused = answer(alice, "react", id="r", to="bob", of=OF_BOB, emoji="+")
    assert (refused["err"]["code"], "resend" in refused["err"]["text"]) == ("unavailable", True)


def test_what_is_deleted_is_not_waited_for() -> None:
    _, alice, bob = reacted()
    for peer in (alice, bob):
        peer.ask("resend")
    bob.ask("send", id="m", to="alice", body="x", again=True)
    bob.ask("delete", id="d", to="alice", of=OF_BOB)
    alice.hear()
    assert events(alice.ask("react", ref=2, id="r", to="bob", of=OF_BOB, emoji="+")) == ["err 2 not-found"]


def test_a_deletion_waits_for_the_message_that_another_device_sends_again() -> None:
    """Else what is deleted would come into the recipient's log behind its deletion, and stay."""
    world = world_of("alice", "bob", shards=2)
    world.remember_writes()
    node = ServerNode(world, "n1")
    pad, phone = Peer(node), Peer(node)
    pad.log_in("alice", resend=True)
    phone.log_in("alice", "phone", resend=True)
    world.replicated(world.shard_of("bob"))
    pad.ask("send", id="m", to="bob", body="secret")
    phone.ask("delete", id="d", to="bob", of=OF_ALICE)
    assert (ids(world, "alice"), ids(world, "bob")) == (["d"], ["d"])
    fail_over(node, world.shard_of("bob"))
    assert (ids(world, "alice"), ids(world, "bob")) == (["d"], [])
    for peer in (pad, phone):
        peer.ask("resend")
    assert answer(phone, "delete", id="d", to="bob", of=OF_ALICE, again=True)["err"]["code"] == "unavailable"
    assert "ok" in answer(pad, "send", id="m", to="bob", body="secret", again=True)
    assert "ok" in answer(phone, "delete", id="d", to="bob", of=OF_ALICE, again=True)
    assert (ids(world, "alice"), ids(world, "bob")) == (["d"], ["d"])


# -- a deletion and an edit at the same time


def has_asked(node: ServerNode) -> bool:
    """Everything goes on by one step, until an amendment is on its way to the store."""
    link = node.store.links[0]
    while not any(call.name == "append_amendment" for call in link.calls):
        moved = node.turn() or node.store.tasks.run()
        if link.back:
            node.deliver(0)
        elif not (moved or link.execute()):
            return False
    return True


@pytest.mark.parametrize("reaches_both", [True, False])
@pytest.mark.parametrize("first", ["edit", "delete"])
def test_no_edit_of_a_deleted_message_can_be_read(first: str, reaches_both: bool) -> None:
    """Both have found the message when the one that is `first` comes into the logs."""
    world = world_of("alice", "bob", reaches_both=reaches_both)
    one, other = ServerNode(world, "n1"), ServerNode(world, "n2")
    pad, phone = entered(one, "alice"), entered(other, "alice", "phone")
    pad.ask("send", id="m", to="bob", body="secret")
    requests: dict[str, dict[str, Any]] = {"edit": {"body": "Secret"}, "delete": {}}
    quick, slow = (first, "delete" if first == "edit" else "edit")
    pad.say(slow, ref=1, id="slow", to="bob", of=OF_ALICE, **requests[slow])
    assert has_asked(one)
    other.settle()
    phone.hear()
    assert events(phone.ask(quick, ref=1, id="quick", to="bob", of=OF_ALICE, **requests[quick])) == ["ok 1"]
    one.settle()
    replies = [it for it in events(pad.hear()) if it.endswith("1") or "err" in it]
    assert replies == (["ok 1"] if slow == "delete" else ["err 1 not-found"])
    assert [len(log_of(world, user)) for user in ("alice", "bob")] == [1, 1]
    assert [entry["ev"] for user in ("alice", "bob") for entry in log_of(world, user)] == ["delete", "delete"]


# -- repeats


def test_both_logs_have_the_stamp_of_the_attempt_that_was_stored_first() -> None:
    """The recipient's log has one edit when the worker dies; another comes before that one is repeated."""
    world = world_of("alice", "bob", reaches_both=False)
    node = ServerNode(world, "n1")
    pad = entered(node, "alice")
    pad.ask("send", id="m", to="bob", body="x")
    pad.say("edit", id="e1", to="bob", of=OF_ALICE, body="A")
    assert has_come(node, "bob", "e1")
    assert ids(world, "alice") == ["m"]
    world.kill_node("n1", done=0)
    world.database.milliseconds += 1000
    other = ServerNode(world, "n2")
    phone, pad = entered(other, "alice", "phone"), entered(other, "alice")
    assert events(phone.ask("edit", ref=1, id="e2", to="bob", of=OF_ALICE, body="B")) == ["ok 1"]
    pad.hear()
    assert events(pad.ask("edit", ref=1, id="e1", to="bob", of=OF_ALICE, body="A", again=True)) == ["ok 1"]
    assert ids(world, "alice") == ["m", "e2", "e1"]
    by_id = [{entry["id"]: entry for entry in log_of(world, user)} for user in ("alice", "bob")]
    assert by_id[0] == by_id[1]
    assert by_id[0]["e1"]["stamp"] < by_id[0]["e2"]["stamp"]


@pytest.mark.parametrize("reaches_both", [True, False])
def test_nothing_else_is_said_under_the_id_of_an_old_edit(reaches_both: bool) -> None:
    world = world_of("alice", "bob", reaches_both=reaches_both)
    alice = entered(ServerNode(world, "n1"), "alice")
    alice.ask("send", id="m", to="bob", body="x")
    alice.ask("edit", id="e", to="bob", of=OF_ALICE, body="in time")
    world.database.milliseconds += A_WEEK
    forget(world, "alice", "bob")
    assert events(alice.ask("edit", ref=1, id="e", to="bob", of=OF_ALICE, body="too late")) == ["ok 1"]
    for user in ("alice", "bob"):
        assert [entry["body"] for entry in log_of(world, user)] == ["x", "in time"]
    assert events(alice.ask("edit", ref=2, id="e2", to="bob", of=OF_ALICE, body="too late")) == ["err 2 not-allowed"]


# -- what it costs


@pytest.mark.parametrize(("pages", "code"), [(4, "not-found"), (3, "rate-limited")])
def test_each_further_page_of_a_long_log_costs_more(pages: int, code: str) -> None:
    world = world_of("alice", "bob")
    alice = entered(ServerNode(world, "n1", rate_burst=20 + pages * PAGE_COST), "alice")  # 20: the login and the rest
    for number in range(4 * PAGE_ENTRIES):
        content = json.dumps(
            {"ev": "msg", "from": "bob", "device": "pad", "to": "alice", "id": f"c{number}", "body": 1}
        )
        world.database.put("alice", content.encode())
    alice.hear()
    refused = answer(alice, "react", id="r", to="bob", of=OF_BOB, emoji="+")
    assert refused["err"]["code"] == code


# -- groups


def test_authors_are_those_who_have_been_members_since() -> None:
    """Names are given again: who came later is somebody else, perhaps."""
    world = world_of("alice", "bob")
    node = ServerNode(world, "n1")
    alice, bob = entered(node, "alice"), entered(node, "bob")
    bob.ask("group.create", ref=1, group="#g", name="G", open=True, history="all", members=["alice"])
    alice.ask("send", ref=1, id="m", to="#g", body="x")
    alice.ask("group.leave", group="#g")
    alice.ask("group.join", group="#g")
    edit = {"to": "#g", "of": OF_ALICE, "body": "forged"}
    assert events(alice.ask("edit", ref=2, id="e", **edit)) == ["err 2 not-allowed"]
    assert events(alice.ask("delete", ref=3, id="d", to="#g", of=OF_ALICE)) == ["err 3 not-allowed"]
    assert events(alice.ask("react", ref=4, id="r", to="#g", of=OF_ALICE, emoji="+")) == ["ok 4"]
    bob.hear()
    assert events(bob.ask("delete", ref=5, id="d", to="#g", of=OF_ALICE)) == ["ok 5"]
