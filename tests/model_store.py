"""A network under a test's control, between the store's data (tests/model_database.py) and the workers.

`NodeStore` is what a worker sees: the calls of `imserver.store.store.Store`. Nothing moves by itself:

    link.execute()    the store does the next call
    link.deliver()    the next reply or push arrives at the node, in the order in which the store made them
    link.cut()        what is on its way back is lost; calls without an answer will be repeated
    link.sever()      the same, as long as the node has not noticed
    world.strays      calls of lost links that may still reach the store, late
    link.restore()    first the subscriptions, then, called again, the rest
    world.fail_over() a shard loses its newest writes, and all links to it are gone
    node.tasks.run()  a waiting task goes on
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from imserver.errors import Exists, ImError, NotFound, Overloaded, ServiceError, Unavailable
from imserver.model import Entry, GroupId, Place, Position, UserId
from imserver.store.account_calls import Device, Login, Profile
from imserver.store.amending import Appends, Deletion
from imserver.store.calls import Appended, Attached, Right
from imserver.store.group_calls import Change
from imserver.store.moderation_calls import Report
from imserver.store.store_roles import Holdable, Listener, PresenceListener
from imserver.store.tries import Allowance
from tests.model_circle import NodeCircle, Rosters
from tests.model_conversations import Conversations, NodeConversations
from tests.model_database import Account, Database, Published
from tests.model_groups import GroupDatabase
from tests.model_later import NodeLater
from tests.model_tasks import Question, Tasks

Then = Callable[[Any], None]


@dataclass
class Call:
    name: str
    user: str  # whose data it concerns
    run: Callable[[Database], Any]
    then: Then
    once: bool = False  # not repeated
    also: str = ""  # another user whose data it concerns
    writes: bool = True

    @property
    def appends(self) -> bool:
        return self.name.startswith("append")

    def __str__(self) -> str:
        return f"{self.name} for {self.user or 'all'}"


class Link:
    """One node's way to one shard."""

    def __init__(self, node: "NodeStore", shard: int) -> None:
        self.node, self.shard = node, shard
        self.subscribed = self.up = True
        self.lost_lease = False  # a test says so
        self.calls: deque[Call] = deque()  # without an answer
        self.executed = 0  # how many of them the store has done
        self.back: deque[tuple[Call | None, Any]] = deque()  # replies (of a call) and pushes on their way
        self.up_since = self.oldest_seconds = 0.0
        self.epoch = node.world.epochs[shard]

    def execute(self) -> bool:
        """The store does the next call. False: there is none, or it can't come through."""
        if not self.up or self.executed == len(self.calls):
            return False
        call = self.calls[self.executed]
        self.executed += 1
        result = self.node.world.run(call)
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

    @property
    def in_flight(self) -> int:
        return len(self.calls)

    def oldest_call_seconds(self, now: float) -> float:
        """Nothing here takes any time, unless a test says so."""
        return self.oldest_seconds

    def sever(self, *, late: bool = False) -> None:
        """What the network does. `late`: what the store has not done yet is still on its way there."""
        if late and self.up:
            self.node.world.strays.append(deque(list(self.calls)[self.executed :]))
        self.subscribed = self.up = False
        self.back.clear()
        self.executed = 0

    def cut(self, *, late: bool = False) -> None:
        """Severed, and the node knows."""
        self.sever(late=late)
        self._fail_what_must_not_be_late()

    def _fail_what_must_not_be_late(self) -> None:
        late = [call for call in self.calls if call.once]
        self.calls = deque(call for call in self.calls if not call.once)
        for call in late:
            call.then(Unavailable("the store is out of reach; nobody knows whether this was done"))

    def restore(self) -> None:
        """Subscribes; called again, goes on: calls without an answer are repeated first."""
        if not self.subscribed:
            self.subscribed = True
        elif not self.up:
            self.up = True
            assert self.node.listener is not None
            is_new, self.epoch = self.epoch != self.node.world.epochs[self.shard], self.node.world.epochs[self.shard]
            refused = self.take_refused() if is_new else []
            if is_new:
                self.node.listener.on_new_epoch(lambda user: self.node.link_of(user) is self)
            self.node.listener.on_link_up(lambda user: self.node.link_of(user) is self)
            self.node.conversations.missed(lambda user: self.node.link_of(user) is self)
            for call in refused:
                call.then(Unavailable("the store may have lost its newest entries; send again with the same id"))
            if self.node.presence is not None:
                self.node.presence.missed()

    def take_refused(self) -> list[Call]:
        """Messages are not repeated in a new epoch."""
        refused = [call for call in self.calls if call.appends]
        self.calls = deque(call for call in self.calls if not call.appends)
        return refused

    def fail(self, *, late: bool = False) -> None:
        """The link stayed away for too long: nobody knows what became of the calls."""
        self.cut(late=late)
        calls, self.calls = self.calls, deque()
        for call in calls:
            call.then(Unavailable("the store does not answer; send again with the same id"))


