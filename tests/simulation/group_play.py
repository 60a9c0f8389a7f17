"""Groups in any schedule: clients made of imclient's core, nodes and store as in `scene`, judged by `imswarm`'s judges.

Two users are members all the time; the others join, leave and are thrown out, also while they are away. Links are lost,
nodes die, stop and go on. Then all comes right again, and by the group's log it is looked whether every device was
given what its user's memberships entitle it to. A seed is a history, the same in every process.
"""

import random
from collections.abc import Callable
from typing import Any

from imclient.core import Replica
from imclient.errors import ConnectionLost
from imclient.events import Answered, Ended, Event, GroupChanged, Message, Reconnect, SendFailed, Sent
from imclient.outbox import Outbox
from imclient.reader import Reader
from imclient.stages import Identity, State
from imswarm.court import Verdict
from imswarm.evidence import Evidence
from imswarm.group_judge import judge_groups
from imswarm.history import Change, Deliver, Device, Fail, Invoke, Line, Ok, Unknown, content_of
from imswarm.judge import judge_evidence

from imserver.errors import ServiceError
from imserver.model import DeviceId, UserId
from imserver.protocol import commands
from imserver.protocol.commands import Command
from tests.model_store import World
from tests.session.memory import Wire
from tests.session.node import token_for
from tests.simulation.node import SimulatedNode

GROUP = "#g"
FOUNDERS, GUESTS = ("alice", "bob"), ("carol", "dave")
ACTIONS = {
    "say": 18,
    "wish": 6,
    "read": 9,
    "turn": 9,
    "execute": 9,
    "deliver": 9,
    "task": 9,
    "flow": 9,
    "connect": 4,
    "hang_up": 2,
    "restart": 1,
    "cut": 2,
    "restore": 4,
    "double": 1,
    "kill": 1,
    "stop": 1,
    "go_on": 2,
    "pass_time": 2,
}


class Member:
    """One device: a replica, its connection if any, and the history of all it did and saw."""

    def __init__(self, user: str, name: str, clock: Callable[[], float]) -> None:
        self.device = Device(user, name)
        self.lines: list[Line] = []
        self.wire: Wire | None = None
        self.node: SimulatedNode | None = None
        self._clock = clock
        self._lives = 0
        self._replica = self._begin({})
        self._partial = b""
        self._outstanding: set[str] = set()
        self._answered: set[str] = set()
        self._wish: Command | None = None  # asked again until it is answered
        self._ref: int | None = None

    def _begin(self, cursors: dict[str, str]) -> Replica:
        """A program that starts where the one before it had got to."""
        self._lives += 1
        user, name = self.device
        identity = Identity(user=UserId(user), device=DeviceId(name), token=token_for(user, name))
        return Replica(identity, Reader(cursors), Outbox(f"{user}-{name}-{self._lives}"), lambda: 0.5)

    @property
    def is_at_rest(self) -> bool:
        return self._replica.state is State.LIVE and not self._replica.unsent and self._wish is None

    # -- what it does

    def say(self, to: str) -> None:
        body = f"{self.device} {len(self.lines)}"
        message = self._replica.send(to, body)
        self._outstanding.add(message)
        self.lines.append(Invoke(self._clock(), message, to, content_of(body)))
        self.write()

    def wish(self, command: Command) -> None:
        if self._wish is None:
            self._wish = command
            self.write()

    def connect(self, node: SimulatedNode, capacity: int) -> None:
        if self.wire is None and not node.stopped:
            self.node, self.wire, self._partial = node, node.open(capacity=capacity), b""
            self._replica.connected(self._clock())
            self.write()

    def hang_up(self) -> None:
        if self.wire is not None:
            self.wire.hang_up()
            self.wire = self.node = None
            self._hear(self._replica.disconnected(ConnectionLost("hung up")))

    def restart(self) -> None:
        """The program ends, and what it had no answer to is given up."""
        self.hang_up()
        self.lines += [Unknown(self._clock(), message, "the program ended") for message in sorted(self._outstanding)]
        self._outstanding.clear()
        self._replica = self._begin(self._replica.kept())

    def write(self) -> None:
        if self._wish is not None and self._ref is None and self._replica.state is State.LIVE:
            self._ref = self._replica.ask(self._wish)
        if self.wire is not None:
            for frame in self._replica.take_frames(self._clock()):
                self.wire.write(frame + b"\n")

    # -- what it hears

    def read(self, most: int = 1 << 30) -> bool:
        wire = self.wire
        if wire is None:
            return False
        data = wire.read(most)
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._replica.heard(self._clock())
        for line in lines:
            self._hear(self._replica.receive(line, self._clock()))
        if self.wire is wire and wire.at_end:
            self.hang_up()
            return True
        self.write()
        return bool(data)

    def _hear(self, events: list[Event]) -> None:
        now = self._clock()
        for event in events:
            match event:
                case Message():
                    if event.id not in self._answered:  # else the answer to a program before stood for it
                        self.lines.append(_delivered(event, now))
                    self._replica.keep(event, now)
                case GroupChanged():
                    log = event.log or self.device.user
                    self.lines.append(Change(now, event.at, log, event.change, event.user))
                case Sent():
                    self._answered.add(event.id)
                    self._outstanding.discard(event.id)
                    self.lines.append(Ok(now, event.id, event.at))
                case SendFailed():
                    self._outstanding.discard(event.id)
                    self.lines.append(Fail(now, event.id, str(event.error)))
                case Answered() if event.ref == self._ref:
                    self._ref = None
                    self._wish = self._wish if isinstance(event.content, ServiceError) else None
                case Reconnect():
                    self.hang_up()
                case Ended():  # pushed out by a login that came late (a known hole): started anew by hand
                    self.restart()


