"""Sending: stored for both, then acknowledged."""

import json

import pytest

from imserver.routing.messages import AGAIN_COST
from imserver.store.calls import Bounds
from imserver.store.stored import expires_of
from tests.model_store import World
from tests.session.node import ServerNode
from tests.session.peer import Peer, entered, events, world_of


def logs(world: World) -> dict[str, list[str]]:
    """Of each user the ids in the log."""
    accounts = world.database.accounts
    return {user: [json.loads(entry.content)["id"] for entry in account.log] for user, account in accounts.items()}


@pytest.fixture
def node() -> ServerNode:
    """No call reaches the logs of two users, as in a cluster."""
    return ServerNode(world_of("alice", "bob", reaches_both=False), "n1")


@pytest.fixture
def single() -> ServerNode:
    """One call reaches the logs of all users, as on a single instance."""
    return ServerNode(world_of("alice", "bob"), "n1")


def step(node: ServerNode) -> None:
    """One call goes to the store and its answer comes back."""
    link = node.store.links[0]
    assert link.execute()
    while node.deliver(0):
        pass


def test_the_sender_is_told_when_both_logs_have_it_and_not_before(node: ServerNode) -> None:
    world, alice = node.store.world, entered(node, "alice")
    alice.say("send", ref=1, id="c1", to="bob", body="x")
    node.turn()
    assert (logs(world), alice.hear()) == ({"alice": [], "bob": []}, [])
    step(node)
    assert (logs(world), alice.hear()) == ({"alice": [], "bob": ["c1"]}, [])
    step(node)
    assert logs(world) == {"alice": ["c1"], "bob": ["c1"]}
    assert events(alice.hear()) == ["ok 1"]


def test_where_one_call_reaches_both_logs_the_sender_is_told_after_it(single: ServerNode) -> None:
    world, alice, bob = single.store.world, entered(single, "alice"), entered(single, "bob")
    alice.say("send", ref=1, id="c1", to="bob", body="x")
    single.turn()
    assert (logs(world), alice.hear()) == ({"alice": [], "bob": []}, [])
    step(single)
    assert logs(world) == {"alice": ["c1"], "bob": ["c1"]}
    assert (events(alice.hear()), events(bob.hear())) == (["ok 1"], ["msg c1"])


def test_a_call_that_reaches_both_logs_and_is_repeated_stores_once(single: ServerNode) -> None:
    alice, bob = entered(single, "alice"), entered(single, "bob")
    alice.say("send", ref=1, id="c1", to="bob", body="x")
    single.turn()
    link = single.store.links[0]
    link.execute()
    link.cut()
    link.restore()
    link.restore()
    single.settle()
    assert (events(alice.hear()), events(bob.hear())) == (["ok 1"], ["msg c1"])
    assert logs(single.store.world) == {"alice": ["c1"], "bob": ["c1"]}


def test_a_repeat_completes_what_a_dead_worker_left_half_done(node: ServerNode) -> None:
    world, alice = node.store.world, entered(node, "alice")
    alice.say("send", ref=1, id="c1", to="bob", body="x")
    node.turn()
    step(node)
    world.kill_node("n1", done=0)
    other = ServerNode(world, "n2")
    again = entered(other, "alice")
    assert events(again.ask("send", ref=1, id="c1", to="bob", body="x")) == ["ok 1"]
    assert logs(world) == {"alice": ["c1"], "bob": ["c1"]}


def test_what_is_half_done_vanishes_from_both_logs_at_the_same_time(node: ServerNode) -> None:
    world, alice = node.store.world, entered(node, "alice")
    alice.say("send", ref=1, id="c1", to="bob", body="x", ttl=60)
    node.turn()
    step(node)
    world.kill_node("n1", done=0)
    world.database.milliseconds += 10_000
    again = entered(ServerNode(world, "n2"), "alice")
    [answer] = again.ask("send", ref=1, id="c1", to="bob", body="x", ttl=60)
    stored = {expires_of(entry.content) for account in world.database.accounts.values() for entry in account.log}
    assert stored == {answer["ok"]["expires"]} == {61}


def test_a_link_that_comes_back_answers_what_it_was_asked(node: ServerNode) -> None:
    alice, bob = entered(node, "alice"), entered(node, "bob")
    alice.say("send", ref=1, id="c1", to="bob", body="x")
    node.turn()
    link = node.store.links[0]
    link.execute()
    link.cut()
    link.restore()
    link.restore()
    node.settle()
    assert events(alice.hear()) == ["ok 1"]
    assert events(bob.hear()) == ["msg c1"]


