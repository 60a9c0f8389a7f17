"""The real `imserver hooks`, between a real server and a real endpoint that behaves badly."""

import base64
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import required
from tests.e2e.client import TcpClient
from tests.hooks.endpoint import PATIENCE_SECONDS, Endpoint, Hang, Request, cut, status
from tests.hooks.process import HooksProcess, running
from tests.server import Server

CERTIFICATE = Path(__file__).parent.parent / "client" / "certificate.pem"
SECRET = bytes(range(32))
GROUP_BACKLOG = 5
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    required("redis-server")
    with Server(tmp_path_factory.mktemp("server") / "data", group_backlog_entries=GROUP_BACKLOG) as started:
        yield started


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as opened:
        yield opened


@pytest.fixture
def alice(server: Server) -> Iterator[TcpClient]:
    """Somebody who talks to the bot."""
    with TcpClient(server.tcp) as client:
        name = f"alice{next(_numbers)}"
        client.register(name)
        client.enter(name, "desk")
        client.name = name  # type: ignore[attr-defined]
        yield client


class Bot:
    """An account, and what its hook says in the settings."""

    def __init__(self, server: Server) -> None:
        self.name = f"robot{next(_numbers)}"
        self._server = server
        server.cli("bot", "add", self.name)

    def hook(self, url: str, name: str = "tickets", **more: object) -> dict[str, Any]:
        token = self._server.cli("token", "mint", self.name, "--device", f"hook-{name}").split()[2]
        secret = f"whsec_{base64.b64encode(SECRET).decode()}"
        return {"name": name, "account": self.name, "token": token, "url": url, "secret": secret, **more}


@pytest.fixture
def bot(server: Server) -> Bot:
    return Bot(server)


@pytest.fixture
def hooks(tmp_path: Path, server: Server) -> Iterator[Callable[..., HooksProcess]]:
    """Starts the process with these hooks; killed at the end."""
    with ExitStack() as stack:

        def start(*settings: dict[str, Any]) -> HooksProcess:
            host, port = server.tcp
            return stack.enter_context(running(HooksProcess(tmp_path, f"tcp://{host}:{port}", *settings)))

        yield start


def say(alice: TcpClient, to: str, *bodies: str) -> None:
    for body in bodies:
        alice.tell(to, f"m{next(_numbers)}", body)


def event(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.body)["event"]
    return found


def said(requests: list[Request]) -> list[str]:
    return [event(request)["body"] for request in requests]


