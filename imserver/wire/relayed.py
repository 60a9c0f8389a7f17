"""A connection that a load balancer passes on, until its PROXY protocol header says whose it is.

Nothing of this remains afterwards: the client's connection takes the socket over, and finds in it what follows the
header, since nothing more than the header was taken out.
"""

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from imserver.errors import FramingError
from imserver.observe.log import get_logger
from imserver.protocol.proxy_protocol import MOST_HEADER_BYTES, parse_proxy_header
from imserver.session.keepalive import TimerWheel
from imserver.wire.reactor import Handler, Reactor

log = get_logger("relayed")

HEADER_SECONDS = 5.0  # load balancers send it at once

Network = IPv4Network | IPv6Network
Open = Callable[[socket.socket, str], Handler]  # makes a client's connection, of its socket and its address


def is_within(host: str, networks: Sequence[Network]) -> bool:
    address = ip_address(host)
    return any(address in network for network in networks)


class Relayed:
    """Gives its socket, and its place in the reactor, to what `open_connection` makes; or closes it."""

    __slots__ = ("_begin", "_open", "_proxy", "_reactor", "_sock")

    def __init__(
        self, sock: socket.socket, proxy: str, reactor: Reactor, wheel: TimerWheel, open_connection: Open
    ) -> None:
        """`proxy`: the load balancer's address."""
        self._sock: socket.socket | None = sock
        self._proxy = proxy
        self._reactor = reactor
        self._open = open_connection
        self._begin = b""  # of the header, taken out of the socket
        wheel.add(self, reactor.now + HEADER_SECONDS)

    def on_readable(self) -> None:
        assert self._sock is not None
        try:
            ahead = self._sock.recv(MOST_HEADER_BYTES, socket.MSG_PEEK)
            header = parse_proxy_header(self._begin + ahead)
            taken = self._sock.recv(len(ahead) if header is None else header.size - len(self._begin))
        except BlockingIOError:
            return
        except FramingError as error:
            self.drop(str(error))
            return
        except OSError as error:
            self.drop(error.strerror or "broken")
            return
        if header is not None:
            self._pass_on(header.source if header.is_relayed else self._proxy)
        elif taken:
            self._begin += taken
        else:
            self.drop("closed before its PROXY protocol header was complete")

    def _pass_on(self, client: str) -> None:
        sock, self._sock = self._sock, None
        assert sock is not None
        log.debug("client", address=client, proxy=self._proxy)
        self._reactor.replace(sock.fileno(), self._open(sock, client))

    def on_writable(self) -> None:
        """Never asked for."""

    def on_timer(self, now: float) -> None:
        if self._sock is not None:
            self.drop(f"no PROXY protocol header within {HEADER_SECONDS:g} s")

    def drop(self, why: str) -> None:
        """Not a client's fault: the load balancer's settings and `proxy_protocol_from` do not agree."""
        sock, self._sock = self._sock, None
        if sock is not None:
            log.warning("connection refused", proxy=self._proxy, why=why)
            self._reactor.remove(sock.fileno())
            sock.close()
