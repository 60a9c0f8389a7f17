"""Clients that do not keep up: a slow one, and one that reads nothing at all. Raw sockets, another device each time."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from imswarm.connection import Address

_BUFFER_BYTES = 4096
_SIP_BYTES = 512
_SIP_SECONDS = 0.05
_LOGIN_SECONDS = 10.0


@contextmanager
def stuck_reader(server: Address, token: str, device: str) -> Iterator[None]:
    """A device that logs in, which brings it all that was ever said, and reads none of it."""
    with _logged_in(server, token, device):
        yield


@contextmanager
def slow_reader(server: Address, token: str, device: str) -> Iterator[None]:
    """A device that logs in and reads some 10 KB a second."""
    with _logged_in(server, token, device) as connection:
        over = threading.Event()
        reader = threading.Thread(target=_sip, args=(connection, over))
        reader.start()
        try:
            yield
        finally:
            over.set()
            reader.join()


@contextmanager
def _logged_in(server: Address, token: str, device: str) -> Iterator[socket.socket]:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)  # before connecting, to be small
        connection.settimeout(_LOGIN_SECONDS)
        connection.connect((server.host, server.port))
        login = {"op": "login", "ref": 1, "token": token, "device": device}
        connection.sendall(json.dumps(login).encode() + b"\n")
        connection.settimeout(_SIP_SECONDS)
        yield connection


def _sip(connection: socket.socket, over: threading.Event) -> None:
    with suppress(ConnectionError):  # the server may end it: that is its right
        while not over.wait(_SIP_SECONDS):
            with suppress(TimeoutError):
                if not connection.recv(_SIP_BYTES):
                    return