def until(condition: Callable[[], object], what: str) -> None:
    """Looks again and again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)


def is_signed(request: Request, secret: bytes = SECRET) -> bool:
    """As an endpoint checks it: docs/hooks.md."""
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    given = request.headers["webhook-signature"].split()
    is_recent = abs(time.time() - int(request.headers["webhook-timestamp"])) < 300
    return is_recent and any(hmac.compare_digest(f"v1,{expected}", each) for each in given)


# -- all goes well


def test_messages_are_posted_in_their_order_once_each_and_signed(
    endpoint: Endpoint, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    bodies = [f"message {number}" for number in range(30)]
    say(alice, bot.name, *bodies[:10])  # before the hook is there
    process = hooks(bot.hook(endpoint.url))
    say(alice, bot.name, *bodies[10:])
    requests = endpoint.take(30)
    assert said(requests) == bodies
    assert len({request.key for request in requests}) == 30
    assert all(map(is_signed, requests))
    assert not is_signed(requests[0], b"another secret")
    first = json.loads(requests[0].body)
    assert (first["id"], first["hook"], first["account"]) == (requests[0].key, "tickets", bot.name)
    assert {"ev", "at", "from", "device", "to", "id", "body"} <= set(first["event"])
    until(lambda: process.metric("delivered_total", hook="tickets") == 30, "all are counted")
    assert process.metric("posts_total", hook="tickets") == 30
    assert json.loads(process.get("/status"))["hooks"][0]["connected"] is True
    assert process.get("/healthz") == "ok\n"


def test_a_new_secret_and_the_old_one_both_sign(
    endpoint: Endpoint, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    other = bytes(reversed(range(32)))
    secrets = [f"whsec_{base64.b64encode(secret).decode()}" for secret in (other, SECRET)]
    hooks(bot.hook(endpoint.url, secret=secrets))
    say(alice, bot.name, "hello")
    request = endpoint.next()
    assert is_signed(request, other)
    assert is_signed(request, SECRET)


def test_an_answer_is_said_in_the_conversation(
    endpoint: Endpoint, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    process = hooks(bot.hook(endpoint.url))
    endpoint.answers += [
        status(200, '{"reply": "pong"}'),
        status(200, '{"reply": {"text": "an object"}}'),
        status(200, '{"reply": 5}'),
        status(200, "not JSON"),
        status(204),
    ]
    say(alice, bot.name, "1", "2", "3", "4", "5")
    assert alice.hear("msg")["body"] == "pong"
    answer = alice.hear("msg")
    assert (answer["body"], answer["bot"], answer["from"]) == ({"text": "an object"}, True, bot.name)
    until(lambda: process.metric("delivered_total", hook="tickets") == 5, "all are delivered")
    assert process.metric("replies_total", hook="tickets") == 2
    [refused] = process.lines("reply can't be sent")
    assert "$.reply" in refused["why"]


def test_in_a_group_the_answer_goes_to_the_group(
    endpoint: Endpoint, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    group = alice.ask("group.create", name="Tea", members=[bot.name])["group"]
    hooks(bot.hook(endpoint.url))
    endpoint.answers.append(status(200, '{"reply": "four"}'))
    say(alice, group, "when?")
    answer = alice.wait_for(lambda frame: frame.get("body") == "four")
    assert (answer["log"], answer["from"]) == (group, bot.name)
    assert endpoint.next().key.startswith(f"tickets/{group}/")


def test_only_what_is_wanted_is_posted(
    endpoint: Endpoint, server: Server, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    name = alice.name  # type: ignore[attr-defined]
    other = Bot(server)
    group = alice.ask("group.create", name="Tea", members=[bot.name])["group"]
    with TcpClient(server.tcp) as carol:
        carol.register(f"carol{next(_numbers)}")
        hooks(bot.hook(endpoint.url, events=["msg", "group", "contact"], conversations=[name, group]))
        assert event(endpoint.next())["change"] == "joined"  # in the own log
        server.cli("send", other.name, bot.name, "a bot says")
        server.cli("send", bot.name, name, "its own account says")
        alice.ask("contact.add", user=bot.name, note="hi")
        contact = event(endpoint.next())
        assert (contact["ev"], contact["user"], contact["state"], contact["note"]) == ("contact", name, "asking", "hi")
        alice.ask("group.set", group=group, topic="now")
        changed = event(endpoint.next())
        assert (changed["ev"], changed["change"], changed["topic"]) == ("group", "set", "now")
        say(alice, group, "in the group")
        say(alice, bot.name, "to the bot")
    assert sorted(said(endpoint.take(2))) == ["in the group", "to the bot"]
    assert endpoint.requests.empty()


def test_bots_and_the_account_itself_are_heard_where_the_hook_wants_it(
    endpoint: Endpoint, server: Server, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    other = Bot(server)
    hooks(bot.hook(endpoint.url, own=True, bots=True))
    server.cli("send", other.name, bot.name, "a bot says")
    server.cli("send", bot.name, other.name, "its own account says")
    assert said(endpoint.take(2)) == ["a bot says", "its own account says"]


# -- the endpoint fails


def test_one_that_fails_in_every_way_gets_the_same_key_until_it_takes_it(
    endpoint: Endpoint, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    hang = Hang()
    endpoint.answers += [status(500), cut, status(301, location="/other"), hang, status(429, retry_after="2")]
    process = hooks(bot.hook(endpoint.url, timeout_seconds=1))
    say(alice, bot.name, "first", "second")
    requests = endpoint.take(7)
    hang.release()
    assert said(requests) == ["first"] * 6 + ["second"]
    assert len({request.key for request in requests[:6]}) == 1
    assert len({request.body for request in requests[:6]}) == 1
    assert all(map(is_signed, requests))
    assert requests[5].came - requests[4].came >= 2, "Retry-After is honoured"
    until(lambda: process.metric("delivered_total", hook="tickets") == 2, "both are delivered")
    reasons = ("status", "timeout", "connection")
    counted = [process.metric("failures_total", hook="tickets", reason=reason) for reason in reasons]
    assert counted == [3, 1, 1]
    assert len(process.lines("endpoint fails")) == 1
    assert len(process.lines("endpoint is back")) == 1


def test_one_that_is_not_there_gets_all_of_it_when_it_is(
    endpoint: Endpoint, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    endpoint.shut()
    process = hooks(bot.hook(endpoint.url))
    say(alice, bot.name, "1", "2", "3")
    until(lambda: process.metric("failures_total", hook="tickets", reason="connection") >= 2, "it was tried twice")
    endpoint.open()
    assert said(endpoint.take(3)) == ["1", "2", "3"]


def test_a_hook_is_parked_and_holds_up_no_other(
    endpoint: Endpoint, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    endpoint.usual = status(503)
    with Endpoint() as good:
        failing = bot.hook(endpoint.url, "failing", park_after_seconds=0, parked_retry_seconds=0.1)
        process = hooks(failing, bot.hook(good.url, "good"))
        say(alice, bot.name, "1", "2", "3")
        assert said(good.take(3)) == ["1", "2", "3"]
        until(lambda: process.metric("parked", hook="failing") == 1, "the failing one is parked")
        assert process.metric("failing_seconds", hook="failing") > 0
        assert process.metric("parked", hook="good") == 0
        [line] = process.lines("hook is parked")
        assert (line["hook"], line["why"]) == ("failing", "it answered 503")
        endpoint.usual = status(200)
        until(lambda: process.metric("delivered_total", hook="failing") == 3, "all of it came later")
        assert process.metric("parked", hook="failing") == 0
        assert process.lines("endpoint is back")[0]["was_parked"] is True


def test_an_entry_is_given_up_only_where_the_hook_says_so(
    endpoint: Endpoint, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    endpoint.answers.append(status(422))
    process = hooks(bot.hook(endpoint.url, give_up_seconds=1e-9))
    say(alice, bot.name, "poison", "bread")
    assert said(endpoint.take(2)) == ["poison", "bread"]
    until(lambda: process.metric("delivered_total", hook="tickets") == 1, "the second is delivered")
    assert process.metric("given_up_total", hook="tickets") == 1
    [line] = process.lines("entry is given up")
    assert line["why"] == "it answered 422"


def test_an_endpoint_over_tls_is_verified(
    server: Server, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    with Endpoint(certificate=str(CERTIFICATE)) as endpoint:
        doubting = bot.hook(endpoint.url, "doubting")
        process = hooks(doubting, bot.hook(endpoint.url, "trusting", ca=str(CERTIFICATE)))
        say(alice, bot.name, "hello")
        assert json.loads(endpoint.next().body)["hook"] == "trusting"
        until(lambda: process.lines("endpoint fails"), "the other one does not trust it")
        assert "certificate verify failed" in process.lines("endpoint fails")[0]["why"]
        assert endpoint.requests.empty()


# -- the hooks process, the server


def test_killed_at_any_moment_it_skips_nothing_and_repeats_under_the_same_key(
    endpoint: Endpoint, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    bodies = [f"message {number}" for number in range(24)]
    hangs = [Hang() for _ in range(3)]
    process = hooks(bot.hook(endpoint.url))
    requests: list[Request] = []
    for number, hang in enumerate(hangs):
        endpoint.answers += [status(200)] * 4 + [hang]
        say(alice, bot.name, *bodies[8 * number : 8 * number + 8])
        requests += endpoint.take(5)
        process.kill()
        hang.release()
        endpoint.answers.clear()
        process.start()
        while said(requests[-1:]) != [bodies[8 * number + 7]]:
            requests.append(endpoint.next())
    first_of_each = list(dict.fromkeys(request.key for request in requests))
    by_key = {request.key: request.body for request in requests}
    assert [json.loads(by_key[key])["event"]["body"] for key in first_of_each] == bodies
    assert all(request.body == by_key[request.key] for request in requests)
    assert len(requests) > len(bodies), "what was under way comes again"


def test_an_answer_that_was_said_before_the_kill_is_said_once(
    endpoint: Endpoint, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    endpoint.usual = status(200, '{"reply": "pong"}')
    process = hooks(bot.hook(endpoint.url))
    say(alice, bot.name, "ping")
    heard = [alice.hear("msg")]
    process.kill()  # it tells the server once a second how far it is
    process.start()
    first, again = endpoint.take(2)
    assert (first.key, first.body) == (again.key, again.body)
    endpoint.usual = status(200, '{"reply": "the next"}')
    say(alice, bot.name, "and now?")
    heard.append(alice.hear("msg"))
    assert [frame["body"] for frame in heard] == ["pong", "the next"]


def test_told_to_stop_it_finishes_what_is_under_way(
    endpoint: Endpoint, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    hang = Hang()
    endpoint.answers.append(hang)
    process = hooks(bot.hook(endpoint.url))
    say(alice, bot.name, "1", "2")
    assert said([endpoint.next()]) == ["1"]
    process.terminate()
    until(lambda: process.lines("signal"), "it has heard")
    hang.release()
    assert process.wait() == 0
    process.start()
    assert said([endpoint.next()]) == ["2"]
    process.terminate()
    assert process.wait() == 0


def test_told_to_stop_while_the_endpoint_fails_it_stops_at_once(
    endpoint: Endpoint, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    endpoint.answers.append(status(503, retry_after="3000"))
    process = hooks(bot.hook(endpoint.url))
    say(alice, bot.name, "1")
    endpoint.next()
    until(lambda: process.metric("failures_total", hook="tickets", reason="status") == 1, "the answer is here")
    process.terminate()
    assert process.wait() == 0
    process.start()
    assert said([endpoint.next()]) == ["1"]


def test_it_comes_back_when_workers_are_killed(
    endpoint: Endpoint, server: Server, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    process = hooks(bot.hook(endpoint.url))
    say(alice, bot.name, "1")
    assert said([endpoint.next()]) == ["1"]
    server.kill_workers()
    name = alice.name  # type: ignore[attr-defined]
    with TcpClient(server.tcp) as again:
        again.enter(name, "desk")
        say(again, bot.name, "2", "3")
        assert said(endpoint.take(2)) == ["2", "3"]
    assert process.metric("posts_total", hook="tickets") == 3


def test_what_a_group_said_meanwhile_is_read_from_the_history(
    endpoint: Endpoint, alice: TcpClient, bot: Bot, hooks: Callable[..., HooksProcess]
) -> None:
    group = alice.ask("group.create", name="Tea", members=[bot.name])["group"]
    bodies = [f"message {number}" for number in range(450)]  # three pages of the history, and more than is sent unasked
    process = hooks(bot.hook(endpoint.url))
    say(alice, group, *bodies[:2])
    assert said(endpoint.take(2)) == bodies[:2]
    process.terminate()
    assert process.wait() == 0
    say(alice, group, *bodies[2:])
    process.start()
    requests = endpoint.take(200)
    process.kill()
    process.start()
    while said(requests[-1:]) != bodies[-1:]:
        requests.append(endpoint.next())
    requests = list({request.key: request for request in requests}.values())  # what came twice has one key
    assert said(requests) == bodies[2:]
    say(alice, group, "live")
    assert said([endpoint.next()]) == ["live"]
    assert process.lines("reads the history")
