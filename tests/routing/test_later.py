"""Messages that wait: said once, in order, when they are due; whoever dies meanwhile."""

import itertools
import json
from collections.abc import Callable

import pytest

from imserver.model import GroupId
from imserver.routing.later import AGAIN_SECONDS, CLAIM_SECONDS, LONGEST_SECONDS
from imserver.store.later_calls import LATE_SECONDS, MOST_BYTES, MOST_MESSAGES
from tests.model_store import World
from tests.session.node import ServerNode
from tests.session.peer import Peer, entered, events, world_of

USERS = ("alice", "bob")


def new_world(*users: str, shards: int = 1, reaches_both: bool = True) -> World:
    """Not in the first seconds of 1970: something is to lie in the past."""
    world = world_of(*(users or USERS), shards=shards, reaches_both=reaches_both)
    world.database.milliseconds = 1_000_000
    return world


def logs(world: World) -> dict[str, list[str]]:
    """Of each user the ids of the messages in the log."""
    accounts = world.database.accounts
    entries = {user: [json.loads(entry.content) for entry in account.log] for user, account in accounts.items()}
    return {user: [entry["id"] for entry in log if entry["ev"] == "msg"] for user, log in entries.items()}


def now(world: World) -> int:
    return world.database.milliseconds // 1000


def wait(world: World, seconds: int) -> None:
    world.database.milliseconds += seconds * 1000


def look(*nodes: ServerNode) -> None:
    """What each does once a second; all that follows from it is done."""
    for node in nodes:
        node.later.tick()
        node.settle()


def schedule(peer: Peer, message_id: str, seconds: int, **fields: object) -> list[dict[str, object]]:
    what = {"to": "bob", "body": "x", "when": now(peer.node.store.world) + seconds, **fields}
    return peer.ask("schedule", ref=message_id, id=message_id, **what)


def scheduled(peer: Peer) -> list[dict[str, object]]:
    frame = peer.ask("scheduled", ref="list")[-1]
    messages: list[dict[str, object]] = frame["ok"]["messages"]
    return messages


@pytest.fixture(params=[True, False], ids=["single", "cluster"])
def world(request: pytest.FixtureRequest) -> World:
    """Where one call reaches the logs of two users, and where none does."""
    return new_world(reaches_both=request.param)


@pytest.fixture
def node(world: World) -> ServerNode:
    node = ServerNode(world, "n1")
    look(node)
    return node


# -- said


def test_said_when_due_and_not_before_by_another_worker_and_to_all_devices(node: ServerNode, world: World) -> None:
    alice, phone, bob = entered(node, "alice"), entered(node, "alice", "phone"), entered(node, "bob")
    other = ServerNode(world, "n2")
    [answer] = schedule(alice, "c1", 60)
    assert answer == {"re": "c1", "ok": {"id": "c1", "when": now(world) + 60}}
    look(node, other)
    wait(world, 59)
    look(node, other)
    assert logs(world) == {"alice": [], "bob": []}
    wait(world, 1)
    look(other, node)
    assert logs(world) == {"alice": ["c1"], "bob": ["c1"]}
    for peer in (alice, phone, bob):
        [message] = peer.hear()
        assert (message["ev"], message["from"], message["device"], message["body"]) == ("msg", "alice", "pad", "x")
    assert scheduled(alice) == []
    assert world.database.accounts["alice"].waiting == {}
    assert world.database.delays.agenda.keys() == {"all"}


def test_who_takes_messages_from_contacts_only_says_something_all_the_same(node: ServerNode, world: World) -> None:
    alice = entered(node, "alice")
    alice.ask("privacy", write="contacts")
    schedule(alice, "c1", 0)
    look(node)
    assert logs(world) == {"alice": ["c1"], "bob": ["c1"]}


def test_in_the_order_of_their_times_and_then_in_that_in_which_they_were_scheduled(
    node: ServerNode, world: World
) -> None:
    alice = entered(node, "alice")
    for message_id, seconds in (("z", 20), ("late", 30), ("a", 20), ("early", 10), ("m", 20)):
        schedule(alice, message_id, seconds)
    assert [one["message"]["id"] for one in scheduled(alice)] == ["early", "z", "a", "m", "late"]  # type: ignore[index]
    wait(world, 40)
    look(node)
    assert logs(world) == {user: ["early", "z", "a", "m", "late"] for user in USERS}


