"""Two people talk, as a client that nobody here wrote sees it: over both transports, and between two workers."""

import json
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.client import Client, Ended, Frame, Refused, TcpClient, WebSocketClient
from tests.server import Server

Opener = Callable[[], Client]
Names = Callable[[str], str]
NEITHER_NOR = {"at", "prev"}  # what differs from log to log


@pytest.fixture(params=["tcp", "websocket"])
def opener(request: pytest.FixtureRequest) -> Opener:
    """Over each transport."""
    found: Opener = request.getfixturevalue(request.param)
    return found


def essence(push: Frame) -> Frame:
    return {key: value for key, value in push.items() if key not in NEITHER_NOR}


def logins(shared: Server) -> dict[int, int]:
    return {worker["number"]: worker["counters"]["logins"] for worker in shared.status()["workers"]}


def open_on_each_worker(shared: Server, enter: Callable[[], Client]) -> tuple[Client, Client]:
    """The last two of many logins, one on each worker: the kernel chooses, so it may take some until it has."""
    before = logins(shared)
    last: tuple[int, Client] | None = None
    for _ in range(200):
        client = enter()
        after = logins(shared)
        (number,) = [number for number in after if after[number] > before[number]]
        if last is not None and last[0] != number:
            return last[1], client
        before, last = after, (number, client)
    raise AssertionError("one worker takes all connections")


# -- a conversation


def test_both_ways_between_tcp_and_websocket(
    tcp: Callable[[], TcpClient], websocket: Callable[[], WebSocketClient], user: Names
) -> None:
    ann, ben = user("ann"), user("ben")
    desk, page = tcp(), websocket()
    for client, name in ((desk, ann), (page, ben)):
        client.register(name)
        client.enter(name, "home")
    said = desk.tell(ben, "m1", "hello, Bén")
    heard = page.hear("msg")
    assert essence(heard) == {"ev": "msg", "from": ann, "device": "home", "to": ben, "id": "m1", "body": "hello, Bén"}
    assert heard["prev"] == "0-0"
    answered = page.tell(ann, "m1", {"text": "hello", "bold": [0, 5]})
    echo = desk.hear("msg")
    assert echo["body"] == {"text": "hello", "bold": [0, 5]}
    assert echo["prev"] == said["at"]  # each in its own log
    assert page.websocket.subprotocol == "im.v1"
    assert set(answered) == {"id", "at", "prev"}


def test_the_senders_other_devices_hear_it_too(opener: Opener, user: Names) -> None:
    ann, ben = user("ann"), user("ben")
    desk, phone, other = opener(), opener(), opener()
    for client, name, device in ((desk, ann, "desk"), (phone, ann, "phone"), (other, ben, "desk")):
        if device == "desk":
            client.register(name)
        client.enter(name, device)
    said = desk.tell(ben, "m1")
    copy = phone.hear("msg")
    assert (copy["at"], copy["from"], copy["to"]) == (said["at"], ann, ben)
    other.tell(ann, "m2")
    assert [client.hear("msg")["id"] for client in (desk, phone)] == ["m2", "m2"]


def test_a_repeat_is_answered_alike_and_heard_once(opener: Opener, user: Names) -> None:
    ann, ben = user("ann"), user("ben")
    desk, other = opener(), opener()
    for client, name in ((desk, ann), (other, ben)):
        client.register(name)
        client.enter(name, "desk")
    first = desk.tell(ben, "m1")
    assert first.pop("prev") == "0-0"
    assert first == desk.tell(ben, "m1") == desk.tell(ben, "m1", "another body")
    desk.tell(ben, "m2")
    assert [other.hear("msg")["id"] for _ in range(2)] == ["m1", "m2"]


def test_a_message_to_oneself(opener: Opener, user: Names) -> None:
    ann = user("ann")
    desk, phone = opener(), opener()
    desk.register(ann)
    desk.enter(ann, "desk")
    phone.enter(ann, "phone")
    said = desk.tell(ann, "m1")
    assert phone.hear("msg")["at"] == said["at"]
    desk.tell(ann, "m2")
    assert phone.hear("msg")["prev"] == said["at"]


