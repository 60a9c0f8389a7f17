"""A replica with a file, killed between any two steps: nothing is missing, and what was done with is not given again.

Joined with the model server by nothing but frames; time and the moments of writing are the test's.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imclient.core import Replica
from imclient.events import OWN_LOG, Event, Message
from imclient.file import File
from imclient.journal import Journal
from imclient.outbox import Outbox
from imclient.reader import Reader
from imclient.stages import Identity

from imserver.model import DeviceId, UserId
from imserver.protocol.commands import Ack, Send
from tests.client.dialogue import Device
from tests.client.model_server import ModelServer


def order(position: str) -> tuple[int, ...]:
    return tuple(map(int, position.split("-")))


class KeptDevice(Device):
    """The application is done with a message when it says so; `events` has what it was told, in all lives."""

    def __init__(self, server: ModelServer, user: str, name: str, directory: Path) -> None:
        super().__init__(server, user, name)
        self.path = directory / f"{user}.db"
        self.runs = count(1)
        self.checked = 0  # commands that its session has heard
        self.queued: list[tuple[str, str]] = []  # recipient and id of what is in the file, of all lives
        self.done: set[str] = set()  # ids of messages that it was done with, as the file says
        self.begin()

    def begin(self) -> None:
        self.file = File(self.path, "x")
        saved = self.file.load()
        self.journal = Journal(lambda: None)
        reader = Reader(saved.cursors, 1 << 20, self.journal)
        who = self.replica.identity
        self.outbox = Outbox(f"{who.device}run{next(self.runs)}", self.journal)
        self.outbox.restore(saved.outbox, saved.runs)
        for key, at in saved.done:
            reader.gave(key, at)
        reader.lost(saved.lost)
        identity = Identity(user=UserId(who.user), device=DeviceId(who.device), password="secret")
        self.replica = Replica(identity, reader, self.outbox, lambda: 0.5, self.journal)
        self.untold: list[Event] = []  # waits for its entries to be written
        self.untaken: list[Message] = []
        self.unsaved: list[tuple[str, str]] = []
        self.took: list[Message] = []

    def told(self, events: list[Event]) -> None:
        told = len(self.events)
        super().told(events)
        self.untold += self.events[told:]
        del self.events[told:]

    def say(self, to: str) -> None:
        self.unsaved.append((to, self.replica.send(to, "x")))

    def wait(self) -> None:
        """Long enough for acknowledgements."""
        self.now += 1

    def take(self, most: int) -> None:
        """The application is done with so many messages."""
        for message in self.untaken[:most]:
            self.took.append(message)
            self.replica.keep(message, self.now)
        del self.untaken[:most]

    def save(self) -> None:
        changes, mark = self.journal.take(), self.replica.mark()
        self.file.write(changes, mark.cursors, {})
        self.replica.saved(mark, self.now)
        self.queued += self.unsaved
        self.done |= {message.id for message in self.took}
        for event in self.untold:
            self.events.append(event)
            if isinstance(event, Message):
                assert event.id not in self.done, "given again"
                self.untaken.append(event)
        self.unsaved, self.untold = [], []

    def kill(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None
        self.up.clear()
        self.file.close()
        self.begin()

    def settle(self) -> None:
        for _ in range(5):
            super().settle()
            self.save()
            self.take(1000)
            self.save()


WHO = st.integers(0, 1)
STEPS = [
    st.tuples(st.just("say"), WHO, st.sampled_from(["alice", "bob"])),
    st.tuples(st.just("to_server"), WHO, st.integers(1, 3)),
    st.tuples(st.just("from_server"), WHO, st.integers(1, 4)),
    st.tuples(st.just("save"), WHO, st.none()),
    st.tuples(st.just("wait"), WHO, st.none()),
    st.tuples(st.just("take"), WHO, st.integers(1, 3)),
    st.tuples(st.just("live"), WHO, st.none()),
    st.tuples(st.just("kill"), WHO, st.none()),
]
LOSS = st.tuples(st.just("fail_over"), st.sampled_from(["alice", "bob"]), st.integers(0, 4))


class Scene:
    def __init__(self, directory: Path) -> None:
        self.server = ModelServer()
        self.devices = []
        for user in ("alice", "bob"):
            self.server.add_user(user)
            self.devices.append(KeptDevice(self.server, user, f"{user}s", directory))
        for device in self.devices:
            device.settle()

    def play(self, steps: list[tuple[str, Any, Any]]) -> None:
        for name, who, argument in steps:
            if name == "fail_over":
                self.server.fail_over(who, argument)
            elif name == "live":
                self.live(self.devices[who])
            else:
                getattr(self.devices[who], name)(*([] if argument is None else [argument]))
            for device in self.devices:
                self.check_acks(device)
        for _ in range(3):
            for device in self.devices:
                device.settle()

    def live(self, device: KeptDevice) -> None:
        if device.session is None:
            device.connect()
        for _ in range(3):
            device.to_server()
            device.from_server()

    def check_acks(self, device: KeptDevice) -> None:
        """What was acknowledged just now is in the file, as everything before it."""
        heard = [] if device.session is None else device.session.heard
        for command in heard[device.checked :]:
            if isinstance(command, Ack):
                assert order(command.upto) <= order(device.file.load().cursors[OWN_LOG])
        device.checked = len(heard)

    def close(self) -> None:
        for device in self.devices:
            device.file.close()


def play(steps: list[tuple[str, Any, Any]], *, may_lose: bool) -> None:
    with TemporaryDirectory() as directory:
        scene = Scene(Path(directory))
        try:
            scene.play(steps)
            for device in scene.devices:
                check(scene.server, device, may_lose=may_lose)
        finally:
            scene.close()


def check(server: ModelServer, device: KeptDevice, *, may_lose: bool) -> None:
    who = device.replica.identity
    for owner, log in server.logs.items():
        for to in ("alice", "bob") if owner == who.user else (owner,):
            said = [m.id for m in log if m.sender == who.user and m.to == to]
            wanted = [id for recipient, id in device.queued if recipient == to]
            assert said == ([id for id in wanted if id in said] if may_lose else wanted)
    mine = {(m.at, m.id) for m in server.logs[who.user]}
    partners = ("alice", "bob")
    kept = [m for partner in partners for m in device.file.history(partner, None, 1000).messages]
    assert sorted((m.at, m.id) for m in kept) == sorted(mine)
    assert {m.id for m in device.messages} >= {m.id for m in server.logs[who.user] if m.sender != who.user}


@settings(max_examples=50)
@given(steps=st.lists(st.one_of(STEPS), min_size=10, max_size=50))
def test_killed_at_any_moment(steps: list[tuple[str, Any, Any]]) -> None:
    play(steps, may_lose=False)


@settings(max_examples=50)
@given(steps=st.lists(st.one_of(*STEPS, LOSS), min_size=10, max_size=50))
def test_killed_while_logs_lose_their_ends(steps: list[tuple[str, Any, Any]]) -> None:
    """A message that was confirmed, then lost, while its client was dead, is lost."""
    play(steps, may_lose=True)


# -- what chance seldom finds


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.close()


def test_only_what_is_written_is_acknowledged(scene: Scene) -> None:
    alice, bob = scene.devices
    for _ in range(2):
        bob.say("alice")
    bob.settle()
    scene.live(alice)
    alice.save()
    alice.take(1)
    alice.save()
    first, second = alice.messages
    alice.take(1)
    alice.wait()
    alice.to_server()
    assert alice.session is not None
    assert alice.session.heard[-1] == Ack(upto=first.at)
    alice.save()
    alice.wait()
    alice.to_server()
    assert alice.session.heard[-1] == Ack(upto=second.at)


def test_what_its_log_has_lost_is_not_given_again_by_a_later_life(scene: Scene) -> None:
    alice, bob = scene.devices
    bob.say("alice")
    bob.settle()
    alice.settle()
    [before] = alice.messages
    scene.server.fail_over("alice", 1)
    alice.from_server()
    alice.save()
    assert alice.file.history("bob", None, 10).messages == []
    alice.kill()
    bob.settle()
    alice.settle()  # it would say "given again"
    [after] = alice.file.history("bob", None, 10).messages
    assert (after.id, after.at != before.at) == (before.id, True)
    alice.kill()
    assert alice.file.load().lost == []


def test_what_an_earlier_life_left_is_said_to_be_perhaps_stored(scene: Scene) -> None:
    alice, _ = scene.devices
    alice.say("bob")
    alice.save()
    alice.kill()
    alice.settle()
    assert alice.session is not None
    sends = [command for command in alice.session.heard if isinstance(command, Send)]
    assert [(command.id, command.again) for command in sends] == [(alice.queued[0][1], True)]
