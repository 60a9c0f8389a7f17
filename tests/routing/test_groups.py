"""Groups in a worker: what is half done is completed, what was missed is read, and all members see one order."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imserver.model import START, GroupId, Position, UserId
from imserver.protocol.groups import RULES
from imserver.store.stored import event_of, head_of
from tests.model_store import World
from tests.session.node import ServerNode, token_for
from tests.session.peer import Peer, entered, events, world_of

G = GroupId("#g")


@pytest.fixture
def world() -> World:
    return world_of("alice", "bob", "carol")


@pytest.fixture
def node(world: World) -> ServerNode:
    return ServerNode(world, "n1")


def settle(*nodes: ServerNode) -> None:
    while any(node.move() for node in nodes):
        pass


def founded(node: ServerNode, *members: str, **fields: Any) -> Peer:
    """Alice, whose group these are in."""
    alice = entered(node, "alice")
    assert events(alice.ask("group.create", ref=1, group=G, name="G", members=members, **fields))[-1] == "ok 1"
    return alice


def of_log(heard: list[dict[str, Any]]) -> list[str]:
    """What came of the group's log: ids of messages, changes of the group."""
    return [frame.get("id") or frame["change"] for frame in heard if frame.get("log") == G and "prev" in frame]


def own(heard: list[dict[str, Any]]) -> list[str]:
    """What the own log said of groups."""
    return [frame["change"] for frame in heard if frame.get("ev") == "group" and "log" not in frame]


def say(peer: Peer, *ids: str) -> None:
    for message_id in ids:
        peer.say("send", id=message_id, to=G, body="x")
    peer.node.settle()


# -- a worker dies between the group's side and the user's


def do_until(node: ServerNode, name: str) -> None:
    """The store does all calls up to the first of this name; no answer to that one arrives."""
    while True:
        node.turn()
        while node.store.tasks.run():
            pass
        for number, link in enumerate(node.store.links):
            if link.executed < len(link.calls):
                found = link.calls[link.executed].name == name
                link.execute()
                if found:
                    return
            elif link.back:
                node.deliver(number)


@pytest.mark.parametrize("dies_at", ["announce", "join"])
def test_a_join_that_a_dead_worker_left_half_done_is_completed_by_the_next_login(world: World, dies_at: str) -> None:
    one, two = ServerNode(world, "n1"), ServerNode(world, "n2")
    alice = founded(two, open=True)
    bob = entered(one, "bob")
    bob.say("group.join", ref=1, group=G)
    do_until(one, dies_at)
    world.kill_node("n1", 0)
    came_in = dies_at == "join"
    bob = Peer(two)
    heard = bob.log_in("bob")
    assert own(heard) == ([] if not came_in else ["joined"])
    assert "synced" in events(heard)
    say(alice, "a1")
    assert of_log(bob.hear()) == (["a1"] if came_in else [])
    known = world.database.groups
    assert list(known.list_of("bob").groups) == ([G] if came_in else [])
    assert ("bob" in known.groups[G].members) == came_in


def test_a_kick_that_a_dead_worker_left_half_done_is_completed_by_the_next_login(world: World) -> None:
    one, two = ServerNode(world, "n1"), ServerNode(world, "n2")
    alice = founded(one, "bob", "carol")
    bob, carol = entered(two, "bob", "tv"), entered(two, "carol")
    alice.say("group.kick", ref=2, group=G, user="bob")
    do_until(one, "kick")
    world.kill_node("n1", 0)
    settle(two)
    assert of_log(bob.hear()) == ["kicked"]  # though his list still has it, he sees nothing more
    alice = entered(two, "alice")
    say(alice, "a1")
    assert bob.hear() == []
    assert of_log(carol.hear()) == ["kicked", "a1"]
    heard = Peer(two).log_in("bob", "pad")
    assert own(heard)[-1:] == ["left"] or own(bob.hear()) == ["left"]
    assert world.database.groups.list_of("bob").groups == {}