def test_what_has_passed_is_said_at_once_and_a_repeat_is_no_second_message(node: ServerNode, world: World) -> None:
    alice = entered(node, "alice")
    schedule(alice, "c1", -5)
    assert schedule(alice, "c1", 99, body="other")[0]["ok"] == {"id": "c1", "when": now(world) - 5}
    look(node)
    alice.hear()
    assert events(schedule(alice, "c1", 50)) == ["ok c1"]
    assert scheduled(alice) == []
    assert logs(world) == {"alice": ["c1"], "bob": ["c1"]}


def test_to_a_group_with_mentions_and_to_oneself(node: ServerNode, world: World) -> None:
    alice, bob = entered(node, "alice"), entered(node, "bob")
    alice.ask("group.create", ref=1, name="Tea", group="#tea", members=["bob"])
    bob.hear()
    alice.hear()
    schedule(alice, "c1", 5, to="#tea", mentions=["bob"])
    schedule(alice, "c2", 5, to="alice", reply={"from": "bob", "device": "pad", "id": "b1"})
    wait(world, 5)
    look(node)
    assert events(alice.hear()) == ["msg c1", "msg c2"]
    [heard] = bob.hear()
    assert (heard["log"], heard["mentions"]) == ("#tea", ["bob"])
    assert world.database.groups.groups[GroupId("#tea")].mentioned.keys() == {"bob"}


def test_it_is_no_answer_so_what_came_before_stays_unread(node: ServerNode, world: World) -> None:
    alice, bob = entered(node, "alice"), entered(node, "bob")
    bob.ask("send", id="b1", to="alice", body="x")
    schedule(alice, "c1", 0)
    look(node)
    assert [frame.get("scheduled") for frame in alice.hear() + bob.hear()] == [1000, 1000]
    [conversation] = alice.ask("conversations", ref=1)[-1]["ok"]["conversations"]
    last = world.database.accounts["alice"].last.decode()
    assert (conversation["unread"], conversation["last"]) == (1, last)


def test_it_vanishes_so_long_after_its_time_or_after_now(node: ServerNode, world: World) -> None:
    alice, bob, start = entered(node, "alice"), entered(node, "bob"), now(world)
    schedule(alice, "c1", 20, ttl=60)
    schedule(alice, "c2", -9, ttl=60)
    schedule(alice, "c3", 20, ttl=10)
    look(node)
    wait(world, 30)  # nobody has looked in time
    look(node)
    assert [(frame["id"], frame["expires"]) for frame in bob.hear()] == [("c2", start + 60), ("c1", start + 80)]
    assert scheduled(alice) == []


# -- cancelled


def test_what_was_cancelled_is_not_said_nor_does_a_late_repeat_bring_it_back(node: ServerNode, world: World) -> None:
    alice, phone = entered(node, "alice"), entered(node, "alice", "phone")
    schedule(alice, "c1", 5)
    assert events(phone.ask("unschedule", ref=1, id="c1")) == ["err 1 not-found"]
    assert events(phone.ask("unschedule", ref=1, id="c1", device="pad")) == ["ok 1"]
    assert events(alice.ask("unschedule", ref=2, id="c1")) == ["ok 2"]  # a repeat
    assert events(schedule(alice, "c1", 5)) == ["err c1 conflict"]
    assert scheduled(alice) == []
    wait(world, LATE_SECONDS - 1)
    look(node)
    assert events(schedule(alice, "c1", 5)) == ["err c1 conflict"]
    wait(world, 1000)
    look(node)  # everywhere
    look(node)
    assert logs(world) == {"alice": [], "bob": []}
    assert world.database.accounts["alice"].waiting == {}


def test_either_it_is_cancelled_or_it_is_said(world: World) -> None:
    """The worker that cancels asks after each number of steps of the one that says it."""
    ends = set()
    for steps in range(20):
        world = new_world(reaches_both=world.reaches_both)
        sayer, canceller = ServerNode(world, "n1"), ServerNode(world, "n2")
        look(sayer)
        alice = entered(canceller, "alice")
        schedule(alice, "c1", 0)
        sayer.later.tick()
        for _ in range(steps):
            step(sayer)
        [answer] = events(alice.ask("unschedule", ref=1, id="c1"))[-1:]
        sayer.settle()
        look(canceller)
        said = ["c1"] if answer != "ok 1" else []
        assert logs(world) == dict.fromkeys(USERS, said), steps
        ends.add(answer)
    assert ends == {"ok 1", "err 1 conflict", "err 1 not-found"}


def step(node: ServerNode) -> None:
    """One task goes on, one call is done, or one answer comes."""
    if not node.store.tasks.run():
        link = node.store.links[0]
        if not link.execute():
            node.deliver(0)


