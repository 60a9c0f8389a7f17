"""The supervisor: real processes, real signals, a real store; only the workers serve nobody."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis
import structlog
import trio
import trio.testing

from imserver.config import Settings
from imserver.descriptors import RESERVED_DESCRIPTORS, descriptor_limit, sessions_per_worker
from imserver.endpoints import HostPort
from imserver.errors import SetupError
from imserver.supervisor.backoff import FIRST_SECONDS, LAST_SECONDS, STEADY_SECONDS, Backoff
from imserver.supervisor.control import STATISTICS_SECONDS
from imserver.supervisor.fleet import Fleet
from imserver.supervisor.signals import Stop, Terminal, heed_signals
from imserver.supervisor.sockets import bound_to, listen
from imserver.supervisor.worker_process import (
    DRAIN_GRACE_SECONDS,
    READY_SECONDS,
    Launch,
    WorkerFailed,
    WorkerProcess,
)
from tests.supervised_server import WORKER, Server, end, is_running, parent_of, running, wait_for

SILENT = (sys.executable, "-c", "import time; time.sleep(3600)")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def server(data: Path) -> Iterator[Server]:
    with running(data) as server:
        yield server


# -- starting and stopping


def test_serves_then_drains_and_leaves_nothing(server: Server) -> None:
    run = server.wait_ready()
    assert server.ask_worker() in [worker.pid for worker in run.workers]
    assert f"tcp://127.0.0.1:{run.tcp[1]}" in server.said()
    assert "descriptors per process" in server.said()

    assert server.stop() == 0
    assert server.said().count("draining over 5.0 s") == 2
    assert not (server.data / "run.json").exists()
    assert run.redis_pid is not None
    for pid in (run.redis_pid, *(worker.pid for worker in run.workers)):
        assert not is_running(pid)


def test_after_the_end_of_draining_connections_are_refused(server: Server) -> None:
    (server.data / "linger").touch()
    address = server.wait_ready().tcp
    server.signal(signal.SIGTERM)
    wait_for(lambda: server.said().count("draining over") == 2)
    for worker in server.wait_ready().workers:
        os.kill(worker.pid, signal.SIGKILL)
    assert server.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_a_second_signal_stops_without_draining(server: Server) -> None:
    (server.data / "linger").touch()
    server.signal(signal.SIGINT)
    wait_for(lambda: server.said().count("draining over") == 2)
    server.signal(signal.SIGINT)
    assert server.wait() == 0


def test_a_worker_that_refuses_the_first_start_ends_the_server(data: Path) -> None:
    data.mkdir()
    (data / "refuse").touch()
    server = Server(data)
    assert server.wait() == 1
    assert "refused, as asked" in server.said()
    assert "did not start: exit status 3" in server.said()
    end(server)


def test_an_address_in_use_is_named(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server(data, http=taken.getsockname())
        assert server.wait() == 1
    assert f"http: can't listen on 127.0.0.1:{taken_port(server)}" in server.said()
    assert "--http" in server.said()


def taken_port(server: Server) -> int:
    return int(server.said().partition("listen on 127.0.0.1:")[2].partition(":")[0])


def test_a_second_start_on_the_directory_is_refused(server: Server) -> None:
    second = Server(server.data)
    assert second.wait() == 1
    assert f"the data directory {server.data} is in use by process {server.process.pid}" in second.said()
    assert server.ask_worker()


def test_an_external_store_is_only_passed_on(data: Path) -> None:
    with running(data, redis="redis://:secret@127.0.0.1:1/0") as server:
        run = server.wait_ready()
        assert (run.redis, run.redis_pid) == ("redis://:secret@127.0.0.1:1/0", None)
        assert server.status()["redis"] == "redis://:***@127.0.0.1:1/0"
        assert "secret" not in server.said()
        assert not (data / "redis.conf").exists()
        assert server.stop() == 0


# -- workers


def test_a_crashed_worker_is_started_again(server: Server) -> None:
    before = server.wait_ready().workers
    os.kill(before[1].pid, signal.SIGKILL)
    wait_for(lambda: server.wait_ready().workers[1].pid != before[1].pid)
    assert server.wait_ready().workers[0] == before[0]
    assert '"event":"worker crashed"' in server.said()
    assert '"end":"killed by SIGKILL"' in server.said()
    assert [worker["restarts"] for worker in server.status()["workers"]] == [0, 1]


def test_later_failures_to_start_are_repeated_until_one_succeeds(server: Server) -> None:
    victim = server.wait_ready().workers[0].pid
    (server.data / "refuse").touch()
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: server.events().count("worker is not ready") >= 2)
    assert server.status()["workers"][0]["state"] == "restarting"
    assert server.ask_worker()

    (server.data / "refuse").unlink()
    wait_for(lambda: server.wait_ready().workers[0].pid != victim)
    assert server.status()["workers"][0]["state"] == "ready"


def test_a_worker_that_is_not_understood_is_replaced(server: Server) -> None:
    before = server.wait_ready().workers
    (server.data / "babble").touch()
    server.get("/metrics")
    (server.data / "babble").unlink()
    wait_for(lambda: not {worker.pid for worker in before} & {worker.pid for worker in server.wait_ready().workers})
    assert server.events().count("worker is not understood, killing it") == 2


def test_a_hanging_worker_is_reported(server: Server) -> None:
    victim = server.wait_ready().workers[0].pid
    os.kill(victim, signal.SIGSTOP)
    try:
        assert [worker["state"] for worker in server.status()["workers"]] == ["unresponsive", "ready"]
        metrics = server.get("/metrics")
        assert 'imserver_worker_up{worker="0"} 0.0' in metrics
        assert 'imserver_worker_up{worker="1"} 1.0' in metrics
    finally:
        os.kill(victim, signal.SIGCONT)
    assert [worker["state"] for worker in server.status()["workers"]] == ["ready", "ready"]


def test_counts_outlive_the_worker_that_made_them(server: Server) -> None:
    assert server.metric("imserver_messages_in_total") == 10.0
    victim = server.wait_ready().workers[0].pid
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: server.wait_ready().workers[0].pid != victim)
    assert server.metric("imserver_messages_in_total") == 15.0
    assert server.metric("imserver_sessions") == 6.0


# -- SIGHUP


def test_replaces_workers_one_by_one_and_refuses_nobody(server: Server) -> None:
    before = {worker.pid for worker in server.wait_ready().workers}
    done = threading.Event()
    refused: list[OSError] = []
    clients = threading.Thread(target=keep_connecting, args=(server.wait_ready().tcp, done, refused))
    clients.start()
    try:
        server.signal(signal.SIGHUP)
        wait_for(lambda: "all workers are replaced" in server.events())
    finally:
        done.set()
        clients.join()
    assert refused == []
    assert not before & {worker.pid for worker in server.wait_ready().workers}
    assert server.ask_worker() not in before
    happened = [line for line in server.said().splitlines() if "in service" in line or "draining over" in line]
    assert ["draining over" in line for line in happened] == [False, False, False, True, False, True]


def keep_connecting(address: tuple[str, int], done: threading.Event, refused: list[OSError]) -> None:
    while not done.is_set():
        try:
            socket.create_connection(address).close()
        except OSError as error:
            refused.append(error)


def test_a_replacement_that_fails_leaves_the_old_workers(server: Server) -> None:
    before = server.wait_ready().workers
    (server.data / "refuse").touch()
    server.signal(signal.SIGHUP)
    wait_for(lambda: "replacement failed, the present workers stay" in server.events())
    assert server.wait_ready().workers == before
    assert server.ask_worker() in [worker.pid for worker in before]


# -- the store


def test_a_killed_store_is_started_again_with_its_data(server: Server) -> None:
    run = server.wait_ready()
    assert run.redis_pid is not None
    with redis.Redis.from_url(run.redis) as store:
        store.set("said", "hello")
    os.kill(run.redis_pid, signal.SIGKILL)
    wait_for(lambda: server.wait_ready().redis_pid != run.redis_pid)
    with redis.Redis.from_url(run.redis) as store:
        assert store.get("said") == b"hello"
    assert server.metric("imserver_store_restarts_total") == 1.0
    assert "the store ended by itself, killed by SIGKILL" in server.said()
    assert server.wait_ready().workers == run.workers


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a process with its parent")
def test_a_killed_keeper_takes_the_store_with_it(server: Server) -> None:
    store = server.wait_ready().redis_pid
    assert store is not None
    os.kill(parent_of(store), signal.SIGKILL)
    wait_for(lambda: not is_running(store))
    wait_for(lambda: server.wait_ready().redis_pid != store)


def test_a_killed_supervisor_leaves_nothing_but_the_data(server: Server) -> None:
    run = server.wait_ready()
    assert run.redis_pid is not None
    with redis.Redis.from_url(run.redis) as store:
        store.set("said", "hello")
    server.process.kill()
    server.process.wait()
    assert (server.data / "run.json").exists()
    with running(server.data) as successor:  # starts when the store of the dead one has stopped
        assert not any(is_running(pid) for pid in (run.redis_pid, *(worker.pid for worker in run.workers)))
        with redis.Redis.from_url(successor.wait_ready().redis) as store:
            assert store.get("said") == b"hello"
        assert successor.stop() == 0


# -- one worker process, and time


def launch(data: Path, listener: socket.socket) -> Launch:
    data.mkdir(exist_ok=True)
    descriptor = [listener.fileno()]
    return Launch(Settings(data=str(data)), descriptor, descriptor, "redis://127.0.0.1:1", (), WORKER)


def test_a_worker_that_ignores_the_drain_is_killed(data: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with trio.open_nursery() as nursery:
                worker = WorkerProcess(0, launch(data, listener))
                nursery.start_soon(worker.run)
                await worker.wait_ready()
                os.kill(worker.pid, signal.SIGSTOP)
                nursery.start_soon(worker.drain, 10.0)
                await trio.testing.wait_all_tasks_blocked()
                assert not worker.ended.is_set()
                clock.jump(10.0 + DRAIN_GRACE_SECONDS)
                await worker.ended.wait()
                assert worker.end == "killed by SIGKILL"

    clock = trio.testing.MockClock()
    trio.run(main, clock=clock)


def test_a_worker_that_never_gets_ready_is_killed(data: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            silent = Launch(Settings(data=str(data)), [listener.fileno()], [], "", (), SILENT)
            async with trio.open_nursery() as nursery:
                worker = WorkerProcess(7, silent)
                nursery.start_soon(worker.run)
                nursery.start_soon(jump_when_running, worker)
                with pytest.raises(WorkerFailed, match="worker 7 did not start: not ready within 60 s"):
                    await worker.wait_ready()
                await worker.ended.wait()

    async def jump_when_running(worker: WorkerProcess) -> None:
        while worker.pid == 0:
            await trio.lowlevel.checkpoint()
        clock.jump(READY_SECONDS)

    clock = trio.testing.MockClock()
    trio.run(main, clock=clock)


def test_a_worker_that_can_not_be_run_says_why(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()  # whatever a test before has configured

    async def main() -> None:
        nowhere = Launch(Settings(data=str(data)), [], [], "", (), ("/nonexistent/worker",))
        async with trio.open_nursery() as nursery:
            worker = WorkerProcess(0, nowhere)
            nursery.start_soon(worker.run)
            with pytest.raises(WorkerFailed, match="it never ran"):
                await worker.wait_ready()

    trio.run(main)
    assert "No such file" in "".join(capsys.readouterr())


def test_a_hanging_worker_is_asked_once(data: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with trio.open_nursery() as nursery:
                worker = WorkerProcess(0, launch(data, listener))
                nursery.start_soon(worker.run)
                await worker.wait_ready()
                os.kill(worker.pid, signal.SIGSTOP)
                for _ in range(3):
                    nursery.start_soon(expect_nothing, worker)
                    await trio.testing.wait_all_tasks_blocked()
                    clock.jump(STATISTICS_SECONDS)
                os.kill(worker.pid, signal.SIGCONT)
                answer = await worker.ask_statistics()
                assert answer is not None and answer.counters == {"messages_in": 5}
                await worker.drain(0.0)
                assert worker.end == "exit status 0"

    async def expect_nothing(worker: WorkerProcess) -> None:
        assert await worker.ask_statistics() is None

    clock = trio.testing.MockClock()
    trio.run(main, clock=clock)


def test_stopping_while_workers_start_leaves_none(data: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            stop = Stop()
            silent = Launch(Settings(data=str(data)), [listener.fileno()], [], "", (), SILENT)
            fleet = Fleet(silent, 3, stop, changed=lambda: None)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fleet.run, partial(pytest.fail, "nobody was ready"))
                while processes_of(os.getpid()) < 3:  # noqa: ASYNC110 - the kernel sets no event
                    await trio.sleep(0.01)
                stop.ask()
            assert processes_of(os.getpid()) == 0

    trio.run(main)


def processes_of(parent: int) -> int:
    """How many processes whose command is SILENT are children of `parent`."""
    shown = subprocess.run(["ps", "-A", "-o", "ppid=,args="], capture_output=True, text=True, check=True).stdout
    return sum(line.split()[0] == str(parent) and SILENT[-1] in line for line in shown.splitlines())


# -- sockets and descriptors


def test_a_free_port_is_one_port_whatever_addresses_the_name_has() -> None:
    async def main() -> None:
        (listener,) = await listen("tcp", HostPort("localhost", 0))
        async with listener:
            assert bound_to([listener]).port != 0

    trio.run(main)


def test_a_name_that_is_none_is_refused_with_its_setting() -> None:
    with pytest.raises(SetupError, match=r"admin: can't listen on no-such-host\.invalid:1"):
        trio.run(listen, "admin", HostPort("no-such-host.invalid", 1))


def test_sessions_are_bounded_by_descriptors_and_by_the_setting() -> None:
    assert sessions_per_worker(Settings()) == descriptor_limit() - RESERVED_DESCRIPTORS
    assert sessions_per_worker(Settings(sessions_max=7)) == 7
    assert sessions_per_worker(Settings(sessions_max=10_000_000)) == descriptor_limit() - RESERVED_DESCRIPTORS


# -- decisions


def test_backoff_doubles_up_to_a_bound_and_forgets_after_a_steady_run() -> None:
    backoff = Backoff()
    delays = [backoff.delay_after(1.0) for _ in range(8)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.delay_after(STEADY_SECONDS) == FIRST_SECONDS
    assert max(delays) == LAST_SECONDS


def test_signals_ask_for_replacement_then_stop_then_hurry() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            stop, replace = Stop(), trio.Event()
            await nursery.start(heed_signals, stop, replace.set, Terminal())
            signal.raise_signal(signal.SIGHUP)
            await replace.wait()
            assert not stop.asked.is_set()
            signal.raise_signal(signal.SIGTERM)
            await stop.asked.wait()
            assert not stop.hurry.is_set()
            signal.raise_signal(signal.SIGINT)
            await stop.hurry.wait()
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_losing_the_terminal_stops_in_an_orderly_way(data: Path) -> None:
    ours, terminal = os.openpty()
    server = Server(data, terminal=terminal)
    os.close(terminal)
    server.wait_ready()
    os.close(ours)
    server.signal(signal.SIGHUP)  # the kernel does so itself where the terminal controls the process
    assert server.wait() == 0
    assert not (data / "run.json").exists()
    end(server)


def test_ctrl_c_reaches_the_supervisor_alone(data: Path) -> None:
    """Else workers and store would stop before anybody could drain them."""
    with running(data) as server:
        run = server.wait_ready()
        children = [parent_of(run.redis_pid or 0), *(worker.pid for worker in run.workers)]
        assert not {os.getpgid(pid) for pid in children} & {os.getpgid(server.process.pid)}
