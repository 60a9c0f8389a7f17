"""The store's contract in plain Python, and a network under a test's control between it and the workers.

`Database` says what `imserver/store/functions/im.lua` does to one user's data, as plainly as possible; a property test
(tests/test_model_store.py) holds it against a real server. `NodeStore` is what a worker sees: the calls of
`imserver.store.store.Store`. Between them lie links, one for each node and shard, on which nothing moves by itself:

    link.execute()    the store does the next call
    link.deliver()    the next reply or push arrives at the node, in the order in which the store made them
    link.cut()        what is on its way back is lost; calls without an answer will be repeated
    link.restore()    first the subscriptions, then, called again, the rest
    node.tasks.run()  a waiting task goes on
"""

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from imserver.errors import BadCredentials, Exists, ExpiredToken, ImError, NotAllowed, NotFound, Unavailable
from imserver.model import START, Entry, Position, UserId, position_order
from imserver.store.calls import Appended, Attached, Bounds, Replaced
from imserver.store.store import Holdable, Listener

Then = Callable[[Any], None]


class Published(NamedTuple):
    """An entry, or, with `why`, that the session at `origin` must go. `user` may have moved on since."""

    user: str
    entry: Entry | None
    origin: bytes
    why: str = ""


@dataclass
class Account:
    """All that is kept of one user."""

    password: str
    last: Position = START
    log: list[Entry] = field(default_factory=list)
    seen: dict[bytes, Position] = field(default_factory=dict)  # dedupe field -> position
    low: Position = START  # entries up to here have left `seen`
    on: dict[str, bytes] = field(default_factory=dict)  # device -> place
    cursors: dict[str, Position] = field(default_factory=dict)
    disabled: bool = False
    generation: int = 0
    device_generation: dict[str, int] = field(default_factory=dict)

    def generations(self, device: str) -> str:
        return f"{self.generation}.{self.device_generation.get(device, 0)}"

    def keep(self, device: str, position: Position) -> None:
        """A cursor goes forward only, and never past the end."""
        known = self.cursors.get(device)
        if not newer(position, self.last) and (known is None or newer(position, known)):
            self.cursors[device] = position


def newer(one: bytes, other: bytes) -> bool:
    return position_order(one) > position_order(other)


def node_of(place: bytes) -> str:
    return place.partition(b".")[0].decode()


class Database:
    """All users. Each method is one atomic step, and can be repeated."""

    def __init__(self, publish: Callable[[str, str, Published], None]) -> None:
        """`publish` is told user, node and what is published there."""
        self.accounts: dict[str, Account] = {}
        self.keys: dict[str, str] = {}
        self.milliseconds = 1000
        self._publish = publish

    # -- accounts

    def register(self, user: str, password: str) -> ImError | None:
        known = self.accounts.get(user)
        if known is None:
            self.accounts[user] = Account(password)
            return None
        return None if known.password == password != "" else Exists("user: this name is taken")

    def password_hash(self, user: str) -> str | None:
        return self.accounts[user].password if user in self.accounts else None

    def revoke(self, user: str, device: str | None) -> ImError | None:
        account = self.accounts.get(user)
        if account is None:
            return NotFound("there is no such user")
        if device is None:
            account.generation += 1
        else:
            account.device_generation[device] = account.device_generation.get(device, 0) + 1
        for name, place in account.on.items():
            if device in (None, name):
                self._publish(user, node_of(place), Published(user, None, place, "revoked"))
        return None

    def erase(self, user: str) -> ImError | None:
        answer = self.revoke(user, None)
        self.accounts.pop(user, None)
        return answer

    def signing_keys(self, key_id: str, secret: str) -> dict[str, str]:
        if not self.keys:
            self.keys = {key_id: secret, "current": key_id}
        return dict(self.keys)

    # -- the log

    def append(self, user: str, dedupe: bytes, content: bytes, origin: bytes) -> Appended | ImError:
        account = self.accounts.get(user)
        if account is None:
            return NotFound("to: there is no such user")
        if dedupe in account.seen:
            return Appended(account.seen[dedupe], None)
        self.milliseconds += 1
        entry = Entry(Position(b"%d-0" % self.milliseconds), account.last, content)
        account.log.append(entry)
        account.seen[dedupe] = account.last = entry.at
        if list(account.on.values()) != [origin]:
            for node in {node_of(place) for place in account.on.values()}:
                self._publish(user, node, Published(user, Entry(entry.at, entry.prev, content), origin))
        return Appended(entry.at, entry.prev)

    def read(self, user: str, after: Position, count: int) -> list[Entry]:
        return [entry for entry in self._log(user) if newer(entry.at, after)][:count]

    def read_back(self, user: str, before: Position | None, count: int) -> list[Entry]:
        return [entry for entry in reversed(self._log(user)) if before is None or newer(before, entry.at)][:count]

    def _log(self, user: str) -> list[Entry]:
        return self.accounts[user].log if user in self.accounts else []

    def trim(self, user: str, now_milliseconds: int, bounds: Bounds, steps: int = 256) -> int:
        """Entries leave the dedupe index oldest first, then the log, never the other way round."""
        account = self.accounts.get(user)
        if account is None:
            return 0
        surplus = account.log[: max(0, len(account.log) - bounds.most_entries)][:steps]
        surplus_end = surplus[-1].at if surplus else START
        window, age = bounds.dedupe_seconds * 1000, bounds.longest_age_seconds * 1000
        passed = 0
        for entry in self.read(user, account.low, steps):
            if position_order(entry.at)[0] >= now_milliseconds - window and newer(entry.at, surplus_end):
                break
            account.seen = {known: at for known, at in account.seen.items() if at != entry.at}
            account.low = entry.at
            passed += 1

        def stays(entry: Entry) -> bool:
            is_old = position_order(entry.at)[0] < now_milliseconds - age or not newer(entry.at, surplus_end)
            return not is_old or newer(entry.at, account.low)

        account.log = [entry for entry in account.log if stays(entry)]
        return passed

    def ack(self, user: str, device: str, upto: Position) -> int:
        if user in self.accounts:
            self.accounts[user].keep(device, upto)
        return 1

    # -- the directory

    def attach(
        self, user: str, device: str, place: bytes, generations: str | None, *, again: bool
    ) -> Attached | ImError:
        account = self.accounts.get(user)
        if account is None:
            return BadCredentials("user or password is wrong")
        if account.disabled:
            return NotAllowed("this account is disabled")
        if generations not in (None, account.generations(device)):
            return ExpiredToken("this token was revoked; log in by password")
        former = account.on.get(device)
        if former not in (None, place):
            if again:
                return Replaced("another session of this device has logged in")
            assert former is not None
            self._publish(user, node_of(former), Published(user, None, former, "replaced"))
        account.on[device] = place
        return Attached(account.last, account.cursors.get(device), account.generations(device))

    def detach(self, user: str, device: str, place: bytes, cursor: Position | None) -> int:
        account = self.accounts.get(user)
        if account is not None:
            if cursor is not None:
                account.keep(device, cursor)
            if account.on.get(device) == place:
                del account.on[device]
        return 1


