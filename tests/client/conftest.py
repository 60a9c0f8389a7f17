"""People for the tests that run against a real server."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.client.program import Home
from tests.conftest import required
from tests.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests of a module: each has users of its own."""
    required("redis-server")
    with Server(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state")


@pytest.fixture
def new_home(tmp_path: Path) -> Callable[[str], Home]:
    """Another machine."""
    return lambda name: Home(tmp_path / name)


@pytest.fixture
def name() -> Callable[[str], str]:
    """`alice` to a name that no other test uses, since they may share a server."""
    suffix = secrets.token_hex(4)
    return lambda first: f"{first}-{suffix}"
