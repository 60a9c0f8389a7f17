"""What `ops/cluster-demo` shows: two hosts behind HAProxy, and that it does not matter who is at which."""

import argparse
import csv
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CERTIFICATE = ROOT / "tests" / "client" / "certificate.pem"  # its key is no secret: good for a demo, and nothing else
HOSTS = {"im1": "127.0.0.11", "im2": "127.0.0.12"}
# What is acknowledged survives a killed process: see docs/delivery.md.
REDIS_OPTIONS = ["--appendonly", "yes", "--appendfsync", "no", "--maxmemory-policy", "noeviction"]
PATIENCE_SECONDS = 60.0
STOP_SECONDS = 30.0


class Failed(Exception):
    """`str()` says what, and where to look."""


def say(text: str) -> None:
    print(f"== {text}", flush=True)


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() >= deadline:
            raise Failed(f"{what}: not within {PATIENCE_SECONDS:g} s")
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now on any address of this machine."""
    with ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("", 0))).getsockname()[1] for _ in range(count)]


class Demo:
    """The processes, each with a log in `folder`."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._tcp, self._http, self._redis, self._tls, https, plain, web, status = free_ports(8)
        self.page, self._status = f"http://127.0.0.1:{web}/", f"http://127.0.0.1:{status}/"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("IM")},
            **{name.upper(): address for name, address in HOSTS.items()},
            "IM_TCP_PORT": str(self._tcp),
            "IM_HTTP_PORT": str(self._http),
            "IM_TLS": f"127.0.0.1:{self._tls}",
            "IM_HTTPS": f"127.0.0.1:{https}",
            "IM_TCP": f"127.0.0.1:{plain}",
            "IM_HTTP": f"127.0.0.1:{web}",
            "IM_STATUS": f"127.0.0.1:{status}",
            "IM_PLAIN": "yes",
            "IM_CERTIFICATE": str(CERTIFICATE),
            "IM_SOCKET": str(folder / "haproxy.sock"),
            "IM_LOG": "stdout",
            "IM_USER": "root",
            "IM_MAXCONN": "1000",
            "IM_CHECK": "200ms",
            "IMSERVER_PROXY_PROTOCOL_FROM": "127.0.0.1",
            "IMSERVER_REGISTRATION": "loopback",
            "IMSERVER_WORKERS": "1",
            "IMSERVER_DRAIN_SECONDS": "2",
            "XDG_STATE_HOME": str(folder),
            "IMCLIENT_PASSWORD": "only a demo",
        }

    # -- processes

    def _start(self, name: str, *command: object) -> "subprocess.Popen[str]":
        """Runs until the demo ends."""
        log = self._stack.enter_context((self._folder / f"{name}.log").open("ab"))
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            text=True,
            bufsize=1,
            env=self._environment,
            process_group=0,  # Ctrl-C is for the demo, which stops all in order
        )
        self._stack.callback(stop, process)
        return process

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def start_redis(self) -> str:
        """The URL."""
        say(f"Redis, on port {self._redis}")
        own = ["--port", self._redis, "--bind", "127.0.0.1", "--dir", self._folder, "--save", ""]
        self._start("redis", "redis-server", *own, *REDIS_OPTIONS)
        wait_for("Redis answers", lambda: can_connect(self._redis))
        return f"redis://127.0.0.1:{self._redis}"

    def start_host(self, name: str, redis: str) -> None:
        say(f"host {name}: imserver at {HOSTS[name]}")
        options = {
            "tcp": f"{HOSTS[name]}:{self._tcp}",
            "http": f"{HOSTS[name]}:{self._http}",
            "admin": f"{HOSTS[name]}:0",
            "redis": redis,
            "data": self.data(name),
        }
        words = [word for option, value in options.items() for word in (f"--{option}", value)]
        self._start(name, sys.executable, "-m", "imserver.cli", "serve", *words)
        wait_for(f"{name} is ready, see {self._folder}/{name}.log", (self.data(name) / "run.json").exists)

    def data(self, name: str) -> Path:
        return self._folder / name

    def start_haproxy(self) -> None:
        say("HAProxy in front, with ops/haproxy.cfg")
        self._start("haproxy", "haproxy", "-db", "-f", ROOT / "ops" / "haproxy.cfg")
        wait_for(f"HAProxy finds both hosts ready, see {self._folder}/haproxy.log", self._are_up)

    def _servers(self) -> list[dict[str, str]]:
        with urllib.request.urlopen(f"{self._status};csv") as page:
            rows = csv.DictReader(page.read().decode().removeprefix("# ").splitlines())
        return [row for row in rows if row["svname"] in HOSTS]

    def _are_up(self) -> bool:
        with suppress(OSError):
            return all(row["status"].startswith("UP") for row in self._servers())
        return False

    def sessions(self) -> dict[str, int]:
        """How many each host has."""
        servers = self._servers()
        return {host: sum(int(row["scur"]) for row in servers if row["svname"] == host) for host in HOSTS}

    # -- users

    def url(self, user: str) -> str:
        return f"tls://{user}@127.0.0.1:{self._tls}"

    def register(self, user: str) -> None:
        """In a Redis that was given it may be there already, from another demo."""
        command = [sys.executable, "-m", "imclient", "register", self.url(user), "--ca", str(CERTIFICATE)]
        subprocess.run(command, check=False, env=self._environment, stdout=subprocess.DEVNULL)

    def chat(self, user: str, partner: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "imclient", "chat", self.url(user), partner, "--ca", CERTIFICATE]
        return self._start(user, *command)

    def wait_shown(self, user: str, text: str) -> None:
        wait_for(f"{user} gets {text!r}, see {self._folder}/{user}.log", lambda: text in self.log(user))

    def wait_sessions(self, count: int) -> None:
        wait_for(f"{count} sessions", lambda: sum(self.sessions().values()) == count)

    def drain(self, *arguments: object) -> None:
        command = [sys.executable, str(ROOT / "ops" / "drain"), *map(str, arguments)]
        print(f"$ ops/drain {' '.join(command[2:])}", flush=True)
        subprocess.run(command, check=True, env=self._environment)


