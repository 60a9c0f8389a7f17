"""Bots, made and ended by the operator while the server runs."""

import json
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.e2e.client import Refused, TcpClient
from tests.server import Server

Names = Callable[[str], str]
Tcp = Callable[[], TcpClient]
YEAR_SECONDS = 365 * 86_400


@pytest.fixture
def ann(tcp: Tcp, user: Names) -> str:
    name = user("ann")
    tcp().register(name)
    return name


def made(server: Server, name: str, *options: str) -> str:
    """A bot; its token."""
    printed, device, token = server.cli("bot", "add", name, *options).split()
    assert (printed, device) == (name, "bot")
    return token


def refusal(server: Server, *command: str, stdin: str = "") -> str:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        server.cli(*command, stdin=stdin)
    assert failure.value.returncode == 1
    return str(failure.value.stderr)


def listed(server: Server) -> dict[str, object]:
    rows = [json.loads(line) for line in server.cli("bot", "list", "--json").splitlines()]
    return {row["user"]: (row["owner"], row["disabled"]) for row in rows}


def test_a_bot_comes_in_by_its_token_and_goes_on_with_the_one_it_is_given(
    shared: Server, tcp: Tcp, user: Names, ann: str
) -> None:
    robot = user("robot")
    token = made(shared, robot, "--owner", ann)
    welcome = tcp().log_in(robot, "bot", token=token)
    assert welcome["expires"] > time.time() + 9 * YEAR_SECONDS, "else it would be locked out after a month"
    tcp().enter(robot, "bot", token=welcome["token"])
    assert listed(shared)[robot] == (ann, False)


def test_a_bot_has_no_password_and_gets_none(shared: Server, tcp: Tcp, user: Names) -> None:
    robot = user("robot")
    made(shared, robot)
    for password in ("", f"{robot}'s password"):
        with pytest.raises(Refused):
            tcp().ask("login", user=robot, password=password, device="bot")
    assert "is a bot" in refusal(shared, "user", "passwd", robot, "--password-stdin", stdin="secret\n")


def test_a_bots_token_is_revoked(shared: Server, tcp: Tcp, user: Names) -> None:
    robot = user("robot")
    client = tcp()
    client.enter(robot, "bot", token=made(shared, robot))
    shared.cli("token", "revoke", robot)
    assert client.hear_rest()[-1]["code"] == "revoked"
    again = shared.cli("token", "mint", robot, "--device", "bot").split()[2]
    assert tcp().log_in(robot, "bot", token=again)["expires"] > time.time() + 9 * YEAR_SECONDS


def test_a_deleted_bot_is_gone(shared: Server, tcp: Tcp, user: Names) -> None:
    robot = user("robot")
    token = made(shared, robot)
    shared.cli("bot", "delete", robot)
    assert robot not in listed(shared)
    with pytest.raises(Refused):
        tcp().log_in(robot, "bot", token=token)
    made(shared, robot)


def test_people_are_no_bots(shared: Server, ann: str) -> None:
    assert ann not in listed(shared)
    assert "is no bot" in refusal(shared, "bot", "delete", ann)
    assert "taken" in refusal(shared, "bot", "add", ann)
    assert "there is no user" in refusal(shared, "bot", "add", f"{ann}.robot", "--owner", f"{ann}.nobody")
    assert f"{ann}.robot" not in listed(shared)