def test_offline_messages_wait(opener: Opener, user: Names) -> None:
    ann, ben = user("ann"), user("ben")
    desk = opener()
    desk.register(ann)
    desk.register(ben)
    desk.enter(ann, "desk")
    for number in range(300):  # several pages
        desk.tell(ben, f"m{number}")
    backlog = opener().enter(ben, "desk")
    assert [push["id"] for push in backlog] == [f"m{number}" for number in range(300)]
    assert [push["prev"] for push in backlog] == ["0-0"] + [push["at"] for push in backlog[:-1]]


def test_history(opener: Opener, user: Names) -> None:
    ann, ben, cat = user("ann"), user("ben"), user("cat")
    desk = opener()
    for name in (ann, ben, cat):
        desk.register(name)
    desk.enter(ann, "desk")
    for number in range(10):
        desk.tell((ben, cat)[number % 2], f"m{number}")
    page = desk.ask("history", **{"with": ben, "limit": 3})
    assert [it["id"] for it in page["messages"]] == ["m4", "m6", "m8"]
    assert page["more"] is True
    page = desk.ask("history", **{"with": ben, "limit": 3, "before": page["messages"][0]["at"]})
    assert [it["id"] for it in page["messages"]] == ["m0", "m2"]
    assert page["more"] is False


# -- coming back


def test_a_device_goes_on_from_its_acknowledgement(opener: Opener, user: Names) -> None:
    ann, ben = user("ann"), user("ben")
    desk, other = opener(), opener()
    desk.register(ann)
    desk.register(ben)
    desk.enter(ann, "desk")
    other.enter(ben, "desk")
    for number in range(4):
        desk.tell(ben, f"m{number}")
    heard = [other.hear("msg") for _ in range(4)]
    assert other.ask("ack", upto=heard[1]["at"]) == {}
    other.say("logout")
    with pytest.raises(Ended):
        while True:
            other.receive()
    assert [it["id"] for it in opener().enter(ben, "desk")] == ["m2", "m3"]
    assert [it["id"] for it in opener().enter(ben, "desk", since=heard[2]["at"])] == ["m3"]
    assert [it["id"] for it in opener().enter(ben, "desk", since="0-0")] == ["m0", "m1", "m2", "m3"]
    assert [it["id"] for it in opener().enter(ben, "desk", since={"": heard[2]["at"]})] == ["m3"]
    assert [it["id"] for it in opener().enter(ben, "phone")] == ["m0", "m1", "m2", "m3"]


def test_an_acknowledgement_without_a_reply_is_kept(opener: Opener, user: Names) -> None:
    ann = user("ann")
    desk, phone = opener(), opener()
    desk.register(ann)
    desk.enter(ann, "desk")
    phone.enter(ann, "phone")
    for number in range(3):
        desk.tell(ann, f"m{number}")
    heard = [phone.hear("msg") for _ in range(3)]
    phone.say("ack", upto=heard[1]["at"])
    phone.ask("logout")
    phone.hear_rest()
    assert [it["id"] for it in opener().enter(ann, "phone")] == ["m2"]


@pytest.mark.parametrize("by", ["token", "password"])
def test_resuming_on_the_other_worker(shared: Server, opener: Opener, user: Names, by: str) -> None:
    ann, ben = user("ann"), user("ben")
    desk = opener()
    desk.register(ann)
    desk.register(ben)
    desk.enter(ann, "desk")
    token, at = "", "0-0"

    def enter() -> Client:
        """The same device again: the one before is replaced."""
        nonlocal token
        client = opener()
        fields = {"token": token} if by == "token" and token else {}
        token = client.log_in(ben, "phone", since=at, **fields)["token"]
        return client

    one, two = open_on_each_worker(shared, enter)
    assert one.hear_rest()[-1]["code"] == "replaced"
    two.backlog()
    desk.tell(ben, "m1")
    at = two.hear("msg")["at"]
    desk.tell(ben, "m2")
    third, fourth = open_on_each_worker(shared, enter)
    assert [it["id"] for it in third.backlog()] == ["m2"]
    assert [it["id"] for it in fourth.backlog()] == ["m2"]
    desk.tell(ben, "m3")
    assert fourth.hear("msg")["id"] == "m3"


