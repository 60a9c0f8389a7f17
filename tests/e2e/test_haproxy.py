"""The shipped HAProxy configuration in front of two hosts: what clients see, and what the operator does."""

import ast
import http.client
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from imserver.store.datadir import DataDir
from tests.conftest import required
from tests.e2e.client import Client, Ended, Refused, TcpClient, WebSocketClient
from tests.e2e.traffic import assert_survived
from tests.haproxy import CERTIFICATE, CONFIGURATION, ROOT, HAProxy, Site, configured, fronting, site, trusting
from tests.protocol.test_proxy_protocol import relayed
from tests.store.redis_process import wait_until


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    required("haproxy")
    with site(tmp_path_factory.mktemp("site"), log_level="debug", registration="loopback") as it:
        yield it


@pytest.fixture(scope="module")
def shared(behind: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HAProxy]:
    with fronting(tmp_path_factory.mktemp("haproxy"), **behind.values) as it:
        yield it


@pytest.fixture
def haproxy(shared: HAProxy) -> HAProxy:
    """One for all; both hosts are ready, and nobody is left of the test before."""
    shared.wait_up("im1", "im2")
    wait_until(lambda: shared.sessions() == 0, "it is empty")
    return shared


def connect_to_both(haproxy: HAProxy, stack: ExitStack) -> list[TcpClient]:
    """As many clients as it takes until each host has some: one that has just come back is given fewer."""
    clients: list[TcpClient] = []
    while not (haproxy.sessions("im1") and haproxy.sessions("im2")):
        clients.append(stack.enter_context(TcpClient(haproxy.tcp)))
        wait_until(lambda: haproxy.sessions() == len(clients), "it is passed on")
    return clients


TRANSPORTS: dict[str, Callable[[HAProxy], Client]] = {
    "tcp": lambda haproxy: TcpClient(haproxy.tcp),
    "tls": lambda haproxy: TcpClient(haproxy.tls, tls=trusting()),
    "ws": lambda haproxy: WebSocketClient(haproxy.http),
    "wss": lambda haproxy: WebSocketClient(haproxy.https, tls=trusting()),
}


# -- the file


@pytest.mark.parametrize("values", [{}, {"IM_PLAIN": "yes"}, {"IM_BY_USER": "yes"}, {"IM_USER": "root"}])
def test_haproxy_accepts_the_file(values: dict[str, str]) -> None:
    command = [str(required("haproxy")), "-c", "-f", str(CONFIGURATION)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=configured(IM_CERTIFICATE=CERTIFICATE, **{"IM_USER": "root", **values}),
    )
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr


def test_values_may_stand_in_a_file_read_before(tmp_path: Path) -> None:
    values = tmp_path / "10-values.cfg"
    values.write_text(f"global\n    setenv IM_CERTIFICATE {CERTIFICATE}\n    setenv IM_USER root\n")
    command = [str(required("haproxy")), "-c", "-f", str(values), "-f", str(CONFIGURATION)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=configured())
    assert done.returncode == 0, done.stderr


# -- conversations


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_conversation_across_the_hosts(haproxy: HAProxy, user: Callable[[str], str], transport: str) -> None:
    ann, ben = user("ann"), user("ben")
    with TRANSPORTS[transport](haproxy) as one:
        one.register(ann)
        one.enter(ann, "desk")
        with TRANSPORTS[transport](haproxy) as other:
            other.register(ben)
            other.enter(ben, "desk")
            one.tell(ben, "m1", "hello")
            other.tell(ann, "m2", "hello yourself")
            assert other.hear("msg")["body"] == "hello"
            assert one.hear("msg")["body"] == "hello yourself"
            assert [haproxy.sessions(host) for host in ("im1", "im2")] == [1, 1]


def test_tls_is_needed_unless_told_otherwise(behind: Site, tmp_path: Path) -> None:
    with fronting(tmp_path, **behind.values, IM_PLAIN="no") as haproxy:
        with pytest.raises(ConnectionRefusedError):
            TcpClient(haproxy.tcp)
        connection = http.client.HTTPConnection(*haproxy.http, timeout=10)
        connection.request("GET", "/a?b=c", headers={"Host": "chat.example.org"})
        response = connection.getresponse()
        assert (response.status, response.headers["location"]) == (308, "https://chat.example.org/a?b=c")
        connection.close()


