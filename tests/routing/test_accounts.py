"""Who may come in, and where they go on."""

import time

import pytest

from imserver.model import DeviceId, Position, UserId
from imserver.security import tokens
from tests.session.node import KEYS, ServerNode, token_for
from tests.session.peer import Peer, entered, events, world_of


@pytest.mark.parametrize(
    ("policy", "is_local", "allowed"),
    [
        ("open", False, True),
        ("open", True, True),
        ("loopback", True, True),
        ("loopback", False, False),
        ("closed", True, False),
    ],
)
def test_who_may_register(policy: str, is_local: bool, allowed: bool) -> None:
    node = ServerNode(world_of(), "n1", registration=policy)
    heard = Peer(node, is_local=is_local).ask("register", ref=1, user="Alice", password="pw")
    assert events(heard) == ["ok 1" if allowed else "err 1 not-allowed"]
    assert ("alice" in node.store.world.database.accounts) is allowed


def test_a_repeat_of_a_registration_whose_answer_was_lost_succeeds() -> None:
    node = ServerNode(world_of(), "n1")
    peer = Peer(node)
    peer.say("register", ref=1, user="alice", password="pw")
    node.turn()
    node.store.tasks.run()
    link = node.store.links[0]
    link.execute()
    link.cut()
    link.restore()
    link.restore()
    node.settle()
    assert events(peer.hear()) == ["ok 1"]


def test_without_a_password_only_tokens_let_in() -> None:
    node = ServerNode(world_of("alice"), "n1")  # the hash is empty
    peer = Peer(node)
    heard = peer.ask("login", ref=1, user="alice", password="", device="pad")
    assert events(heard) == ["err 1 bad-request"]
    heard = peer.ask("login", ref=2, user="alice", password="anything", device="pad")
    assert events(heard) == ["err 2 bad-credentials"]
    assert events(peer.log_in("alice")) == ["ok login", "synced"]


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("", "bad-credentials"),
        ("x", "bad-credentials"),
        (".", "bad-credentials"),
        ("é", "bad-credentials"),
        (token_for("bob", "pad"), "bad-credentials"),
        (token_for("alice", "phone"), "bad-credentials"),
        (token_for("alice", "pad")[:-4] + "AAA=", "bad-credentials"),
        (token_for("alice", "pad", "1.0"), "expired-token"),
        (token_for("nobody", "pad"), "bad-credentials"),
    ],
)
def test_tokens_that_let_nobody_in(token: str, code: str) -> None:
    node = ServerNode(world_of("alice", "bob"), "n1")
    heard = Peer(node).ask("login", ref=1, user="alice", token=token, device="pad")
    assert events(heard) == [f"err 1 {code}"]
    assert len(node.context.registry) == 0


def test_an_expired_token() -> None:
    node = ServerNode(world_of("alice"), "n1")
    old = tokens.sign(KEYS, UserId("alice"), DeviceId("pad"), int(time.time()) - 1, "0.0")
    assert events(Peer(node).ask("login", ref=1, token=old, device="pad")) == ["err 1 expired-token"]


def test_a_key_made_since_the_keys_were_read_is_looked_for() -> None:
    node = ServerNode(world_of("alice"), "n1")
    rotated = KEYS | {"k2": "7" * 64, "current": "k2"}
    token = tokens.sign(rotated, UserId("alice"), DeviceId("pad"), int(time.time()) + 60, "0.0")
    assert events(Peer(node).ask("login", ref=1, token=token, device="pad")) == ["err 1 bad-credentials"]
    node.store.world.database.keys = rotated
    heard = Peer(node).ask("login", ref=1, token=token, device="pad")
    assert events(heard) == ["ok 1", "synced"]
    assert tokens.check(rotated, heard[0]["ok"]["token"], time.time()).key == "k2"
    assert events(Peer(node).log_in("alice", "phone")) == ["ok login", "synced"], "the old key is still good"


def test_a_disabled_account_is_told_so() -> None:
    node = ServerNode(world_of("alice"), "n1")
    node.store.world.database.accounts["alice"].disabled = True
    assert events(Peer(node).log_in("alice")) == ["err login not-allowed"]


def test_the_token_of_a_login_carries_what_the_account_has() -> None:
    node = ServerNode(world_of("alice"), "n1")
    entered(node, "alice")
    node.store.world.database.revoke("alice", "pad")
    peer = Peer(node)
    heard = peer.ask("login", ref=1, token=token_for("alice", "pad", "0.1"), device="pad")
    claims = tokens.check(KEYS, heard[0]["ok"]["token"], time.time())
    assert (claims.user, claims.device, claims.generations) == ("alice", "pad", "0.1")
    assert claims.expires == heard[0]["ok"]["expires"]


@pytest.mark.parametrize(
    ("since", "stored", "expected"),
    [
        (None, None, ["c0", "c1", "c2"]),
        (None, 1, ["c2"]),
        (0, 1, ["c1", "c2"]),
        (2, 0, []),
    ],
)
def test_since_overrules_the_stored_cursor(since: int | None, stored: int | None, expected: list[str]) -> None:
    node = ServerNode(world_of("alice", "bob"), "n1")
    alice = entered(node, "alice")
    for number in range(3):
        alice.ask("send", id=f"c{number}", to="bob", body="x")
    account = node.store.world.database.accounts["bob"]
    ats = [entry.at for entry in account.log]
    if stored is not None:
        account.cursors["pad"] = ats[stored]
    fields = {} if since is None else {"since": ats[since].decode()}
    heard = events(Peer(node).log_in("bob", **fields))
    assert heard == ["ok login", *(f"msg {one}" for one in expected), "synced"]


def test_a_since_of_the_clients_own_spelling_hides_nothing() -> None:
    node = ServerNode(world_of("alice", "bob"), "n1")
    alice = entered(node, "alice")
    bob = Peer(node)
    assert events(bob.log_in("bob", since="000-00")) == ["ok login", "synced"]
    alice.ask("send", id="c1", to="bob", body="x")
    node.settle()
    assert events(bob.hear()) == ["msg c1"]


def test_a_cursor_never_goes_past_the_end() -> None:
    node = ServerNode(world_of("bob"), "n1")
    bob = entered(node, "bob")
    assert events(bob.ask("ack", ref=1, upto="99999999999999-0")) == ["ok 1"]
    assert node.store.world.database.accounts["bob"].cursors == {}
    bob.ask("ack", upto=Position(b"0-0").decode(), ref=2)
    assert node.store.world.database.accounts["bob"].cursors == {"pad": b"0-0"}
