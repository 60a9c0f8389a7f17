"""What a dead worker leaves behind, with real processes: nothing, for longer than a lease."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from imserver.store.partitions import user_keys
from tests.conftest import required
from tests.e2e.client import Client, Ended, TcpClient
from tests.server import Server, wait_gone
from tests.store.redis_process import wait_until

LEASE_SECONDS = 4.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    required("redis-server")
    with Server(tmp_path / "data", lease_seconds=LEASE_SECONDS, probe_seconds=1, drain_seconds=1) as running:
        yield running


@pytest.fixture
def places(server: Server) -> Iterator[Callable[[str], bytes]]:
    """What the directory says of a user."""
    with redis.Redis.from_url(server.run["redis"]) as store:
        yield lambda user: bytes(store.hget(user_keys(user).state, "on") or b"")


def log_in(server: Server, user: str, device: str = "pad") -> Client:
    client = TcpClient(server.tcp)
    client.register(user)
    client.enter(user, device)
    return client


def worker_of(server: Server, place: bytes) -> int:
    node = place.partition(b"=")[2].partition(b".")[0].decode()
    return next(int(worker["pid"]) for worker in server.status()["workers"] if worker["node"] == node)


def test_the_sessions_of_a_killed_worker_are_cleared_within_the_lease(
    server: Server, places: Callable[[str], bytes]
) -> None:
    with log_in(server, "alice"):
        pid = worker_of(server, places("alice"))
        os.kill(pid, signal.SIGKILL)
        died = time.monotonic()
        wait_until(lambda: not places("alice"), "alice is cleared")
        assert time.monotonic() - died < LEASE_SECONDS + 2


def test_a_worker_that_stood_still_for_longer_than_its_lease_ends(
    server: Server, places: Callable[[str], bytes]
) -> None:
    """What its client said meanwhile, and says again elsewhere, is not done by it when it goes on."""
    with log_in(server, "alice") as alice, log_in(server, "bob"):
        pid = worker_of(server, places("alice"))
        os.kill(pid, signal.SIGSTOP)
        try:
            alice.say("send", ref=1, id="late", to="bob", body="x")
            wait_until(lambda: not places("alice"), "alice is cleared")
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_gone(pid)
        with pytest.raises(Ended):
            alice.receive()
    wait_until(lambda: pid not in server.worker_pids and len(server.worker_pids) == 2, "another worker")
    with redis.Redis.from_url(server.run["redis"]) as store:
        assert store.xlen(user_keys("bob").log) == 0


def test_a_worker_that_stood_still_for_a_shorter_time_goes_on(server: Server, places: Callable[[str], bytes]) -> None:
    with log_in(server, "alice") as alice, log_in(server, "bob"):
        pid = worker_of(server, places("alice"))
        os.kill(pid, signal.SIGSTOP)
        alice.say("send", ref=1, id="c1", to="bob", body="x")
        os.kill(pid, signal.SIGCONT)
        assert alice.receive()["re"] == 1
        assert places("alice")
