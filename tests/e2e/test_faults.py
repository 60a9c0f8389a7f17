"""Everything that can be killed, killed in the middle of traffic. Nothing acknowledged may be lost.

`assert_survived` checks every message on every device; the tests here say what fails, and who must have noticed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import required
from tests.e2e.traffic import Traffic, assert_survived
from tests.server import Server
from tests.store.redis_process import RedisProcess, running, wait_until

QUICK: dict[str, Any] = {"drain_seconds": 1, "probe_seconds": 0.3}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all: each fault leaves it as new, or something is wrong."""
    required("redis-server")
    with Server(tmp_path_factory.mktemp("faults") / "data", **QUICK) as it:
        yield it


def connections(traffic: Traffic) -> set[int]:
    return {device.connections for device in traffic.devices}


def byes(traffic: Traffic) -> set[str]:
    return {code for device in traffic.devices for code in device.byes}


def test_without_any_fault(server: Server) -> None:
    traffic = assert_survived(server, lambda: None)
    assert connections(traffic) == {1}


def test_a_worker_is_killed(server: Server) -> None:
    traffic = assert_survived(server, lambda: server.kill_workers(1))
    assert max(connections(traffic)) > 1


def test_all_workers_are_killed(server: Server) -> None:
    traffic = assert_survived(server, server.kill_workers)
    assert min(connections(traffic)) > 1


def test_the_embedded_store_is_killed(server: Server) -> None:
    traffic = assert_survived(server, server.kill_store)
    assert connections(traffic) == {1}
    assert byes(traffic) == set()


def test_the_supervisor_is_killed_and_started_again(server: Server) -> None:
    def kill_and_start() -> None:
        server.kill()
        server.start()

    traffic = assert_survived(server, kill_and_start)
    assert min(connections(traffic)) > 1


def test_the_store_stands_still_for_a_while(server: Server) -> None:
    def stand_still() -> None:
        with server.stopped_store():
            wait_until(lambda: server.get("/readyz")[0] == 503, "not ready")

    traffic = assert_survived(server, stand_still)
    assert connections(traffic) == {1}
    wait_until(lambda: server.get("/readyz")[0] == 200, "ready again")


def test_the_server_is_drained_and_started_again(server: Server) -> None:
    statuses = []

    def drain_and_start() -> None:
        statuses.append(server.stop())
        server.start()

    traffic = assert_survived(server, drain_and_start)
    assert statuses == [0]
    assert byes(traffic) == {"drain"}


def test_the_workers_are_replaced(server: Server) -> None:
    traffic = assert_survived(server, server.replace_workers)
    assert byes(traffic) == {"drain"}


def test_an_external_redis_is_killed_and_started_again(tmp_path: Path) -> None:
    options = ("--appendonly", "yes", "--appendfsync", "no", "--maxmemory-policy", "noeviction")
    redis = RedisProcess(required("redis-server"), tmp_path / "redis", *options)

    def kill_and_start() -> None:
        redis.kill()
        redis.start()

    with running(redis), Server(tmp_path / "data", "--redis", redis.url, **QUICK) as server:
        traffic = assert_survived(server, kill_and_start)
    assert connections(traffic) == {1}
    assert byes(traffic) == set()
