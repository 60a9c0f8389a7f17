"""Logins wait in lines; whoever is inside does not notice."""

import pytest

from imserver.protocol.overload import Level, level_of
from tests.session.node import ServerNode, token_for
from tests.session.peer import Peer, entered, events, world_of

USERS = [f"user{number}" for number in range(30)]


def node_of(**settings: object) -> ServerNode:
    return ServerNode(world_of("alice", "bob", *USERS), "n1", **settings)


def crowd(node: ServerNode) -> list[Peer]:
    """All of them ask to come in at once; the store has not done anything yet."""
    peers = [Peer(node) for _ in USERS]
    for user, peer in zip(USERS, peers, strict=True):
        peer.say("login", ref=1, token=token_for(user, "pad"), device="pad")
    node.turn()
    run_tasks(node)
    return peers


def run_tasks(node: ServerNode) -> None:
    while node.store.tasks.run():
        pass


def names(node: ServerNode) -> list[str]:
    return [call.name for call in node.store.links[0].calls]


def test_only_so_many_logins_are_with_the_store_at_once() -> None:
    node = node_of(logins_at_once=4)
    peers = crowd(node)
    assert names(node) == ["logins"] * 4
    assert node.context.entrance.waiting == 26
    most = 0
    while node.store.links[0].execute() and node.deliver(0):
        run_tasks(node)
        most = max(most, sum(name in ("logins", "attach") for name in names(node)))
    assert most == 4
    node.settle()
    assert all(events(peer.hear()) == ["ok 1", "synced"] for peer in peers)
    assert node.context.entrance.waiting == 0


def test_a_message_stands_behind_the_logins_under_way_and_not_behind_those_that_wait() -> None:
    node = node_of(logins_at_once=4)
    alice, bob = entered(node, "alice"), entered(node, "bob")
    crowd(node)
    alice.say("send", ref=1, id="c1", to="bob", body="x")
    node.turn()
    assert names(node) == ["logins"] * 4 + ["append_both"]
    for _ in range(5):  # calls of the store, and no more, until the message is there
        node.store.links[0].execute()
    while node.store.links[0].back:
        node.deliver(0)
    assert events(alice.hear()) == ["ok 1"]
    assert events(bob.hear()) == ["msg c1"]


def test_they_come_in_in_the_order_of_arrival() -> None:
    node = node_of(logins_at_once=1)
    crowd(node)
    node.settle()
    places = [list(node.store.world.database.accounts[user].on.values()) for user in USERS]
    assert places == [[b"pad=n1.%x" % number] for number in range(1, 31)]


def test_whoever_waits_in_line_is_not_timed_out_and_the_wait_is_not_the_clients() -> None:
    node = node_of(logins_at_once=1, login_timeout_seconds=10)
    peers = crowd(node)
    node.pass_time(25)
    assert [peer.hear() for peer in peers] == [[]] * 30
    node.settle()
    assert all(events(peer.hear()) == ["ok 1", "synced"] for peer in peers)

    silent = Peer(node)
    node.pass_time(11)
    assert events(silent.hear()) == ["bye login-timeout"]


def test_a_login_refused_after_a_long_wait_may_be_tried_again() -> None:
    node = node_of(logins_at_once=1, login_timeout_seconds=10)
    crowd(node)
    late = Peer(node)
    late.say("login", ref=1, user="nobody", password="x", device="pad")
    node.turn()
    node.pass_time(25)
    node.settle()
    assert events(late.hear()) == ["err 1 bad-credentials"]
    node.pass_time(9)
    assert events(late.log_in("alice")) == ["ok login", "synced"]


def test_who_was_refused_comes_in_by_itself_at_the_time_it_was_told() -> None:
    node = node_of(logins_at_once=1, login_wait_seconds=0.1)  # at the rate supposed at first, 200 wait
    users = [f"more{number}" for number in range(300)]
    for user in users:
        node.store.world.database.register(user, "")
    peers = {user: Peer(node) for user in users}
    for user, peer in peers.items():
        peer.say("login", ref=1, token=token_for(user, "pad"), device="pad")
    node.turn()
    refused = {user: frames[0] for user, peer in peers.items() if (frames := peer.hear())}
    assert len(refused) == 99
    assert node.counters.logins_refused == {"line": 99}
    retries = [frame["err"]["retry"] for frame in refused.values()]
    assert {frame["err"]["code"] for frame in refused.values()} == {"overloaded"}
    assert 0.05 <= min(retries) < max(retries) < 0.11
    node.settle()
    node.reactor.now += max(retries)
    for user in refused:
        assert events(peers[user].log_in(user)) == ["ok login", "synced"]


def test_who_has_gone_meanwhile_is_passed_over() -> None:
    node = node_of(logins_at_once=1)
    peers = crowd(node)
    for peer in peers[1:29]:
        node.reactor.reset(peer.wire)
    node.settle()
    assert sorted(session.user for session in node.context.registry) == ["user0", "user29"]
    assert events(peers[29].hear()) == ["ok 1", "synced"]
    assert names(node) == []


