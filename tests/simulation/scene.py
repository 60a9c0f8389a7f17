"""The world of a simulation: devices, nodes, the store; `do` makes one thing happen, `finish` lets all come right.

The two numbers of a step choose who and how. A step that is of no use in the state of the world does nothing.
"""

from collections.abc import Callable
from typing import Any

from tests.model_store import Link, World
from tests.simulation.device import Device
from tests.simulation.ledger import Ledger
from tests.simulation.node import SimulatedNode
from tests.simulation.schedule import Shape
from tests.simulation.trimming import trim

CAPACITY = (50, 200, 5000)  # bytes that the kernel holds for a client
# Small, so that a history reaches them in seconds that it has.
TIMES: dict[str, object] = {"ping_seconds": 20, "stuck_seconds": 10, "login_timeout_seconds": 10}

Tell = Callable[[str], None]


class Scene:
    def __init__(self, shape: Shape, tell: Tell | None = None) -> None:
        self.shape = shape
        self._tell = tell
        self.world = World(shape.shards, push_first=shape.push_first, reaches_both=shape.reaches_both)
        self.users = [user for user, _ in shape.people]
        for user in self.users:
            self.world.database.register(user, "")
        self.devices = [Device(user, name) for user, names in shape.people for name in names]
        self.ledger = Ledger(self.world.database, self.devices)
        for device in self.devices:
            device.tell, device.on_confirmed = tell, self.ledger.on_confirmed
        self.nodes: list[SimulatedNode] = []
        self._started = 0
        for _ in range(shape.nodes):
            self._add_node()

    def _add_node(self) -> None:
        self._started += 1
        shape = self.shape
        bounds = {
            "page_entries": shape.page_entries,
            "out_buffer_bytes": shape.out_buffer_bytes,
            "in_flight_sends": shape.in_flight_sends,
            **TIMES,
        }
        self.nodes.append(SimulatedNode(self.world, f"node{self._started}", **bounds))

    def do(self, action: str, a: int, b: int) -> None:
        act: Callable[[int, int], Any] = getattr(self, f"_do_{action}")
        act(a, b)

    def tell(self, text: str) -> None:
        """For the story."""
        if self._tell is not None:
            self._tell(text)

    def _device(self, number: int) -> Device:
        return self.devices[number % len(self.devices)]

    def _node(self, number: int) -> SimulatedNode:
        return self.nodes[number % len(self.nodes)]

    def _link(self, number: int) -> tuple[SimulatedNode, Link]:
        node = self._node(number)
        return node, node.store.links[number // len(self.nodes) % self.shape.shards]

    # -- what clients do

    def _do_send(self, a: int, b: int) -> None:
        device, to = self._device(a), [*self.users, "nobody"][b % (len(self.users) + (b == 9))]
        device.send(to)
        self.tell(f"{device} sends {list(device.sent)[-1]} to {to}{'' if device.wire else ', once it is connected'}")

    def _do_say_again(self, a: int, b: int) -> None:
        """A repeat, be it answered or not; of what the dedupe index still knows."""
        device = self._device(a)
        known = [message_id for message_id in device.sent if self._is_remembered(device, message_id)]
        if known:
            self.tell(f"{device} says {known[b % len(known)]} again")
            device.say_again(known[b % len(known)])

    def _is_remembered(self, device: Device, message_id: str) -> bool:
        """Whether a repeat is recognized, or not stored at all yet: a client repeats what has no answer, and soon."""
        key, field = device.key(message_id), "/".join(device.key(message_id)).encode()
        accounts = self.world.database.accounts
        owners = [user for user in (device.sent[message_id], device.user) if user in accounts]
        return all(field in accounts[user].seen or not self.ledger.has(user, key) for user in owners)

    def _do_repeat(self, a: int, b: int) -> None:
        device = self._device(a)
        if device.welcomed is not None and device.wire is not None:
            self.tell(f"{device} repeats {', '.join(device.outbox) or 'nothing'}")
            device.repeat()

    def _do_give_up(self, a: int, b: int) -> None:
        device = self._device(a)
        if device.outbox:
            self.tell(f"{device} gives up {', '.join(device.outbox)}")
            device.give_up()

    def _do_ack(self, a: int, b: int) -> None:
        self.tell(f"{self._device(a)} acknowledges {self._device(a).cursor}")
        self._device(a).ack(wants_answer=b % 2 == 1)

    def _do_read(self, a: int, b: int) -> None:
        device = self._device(a)
        if not device.stalled:
            device.read(1 << b)

    def _do_stall(self, a: int, b: int) -> None:
        device = self._device(a)
        device.stalled = not device.stalled
        self.tell(f"{device} {'stops reading' if device.stalled else 'reads again'}")

    def _do_connect(self, a: int, b: int) -> None:
        device, node = self._device(a), self._node(b)
        if device.wire is None and not node.draining:
            how = {"since": b % 3 != 0, "eager": b % 5 == 0}
            self.tell(f"{device} connects to {node.name}, {' '.join(name for name in how if how[name]) or 'plainly'}")
            device.connect(node, capacity=CAPACITY[b % 3], **how)

    def _do_disconnect(self, a: int, b: int) -> None:
        if self._device(a).wire is not None:
            self.tell(f"{self._device(a)} hangs up")
            self._device(a).disconnect()

    def _do_everybody(self, a: int, b: int) -> None:
        """All is quiet, as most of the time; who is not connected is now."""
        self.tell("everybody connects, and all flows")
        for number in range(len(self.devices)):
            self._do_connect(number, a + number)
        self._let_flow()
        if self._nothing_is_late:
            for device in self.devices:
                device.forget_lost_copies()

    @property
    def _nothing_is_late(self) -> bool:
        nodes_go = not any(node.stopped or node.store.saturated for node in self.nodes)
        return nodes_go and not any(self.world.strays) and all(link.up for link in self.world.links)

    # -- what nodes and the store do

    def _do_turn(self, a: int, b: int) -> None:
        node = self._node(a)
        if not node.stopped and node.turn():
            self.tell(f"{node.name} serves its sockets")

    def _do_execute(self, a: int, b: int) -> None:
        node, link = self._link(a)
        if link.up and link.executed < len(link.calls):
            self.tell(f"the store does for {node.name}: {link.calls[link.executed]}")
            link.execute()

    def _do_deliver(self, a: int, b: int) -> None:
        node = self._node(a)
        if not node.stopped and node.deliver(b % self.shape.shards):
            self.tell(f"{node.name} hears from shard {b % self.shape.shards}")

    def _do_task(self, a: int, b: int) -> None:
        node = self._node(a)
        if not node.stopped:
            node.store.tasks.run()

    def _do_flow(self, a: int, b: int) -> None:
        """A node and the store do all they can, as most of the time."""
        self.tell(f"{self._node(a).name} and the store do all they can")
        self._node(a).settle()

    def _do_pass_time(self, a: int, b: int) -> None:
        node, seconds = self._node(a), (1.0, 1.0, 1.0, 5.0, 25.0)[b % 5]
        if not node.stopped:
            self.tell(f"{seconds:g} s pass on {node.name}")
            node.pass_time(seconds)

    def _do_trim(self, a: int, b: int) -> None:
        user = self.users[a % len(self.users)]
        cut = trim(self.world.database, user, self.ledger, self.devices, most=b + 1, late=any(self.world.strays))
        if cut:
            self._let_much_time_pass()
            self.tell(f"the store cuts {cut} entries off the log of {user}")

    def _let_much_time_pass(self) -> None:
        """What was stored before is replicated long since, and clients do not keep what has left the dedupe index."""
        for shard in range(self.shape.shards):
            self.world.replicated(shard)
        for device in self.devices:
            device.kept = {
                message_id: to for message_id, to in device.kept.items() if self._is_remembered(device, message_id)
            }

    # -- what goes wrong between them

    def _do_cut(self, a: int, b: int) -> None:
        node, link = self._link(a)
        self.tell(f"{node.name} loses its link to shard {link.shard}{', which has calls to do still' if b % 2 else ''}")
        if node.stopped:
            link.sever(late=b % 2 == 1)
        else:
            link.cut(late=b % 2 == 1)

    def _do_restore(self, a: int, b: int) -> None:
        node, link = self._link(a)
        if not node.stopped and not link.up:
            self.tell(f"{node.name} restores its link to shard {link.shard}")
            link.restore()

    def _do_fail(self, a: int, b: int) -> None:
        """A link stays away for too long: all its calls fail with an unknown outcome."""
        node, link = self._link(a)
        if node.stopped:
            return
        self.tell(f"{node.name} gives up its calls to shard {link.shard}")
        for device in self.devices:
            device.unsure.update(message_id for message_id, copies in device.copies.items() if copies)
        with node.reactor.batch():
            link.fail(late=b % 2 == 1)

    def _do_failover(self, a: int, b: int) -> None:
        """A replica that lacks the last writes takes a primary's place."""
        shard = a % self.shape.shards
        for node in self.nodes:
            link = node.store.links[shard]
            link.sever() if node.stopped else link.cut()
        before = self.ledger.before_failover()
        lost = self.world.fail_over(shard, b)
        self.ledger.after_failover(before)
        self.tell(f"shard {shard} fails over, without its last {lost} writes")

    def _do_lose(self, a: int, b: int) -> None:
        """A push is lost: it is only a hint."""
        node, link = self._link(a)
        pushes = [number for number, item in enumerate(link.back) if item[0] is None]
        if pushes:
            self.tell(f"a push of shard {link.shard} to {node.name} is lost")
            del link.back[pushes[b % len(pushes)]]

    def _do_double(self, a: int, b: int) -> None:
        """A push comes twice."""
        node, link = self._link(a)
        pushes = [item for item in link.back if item[0] is None]
        if pushes:
            self.tell(f"a push of shard {link.shard} to {node.name} comes twice")
            link.back.append(pushes[0])

    def _do_stray(self, a: int, b: int) -> None:
        call = self.world.do_stray(a)
        if call is not None:
            self.tell(f"the store does, long after the link is gone: {call}")

    def _do_saturate(self, a: int, b: int) -> None:
        self.tell(f"too many calls of {self._node(a).name} wait for the store")
        self._node(a).store.saturate()

    def _do_relieve(self, a: int, b: int) -> None:
        node = self._node(a)
        if not node.stopped and node.store.saturated:
            self.tell(f"no longer too many calls of {node.name} wait")
            with node.reactor.batch():
                node.store.relieve()

    # -- what goes wrong with nodes

    def _do_stop(self, a: int, b: int) -> None:
        self.tell(f"{self._node(a).name} stops")
        self._node(a).stop()

    def _do_go_on(self, a: int, b: int) -> None:
        if self._node(a).stopped:
            self.tell(f"{self._node(a).name} goes on, as if nothing had been")
            self._node(a).go_on()

    def _do_kill(self, a: int, b: int) -> None:
        """A node dies; some of the calls it has written still reach the store, others perhaps late."""
        self.tell(f"{self._node(a).name} dies; the store still does {b} of its calls")
        self._replace(self._node(a), done=b, late=b % 2 == 1)

    def _replace(self, node: SimulatedNode, *, done: int, late: bool) -> None:
        for device in self.devices:
            if device.node is node:
                device.disconnect()
        self.nodes.remove(node)
        self.world.kill_node(node.name, done, late=late)
        self._add_node()

    def _do_drain(self, a: int, b: int) -> None:
        """The next step of a node's drain: no more commands, then bye, then the end. `b` > 6: time is up."""
        node = self._node(a)
        if node.stopped:
            return
        if not node.draining:
            self.tell(f"{node.name} begins to drain")
            node.begin_drain()
        elif len(node.context.registry) and (b > 6 or not node.is_sending):
            self.tell(f"{node.name} says bye")
            node.say_bye()
        elif b > 6 or node.has_said_all:
            self.tell(f"{node.name} has drained, and ends")
            self._replace(node, done=0, late=False)

    # -- the end

    def finish(self, *, loses_pushes: bool) -> None:
        """All links are restored, everybody is connected and reads; nothing is unanswered in the end."""
        self.tell("all comes right again")
        self._bring_back(cut_links=loses_pushes)
        for _ in range(20):
            for number, device in enumerate(self.devices):
                if device.wire is None:
                    device.connect(self._open_node(number), since=True)
            self._let_flow()
            if not any(device.outbox or device.wire is None for device in self.devices):
                assert not any(device.unanswered for device in self.devices), "a request without an answer"
                return
            for device in self.devices:
                device.repeat()
        raise AssertionError("it does not come to rest")

    def _bring_back(self, *, cut_links: bool) -> None:
        while self.world.do_stray(0):
            pass
        for node in self.nodes:
            node.go_on()
            node.store.relieve()
            for link in node.store.links:
                if cut_links:
                    link.cut()  # or nobody would notice that a push was lost, before the next one comes
                link.restore()
                link.restore()
        for device in self.devices:
            device.stalled = False
        self._let_flow()
        for node in self.nodes:
            if node.draining:
                node.say_bye()

    def _open_node(self, number: int) -> SimulatedNode:
        """One that takes new clients; where all are draining, another is started, as the supervisor does."""
        if all(node.draining for node in self.nodes):
            self._add_node()
        taking = [node for node in self.nodes if not node.draining]
        return taking[number % len(taking)]

    def _let_flow(self) -> None:
        moved = True
        while moved:
            for node in self.nodes:
                node.settle()
            moved = sum(device.read() for device in self.devices if not device.stalled) > 0
