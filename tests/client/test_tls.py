"""The client over TLS, on loopback sockets. `certificate.pem` is for localhost, signed by itself, with its key."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import anyio
import imclient
import pytest
import trio

from tests.client.peer import Peer

CERTIFICATE = Path(__file__).parent / "certificate.pem"
on_both = pytest.mark.parametrize("loop", ["trio", "asyncio"])


def serving_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


async def listen(peer: Peer, *, is_websocket: bool) -> int:
    """Serves on a free port and returns it."""
    [listener] = await trio.open_ssl_over_tcp_listeners(0, serving_context(), host="127.0.0.1", https_compatible=True)

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await peer.serve(stream, is_websocket)
        except ssl.SSLError:
            pass  # a client that does not trust us

    peer.nursery.start_soon(trio.serve_listeners, serve, [listener])
    assert isinstance(listener.transport_listener, trio.SocketListener)
    port: int = listener.transport_listener.socket.getsockname()[1]
    return port


@contextmanager
def served(*, is_websocket: bool = False) -> Iterator[tuple[Peer, int]]:
    """A server at which alice has an account, in a thread of its own, and its port."""
    ready: Queue[tuple[Peer, int, trio.lowlevel.TrioToken]] = Queue()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            peer = Peer(nursery)
            peer.server.add_user("alice")
            ready.put((peer, await listen(peer, is_websocket=is_websocket), trio.lowlevel.current_trio_token()))

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    peer, port, token = ready.get()
    try:
        yield peer, port
    finally:
        token.run_sync_soon(peer.nursery.cancel_scope.cancel)
        thread.join()


@on_both
@pytest.mark.parametrize("scheme", ["tls", "wss"])
def test_a_message_over_tls(scheme: str, loop: str) -> None:
    async def main() -> None:
        context = ssl.create_default_context(cafile=CERTIFICATE)
        url = f"{scheme}://alice@localhost:{port}"
        async with imclient.connect(url, password="secret", ssl_context=context) as alice:
            await alice.send("alice", "hi")

    with served(is_websocket=scheme == "wss") as (peer, port):
        anyio.run(main, backend=loop)
        assert [entry.body for entry in peer.server.logs["alice"]] == ["hi"]


@on_both
def test_a_certificate_that_nobody_vouches_for_is_refused(loop: str) -> None:
    async def main() -> None:
        with pytest.raises(imclient.ConnectionLost, match="certificate verify failed"):
            async with imclient.connect(f"tls://alice@localhost:{port}", password="secret"):
                pass

    with served() as (_, port):
        anyio.run(main, backend=loop)