def test_the_web_client_over_tls(haproxy: HAProxy) -> None:
    host, port = haproxy.https
    connection = http.client.HTTPSConnection(host, port, timeout=10, context=trusting())
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.status == 200
    assert b"imserver" in response.read()
    assert response.headers["strict-transport-security"] == "max-age=31536000"
    connection.request("GET", "/readyz")
    assert connection.getresponse().status == 404, "for the load balancer alone"
    connection.close()


def test_old_tls_is_refused(haproxy: HAProxy) -> None:
    old = trusting()
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        TcpClient(haproxy.tls, tls=old)


# -- who the client is


@pytest.mark.parametrize(("transport", "source"), [("tcp", "127.0.0.71"), ("tls", "127.0.0.72"), ("ws", "127.0.0.73")])
def test_the_hosts_know_the_clients_own_address(haproxy: HAProxy, behind: Site, transport: str, source: str) -> None:
    def is_logged() -> bool:
        line = f'"address":"{source}","proxy":"127.0.0.1"'
        return any(line in host.log for host in behind.hosts.values())

    kinds: dict[str, Callable[[], Client]] = {
        "tcp": lambda: TcpClient(haproxy.tcp, source=source),
        "tls": lambda: TcpClient(haproxy.tls, source=source, tls=trusting()),
        "ws": lambda: WebSocketClient(haproxy.http, source=source),
    }
    assert not is_logged()
    with kinds[transport]():
        wait_until(is_logged, "the address is logged")


@pytest.mark.parametrize(("address", "is_allowed"), [("203.0.113.9", False), ("127.0.0.5", True)])
def test_registration_is_for_clients_on_this_machine(
    behind: Site, user: Callable[[str], str], address: str, is_allowed: bool
) -> None:
    """The load balancer is on this machine; its clients need not be."""
    with TcpClient(behind.hosts["im1"].tcp) as client:
        client.send_bytes(relayed(IPv4Address(address)))
        if is_allowed:
            client.register(user("ann"))
        else:
            with pytest.raises(Refused, match="registration is closed here"):
                client.register(user("ann"))


def test_nobody_comes_in_beside_the_load_balancer_from_its_address(behind: Site) -> None:
    with TcpClient(behind.hosts["im1"].tcp) as client, pytest.raises(Ended):
        client.say("ping")
        client.receive()
    wait_until(lambda: '"why":"no PROXY protocol header"' in behind.hosts["im1"].log, "it is logged")


# -- health


def test_a_host_that_is_not_ready_gets_no_new_connections(
    haproxy: HAProxy, behind: Site, user: Callable[[str], str]
) -> None:
    name = user("ann")
    with ExitStack() as stack:
        connect_to_both(haproxy, stack)[0].register(name)
        present = haproxy.sessions("im2")
        behind.lock_out("im2")
        try:
            wait_until(lambda: not haproxy.is_up("im2"), "im2 is found not to be ready")
            assert haproxy.servers()["im_http/im2"]["check_code"] == "503"
            had = haproxy.figure("stot", "im_tcp/im2")
            after = [stack.enter_context(TcpClient(haproxy.tcp)) for _ in range(6)]
            for number, client in enumerate(after):
                client.enter(name, f"device{number}")
            assert haproxy.figure("stot", "im_tcp/im2") == had
            assert haproxy.sessions("im2") == present, "its present sessions stay"
        finally:
            behind.let_in("im2")
        haproxy.wait_up("im2")


# -- draining


