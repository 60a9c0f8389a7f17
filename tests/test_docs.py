"""The documentation's examples are what the code says."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

import imserver
from imserver.protocol import codec
from imserver.protocol.commands import COMMANDS
from imserver.protocol.pushes import UnknownPush

DOCS = Path(__file__).parents[1] / "docs"
PROTOCOL = (DOCS / "protocol.md").read_text()
FRAMES = [line for block in re.findall(r"```json\n(.*?)```", PROTOCOL, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("frame", FRAMES)
def test_every_example_is_a_frame(frame: str) -> None:
    if "op" in json.loads(frame):
        codec.decode_command(frame.encode())
    else:
        assert not isinstance(codec.decode_server_frame(frame.encode()), UnknownPush)


def test_every_command_is_documented() -> None:
    assert FRAMES
    for command in COMMANDS:
        assert f"`{command.__struct_config__.tag}`" in PROTOCOL


STOPS = [line.split()[0] for line in (imserver.__doc__ or "").splitlines() if re.match(r"    \w+\.\w+\.", line)]


@pytest.mark.parametrize("stop", STOPS)
def test_the_path_of_a_message_is_where_the_map_says(stop: str) -> None:
    package, module, *names = stop.split(".")
    found: object = import_module(f"imserver.{package}.{module}")
    for name in names:
        found = getattr(found, name)
    assert len(STOPS) == 10


def test_links_lead_somewhere() -> None:
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md", DOCS.parent / "loadtest" / "README.md"]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
