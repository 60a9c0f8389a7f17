"""Two things at once, in the one order in which they hurt."""

from typing import Any

import pytest

from imserver.model import Place, Position, UserId
from imserver.protocol.lifecycle import State
from imserver.security.passwords import hash_now
from imserver.store.account_calls import Login
from tests.session.node import ServerNode, token_for
from tests.session.peer import Peer, entered, events, world_of


@pytest.fixture
def node() -> ServerNode:
    return ServerNode(world_of("alice", "bob", reaches_both=False), "n1")


def begin_login(node: ServerNode, **right: str) -> Peer:
    """The login is with the store, which has not answered."""
    peer = Peer(node)
    peer.say("login", ref="login", device="pad", **(right or {"token": token_for("alice", "pad")}))
    node.turn()
    node.store.tasks.run()
    link = node.store.links[0]
    while link.calls and link.calls[-1].name != "attach":  # it asks first how often the device has logged in
        link.execute()
        node.deliver(0)
        node.store.tasks.run()
    return peer


def test_both_of_two_equal_sends_are_answered_after_a_lost_link(node: ServerNode) -> None:
    """A client that gets no answer repeats in the same session; then the link comes back and answers both."""
    alice = entered(node, "alice")
    alice.say("send", ref=1, id="c1", to="bob", body="x")
    alice.say("send", ref=2, id="c1", to="bob", body="x")
    node.turn()
    link = node.store.links[0]
    while link.execute():
        pass
    node.deliver(0)
    node.deliver(0)
    while link.execute():
        pass
    link.cut()  # stored for both, and nobody has heard of it
    link.restore()
    link.restore()
    node.settle()
    assert sorted(events(alice.hear())) == ["ok 1", "ok 2"]


def test_of_two_logins_of_one_device_at_once_the_later_stays(node: ServerNode) -> None:
    """Both answers and the word that the first must go arrive in one batch, before any task goes on."""
    first, second = begin_login(node), begin_login(node)
    link = node.store.links[0]
    while link.execute():
        pass
    with node.reactor.batch():
        while link.deliver():
            pass
    node.settle()
    assert events(second.hear()) == ["ok login", "synced"]
    assert events(first.hear())[-1] == "bye replaced"
    assert [session.place for session in node.context.registry.sessions_of(UserId("alice"))] == [b"pad=n1.2"]


def test_a_login_that_waited_for_a_lost_link_does_not_push_out_a_newer_one(node: ServerNode) -> None:
    """The client has given up long since and is connected elsewhere; `replaced` would tell it not to come back."""
    other = ServerNode(node.store.world, "n2")
    link = node.store.links[0]
    link.cut()
    early = begin_login(node)
    early.wire.hang_up()
    late = entered(other, "alice")
    link.restore()
    link.restore()
    node.settle()
    other.settle()
    assert late.hear() == []
    assert list(node.store.world.database.accounts["alice"].on.values()) == [b"pad=n2.1"]


def test_a_session_revoked_while_the_link_is_away_must_go(node: ServerNode) -> None:
    alice = entered(node, "alice")
    link = node.store.links[0]
    link.cut()
    node.store.world.database.revoke("alice", None)
    link.restore()
    link.restore()
    node.settle()
    assert events(alice.hear())[-1:] == ["bye revoked"]


@pytest.mark.parametrize("others", ["revoke", "keep"])
def test_a_password_that_is_changed_while_it_is_checked_lets_nobody_in(node: ServerNode, others: str) -> None:
    database = node.store.world.database
    phone, old = entered(node, "alice", "phone"), hash_now("old", memory_kib=8, rounds=1)
    database.set_password("alice", "", old, None)
    thief = begin_login(node, user="alice", password="old")
    place = database.accounts["alice"].on["phone"]
    database.set_password("alice", old, "new", Login(Place(place), "0.0") if others == "revoke" else None)
    node.settle()
    assert events(thief.hear()) == ["err login bad-credentials"]
    assert (list(database.accounts["alice"].on), phone.hear()) == (["phone"], [])


