"""An XMPP server as seen from outside: whether it lets clients in, and accounts there (XEP-0077)."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from imswarm.connection import Address
from imswarm.deployment import DeploymentError
from imswarm.peers.launch import DEVICE
from imswarm.peers.xmpp import StanzaFraming, open_stream, register_request
from imswarm.population import Account

PASSWORD = "correct horse"
_REGISTER_SECONDS = 60.0
_BATCH = 32


def answers(address: Address) -> bool:
    """Whether it answers the opening of a stream."""
    try:
        with socket.create_connection((address.host, address.port), 5.0) as stream:
            stream.sendall(open_stream())
            return b"PLAIN" in next(_stanzas(stream))
    except (OSError, DeploymentError):
        return False


def register(address: Address, prefix: str, count: int) -> list[Account]:
    """Accounts `PREFIX0`, `PREFIX1`, ..., all with one password. Raises DeploymentError."""
    accounts = [Account(f"{prefix}{number}", DEVICE, PASSWORD) for number in range(count)]
    try:
        with socket.create_connection((address.host, address.port), _REGISTER_SECONDS) as stream:
            stanzas = _stanzas(stream)
            stream.sendall(open_stream())
            next(stanzas)  # the features
            for first in range(0, count, _BATCH):
                batch = accounts[first : first + _BATCH]
                stream.sendall(b"".join(register_request(account.user, PASSWORD) for account in batch))
                for _ in batch:
                    _check_registered(next(stanzas))
    except OSError as error:
        raise DeploymentError(f"accounts cannot be registered: {error}") from error
    return accounts


def _stanzas(stream: socket.socket) -> Iterator[bytes]:
    framing = StanzaFraming()
    while data := stream.recv(65536):
        yield from framing.feed(data)
    raise DeploymentError("accounts cannot be registered: the server closed the connection")


def _check_registered(stanza: bytes) -> None:
    if b"'result'" not in stanza and b'"result"' not in stanza:
        raise DeploymentError(f"accounts cannot be registered: {stanza.decode(errors='replace')}")