class World:
    """The store with all its shards, and the nodes around it."""

    def __init__(self, shards: int = 2, *, push_first: bool = True, reaches_both: bool = True) -> None:
        """`reaches_both`: a single instance and no cluster, so that one call may concern two users."""
        self.database = Database(self._publish)
        self.database.rosters = Rosters(self.database)
        self.database.conversations = Conversations(self.database)
        self.shards = shards
        self.reaches_both = reaches_both and shards == 1
        self.push_first = push_first
        self.nodes: dict[str, NodeStore] = {}
        self.strays: list[deque[Call]] = []  # of one link each, in order
        self.epochs = [0] * shards  # promotions so far
        # What undoes the writes that a replica may lack, where failovers are looked at: the accounts before each.
        self._undo: list[list[dict[str, Account]]] | None = None
        self._published: list[tuple[Link, Published]] = []

    def add_node(self, name: str) -> "NodeStore":
        self.nodes[name] = NodeStore(self, name)
        return self.nodes[name]

    def kill_node(self, name: str, done: int, *, late: bool = False) -> None:
        """The node is gone; the store still does up to `done` calls that were written already, and `late` the rest."""
        node = self.nodes.pop(name)
        for link in node.links:
            while done and link.execute():
                done -= 1
            link.sever(late=late)

    # -- failover

    def remember_writes(self) -> None:
        """From now on shards can fail over."""
        self._undo = [[] for _ in range(self.shards)]

    def run(self, call: Call) -> Any:
        """The store does a call."""
        if self._undo is not None and call.writes:
            users = [user for user in (call.user, call.also) if user in self.database.accounts]
            undo = {user: self.database.accounts[user].copy() for user in users}
            self._undo[self.shard_of(call.user)].append(undo)
        return call.run(self.database)

    def replicated(self, shard: int) -> None:
        """The replica of the shard has everything."""
        if self._undo is not None:
            self._undo[shard].clear()

    def fail_over(self, shard: int, lost: int) -> int:
        """A replica without the last `lost` writes takes the primary's place. Returns how many were lost.

        What was on its way to the old primary is lost with it.
        """
        assert self._undo is not None
        undo = self._undo[shard]
        count = min(lost, len(undo))
        for _ in range(count):
            self.database.accounts.update(undo.pop())
        undo.clear()
        self.epochs[shard] += 1
        self.strays = [calls for calls in self.strays if calls and self.shard_of(calls[0].user) != shard]
        return count

    def do_stray(self, number: int) -> Call | None:
        """A call whose link is gone is done all the same, and its reply goes nowhere."""
        self.strays = [calls for calls in self.strays if calls]
        if not self.strays:
            return None
        call = self.strays[number % len(self.strays)].popleft()
        self.run(call)
        self.own_pushes(None)
        return call

    def shard_of(self, user: str) -> int:
        return sum(user.encode()) % self.shards

    def _publish(self, user: str, node: str, what: Published) -> None:
        if node in self.nodes:
            link = self.nodes[node].link_of(user)
            if link.subscribed:
                self._published.append((link, what))

    def own_pushes(self, caller: Link | None) -> list[tuple[None, Published]]:
        """Puts what was just published on its way; returns what goes to the caller itself."""
        published, self._published = self._published, []
        for link, what in published:
            if link is not caller:
                link.back.append((None, what))
        return [(None, what) for link, what in published if link is caller]

    @property
    def links(self) -> list[Link]:
        return [link for node in self.nodes.values() for link in node.links]