def can_connect(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def stop(process: "subprocess.Popen[str]") -> None:
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def talk(demo: Demo, chats: "dict[str, subprocess.Popen[str]]", words: dict[str, str]) -> None:
    """Each says something, and the other one gets it."""
    for user, text in words.items():
        [other] = set(chats) - {user}
        stdin = chats[user].stdin
        assert stdin is not None
        stdin.write(text + "\n")
        demo.wait_shown(other, text)
        [line] = [line for line in demo.log(other).splitlines() if text in line]
        print(f"{other}'s screen:  {line}", flush=True)


def show(demo: Demo, redis: str, stay: bool) -> None:
    url = redis or demo.start_redis()
    for host in HOSTS:
        demo.start_host(host, url)
    demo.start_haproxy()
    for user in ("alice", "bob"):
        demo.register(user)
    say("alice and bob come in through HAProxy, over TLS")
    chats: dict[str, subprocess.Popen[str]] = {}
    for user, partner in (("alice", "bob"), ("bob", "alice")):
        demo.wait_sessions(len(chats))
        chats[user] = demo.chat(user, partner)
    demo.wait_sessions(2)
    say(f"sessions: {demo.sessions()}")
    talk(demo, chats, {"alice": "hello bob", "bob": "hello alice, are you at the other host?"})
    say("im1 is taken out: its clients come back at im2, and go on talking")
    demo.drain("im1", "--data", demo.data("im1"))
    demo.wait_sessions(2)
    say(f"sessions: {demo.sessions()}")
    talk(demo, chats, {"alice": "now I am at yours", "bob": "I did not notice anything"})
    say("im1 is started again, and brought back")
    demo.start_host("im1", url)
    demo.drain("--back", "im1")
    if stay:
        say(f"it runs until Ctrl-C: {demo.page} in a browser; imclient chat {demo.url('alice')} bob --ca {CERTIFICATE}")
        signal.pause()


@contextmanager
def ending_all() -> Iterator[ExitStack]:
    """The processes are stopped in the reverse order, however it ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        stack.callback(say, "everything is stopped")
        yield stack


def main() -> int:
    parser = argparse.ArgumentParser(prog="ops/cluster-demo", description="A cluster on this machine, for a minute.")
    parser.add_argument("--redis", default="", metavar="URL", help="a Redis that runs already; it keeps alice and bob")
    parser.add_argument("--stay", action="store_true", help="leave it running until Ctrl-C")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="imserver-demo-") as folder, ending_all() as stack:
            show(Demo(Path(folder), stack), arguments.redis, arguments.stay)
    except KeyboardInterrupt:
        return 0
    except (Failed, subprocess.CalledProcessError) as error:
        print(f"ops/cluster-demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
