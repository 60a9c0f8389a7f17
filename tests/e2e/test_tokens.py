"""Tokens and accounts as the operator's commands change them, while the server runs."""

import json
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.e2e.client import Client, Refused, TcpClient, WebSocketClient
from tests.server import Server

Names = Callable[[str], str]


@pytest.fixture
def ann(tcp: Callable[[], TcpClient], user: Names) -> str:
    name = user("ann")
    tcp().register(name)
    return name


def entered(client: Client, user: str, device: str, token: str | None = None) -> str:
    """Logs in; the new token."""
    fields = {} if token is None else {"token": token}
    found: str = client.log_in(user, device, **fields)["token"]
    client.backlog()
    return found


def code_of_login(client: Client, **fields: str) -> str:
    with pytest.raises(Refused) as refused:
        client.ask("login", **fields)
    return refused.value.code


def test_a_token_logs_its_own_device_in(tcp: Callable[[], TcpClient], ann: str) -> None:
    token = entered(tcp(), ann, "desk")
    client = tcp()
    assert code_of_login(client, token=token, device="phone") == "bad-credentials"
    assert code_of_login(client, token=token, device="desk", user="somebody.else") == "bad-credentials"
    assert code_of_login(client, token=token[:-4] + "AAA=", device="desk") == "bad-credentials"
    assert client.ask("login", token=token, device="desk", user=ann)["user"] == ann


def test_revoking_one_device(
    shared: Server, tcp: Callable[[], TcpClient], websocket: Callable[[], WebSocketClient], ann: str
) -> None:
    desk, phone = tcp(), websocket()
    desk_token, phone_token = entered(desk, ann, "desk"), entered(phone, ann, "phone")
    shared.cli("token", "revoke", ann, "--device", "phone")
    bye = phone.hear_rest()[-1]
    assert (bye["ev"], bye["code"], bye["reconnect"]) == ("bye", "revoked", False)
    assert desk.ask("ping") == {}
    client = tcp()
    assert code_of_login(client, token=phone_token, device="phone") == "expired-token"
    entered(client, ann, "phone")
    entered(tcp(), ann, "desk", desk_token)


def test_revoking_a_user(shared: Server, tcp: Callable[[], TcpClient], ann: str) -> None:
    clients = {device: tcp() for device in ("desk", "phone")}
    old = {device: entered(client, ann, device) for device, client in clients.items()}
    shared.cli("token", "revoke", ann)
    for device, client in clients.items():
        assert client.hear_rest()[-1]["code"] == "revoked"
        assert code_of_login(tcp(), token=old[device], device=device) == "expired-token"
    new = entered(tcp(), ann, "desk")
    entered(tcp(), ann, "desk", new)


def test_an_expired_token(shared: Server, tcp: Callable[[], TcpClient], ann: str) -> None:
    line = shared.cli("token", "mint", ann, "--device", "desk", "--lifetime-seconds", "1")
    name, device, token = line.split()
    assert (name, device) == (ann, "desk")
    born = time.time()
    client = tcp()
    while (code := login_code(client, token)) is None:  # it is good until its second is over
        assert time.time() < born + 10
        client = tcp()
    assert code == "expired-token"


def login_code(client: Client, token: str) -> str | None:
    try:
        client.ask("login", token=token, device="desk")
    except Refused as refused:
        return refused.code
    return None


def test_a_minted_token_is_good(shared: Server, tcp: Callable[[], TcpClient], ann: str) -> None:
    token = shared.cli("token", "mint", ann, "--device", "desk").split()[2]
    entered(tcp(), ann, "desk", token)


def test_rotated_keys_leave_tokens_good(shared: Server, tcp: Callable[[], TcpClient], ann: str) -> None:
    old = entered(tcp(), ann, "desk")
    shared.cli("token", "rotate")
    new = shared.cli("token", "mint", ann, "--device", "phone").split()[2]
    for _ in range(4):  # on whichever worker: the new key is not known there yet
        entered(tcp(), ann, "phone", new)
        entered(tcp(), ann, "desk", old)


def test_a_disabled_account(shared: Server, tcp: Callable[[], TcpClient], ann: str) -> None:
    desk = tcp()
    token = entered(desk, ann, "desk")
    shared.cli("user", "disable", ann)
    assert desk.hear_rest()[-1]["code"] == "revoked"
    client = tcp()
    assert code_of_login(client, token=token, device="desk") in {"expired-token", "not-allowed"}
    assert code_of_login(client, user=ann, password=f"{ann}'s password", device="desk") == "not-allowed"
    shared.cli("user", "enable", ann)
    entered(client, ann, "desk")


def test_a_changed_password(shared: Server, tcp: Callable[[], TcpClient], ann: str) -> None:
    desk = tcp()
    token = entered(desk, ann, "desk")
    shared.cli("user", "passwd", ann, "--password-stdin", stdin="new\n")
    assert desk.hear_rest()[-1]["code"] == "revoked"
    client = tcp()
    assert code_of_login(client, token=token, device="desk") == "expired-token"
    assert code_of_login(client, user=ann, password=f"{ann}'s password", device="desk") == "bad-credentials"
    assert client.ask("login", user=ann, password="new", device="desk")["user"] == ann


def test_adding_listing_and_deleting_a_user(shared: Server, tcp: Callable[[], TcpClient], user: Names) -> None:
    name = user("zoe")
    shared.cli("user", "add", name, "--password-stdin", stdin=f"{name}'s password\n")
    rows = [json.loads(line) for line in shared.cli("user", "list", name, "--json").splitlines()]
    assert [(row["user"], row["disabled"]) for row in rows] == [(name, False)]
    desk = tcp()
    entered(desk, name, "desk")
    shared.cli("user", "delete", name)
    assert desk.hear_rest()[-1]["ev"] == "bye"
    assert code_of_login(tcp(), user=name, password=f"{name}'s password", device="desk") == "bad-credentials"
    assert shared.cli("user", "list", name) == ""


def test_a_command_for_nobody_says_so(shared: Server) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        shared.cli("token", "revoke", "nobody.there")
    assert "no such user" in failure.value.stderr


def test_the_workers_are_listed(shared: Server) -> None:
    nodes = [json.loads(line) for line in shared.cli("node", "list", "--json").splitlines()]
    assert {node["pid"] for node in nodes} >= set(shared.worker_pids)
