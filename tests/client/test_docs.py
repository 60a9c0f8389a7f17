"""The examples of docs/client.md do what the page says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import imclient
import pytest
import trio

from tests.client.program import ROOT, Home, tcp_url
from tests.server import Server

PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
PROGRAMS = [code for language, code in BLOCKS if language == "python"]
[SESSION] = [code for language, code in BLOCKS if language == "console"]


def at(server: Server, text: str) -> str:
    """`text` for this server instead of the one with the default ports."""
    for default, (host, port) in {"127.0.0.1:7400": server.tcp, "127.0.0.1:7480": server.http}.items():
        text = text.replace(default, f"{host}:{port}")
    return text


@pytest.fixture(scope="module")
def people(server: Server) -> None:
    for user in ("alice", "bob", "echo"):
        trio.run(imclient.register, tcp_url(server, user), "secret")


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_python(server: Server, program: str, home: Home, tmp_path: Path) -> None:
    """Bob says something to everybody first, so that whoever waits for a message gets one."""

    async def greet() -> None:
        async with imclient.connect(tcp_url(server, "bob"), password="secret", device="greeter") as bob:
            await bob.send("alice", "hello alice")
            await bob.send("echo", "hello echo")

    trio.run(greet)
    command = [sys.executable, "-W", "error", "-c", at(server, program)]
    done = subprocess.run(
        command, env=home.environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def commands() -> Iterator[tuple[str, str]]:
    """Each command with the output shown below it."""
    for part in re.split(r"^\$ ", SESSION, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def matches(output: str, shown: str) -> bool:
    """`...` stands for anything."""
    return re.fullmatch(re.escape(shown).replace(re.escape("..."), ".*"), output) is not None


def test_console(tmp_path: Path, home: Home) -> None:
    program = f"{sys.executable} -m imclient"
    with Server(tmp_path / "data") as server:
        for command, shown in commands():
            done = subprocess.run(
                at(server, command).replace("imclient", program),
                shell=True,
                env=home.environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert matches(done.stdout, shown), (command, done.stdout)
