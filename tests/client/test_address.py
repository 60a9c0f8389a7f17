"""URLs."""

import pytest
from imclient.address import Address, parse_url

from imserver.errors import BadRequest
from imserver.model import UserId

ALICE = UserId("alice")


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("alice@localhost", Address("tcp", ALICE, "localhost", 7400, ""), "tcp://alice@localhost:7400"),
        ("Alice@localhost:99", Address("tcp", ALICE, "localhost", 99, ""), "tcp://alice@localhost:99"),
        ("tcp://alice@10.0.0.1/", Address("tcp", ALICE, "10.0.0.1", 7400, ""), "tcp://alice@10.0.0.1:7400"),
        ("tls://alice@h", Address("tls", ALICE, "h", 7400, ""), "tls://alice@h:7400"),
        ("ws://alice@h", Address("ws", ALICE, "h", 7480, "/ws"), "ws://alice@h:7480/ws"),
        ("wss://alice@h/chat/ws", Address("wss", ALICE, "h", 443, "/chat/ws"), "wss://alice@h:443/chat/ws"),
        ("ws://alice@[::1]:80/", Address("ws", ALICE, "::1", 80, "/ws"), "ws://alice@[::1]:80/ws"),
    ],
)
def test_urls(url: str, address: Address, shown: str) -> None:
    assert parse_url(url) == address
    assert str(address) == shown
    assert parse_url(shown) == address


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://alice@h", "'http' is not a scheme; allowed are tcp, tls, ws, wss"),
        ("alice:secret@h", "a password does not belong there"),
        ("localhost", "it must say who you are: tcp://USER@HOST"),
        ("alice@", "it must name a host"),
        ("alice@h:port", "the port in 'alice@h:port' is not a number from 1 to 65535"),
        ("alice@h:70000", "the port in 'alice@h:70000' is not a number from 1 to 65535"),
        ("alice@h:0", "the port in 'alice@h:0' is not a number from 1 to 65535"),
        ("tcp://alice@h/ws", "'/ws' is a path, and only ws and wss have one"),
        ("al ice@h", "user: 'al ice' is not a user name"),
        ("alice@[::1", "is not a URL"),
    ],
)
def test_wrong_urls(url: str, text: str) -> None:
    with pytest.raises(BadRequest) as raised:
        parse_url(url)
    assert text in str(raised.value)
