"""What all tests share."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.server import Server

# Programs that tests run, by the name under which tests ask for them: where they may be found, and how to get them.
COMPONENTS = {
    "redis-server": (["redis-server"], "Debian: apt-get install redis-server; macOS: brew install redis"),
    "haproxy": (["haproxy"], "Debian: apt-get install haproxy; macOS: brew install haproxy"),
    "prosody": (["prosody"], "Debian: apt-get install prosody; macOS: brew install prosody"),
    "node": (["node", "nodejs"], "Debian: apt-get install nodejs; macOS: brew install node"),
    "chromium": (["chromium", "chromium-browser", "google-chrome"], "Debian: apt-get install chromium"),
}

# A deadline for one example would measure the machine, not the code.
hypothesis.settings.register_profile("imserver", deadline=None)
hypothesis.settings.load_profile("imserver")


@pytest.fixture(scope="session")
def require() -> Callable[[str], Path]:
    """`required`, for fixtures and tests."""
    return required


def required(component: str) -> Path:
    """The path of a program named in COMPONENTS. Where there is none: skips the test, or with CI=true fails it."""
    programs, how = COMPONENTS[component]
    for path in filter(None, map(shutil.which, programs)):
        return Path(path)
    missing = f"{component} is missing ({how})"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running imserver with two workers and its embedded store."""
    required("redis-server")
    with Server(tmp_path / "data") as running:
        yield running
