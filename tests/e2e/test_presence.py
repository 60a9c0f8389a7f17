"""What contacts are told when workers are killed or replaced, with real processes.

Who is gone is offline, in time; who comes back was never away.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from imserver.store.partitions import user_keys
from tests.conftest import required
from tests.e2e.client import Client, Ended, Frame, TcpClient
from tests.server import Server

LEASE_SECONDS, GRACE_SECONDS = 4.0, 6.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    required("redis-server")
    settings: dict[str, Any] = {"lease_seconds": LEASE_SECONDS, "probe_seconds": 1, "drain_seconds": 1}
    with Server(tmp_path / "data", presence_grace_seconds=GRACE_SECONDS, **settings) as running:
        yield running


@pytest.fixture
def worker_of(server: Server) -> Iterator[Callable[[str], int]]:
    """The process at which a user, with one device, is."""
    with redis.Redis.from_url(server.run["redis"]) as store:

        def find(user: str) -> int:
            place = bytes(store.hget(user_keys(user).state, "on") or b"")
            node = place.partition(b"=")[2].partition(b".")[0].decode()
            return next(int(worker["pid"]) for worker in server.status()["workers"] if worker["node"] == node)

        yield find


def log_in(server: Server, user: str) -> TcpClient:
    client = TcpClient(server.tcp)
    client.enter(user, "pad")
    return client


def befriend(server: Server, one: str, *others: str) -> None:
    with TcpClient(server.tcp) as client:
        for user in (one, *others):
            client.register(user)
    with log_in(server, one) as client:
        for other in others:
            with log_in(server, other) as partner:
                client.ask("contact.add", user=other)
                partner.ask("contact.accept", user=one)
                partner.ask("logout")
        client.ask("logout")


def on_other_workers(server: Server, worker_of: Callable[[str], int], one: str, other: str) -> tuple[Client, Client]:
    """Two clients, each at a worker of its own."""
    first = log_in(server, one)
    while True:
        second = log_in(server, other)
        if worker_of(other) != worker_of(one):
            return first, second
        second.ask("logout")
        second.close()


def presence(client: Client, user: str) -> Frame:
    return client.wait_for(lambda frame: frame.get("ev") == "presence" and frame["user"] == user)


def until(client: Client, user: str, show: str) -> Frame:
    return client.wait_for(
        lambda frame: (frame.get("ev"), frame.get("user"), frame.get("show")) == ("presence", user, show)
    )


def heard(client: Client) -> list[Frame]:
    """All presence that has come so far."""
    client.say("ping", ref="so far")
    frames: list[Frame] = []
    while (frame := client.receive()).get("re") != "so far":
        frames.append(frame)
    return [frame for frame in frames if frame.get("ev") == "presence"]


def test_contacts_of_a_killed_workers_users_are_told_within_the_lease(
    server: Server, worker_of: Callable[[str], int]
) -> None:
    befriend(server, "alice", "bob")
    alice, bob = on_other_workers(server, worker_of, "alice", "bob")
    with alice, bob:
        until(bob, "alice", "online")
        os.kill(worker_of("alice"), signal.SIGKILL)
        died = time.monotonic()
        until(bob, "alice", "offline")
        assert time.monotonic() - died < LEASE_SECONDS + 2


def test_who_comes_back_after_its_worker_was_killed_was_never_away(
    server: Server, worker_of: Callable[[str], int]
) -> None:
    befriend(server, "alice", "bob")
    alice, bob = on_other_workers(server, worker_of, "alice", "bob")
    with alice, bob:
        until(bob, "alice", "online")
        pid = worker_of("alice")
        os.kill(pid, signal.SIGKILL)
        with log_in(server, "alice") as again:
            until(again, "bob", "online")
            deadline = time.monotonic() + LEASE_SECONDS + 2
            while time.monotonic() < deadline:
                assert heard(bob) == []
                time.sleep(0.2)  # what is waited for is that nothing comes
            again.ask("presence", show="away")
            until(bob, "alice", "away")


def test_a_lost_connection_is_told_after_the_grace(server: Server) -> None:
    befriend(server, "alice", "bob")
    with log_in(server, "bob") as bob:
        alice = log_in(server, "alice")
        until(bob, "alice", "online")
        alice.close()
        closed = time.monotonic()
        told = until(bob, "alice", "offline")
        assert time.monotonic() - closed > GRACE_SECONDS - 1.5
        assert abs(told["since"] - (time.time() - GRACE_SECONDS)) < 4  # when it went, not when it was told


def test_workers_are_replaced_and_nobody_was_away(server: Server) -> None:
    """Only who does not come back is: the worker that owed its contacts the news has ended long before."""
    befriend(server, "alice", "bob", "carol")
    clients = {user: log_in(server, user) for user in ("alice", "bob", "carol")}
    for user in ("bob", "carol"):
        until(clients["alice"], user, "online")
    server.replace_workers()
    for client in clients.values():
        with pytest.raises(Ended):
            while True:
                client.receive()
        client.close()
    with log_in(server, "alice") as alice, log_in(server, "bob") as bob:
        for user in ("bob", "carol"):
            assert presence(alice, user)["show"] == "online"
        assert presence(bob, "alice")["show"] == "online"
        assert presence(alice, "carol")["show"] == "offline"  # and nothing else before it
        assert heard(alice) == heard(bob) == []
