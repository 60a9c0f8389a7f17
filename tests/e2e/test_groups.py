"""Groups through faults: every device of every member sees one order, with nothing acknowledged missing."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.conftest import required
from tests.e2e.client import Client, Ended, Frame, Refused, TcpClient, WebSocketClient
from tests.server import Server

MEMBERS, MESSAGES = 4, 120
DEADLINE_SECONDS = 60.0
_PASSING = ("unavailable", "overloaded")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    required("redis-server")
    with Server(tmp_path_factory.mktemp("groups") / "data", drain_seconds=1, probe_seconds=0.3) as it:
        yield it


class Member(threading.Thread):
    """One device. It sends one message after the other, comes back when its connection ends, and notes what it sees.

    `seen`: the ids of the group's messages by position, own ones by the reply or, where that was lost, by the entry.
    """

    def __init__(self, server: Server, group: str, user: str, device: str, count: int) -> None:
        super().__init__(daemon=True)
        self.server, self.group, self.user, self.device = server, group, user, device
        self.label = f"{user}/{device}"
        self.to_send = [f"{self.label}.{number}" for number in range(count)]
        self.acknowledged: list[str] = []
        self.seen: dict[str, str] = {}
        self.gaps: list[Frame] = []
        self.connections = 0
        self.pause_seconds = 0.0
        self._cursor: str | None = None
        self._own = "0-0"
        self.expected = 0
        self._deadline = time.monotonic() + DEADLINE_SECONDS

    def run(self) -> None:
        while time.monotonic() < self._deadline and not self.is_done:
            with suppress(Ended, OSError, TimeoutError):
                self._connection()
            time.sleep(0.02)

    @property
    def is_done(self) -> bool:
        return not self.to_send and len(self.seen) >= self.expected

    def _connection(self) -> None:
        kind: Callable[[], Client] = (
            (lambda: WebSocketClient(self.server.http))
            if self.device == "web"
            else (lambda: TcpClient(self.server.tcp))
        )
        with kind() as client:
            client.patience_seconds = 5.0
            since = {"": self._own} | ({self.group: self._cursor} if self._cursor else {})
            try:
                client.log_in(self.user, self.device, since=since)
            except Refused:
                return
            self.connections += 1
            for frame in client.backlog():
                self._take(frame)
            while not self.is_done and time.monotonic() < self._deadline:
                if self.to_send:
                    self._send(client, self.to_send[0])
                    time.sleep(self.pause_seconds)
                else:
                    self._take(client.receive())

    def _send(self, client: Client, message_id: str) -> None:
        client.say("send", ref=message_id, id=message_id, to=self.group, body="x")
        while True:
            frame = client.receive()
            if frame.get("re") != message_id:
                self._take(frame)
                continue
            if "ok" in frame:
                self._see(frame["ok"]["at"], message_id)
                self.acknowledged.append(message_id)
                if message_id in self.to_send:
                    self.to_send.remove(message_id)
            elif frame["err"]["code"] not in _PASSING:
                raise AssertionError(frame)
            return

    def _take(self, frame: Frame) -> None:
        if frame.get("ev") == "bye":
            raise Ended("bye")
        if "log" not in frame:
            self._own = frame.get("at", self._own) if "prev" in frame else self._own
            return
        if self._cursor is not None and frame["prev"] != self._cursor and not self._is_own_before(frame["prev"]):
            self.gaps.append(frame)
        self._cursor = frame["at"]
        if frame["ev"] == "msg":
            self._see(frame["at"], frame["id"])
            if frame["id"] in self.to_send:
                self.to_send.remove(frame["id"])

    def _is_own_before(self, position: str) -> bool:
        return self.seen.get(position, "").startswith(self.label)

    def _see(self, at: str, message_id: str) -> None:
        if self.seen.setdefault(at, message_id) != message_id:
            raise AssertionError(f"two messages at {at}")
        if self._cursor is None or order(at) > order(self._cursor):
            self._cursor = at


def order(position: str) -> tuple[int, ...]:
    return tuple(map(int, position.split("-")))


def talk(server: Server, name: str, fault: Callable[[], object]) -> list[Member]:
    """Members on two devices each talk in a group while `fault` happens."""
    group, users = f"#{name}", [f"{name}.{number}" for number in range(MEMBERS)]
    for user in users:
        with TcpClient(server.tcp) as client:
            client.register(user)
    with TcpClient(server.tcp) as owner:
        owner.enter(users[0], "setup")
        owner.ask("group.create", name=name, group=group, members=users[1:])
    devices = [Member(server, group, user, device, MESSAGES) for user in users for device in ("pad", "web")]
    for device in devices:
        device.expected = len(devices) * MESSAGES
        device.start()
    wait_until(lambda: min(len(device.acknowledged) for device in devices) > MESSAGES / 8)
    for device in devices:
        device.pause_seconds = 0.1  # so that there is traffic before, in and after the fault
    fault()
    for device in devices:
        device.pause_seconds = 0.0
    for device in devices:
        device.join()
    return devices


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_one_order(devices: list[Member]) -> None:
    orders = [sorted(device.seen.items(), key=lambda item: order(item[0])) for device in devices]
    assert all(one == orders[0] for one in orders), [len(one) for one in orders]
    ids = [message_id for _, message_id in orders[0]]
    assert len(ids) == len(set(ids)) == len(devices) * MESSAGES
    for device in devices:
        assert set(device.acknowledged) <= set(ids)
        mine = [message_id for message_id in ids if message_id.startswith(f"{device.label}.")]
        assert mine == [f"{device.label}.{number}" for number in range(MESSAGES)]
        assert device.gaps == []


def test_a_worker_is_killed_in_the_middle_of_group_traffic(server: Server) -> None:
    devices = talk(server, "killed", lambda: server.kill_workers(1))
    assert_one_order(devices)
    assert max(device.connections for device in devices) > 1


def test_the_store_is_killed_in_the_middle_of_group_traffic(server: Server) -> None:
    devices = talk(server, "store", server.kill_store)
    assert_one_order(devices)
    assert max(device.connections for device in devices) == 1


def test_all_workers_are_replaced_in_the_middle_of_group_traffic(server: Server) -> None:
    devices = talk(server, "replaced", server.replace_workers)
    assert_one_order(devices)
    assert min(device.connections for device in devices) > 1


def test_members_come_and_go_while_a_device_is_away(server: Server) -> None:
    names = [f"away.{name}" for name in ("ann", "ben", "cat")]
    for name in names:
        with TcpClient(server.tcp) as client:
            client.register(name)
    ann_name, ben_name, cat_name = names
    with TcpClient(server.tcp) as ann, WebSocketClient(server.http) as cat:
        ann.enter(ann_name, "pad")
        cat.enter(cat_name, "pad")
        ann.ask("group.create", name="Away", group="#away", members=[ben_name, cat_name], history="all")
        with TcpClient(server.tcp) as ben:
            ben.enter(ben_name, "pad")
        first = ann.tell("#away", "a1")["at"]
        ann.ask("group.kick", group="#away", user=ben_name)
        ann.tell("#away", "a2")
        with TcpClient(server.tcp) as ben:
            backlog = ben.enter(ben_name, "pad")
            assert [frame for frame in backlog if frame.get("log") == "#away"] == []
            assert [frame["change"] for frame in backlog if frame["ev"] == "group"] == ["joined", "kicked"]
            with pytest.raises(Refused, match="not-found"):
                ben.tell("#away", "b1")
        ann.ask("group.invite", group="#away", user=ben_name)
        with TcpClient(server.tcp) as ben:
            ben.enter(ben_name, "pad")
            ben.ask("group.join", group="#away")
            assert [it["id"] for it in ben.ask("history", **{"with": "#away"})["messages"]] == ["a1", "a2"]
        third = ann.tell("#away", "a3")["at"]
        with WebSocketClient(server.http) as ben:
            backlog = ben.enter(ben_name, "pad")
            assert [frame["id"] for frame in backlog if frame["ev"] == "msg"] == ["a3"]
            assert ben.tell("#away", "b2")["at"] > third > first
        assert [cat.hear("msg")["id"] for _ in range(4)] == ["a1", "a2", "a3", "b2"]


def test_who_is_erased_leaves_the_groups(server: Server, tmp_path: Path) -> None:
    for name in ("erased.ann", "erased.ben", "erased.cat"):
        with TcpClient(server.tcp) as client:
            client.register(name)
    with TcpClient(server.tcp) as ben:
        ben.enter("erased.ben", "pad")
        with TcpClient(server.tcp) as ann:
            ann.enter("erased.ann", "pad")
            ann.ask("group.create", name="E", group="#erased", members=["erased.ben", "erased.cat"])
            ann.ask("group.role", group="#erased", user="erased.cat", role="admin")
        server.cli("user", "delete", "erased.ann")
        assert [ben.hear("group")["change"] for _ in range(5)] == ["joined", "joined", "role", "left", "role"]
        members = {it["user"]: it["role"] for it in ben.ask("group.members", group="#erased")["members"]}
        assert members == {"erased.ben": "member", "erased.cat": "owner"}


STUCK, LARGE = 300, 6000


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def test_members_that_read_nothing_cost_little_memory_and_delay_nobody(tmp_path: Path) -> None:
    required("redis-server")
    with ExitStack() as stack:
        server = stack.enter_context(Server(tmp_path / "data", workers=1, rate_per_second=100_000, rate_burst=100_000))

        def member(user: str, receive_buffer: int = 0) -> TcpClient:
            client = stack.enter_context(TcpClient(server.tcp, receive_buffer=receive_buffer))
            client.register(user)
            client.enter(user, "pad")
            if user != "owner":
                client.ask("group.join", group="#large")
            return client

        owner = member("owner")
        owner.ask("group.create", name="Large", group="#large", open=True)
        reader = member("reader")
        for number in range(STUCK):
            member(f"stuck{number}", receive_buffer=4096)
        (pid,) = server.worker_pids
        before = resident_mib(pid)
        for number in range(300):
            owner.tell("#large", f"m{number}", "x" * LARGE)
        assert [reader.hear("msg")["id"] for _ in range(300)] == [f"m{number}" for number in range(300)]
        assert resident_mib(pid) - before < 20
