"""The core of the client knows neither sockets nor tasks: tests join it with a server by nothing but frames."""

import pytest

from tests.test_layers import SOCKETS, imports, modules, within

SANS_IO = (
    "address",
    "answers",
    "backoff",
    "amendments",
    "confirming",
    "conversations",
    "core",
    "cursor",
    "entries",
    "errors",
    "events",
    "handshake",
    "journal",
    "keepalive",
    "outbox",
    "people",
    "reader",
    "said",
    "stages",
    "text",
    "thread",
)


@pytest.mark.parametrize("name", SANS_IO)
def test_the_core_is_sans_io(name: str) -> None:
    [(module, file)] = modules(f"imclient.{name}").items()
    found = set(imports(module, file.read_text(encoding="utf-8")))
    own = {other for other in found if within(other, ("imclient",))}
    allowed = tuple(f"imclient.{other}" for other in SANS_IO)
    assert [other for other in found if within(other, SOCKETS)] == []
    assert [other for other in own if not within(other, allowed)] == []