# -- whoever dies


@pytest.mark.parametrize("forgets", [False, True], ids=["soon", "long after"])
def test_said_once_by_another_worker_after_whatever_step_one_dies(world: World, forgets: bool) -> None:
    half_done = set()
    for steps in range(24):
        world = new_world(reaches_both=world.reaches_both)
        dying, other = ServerNode(world, "n1"), ServerNode(world, "n2")
        look(other)
        alice, bob = entered(other, "alice"), entered(other, "bob")
        for message_id in ("c1", "c2"):
            schedule(alice, message_id, 0)
        dying.later.tick()
        for _ in range(steps):
            step(dying)
        world.kill_node("n1", 0)
        half_done.add(tuple(map(len, logs(world).values())))
        if forgets:
            forget(world)
        wait(world, CLAIM_SECONDS + 1)
        look(other)
        assert logs(world) == {user: ["c1", "c2"] for user in USERS}, steps
        other.settle()
        assert events(alice.hear())[-2:] == events(bob.hear())[-2:] == ["msg c1", "msg c2"]
        assert scheduled(alice) == []
    assert half_done >= {(0, 0), (1, 1)}
    assert ((0, 1) in half_done) is not world.reaches_both  # alice, bob


def forget(world: World) -> None:
    """The dedupe index has nothing any more."""
    for account in world.database.accounts.values():
        account.seen.clear()
        account.low = account.last


def test_a_worker_that_only_stood_still_says_nothing_twice(world: World) -> None:
    slow, other = ServerNode(world, "n1"), ServerNode(world, "n2")
    look(other)
    alice = entered(other, "alice")
    schedule(alice, "c1", 0)
    schedule(alice, "c2", 0)
    slow.later.tick()
    for _ in range(6):
        step(slow)
    wait(world, CLAIM_SECONDS + 1)
    look(other)
    slow.settle()
    look(other, slow)
    assert logs(world) == {user: ["c1", "c2"] for user in USERS}


def test_a_message_that_comes_while_its_partition_is_looked_at_is_not_forgotten(world: World) -> None:
    for steps, seconds in itertools.product(range(28), (0, 3, 100)):
        world = new_world(reaches_both=world.reaches_both)
        looking, other = ServerNode(world, "n1"), ServerNode(world, "n2")
        look(other)
        alice = entered(other, "alice")
        schedule(alice, "c1", 0)
        looking.later.tick()
        for _ in range(steps):
            step(looking)
        schedule(alice, "c2", seconds)
        looking.settle()
        for _ in range(3):
            wait(world, max(seconds, CLAIM_SECONDS) + 1)
            look(other)
        assert logs(world)["bob"] == ["c1", "c2"], (steps, seconds)


def test_what_the_agenda_does_not_know_is_found(node: ServerNode, world: World) -> None:
    schedule(entered(node, "alice"), "c1", 0)
    world.database.delays.agenda.clear()
    look(node)
    look(node)
    assert logs(world)["bob"] == ["c1"]


# -- refused


def block(node: ServerNode) -> None:
    entered(node, "bob").ask("block", user="alice")


def leave(node: ServerNode) -> None:
    node.store.world.database.erase("bob")


def disable(node: ServerNode) -> None:
    node.store.world.database.accounts["alice"].disabled = True


@pytest.mark.parametrize(
    ("change", "code"),
    [(block, "blocked"), (leave, "not-found"), (disable, "not-allowed")],
    ids=("blocked", "gone", "disabled"),
)
def test_what_is_refused_stays_with_the_reason_until_it_is_removed(
    node: ServerNode, world: World, change: Callable[[ServerNode], None], code: str
) -> None:
    alice = entered(node, "alice")
    schedule(alice, "c1", 5)
    schedule(alice, "c2", 5, to="alice")
    change(node)
    wait(world, 5)
    look(node)
    kept = scheduled(alice)
    assert kept[0]["failed"]["code"] == code  # type: ignore[index]
    assert logs(world)["alice"] == ([] if change is disable else ["c2"])
    assert events(schedule(alice, "c1", 5)) == ["ok c1"]
    assert events(alice.ask("unschedule", ref=1, id="c1")) == ["ok 1"]
    assert len(scheduled(alice)) == len(kept) - 1


