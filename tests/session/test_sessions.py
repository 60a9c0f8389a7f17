"""One session: its states, its limits, its end."""

import pytest

from imserver.errors import BadFrame
from imserver.protocol.lifecycle import IllegalTransition, State
from imserver.session.session import Session
from tests.session.node import ServerNode, token_for
from tests.session.peer import Peer, entered, events, world_of


@pytest.fixture
def node() -> ServerNode:
    return ServerNode(world_of("alice", "bob"), "n1")


def session_of(node: ServerNode, number: int = 0) -> Session:
    return list(node.context.registry)[number]


# -- states


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("send", {"id": "a", "to": "bob", "body": "x"}),
        ("ack", {"upto": "0-0"}),
        ("history", {"with_": "bob"}),
        ("logout", {}),
    ],
)
def test_outside_only_login_and_register_are_allowed(node: ServerNode, op: str, fields: dict[str, str]) -> None:
    assert events(Peer(node).ask(op, ref=1, **fields)) == ["err 1 not-logged-in"]


def test_inside_nobody_comes_in_again(node: ServerNode) -> None:
    peer = entered(node, "alice")
    for op in ("login", "register"):
        heard = peer.ask(op, ref=1, user="bob", password="x", device="pad")
        assert events(heard) == ["err 1 not-allowed"]
        assert heard[0]["err"]["text"] == "already logged in as alice"


def test_ping_is_allowed_always(node: ServerNode) -> None:
    assert events(Peer(node).ask("ping", ref=1)) == ["ok 1"]
    assert events(entered(node, "alice").ask("ping", ref=1)) == ["ok 1"]
    assert entered(node, "alice", "tv").ask("ping") == []


def test_a_refused_login_may_be_tried_again(node: ServerNode) -> None:
    peer = Peer(node)
    assert events(peer.ask("login", ref=1, token="nonsense", device="pad")) == ["err 1 bad-credentials"]
    assert events(peer.log_in("alice")) == ["ok login", "synced"]


def test_a_session_cannot_be_moved_against_the_table(node: ServerNode) -> None:
    entered(node, "alice")
    with pytest.raises(IllegalTransition):
        session_of(node).enter()


def test_synced_comes_once_and_after_the_backlog(node: ServerNode) -> None:
    alice = entered(node, "alice")
    for number in range(300):
        alice.say("send", id=f"c{number}", to="bob", body="x")
    node.settle()
    assert events(Peer(node).log_in("bob")) == ["ok login", *(f"msg c{number}" for number in range(300)), "synced"]


# -- order, bounds, limits


def test_one_clients_commands_take_effect_in_the_order_sent(node: ServerNode) -> None:
    """A rare command (login, history) is waited for; what comes in the same packet is not lost meanwhile."""
    peer = Peer(node)
    peer.say("login", ref="login", token=token_for("alice", "pad"), device="pad")
    for number in (1, 2):
        peer.say("send", ref=number, id=f"c{number}", to="bob", body="x")
    peer.say("history", ref="h", with_="bob")
    peer.say("ping", ref="p")
    peer.say("logout", ref="l")
    node.turn()
    assert not node.reactor.is_read(peer.wire)
    node.settle()
    heard = events(peer.hear())
    assert heard[0] == "ok login"
    assert heard.index("ok 1") < heard.index("ok 2")
    assert [one for one in heard if one in ("ok h", "ok p", "ok l")] == ["ok h", "ok p", "ok l"]


def test_a_client_with_too_many_unanswered_sends_is_not_read(node: ServerNode) -> None:
    node = ServerNode(world_of("alice", "bob", reaches_both=False), "n1", in_flight_sends=3)
    alice = entered(node, "alice")
    for number in range(10):
        alice.say("send", ref=number, id=f"c{number}", to="bob", body="x")
    node.turn()
    assert session_of(node).sending == ["c0", "c1", "c2"]
    assert not node.reactor.is_read(alice.wire)
    link = node.store.links[0]
    for _ in range(3):
        link.execute()
    for _ in range(3):
        node.deliver(0)
    assert session_of(node).sending == ["c0", "c1", "c2"], "stored for the recipient only"
    node.settle()
    assert events(alice.hear()) == [f"ok {number}" for number in range(10)]
    assert node.reactor.is_read(alice.wire)
    assert session_of(node).sending is None


