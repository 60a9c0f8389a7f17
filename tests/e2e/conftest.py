"""The server that most end-to-end tests share, and clients of it."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conftest import required
from tests.e2e.client import Client, TcpClient, WebSocketClient
from tests.server import Server

_numbers = itertools.count()

Connect = Callable[..., Client]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it was; the time-outs are short, to be waited for."""
    required("redis-server")
    settings: dict[str, Any] = {"login_timeout_seconds": 2, "max_bad_frames": 5}
    with Server(tmp_path_factory.mktemp("shared") / "data", **settings) as running:
        yield running


@pytest.fixture
def user() -> Callable[[str], str]:
    """Names that no other test has, from names that are easy to read."""
    number = next(_numbers)
    return lambda name: f"{name}{number}"


@pytest.fixture
def tcp(shared: Server) -> Iterator[Callable[[], TcpClient]]:
    """Opens clients over TCP, and closes them."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(TcpClient(shared.tcp))


@pytest.fixture
def websocket(shared: Server) -> Iterator[Callable[[], WebSocketClient]]:
    """The same over WebSocket."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(WebSocketClient(shared.http))
