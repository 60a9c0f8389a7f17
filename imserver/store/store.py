"""The store as a worker uses it: typed calls on the shard of the log's owner, and what is published to this node."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from imserver.errors import ImError, ServiceError, Unavailable
from imserver.model import Entry, Place, Position, UserId
from imserver.observe.log import get_logger
from imserver.observe.metrics import Counters
from imserver.store import calls, circle_calls
from imserver.store.accounts import AccountStore
from imserver.store.amending import AmendmentStore
from imserver.store.answers import ignore
from imserver.store.calls import Appended, Attached, Late, Right
from imserver.store.circle import Circle
from imserver.store.cluster_map import ClusterMap
from imserver.store.cluster_watch import ClusterWatch
from imserver.store.conversations import ConversationStore
from imserver.store.departures import Departures
from imserver.store.epochs import IN_DOUBT_SECONDS
from imserver.store.groups import GroupStore
from imserver.store.later import LaterStore
from imserver.store.leases import Lease, NodeInfo
from imserver.store.link_roles import LinkReactor
from imserver.store.links import Links
from imserver.store.pages import PageReads
from imserver.store.partitions import Hosting, UserKeys, partition_of, user_keys
from imserver.store.redis_link import RedisLink, Then
from imserver.store.shards import Shard
from imserver.store.store_roles import Holdable, Listener, PresenceListener, StoreOptions
from imserver.store.trimming import Trimming

log = get_logger("store")

_ENTRY = ord("e")
NOBODY = b"-"  # the origin of an entry whose reply stands on no session
_SILENT_SECONDS = 1.0  # longer than a Redis that is well takes
_UNPROVEN_PROBES = 5  # a subscription that lost so many probes in a row is made anew


class Store:
    """All shards. The calls with `then` are for plain functions, the `async` ones for tasks."""

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        info: NodeInfo,
        options: StoreOptions,
        reactor: LinkReactor,
        counters: Counters,
        spawn: Callable[..., None],
        on_dead: Callable[[], None],
    ) -> None:
        """`spawn` starts a task. `on_dead`: this node was taken for dead and MUST end."""
        self.node = node = info.node
        self._counters, self._options = counters, options
        self._reactor = reactor
        self._listener: Listener | None = None
        self.groups = GroupStore(self)
        self._presence: PresenceListener | None = None
        self.saturated: set[RedisLink] = set()  # links on which too many calls wait
        # Whether one call can concern two users: a cluster takes no call that concerns two slots.
        self.reaches_both = not any(shard.clustered for shard in shards)
        self._next_probe = 0.0
        self._departures = Departures()
        self._spawn = spawn
        self._links = Links(
            shards,
            make_link=lambda shard: RedisLink(
                shard,
                node=node,
                owner=self,
                reactor=reactor,
                counters=counters,
                timeout=options.timeout_seconds,
                most_calls=options.most_calls,
            ),
            make_lease=lambda link: Lease(
                link,
                info,
                options.lease_seconds,
                spawn=spawn,
                on_lost=self._on_lease_lost,
                on_cleared=self._on_cleared,
                on_dead=on_dead,
                on_gone=self._on_gone,
            ),
        )
        self.links, self._leases = self._links.all, self._links.leases
        self._by_partition = self._links.by_partition
        self.trimming = Trimming(self._by_partition, options.bounds)
        self._pages = PageReads(self._by_partition, self.trimming)
        self.circle = Circle(self)
        self.amendments = AmendmentStore(self)
        self.accounts = AccountStore(self)
        self.later = LaterStore(self, self._by_partition)
        self.conversations = ConversationStore(self)
        seeds = [shard.url for shard in shards if shard.clustered]
        self._watch = ClusterWatch(seeds, on_map=self._on_map, are_up=self._are_up) if seeds else None

    def start(self) -> None:
        """Spawns what MUST be running for anything to happen."""
        for link in self.links:
            self._spawn(link.life.run)
        if self._watch is not None:
            self._spawn(self._watch.run)

    async def wait_up(self) -> None:
        """Until every link has been up once, which includes its subscriptions."""
        for link in list(self.links):
            await link.wait_up()

    def listen(self, listener: Listener, presence: PresenceListener) -> None:
        """MUST be called once, before the links run."""
        self._listener, self._presence = listener, presence

    def link_of_deployment(self) -> RedisLink:
        """Of the keys that belong to no user."""
        return self._by_partition[0]

    def link_of(self, owner: str) -> RedisLink:
        """Of a user, or of a group."""
        return self._by_partition[partition_of(owner)]

    # -- backpressure

    def on_saturated(self, link: RedisLink) -> None:
        self.saturated.add(link)

    def on_relieved(self, link: RedisLink) -> None:
        self.saturated.discard(link)

    def hold_while_saturated(self, client: Holdable) -> None:
        """A client that asks for more than a shard can do waits until it can."""
        for link in self.saturated:
            client.hold()
            link.when_relieved(client.release)

    # -- messages and logs

    def append(
        self,
        user: str,
        dedupe: bytes,
        content: bytes,
        origin: bytes,
        then: Callable[[Appended | ImError], None],
        again: int = 0,
    ) -> None:
        """One entry at the end of the user's log; `then` gets where it stands, NotFound, or a ServiceError.

        `again`: so many bytes at the beginning of `content` tell the message from all others; it may stand in the log
        already, and for so long that the dedupe index has forgotten it.
        """
        keys = user_keys(user)
        link = self._by_partition[keys.partition]
        link.call(calls.append(keys, dedupe, content, origin, again), then, calls.appended)
        self.trimming.now_and_then(keys)

    def append_both(
        self,
        to: str,
        own: str,
        dedupe: bytes,
        content: bytes,
        origin: bytes,
        then: Callable[[Appended | ImError], None],
        again: int = 0,
    ) -> None:
        """The same entry into the recipient's log and the sender's own, at once, where the store `reaches_both`.

        `then` gets where it stands in the sender's, NotFound, or a ServiceError.
        """
        keys, own_keys = user_keys(to), user_keys(own)
        link = self._by_partition[keys.partition]
        link.call(calls.append_both(keys, own_keys, dedupe, content, origin, again), then, calls.appended)
        self.trimming.now_and_then(keys, own_keys)

    def read(self, log: str, after: Position, count: int, then: Callable[[list[Entry] | ImError], None]) -> None:
        """At most `count` entries of the log of a user or a group behind `after`, oldest first."""
        self._pages.read(user_keys(log), after, count, then)

    async def read_on(self, log: str, after: Position, count: int) -> list[Entry]:
        """As `read`, for a task."""
        return await self._pages.read_now(user_keys(log), calls.read(user_keys(log), after, count))

    async def read_back(self, log: str, before: Position | None, count: int) -> list[Entry]:
        """At most `count` entries before `before` (None: the end), newest first."""
        return await self._pages.read_now(user_keys(log), calls.read_back(user_keys(log), before, count))

    def cut_of(self, log: str, then: Callable[[Position | ImError | None], None]) -> None:
        """`then` gets the position before which entries have left because of the log's bounds; None: none have."""
        self.link_of(log).call(calls.cut(user_keys(log)), then)

    def ack(self, user: UserId, device: str, upto: Position, then: Callable[[object], None] | None = None) -> None:
        """The device has kept everything up to there."""
        keys = user_keys(user)
        self._by_partition[keys.partition].call(calls.ack(keys, device, upto), then or ignore)

    # -- the directory

    async def attach(self, user: UserId, device: str, place: Place, right: Right) -> Attached:
        """A session enters the directory. Raises what `calls.attached` raises, and ServiceError.

        A login that is done much later than it was asked for, when its client has come in elsewhere, would push out the
        newer session. So it is not repeated, and refused if another one was done since.
        """
        keys = user_keys(user)
        logins = await self._link_with_lease(keys).ask(calls.logins(keys, device), once=True)
        link = self._link_with_lease(keys)  # a cluster may have changed meanwhile
        command = calls.attach(keys, self._hosting(keys), place, right, logins, time.time())
        try:
            attached: Attached = await link.ask(command, calls.attached, once=True)
        except Late:
            raise
        except ServiceError:
            self.detach(user, place, None)  # it may have been done all the same
            raise
        return attached

    def _link_with_lease(self, keys: UserKeys) -> RedisLink:
        link = self._by_partition[keys.partition]
        if not (link.up and self._leases[link].is_held):
            raise Unavailable(f"the store is out of reach ({link.why_down or 'no lease'})")
        return link

    def attach_again(
        self, user: UserId, place: Place, generations: str, then: Callable[[Attached | ImError], None]
    ) -> None:
        """A session makes sure that it is in the directory, after a lost link.

        `then` may get calls.Replaced, or ExpiredToken where the login was revoked meanwhile.
        """
        keys = user_keys(user)
        command = calls.attach_again(keys, self._hosting(keys), place, generations)
        self._by_partition[keys.partition].call(command, then, calls.attached)

    def detach(self, user: UserId, place: Place, cursor: Position | None, then: Then = ignore) -> None:
        """A session leaves the directory; its cursor is kept. `then` gets calls.OWES where contacts are to hear."""
        keys = user_keys(user)
        answered = self._departures.watch(place, partial(self.detach, user, place, cursor, then), then)
        self._by_partition[keys.partition].call(
            calls.detach(keys, self._hosting(keys), place, cursor, time.time()), answered
        )

    def _hosting(self, keys: UserKeys) -> Hosting:
        return Hosting(keys.partition, self.node.encode())

    async def take_leases(self) -> None:
        """Before the first login. Raises ServiceError."""
        for lease in list(self._leases.values()):
            await lease.take(self._reactor.now)

    def is_lost(self, owner: str) -> bool:
        """Out of reach, and the lease there is, too."""
        link = self.link_of(owner)
        return not (link.up or self._leases[link].is_held)

    def may_be_dead(self, now: float) -> bool:
        """Whether others may have taken this node for dead; `now`: reactor time."""
        return any(lease.may_be_dead(now) for lease in self._leases.values())

    async def leave(self, owing_seconds: float = 0.0) -> None:
        """When the last session has left, if the store knows. Raises ServiceError. `owing_seconds`: see Lease.leave."""
        if self._departures:
            return
        for lease in list(self._leases.values()):
            await lease.leave(owing_seconds)

    # -- what the links say

    def on_up(self, link: RedisLink, *, in_new_epoch: bool) -> None:
        assert self._listener is not None and self._presence is not None
        self._leases[link].renew(self._reactor.now)
        if in_new_epoch:
            self._tell_new_epoch(link)
        self._listener.on_link_up(lambda owner: self.link_of(owner) is link)
        self.conversations.missed(lambda owner: self.link_of(owner) is link)
        self._presence.missed()

    def on_down(self, link: RedisLink) -> None:
        if self._watch is not None:
            self._watch.doubt()

    def _are_up(self) -> bool:
        return all(link.up for link in self.links)

    def _on_map(self, found: ClusterMap) -> None:
        with self._reactor.batch():
            new_links, moves = self._links.arrange(found)
        for link in new_links:
            self._spawn(link.life.run)
        for loser, gainer in moves:
            self._spawn(self._links.expect_nodes, loser, gainer)

    def on_push(self, message: bytes) -> None:
        assert self._listener is not None
        if message[0] == _ENTRY:
            fields: list[Any] = message.split(b" ", 5)
            _, user, at, prev, origin, content = fields
            self._listener.on_entry(user.decode(), Entry(at, prev, content), origin)
            return
        kind, _, rest = message.partition(b" ")
        if kind == b"x":
            user, place, why = rest.split(b" ")
            self._listener.on_expelled(UserId(user.decode()), Place(place), why.decode())
        elif kind == b"m":
            self.conversations.on_push(rest)
        elif kind == b"p":
            for link in self.links:
                if link.url.encode() == rest:
                    link.proven()
        else:
            self._on_presence(kind, rest)

    def _on_presence(self, kind: bytes, rest: bytes) -> None:
        assert self._presence is not None
        if kind == b"s":
            subject, to, told = rest.split(b" ", 2)
            names = [UserId(name) for name in to.decode().split(",")]
            self._presence.on_told(UserId(subject.decode()), names, circle_calls.told(told))
        elif kind == b"t":
            whom, sender, is_on = rest.decode().split(" ")
            self._presence.on_typing(whom, UserId(sender), is_on=is_on == "1")

    async def _on_gone(self, user: UserId, node: str) -> None:
        assert self._presence is not None
        await self._presence.clear(user, node)

    def _on_lease_lost(self, link: RedisLink) -> None:
        assert self._listener is not None and self._presence is not None
        self._listener.on_lease_lost(lambda owner: self.link_of(owner) is link)
        self._presence.missed()

    def _on_cleared(self, link: RedisLink) -> None:
        assert self._listener is not None
        self._listener.on_cleared(lambda owner: self.link_of(owner) is link)

    # -- epochs

    def may_have_lost(self, now: float) -> bool:
        """Whether a client that comes in now may still have to send again what a shard has lost."""
        return any(now - link.epoch_began < IN_DOUBT_SECONDS for link in self.links)

    def went_back(self, owner: str) -> None:
        """The user's log has lost its end. Where no new epoch tells why (an old file was restored), this begins one."""
        link = self.link_of(owner)
        if self._reactor.now - link.epoch_began >= IN_DOUBT_SECONDS:
            link.epoch_began = self._reactor.now
            self._tell_new_epoch(link)

    def _tell_new_epoch(self, link: RedisLink) -> None:
        log.warning("the shard may have lost its newest entries: clients are asked to send again", shard=link.url)
        self._counters.epochs += 1
        assert self._listener is not None
        self._listener.on_new_epoch(lambda user: self.link_of(user) is link)

    # -- health

    def tick(self, now: float) -> None:
        """Once a second: time-outs, leases and probes."""
        self._departures.tick()
        for link in self._links.retired:
            link.tick(now)
        for link in self.links:
            link.tick(now)
            self._leases[link].tick(now)
            if link.oldest_call_seconds(now) >= _SILENT_SECONDS:
                self.on_down(link)
        if now < self._next_probe:
            return
        self._next_probe = now + self._options.probe_seconds
        for link in self.links:
            if link.up and now - link.proven_at > self._options.probe_seconds * _UNPROVEN_PROBES:
                link.drop("its subscriptions deliver nothing")
            link.probe()

    def why_not_ready(self, now: float) -> str:
        """Empty while entries are proven to come through from every shard; else what is wrong."""
        for link in self.links:
            if not link.up:
                return f"{link.url}: {link.why_down}"
            if now - link.proven_at > 3 * self._options.probe_seconds:
                return f"{link.url}: no probe has come back for {now - link.proven_at:.1f} s"
        return ""

    @property
    def in_flight(self) -> int:
        return sum(link.in_flight for link in self.links)