# -- the network


@dataclass
class Call:
    run: Callable[[Database], Any]
    then: Then


class Link:
    """One node's way to one shard."""

    def __init__(self, node: "NodeStore", shard: int) -> None:
        self.node, self.shard = node, shard
        self.subscribed = self.up = True
        self.calls: deque[Call] = deque()  # without an answer
        self.executed = 0  # how many of them the store has done
        self.back: deque[tuple[Call | None, Any]] = deque()  # replies (of a call) and pushes on their way

    def execute(self) -> bool:
        """The store does the next call. False: there is none, or it can't come through."""
        if not self.up or self.executed == len(self.calls):
            return False
        call = self.calls[self.executed]
        self.executed += 1
        result = call.run(self.node.world.database)
        # A function's push to its own link comes before the reply on Redis, behind it on Valkey.
        own = self.node.world.own_pushes(self)
        if self.node.world.push_first:
            self.back.extend([*own, (call, result)])
        else:
            self.back.extend([(call, result), *own])
        return True

    def deliver(self) -> bool:
        """The next reply or push arrives. False: there is none."""
        if not self.up or not self.back:
            return False
        call, content = self.back.popleft()
        if call is None:
            self.node.hear(content)
        else:
            self.calls.popleft()
            self.executed -= 1
            call.then(content)
        return True

    def cut(self) -> None:
        self.subscribed = self.up = False
        self.back.clear()
        self.executed = 0

    def restore(self) -> None:
        """Subscribes; called again, goes on: calls without an answer are repeated first."""
        if not self.subscribed:
            self.subscribed = True
        elif not self.up:
            self.up = True
            assert self.node.listener is not None
            self.node.listener.on_link_up(lambda user: self.node.link_of(user) is self)

    def fail(self) -> None:
        """The link stayed away for too long: nobody knows what became of the calls."""
        self.cut()
        calls, self.calls = self.calls, deque()
        for call in calls:
            call.then(Unavailable("the store does not answer; send again with the same id"))


class World:
    """The store with all its shards, and the nodes around it."""

    def __init__(self, shards: int = 2, *, push_first: bool = True) -> None:
        self.database = Database(self._publish)
        self.shards = shards
        self.push_first = push_first
        self.nodes: dict[str, NodeStore] = {}
        self._published: list[tuple[Link, Published]] = []

    def add_node(self, name: str) -> "NodeStore":
        self.nodes[name] = NodeStore(self, name)
        return self.nodes[name]

    def kill_node(self, name: str, done: int) -> None:
        """The node is gone; the store still does up to `done` calls that were written already."""
        node = self.nodes.pop(name)
        for link in node.links:
            while done and link.execute():
                done -= 1

    def shard_of(self, user: str) -> int:
        return sum(user.encode()) % self.shards

    def _publish(self, user: str, node: str, what: Published) -> None:
        if node in self.nodes:
            link = self.nodes[node].link_of(user)
            if link.subscribed:
                self._published.append((link, what))

    def own_pushes(self, caller: Link) -> list[tuple[None, Published]]:
        """Puts what was just published on its way; returns what goes to the caller itself."""
        published, self._published = self._published, []
        for link, what in published:
            if link is not caller:
                link.back.append((None, what))
        return [(None, what) for link, what in published if link is caller]

    @property
    def links(self) -> list[Link]:
        return [link for node in self.nodes.values() for link in node.links]


