"""The program against the real server."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import imclient
import pytest
import trio

from tests.client.program import Home, tcp_url, ws_url
from tests.server import Server

Url = Callable[[Server, str], str]
Name = Callable[[str], str]
NewHome = Callable[[str], Home]

ENTER, CTRL_C, CTRL_D = "\r", "\x03", "\x04"


@pytest.fixture
def url() -> Url:
    return tcp_url


@pytest.fixture
def alice(server: Server, url: Url, name: Name) -> str:
    """Her URL. She has an account."""
    address = url(server, name("alice"))
    trio.run(imclient.register, address, "secret")
    return address


@pytest.fixture
def bob(server: Server, url: Url, name: Name, new_home: NewHome) -> tuple[str, Home]:
    address = url(server, name("bob"))
    trio.run(imclient.register, address, "secret")
    return address, new_home("bob")


both_ways = pytest.mark.parametrize("url", [tcp_url, ws_url], ids=["tcp", "ws"])


def user_of(address: str) -> str:
    return address.partition("://")[2].partition("@")[0]


# -- register, send, tail


@both_ways
def test_a_message_from_one_machine_to_another(alice: str, home: Home, bob: tuple[str, Home]) -> None:
    bobs, bobs_home = bob
    home.run("send", alice, user_of(bobs), "hello", "bob")
    home.run("send", alice, user_of(bobs), given="from a\npipe: \N{GRINNING FACE}\n")
    lines = bobs_home.run("tail", bobs, "--json", "--count", "2").stdout.splitlines()
    first, second = map(json.loads, lines)
    assert set(first) == {"at", "from", "device", "to", "id", "body"}
    assert (first["from"], first["to"], first["body"]) == (user_of(alice), user_of(bobs), "hello bob")
    assert second["body"] == "from a\npipe: \N{GRINNING FACE}"
    assert all(line.isascii() for line in lines)


def test_tail_goes_on_where_it_was(alice: str, home: Home, bob: tuple[str, Home]) -> None:
    bobs, bobs_home = bob
    for text in ("one", "two", "three"):
        home.run("send", alice, user_of(bobs), text)
    one = json.loads(bobs_home.run("tail", bobs, "--json", "--count", "1").stdout)
    assert one["body"] == "one"
    two = bobs_home.run("tail", bobs, "--count", "1").stdout
    assert two.endswith(f"{user_of(alice)}: two\n")
    again = bobs_home.run("tail", bobs, "--json", "--since", one["at"], "--count", "2").stdout
    assert [json.loads(line)["body"] for line in again.splitlines()] == ["two", "three"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tail_prints_at_once_and_ends_quietly(
    alice: str, home: Home, bob: tuple[str, Home], number: signal.Signals
) -> None:
    bobs, bobs_home = bob
    with bobs_home.started("tail", bobs, "--json") as tail:
        home.run("send", alice, user_of(bobs), "hi")
        assert tail.message()["body"] == "hi"
        assert tail.end(number) == 0


def test_the_token_stands_for_the_password(alice: str, home: Home, tmp_path: Path) -> None:
    home.run("send", alice, user_of(alice), "by password")
    without = Home(home.path, password=None)
    without.run("send", alice, user_of(alice), "note to self")
    stranger = Home(tmp_path / "stranger", password=None)
    assert "set IMCLIENT_PASSWORD" in stranger.run("send", alice, user_of(alice), "x", status=1).stderr


def test_a_wrong_password_is_refused(alice: str, new_home: NewHome) -> None:
    guesser = new_home("guesser")
    guesser.environment["IMCLIENT_PASSWORD"] = "guess"
    done = guesser.run("send", alice, user_of(alice), "x", status=1)
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_errors_are_sentences(alice: str, home: Home) -> None:
    assert "no such user" in home.run("send", alice, "nobody-of-this-name", "x", status=1).stderr
    assert "taken" in home.run("register", alice, status=1).stderr
    assert "not a scheme" in home.run("send", "smtp://alice@localhost", "bob", "x", status=1).stderr
    assert "Connection refused" in home.run("tail", "alice@127.0.0.1:1", status=1).stderr
    assert "not a position" in home.run("tail", alice, "--since", "yesterday", status=1).stderr


@both_ways
def test_register_makes_an_account_and_logs_this_machine_in(
    server: Server, url: Url, name: Name, tmp_path: Path
) -> None:
    home = Home(tmp_path / "state", password=None)
    address = url(server, name("eve"))
    assert (
        home.run("register", address, "--password-stdin", given="hush\n").stdout
        == f"{user_of(address)} is registered\n"
    )
    home.run("send", address, user_of(address), "hi")


def test_output_that_cannot_be_written(alice: str, home: Home) -> None:
    home.run("send", alice, user_of(alice), "hi")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            home.command("tail", alice),
            env=home.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "Error: standard output can't be written: No space left on device\n")
    with home.started("tail", alice, "--since", "0-0") as tail:
        assert tail.process.stdout is not None
        tail.process.stdout.close()
        assert tail.process.wait(30) == 1
        assert tail.process.stderr is not None
        assert tail.process.stderr.read() == b""


# -- devices


def test_two_terminals_are_two_devices_and_runs_in_turn_are_one(alice: str, home: Home, new_home: NewHome) -> None:
    with home.started("tail", alice, "--json") as first, home.started("tail", alice, "--json") as second:
        new_home("other").run("send", alice, user_of(alice), "zero")
        assert first.message()["id"] == second.message()["id"]
        home.run("send", alice, user_of(alice), "one")
        assert first.message()["id"] == second.message()["id"]
        assert first.end(signal.SIGTERM) == second.end(signal.SIGTERM) == 0
    for text in ("two", "three"):
        home.run("send", alice, user_of(alice), text)
    messages = home.run("tail", alice, "--json", "--since", "0-0", "--count", "4").stdout.splitlines()
    _, one, two, three = (json.loads(line)["device"] for line in messages)
    assert two == three != one
    assert len(list(home.path.rglob("*.json"))) == 3


def test_a_device_named_twice_is_refused(alice: str, home: Home) -> None:
    with home.started("tail", alice, "--json", "--device", "desk") as tail:
        home.run("send", alice, user_of(alice), "hi")
        assert tail.message()["body"] == "hi"
        done = home.run("tail", alice, "--device", "desk", status=1)
        assert done.stderr == "Error: the device desk is in use by another imclient\n"


def test_a_device_that_logs_in_elsewhere_ends_this_one(alice: str, home: Home, new_home: NewHome) -> None:
    with home.started("tail", alice, "--json", "--device", "desk") as tail:
        home.run("send", alice, user_of(alice), "hi")
        tail.line()
        with new_home("other").started("tail", alice, "--device", "desk"):
            assert tail.process.wait(30) == 1
        assert tail.process.stderr is not None
        assert b"Error: " in tail.process.stderr.read()


# -- trouble


@both_ways
def test_nothing_is_lost_when_workers_are_killed(server: Server, alice: str, home: Home, bob: tuple[str, Home]) -> None:
    bobs, bobs_home = bob
    with bobs_home.started("tail", bobs, "--json") as tail, home.started("chat", alice, user_of(bobs)) as chat:
        chat.write("before\n")
        assert tail.message()["body"] == "before"
        server.kill_workers()
        for number in range(20):
            chat.write(f"{number}\n")
        server.kill_workers()
        chat.write("after\n")
        assert [tail.message()["body"] for _ in range(21)] == [*map(str, range(20)), "after"]
        assert chat.process.stdin is not None
        chat.process.stdin.close()
        assert chat.process.wait(30) == 0
        assert tail.end(signal.SIGTERM) == 0


def test_a_server_that_comes_back_has_everything(server: Server, alice: str, home: Home, bob: tuple[str, Home]) -> None:
    bobs, bobs_home = bob
    with bobs_home.started("tail", bobs, "--json") as tail:
        home.run("send", alice, user_of(bobs), "before")
        assert tail.message()["body"] == "before"
        server.stop()
        server.start()
        home.run("send", alice, user_of(bobs), "after")
        assert tail.message()["body"] == "after"
    everything = bobs_home.run("tail", bobs, "--json", "--since", "0-0", "--count", "2").stdout
    assert [json.loads(line)["body"] for line in everything.splitlines()] == ["before", "after"]


# -- chat


def test_chat_in_a_pipe(alice: str, home: Home, bob: tuple[str, Home]) -> None:
    bobs, bobs_home = bob
    bobs_home.run("send", bobs, user_of(alice), "hi alice\nand more")
    done = home.run("chat", alice, user_of(bobs), given="one\n\n//two\n/history\nlast, with no line end")
    assert done.stdout.endswith(f"{user_of(bobs)}: hi alice\n         and more\n")
    received = bobs_home.run("tail", bobs, "--json", "--count", "4").stdout.splitlines()
    bodies = [json.loads(line)["body"] for line in received]
    assert bodies == ["hi alice\nand more", "one", "/two", "last, with no line end"]


def test_chat_in_a_pipe_fails_where_a_message_is_refused(alice: str, home: Home) -> None:
    done = home.run("chat", alice, "nobody-of-this-name", given="hi\n", status=1)
    assert "! not sent to nobody-of-this-name: hi" in done.stderr
    assert "to whom?" in home.run("chat", alice, given="hi\n", status=1).stderr


def test_chat_in_a_pipe_that_stays_open_is_ended_by_a_signal(alice: str, home: Home) -> None:
    with home.started("chat", alice, user_of(alice)) as chat, home.started("tail", alice, "--json") as tail:
        chat.write("note\n")
        assert tail.message()["body"] == "note"
        assert chat.end(signal.SIGTERM) == 0


def test_chat_on_a_terminal(alice: str, home: Home, bob: tuple[str, Home], new_home: NewHome) -> None:
    bobs, bobs_home = bob
    a, b = user_of(alice), user_of(bobs)
    for number in (0, 24):
        bobs_home.run("send", bobs, a, f"old {number}")
    with home.terminal("chat", alice, b) as screen:
        screen.see(f"you are {a}")
        screen.see(f"{b}: old 24")
        screen.see("online")
        screen.type("hello bob" + ENTER)
        screen.see(rf"\d\d:\d\d:\d\d {a}: hello bob")
        screen.type("half a line")
        bobs_home.run("send", bobs, a, "while you type")
        screen.see(f"{b}: while you type")
        screen.type(" and the rest" + ENTER)
        screen.see(f"{a}: half a line and the rest")
        screen.type("/to NOBODY!" + ENTER)
        screen.see("! /to: 'NOBODY!' is not a user name")
        screen.type(f"/to {a}" + ENTER)
        screen.see(f"— {a} —")
        bobs_home.run("send", bobs, a, "elsewhere")
        screen.see(rf"\[{b}\] {b}: elsewhere")
        screen.type(f"/to {b}" + ENTER)
        screen.see("old 0")
        screen.see("elsewhere")
        screen.type("/history 5" + ENTER)
        screen.see("there is nothing earlier")
        screen.type("/help" + ENTER)
        screen.see("/quit")
        screen.type("/quit" + ENTER)
        assert screen.end() == 0


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D])
def test_chat_is_left_by_a_key(alice: str, home: Home, key: str) -> None:
    with home.terminal("chat", alice) as screen:
        screen.see("online")
        screen.type(key)
        assert screen.end() == 0


def test_chat_is_left_by_a_signal(alice: str, home: Home) -> None:
    with home.terminal("chat", alice) as screen:
        screen.see("online")
        screen.process.terminate()
        assert screen.end() == 0


def test_chat_asks_for_the_password(alice: str, tmp_path: Path) -> None:
    with Home(tmp_path / "new", password=None).terminal("chat", alice) as screen:
        screen.see("Password of")
        screen.type("secret" + ENTER)
        screen.see("online")
        assert "secret" not in screen.seen
        screen.type(CTRL_D)
        assert screen.end() == 0


def test_chat_tells_that_it_is_offline_and_goes_on(
    server: Server, alice: str, home: Home, bob: tuple[str, Home]
) -> None:
    bobs, bobs_home = bob
    a, b = user_of(alice), user_of(bobs)
    with home.terminal("chat", alice, b) as screen:
        screen.see("online")
        server.stop()
        screen.see(r"\* offline: ")
        screen.see("offline, reconnecting")
        screen.type("said while offline" + ENTER)
        screen.see("1 not sent yet")
        server.start()
        screen.see(rf"{a}: said while offline")
        screen.see("online")
        screen.type(CTRL_D)
        assert screen.end() == 0
    message = json.loads(bobs_home.run("tail", bobs, "--json", "--count", "1").stdout)
    assert message["body"] == "said while offline"


def test_chat_with_a_store_begins_without_the_server(
    server: Server, alice: str, home: Home, bob: tuple[str, Home]
) -> None:
    bobs, bobs_home = bob
    a, b = user_of(alice), user_of(bobs)
    with home.terminal("chat", alice, b, "--store") as screen:
        screen.see("online")
        screen.type("said before" + ENTER)
        screen.see(f"{a}: said before")
        bobs_home.run("send", bobs, a, "an answer")
        screen.see(f"{b}: an answer")
        screen.type("/conversations" + ENTER)
        screen.see(rf"\* {b}")
        screen.see("online")  # the next prompt: between two of them Ctrl-D is not for the program
        screen.type(CTRL_D)
        assert screen.end() == 0
    server.stop()
    with home.terminal("chat", alice, b, "--store") as screen:
        screen.see(r"\* offline: ")
        screen.see(f"{a}: said before")
        screen.see(f"{b}: an answer")
        screen.type("/conversations" + ENTER)
        screen.see(rf"\* {b}  {b}: an answer")
        screen.type("/contacts" + ENTER)
        screen.see("! not connected")
        screen.type("said while offline" + ENTER)
        screen.see("1 not sent yet")
        screen.type(CTRL_D)
        screen.see("messages that are sent next time: 1")
        assert screen.end() == 0
    server.start()
    with home.terminal("chat", alice, b, "--store") as screen:
        screen.see("online")
        message = json.loads(bobs_home.run("tail", bobs, "--json", "--count", "3").stdout.splitlines()[2])
        assert message["body"] == "said while offline"
        screen.type(CTRL_D)
        assert screen.end() == 0
