"""Quiet: what is logged here is of no use to anybody."""

from collections.abc import Iterator

import pytest
import structlog

from imserver.observe import log


@pytest.fixture(autouse=True, scope="package")
def quiet() -> Iterator[None]:
    log.configure("critical")
    yield
    structlog.reset_defaults()
