"""Whatever happens to the connections and the store: each send is confirmed once, each message given once, in order."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from imserver.protocol.codec import encode_push
from imserver.protocol.pushes import MessagePush
from tests.client.dialogue import Device
from tests.client.model_server import ModelServer, order

WHO = st.integers(0, 2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), WHO, st.sampled_from(["alice", "bob"])),
        st.tuples(st.just("up"), WHO, st.integers(1, 3)),
        st.tuples(st.just("down"), WHO, st.integers(1, 4)),
        st.tuples(st.just("live"), WHO, st.none()),
        st.tuples(st.just("cut"), WHO, st.none()),
        st.tuples(st.just("lose"), WHO, st.none()),
        st.tuples(st.just("repeat"), WHO, st.integers(0, 9)),
        st.tuples(st.just("keep"), WHO, st.none()),
        st.tuples(st.just("trim"), WHO, st.integers(1, 5)),
        st.tuples(st.just("wait"), WHO, st.floats(0, 5)),
        st.tuples(st.just("fault"), st.just(0), st.sampled_from(["unavailable", "half", "whole"])),
    ),
    min_size=10,
    max_size=80,
)


class Scene:
    """Alice with two devices, bob with one."""

    def __init__(self, *, tells_prev: bool) -> None:
        self.server = ModelServer(tells_prev=tells_prev)
        self.server.add_user("alice")
        self.server.add_user("bob")
        self.devices = [
            Device(self.server, "alice", "laptop", inbox_bytes=400),
            Device(self.server, "alice", "phone"),
            Device(self.server, "bob", "tablet", inbox_bytes=400),
        ]
        self.sends: list[list[tuple[str, str]]] = [[], [], []]  # of each device: id, recipient
        self.trimmed: dict[str, list[MessagePush]] = {"alice": [], "bob": []}

    def send(self, who: int, to: str) -> None:
        self.sends[who].append((self.devices[who].replica.send(to, "x"), to))

    def up(self, who: int, frames: int) -> None:
        self.devices[who].to_server(frames)

    def down(self, who: int, frames: int) -> None:
        self.devices[who].from_server(frames)

    def live(self, who: int, _: None) -> None:
        """Connects if need be; everything on its way arrives, both ways."""
        device = self.devices[who]
        if device.session is None:
            device.connect()
        for _round in range(3):
            device.to_server()
            device.from_server()

    def cut(self, who: int, _: None) -> None:
        self.devices[who].cut()

    def lose(self, who: int, _: None) -> None:
        """A hint that never came: the next message pushed is not.

        A server that does not tell `prev` with its `ok` is trusted not to do that: it looks for gaps itself.
        """
        if not self.server.tells_prev:
            return
        session = self.devices[who].session
        pushed = [frame for frame in session.out if frame.startswith(b'{"ev":"msg"')] if session else []
        if session and pushed:
            session.out.remove(pushed[0])

    def repeat(self, who: int, which: int) -> None:
        """The server says something again that the device was given."""
        device = self.devices[who]
        if device.messages:
            at = device.messages[which % len(device.messages)].at
            user = device.replica.identity.user
            [entry] = [entry for entry in self.trimmed[user] + self.server.logs[user] if entry.at == at]
            device.told(device.replica.receive(encode_push(entry), device.now))

    def keep(self, who: int, _: None) -> None:
        device = self.devices[who]
        if device.messages:
            device.told(device.replica.keep(device.messages[-1], device.now))

    def wait(self, who: int, seconds: float) -> None:
        self.devices[who].now += seconds

    def fault(self, _: int, name: str) -> None:
        self.server.faults.append(name)

    def trim(self, who: int, count: int) -> None:
        user = self.devices[who].replica.identity.user
        log = self.server.logs[user]
        self.trimmed[user] += log[:count]
        del log[:count]

    def settle(self) -> None:
        """Everybody comes back, reads and answers, until nobody is told anything new."""
        self.server.faults.clear()
        told = -1
        while told != (told := sum(len(device.events) for device in self.devices)):
            for who, device in enumerate(self.devices):
                device.settle()
                self.keep(who, None)
                device.settle()


@settings(max_examples=500)
@given(steps=STEPS, tells_prev=st.booleans())
def test_confirmed_once_and_given_once(steps: list[tuple[str, int, Any]], tells_prev: bool) -> None:
    scene = Scene(tells_prev=tells_prev)
    for who in range(3):
        scene.live(who, None)
    for name, who, argument in steps:
        getattr(scene, name)(who, argument)
    scene.settle()
    # One message more for everybody: whatever was lost last shows by it.
    for who, to in ((0, "bob"), (2, "alice")):
        scene.send(who, to)
    scene.settle()
    for device, sends in zip(scene.devices, scene.sends, strict=True):
        check_sends(device, sends, scene)
        check_messages(device, scene)


def check_sends(device: Device, sends: list[tuple[str, str]], scene: Scene) -> None:
    assert sorted(sent.id for sent in device.sent) == sorted(id for id, _ in sends)
    assert device.failed == []
    user, name = device.replica.identity.user, device.replica.identity.device
    for recipient in ("alice", "bob"):
        log = scene.trimmed[recipient] + scene.server.logs[recipient]
        stored = [(m.to, m.id) for m in log if (m.sender, m.device) == (user, name)]
        assert [id for to, id in stored if to == recipient] == [id for id, to in sends if to == recipient]
        assert len(stored) == len(set(stored))


def check_messages(device: Device, scene: Scene) -> None:
    """Once, in order: all of the log but what the device itself has sent. What is missing was trimmed, and told."""
    user, name = device.replica.identity.user, device.replica.identity.device
    trimmed = [entry.at for entry in scene.trimmed[user] if (entry.sender, entry.device) != (user, name)]
    kept = [entry.at for entry in scene.server.logs[user] if (entry.sender, entry.device) != (user, name)]
    given = [message.at for message in device.messages]
    missing = set(trimmed + kept) - set(given)
    assert given == [at for at in trimmed + kept if at not in missing]
    assert missing <= set(trimmed)
    if given and missing and order(max(missing, key=order)) > order(given[0]):
        assert device.truncated
    if not scene.trimmed[user]:
        assert device.truncated == []