class _Question:
    """What a task waits for: the answer of a call."""

    def __init__(self, tasks: "Tasks") -> None:
        self._tasks = tasks
        self.task: Coroutine[Any, Any, None] | None = None

    def answer(self, result: Any) -> None:
        assert self.task is not None
        task, tasks = self.task, self._tasks
        tasks.ready.append(lambda: tasks.go_on(task, result))

    def __await__(self) -> Generator["_Question", Any, Any]:
        return (yield self)


class Tasks:
    """Runs the tasks of rare commands, one step at a time, when told to."""

    def __init__(self) -> None:
        self.ready: deque[Callable[[], None]] = deque()

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        self.ready.append(lambda: self.go_on(function(*arguments), None))

    def run(self) -> bool:
        """One task goes on until it waits again. False: all are waiting."""
        if not self.ready:
            return False
        self.ready.popleft()()
        return True

    def go_on(self, task: Coroutine[Any, Any, None], result: Any) -> None:
        try:
            question = task.throw(result) if isinstance(result, ImError) else task.send(result)
        except StopIteration:
            return
        question.task = task


class NodeStore:
    """The store as one worker sees it: the interface of `imserver.store.store.Store`."""

    def __init__(self, world: World, node: str) -> None:
        self.world = world
        self.node = node
        self.tasks = Tasks()
        self.saturated: set[Link] = set()
        self.listener: Listener | None = None
        self.links = [Link(self, shard) for shard in range(world.shards)]
        self._held: list[Holdable] = []

    def listen(self, listener: Listener) -> None:
        self.listener = listener

    def link_of(self, user: str) -> Link:
        return self.links[self.world.shard_of(user)]

    def hear(self, what: Published) -> None:
        assert self.listener is not None
        if what.entry is None:
            self.listener.on_expelled(UserId(what.user), what.origin, what.why)
        else:
            self.listener.on_entry(UserId(what.user), what.entry, what.origin)

    # -- backpressure

    def saturate(self) -> None:
        """From now on too many calls wait."""
        self.saturated.update(self.links)

    def relieve(self) -> None:
        self.saturated.clear()
        held, self._held = self._held, []
        for client in held:
            client.release()

    def hold_while_saturated(self, client: Holdable) -> None:
        client.hold()
        self._held.append(client)

    # -- calls

    def _call(self, user: str, run: Callable[[Database], Any], then: Then) -> None:
        self.link_of(user).calls.append(Call(run, then))

    def _ask(self, user: str, run: Callable[[Database], Any]) -> Awaitable[Any]:
        question = _Question(self.tasks)
        self._call(user, run, question.answer)
        return question

    def append(self, user: str, dedupe: bytes, content: bytes, origin: bytes, then: Then) -> None:
        self._call(user, lambda database: database.append(user, dedupe, content, origin), then)

    def read(self, user: UserId, after: Position, count: int, then: Then) -> None:
        self._call(user, lambda database: database.read(user, after, count), then)

    async def read_back(self, user: UserId, before: Position | None, count: int) -> list[Entry]:
        found: list[Entry] = await self._ask(user, lambda database: database.read_back(user, before, count))
        return found

    def ack(self, user: UserId, device: str, upto: Position, then: Then | None = None) -> None:
        self._call(user, lambda database: database.ack(user, device, upto), then or _ignore)

    async def attach(self, user: UserId, device: str, place: bytes, generations: str | None) -> Attached:
        if not self.link_of(user).up:
            raise Unavailable("the store is out of reach")
        attached: Attached = await self._ask(
            user, lambda database: database.attach(user, device, place, generations, again=False)
        )
        return attached

    def attach_again(self, user: UserId, device: str, place: bytes, generations: str, then: Then) -> None:
        self._call(user, lambda database: database.attach(user, device, place, generations, again=True), then)

    def detach(self, user: UserId, device: str, place: bytes, cursor: Position | None) -> None:
        self._call(user, lambda database: database.detach(user, device, place, cursor), _ignore)

    async def register(self, user: UserId, password_hash: str) -> None:
        await self._ask(user, lambda database: database.register(user, password_hash))

    async def password_hash(self, user: UserId) -> str | None:
        known: str | None = await self._ask(user, lambda database: database.password_hash(user))
        return known

    async def signing_keys(self, key_id: str, secret: str) -> dict[str, str]:
        known: dict[str, str] = await self._ask("", lambda database: database.signing_keys(key_id, secret))
        return known


def _ignore(reply: object) -> None:
    """The answer of a call that nobody waits for."""


def settle(nodes: Iterable[NodeStore]) -> None:
    """Everything that can move does, until nothing can."""
    moved = True
    while moved:
        moved = False
        for node in nodes:
            for link in node.links:
                while link.execute() or link.deliver():
                    moved = True
            while node.tasks.run():
                moved = True
