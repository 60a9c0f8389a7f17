"""The store has lost its newest entries: what was confirmed lately comes back from here, and nothing is given twice."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imclient import outbox
from imclient.events import Event, Regressed

from imserver.protocol.commands import Resend, Send
from tests.client.dialogue import Device
from tests.client.model_server import ModelServer


@pytest.fixture
def server() -> ModelServer:
    server = ModelServer()
    for user in ("alice", "bob"):
        server.add_user(user)
    return server


@pytest.fixture
def alice(server: ModelServer) -> Device:
    return settled(Device(server, "alice", "laptop"))


@pytest.fixture
def bob(server: ModelServer) -> Device:
    return settled(Device(server, "bob", "phone"))


def settled(device: Device) -> Device:
    device.settle()
    return device


def say(alice: Device, bob: Device, *bodies: str) -> None:
    for body in bodies:
        alice.replica.send("bob", body)
    alice.settle()
    bob.from_server()


def bodies_in(server: ModelServer, user: str) -> list[str]:
    return [entry.body for entry in server.logs[user]]


def test_what_was_lost_comes_back_and_is_not_given_twice(server: ModelServer, alice: Device, bob: Device) -> None:
    say(alice, bob, "one", "two", "three")
    server.fail_over("bob", 2)
    alice.settle()
    bob.settle()
    assert bodies_in(server, "bob") == bodies_in(server, "alice") == bob.bodies == ["one", "two", "three"]
    assert len(alice.sent) == 3
    assert bob.of(Regressed) == [Regressed(server.logs["bob"][0].at)]
    say(alice, bob, "four")
    assert bob.bodies == ["one", "two", "three", "four"]
    assert server.sessions == [alice.session, bob.session]  # nobody had to read the log again


def test_nothing_newer_overtakes_it(server: ModelServer, alice: Device, bob: Device) -> None:
    say(alice, bob, "one", "two")
    alice.replica.send("bob", "three")
    alice.up += alice.replica.take_frames(alice.now)  # on its way when the store fails over
    server.fail_over("bob", 2)
    alice.replica.send("bob", "four")
    alice.settle()
    bob.settle()
    assert bodies_in(server, "bob") == bodies_in(server, "alice") == bob.bodies == ["one", "two", "three", "four"]
    assert [sent.id for sent in alice.sent] == [entry.id for entry in server.logs["bob"]]
    assert alice.now == 0.0  # the refusal of what was sent again since makes nobody wait


def test_the_own_log_is_healed_too(server: ModelServer, alice: Device, bob: Device) -> None:
    other = settled(Device(server, "alice", "phone"))
    say(alice, bob, "one", "two")
    other.from_server()
    server.fail_over("alice", 2)
    alice.settle()
    other.settle()
    assert bodies_in(server, "alice") == bodies_in(server, "bob") == other.bodies == ["one", "two"]
    say(alice, bob, "three")
    assert bodies_in(server, "alice") == ["one", "two", "three"]
    assert alice.session is not None
    assert alice.replica.kept() == {"": server.logs["alice"][-1].at}


def test_each_question_is_answered_once_and_first(server: ModelServer, alice: Device, bob: Device) -> None:
    say(alice, bob, "one")
    server.fail_over("bob", 1)
    server.fail_over("bob", 0)
    alice.from_server()
    assert alice.session is not None
    alice.session.heard.clear()
    alice.to_server()
    assert [type(command) for command in alice.session.heard] == [Resend, Resend, Send]


def test_who_was_away_is_asked_after_the_login(server: ModelServer, alice: Device, bob: Device) -> None:
    """And what the own log shows as sent is sent again all the same: the other log may have lost it."""
    alice.replica.send("bob", "one")
    alice.to_server()
    alice.cut()  # before the answer
    server.fail_over("bob", 1)
    alice.settle()
    bob.settle()
    assert bob.bodies == bodies_in(server, "bob") == ["one"]
    assert len(alice.sent) == 1
    assert alice.replica.unsent == 0


def test_what_is_older_than_a_minute_is_not_kept(server: ModelServer, alice: Device, bob: Device) -> None:
    say(alice, bob, "one")
    alice.now += 30
    say(alice, bob, "two")
    alice.now += 31
    server.fail_over("bob", 2)
    alice.settle()
    assert bodies_in(server, "bob") == ["two"]


def test_what_is_kept_is_bounded(
    server: ModelServer, alice: Device, bob: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST_KEPT", 2)
    say(alice, bob, "one", "two", "three")
    server.fail_over("bob", 3)
    alice.settle()
    assert bodies_in(server, "bob") == ["two", "three"]


def test_a_message_that_is_sent_again_is_not_unsent(server: ModelServer, alice: Device, bob: Device) -> None:
    say(alice, bob, "one")
    server.fail_over("bob", 1)
    alice.from_server()
    assert alice.replica.unsent == 0
    alice.replica.send("bob", "two")
    assert alice.replica.unsent == 1


WHO = st.integers(0, 2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), WHO, st.sampled_from(["alice", "bob"])),
        st.tuples(st.just("up"), WHO, st.integers(1, 3)),
        st.tuples(st.just("down"), WHO, st.integers(1, 4)),
        st.tuples(st.just("live"), WHO, st.none()),
        st.tuples(st.just("cut"), WHO, st.none()),
        st.tuples(st.just("fail_over"), st.sampled_from(["alice", "bob"]), st.integers(0, 4)),
        st.tuples(st.just("fault"), st.just(0), st.sampled_from(["unavailable", "half", "whole"])),
    ),
    min_size=10,
    max_size=60,
)


class Scene:
    """Alice with two devices, bob with one."""

    def __init__(self) -> None:
        self.server = ModelServer()
        self.server.add_user("alice")
        self.server.add_user("bob")
        self.devices = [
            settled(Device(self.server, user, name))
            for user, name in (("alice", "laptop"), ("alice", "phone"), ("bob", "tablet"))
        ]
        self.sends: list[list[tuple[str, str]]] = [[], [], []]  # of each device: id, recipient

    def send(self, who: int, to: str) -> None:
        self.sends[who].append((self.devices[who].replica.send(to, "x"), to))

    def up(self, who: int, frames: int) -> None:
        self.devices[who].to_server(frames)

    def down(self, who: int, frames: int) -> None:
        self.devices[who].from_server(frames)

    def live(self, who: int, _: None) -> None:
        device = self.devices[who]
        if device.session is None:
            device.connect()
        for _round in range(3):
            device.to_server()
            device.from_server()

    def cut(self, who: int, _: None) -> None:
        self.devices[who].cut()

    def fail_over(self, user: str, count: int) -> None:
        self.server.fail_over(user, count)

    def fault(self, _: int, name: str) -> None:
        self.server.faults.append(name)

    def settle(self) -> None:
        self.server.faults.clear()
        told = -1
        while told != (told := sum(len(device.events) for device in self.devices)):
            for device in self.devices:
                device.settle()
                assert_first_hand(device.events)


def assert_first_hand(events: list[Event]) -> None:
    """No gap is ever seen: the client follows a log that goes back."""
    assert "is missing" not in str(events)


@settings(max_examples=200)
@given(steps=STEPS)
def test_confirmed_once_given_once_and_never_lost(steps: list[tuple[str, Any, Any]]) -> None:
    scene = Scene()
    for name, who, argument in steps:
        getattr(scene, name)(who, argument)
    scene.settle()
    for device, sends in zip(scene.devices, scene.sends, strict=True):
        user, name = device.replica.identity.user, device.replica.identity.device
        assert sorted(sent.id for sent in device.sent) == sorted(id for id, _ in sends)
        assert device.failed == []
        for owner in ("alice", "bob"):
            stored = [(m.to, m.id) for m in scene.server.logs[owner] if (m.sender, m.device) == (user, name)]
            assert len(stored) == len(set(stored))
            for to in ("alice", "bob"):
                said = [id for id, recipient in sends if recipient == to and owner in (user, to)]
                assert [id for recipient, id in stored if recipient == to] == said
        given = [(message.sender, message.device, message.id) for message in device.messages]
        assert len(given) == len(set(given))
        log = {(m.sender, m.device, m.id) for m in scene.server.logs[user] if (m.sender, m.device) != (user, name)}
        assert set(given) == log
