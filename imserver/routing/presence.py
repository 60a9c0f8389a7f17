"""Presence: who shows what to whom, and since when. Never logged, and the first that waits under load.

What contacts are to be told of a user stands in the store (`told`) and follows, in one atomic step (`settle`), what the
user's devices show. Whoever changed it then tells: it looks where the contacts are, and publishes one message for each
node, which names all contacts there. Nothing is written for a contact, and nothing is stored for one who is away.

**Two who come at once each hear of the other.** A user's own presence is written before that of the contacts is read,
and told after it was written; so of two, the later one to write reads the other.

**What is heard last is what holds.** News of a user and answers about it come over the link of its shard, in one order.
Therefore an answer is passed on as it comes (`whereabouts`), and not by the task that waits for it.

**Never online for ever.** While contacts have not heard that a session has ended, the store has its user as hosted by
the node that owes them the news: should the node die, whoever clears it tells. A session that may have missed something
is given all its contacts anew.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from math import inf
from typing import NamedTuple

from imserver.errors import ImError
from imserver.model import Place, UserId
from imserver.observe.log import get_logger
from imserver.protocol.commands import SetPresence
from imserver.protocol.overload import Level, level_of
from imserver.protocol.presence import REACHABILITY
from imserver.protocol.pushes import EMPTY, PresencePush, Shared
from imserver.routing.typing import TypingNotices
from imserver.session.context import Context
from imserver.session.session import Session
from imserver.store.circle_calls import OFFLINE, Extent, Settled, Shown, Told, Whereabouts

log = get_logger("presence")

ORDER = " ".join(REACHABILITY).encode()
RETRY_SECONDS = 5.0
_MOST_WORKERS = 16


class _Gone(NamedTuple):
    """A session that has ended, and what is done if it is not back by `due` (reactor time)."""

    since: float
    due: float


_NEVER = _Gone(inf, inf)


class Presence:
    """Handler of `presence`; the rest is told by sessions and the store."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._circle = context.store.circle
        self.typing = TypingNotices(context)
        # Stands for all that were here before the lease was lost:
        self._own_node = b"=" + context.store.node.encode()
        # Who is waited for (a place, a device that has logged out, or this node), in the order in which they are due:
        self._gone: dict[tuple[UserId, bytes], _Gone] = {}
        self._unsettled: dict[UserId, None] = {}  # what contacts are told may be behind
        self._outdated: dict[Session, None] = {}  # may have missed something
        self._workers = 0  # tasks for what has waited
        self._tasks = 0  # all

    # -- commands

    async def show(self, session: Session, command: SetPresence) -> None:
        shown = Shown(session.place, command.show, command.status)
        settled = await self._circle.settle(session.user, ORDER, shown=shown)
        session.reply(command.ref, EMPTY)
        await self._tell_or_later(session.user, settled)

    def _is_strained(self) -> bool:
        """Whether what is to be told waits, since more important things do."""
        return level_of(self._context.worst_strain()) >= Level.PRESENCE

    # -- sessions come and go

    def came(self, session: Session) -> None:
        """Most have no contacts: that costs a call and no task."""
        self._gone.pop((session.user, self._own_node), None)  # should it go again, its grace begins anew
        self._circle.settle_nowait(session.user, ORDER, partial(self._on_settled, session))

    def _on_settled(self, session: Session, settled: Settled | ImError | None) -> None:
        if isinstance(settled, ImError) or (settled is not None and self._is_strained()):
            self._unsettled[session.user] = self._outdated[session] = None
        elif settled is not None:
            self._start(self._greet, session, settled)

    async def _greet(self, session: Session, settled: Settled) -> None:
        """The session hears of its contacts, and they of its user. One look at them serves both."""
        show = partial(self._show_to, session, even_offline=False)
        try:
            by_node = await self._look(await self._circle.audience(session.user), show)
            if settled.is_news:
                await self._circle.tell(session.user, by_node, "all")
        except ImError as error:
            log.debug("not now", what="greeting", error=str(error))
            self._unsettled[session.user] = self._outdated[session] = None

    def went(self, user: UserId, place: Place, *, said_so: bool) -> None:
        now, grace = self._context.clock.now, self._context.settings.presence_grace_seconds
        if said_so:  # the device, wherever contacts were told of it
            self._start(self._leave, user, place.partition(b"=")[0], _Gone(now, now))
        else:
            self._wait(user, place, _Gone(now, now + grace))
            # What contacts are told stands on one device. Where another one shows as much it stands on that from now
            # on: should it go, too, before this one's time is over, it has a time of its own.
            self._circle.settle_nowait(user, ORDER, partial(self._on_moved, user))

    def _on_moved(self, user: UserId, settled: Settled | ImError | None) -> None:
        if isinstance(settled, Settled) and settled.is_news:
            self._unsettled[user] = None

    def _wait(self, user: UserId, who: bytes, gone: _Gone) -> None:
        self._gone.pop((user, who), None)  # to the end
        self._gone[user, who] = gone

    async def _leave(self, user: UserId, who: bytes, gone: _Gone) -> None:
        """Who was at a place is not waited for any more; at a later place it has a time of its own."""
        now = self._context.clock.now
        try:
            settled = await self._circle.settle(user, ORDER, who, int(now - gone.since))
            if settled is not None and settled.is_news:
                await self._tell_all(user)
            await self._circle.release(user, self._context.store.node)
        except ImError as error:
            log.debug("not now", what="leaving", error=str(error))
            self._wait(user, who, _Gone(gone.since, now + RETRY_SECONDS))

    async def clear(self, user: UserId, node: str) -> None:
        """The node is dead, or has left this to others. Raises ServiceError: then it is done again.

        Or it is this one, which had lost its lease and has it again. Its sessions went a moment ago, and come back.
        """
        if node == self._context.store.node and not self._context.registry.sessions_of(user):
            now = self._context.clock.now
            self._wait(user, self._own_node, _Gone(now, now + self._context.settings.presence_grace_seconds))
            return
        settled = await self._circle.settle(user, ORDER, b"=" + node.encode())
        if settled is not None and settled.is_news:
            await self._tell_all(user)
        await self._circle.release(user, node)

    @property
    def owing_seconds(self) -> float:
        """For how long this node, which ends, would still have waited before all contacts were told; 0: they are."""
        now = self._context.clock.now
        waits = [gone.due - now for gone in self._gone.values()]
        if self._tasks or self._unsettled:
            waits.append(RETRY_SECONDS)
        return max(waits, default=0.0)

    # -- telling

    async def settle(self, user: UserId) -> None:
        await self._tell_or_later(user, await self._circle.settle(user, ORDER))

    async def _tell_or_later(self, user: UserId, settled: Settled | None) -> None:
        if settled is None or not settled.is_news:
            return
        try:
            await self._tell_all(user)
        except ImError as error:
            log.debug("not now", what="telling", error=str(error))
            self._unsettled[user] = None

    async def _tell_all(self, user: UserId) -> None:
        await self._circle.tell(user, await self._look(await self._circle.audience(user)), "all")

    async def _look(
        self, contacts: Sequence[UserId], show: Callable[[UserId, Told], None] | None = None
    ) -> dict[bytes, list[UserId]]:
        """Where the contacts are, by node; `show` gets what they show."""
        by_node: dict[bytes, list[UserId]] = {}

        def found(contact: UserId, whereabouts: Whereabouts) -> None:
            if whereabouts.on is not None:
                for node in whereabouts.nodes:
                    by_node.setdefault(node, []).append(contact)
            if show is not None:
                show(contact, whereabouts.told)

        await self._circle.whereabouts(contacts, found, with_told=show is not None)
        return by_node

    async def introduce(self, one: UserId, other: UserId) -> None:
        """They share presence from now on."""
        for user, to in ((one, other), (other, one)):
            settled = await self._circle.settle(user, ORDER)
            if settled is not None and settled.is_news:
                await self._tell_all(user)
            else:
                await self._tell_one(user, to, "some")

    async def part(self, one: UserId, other: UserId) -> None:
        """They do not any more."""
        await self._tell_one(one, other, "offline")
        await self._tell_one(other, one, "offline")

    async def _tell_one(self, user: UserId, to: UserId, extent: Extent) -> None:
        await self._circle.tell(user, await self._look([to]), extent)

    # -- hearing

    def on_told(self, user: UserId, to: Iterable[UserId], told: Told) -> None:
        push = Shared(_push(user, told))
        for contact in to:
            for session in self._context.registry.sessions_of(contact):
                if session.is_synced:  # else it hears of all of them when it is
                    self._pass_on(session, push)

    def _pass_on(self, session: Session, push: Shared) -> None:
        if session.is_closed:
            return
        if session.channel.out_bytes > self._context.settings.out_buffer_bytes:
            self._outdated[session] = None
        else:
            session.channel.share(push)

    def on_typing(self, to: str, sender: UserId, *, is_on: bool) -> None:
        self.typing.hear(to, sender, is_on=is_on)

    def _show_to(self, session: Session, contact: UserId, told: Told, *, even_offline: bool) -> None:
        if even_offline or told.show != OFFLINE.show:
            self._pass_on(session, Shared(_push(contact, told)))

    # -- what was missed, and what has waited

    def missed(self) -> None:
        """A shard was out of reach, or is: any contact may be on it."""
        synced = (session for session in self._context.registry if session.is_synced)
        self._outdated.update(dict.fromkeys(synced))

    def tick(self, now: float) -> None:
        """Once a second."""
        self.typing.tick()
        while self._has_work(now) and self._workers < _MOST_WORKERS:
            self._workers += 1
            self._start(self._work)

    def _has_work(self, now: float) -> bool:
        if self._is_strained():
            return False
        return bool(self._unsettled or self._outdated) or next(iter(self._gone.values()), _NEVER).due <= now

    async def _work(self) -> None:
        try:
            while self._has_work(self._context.clock.now) and await self._do_next():
                pass
        finally:
            self._workers -= 1

    async def _do_next(self) -> bool:
        """One piece. False: it can't be done now, and is kept."""
        if self._unsettled:
            user, _ = self._unsettled.popitem()
            return await self._settle_late(user)
        if self._outdated:
            session, _ = self._outdated.popitem()
            return session.is_closed or await self._refresh(session)
        (user, who), gone = next(iter(self._gone.items()))
        del self._gone[user, who]
        await self._leave(user, who, gone)
        return True

    async def _settle_late(self, user: UserId) -> bool:
        try:
            await self.settle(user)
        except ImError as error:
            log.debug("not now", what="settling", error=str(error))
            self._unsettled[user] = None
        return user not in self._unsettled

    async def _refresh(self, session: Session) -> bool:
        """The session hears of all its contacts anew.

        Those whose shard is out of reach stay as they were, until the lease there is lost: then nobody knows of them.
        Both ends of that (`missed`) bring the session here again.
        """
        show = partial(self._show_to, session, even_offline=True)
        try:
            contacts = await self._circle.audience(session.user)
            reachable = [contact for contact in contacts if self._circle.is_reachable(contact)]
            for contact in set(contacts).difference(reachable):
                if self._circle.is_lost(contact):
                    show(contact, OFFLINE)
            await self._look(reachable, show)
        except ImError as error:
            log.debug("not now", what="refreshing", error=str(error))
            self._outdated[session] = None
        return session not in self._outdated

    def _start(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        self._tasks += 1
        self._context.spawn(self._run, work, *arguments)

    async def _run(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        try:
            await work(*arguments)
        finally:
            self._tasks -= 1


def _push(user: UserId, told: Told) -> PresencePush:
    return PresencePush(user, told.show, told.status, told.since)
