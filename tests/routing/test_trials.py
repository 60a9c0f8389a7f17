"""How often a password may be guessed, and an account be made."""

import pytest

from imserver.routing.trials import network_of
from imserver.security.passwords import hash_now
from tests.model_store import World
from tests.session.node import ServerNode
from tests.session.peer import Peer, entered, events, world_of

HASH = hash_now("secret", memory_kib=8, rounds=1)


def world() -> World:
    world = World(1)
    for user in ("alice", "bob"):
        world.database.register(user, HASH)
    return world


def log_in(node: ServerNode, user: str, password: str, *, is_local: bool = True) -> list[str]:
    peer = Peer(node, is_local=is_local)
    return events(peer.ask("login", ref=1, user=user, password=password, device="pad"))


def test_wrong_passwords_are_counted_on_all_workers_together() -> None:
    here = world()
    nodes = [ServerNode(here, name, wrong_passwords_per_hour=3) for name in ("n1", "n2")]
    for number in range(3):
        assert log_in(nodes[number % 2], "alice", "guess") == ["err 1 bad-credentials"]
    for node in nodes:
        assert log_in(node, "alice", "secret") == ["err 1 rate-limited"], "the right one, too: else it could be told"
        assert log_in(node, "bob", "secret") == ["ok 1", "synced"]
    heard = Peer(nodes[0]).ask("login", ref=1, user="alice", password="secret", device="pad")
    assert heard[0]["err"]["retry"] > 0
    assert events(Peer(nodes[0]).log_in("alice")) == ["ok login", "synced"], "a token does not count"


def test_right_passwords_do_not_count() -> None:
    node = ServerNode(world(), "n1", wrong_passwords_per_hour=1, wrong_passwords_per_address_hour=1)
    for _ in range(5):
        assert log_in(node, "alice", "secret", is_local=False) == ["ok 1", "synced"]


def test_an_address_that_tries_many_users_is_stopped_and_this_machine_is_not() -> None:
    node = ServerNode(world(), "n1", wrong_passwords_per_address_hour=3)
    for number in range(3):
        assert log_in(node, f"nobody{number}", "guess", is_local=False) == ["err 1 bad-credentials"]
    assert log_in(node, "alice", "secret", is_local=False) == ["err 1 rate-limited"]
    assert log_in(node, "alice", "secret") == ["ok 1", "synced"]


def test_who_may_not_try_any_more_does_not_use_up_what_the_address_may() -> None:
    """A client comes back again and again, and others are behind the same address."""
    node = ServerNode(world(), "n1", wrong_passwords_per_hour=1, wrong_passwords_per_address_hour=3)
    assert log_in(node, "alice", "guess", is_local=False) == ["err 1 bad-credentials"]
    for _ in range(5):
        assert log_in(node, "alice", "secret", is_local=False) == ["err 1 rate-limited"]
    assert log_in(node, "bob", "secret", is_local=False) == ["ok 1", "synced"]


def test_who_may_not_try_any_more_at_an_address_does_not_use_up_what_a_user_may() -> None:
    node = ServerNode(world(), "n1", wrong_passwords_per_hour=2, wrong_passwords_per_address_hour=1)
    assert log_in(node, "nobody", "guess", is_local=False) == ["err 1 bad-credentials"]
    for _ in range(5):
        assert log_in(node, "alice", "guess", is_local=False) == ["err 1 rate-limited"]
    assert log_in(node, "alice", "secret") == ["ok 1", "synced"]


@pytest.mark.parametrize("op", ["password", "account.delete"])
def test_whoever_is_inside_has_no_more_guesses(op: str) -> None:
    node = ServerNode(world(), "n1", wrong_passwords_per_hour=2)
    alice = entered(node, "alice")
    wrong = {"password": {"old": "guess", "new": "x"}, "account.delete": {"password": "guess"}}[op]
    heard = [*alice.ask(op, ref=1, **wrong), *alice.ask(op, ref=2, **wrong), *alice.ask(op, ref=3, **wrong)]
    assert events(heard) == ["err 1 bad-credentials", "err 2 bad-credentials", "err 3 rate-limited"]
    assert log_in(node, "alice", "secret") == ["err 1 rate-limited"]


def test_an_address_makes_so_many_accounts() -> None:
    node = ServerNode(world_of(), "n1", registrations_per_address_hour=2)
    peer = Peer(node, is_local=False)
    heard = [
        frame for number in range(3) for frame in peer.ask("register", ref=number, user=f"u{number}", password="p")
    ]
    assert events(heard) == ["ok 0", "ok 1", "err 2 rate-limited"]
    assert events(Peer(node).ask("register", ref=3, user="u3", password="p")) == ["ok 3"]


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("/run/client.sock", "/run/client.sock"),
    ],
)
def test_what_counts_as_one_address(host: str, network: str) -> None:
    assert network_of(host) == network
