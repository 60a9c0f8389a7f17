"""The sockets that listen. The supervisor owns them, so that no connection is refused while workers come and go."""

import socket

import trio

from imserver.endpoints import HostPort
from imserver.errors import SetupError

BACKLOG = 4096  # what a reconnect storm brings while a worker is busy; the kernel may cap it (net.core.somaxconn)
# What the kernel takes of a client that does not read, beyond what is on its way: by itself it would take 4 MB, and a
# few hundred of them would use up what all the machine's connections share (net.ipv4.tcp_mem). Inherited by accept.
UNSENT_BYTES = 128 * 1024


async def listen(setting: str, address: HostPort) -> list[trio.SocketListener]:
    """Listens on every address that the host name has. Raises SetupError, which names the setting.

    With port 0 only on the first of them, since others would get other ports and nobody would know them.
    """
    try:
        listeners = await trio.open_tcp_listeners(address.port, host=address.host, backlog=BACKLOG)
    except OSError as error:
        why = error.strerror or str(error)
        raise SetupError(f"{setting}: can't listen on {address}: {why}; choose another with --{setting}") from error
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # on Linux and macOS
        for listener in listeners:
            listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    if address.port == 0:
        for listener in listeners[1:]:
            await listener.aclose()
        del listeners[1:]
    return listeners


def bound_to(listeners: list[trio.SocketListener]) -> HostPort:
    """Where the first of them listens."""
    host, port = listeners[0].socket.getsockname()[:2]
    return HostPort(host, port)


def descriptors(listeners: list[trio.SocketListener]) -> list[int]:
    return [listener.socket.fileno() for listener in listeners]
