"""Edits, deletions and reactions: entries that change what was said. Who may do what is a table: `protocol.amendments`.

The message is looked for first, in the log of who asks (or the group's): it must be there, and not be too old. Then the
amendment goes the way of a message, by `Messages.append`. In between another device may delete the message; then the
amendment says nothing: clients show nothing.

An amendment that is stored already is appended again as it is stored, whatever the command says now: dedupe makes it
nothing, and a log that lacks it gets the same one. So nobody can change under an old id what is too old to be changed.

A deletion takes the message and its edits out of the logs in the step in which its own entry comes in. Where the
recipient's copy is not among the newest entries it stays; the entry tells clients, and `history`, all the same.
"""

from typing import NamedTuple

from imserver.errors import BadRequest, NotFound, Unavailable
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
from imserver.routing.messages import Messages, check_resent
from imserver.session.context import Context, Handlers
from imserver.session.cursor import is_newer
from imserver.session.session import Session
from imserver.store.deletions import Appends
from imserver.store.stored import amendment, amendment_head, expires_of, head_of, message_head

PAGE_ENTRIES = 100  # read from the store at a time: mostly it is among these
MOST_ENTRIES = 4000  # looked through for one message
PAGE_COST = 3  # in units of a send: each page behind the first takes worker and store as long
EVENTS = tuple(rule.ev for rule in RULES.values())


class Sought(NamedTuple):
    """A message, by what it and its amendments begin with in a log, of bots or not. `own`: this very amendment."""

    message: tuple[bytes, ...]
    amendments: dict[str, tuple[bytes, ...]]
    own: bytes


class Found(NamedTuple):
    """`at`: where the message stands; None where it is deleted, or this very amendment is stored already."""

    at: Position | None
    edits: tuple[Position, ...]
    stamp: int  # the newest of its amendments
    own: bytes | None = None  # this very amendment, as it is stored
    expires: int | None = None  # when it, or the message, vanishes (unix seconds)

    @property
    def is_deleted(self) -> bool:
        return self.at is None and self.own is None


class Standing(NamedTuple):
    """How a user stands to a conversation. `group`: in the group; None: it is none.

    `oldest`: the user may read what is behind it. `since`: what the user said, somebody of that name said behind it.
    """

    group: str | None = None
    oldest: Position = START
    since: Position = START


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
        check_resent(session)
        to, message_id, user, of = parse_address(command.to), parse_message_id(command.id), session.user, command.of
        check_reference(of, "of")
        standing = await self._standing(user, to)
        assert session.identity is not None
        head = amendment_head(RULES[action].ev, of, to, is_bot=session.identity.sender.is_bot)
        content, own = amendment(head, user, session.device, to, message_id, stamp=0)
        sought = _sought(of, user, to, content[:own])
        found = await self._find(session, to if is_group(to) else user, sought, standing.oldest)
        if found is None or found.is_deleted:
            raise self._missing(found)
        expires = found.expires if action == "edit" else None  # it vanishes with its message
        if found.at is not None:
            now = self._context.wall()
            is_author = of.sender == user and is_newer(found.at, standing.since)
            self._check(action, found.at, now, is_author=is_author, standing=standing.group)
            stamp = max(int(now * 1000), found.stamp + 1)
            if expires is not None:
                what["expires"] = expires  # the last of it
            content, own = amendment(head, user, session.device, to, message_id, stamp=stamp, **what)
        appends = await self._deletion(session, to, sought, found) if action == "delete" else self._messages.appends
        again = own if command.again or found.own is not None else 0
        self._messages.append(session, command, to, found.own or content, again, appends, expires=expires)

    def _missing(self, found: Found | None) -> NotFound | Unavailable:
        """What is not there may be sent again by somebody else, where a shard has lost it."""
        if found is None and self._context.store.may_have_lost(self._context.clock.now):
            return Unavailable("of: the store may have lost this message; send again with the same id")
        return NotFound("of: there is no such message, or not any more")

    async def _standing(self, user: UserId, to: Address) -> Standing:
        """Raises NotFound."""
        if not is_group(to):
            return Standing()
        info = await self._context.store.groups.info(GroupId(to), user)
        if info.since is None or info.standing not in MEMBERS:
            raise NotFound("to: there is no such group, or you are no member")
        return Standing(info.standing, START if info.history == "all" else info.since, info.since)

    def _check(self, action: str, at: Position, now: float, *, is_author: bool, standing: str | None) -> None:
        within = RULES[action].within
        most = None if within is None else int(getattr(self._context.settings, within))
        age = now - position_order(at)[0] / 1000
        check(action, is_author=is_author, standing=standing, age_seconds=age, most_seconds=most)

    async def _deletion(self, session: Session, to: Address, sought: Sought, found: Found) -> Appends:
        """With the positions in each log of what is to leave it."""
        user = session.user
        gone: dict[str, tuple[Position, ...]] = {to if is_group(to) else user: _positions(found)}
        if not is_group(to) and to != user:
            gone[to] = _positions(await self._find(session, to, sought, START))
        return self._context.store.deletions.of(gone)

    async def _find(self, session: Session, log: str, sought: Sought, oldest: Position) -> Found | None:
        """Among the newest entries of a log. Raises RateLimited."""
        search, before = _Search(sought), None
        for _ in range(MOST_ENTRIES // PAGE_ENTRIES):
            if before is not None:
                session.charge(PAGE_COST)
            page = await self._context.store.read_back(log, before, PAGE_ENTRIES)
            for entry in page:
                if not is_newer(entry.at, oldest):
                    return None
                before = entry.at
                found = search.meet(entry)
                if found is not None:
                    return found
            if len(page) < PAGE_ENTRIES:
                return None
        return None


class _Search:
    """Goes back through a log."""

    def __init__(self, sought: Sought) -> None:
        self._sought = sought
        self._edits: list[Position] = []
        self._stamp = 0

    def meet(self, entry: Entry) -> Found | None:
        """Not None: there it is, or that it is deleted."""
        if entry.content.startswith(self._sought.message):
            return self._found(entry.at, expires=expires_of(entry.content))
        if entry.content.startswith(self._sought.own):
            return self._found(None, entry.content, expires_of(entry.content))
        ev = _amends(entry, self._sought)
        if ev == "delete":
            return self._found(None)
        if ev is not None:
            self._stamp = max(self._stamp, head_of(entry.content).stamp)
        if ev == "edit":
            self._edits.append(entry.at)
        return None

    def _found(self, at: Position | None, own: bytes | None = None, expires: int | None = None) -> Found:
        return Found(at, tuple(self._edits), self._stamp, own, expires)


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
