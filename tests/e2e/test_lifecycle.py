"""Starting, refusing to start, and leaving nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imserver.store.datadir import DataDir
from tests.conftest import required
from tests.e2e.client import Refused, TcpClient
from tests.server import READY_SECONDS, Server, wait_gone


@pytest.fixture(autouse=True)
def _component() -> None:
    required("redis-server")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "data", workers=1, drain_seconds=1) as server:
        yield server


def test_all_is_still_there_after_a_stop(small: Server) -> None:
    with TcpClient(small.tcp) as ann:
        for name in ("ann", "ben"):
            ann.register(name)
        ann.enter("ann", "desk")
        said = ann.tell("ben", "m1")
        assert small.stop() == 0
        bye = ann.hear("bye")
        assert (bye["code"], bye["reconnect"]) == ("drain", True)
    small.start()
    with TcpClient(small.tcp) as ben:
        assert [push["id"] for push in ben.enter("ben", "desk")] == ["m1"]
    with TcpClient(small.tcp) as ann:
        assert ann.enter("ann", "desk", since=said["at"]) == []
        assert ann.tell("ben", "m1") == said  # a repeat, after all that


def test_who_is_replaced_before_logging_in_is_told_so_too(small: Server) -> None:
    """It waits in the queue of the worker that goes; the one that comes would have taken it."""
    with TcpClient(small.tcp) as newcomer:
        newcomer.register("ann")
        small.replace_workers()
        bye = newcomer.hear("bye")
        assert (bye["code"], bye["reconnect"]) == ("drain", True)
        assert bye["after"] > 0
    with TcpClient(small.tcp) as again:
        again.enter("ann", "desk")


def test_a_second_start_on_the_same_data_is_refused(small: Server) -> None:
    command = [sys.executable, "-m", "imserver.cli", "serve", "--data", str(small.data)]
    anywhere = ["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    second = subprocess.run([*command, *anywhere], capture_output=True, text=True, timeout=READY_SECONDS, check=False)
    assert second.returncode != 0
    assert str(small.run["pid"]) in second.stderr
    assert str(small.data) in second.stderr
    assert "Traceback" not in second.stderr
    assert small.get("/readyz")[0] == 200


def test_no_process_is_left_after_everything_is_killed(small: Server) -> None:
    assert small.process is not None
    store = small.run["redis_pid"]
    pids = [small.process.pid, *small.worker_pids]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_gone(store)
    with DataDir(small.data).claim():  # keeper and all: nobody holds the directory
        pass


def test_a_store_killed_with_everything_else_leaves_its_data(small: Server) -> None:
    assert small.process is not None
    with TcpClient(small.tcp) as ann:
        ann.register("ann")
        ann.enter("ann", "desk")
        for number in range(50):
            ann.tell("ann", f"m{number}")
    for pid in (small.process.pid, *small.worker_pids, small.run["redis_pid"]):
        os.kill(pid, signal.SIGKILL)
    small.kill()
    small.start()
    with TcpClient(small.tcp) as ann:
        assert [push["id"] for push in ann.enter("ann", "phone")] == [f"m{number}" for number in range(50)]


@pytest.mark.parametrize(("policy", "allowed"), [("closed", False), ("loopback", True)])
def test_who_may_register(tmp_path: Path, policy: str, allowed: bool) -> None:
    with Server(tmp_path / "data", workers=1, registration=policy) as server, TcpClient(server.tcp) as client:
        if allowed:
            client.register("ann")
        else:
            with pytest.raises(Refused) as refused:
                client.register("ann")
            assert refused.value.code == "not-allowed"
            server.cli("user", "add", "ann", "--password-stdin", stdin="ann's password\n")
        assert client.log_in("ann", "desk")["user"] == "ann"