def test_who_is_no_member_any_more_says_nothing(node: ServerNode, world: World) -> None:
    alice, bob = entered(node, "alice"), entered(node, "bob")
    bob.ask("group.create", ref=1, name="Tea", group="#tea", members=["alice"])
    alice.hear()
    schedule(alice, "c1", 5, to="#tea")
    bob.ask("group.kick", ref=2, group="#tea", user="alice")
    alice.hear()
    wait(world, 5)
    look(node)
    assert scheduled(alice)[0]["failed"]["code"] == "not-found"  # type: ignore[index]


def test_an_account_that_is_erased_says_nothing(node: ServerNode, world: World) -> None:
    schedule(entered(node, "alice"), "c1", 5)
    world.database.erase("alice")
    wait(world, 5)
    look(node)
    assert logs(world) == {"bob": []}


# -- waiting for the store


def test_while_the_store_has_too_much_to_do_nothing_is_said(node: ServerNode, world: World) -> None:
    alice = entered(node, "alice")
    schedule(alice, "c1", 0)
    node.store.saturate()
    look(node)
    assert logs(world)["bob"] == []
    node.store.relieve()
    look(node)
    assert logs(world)["bob"] == ["c1"]


def test_what_can_not_be_said_now_holds_up_what_its_sender_said_after_it_and_nobody_else() -> None:
    world = new_world("alice", "bob", "carl", shards=2)
    node = ServerNode(world, "n1")
    look(node)
    far = next(user for user in ("bob", "carl") if world.shard_of(user) != world.shard_of("alice"))
    alice = entered(node, "alice")
    schedule(alice, "c1", 0, to=far)
    schedule(alice, "c2", 0, to="alice")
    link = node.store.link_of(far)
    link.cut()
    look(node)
    assert logs(world)["alice"] == []
    link.restore()
    link.restore()
    node.settle()
    wait(world, AGAIN_SECONDS)
    look(node)
    assert logs(world)["alice"] == ["c1", "c2"]
    assert logs(world)[far] == ["c1"]


# -- refused at once


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"to": "b b"}, "bad-request", "to: 'b b' is not a user name"),
        ({"id": "\u00e9"}, "bad-request", "id: "),
        ({"body": 5}, "bad-request", "body: a string or an object is allowed"),
        ({"body": "\u0007"}, "bad-request", "body: the character U+0007"),
        ({"when": LONGEST_SECONDS + 2000}, "bad-request", "when: 366 days from now are the most"),
        ({"when": -1}, "bad-request", "$.when"),
        ({"when": 1.5}, "bad-request", "$.when"),
        ({"when": None}, "bad-request", "$.when"),
        ({"mentions": ["bob"]}, "bad-request", "mentions: only a message to a group"),
        ({"location": {"lat": 100, "lon": 0}}, "bad-request", "$.location.lat"),
    ],
)
def test_a_bad_request_names_the_field(fields: dict[str, object], code: str, text: str) -> None:
    node = ServerNode(new_world(), "n1")
    what = {"id": "c1", "to": "bob", "body": "x", "when": 5, **fields}
    [frame] = entered(node, "alice").ask("schedule", ref=1, **what)
    assert frame["err"]["code"] == code
    assert text in frame["err"]["text"]


def test_unschedule_checks_its_fields() -> None:
    alice = entered(ServerNode(new_world(), "n1"), "alice")
    assert alice.ask("unschedule", ref=1, id="")[0]["err"]["text"].startswith("id: ")
    assert alice.ask("unschedule", ref=1, id="c1", device="a b")[0]["err"]["text"].startswith("device: ")
    text = "id: no such message waits; it may have been said"
    assert alice.ask("unschedule", ref=1, id="c1")[0]["err"] == {"code": "not-found", "text": text}


def test_only_so_many_wait_and_only_so_much() -> None:
    node = ServerNode(new_world(), "n1", rate_per_second=100_000, rate_burst=100_000)
    alice = entered(node, "alice")
    for number in range(MOST_MESSAGES):
        assert events(schedule(alice, f"c{number}", 5)) == [f"ok c{number}"]
    [frame] = schedule(alice, "more", 5)
    assert frame["err"] == {
        "code": "conflict",
        "text": "when: 100 messages, or 256 KB of them, wait already; `unschedule` some",
    }
    alice.ask("unschedule", id="c0")
    assert events(schedule(alice, "more", 5)) == ["ok more"]
    bob = entered(node, "bob")
    large = "x" * 60_000
    answers = [events(schedule(bob, f"c{number}", 5, body=large))[0] for number in range(5)]
    assert answers == ["ok c0", "ok c1", "ok c2", "ok c3", "err c4 conflict"]
    assert sum(len(json.dumps(one)) for one in scheduled(bob)) < MOST_BYTES + 1000