class NodeStore:
    """The store as one worker sees it: the interface of `imserver.store.store.Store`."""

    def __init__(self, world: World, node: str) -> None:
        self.world = world
        self.node = node
        self.tasks = Tasks()
        self.saturated: set[Link] = set()
        self.listener: Listener | None = None
        self.presence: PresenceListener | None = None
        self.circle = NodeCircle(self)
        self.links = [Link(self, shard) for shard in range(world.shards)]
        self._held: list[Holdable] = []
        self.groups = NodeGroups(self)
        self.accounts = NodeAccounts(self)
        self.amendments = NodeAmendments(self)
        self.conversations = NodeConversations(self)
        self.later = NodeLater(self)

    def listen(self, listener: Listener, presence: PresenceListener | None = None) -> None:
        self.listener, self.presence = listener, presence

    def link_of(self, user: str) -> Link:
        return self.links[self.world.shard_of(user)]

    def hear(self, what: Published) -> None:
        assert self.listener is not None
        if what.marked is not None:
            self.conversations.hear(what.marked)
        elif what.said is not None:
            what.said(self.presence)
        elif what.entry is None:
            self.listener.on_expelled(UserId(what.user), Place(what.origin), what.why)
        else:
            self.listener.on_entry(what.user, what.entry, what.origin)

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

    # -- epochs

    def may_have_lost(self, now: float) -> bool:
        """All that happens in a history happens soon after everything else in it."""
        return any(link.epoch for link in self.links)

    def went_back(self, owner: str) -> None:
        assert self.link_of(owner).epoch, "nothing was lost, as far as this node can know"

    # -- calls

    def _call(
        self, name: str, user: str, run: Callable[[Database], Any], then: Then, *, also: str = "", writes: bool = True
    ) -> None:
        self.link_of(user).calls.append(Call(name, user, run, then, also=also, writes=writes))

    def call(self, name: str, user: str, run: Callable[[Database], Any], then: Then) -> None:
        self._call(name, user, run, then)

    def ask(self, name: str, user: str, run: Callable[[Database], Any], first: Then | None = None) -> Awaitable[Any]:
        """`first` gets the answer before the task goes on."""
        question = Question(self.tasks)

        def then(result: Any) -> None:
            if first is not None:
                first(result)
            question.answer(result)

        self._call(name, user, run, then)
        return question

    def _ask(self, name: str, user: str, run: Callable[[Database], Any], *, once: bool = False) -> Awaitable[Any]:
        question = Question(self.tasks)
        self.link_of(user).calls.append(Call(name, user, run, question.answer, once))
        return question

    def append(self, user: str, dedupe: bytes, content: bytes, origin: bytes, then: Then, again: int = 0) -> None:
        self._call("append", user, lambda database: database.append(user, dedupe, content, origin, again), then)

    @property
    def reaches_both(self) -> bool:
        return self.world.reaches_both

    def append_both(
        self, to: str, own: str, dedupe: bytes, content: bytes, origin: bytes, then: Then, again: int = 0
    ) -> None:
        assert self.reaches_both

        def run(database: Database) -> Any:
            return database.append_both(to, own, dedupe, content, origin, again)

        self._call("append_both", to, run, then, also=own)

    def read(self, user: UserId, after: Position, count: int, then: Then) -> None:
        self._call(
            "read", user, lambda database: database.readable(database.read(user, after, count)), then, writes=False
        )

    def cut_of(self, user: str, then: Then) -> None:
        self._call("cut", user, lambda database: database.cut(user), then, writes=False)

    async def read_on(self, user: UserId, after: Position, count: int) -> list[Entry]:
        found: list[Entry] = await self._ask(
            "read", user, lambda database: database.readable(database.read(user, after, count))
        )
        return found

    async def read_back(self, user: UserId, before: Position | None, count: int) -> list[Entry]:
        found: list[Entry] = await self._ask(
            "read_back", user, lambda database: database.readable(database.read_back(user, before, count))
        )
        return found

    def ack(self, user: UserId, device: str, upto: Position, then: Then | None = None) -> None:
        self._call("ack", user, lambda database: database.ack(user, device, upto), then or _ignore)

    async def attach(self, user: UserId, device: str, place: Place, right: Right) -> Attached:
        if not self.link_of(user).up:
            raise Unavailable("the store is out of reach")
        logins = await self._ask("logins", user, lambda database: database.logins(user, device), once=True)
        try:
            run = partial(Database.attach, user=user, place=place, right=right, logins=logins)
            attached: Attached = await self._ask("attach", user, run, once=True)
        except ServiceError:
            self.detach(user, place, None)
            raise
        return attached

    def attach_again(self, user: UserId, place: Place, generations: str, then: Then) -> None:
        self._call("attach_again", user, lambda database: database.attach(user, place, Right(generations), None), then)

    def detach(self, user: UserId, place: Place, cursor: Position | None, then: Then | None = None) -> None:
        self._call("detach", user, lambda database: database.detach(user, place, cursor), then or _ignore)


