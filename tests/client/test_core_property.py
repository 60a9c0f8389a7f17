"""Whatever happens to the connections and the store: each send is confirmed once, each message given once, in order."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.dialogue import Device
from tests.client.model_server import ModelServer

WHO = st.integers(0, 2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), WHO, st.sampled_from(["alice", "bob"])),
        st.tuples(st.just("up"), WHO, st.integers(1, 3)),
        st.tuples(st.just("down"), WHO, st.integers(1, 4)),
        st.tuples(st.just("connect"), WHO, st.none()),
        st.tuples(st.just("cut"), WHO, st.none()),
        st.tuples(st.just("lose"), WHO, st.none()),
        st.tuples(st.just("keep"), WHO, st.none()),
        st.tuples(st.just("wait"), WHO, st.floats(0, 5)),
        st.tuples(st.just("fault"), st.just(0), st.sampled_from(["unavailable", "half", "whole"])),
    ),
    max_size=60,
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

    def step(self, name: str, who: int, argument: Any) -> None:
        device = self.devices[who]
        match name:
            case "send":
                self.sends[who].append((device.replica.send(argument, "x"), argument))
            case "up":
                device.to_server(argument)
            case "down":
                device.from_server(argument)
            case "connect" if device.session is None:
                device.connect()
            case "cut":
                device.cut()
            case "lose" if device.session is not None:
                lose_a_push(device)
            case "keep" if device.messages:
                device.told(device.replica.keep(device.messages[-1], device.now))
            case "wait":
                device.now += argument
            case "fault":
                self.server.faults.append(argument)

    def settle(self) -> None:
        """Everybody comes back, reads and answers, until nobody is told anything new."""
        self.server.faults.clear()
        told = -1
        while told != (told := sum(len(device.events) for device in self.devices)):
            for device in self.devices:
                device.settle()
                if device.messages:
                    device.told(device.replica.keep(device.messages[-1], device.now))
                device.settle()


def lose_a_push(device: Device) -> None:
    """A hint that never came: the next message pushed live is not."""
    assert device.session is not None
    for frame in device.session.out:
        if frame.startswith(b'{"ev":"msg"'):
            device.session.out.remove(frame)
            return


def is_in_order(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(item in rest for item in part)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, tells_prev=st.booleans())
def test_confirmed_once_and_given_once(steps: list[tuple[str, int, Any]], tells_prev: bool) -> None:
    scene = Scene(tells_prev=tells_prev)
    for step in steps:
        scene.step(*step)
    scene.settle()
    # One message more for everybody: whatever was lost last shows by it.
    for who, to in ((0, "bob"), (2, "alice")):
        scene.step("send", who, to)
    scene.settle()
    for device, sends in zip(scene.devices, scene.sends, strict=True):
        check_sends(device, sends, scene.server)
        check_messages(device, scene.server)


def check_sends(device: Device, sends: list[tuple[str, str]], server: ModelServer) -> None:
    assert sorted(sent.id for sent in device.sent) == sorted(id for id, _ in sends)
    assert device.failed == []
    user, name = device.replica.identity.user, device.replica.identity.device
    for recipient in ("alice", "bob"):
        stored = [(m.to, m.id) for m in server.logs[recipient] if (m.sender, m.device) == (user, name)]
        expected = [id for id, to in sends if to == recipient]
        assert [id for to, id in stored if to == recipient] == expected
        assert len(stored) == len(set(stored))


def check_messages(device: Device, server: ModelServer) -> None:
    """All of the log but what the device itself has sent."""
    user, name = device.replica.identity.user, device.replica.identity.device
    expected = [entry.at for entry in server.logs[user] if (entry.sender, entry.device) != (user, name)]
    assert [message.at for message in device.messages] == expected
    assert device.truncated == []
