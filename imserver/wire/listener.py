"""New connections. All workers wait on the same listening sockets, which the supervisor owns."""

import errno
import socket
from collections.abc import Sequence
from random import random

from imserver.observe.log import get_logger
from imserver.observe.metrics import Counters
from imserver.protocol import codec
from imserver.protocol.pushes import Bye
from imserver.session.keepalive import TimerWheel
from imserver.wire.poller import EXCLUSIVE
from imserver.wire.reactor import Handler, Reactor
from imserver.wire.relayed import Network, Open, Relayed, is_within

log = get_logger("listener")

ACCEPTS_PER_TURN = 64
FULL_REST_SECONDS = 1.0
FULL_RETRY_SECONDS = 5.0  # at least, and at most twice that: nobody knows when a place becomes free


def is_loopback(host: str) -> bool:
    """Whether a client with this address (empty: unknown) is on this machine."""
    return host == "::1" or host.startswith(("127.", "::ffff:127."))


class Listener:
    """Accepts while `reactor` has fewer than `most_sockets`; beyond, clients are told to come back later.

    A worker that is full has little else to do and would be the first at every new connection, to refuse it while
    others have room: so after some refusals it does not look for a second.
    """

    def __init__(
        self,
        sock: socket.socket,
        reactor: Reactor,
        wheel: TimerWheel,
        open_connection: Open,
        *,
        most_sockets: int,
        counters: Counters,
        proxies: Sequence[Network] = (),
    ) -> None:
        """`proxies`: where load balancers connect from, each of which says first on whose behalf."""
        self._sock = sock
        self._reactor = reactor
        self._wheel = wheel
        self._open = open_connection
        self._most = most_sockets
        self._counters = counters
        self._proxies = proxies
        self._listening = self._resting = False
        self._refused = False

    def start(self) -> None:
        self._look()
        self._listening = True

    def stop(self) -> None:
        """No new connections here; the socket stays open elsewhere."""
        if self._listening:
            self._listening = False
            if not self._resting:
                self._reactor.remove(self._sock.fileno())
            self._sock.close()

    def on_readable(self) -> None:
        self._refused = False
        self._accept()
        if self._refused:
            self._resting = True
            self._reactor.remove(self._sock.fileno())
            self._wheel.add(self, self._reactor.now + FULL_REST_SECONDS)

    def on_timer(self, now: float) -> None:
        """The rest is over."""
        if self._listening:
            self._resting = False
            self._look()

    def _look(self) -> None:
        self._reactor.add(self._sock.fileno(), self, EXCLUSIVE, outside=True)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                client, address = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # A client that went away in the queue is nothing; out of descriptors the next turn tries again.
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    log.error("out of descriptors", sockets=self._reactor.sockets)
                return
            self._take(client, address)

    def on_writable(self) -> None:
        """Never asked for."""

    def drop(self, why: str) -> None:
        """One connection less: the listener goes on."""

    def _take(self, client: socket.socket, address: object) -> None:
        client.setblocking(False)
        if self._reactor.sockets >= self._most:
            self._refuse(client)
            return
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._proxies and is_within(host, self._proxies):
            handler: Handler = Relayed(client, host, self._reactor, self._wheel, self._open)
        else:
            handler = self._open(client, host)
        self._reactor.add(client.fileno(), handler, outside=True)

    def _refuse(self, client: socket.socket) -> None:
        self._refused = True
        self._counters.refuse_login("full")
        after = round(FULL_RETRY_SECONDS * (1 + random()), 3)
        try:
            client.send(codec.encode_push(Bye("overloaded", "this server is full", True, after)) + b"\n")
        except OSError:
            pass  # it is being turned away anyway
        client.close()