class NodeAmendments:
    """The interface of `imserver.store.amending.AmendmentStore`."""

    def __init__(self, store: NodeStore) -> None:
        self._store = store

    def of(self, message: bytes, deletion: Deletion | None = None) -> Appends:
        def into(database: Database, user: str, *what: Any) -> Appended | ImError:
            return database.append_amendment(user, what[0], message, deletion, lambda: database.append(user, *what))

        def one(user: str, dedupe: bytes, content: bytes, origin: bytes, then: Then, again: int = 0) -> None:
            def run(database: Database) -> Any:
                return into(database, user, dedupe, content, origin, again)

            self._store._call("append_amendment", user, run, then)

        def both(to: str, own: str, dedupe: bytes, content: bytes, origin: bytes, then: Then, again: int = 0) -> None:
            assert self._store.reaches_both

            def run(database: Database) -> Any:
                received = into(database, to, dedupe, content, b"-", again)
                if isinstance(received, ImError):
                    return received
                return into(database, own, dedupe, content, origin, again)

            self._store._call("append_amendment", to, run, then, also=own)

        def post(
            log: str,
            by: str,
            dedupe: bytes,
            content: bytes,
            origin: bytes,
            then: Then,
            again: int = 0,
            mentions: Sequence[str] = (),
        ) -> None:
            def run(database: Database) -> Any:
                def append_it() -> Appended | ImError:
                    return database.groups.post(GroupId(log), by, dedupe, content, origin, again)

                return database.append_amendment(log, dedupe, message, deletion, append_it)

            self._store._call("append_amendment", log, run, then)

        return Appends(one, both, post)


class NodeAccounts:
    """The interface of `imserver.store.accounts.AccountStore`."""

    def __init__(self, store: NodeStore) -> None:
        self._store = store
        self.tries = NodeTries(store)
        self.moderation = NodeModeration(store)

    async def register(self, user: UserId, password_hash: str, invite: str | None = None) -> None:
        if invite is not None:
            if await self.password_hash(user) is not None:
                raise Exists("user: this name is taken")
            await self._store._ask("use_invite", invite, lambda database: database.use_invite(invite, user))
        try:
            run = partial(Database.register, user=user, password=password_hash, invite=invite)
            await self._store._ask("register", user, run)
        except Exists:
            if invite is not None and self._store.world.database.accounts[user].invite != invite:
                await self._store._ask("return_invite", invite, lambda database: database.return_invite(invite, user))
            raise

    async def password_hash(self, user: UserId) -> str | None:
        known: str | None = await self._store._ask("password_hash", user, lambda database: database.password_hash(user))
        return known

    async def set_password(self, user: UserId, old: str, new: str, revoking: Login | None) -> None:
        await self._store._ask("set_password", user, lambda database: database.set_password(user, old, new, revoking))

    async def revoke(self, user: UserId, device: str | None, asking: Login) -> None:
        await self._store._ask("revoke", user, lambda database: database.revoke(user, device, asking))

    async def erase(self, user: UserId, asking: Place) -> None:
        """In one step, what others have of it left out: tests/store looks at those."""
        await self._store._ask("erase", user, lambda database: database.erase(user, asking))

    async def devices(self, user: UserId) -> list[Device]:
        known: list[Device] = await self._store._ask("devices", user, lambda database: database.devices(user))
        return known

    async def name_device(self, user: UserId, device: str, name: str) -> None:
        await self._store._ask("name_device", user, lambda database: database.name_device(user, device, name))

    async def set_profile(self, user: UserId, fields: Mapping[str, str]) -> int:
        version: int = await self._store._ask("set_profile", user, lambda database: database.set_profile(user, fields))
        return version

    async def profile(self, user: UserId, viewer: UserId) -> Profile:
        known: Profile = await self._store._ask("profile", user, lambda database: database.profile(user, viewer))
        return known

    async def profiles(self, users: Sequence[UserId], viewer: UserId) -> list[Profile | ImError]:
        known: list[Profile | ImError] = []
        for user in users:
            try:
                known.append(await self.profile(user, viewer))
            except NotFound as error:
                known.append(error)
        return known

    async def names_from(self, beginning: str, most: int) -> list[UserId]:
        names: list[UserId] = await self._store._ask(
            "names_from", "", lambda database: [UserId(name) for name in database.names_from(beginning)[:most]]
        )
        return names

    async def signing_keys(self, key_id: str, secret: str) -> dict[str, str]:
        known: dict[str, str] = await self._store._ask(
            "signing_keys", "", lambda database: database.signing_keys(key_id, secret)
        )
        return known


