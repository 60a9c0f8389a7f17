"""Messages that are said at a later time: `schedule`, `scheduled`, `unschedule`; and saying them when they are due.

A message waits in its sender's partition. When it is due any worker says it: it marks it as begun, appends it to the
logs as a send does, and only then takes it away.

**Invariant: exactly once.** Whoever dies in between leaves the message where it is, and another worker begins anew.
What is in a log already is a repeat there, since sender, device and id are those of the message; it is looked for
beyond the dedupe index as well (`again`), so it does not matter how much later that is.

**Invariant: what was cancelled is not said.** Marking as begun and cancelling are one step each, in one slot: one of
them comes first. What is begun can't be cancelled any more.

Where to look is on an agenda of the deployment: partitions, each with the time when something is due there. Once a
second each worker takes from it what is due, for itself until its claim ends: one call, mostly with an empty answer.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from imserver.errors import BadRequest, ImError, NotAllowed, RequestError
from imserver.model import is_group, parse_device, parse_message_id
from imserver.observe.log import get_logger
from imserver.protocol import commands
from imserver.protocol.commands import Schedule, Scheduled, Unschedule
from imserver.protocol.pushes import EMPTY, Failure, ScheduledAt, ScheduledList, ScheduledMessage
from imserver.routing.messages import said_by
from imserver.session.context import Context, Handlers
from imserver.session.session import Session
from imserver.store.later_calls import EVERYWHERE, Due, Saying
from imserver.store.store import NOBODY
from imserver.store.stored import expires_of

log = get_logger("later")

LONGEST_SECONDS = 366 * 86400
CLAIM_SECONDS = 10  # then another worker looks, as if this one had died
AGAIN_SECONDS = 5  # until what could not be said is tried again
EVERYWHERE_SECONDS = 600  # between two looks at all partitions
MOST_PARTITIONS = 256  # one worker looks at, at a time
PAGE_MESSAGES = 100
# No session is there: all of the sender's hear of the entry. NOBODY would be taken for another's message.
ORIGIN = b"-=later.0"


class Later:
    """Handlers of the three commands, and what is done once a second."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store.later
        self._is_taking = False
        self._looking = 0  # at so many partitions

    # -- commands

    async def schedule(self, session: Session, command: Schedule) -> None:
        now = self._context.wall()
        if command.when > now + LONGEST_SECONDS:
            raise BadRequest(f"when: {LONGEST_SECONDS // 86400} days from now are the most")
        command.again = True  # it may be said by several workers, one long after the other
        to, content, again, mentions, _ = said_by(session, command, max(command.when, int(now)))
        saying = Saying(to, again, mentions, content)
        user = session.user
        when = await self._store.schedule(user, session.device, command.id, command.when, saying)
        # Behind the message: whoever is cut off in between has no answer, and repeats.
        await self._store.look_at(user, when)
        session.reply(command.ref, ScheduledAt(command.id, when))

    async def scheduled(self, session: Session, command: Scheduled) -> None:
        messages = [
            ScheduledMessage(one.when, msgspec.Raw(one.content), None if one.failed is None else Failure(*one.failed))
            for one in await self._store.waiting(session.user)
        ]
        session.reply(command.ref, ScheduledList(messages))

    async def unschedule(self, session: Session, command: Unschedule) -> None:
        device = session.device if command.device is None else parse_device(command.device)
        message_id = parse_message_id(command.id)
        await self._store.unschedule(session.user, device, message_id, int(self._context.wall()))
        session.reply(command.ref, EMPTY)

    # -- saying what is due

    def tick(self) -> None:
        """Once a second."""
        context = self._context
        most = MOST_PARTITIONS - self._looking
        if not (self._is_taking or context.draining or context.store.saturated) and most > 0:
            self._is_taking = True
            context.spawn(_quietly, self._take, most)

    async def _take(self, most: int) -> None:
        now = self._context.wall()
        claim = int(now) + CLAIM_SECONDS + (0.1 + 0.8 * self._context.random())  # tells it from all others
        try:
            taken = await self._store.take_due(now, claim, most)
        finally:
            self._is_taking = False
        self._looking += len(taken)
        for name in taken:
            self._context.spawn(_quietly, self._look, name, claim)

    async def _look(self, name: str, claim: float) -> None:
        try:
            if name == EVERYWHERE:
                await self._store.look_at_all()
                following: int | None = int(claim) + EVERYWHERE_SECONDS
            else:
                following = await self._say_all(int(name), claim)
            await self._store.looked(name, claim, following)
        finally:
            self._looking -= 1

    async def _say_all(self, partition: int, claim: float) -> int | None:
        """All that is due; when to look next (None: nothing waits). Messages behind one that can't be said now wait."""
        now, unsaid, held = int(self._context.wall()), 0, set()
        while self._context.wall() < claim:
            page = await self._store.due(partition, now, unsaid, PAGE_MESSAGES)
            for due in page:
                if due.user in held or not await self._say(due, now):
                    unsaid += 1
                    held.add(due.user)
            if len(page) < PAGE_MESSAGES:
                break
        first = await self._store.first(partition)
        return first if first is None or not held else max(first, now + AGAIN_SECONDS)

    async def _say(self, due: Due, now: int) -> bool:
        """False: it is to be tried again."""
        context = self._context
        if context.store.saturated or context.draining:
            return False
        epochs = context.epochs
        try:
            begun = await self._store.begin_saying(due, now)
            if begun is None:
                return True
            if not context.store.link_of(begun.saying.to).up:
                return False
            if begun.is_disabled:
                raise NotAllowed("this account is disabled")
            expires = expires_of(begun.saying.content)
            if (
                expires is None or expires > now
            ):  # else nobody would be given it, and no log may know any more that it was
                await self._append(due, begun.saying)
                context.counters.messages_in += 1
            if epochs != context.epochs:  # one of the logs may have lost it since
                return False
            await self._store.end_saying(due)
        except RequestError as refusal:
            await self._store.end_saying(due, refusal)
        except ImError as error:
            log.debug("not now", what="a message that is due", error=str(error))
            return False
        return True

    async def _append(self, due: Due, saying: Saying) -> None:
        """As a send: the recipient first (see messages.py). Raises RequestError, ServiceError."""
        store, (to, again, mentions, content) = self._store, saying
        if is_group(to):
            await store.post(to, due.user, due.dedupe, content, NOBODY, again, mentions)
        elif to == due.user:
            await store.append(to, due.dedupe, content, ORIGIN, again)
        elif self._context.store.reaches_both:
            await store.append_both(to, due.user, due.dedupe, content, ORIGIN, again)
        else:
            await store.append(to, due.dedupe, content, NOBODY, again)
            await store.append(due.user, due.dedupe, content, ORIGIN, again)


async def _quietly(function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """What fails is done again: by the next tick, or when the claim has ended."""
    try:
        await function(*arguments)
    except ImError as error:
        log.debug("not now", what=function.__name__, error=str(error))
    except Exception:
        log.exception("looking for what is due failed")


def later_handlers(later: Later) -> Handlers:
    """Which rule answers which of the commands about messages that wait."""
    return {
        commands.Schedule: later.schedule,
        commands.Scheduled: later.scheduled,
        commands.Unschedule: later.unschedule,
    }