def test_a_link_that_stays_away_fails_what_it_was_asked_and_a_repeat_succeeds(node: ServerNode) -> None:
    alice = entered(node, "alice")
    alice.say("send", ref=1, id="c1", to="bob", body="x")
    node.turn()
    link = node.store.links[0]
    link.execute()
    with node.reactor.batch():
        link.fail()
    node.settle()
    heard = alice.hear()
    assert events(heard) == ["err 1 unavailable"]
    assert heard[0]["err"]["retry"] > 0
    link.restore()
    link.restore()
    node.settle()
    assert events(alice.ask("send", ref=2, id="c1", to="bob", body="x")) == ["ok 2"]
    assert logs(node.store.world) == {"alice": ["c1"], "bob": ["c1"]}


def test_a_link_that_fails_while_the_log_is_read_ends_the_session_so_that_it_resumes(node: ServerNode) -> None:
    peer = Peer(node)
    peer.log_in("alice")
    link = node.store.links[0]
    link.cut()
    link.restore()
    link.restore()
    with node.reactor.batch():
        link.fail()  # the session was about to return to the directory
    heard = peer.hear()
    assert events(heard) == ["bye unavailable"]
    assert heard[0]["reconnect"] is True


def test_to_nobody_stores_nothing(node: ServerNode) -> None:
    alice = entered(node, "alice")
    assert events(alice.ask("send", ref=1, id="c1", to="carol", body="x")) == ["err 1 not-found"]
    assert logs(node.store.world) == {"alice": [], "bob": []}


def test_a_message_to_oneself_is_stored_once(node: ServerNode) -> None:
    alice, phone = entered(node, "alice"), entered(node, "alice", "phone")
    assert events(alice.ask("send", ref=1, id="c1", to="alice", body="x")) == ["ok 1"]
    assert events(phone.hear()) == ["msg c1"]
    assert logs(node.store.world) == {"alice": ["c1"], "bob": []}


def test_all_sessions_of_one_node_share_the_encoded_entry(node: ServerNode) -> None:
    alice, bobs = entered(node, "alice"), [entered(node, "bob", f"pad{number}") for number in range(3)]
    alice.ask("send", id="c1", to="bob", body="x")
    first, second, third = (peer.wire.read() for peer in bobs)
    assert first == second == third != b""


def test_the_closing_of_the_sender_does_not_stop_its_message(node: ServerNode) -> None:
    alice = entered(node, "alice")
    alice.say("send", ref=1, id="c1", to="bob", body="x")
    node.turn()
    alice.wire.hang_up()
    node.settle()
    assert logs(node.store.world) == {"alice": ["c1"], "bob": ["c1"]}


def test_an_own_message_stored_after_a_reconnect_is_pushed_to_the_new_session(node: ServerNode) -> None:
    alice = entered(node, "alice")
    alice.say("send", id="c1", to="bob", body="x")
    node.turn()
    step(node)  # for bob
    alice.wire.hang_up()
    node.turn()
    link = node.store.links[0]
    own, link.calls = link.calls, type(link.calls)()
    again = entered(node, "alice")
    link.calls.extend(own)  # what was on its way for long comes at last
    node.settle()
    assert events(again.hear()) == ["msg c1"]


def test_groups_do_not_exist_yet(node: ServerNode) -> None:
    alice = entered(node, "alice")
    assert events(alice.ask("send", ref=1, id="c1", to="#team", body="x")) == ["err 1 not-found"]
    assert events(alice.ask("ack", ref=2, upto="0-0", log="#team")) == ["err 2 not-found"]
    assert events(alice.ask("history", ref=3, with_="#team")) == ["err 3 not-found"]


@pytest.mark.parametrize("which", ["node", "single"])
def test_a_repeat_that_says_so_is_stored_once_however_late(which: str, request: pytest.FixtureRequest) -> None:
    node: ServerNode = request.getfixturevalue(which)
    world, alice = node.store.world, entered(node, "alice")
    alice.ask("send", ref=1, id="c1", to="bob", body="x")
    for user in ("alice", "bob"):
        world.database.trim(user, 10**15, Bounds(1000, 10**12, 0))
    assert events(alice.ask("send", ref=2, id="c1", to="bob", body="x", again=True)) == ["ok 2"]
    assert logs(world) == {"alice": ["c1"], "bob": ["c1"]}


def test_repeats_that_say_so_cost_more(node: ServerNode) -> None:
    alice, count = entered(node, "alice"), int(node.settings.rate_burst / AGAIN_COST)
    for number in range(count):
        alice.say("send", ref=number, id=f"c{number}", to="bob", body="x", again=True)
        node.settle()
    assert "rate-limited" in events(alice.hear())[-1]
