"""Several devices, two nodes, a store of two shards; and every way in which things can go wrong between them."""

import json
from collections.abc import Callable
from typing import Any

from tests.model_store import World
from tests.session.device import Device, Key, order
from tests.session.node import ServerNode

PEOPLE = {"alice": ("pad", "phone"), "bob": ("pad", "tv"), "carol": ("pad",)}
# Small, so that a few messages reach every bound.
BOUNDS: dict[str, object] = {"page_entries": 3, "out_buffer_bytes": 300, "in_flight_sends": 3}
CAPACITY = (50, 200, 5000)  # bytes that the kernel holds for a client


class Scene:
    """`do(action, a, b)` makes one thing happen; `finish` lets everything come right; `check` judges."""

    def __init__(self, *, push_first: bool = True) -> None:
        self.world = World(push_first=push_first)
        for user in PEOPLE:
            self.world.database.register(user, "")
        self.nodes: list[ServerNode] = []
        self._started = 0
        self._add_node()
        self._add_node()
        self.devices = [Device(user, name) for user, names in PEOPLE.items() for name in names]
        self.failed = False  # a link stayed away for too long

    def _add_node(self) -> None:
        self._started += 1
        self.nodes.append(ServerNode(self.world, f"node{self._started}", **BOUNDS))

    # -- actions: `a` and `b` choose who and how

    def do(self, action: str, a: int, b: int) -> None:
        act: Callable[[int, int], Any] = getattr(self, f"_do_{action}")
        act(a, b)

    def _device(self, number: int) -> Device:
        return self.devices[number % len(self.devices)]

    def _node(self, number: int) -> ServerNode:
        return self.nodes[number % len(self.nodes)]

    def _do_send(self, a: int, b: int) -> None:
        self._device(a).send([*PEOPLE, "nobody"][b % (len(PEOPLE) + (b == 7))])

    def _do_say_again(self, a: int, b: int) -> None:
        device = self._device(a)
        if device.sent:
            device.say_again(list(device.sent)[b % len(device.sent)])

    def _do_repeat(self, a: int, b: int) -> None:
        if self._device(a).welcomed is not None:
            self._device(a).repeat()

    def _do_everybody(self, a: int, b: int) -> None:
        """All is quiet, as most of the time; who is not connected is now."""
        for number, device in enumerate(self.devices):
            self._do_connect(number, a + number)
            assert device.wire is not None
        self._let_flow()

    def _do_ack(self, a: int, b: int) -> None:
        self._device(a).ack()

    def _do_read(self, a: int, b: int) -> None:
        self._device(a).read(1 << b)

    def _do_connect(self, a: int, b: int) -> None:
        device = self._device(a)
        if device.wire is None:
            device.connect(self._node(b), since=b % 3 != 0, capacity=CAPACITY[b % 3], eager=b % 5 == 0)

    def _do_disconnect(self, a: int, b: int) -> None:
        self._device(a).disconnect()

    def _do_turn(self, a: int, b: int) -> None:
        self._node(a).turn()

    def _do_execute(self, a: int, b: int) -> None:
        self.world.links[a % len(self.world.links)].execute()

    def _do_deliver(self, a: int, b: int) -> None:
        self._node(a).deliver(b % 2)

    def _do_task(self, a: int, b: int) -> None:
        self._node(a).store.tasks.run()

    def _do_second(self, a: int, b: int) -> None:
        self._node(a).pass_time(1.0)

    def _do_flow(self, a: int, b: int) -> None:
        """A node and the store do all they can, as most of the time."""
        self._node(a).settle()

    def _do_cut(self, a: int, b: int) -> None:
        self.world.links[a % len(self.world.links)].cut()

    def _do_lose(self, a: int, b: int) -> None:
        """A push is lost: it is only a hint."""
        back = self.world.links[a % len(self.world.links)].back
        pushes = [item for item in back if item[0] is None]
        if pushes:
            back.remove(pushes[b % len(pushes)])

    def _do_double(self, a: int, b: int) -> None:
        """A push comes twice."""
        back = self.world.links[a % len(self.world.links)].back
        back.extend([item for item in back if item[0] is None][:1])

    def _do_restore(self, a: int, b: int) -> None:
        self.world.links[a % len(self.world.links)].restore()

    def _do_fail(self, a: int, b: int) -> None:
        self.failed = True
        link = self.world.links[a % len(self.world.links)]
        node = next(node for node in self.nodes if node.store is link.node)
        with node.reactor.batch():
            link.fail()

    def _do_kill(self, a: int, b: int) -> None:
        """A node dies; some of the calls it has written still reach the store. Another one starts."""
        node = self._node(a)
        for device in self.devices:
            if device.node is node:
                device.disconnect()
        self.nodes.remove(node)
        self.world.kill_node(node.store.node, done=b)
        self._add_node()

    # -- the end

    def finish(self) -> None:
        """All links are restored, everybody is connected and reads; nothing is unanswered in the end."""
        for link in self.world.links:
            link.cut()  # or nobody would notice that a push was lost, before the next one comes
        for _ in range(20):
            for link in self.world.links:
                link.restore()
                link.restore()
            for number, device in enumerate(self.devices):
                if device.wire is None:
                    device.connect(self._node(number), since=True)
            self._let_flow()
            if not any(device.outbox or device.wire is None for device in self.devices):
                assert not any(device.unanswered for device in self.devices), "a request without an answer"
                return
            for device in self.devices:
                device.repeat()
        raise AssertionError("it does not come to rest")

    def _let_flow(self) -> None:
        moved = True
        while moved:
            for node in self.nodes:
                node.settle()
            moved = any(device.read() for device in self.devices)

    # -- the judgement

    def check(self) -> None:
        logs = {user: self._log(user) for user in PEOPLE}
        for user, log in logs.items():
            assert len(set(log.values())) == len(log), f"stored twice in the log of {user}"
        for device in self.devices:
            assert device.synced is not None
            told = dict(sorted(device.known.items(), key=lambda item: order(item[0])))
            assert told == logs[device.user], f"{device.user}'s {device.name} knows another past than the log"
            self._check_sent(device, logs)

    def _log(self, user: str) -> dict[str, Key]:
        """Position -> message. No phantoms: whatever is there was said so."""
        log: dict[str, Key] = {}
        for entry in self.world.database.accounts[user].log:
            said = json.loads(entry.content)
            sender = next(
                device for device in self.devices if (device.user, device.name) == (said["from"], said["device"])
            )
            assert said["body"] == sender.body(said["id"])
            assert said["to"] == sender.sent[said["id"]]
            log[entry.at.decode()] = (said["from"], said["device"], said["id"])
        return log

    def _check_sent(self, device: Device, logs: dict[str, dict[str, Key]]) -> None:
        assert set(device.confirmed) | set(device.refused) == set(device.sent)
        for message_id, to in device.sent.items():
            key = (device.user, device.name, message_id)
            if message_id in device.refused:
                assert (to, device.refused[message_id]) == ("nobody", "not-found")
                assert all(key not in log.values() for log in logs.values())
            else:
                assert key in logs[to].values(), f"{key} was confirmed, and {to} does not have it"
                assert logs[device.user][device.confirmed[message_id]] == key
        if not self.failed:
            self._check_order(device, logs)

    def _check_order(self, device: Device, logs: dict[str, dict[str, Key]]) -> None:
        """What one device says to one user is stored in the order in which it was said."""
        for user, log in logs.items():
            said = [message_id for message_id, to in device.sent.items() if to == user]
            for owner in (log, logs[device.user]):
                stored = [key[2] for key in owner.values() if key[:2] == (device.user, device.name)]
                assert [message_id for message_id in stored if message_id in said] == said