@pytest.mark.parametrize("whom", [{"others": True}, {"device": "phone"}])
def test_a_session_that_is_revoked_while_it_revokes_others_changes_nothing(
    node: ServerNode, whom: dict[str, Any]
) -> None:
    alice, phone = entered(node, "alice"), entered(node, "alice", "phone")
    alice.say("device.revoke", ref=1, **whom)
    node.turn()
    node.store.tasks.run()
    node.store.world.database.revoke("alice", "pad")
    node.settle()
    assert events(alice.hear()) == ["bye revoked"]
    assert phone.hear() == []
    assert events(Peer(node).log_in("alice")) == ["err login expired-token"]
    assert events(Peer(node).log_in("alice", "phone")) == ["ok login", "synced"]


def test_an_account_erased_while_the_link_is_away_closes_its_sessions(node: ServerNode) -> None:
    alice = entered(node, "alice")
    link = node.store.links[0]
    link.cut()
    node.store.world.database.erase("alice")
    link.restore()
    link.restore()
    node.settle()
    assert events(alice.hear())[-1:] == ["bye unavailable"]


def test_a_client_gone_before_its_login_is_through_leaves_no_trace(node: ServerNode) -> None:
    peer = begin_login(node)
    node.reactor.reset(peer.wire)
    node.settle()
    assert node.store.world.database.accounts["alice"].on == {}
    assert len(node.context.registry) == 0


def test_a_session_closed_while_it_reads_the_log_hears_no_more(node: ServerNode) -> None:
    entered(node, "bob").ask("send", id="c1", to="alice", body="x")
    peer = begin_login(node)
    link = node.store.links[0]
    link.execute()
    node.deliver(0)
    node.store.tasks.run()
    session = next(session for session in node.context.registry if session.user == "alice")
    session.expel("shutdown", "the server stops", reconnect=True)
    node.settle()
    assert events(peer.hear()) == ["ok login", "bye shutdown"]
    assert session.state is State.CLOSED


def test_acks_out_of_order_keep_the_furthest(node: ServerNode) -> None:
    alice, bob = entered(node, "alice"), entered(node, "bob")
    for number in range(2):
        alice.ask("send", id=f"c{number}", to="bob", body="x")
    first, second = (frame["at"] for frame in bob.hear())
    bob.say("ack", upto=second)
    bob.say("ack", upto=first)
    node.settle()
    node.pass_time(1)
    node.settle()
    assert node.store.world.database.accounts["bob"].cursors == {"pad": Position(second.encode())}


def test_nor_does_a_login_that_was_on_its_way_when_the_link_was_lost(node: ServerNode) -> None:
    other = ServerNode(node.store.world, "n2")
    early = begin_login(node)
    link = node.store.links[0]
    link.cut()
    early.wire.hang_up()
    late = entered(other, "alice")
    link.restore()
    link.restore()
    node.settle()
    other.settle()
    assert late.hear() == []
    assert list(node.store.world.database.accounts["alice"].on.values()) == [b"pad=n2.1"]


def test_a_login_whose_link_was_lost_is_told_and_leaves_no_trace(node: ServerNode) -> None:
    """It was done, but nobody heard of it."""
    peer = begin_login(node)
    link = node.store.links[0]
    link.execute()
    link.cut()
    node.settle()
    assert events(peer.hear()) == ["err login unavailable"]
    link.restore()
    link.restore()
    node.settle()
    assert node.store.world.database.accounts["alice"].on == {}
    assert events(peer.log_in("alice")) == ["ok login", "synced"]


def test_who_logs_in_at_a_draining_worker_is_sent_elsewhere(node: ServerNode) -> None:
    node.context.draining = True
    late = Peer(node)
    late.say("login", ref="login", token=token_for("alice", "pad"), device="pad")
    node.settle()
    assert events(late.hear()) == ["bye drain"]
    assert not node.context.newcomers


def test_who_is_on_the_way_in_when_draining_begins_is_sent_elsewhere_and_leaves_no_place(node: ServerNode) -> None:
    late = begin_login(node)
    node.context.draining = True
    node.settle()
    assert events(late.hear()) == ["bye drain"]
    assert (len(node.context.registry), len(node.context.newcomers)) == (0, 0)