def test_a_host_is_drained_and_brought_back(haproxy: HAProxy, behind: Site) -> None:
    host = behind.hosts["im1"]
    said: list[str] = []

    def drain_and_bring_back() -> None:
        out = haproxy.drain("im1", "--data", str(host.data))
        assert (out.returncode, out.stderr) == (0, "")
        said.append(out.stdout)
        assert haproxy.sessions("im1") == 0
        with DataDir(host.data).claim(0):
            pass
        host.start_again()
        back = haproxy.drain("--back", "im1")
        assert (back.returncode, back.stderr) == (0, "")
        said.append(back.stdout)

    traffic = assert_survived(haproxy, drain_and_bring_back, pairs=4)
    assert {code for device in traffic.devices for code in device.byes} == {"drain"}
    moved = [device for device in traffic.devices if device.byes]
    assert 0 < len(moved) < len(traffic.devices), "those of one host"
    assert "im1: no new connections; " in said[0]
    assert said[0].endswith("im1: out, and empty\n")
    assert said[1] == "im1: may be used, as soon as it is ready\nim1: in service\n"


def test_the_last_host_stays(haproxy: HAProxy) -> None:
    haproxy.ask("set server im_http/im2 state maint")
    haproxy.ask("set server im_tcp/im2 state maint")
    try:
        refused = haproxy.drain("im1")
        assert refused.returncode == 1
        assert refused.stderr == (
            "ops/drain: im1 is the last host in service in im_tcp; --last takes it out all the same\n"
        )
        assert haproxy.is_up("im1")
    finally:
        assert haproxy.drain("--back", "im2").returncode == 0


def test_sessions_that_do_not_leave(haproxy: HAProxy) -> None:
    with ExitStack() as stack:
        connect_to_both(haproxy, stack)
        left = haproxy.sessions("im2")
        late = haproxy.drain("im2", "--seconds", "0.1")
        assert late.returncode == 3
        assert late.stdout.endswith(f"im2: still there after 0.1 s: {left} sessions; it stays out\n")
    assert haproxy.drain("--back", "im2").returncode == 0


def test_a_host_may_have_several_lines(haproxy: HAProxy, behind: Site) -> None:
    host, port = behind.hosts["im1"].tcp
    haproxy.ask(f"add server im_tcp/im1.2 {host}:{port} send-proxy-v2 source 127.0.0.2")
    try:
        assert haproxy.drain("--back", "im1").returncode == 0
        assert haproxy.servers()["im_tcp/im1.2"]["status"] == "no check"
        assert haproxy.drain("im1").returncode == 0
        assert {haproxy.servers()[f"im_tcp/{name}"]["status"] for name in ("im1", "im1.2")} == {"DRAIN"}
    finally:
        haproxy.drain("--back", "im1")
        haproxy.ask("set server im_tcp/im1.2 state maint")
        haproxy.ask("del server im_tcp/im1.2")
    assert haproxy.is_up("im1", "im2")


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (["im3"], 1, "ops/drain: HAProxy knows no host im3; it knows im1, im2\n"),
        (["im1", "--data", "/nonexistent"], 1, "ops/drain: --data /nonexistent: no server runs there\n"),
        (["im1", "--socket", "/nonexistent"], 1, "at /nonexistent: No such file or directory; --socket names another"),
        (["--back", "im1", "--", "false"], 1, "ops/drain: false ended with status 1. im1 stays out\n"),
        (["--back", "im1", "--", "/nonexistent"], 1, "/nonexistent: No such file or directory. im1 stays out\n"),
        (["--back", "im1", "--data", "."], 2, "name the command that starts it"),
        ([], 2, "the following arguments are required: HOST"),
    ],
)
def test_what_can_not_be_done(haproxy: HAProxy, arguments: list[str], status: int, error: str) -> None:
    done = haproxy.drain(*arguments)
    assert done.returncode == status
    assert error in done.stderr
    assert haproxy.is_up("im1", "im2")


def test_a_command_stops_the_server(haproxy: HAProxy, behind: Site) -> None:
    host = behind.hosts["im2"]
    assert host.process is not None
    out = haproxy.drain("im2", "--", "kill", str(host.process.pid))
    assert (out.returncode, out.stderr) == (0, "")
    host.start_again()
    assert haproxy.drain("--back", "im2", "--", "true").returncode == 0