class NodeModeration:
    """The interface of `imserver.store.moderation.Moderation`."""

    def __init__(self, store: NodeStore) -> None:
        self._store = store

    async def report(self, what: Report, most: int) -> None:
        def run(database: Database) -> ImError | None:
            key = what.by, what.user
            if key not in database.reports and len(database.reports) >= most:
                return Overloaded("too many reports wait for the administrators", 3600.0)
            database.reports[key] = what
            return None

        await self._store._ask("report", "", run)


class NodeTries:
    """The interface of `imserver.store.tries.Tries`; an hour never ends."""

    def __init__(self, store: NodeStore) -> None:
        self._store = store

    async def spend(self, allowance: Allowance) -> float:
        wait: float = await self._store._ask("try", allowance.who, lambda database: database.spend(allowance))
        return wait

    def forgive(self, allowance: Allowance) -> None:
        self._store._call("forgive", allowance.who, lambda database: database.forgive(allowance), _ignore)


class NodeGroups:
    """The interface of `imserver.store.groups.GroupStore`."""

    def __init__(self, store: NodeStore) -> None:
        self._store = store

    def post(
        self,
        group: GroupId,
        sender: str,
        dedupe: bytes,
        content: bytes,
        origin: bytes,
        then: Then,
        again: int = 0,
        mentions: Sequence[str] = (),
    ) -> None:
        self._call(
            "append_group", group, lambda it: it.post(group, sender, dedupe, content, origin, again, mentions), then
        )

    async def create(self, group: GroupId, owner: str, token: str, content: bytes, fields: dict[str, Any]) -> Any:
        return await self._ask("create", group, lambda it: it.create(group, owner, token, content, fields))

    async def change(self, group: GroupId, what: Change) -> Any:
        return await self._ask(what.action, group, lambda it: it.change(group, what))

    async def info(self, group: GroupId, user: str) -> Any:
        return await self._ask("info", group, lambda it: it.info(group, user))

    async def members(self, group: GroupId, cursor: str, count: int) -> tuple[None, list[tuple[str, str]]]:
        known = await self._ask("members", group, lambda it: it.groups[group].members)
        return None, [(user, standing) for user, (standing, _) in known.items()]

    def read(self, group: str, after: Position, count: int, then: Then) -> None:
        self._store.read(UserId(group), after, count, then)

    def follow(self, group: GroupId, user: str, cursor: Position, most: int, then: Then) -> None:
        node = self._store.node
        self._call("follow", group, lambda it: it.follow(group, node, user, cursor, most), then)

    def typing(self, sender: UserId, group: GroupId, most: int, *, is_on: bool) -> None:
        self._call("typing", group, lambda it: it.typing(sender, group, most, is_on), _ignore)

    def follow_again(self, group: GroupId, then: Then) -> None:
        node = self._store.node
        self._call("follow_again", group, lambda it: it.follow_again(group, node), then)

    def unfollow(self, group: GroupId) -> None:
        self._store._call("unfollow", group, lambda database: database.clear(group, self._store.node), _ignore)

    async def announce(self, user: str, group: GroupId, most_groups: int, most_made: int | None = None) -> None:
        await self._ask("announce", user, lambda it: it.announce(user, group, most_groups, most_made))

    async def enlist(self, user: str, group: GroupId, as_of: Position, what: str, content: bytes) -> None:
        await self._ask("enlist", user, lambda it: it.enlist(user, group, as_of, what, content))

    def enlist_later(self, user: str, group: GroupId, as_of: Position, what: str, content: bytes) -> None:
        self._call("enlist", user, lambda it: it.enlist(user, group, as_of, what, content), _ignore)

    async def listed(self, user: str) -> Any:
        return await self._ask("listed", user, lambda it: it.listed(user))

    def ack(self, user: str, device: str, group: GroupId, upto: Position, then: Then | None = None) -> None:
        self._call("ack_group", user, lambda it: it.ack(user, device, group, upto), then or _ignore)

    def _call(self, name: str, owner: str, run: Callable[[GroupDatabase], Any], then: Then) -> None:
        self._store._call(name, owner, lambda database: run(database.groups), then)

    def _ask(self, name: str, owner: str, run: Callable[[GroupDatabase], Any]) -> Awaitable[Any]:
        return self._store._ask(name, owner, lambda database: run(database.groups))


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