def test_the_repeat_of_a_command_completes_it_too(world: World) -> None:
    one, two = ServerNode(world, "n1"), ServerNode(world, "n2")
    founded(two, open=True)
    bob = entered(one, "bob")
    bob.say("group.join", ref=1, group=G)
    do_until(one, "join")
    bob_elsewhere = Peer(two)
    bob_elsewhere.say("login", ref="login", token=token_for("bob", "tv"), device="tv")
    bob_elsewhere.say("group.join", ref=2, group=G)
    settle(two)
    heard = bob_elsewhere.hear()
    assert events(heard)[-1] == "ok 2"
    assert own(heard) == ["joined"]
    assert len(world.database.read("bob", START, 100)) == 1


def test_groups_completes_it_too(world: World, node: ServerNode) -> None:
    founded(node, "bob")
    bob = entered(node, "bob")
    del world.database.groups.groups[G].members["bob"]  # as if the second half of a kick had been lost
    heard = bob.ask("groups", ref=1)
    assert heard[-1]["ok"] == {"groups": [], "invited": []}
    assert world.database.groups.list_of("bob").groups == {}


# -- following


def test_synced_comes_when_all_logs_have_been_read(node: ServerNode) -> None:
    alice = founded(node, "bob")
    say(alice, "a1", "a2")
    heard = entered_frames(node, "bob")
    assert events(heard) == ["ok login", "group", "msg a1", "msg a2", "synced"]


def entered_frames(node: ServerNode, user: str, **fields: Any) -> list[dict[str, Any]]:
    return Peer(node).log_in(user, **fields)


def test_a_session_without_groups_has_nothing_for_them(node: ServerNode) -> None:
    entered(node, "bob")
    (session,) = node.context.registry
    assert session.following is None


def test_a_device_far_behind_is_told_how_much_it_missed_and_goes_on_at_the_end(world: World) -> None:
    node = ServerNode(world, "n1", group_backlog_entries=3)
    alice = founded(node, "bob")
    say(alice, "a1", "a2", "a3", "a4")
    bob = Peer(node)
    heard = bob.log_in("bob")
    end = world.database.accounts[G].last.decode()
    [joined] = [frame["from"] for frame in heard if frame.get("ev") == "group"]
    assert [frame for frame in heard if frame.get("ev") == "truncated"] == [
        {"ev": "truncated", "at": end, "log": G, "count": 4, "after": joined}
    ]
    say(alice, "a5")
    (push,) = bob.hear()
    assert (push["id"], push["prev"]) == ("a5", end)


def test_a_device_far_behind_is_told_where_it_was_mentioned(world: World) -> None:
    node = ServerNode(world, "n1", group_backlog_entries=3)
    alice = founded(node, "bob", "carol")
    say(alice, "a1")
    alice.say("send", id="for bob", to=G, body="@bob", mentions=["bob", "bob", "dave"])
    say(alice, "a3", "a4", "a5")
    at = next(entry.at for entry in world.database.read(G, START, 100) if b"@bob" in entry.content).decode()
    told = {user: entered_frames(node, user) for user in ("bob", "carol")}
    assert [frame.get("mentioned") for frame in told["bob"] if frame.get("ev") == "truncated"] == [at]
    assert [frame.get("mentioned") for frame in told["carol"] if frame.get("ev") == "truncated"] == [None]


def test_mentions_cost_and_are_for_groups_only(world: World) -> None:
    node = ServerNode(world, "n1", rate_burst=100, rate_per_second=0.1)
    alice = founded(node, "bob")
    assert events(alice.ask("send", ref=2, id="m1", to="bob", body="x", mentions=["bob"])) == ["err 2 bad-request"]
    answers = [
        events(alice.ask("send", ref=3, id=f"n{number}", to=G, body="x", mentions=["bob"] * 20))[-1]
        for number in range(3)
    ]
    assert answers == ["ok 3", "err 3 rate-limited", "err 3 rate-limited"]
    assert len(world.database.read("bob", START, 100)) == 1  # that he has joined


def test_since_names_the_groups_position(node: ServerNode, world: World) -> None:
    alice = founded(node, "bob")
    say(alice, "a1", "a2")
    at = next(entry.at for entry in world.database.read(G, START, 100) if head_of(entry.content).id == "a1").decode()
    assert of_log(entered_frames(node, "bob", since={"": "0-0", G: at})) == ["a2"]


