"""A real HAProxy on the shipped configuration, and two hosts of the server behind it, on one Redis.

All values come from the environment, as an operator gives them; the file itself is used as it is.
"""

import csv
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conftest import required
from tests.server import Server
from tests.store.redis_process import RedisProcess, running, wait_until

ROOT = Path(__file__).parents[1]
CONFIGURATION = ROOT / "ops" / "haproxy.cfg"
CERTIFICATE = ROOT / "tests" / "client" / "certificate.pem"  # for localhost and 127.0.0.1, with its key
HOSTS = {"im1": "127.0.0.11", "im2": "127.0.0.12"}
REDIS_OPTIONS = ("--appendonly", "yes", "--appendfsync", "no", "--maxmemory-policy", "noeviction")

Address = tuple[str, int]


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTIFICATE)


def free_ports_everywhere(count: int) -> list[int]:
    """Ports that nobody uses now on any address of this machine."""
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def configured(**values: object) -> dict[str, str]:
    """The environment for HAProxy: with these values, and none of this machine's."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("IM")}
    return own | {name: str(value) for name, value in values.items()}


class HAProxy:
    """In front of the hosts, whose ports `values` name. Plain and TLS, on free ports."""

    def __init__(self, directory: Path, **values: object) -> None:
        """`values`: see `global` in the configuration."""
        self.directory = directory
        self.socket = directory / "haproxy.sock"
        ports = dict(zip(("tls", "https", "tcp", "http", "status"), free_ports_everywhere(5), strict=True))
        self.tls, self.https, self.tcp, self.http, self.status = (("127.0.0.1", port) for port in ports.values())
        self.environment = configured(
            **{f"IM_{name.upper()}": f"127.0.0.1:{port}" for name, port in ports.items()},
            **{
                "IM1": HOSTS["im1"],
                "IM2": HOSTS["im2"],
                "IM_PLAIN": "yes",
                "IM_CERTIFICATE": CERTIFICATE,
                "IM_MAXCONN": 1000,
                "IM_CHECK": "100ms",
                "IM_SOCKET": self.socket,
                "IM_LOG": "stdout",
                "IM_USER": "root",
                **values,
            },
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.directory / "haproxy.log").read_text()

    def start(self) -> None:
        """Returns when it listens."""
        command = [str(required("haproxy")), "-db", "-f", str(CONFIGURATION)]
        with (self.directory / "haproxy.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)
        wait_until(self._answers, f"HAProxy runs: {self.log}")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            return bool(self.servers())
        except OSError:
            return False

    def stop(self) -> None:
        """At once, as SIGTERM is meant."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
            self._process = None

    def ask(self, command: str) -> str:
        """An answer of the runtime API."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self.socket))
            sock.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: sock.recv(65536), b"")).decode()

    def servers(self) -> dict[str, dict[str, str]]:
        """What is known of `im_tcp/im1` and so on."""
        rows = csv.DictReader(self.ask("show stat -1 4 -1").removeprefix("# ").splitlines())
        return {f"{row['pxname']}/{row['svname']}": row for row in rows}

    def figure(self, name: str, server: str) -> int:
        return int(self.servers()[server][name])

    def sessions(self, host: str = "") -> int:
        """Of one host, or of all."""
        return sum(int(row["scur"]) for row in self.servers().values() if host in ("", row["svname"]))

    def is_up(self, *hosts: str) -> bool:
        servers = self.servers()
        return all(servers[f"{kind}/{host}"]["status"].startswith("UP") for host in hosts for kind in KINDS)

    def wait_up(self, *hosts: str) -> None:
        wait_until(lambda: self.is_up(*hosts), f"{hosts} are up: {self.servers()}")

    def drain(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`ops/drain`, as an operator calls it."""
        command = [sys.executable, str(ROOT / "ops" / "drain"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=self.environment)


KINDS = ("im_tcp", "im_http")


@contextmanager
def fronting(directory: Path, **values: object) -> Iterator[HAProxy]:
    directory.mkdir(parents=True, exist_ok=True)
    haproxy = HAProxy(directory, **values)
    try:
        haproxy.start()
        yield haproxy
    finally:
        haproxy.stop()


class Site:
    """Two hosts of one worker each. A host can be locked out of Redis: each has a user there."""

    def __init__(self, redis: RedisProcess, hosts: Mapping[str, Server], ports: Mapping[str, int]) -> None:
        self.redis = redis
        self.hosts = hosts
        self.values = {"IM_TCP_PORT": ports["tcp"], "IM_HTTP_PORT": ports["http"]}

    def lock_out(self, name: str) -> None:
        with self.redis.client() as client:
            client.execute_command("ACL", "SETUSER", name, "off")
            client.execute_command("CLIENT", "KILL", "USER", name)

    def let_in(self, name: str) -> None:
        with self.redis.client() as client:
            client.execute_command("ACL", "SETUSER", name, "on")


@contextmanager
def site(directory: Path, **settings: object) -> Iterator[Site]:
    ports = dict(zip(("tcp", "http"), free_ports_everywhere(2), strict=True))
    with ExitStack() as stack:
        redis = stack.enter_context(
            running(RedisProcess(required("redis-server"), directory / "redis", *REDIS_OPTIONS))
        )
        hosts = {}
        for name, address in HOSTS.items():
            with redis.client() as client:
                client.execute_command("ACL", "SETUSER", name, "on", ">secret", "~*", "&*", "+@all")
            url = redis.url.replace("//", f"//{name}:secret@")
            server = Server(
                directory / name,
                "--redis",
                url,
                workers=1,
                host=address,
                ports=ports,
                **{"proxy_protocol_from": "127.0.0.1", "drain_seconds": 1, **settings},
            )
            hosts[name] = stack.enter_context(server)
        yield Site(redis, hosts, ports)
