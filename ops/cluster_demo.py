"""What `ops/cluster-demo` shows: a deployment of several hosts, and that it does not matter which of them is lost."""

import argparse
import csv
import os
import shutil
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

from demo_network import Network, make_network
from imswarm.cluster import PORTS, Cluster, ClusterError, running_cluster

from imserver.store.partitions import partition_of, slot_of_partition

ROOT = Path(__file__).resolve().parents[1]
CERTIFICATE = ROOT / "tests" / "client" / "certificate.pem"  # its key is no secret: good for a demo, and nothing else
HOSTS = ("im1", "im2", "im3", "im4")
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
    """The processes, each with a log in `folder`.

    Messages wait for no replica (`durability`, docs/delivery.md): with one replica each, the loss of a primary would
    stop them until there is another one. What a dead primary takes along, the clients send again.
    """

    def __init__(self, folder: Path, network: Network, stack: ExitStack) -> None:
        self._folder, self._network, self._stack = folder, network, stack
        self._hosts: dict[str, subprocess.Popen[str]] = {}
        self._tcp, self._http, self._tls, https, plain, web, status = free_ports(7)
        self.page, self._status = f"http://127.0.0.1:{web}/", f"http://127.0.0.1:{status}/"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("IM")},
            **{name.upper(): address for name, address in network.addresses.items()},
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
            "IMSERVER_PROXY_PROTOCOL_FROM": network.front,
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

    def start_cluster(self) -> Cluster:
        say("a Redis Cluster: three primaries, each with a replica")
        program = Path(shutil.which("redis-server") or "redis-server")
        ports = free_ports(PORTS)
        return self._stack.enter_context(running_cluster(program, self._folder / "redis", ports, self._network.front))

    def start_host(self, name: str, redis: str) -> None:
        address = self._network.addresses[name]
        say(f"host {name}: imserver at {address}")
        options = {
            "tcp": f"{address}:{self._tcp}",
            "http": f"{address}:{self._http}",
            "admin": "127.0.0.1:0" if self._network.inside(name) else f"{address}:0",
            "redis": redis,
            "data": self.data(name),
        }
        words = [word for option, value in options.items() for word in (f"--{option}", value)]
        serve = [sys.executable, "-m", "imserver.cli", "serve", *words]
        (self.data(name) / "run.json").unlink(missing_ok=True)
        self._hosts[name] = self._start(name, *self._network.inside(name), *serve)
        wait_for(f"{name} is ready, see {self._folder}/{name}.log", (self.data(name) / "run.json").exists)

    def kill_host(self, name: str) -> None:
        """As if its power failed: nothing of it says or writes another word."""
        supervisor = self._hosts[name].pid
        os.kill(supervisor, signal.SIGSTOP)  # else it would start another worker
        workers = subprocess.run(["pgrep", "-P", str(supervisor)], capture_output=True, text=True, check=True)
        for pid in (*map(int, workers.stdout.split()), supervisor):
            os.kill(pid, signal.SIGKILL)
        self._hosts[name].wait()

    def data(self, name: str) -> Path:
        return self._folder / name

    def start_haproxy(self) -> None:
        say("HAProxy in front, with ops/haproxy.cfg")
        self._start("haproxy", "haproxy", "-db", "-f", ROOT / "ops" / "haproxy.cfg")
        wait_for(f"HAProxy finds all hosts ready, see {self._folder}/haproxy.log", self._are_up)

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

    def busy_host(self) -> str:
        """One that has sessions."""
        return next(host for host, sessions in self.sessions().items() if sessions)

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
    cluster = None if redis else demo.start_cluster()
    url = redis if cluster is None else ",".join(node.url for node in cluster.nodes)
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
    talk(demo, chats, {"alice": "hello bob", "bob": "hello alice, are you at another host?"})
    drained = demo.busy_host()
    say(f"{drained} is taken out: its clients come back elsewhere, and go on talking")
    demo.drain(drained, "--data", demo.data(drained))
    demo.wait_sessions(2)
    say(f"sessions: {demo.sessions()}")
    talk(demo, chats, {"alice": "have you moved?", "bob": "I did not notice anything"})
    killed = demo.busy_host()
    say(f"{killed} dies, without a word")
    demo.kill_host(killed)
    talk(demo, chats, {"alice": "still there?", "bob": "still here"})
    if cluster is not None:
        show_failover(demo, cluster, chats)
    say(f"{drained} and {killed} are started again; HAProxy sees {killed} by itself, {drained} is brought back")
    for host in (drained, killed):
        demo.start_host(host, url)
    demo.drain("--back", drained)
    if stay:
        say(f"it runs until Ctrl-C: {demo.page} in a browser; imclient chat {demo.url('alice')} bob --ca {CERTIFICATE}")
        signal.pause()


def show_failover(demo: Demo, cluster: Cluster, chats: "dict[str, subprocess.Popen[str]]") -> None:
    primary = cluster.holder(slot_of_partition(partition_of("bob")))
    say(f"the primary with bob's messages dies ({primary.url}); its replica takes its place")
    primary.kill()
    talk(demo, chats, {"alice": "and now?", "bob": "I have everything"})
    cluster.wait_replaced(primary)
    primary.start()


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
            network = make_network(HOSTS, stack)
            say(network.about)
            show(Demo(Path(folder), network, stack), arguments.redis, arguments.stay)
    except KeyboardInterrupt:
        return 0
    except (Failed, ClusterError, subprocess.CalledProcessError) as error:
        print(f"ops/cluster-demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