# -- limits


def page_for(haproxy: HAProxy, source: str) -> tuple[int, str]:
    """What a browser at this address gets, over a connection of its own."""
    host, port = haproxy.http
    connection = http.client.HTTPConnection(host, port, timeout=10, source_address=(source, 0))
    try:
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_a_source_that_connects_too_often_is_told_so(behind: Site, tmp_path: Path) -> None:
    with fronting(tmp_path, **behind.values, IM_SOURCE_RATE=5) as haproxy:
        page = partial(page_for, haproxy)
        haproxy.wait_up("im1")
        for _ in range(5):
            assert page("127.0.0.81")[0] == 200
        assert page("127.0.0.81") == (429, "too many connections from 127.0.0.81: connection-rate\n")
        with TcpClient(haproxy.tls, source="127.0.0.81", tls=trusting()) as client, pytest.raises(Ended):
            client.receive()
        assert page("127.0.0.82")[0] == 200, "others do not notice"
        with pytest.raises(OSError):
            for _ in range(100):
                page("127.0.0.81")  # an attack is not answered
        for frontend in ("im_http", "im_tcp~"):
            lines = [line for line in haproxy.log.splitlines() if f" {frontend} " in line and "127.0.0.81:" in line]
            assert any(line.endswith("refused=connection-rate") for line in lines)


def test_a_source_with_too_many_connections(behind: Site, tmp_path: Path) -> None:
    with fronting(tmp_path, **behind.values, IM_SOURCE_CONNECTIONS=2) as haproxy, ExitStack() as stack:
        haproxy.wait_up("im1", "im2")
        clients = [stack.enter_context(TcpClient(haproxy.tcp)) for _ in range(2)]
        for client in clients:
            client.ask("ping")
        with pytest.raises(Ended):
            stack.enter_context(TcpClient(haproxy.tcp)).receive()
        for client in clients:
            client.ask("ping")
        wait_until(lambda: "refused=connections" in haproxy.log, "it is logged")


# -- for the operator


def test_the_status_page_and_metrics(haproxy: HAProxy) -> None:
    for path, text in (("/", b"im_http"), ("/metrics", b"haproxy_server_current_sessions")):
        connection = http.client.HTTPConnection(*haproxy.status, timeout=10)
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200
        assert text in response.read()
        connection.close()


def test_a_user_has_a_host(behind: Site, tmp_path: Path) -> None:
    with fronting(tmp_path, **behind.values, IM_BY_USER="yes") as haproxy:
        haproxy.wait_up("im1", "im2")
        servers: dict[str, str] = {}
        for user in ("ann", "ben", "cid", "dan", "eve", "fay", "gus", "hal"):
            for _ in range(3):
                before = {host: haproxy.figure("stot", f"im_http/{host}") for host in behind.hosts}
                with WebSocketClient(haproxy.http, query=f"?u={user}"):
                    [host] = [it for it in before if haproxy.figure("stot", f"im_http/{it}") > before[it]]
                assert servers.setdefault(user, host) == host
        assert set(servers.values()) == {"im1", "im2"}


# -- all of it, as a newcomer sees it


def test_the_demonstration_shows_what_it_says(tmp_path_factory: pytest.TempPathFactory) -> None:
    required("haproxy")
    required("redis-server")
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, ROOT / "ops" / "cluster_demo.py"],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line for line in done.stdout.splitlines() if line.startswith("== sessions: ")]
    before, after = (ast.literal_eval(row.removeprefix("== sessions: ")) for row in rows)
    assert sorted(before.values()) == sorted(after.values()) == [0, 0, 1, 1]
    [drained] = re.findall(r"== (\w+) is taken out", done.stdout)
    assert (before[drained], after[drained]) == (1, 0)
    assert done.stdout.count("'s screen:  ") == 8
    assert done.stdout.endswith(f"{drained}: in service\n== everything is stopped\n")
    assert list(folder.iterdir()) == []
    assert subprocess.run(["pgrep", "-f", folder], capture_output=True, check=False).stdout == b""