def test_an_acknowledged_position_is_kept_without_ref_and_when_the_session_ends(node: ServerNode, world: World) -> None:
    alice = founded(node, "bob")
    bob = entered(node, "bob")
    say(alice, "a1", "a2")
    first, second = (frame["at"] for frame in bob.hear())
    bob.ask("ack", log=G, upto=first)
    node.pass_time(1.0)
    node.settle()
    assert world.database.groups.list_of("bob").cursors["pad", G].decode() == first
    bob.ask("ack", log=G, upto="99999999-0")
    bob.wire.hang_up()
    node.settle()
    assert world.database.groups.list_of("bob").cursors["pad", G].decode() == second


def test_the_last_follower_takes_the_node_out(node: ServerNode, world: World) -> None:
    alice = founded(node, "bob")
    bob = entered(node, "bob")
    assert list(world.database.accounts[G].on.values()) == [b"*=n1.0"]
    bob.wire.hang_up()
    node.settle()
    assert list(world.database.accounts[G].on.values()) == [b"*=n1.0"]
    alice.wire.hang_up()
    node.settle()
    assert list(world.database.accounts[G].on.values()) == []
    assert node.context.registry.groups() == []


def group_link(node: ServerNode) -> Any:
    return node.store.link_of(G)


def test_what_a_lost_link_to_the_groups_shard_missed_is_read(world: World) -> None:
    one, two = ServerNode(world, "n1"), ServerNode(world, "n2")
    alice = founded(one, "bob")
    bob = entered(two, "bob")
    group_link(two).cut()
    say(alice, "a1", "a2")
    settle(one, two)
    assert bob.hear() == []
    link = group_link(two)
    link.restore()
    link.restore()
    settle(one, two)
    assert of_log(bob.hear()) == ["a1", "a2"]
    say(alice, "a3")
    settle(one, two)
    assert of_log(bob.hear()) == ["a3"]


def test_a_group_out_of_reach_delays_nobody_and_is_read_when_it_is_back() -> None:
    world = world_of("alice", "bob", "carol", shards=2)
    user = next(name for name in ("alice", "bob", "carol") if world.shard_of(name) != world.shard_of(G))
    other = next(name for name in ("alice", "bob", "carol") if name != user)
    one, two = ServerNode(world, "n1"), ServerNode(world, "n2")
    owner = entered(one, other)
    owner.ask("group.create", ref=1, group=G, name="G", members=[user])
    settle(one, two)
    say(owner, "a1")
    link = group_link(two)
    link.cut()
    member = Peer(two)
    member.say("login", ref="login", token=token_for(user, "pad"), device="pad")
    settle(one, two)
    link.fail()
    settle(one, two)
    assert events(member.hear()) == ["ok login", "group", "synced"]
    link.restore()
    link.restore()
    settle(one, two)
    assert of_log(member.hear()) == ["a1"]
    say(owner, "a2")
    settle(one, two)
    assert of_log(member.hear()) == ["a2"]


def test_a_published_entry_that_was_lost_is_read_before_the_next_is_forwarded(world: World) -> None:
    one, two = ServerNode(world, "n1"), ServerNode(world, "n2")
    alice = founded(one, "bob")
    bob = entered(two, "bob")
    say(alice, "a1")
    group_link(two).back.clear()
    say(alice, "a2")
    settle(one, two)
    assert of_log(bob.hear()) == ["a1", "a2"]
    assert two.counters.gaps == 1


def test_a_published_entry_that_comes_twice_is_forwarded_once(world: World) -> None:
    one, two = ServerNode(world, "n1"), ServerNode(world, "n2")
    alice = founded(one, "bob")
    bob = entered(two, "bob")
    say(alice, "a1")
    back = group_link(two).back
    back.extend(list(back))
    settle(one, two)
    assert of_log(bob.hear()) == ["a1"]
    assert two.counters.duplicates_dropped == 1


def test_a_slow_reader_of_a_group_reads_on_from_the_log(world: World) -> None:
    node = ServerNode(world, "n1", max_frame_bytes=1024, out_buffer_bytes=2048)
    alice = founded(node, "bob")
    bob = Peer(node, capacity=512)
    bob.log_in("bob")
    take_slowly(bob)
    ids = [f"m{number}" for number in range(100)]
    say(alice, *ids)
    assert [msgspec.json.decode(line)["id"] for line in take_slowly(bob).splitlines()] == ids