def test_while_the_store_is_saturated_senders_wait(node: ServerNode) -> None:
    alice, bob = entered(node, "alice"), entered(node, "bob")
    node.store.saturate()
    alice.ask("send", ref=1, id="c1", to="bob", body="x")
    assert not node.reactor.is_read(alice.wire)
    assert node.reactor.is_read(bob.wire)
    alice.say("ping", ref=2)
    node.settle()
    assert alice.hear() == []
    node.store.relieve()
    node.settle()
    assert events(alice.hear()) == ["ok 2"]


def test_who_asks_too_fast_is_told_when_to_try_again(node: ServerNode) -> None:
    node = ServerNode(world_of("alice"), "n1", rate_per_second=2.0, rate_burst=12, max_bad_frames=3)
    alice = entered(node, "alice")  # costs 10 of 12
    for number in range(7):
        alice.say("ping", ref=number)  # costs a half
    node.settle()
    heard = alice.hear()
    assert events(heard) == ["ok 0", "ok 1", "ok 2", "ok 3", *(f"err {n} rate-limited" for n in (4, 5, 6))]
    retry = heard[-1]["err"]["retry"]
    assert 0.25 <= retry < 0.3
    node.pass_time(retry)
    assert events(alice.ask("ping", ref=8)) == ["ok 8"]
    assert events(alice.ask("ping", ref=9)) == ["bye flood"], "that was the fourth"
    assert alice.wire.at_end


def test_too_many_bad_frames_end_it(node: ServerNode) -> None:
    node = ServerNode(world_of("alice"), "n1", max_bad_frames=3)
    alice = entered(node, "alice")
    assert events(alice.ask("fly", ref=1)) == ["err 1 unknown-op"]
    alice.wire.write(b"nonsense\n{}\n{}\n{}\n")
    node.settle()
    heard = alice.hear()
    assert events(heard) == ["error bad-frame", "error bad-request", "bye bad-frame"]
    assert heard[-1]["reconnect"] is False
    assert alice.wire.at_end


def test_errors_are_counted_by_code(node: ServerNode) -> None:
    alice = entered(node, "alice")
    alice.ask("send", ref=1, id="a", to="nobody", body="x")
    alice.ask("fly")
    session_of(node).refuse(None, BadFrame("x"))
    assert node.counters.errors == {"not-found": 1, "unknown-op": 1, "bad-frame": 1}


def test_a_bug_in_a_rare_command_costs_that_command_only(node: ServerNode) -> None:
    alice = entered(node, "alice")

    async def fails(session: Session, command: object) -> None:
        raise ZeroDivisionError

    node.context.handlers[next(kind for kind in node.context.handlers if kind.__name__ == "History")] = fails
    assert events(alice.ask("history", ref=1, with_="bob")) == ["err 1 unavailable"]
    assert events(alice.ask("ping", ref=2)) == ["ok 2"]


# -- time


def test_whoever_does_not_log_in_in_time_must_go(node: ServerNode) -> None:
    peer = Peer(node)
    node.pass_time(9)
    assert events(peer.ask("ping", ref=1)) == ["ok 1"]
    node.pass_time(3)
    heard = peer.hear()
    assert events(heard) == ["bye login-timeout"]
    assert heard[0]["reconnect"] is True
    assert peer.wire.at_end


def test_an_idle_client_is_pinged_and_stays_when_it_answers(node: ServerNode) -> None:
    alice = entered(node, "alice")
    for _ in range(3):
        node.pass_time(61)
        assert events(alice.hear()) == ["ping"]
        alice.ask("ping")
    assert alice.hear() == []
    assert session_of(node).state is State.INSIDE