def test_who_waits_in_a_server_that_is_being_replaced_is_told_without_asking_the_store() -> None:
    node = node_of(logins_at_once=1)
    peers = crowd(node)
    node.context.draining = True
    calls: list[str] = []
    while node.store.links[0].calls:
        calls += names(node)[:1]
        node.store.links[0].execute()
        node.deliver(0)
        run_tasks(node)
    assert calls == ["logins", "attach", "detach"]  # of the one that was under way
    assert [events(peer.hear()) for peer in peers] == [["bye drain"]] * 30


def test_a_shard_that_stands_still_holds_up_no_other() -> None:
    node = ServerNode(world_of(*USERS, shards=2), "n1", logins_at_once=1)
    crowd(node)
    still, other = node.store.links
    while other.execute():
        node.deliver(1)
        run_tasks(node)
    inside = {session.user for session in node.context.registry}
    assert inside == {user for user in USERS if node.store.link_of(user) is other}
    assert len(still.calls) == 1


def test_passwords_do_not_stand_in_the_way_of_tokens() -> None:
    node = node_of(password_threads=1)
    peers = [Peer(node) for _ in range(10)]
    for number, peer in enumerate(peers):
        peer.say("login", ref=1, user=USERS[number], password="wrong", device="pad")
    node.turn()
    run_tasks(node)
    assert names(node) == ["try"] * 2, "two for one thread: one is hashed, one looked up"
    peer = Peer(node)
    peer.say("login", ref=1, token=token_for("alice", "pad"), device="pad")
    node.turn()
    run_tasks(node)
    assert names(node) == ["try"] * 2 + ["logins"]
    node.settle()
    assert events(peer.hear()) == ["ok 1", "synced"]
    assert [events(peer.hear()) for peer in peers] == [["err 1 bad-credentials"]] * 10


def test_registrations_wait_with_the_passwords() -> None:
    node = node_of(password_threads=1)
    peers = [Peer(node) for _ in range(5)]
    for number, peer in enumerate(peers):
        peer.say("register", ref=1, user=f"new{number}", password="x")
    node.turn()
    run_tasks(node)
    assert names(node) == ["register"] * 2
    node.settle()
    assert [events(peer.hear()) for peer in peers] == [["ok 1"]] * 5


# -- the ladder


@pytest.mark.parametrize(("oldest", "shed"), [(1.9, []), (2.0, ["history"]), (4.0, ["history", "login"])])
def test_what_is_shed_and_what_never_is(oldest: float, shed: list[str]) -> None:
    node = node_of()
    alice, bob = entered(node, "alice"), entered(node, "bob")
    for link in node.store.links:
        link.oldest_seconds = oldest
    told = {
        "history": alice.ask("history", ref=1, with_="bob"),
        "login": Peer(node).log_in(USERS[0]),
    }
    for op, (frame, *_) in told.items():
        assert (frame.get("err", {}).get("code") == "overloaded") is (op in shed), op
    for op in shed:
        assert oldest + 0.5 <= told[op][0]["err"]["retry"] <= 2 * (oldest + 0.5) + 0.001
    assert node.counters.shed == dict.fromkeys(shed, 1)
    assert events(alice.ask("send", ref=2, id="c1", to="bob", body="x")) == ["ok 2"]
    assert events(bob.hear()) == ["msg c1"]
    assert events(alice.ask("ping", ref=3)) == ["ok 3"]
    assert events(alice.ask("ack", ref=4, upto="0-0")) == ["ok 4"]


def test_to_be_shed_costs_as_much_of_the_rate_as_to_be_served() -> None:
    node = node_of(rate_burst=25, rate_per_second=1)
    alice = entered(node, "alice")  # costs 10
    node.store.links[0].oldest_seconds = 2.0
    said = [events(alice.ask("history", ref=1, with_="bob")) for _ in range(2)]
    assert said == [["err 1 overloaded"], ["err 1 rate-limited"]]


def test_one_strained_shard_sheds_nothing_of_the_users_of_another() -> None:
    node = ServerNode(world_of("alice", *USERS, shards=2), "n1")
    here, there = (next(user for user in USERS if node.store.link_of(user) is link) for link in node.store.links)
    peers = [entered(node, user) for user in (here, there)]
    node.store.links[0].oldest_seconds = 10.0
    said = [events(peer.ask("history", ref=1, with_="alice")) for peer in peers]
    assert said == [["err 1 overloaded"], ["ok 1"]]
    assert events(Peer(node).log_in(there, "phone")) == ["ok login", "synced"]
    assert level_of(node.context.worst_strain()) is Level.LOGINS


def test_a_link_that_is_down_is_not_a_strained_one() -> None:
    node = node_of()
    alice = entered(node, "alice")
    node.store.links[0].oldest_seconds = 10.0
    node.store.links[0].cut()
    assert level_of(node.context.worst_strain()) is Level.CALM
    assert events(Peer(node).log_in("bob")) == ["err login unavailable"]
    alice.say("history", ref=1, with_="bob")
    node.settle()
    assert alice.hear() == []
