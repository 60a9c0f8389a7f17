"""Redis over TLS. The whole contract runs over it, too (the backend "encrypted")."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from imserver.errors import SetupError
from imserver.store.redis_handshake import HandshakeFailed, shake_hands
from imserver.store.shards import find_shards
from imserver.store.tls import TlsSocket
from tests.conftest import required
from tests.store.redis_process import CERTIFICATE, TlsProcess, free_ports, running, wait_until

SLOTS = ((0, 5000), (5001, 10000), (10001, 16383))
BOTH = ("--bind", "127.0.0.1", "127.0.0.2")  # the certificate names one of them


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsProcess]:
    with running(TlsProcess(required("redis-server"), tmp_path_factory.mktemp("tls"), *BOTH)) as it:
        yield it


def connect(url: str) -> TlsSocket:
    async def main() -> TlsSocket:
        connected = await shake_hands(url, client_name="test", channels=())
        assert isinstance(connected.sock, TlsSocket)
        return connected.sock

    return trio.run(main)


def test_a_read_leaves_nothing_behind_that_a_poller_would_not_tell_of(server: TlsProcess) -> None:
    with connect(server.tls_url()) as sock:
        body = b"x" * 100_000
        sock.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%b\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" % (len(body), body))
        expected, received = b"+OK\r\n$%d\r\n%b\r\n" % (len(body), body), b""

        async def receive() -> None:
            nonlocal received
            while len(received) < len(expected):
                await trio.lowlevel.wait_readable(sock)
                received += sock.recv(100)  # less than one record
                assert not sock.pending()

        trio.run(receive)
        assert received == expected
        with pytest.raises(BlockingIOError):
            sock.recv(100)


def test_what_is_written_in_part_goes_on(server: TlsProcess) -> None:
    commands = [b"*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (size, b"e" * size) for size in (20_000_000, 10)]
    with connect(server.tls_url()) as sock:

        async def talk() -> int:
            data, received = commands[0], 0
            server.stop()
            with pytest.raises(BlockingIOError):
                sock.send(data)  # more than the kernel takes while nobody reads
            server.resume()
            data += commands[1]  # more has come meanwhile
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, data)
                while received < 20_000_010:
                    await trio.lowlevel.wait_readable(sock)
                    try:
                        received += sock.recv().count(b"e")
                    except BlockingIOError:
                        continue
            return received

        async def send(data: bytes) -> None:
            while data:
                await trio.lowlevel.wait_writable(sock)
                try:
                    data = data[sock.send(data) :]
                except BlockingIOError:
                    continue

        assert trio.run(talk) == 20_000_010


def test_a_certificate_that_nobody_vouches_for_is_refused(server: TlsProcess) -> None:
    url = f"rediss://localhost:{server.tls_port}"
    with pytest.raises(HandshakeFailed, match=r"(?i)certificate.verify.failed"):
        connect(url)
    with pytest.raises(SetupError, match=r"(?i)certificate.verify.failed"):
        find_shards(url, patience_seconds=0)
    connect(f"{url}?ssl_cert_reqs=none").close()


def test_a_certificate_for_another_name_is_refused(server: TlsProcess) -> None:
    url = server.tls_url().replace("localhost", "127.0.0.2")
    with pytest.raises(HandshakeFailed, match=r"(?i)mismatch"):
        connect(url)
    connect(f"{url}&ssl_check_hostname=no").close()


def test_a_file_that_is_not_there_is_named(server: TlsProcess) -> None:
    with pytest.raises(HandshakeFailed, match="No such file"):
        connect(server.tls_url(certificate="/nowhere.pem"))


def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    options = ("--tls-auth-clients", "yes")
    with running(TlsProcess(required("redis-server"), tmp_path, *options)) as server:
        with pytest.raises(HandshakeFailed):
            connect(server.tls_url())
        connect(f"{server.tls_url()}&ssl_certfile={CERTIFICATE}&ssl_keyfile={CERTIFICATE}").close()


def test_a_cluster_over_tls_is_followed_from_one_node_to_all(tmp_path: Path) -> None:
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(running(TlsProcess(required("redis-server"), tmp_path / str(number), *options)))
            for number, options in enumerate(cluster_options())
        ]
        join(nodes)
        shards = find_shards(nodes[0].tls_url())
        assert {shard.url.replace("127.0.0.1", "localhost") for shard in shards} == {it.tls_url() for it in nodes}
        for shard in shards:
            connect(shard.url).close()


def cluster_options() -> Iterator[tuple[str, ...]]:
    for bus in free_ports(3):
        yield ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--tls-cluster", "yes")


def join(nodes: list[TlsProcess]) -> None:
    """Each has some slots of its own, and hears of the others."""
    for number, node in enumerate(nodes):
        with node.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", *SLOTS[number])
            info = nodes[0].client().config_get("cluster-port")
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].tls_port, info["cluster-port"])
    for node in nodes:
        with node.client() as client:
            wait_until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), "joined")