def _delivered(message: Message, now: float) -> Deliver:
    content = content_of(message.body)
    return Deliver(now, message.at, message.prev, message.sender, message.device, message.id, message.to, content)


class GroupPlay:
    def __init__(self, seed: int) -> None:
        self._chance = chance = random.Random(f"groups {seed}")
        self._now = 0.0
        shards = chance.choice((1, 2, 3))
        self._world = World(
            shards, push_first=chance.random() < 0.5, reaches_both=shards == 1 and chance.random() < 0.7
        )
        self._bounds = {
            "page_entries": chance.choice((1, 3, 10)),
            "out_buffer_bytes": chance.choice((300, 2000)),
            "in_flight_sends": chance.choice((1, 3, 8)),
        }
        for user in (*FOUNDERS, *GUESTS):
            self._world.database.register(user, "")
        self._started = 0
        self._nodes = [self._start() for _ in range(2)]
        self.members = [
            Member(user, f"d{number}", lambda: self._now)
            for user in (*FOUNDERS, *GUESTS)
            for number in range(chance.choice((1, 1, 2)))
        ]
        self._connect_all()
        create = commands.GroupCreate(name="G", group=GROUP, members=[*FOUNDERS[1:]], open=True)
        self.members[0].wish(create)
        self._flow()

    def _start(self) -> SimulatedNode:
        self._started += 1
        return SimulatedNode(self._world, f"node{self._started}", **self._bounds)

    def play(self, steps: int) -> Verdict:
        for _ in range(steps):
            self._now += 1.0
            (action,) = self._chance.choices(list(ACTIONS), list(ACTIONS.values()))
            act: Callable[[], Any] = getattr(self, f"_do_{action}")
            act()
        self._finish()
        evidence = Evidence({member.device: member.lines for member in self.members})
        verdict = judge_evidence(evidence)
        verdict.add(judge_groups(evidence, {GROUP: FOUNDERS}))
        return verdict

    # -- steps

    def _member(self) -> Member:
        return self._chance.choice(self.members)

    def _node(self) -> SimulatedNode:
        return self._chance.choice(self._nodes)

    def _do_say(self) -> None:
        to = GROUP if self._chance.random() < 0.8 else self._chance.choice((*FOUNDERS, *GUESTS))
        self._member().say(to)

    def _do_wish(self) -> None:
        member = self._member()
        if member.device.user == FOUNDERS[0]:
            member.wish(commands.GroupKick(group=GROUP, user=self._chance.choice(GUESTS)))
        elif member.device.user in GUESTS:
            kind = self._chance.choice((commands.GroupJoin, commands.GroupJoin, commands.GroupLeave))
            member.wish(kind(group=GROUP))

    def _do_read(self) -> None:
        self._member().read(1 << self._chance.randrange(12))

    def _do_turn(self) -> None:
        node = self._node()
        if not node.stopped:
            node.turn()

    def _do_execute(self) -> None:
        self._chance.choice(self._node().store.links).execute()

    def _do_deliver(self) -> None:
        node = self._node()
        if not node.stopped:
            node.deliver(self._chance.randrange(len(node.store.links)))

    def _do_task(self) -> None:
        node = self._node()
        if not node.stopped:
            node.store.tasks.run()

    def _do_flow(self) -> None:
        self._node().settle()

    def _do_connect(self) -> None:
        self._member().connect(self._node(), self._chance.choice((200, 5000)))

    def _do_hang_up(self) -> None:
        self._member().hang_up()

    def _do_restart(self) -> None:
        self._member().restart()

    def _do_cut(self) -> None:
        node = self._node()
        link = self._chance.choice(node.store.links)
        if node.stopped:
            link.sever()
        else:
            link.cut()

    def _do_restore(self) -> None:
        node = self._node()
        link = self._chance.choice(node.store.links)
        if not node.stopped and not link.up:
            link.restore()

    def _do_double(self) -> None:
        link = self._chance.choice(self._node().store.links)
        pushes = [item for item in link.back if item[0] is None]
        link.back.extend(pushes[:1])

    def _do_kill(self) -> None:
        node = self._node()
        for member in self.members:
            if member.node is node:
                member.hang_up()
        self._nodes.remove(node)
        self._world.kill_node(node.name, self._chance.randrange(4))
        self._nodes.append(self._start())

    def _do_stop(self) -> None:
        self._node().stop()

    def _do_go_on(self) -> None:
        node = self._node()
        if node.stopped:
            node.go_on()

    def _do_pass_time(self) -> None:
        node = self._node()
        if not node.stopped:
            node.pass_time(1.0)

    # -- the end

    def _finish(self) -> None:
        while self._world.do_stray(0):
            pass
        for node in self._nodes:
            node.go_on()
            for link in node.store.links:
                link.cut()
                link.restore()
                link.restore()
        for _ in range(30):
            self._now += 10.0
            self._connect_all()
            if all(member.is_at_rest for member in self.members):
                return
        raise AssertionError("it does not come to rest")

    def _connect_all(self) -> None:
        for number, member in enumerate(self.members):
            member.connect(self._nodes[number % len(self._nodes)], 5000)
        self._flow()

    def _flow(self) -> None:
        moved = True
        while moved:
            for node in self._nodes:
                node.settle()
            moved = False
            for member in self.members:
                member.write()
                moved = member.read() or moved


def failure_of(seed: int, steps: int = 120) -> str:
    """What goes wrong in the history of this seed, with the lines that show it; empty: nothing."""
    try:
        verdict = GroupPlay(seed).play(steps)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return str(verdict.violations[0]) if verdict.violations else ""