def take_slowly(peer: Peer) -> bytes:
    data = b""
    while peer.wire.waiting:
        data += peer.wire.read(512)
        peer.node.settle()
    return data


# -- a failover that loses the end of the group's log


def test_members_are_told_where_a_groups_log_goes_on_and_the_sender_sends_again(world: World) -> None:
    world.remember_writes()
    node = ServerNode(world, "n1")
    alice = Peer(node)
    alice.log_in("alice", resend=True)
    alice.ask("group.create", group=G, name="G", members=["bob"])
    bob = entered(node, "bob")
    say(alice, "a1")
    world.replicated(world.shard_of(G))
    say(alice, "a2")
    kept, lost = (frame["at"] for frame in bob.hear())
    alice.hear()
    link = group_link(node)
    link.cut()
    assert world.fail_over(world.shard_of(G), 1) == 1
    link.restore()
    link.restore()
    node.settle()
    assert [frame for frame in bob.hear() if frame["ev"] != "resend"] == [{"ev": "regressed", "at": kept, "log": G}]
    heard = alice.hear()
    assert "resend" in events(heard)
    assert [frame["at"] for frame in heard if frame["ev"] == "regressed"] == [kept]
    assert events(alice.ask("send", ref=1, id="a3", to=G, body="x")) == ["err 1 unavailable"]
    alice.ask("resend")
    say(alice, "a1", "a2", "a3")
    again = bob.hear()
    assert of_log(again) == ["a2", "a3"]
    assert again[0]["prev"] == kept
    assert again[0]["at"] != lost


def test_a_membership_that_a_failover_has_lost_leaves_the_list_too(world: World, node: ServerNode) -> None:
    founded(node, "bob")
    group = world.database.groups.groups[G]
    _, since = group.members.pop("bob")
    world.database.accounts[G].log = [entry for entry in world.database.accounts[G].log if entry.at != since]
    world.database.accounts[G].last = world.database.accounts[G].log[-1].at
    heard = Peer(node).log_in("bob")
    assert "synced" in events(heard)
    assert world.database.groups.list_of("bob").groups == {}


# -- any interleaving


USERS = ("alice", "bob", "carol", "dave")
ACTIONS = ("join", "leave", "invite", "kick", "ban", "unban", "role", "set", "send")
step = st.one_of(
    st.tuples(st.sampled_from(ACTIONS), st.sampled_from(USERS), st.sampled_from(USERS), st.integers(0, 2)),
    st.tuples(
        st.sampled_from(("hang up", "cut", "kill", "move", "move", "move")),
        st.sampled_from(USERS),
        st.just(""),
        st.integers(0, 9),
    ),
)


