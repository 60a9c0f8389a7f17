"""Messages that wait, said by workers that are killed meanwhile."""

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import required
from tests.e2e.client import Frame, TcpClient
from tests.server import Server
from tests.store.redis_process import wait_until

SENDERS = [f"sender{number}" for number in range(20)]
EACH = 100
AHEAD_SECONDS = 5
SETTINGS: dict[str, Any] = {"rate_per_second": 100_000, "rate_burst": 100_000, "drain_seconds": 1}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    required("redis-server")
    with Server(tmp_path / "data", **SETTINGS) as it:
        yield it


def bob_hears(server: Server, most: int) -> list[Frame]:
    """From the beginning, until so many messages have come."""
    with TcpClient(server.tcp) as bob:
        heard = [frame for frame in bob.enter("bob", "pad") if frame["ev"] == "msg"]
        while len(heard) < most:
            heard.append(bob.hear("msg"))
        return heard


def in_order(heard: list[Frame]) -> dict[str, list[str]]:
    """Of each sender the ids."""
    ids = defaultdict(list)
    for frame in heard:
        ids[frame["from"]].append(frame["id"])
    return dict(ids)


def test_each_is_said_once_and_in_order_whatever_workers_are_killed(server: Server) -> None:
    with TcpClient(server.tcp) as client:
        for name in ("bob", *SENDERS):
            client.register(name)
    due = int(time.time()) + AHEAD_SECONDS
    for name in SENDERS:
        with TcpClient(server.tcp) as sender:
            sender.enter(name, "pad")
            for number in range(EACH):
                sender.ask("schedule", id=f"m{number}", to="bob", body="x", when=due)
    for most in (1, EACH * len(SENDERS) // 3):
        bob_hears(server, most)
        server.kill_workers()
    expected = [f"m{number}" for number in range(EACH)]
    heard = in_order(bob_hears(server, EACH * len(SENDERS)))
    assert heard == dict.fromkeys(heard, expected)
    for name in SENDERS:
        with TcpClient(server.tcp) as sender:
            own = sender.enter(name, "pad")
            wait_until(lambda sender=sender: sender.ask("scheduled") == {"messages": []}, "nothing waits")  # type: ignore[misc]
            assert [frame["id"] for frame in own] == expected