def test_a_silent_client_is_closed_after_twice_the_time(node: ServerNode) -> None:
    alice = entered(node, "alice")
    node.pass_time(119)
    assert events(alice.hear()) == ["ping"]
    node.pass_time(4)
    heard = alice.hear()
    assert events(heard) == ["bye idle"]
    assert heard[0]["reconnect"] is True
    node.settle()
    assert node.store.world.database.accounts["alice"].on == {}


def test_a_busy_client_is_never_pinged(node: ServerNode) -> None:
    alice = entered(node, "alice")
    for _ in range(30):
        node.pass_time(10)
        alice.ask("ping")
    assert alice.hear() == []


def test_a_client_that_reads_nothing_is_cut_off(node: ServerNode) -> None:
    alice, bob = entered(node, "alice"), entered(node, "bob", capacity=500)
    for number in range(20):
        alice.ask("send", id=f"c{number}", to="bob", body="x")
    for _ in range(7):
        node.pass_time(30)
        alice.ask("ping")
        bob.say("ping")  # it lives, and is heard
        node.settle()
    assert [session.user for session in node.context.registry] == ["alice"]
    assert "took nothing" not in node.counters.byes


# -- the end


def test_logout_is_answered_and_closes(node: ServerNode) -> None:
    alice = entered(node, "alice")
    assert events(alice.ask("logout", ref=1)) == ["ok 1"]
    assert alice.wire.at_end
    assert node.store.world.database.accounts["alice"].on == {}


def test_the_newer_session_of_a_device_replaces_the_older(node: ServerNode) -> None:
    other = ServerNode(node.store.world, "n2")
    old, new = entered(node, "alice"), entered(other, "alice")
    node.settle()
    heard = old.hear()
    assert events(heard) == ["bye replaced"]
    assert heard[0]["reconnect"] is False
    assert old.wire.at_end
    assert events(new.ask("ping", ref=1)) == ["ok 1"]
    node.settle()
    assert list(node.store.world.database.accounts["alice"].on.values()) == [b"pad=n2.1"]


def test_a_revoked_session_must_go_and_its_token_with_it(node: ServerNode) -> None:
    alice = entered(node, "alice")
    node.store.links[0].calls.clear()
    database = node.store.world.database
    database.revoke("alice", None)
    node.store.links[0].back.extend(node.store.world.own_pushes(node.store.links[0]))
    node.settle()
    assert events(alice.hear()) == ["bye revoked"]
    assert events(Peer(node).log_in("alice")) == ["err login expired-token"]


def test_acknowledged_positions_are_stored_within_a_second_and_at_the_end(node: ServerNode) -> None:
    alice, bob = entered(node, "alice"), entered(node, "bob")
    ats = [alice.ask("send", ref=1, id=f"c{number}", to="bob", body="x")[0]["ok"]["at"] for number in range(3)]
    pushed = [frame["at"] for frame in bob.hear()]
    assert len(ats) == len(pushed) == 3
    account = node.store.world.database.accounts["bob"]
    bob.ask("ack", upto=pushed[0])
    assert account.cursors == {}
    node.pass_time(1)
    node.settle()
    assert account.cursors == {"pad": pushed[0].encode()}
    assert bob.ask("ack", upto=pushed[1], ref=5) == [{"re": 5, "ok": {}}]
    assert account.cursors == {"pad": pushed[1].encode()}
    bob.ask("ack", upto=pushed[2])
    bob.ask("logout")
    assert account.cursors == {"pad": pushed[2].encode()}


def test_an_open_but_empty_session_keeps_nothing(node: ServerNode) -> None:
    entered(node, "alice")
    session = session_of(node)
    assert (session.sending, session.acked, session.channel.out_bytes) == (None, None, 0)
    assert node.context.cursors == {}