class Crowd:
    """Users at two nodes do things to one group, and all that moves moves in between."""

    def __init__(self) -> None:
        self.world = world_of(*USERS, shards=2)
        self.nodes = [ServerNode(self.world, "n1"), ServerNode(self.world, "n2")]
        self.peers: dict[str, Peer] = {}
        self.heard: dict[str, list[dict[str, Any]]] = {user: [] for user in USERS}
        self.numbers = 0
        for number, user in enumerate(USERS):
            self.log_in(user, number % 2)
        self.say("alice", "group.create", group=G, name="G", open=True)
        self.settle()

    def log_in(self, user: str, node: int) -> None:
        since = "0-0"
        known = {frame["log"]: frame["at"] for frame in self.heard[user] if frame.get("log") and "prev" in frame}
        self.peers[user] = Peer(self.nodes[node])
        self.peers[user].say(
            "login", ref="login", token=token_for(user, "pad"), device="pad", since={"": since, **known}
        )

    def say(self, who: str, op: str, **fields: Any) -> None:
        self.numbers += 1
        self.peers[who].say(op, ref=self.numbers, **fields)

    def settle(self) -> None:
        settle(*self.nodes)
        for user, peer in self.peers.items():
            self.heard[user] += peer.hear()

    def come_back(self) -> None:
        """Everybody, once more: what dead workers left undone is completed."""
        for number, user in enumerate(USERS):
            self.do("hang up", user, "", number)
        self.settle()

    def _kill(self, number: int, done: int) -> None:
        """A worker dies, and the store still does so many of its calls; another takes its place."""
        dead = self.nodes[number]
        for user, peer in self.peers.items():
            if peer.node is dead:
                self.heard[user] += peer.hear()
        self.world.kill_node(dead.store.node, done)
        self.numbers += 1
        self.nodes[number] = ServerNode(self.world, f"n{self.numbers}+")
        for user, peer in list(self.peers.items()):
            if peer.node is dead:
                self.log_in(user, number)

    def do(self, action: str, user: str, other: str, number: int) -> None:
        match action:
            case "hang up":
                self.settle()
                self.peers[user].wire.hang_up()
                self.log_in(user, number % 2)
            case "cut":
                links = [link for node in self.nodes for link in node.store.links]
                link = links[number % len(links)]
                link.cut()
                link.restore()
                link.restore()
            case "kill":
                self._kill(number % 2, number)
            case "move":
                node = self.nodes[number % 2]
                node.turn()
                for link in node.store.links:
                    link.execute()
            case "send":
                self.say(user, "send", id=f"{user}{self.numbers}", to=G, body="x")
            case "join" | "leave":
                self.say(user, f"group.{action}", group=G)
            case "set":
                self.say(user, "group.set", group=G, open=number != 0, posting=("all", "admins")[number % 2])
            case "role":
                self.say(user, "group.role", group=G, user=other, role=("owner", "admin", "member")[number])
            case _:
                self.say(user, f"group.{action}", group=G, user=other)


@settings(max_examples=150, deadline=None)
@given(st.lists(step, max_size=40))
def test_in_any_interleaving_log_members_lists_and_sessions_agree(steps: list[tuple[str, str, str, int]]) -> None:
    crowd = Crowd()
    for one in steps:
        crowd.do(*one)
    crowd.settle()
    crowd.come_back()
    database = crowd.world.database
    known = database.groups.groups.get(G)
    members = {} if known is None else known.members
    if known is not None:
        assert [standing for standing, _ in members.values()].count("o") == 1
        assert not set(members) & (set(known.invited) | set(known.banned))
    for user in USERS:
        is_member = user in members
        assert (G in database.groups.list_of(user).groups) == is_member
        sessions = [it for node in crowd.nodes for it in node.context.registry.sessions_of(UserId(user))]
        assert len(sessions) == 1
        assert (sessions[0].tail_of(G) is not None) == is_member
        if is_member:
            assert_heard_all(crowd, user, members[user][1])


def assert_heard_all(crowd: Crowd, user: str, since: bytes) -> None:
    """Everything since the membership began, in order: own messages by their replies."""
    entries = crowd.world.database.read(G, Position(since), 10_000)
    heard = [frame["at"].encode() for frame in crowd.heard[user] if frame.get("log") == G and "prev" in frame]
    answered = [frame["ok"]["at"].encode() for frame in crowd.heard[user] if "id" in frame.get("ok", {})]
    assert {entry.at for entry in entries} <= set(heard) | set(answered)
    fresh = [at for at in heard if at in {entry.at for entry in entries}]
    assert fresh == sorted(fresh, key=lambda at: [int(part) for part in at.split(b"-")])
    assert len(fresh) == len(set(fresh))


@settings(max_examples=200, deadline=None)
@given(st.lists(step, max_size=60))
def test_the_groups_log_tells_who_is_in_it(steps: list[tuple[str, str, str, int]]) -> None:
    crowd = Crowd()
    for action, *rest in steps:
        if action in ACTIONS:
            crowd.do(action, *rest)  # type: ignore[arg-type]
        crowd.settle()
    known = crowd.world.database.groups.groups.get(G)
    if known is None:
        return
    told = set()
    for entry in crowd.world.database.read(G, START, 10_000):
        if head_of(entry.content).ev == "group":
            event = event_of(entry.content)
            if event.change in ("created", "joined"):
                told.add(event.user)
            elif event.change in {RULES[action].change for action in ("leave", "kick", "ban")}:
                told.discard(event.user)
    assert told == set(known.members)
