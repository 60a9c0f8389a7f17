"""Unread messages: two devices of one user, the server and a plain count agree, whatever happens in which order.

Two real workers on the model store, two real replicas; everything moves a little at a time.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from imclient.conversations import Tally
from imclient.core import Replica
from imclient.errors import ConnectionLost
from imclient.events import Answered, Event, Message, Read, Reconnect
from imclient.outbox import Outbox
from imclient.reader import Reader
from imclient.stages import Identity, State

from imserver.model import DeviceId, UserId
from imserver.protocol import commands
from imserver.protocol.framing import LineFraming
from imserver.protocol.pushes import ConversationsPage
from tests.model_store import World
from tests.session.memory import Wire
from tests.session.node import ServerNode, token_for
from tests.session.peer import Peer, world_of

GROUP = "#tea"
PARTNERS = ("bob", "carol", GROUP)
MOST = 1 << 20


class Device:
    """A replica with its tally, and the wire to a worker, if there is one."""

    def __init__(self, name: str) -> None:
        token = token_for("alice", name)
        identity = Identity(user=UserId("alice"), device=DeviceId(name), token=token)
        self.reader = Reader({})
        self.replica = Replica(identity, self.reader, Outbox(f"{name}run"), lambda: 0.5)
        self.tally = Tally("alice")
        self.given: dict[str, list[str]] = {partner: [] for partner in PARTNERS}  # positions of messages
        self.wire: Wire | None = None
        self._framing = LineFraming(MOST)
        self._asked: dict[int, Callable[[Any], None]] = {}

    def connect(self, node: ServerNode) -> None:
        self.wire, self._framing = node.open(), LineFraming(MOST)
        self.replica.connected(0.0)

    def cut(self) -> None:
        if self.wire is not None:
            self.wire.hang_up()
            self.wire = None
            self._told(self.replica.disconnected(ConnectionLost("cut")))

    def move(self) -> bool:
        """What has come is taken, what is to be said is said. False: there was neither."""
        if self.wire is None:
            return False
        for command in self._due():
            self._asked[self.replica.ask(command)] = partial(self._answered, command)
        frames = self.replica.take_frames(0.0)
        for frame in frames:
            self.wire.write(self._framing.encode(frame))
        came = self._framing.receive(self.wire.read())
        for frame in came:
            self._told(self.replica.receive(frame, 0.0))
        return bool(frames or came)

    def _due(self) -> list[commands.Command]:
        if self.replica.state is not State.LIVE or not self.tally.is_outdated:
            return []
        return [commands.Conversations(since=self.tally.begin(), limit=500)]

    def read(self, partner: str, upto: str) -> None:
        command = commands.Read(partner=partner, upto=upto)
        self._asked[self.replica.ask(command)] = partial(self._answered, command)

    def _answered(self, command: commands.Command, content: Any) -> None:
        if isinstance(command, commands.Read) and isinstance(content, msgspec.Raw):
            self.tally.on_event(Read(by="alice", partner=command.partner, upto=command.upto))
        elif isinstance(command, commands.Conversations):
            if isinstance(content, msgspec.Raw):
                page = msgspec.json.decode(content, type=ConversationsPage)
                self.tally.on_pages([page])
            else:
                self.tally.failed()

    def _told(self, events: list[Event]) -> None:
        for event in events:
            self.tally.on_event(event)
            match event:
                case Answered():
                    self._asked.pop(event.ref)(event.content)
                case Message():
                    self.given[event.partner("alice")].append(event.at)
                    self.replica.keep(event, 0.0)
                case Reconnect():
                    self.cut()
                    return

    @property
    def unread(self) -> dict[str, int]:
        return {name: one.unread for name, one in self.tally.known.items() if one.unread}


class Unread(RuleBasedStateMachine):
    @initialize(shards=st.integers(1, 2))
    def begin(self, shards: int) -> None:
        self.world: World = world_of("alice", "bob", "carol", shards=shards)
        self.nodes = [ServerNode(self.world, "n1"), ServerNode(self.world, "n2")]
        self.devices = {name: Device(name) for name in ("pad", "phone")}
        self.others = {user: Peer(self.nodes[0]) for user in ("bob", "carol")}
        for user, peer in self.others.items():
            peer.log_in(user)
        self.others["bob"].ask("group.create", group=GROUP, name="Tea", members=["alice", "carol"])
        self.others["alice"] = Peer(self.nodes[0])
        self.others["alice"].log_in("alice", "tablet")
        self.number = 0
        self.sent: list[tuple[dict[str, str], str]] = []  # of Bob and Carol: what names it, to whom it went

    # -- what happens

    @rule(sender=st.sampled_from(["bob", "carol"]), to=st.sampled_from(["alice", GROUP]))
    def somebody_writes(self, sender: str, to: str) -> None:
        self.number += 1
        self.others[sender].say("send", id=f"m{self.number}", to=to, body="x")
        self.sent.append(({"from": sender, "device": "pad", "id": f"m{self.number}"}, to))

    @rule(back=st.integers(0, 3))
    def somebody_deletes(self, back: int) -> None:
        if len(self.sent) > back:
            self.number += 1
            of, to = self.sent[-1 - back]
            self.others[of["from"]].say("delete", id=f"m{self.number}", to=to, of=of)

    @rule(back=st.integers(0, 3))
    def alice_reacts(self, back: int) -> None:
        """At a third device, which counts nothing."""
        if len(self.sent) > back:
            self.number += 1
            of, to = self.sent[-1 - back]
            partner = to if to == GROUP else of["from"]
            self.others["alice"].say("react", id=f"m{self.number}", to=partner, of=of, emoji="+")

    @rule(name=st.sampled_from(["pad", "phone"]), to=st.sampled_from(PARTNERS))
    def alice_writes(self, name: str, to: str) -> None:
        self.devices[name].replica.send(to, "x")

    @rule(name=st.sampled_from(["pad", "phone"]), partner=st.sampled_from(PARTNERS), back=st.integers(0, 3))
    def alice_reads(self, name: str, partner: str, back: int) -> None:
        device = self.devices[name]
        given = device.given[partner]
        if device.replica.state is State.LIVE and len(given) > back:
            device.read(partner, given[-1 - back])

    @rule(name=st.sampled_from(["pad", "phone"]), node=st.integers(0, 1))
    def alice_comes(self, name: str, node: int) -> None:
        if self.devices[name].wire is None:
            self.devices[name].connect(self.nodes[node])

    @rule(name=st.sampled_from(["pad", "phone"]))
    def a_connection_is_lost(self, name: str) -> None:
        """A login that is on its way is done first: it could push out the device's next one, which then stays away."""
        is_entering = self.devices[name].replica.state is State.ENTERING
        self.devices[name].cut()
        if is_entering:
            self._settle()

    @rule(name=st.sampled_from(["pad", "phone"]))
    def a_device_is_set_up_anew(self, name: str) -> None:
        """It has nothing but what the server says; what it had not sent is gone with it."""
        if self.devices[name].replica.unsent == 0:
            self.a_connection_is_lost(name)
            self.devices[name] = Device(name)

    @rule(node=st.integers(0, 1), shard=st.integers(0, 1))
    def a_link_is_lost_and_comes_back(self, node: int, shard: int) -> None:
        links = self.nodes[node].store.links
        link = links[shard % len(links)]
        link.cut()
        link.restore()
        link.restore()

    @rule(choices=st.lists(st.integers(0, 15), max_size=30))
    def things_move(self, choices: list[int]) -> None:
        moves = self._moves()
        for choice in choices:
            moves[choice % len(moves)]()

    def _moves(self) -> list[Callable[[], object]]:
        moves: list[Callable[[], object]] = []
        for node in self.nodes:
            moves += [node.turn, node.store.tasks.run]
            for number, link in enumerate(node.store.links):
                moves += [link.execute, partial(self._deliver, node, number)]
        return [*moves, *(partial(self._move_device, name) for name in self.devices)]

    def _move_device(self, name: str) -> bool:
        return self.devices[name].move()

    @staticmethod
    def _deliver(node: ServerNode, link: int) -> bool:
        return bool(node.store.links[link].back) and node.deliver(link)

    # -- what must be

    @rule()
    def all_agree(self) -> None:
        for _ in range(3):  # a login that was refused for now, or whose link was lost, is tried again
            for name in self.devices:
                self.alice_comes(name, 0)
            self._settle()
            for node in self.nodes:
                node.pass_time(1)
        self._settle()
        expected = self._counted()
        for name, device in self.devices.items():
            assert device.replica.state is State.LIVE
            assert not device.tally.is_outdated
            assert device.unread == expected, name
        assert self._listed() == expected
        read_by = {name: one.read_by for name, one in self.devices["pad"].tally.known.items() if one.read_by}
        assert read_by == {name: one.read_by for name, one in self.devices["phone"].tally.known.items() if one.read_by}

    def _settle(self) -> None:
        while any([*(node.move() for node in self.nodes), *(device.move() for device in self.devices.values())]):
            pass

    def _counted(self) -> dict[str, int]:
        """By the words of the rule, in the logs as they are in the store."""
        conversations = self.world.database.accounts["alice"].conversations
        records = {} if conversations is None else conversations.records
        unread: dict[str, int] = {}
        for log in ("alice", GROUP):
            for entry in self.world.database._log(log):
                message = msgspec.json.decode(entry.content)
                is_own = message.get("from") == "alice"
                if message["ev"] != "msg" and not (is_own and message["ev"] in ("edit", "delete", "reaction")):
                    continue
                partner = message["to"] if is_own or log == GROUP else message["from"]
                read = records[partner].read if partner in records else None
                is_read = is_own or (read is not None and _order(entry.at) <= _order(read))
                unread[partner] = 0 if is_read else unread.get(partner, 0) + 1
        return {partner: count for partner, count in unread.items() if count}

    def _listed(self) -> dict[str, int]:
        """As a device hears it that knows nothing."""
        peer = Peer(self.nodes[1])
        peer.log_in("alice", "new")
        (reply,) = (frame for frame in peer.ask("conversations", ref=1, limit=500) if frame.get("re") == 1)
        peer.wire.hang_up()
        self._settle()
        return {one["with"]: one["unread"] for one in reply["ok"]["conversations"] if one.get("unread")}

    @precondition(lambda self: hasattr(self, "devices"))
    @invariant()
    def nobody_counts_less_than_nothing(self) -> None:
        for device in self.devices.values():
            assert all(one.unread >= 0 for one in device.tally.known.values())

    def teardown(self) -> None:
        if hasattr(self, "devices"):
            self.all_agree()


def _order(position: bytes) -> tuple[int, int]:
    milliseconds, _, counter = position.partition(b"-")
    return int(milliseconds), int(counter)


TestUnread = Unread.TestCase
TestUnread.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
