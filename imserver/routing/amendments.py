"""Edits, deletions and reactions: entries that change what was said. Who may do what is a table: `protocol.amendments`.

The message is looked for first, in the log of who asks (or the group's): it must be there, and not be too old. Then the
amendment goes the way of a message, by `Messages.append`. In between another device may delete the message; then the
amendment says nothing: clients show nothing.

A deletion takes the message and its edits out of the logs in the step in which its own entry comes in. Where the
recipient's copy is not among the newest entries it stays; the entry tells clients, and `history`, all the same.
"""

from typing import NamedTuple

from imserver.errors import BadRequest, NotFound
from imserver.model import (
    START,
    Address,
    Entry,
    GroupId,
    Position,
    UserId,
    is_group,
    parse_address,
    parse_message_id,
    position_order,
)
from imserver.protocol import commands
from imserver.protocol.amendments import RULES, check
from imserver.protocol.commands import Delete, Edit, React
from imserver.protocol.extras import Reference, check_reference
from imserver.protocol.groups import MEMBERS
from imserver.routing.messages import Messages
from imserver.session.context import Context, Handlers
from imserver.session.cursor import is_newer
from imserver.session.session import Session
from imserver.store.deletions import Appends
from imserver.store.stored import amendment, amendment_head, expires_of, head_of, message_head

PAGE_ENTRIES = 100  # read from the store at a time: mostly it is among these
MOST_ENTRIES = 4000  # looked through for one message
EVENTS = tuple(rule.ev for rule in RULES.values())


class Sought(NamedTuple):
    """A message, by what it and its amendments begin with in a log, of bots or not. `own`: this very amendment."""

    message: tuple[bytes, ...]
    amendments: dict[str, tuple[bytes, ...]]
    own: bytes


class Found(NamedTuple):
    """`at`: where the message stands; None where this very amendment is stored already."""

    at: Position | None
    edits: tuple[Position, ...]
    stamp: int  # the newest of its amendments
    expires: int | None  # when it vanishes (unix seconds)


class Amendments:
    """Handlers of `edit`, `delete` and `react`."""

    def __init__(self, context: Context, messages: Messages) -> None:
        self._context = context
        self._messages = messages

    async def edit(self, session: Session, command: Edit) -> None:
        await self._amend(session, command, "edit", body=command.body)

    async def delete(self, session: Session, command: Delete) -> None:
        await self._amend(session, command, "delete")

    async def react(self, session: Session, command: React) -> None:
        what = {} if command.emoji is None else {"emoji": command.emoji}
        await self._amend(session, command, "react", **what)

    async def _amend(self, session: Session, command: Edit | Delete | React, action: str, **what: object) -> None:
        to, message_id, user, of = parse_address(command.to), parse_message_id(command.id), session.user, command.of
        check_reference(of, "of")
        standing, oldest = await self._standing(user, to)
        assert session.identity is not None
        head = amendment_head(RULES[action].ev, of, to, is_bot=session.identity.sender.is_bot)
        _, own = amendment(head, user, session.device, to, message_id, stamp=0)
        sought = _sought(of, user, to, amendment(head, user, session.device, to, message_id, stamp=0)[0][:own])
        found = await self._find(to if is_group(to) else user, sought, oldest)
        if found is None:
            raise NotFound("of: there is no such message, or not any more")
        now = self._context.wall()
        if found.at is not None:
            self._check(action, found.at, now, is_author=of.sender == user, standing=standing)
        stamp = max(int(now * 1000), found.stamp + 1)
        expires = found.expires if action == "edit" else None
        if expires is not None:
            what["expires"] = expires  # the last of it; an edit vanishes with its message
        content, again = amendment(head, user, session.device, to, message_id, stamp=stamp, **what)
        appends = await self._deletion(user, to, sought, found) if action == "delete" else self._messages.appends
        again = again if command.again else 0
        self._messages.append(session, command, to, content, again, appends, expires=expires)

    async def _standing(self, user: UserId, to: Address) -> tuple[str | None, Position]:
        """In a group: how the user stands to it, and from where on the user may read. Raises NotFound."""
        if not is_group(to):
            return None, START
        info = await self._context.store.groups.info(GroupId(to), user)
        if info.since is None or info.standing not in MEMBERS:
            raise NotFound("to: there is no such group, or you are no member")
        return info.standing, START if info.history == "all" else info.since

    def _check(self, action: str, at: Position, now: float, *, is_author: bool, standing: str | None) -> None:
        within = RULES[action].within
        most = None if within is None else int(getattr(self._context.settings, within))
        age = now - position_order(at)[0] / 1000
        check(action, is_author=is_author, standing=standing, age_seconds=age, most_seconds=most)

    async def _deletion(self, user: UserId, to: Address, sought: Sought, found: Found) -> Appends:
        """With the positions in each log of what is to leave it."""
        gone: dict[str, tuple[Position, ...]] = {to if is_group(to) else user: _positions(found)}
        if not is_group(to) and to != user:
            gone[to] = _positions(await self._find(to, sought, START))
        return self._context.store.deletions.of(gone)

    async def _find(self, log: str, sought: Sought, oldest: Position) -> Found | None:
        """Among the newest entries of a log; not where it is deleted."""
        edits: list[Position] = []
        stamp, before = 0, None
        for _ in range(MOST_ENTRIES // PAGE_ENTRIES):
            page = await self._context.store.read_back(log, before, PAGE_ENTRIES)
            for entry in page:
                if not is_newer(entry.at, oldest):
                    return None
                before = entry.at
                if entry.content.startswith(sought.message):
                    return Found(entry.at, tuple(edits), stamp, expires_of(entry.content))
                if entry.content.startswith(sought.own):
                    return Found(None, tuple(edits), stamp, expires_of(entry.content))
                ev = _amends(entry, sought)
                if ev == "delete":
                    return None
                if ev is not None:
                    stamp = max(stamp, head_of(entry.content).stamp)
                if ev == "edit":
                    edits.append(entry.at)
            if len(page) < PAGE_ENTRIES:
                return None
        return None


def _sought(of: Reference, user: UserId, to: Address, own: bytes) -> Sought:
    """Raises BadRequest where the message can't be of this conversation."""
    if not is_group(to) and of.sender not in (user, to):
        raise BadRequest(f"of.from: {of.sender} is not of this conversation")
    receiver = to if is_group(to) or of.sender == user else user
    heads = {ev: tuple(amendment_head(ev, of, to, is_bot=is_bot) for is_bot in (False, True)) for ev in EVENTS}
    return Sought(tuple(message_head(of, receiver, is_bot=is_bot) for is_bot in (False, True)), heads, own)


def _amends(entry: Entry, sought: Sought) -> str | None:
    return next((ev for ev, heads in sought.amendments.items() if entry.content.startswith(heads)), None)


def _positions(found: Found | None) -> tuple[Position, ...]:
    if found is None:
        return ()
    return found.edits if found.at is None else (found.at, *found.edits)


def amendment_handlers(amendments: Amendments) -> Handlers:
    """Which rule answers which of the commands that change messages."""
    return {
        commands.Edit: amendments.edit,
        commands.Delete: amendments.delete,
        commands.React: amendments.react,
    }