def test_a_device_is_replaced_across_workers(shared: Server, opener: Opener, user: Names) -> None:
    ann = user("ann")
    opener().register(ann)

    def enter() -> Client:
        client = opener()
        client.enter(ann, "desk")
        return client

    one, two = open_on_each_worker(shared, enter)
    bye = one.hear("bye")
    assert (bye["code"], bye["reconnect"]) == ("replaced", False)
    with pytest.raises(Ended):
        one.receive()
    assert two.ask("ping") == {}


@pytest.mark.parametrize("attempt", range(3))
def test_of_many_logins_of_one_device_at_once_one_stays(opener: Opener, user: Names, attempt: int) -> None:
    """Whatever their order, all others are told; nobody is left who hears nothing."""
    ann = user("ann")
    other = opener()
    other.register(ann)
    other.enter(ann, "other")
    with opener() as first:
        token = first.log_in(ann, "desk")["token"]
        clients = [opener() for _ in range(8)]
        for client in clients:
            client.say("login", ref="in", token=token, device="desk")
        for client in clients:
            client.wait_for(lambda frame: frame.get("re") == "in")
        for client in clients:
            client.patience_seconds = 3
        other.tell(ann, "m1")  # published after all of them came in, so it is heard after every `bye`
        ends = [client.wait_for(lambda frame: frame.get("ev") in {"bye", "msg"})["ev"] for client in clients]
    assert sorted(ends) == ["bye"] * 7 + ["msg"]


# -- beside the conversation


def test_health_and_the_page(shared: Server) -> None:
    assert shared.get("/healthz") == (200, b"alive\n")
    status, body = shared.get("/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "why": ""})
    status, page = shared.get("/")
    assert status == 200
    assert b"<html" in page.lower()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/"])
def test_head_is_get_without_the_body(shared: Server, path: str) -> None:
    assert shared.get(path, method="HEAD") == (200, b"")


def test_metrics_are_what_prometheus_reads(shared: Server, opener: Opener, user: Names) -> None:
    ann = user("ann")
    client = opener()
    client.register(ann)
    client.enter(ann, "desk")
    before = metrics(shared)
    client.tell(ann, "m1")
    with pytest.raises(Refused):
        client.tell("nobody.there", "m2")
    after = metrics(shared)
    assert after["imserver_messages_in_total"] - before.get("imserver_messages_in_total", 0) >= 2
    assert after["imserver_sessions"] >= 1
    assert after["imserver_ready"] == 2


def metrics(shared: Server) -> dict[str, float]:
    """All values without labels."""
    status, text = shared.get("/metrics", port="admin")
    assert status == 200
    families = text_string_to_metric_families(text.decode())
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def test_status(shared: Server) -> None:
    status = shared.status()
    assert status["pid"] == shared.run["pid"]
    assert [worker["state"] for worker in status["workers"]] == ["ready", "ready"]
    assert [worker["pid"] for worker in status["workers"]] == shared.worker_pids


def test_registration_where_it_is_open(opener: Opener, user: Names) -> None:
    ann = user("Ann")
    client = opener()
    client.register(ann)
    with pytest.raises(Refused) as refused:
        client.register(ann.lower())
    assert refused.value.code == "exists"
    for password in ("wrong", f"{ann}'s password "):
        with pytest.raises(Refused) as refused:
            client.ask("login", user=ann, password=password, device="desk")
        assert refused.value.code == "bad-credentials"
    assert client.log_in(ann, "desk")["user"] == ann.lower()
