"""Contacts and blocks: `contact.add` and its kin, `contacts`, `block`, `unblock`, `blocked`, `privacy`.

What a command does is a row of `protocol.contacts`. It is done at the other one's end first, then at the user's own;
both steps can be repeated. Where a worker dies in between, the client gets no answer and asks again: that completes it.
"""

import time

from imserver.errors import BadRequest, Conflict, NotAllowed, NotFound, RateLimited
from imserver.model import UserId, parse_user
from imserver.protocol import contacts as table
from imserver.protocol.commands import (
    Block,
    Blocked,
    ContactAccept,
    ContactAdd,
    ContactDecline,
    ContactRemove,
    Contacts,
    ContactSet,
    Privacy,
    Unblock,
)
from imserver.protocol.contacts import Event, State, Switches
from imserver.protocol.pushes import EMPTY, BlockedList, Contact, ContactsPage, PrivacySettings
from imserver.routing.presence import Presence
from imserver.session.context import Context
from imserver.session.session import Session
from imserver.store.circle_calls import Record, Standing

_HOUR_SECONDS = 3600


class ContactLists:
    """Handlers of all commands that change who knows whom."""

    def __init__(self, context: Context, presence: Presence) -> None:
        self._context = context
        self._circle = context.store.circle
        self._presence = presence

    # -- asking and answering

    async def add(self, session: Session, command: ContactAdd) -> None:
        other = _other(session, command.user)
        standing = await self._circle.standing(session.user, other)
        if _state(standing.record) is State.NONE:
            self._check_budget(standing)
            self._check_room(standing)
        await self._move(session.user, other, standing.record, Event.ADD, command.note)
        session.reply(command.ref, EMPTY)

    async def accept(self, session: Session, command: ContactAccept) -> None:
        await self._answer(session, command, Event.ACCEPT)

    async def decline(self, session: Session, command: ContactDecline) -> None:
        await self._answer(session, command, Event.DECLINE)

    async def remove(self, session: Session, command: ContactRemove) -> None:
        await self._answer(session, command, Event.REMOVE)

    async def _answer(
        self, session: Session, command: ContactAccept | ContactDecline | ContactRemove, event: Event
    ) -> None:
        other = _other(session, command.user)
        standing = await self._circle.standing(session.user, other)
        await self._move(session.user, other, standing.record, event)
        session.reply(command.ref, EMPTY)

    def _check_budget(self, standing: Standing) -> None:
        hour, seconds = divmod(time.time(), _HOUR_SECONDS)
        if standing.hour == hour and standing.asked >= self._context.settings.contact_requests_per_hour:
            raise RateLimited("too many contact requests in this hour", round(_HOUR_SECONDS - seconds, 1))

    def _check_room(self, standing: Standing) -> None:
        most = self._context.settings.contacts_max
        if standing.listed >= most:
            raise NotAllowed(f"user: you have {most} contacts and blocked users already, which is the most")

    async def _move(self, user: UserId, other: UserId, record: Record, event: Event, note: str = "") -> None:
        before = _state(record)
        state = table.after(before, event, other)
        if state is State.NONE is before:
            return  # the own end is done last: so is the other's
        if record.blocks and state in (State.ASKED, State.MUTUAL):
            raise Conflict(f"user: {other} is blocked; unblock first")
        await self._relate(user, other, record, table.SWITCHES[event], note)
        if state is State.MUTUAL:
            await self._presence.introduce(user, other)
        elif state is State.ASKED:
            await self._presence.settle(user)  # so that there is something to tell, once the other one accepts
        elif before is State.MUTUAL:
            await self._presence.part(user, other)

    async def _relate(self, user: UserId, other: UserId, record: Record, switches: Switches, note: str = "") -> None:
        """At the other's end first, with a stamp that is newer than all that this user knows of the relation."""
        stamp, most = max(int(time.time() * 1000), record.stamp + 1), self._context.settings.contacts_max
        try:
            await self._circle.relate(other, user, str(switches.mirrored()), stamp, note, most)
        except NotFound:
            if switches.wants or switches.blocks:
                raise
            # Whoever is no more can still be removed.
        await self._circle.relate(user, other, str(switches), stamp)

    # -- blocking

    async def block(self, session: Session, command: Block) -> None:
        other = _other(session, command.user)
        standing = await self._circle.standing(session.user, other)
        record = standing.record
        if _state(record) is State.NONE and not record.blocks:
            self._check_room(standing)
        await self._relate(session.user, other, record, table.BLOCK)
        if record.shares_presence:
            await self._presence.part(session.user, other)
        session.reply(command.ref, EMPTY)

    async def unblock(self, session: Session, command: Unblock) -> None:
        other = _other(session, command.user)
        record = (await self._circle.standing(session.user, other)).record
        if record.blocks:
            await self._relate(session.user, other, record, table.UNBLOCK)
        if _state(record) is State.MUTUAL and not record.blocked:
            await self._presence.introduce(session.user, other)
        session.reply(command.ref, EMPTY)

    async def blocked(self, session: Session, command: Blocked) -> None:
        session.reply(command.ref, BlockedList(await self._circle.blocked(session.user)))

    async def privacy(self, session: Session, command: Privacy) -> None:
        privacy = await self._circle.privacy(session.user, command.write, command.seen)
        session.reply(command.ref, PrivacySettings(*privacy))

    # -- the list

    async def set(self, session: Session, command: ContactSet) -> None:
        other, now_ms = _other(session, command.user), int(time.time() * 1000)
        groups = tuple(dict.fromkeys(command.groups))
        await self._circle.describe(session.user, other, command.name or None, groups, now_ms)
        session.reply(command.ref, EMPTY)

    async def contacts(self, session: Session, command: Contacts) -> None:
        page = await self._circle.roster(session.user, command.since, command.after, command.limit)
        shown = [_shown(user, record) for user, record in page.records]
        if page.is_all:
            shown = [contact for contact in shown if contact.state != State.NONE.value or contact.blocked]
        more = len(page.records) == command.limit
        following = page.reached if more else None
        session.reply(command.ref, ContactsPage(shown, page.version, more, page.is_all, following))


def _other(session: Session, name: str) -> UserId:
    other = parse_user(name)
    if other == session.user:
        raise BadRequest("user: that is you")
    return other


def _state(record: Record) -> State:
    return table.state_of(wants=record.wants, wanted=record.wanted)


def _shown(user: UserId, record: Record) -> Contact:
    state = _state(record)
    is_request = state is State.ASKING
    return Contact(
        user=user,
        state=state.value,
        blocked=record.blocks,
        quiet=is_request and not record.is_known,
        note=record.note if is_request else None,
        name=record.name,
        groups=record.groups,
    )
