"""Edits, deletions and reactions: entries that change what was said. Who may do what is a table: `protocol.amendments`.

The message is looked for first, in the log of who asks (or the group's): it must be there, and not be too old. Then the
amendment goes the way of a message, by `Messages.append`. In between another device may delete the message; then the
store refuses it.

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
from imserver.routing.messages import Messages, Told, check_resent
from imserver.session.context import Context, Handlers
from imserver.session.cursor import is_newer
from imserver.session.session import Session
from imserver.store.amending import Deletion, Gone
from imserver.store.stored import amendment, amendment_head, dedupe_of, expires_of, head_of, message_head

PAGE_ENTRIES = 100  # read from the store at a time: mostly it is among these
MOST_ENTRIES = 4000  # looked through for one message
PAGE_COST = 3  # in units of a send: each page behind the first takes worker and store as long
EVENTS = tuple(rule.ev for rule in RULES.values())


class Sought(NamedTuple):
    """A message, by what it and its amendments begin with in a log, of bots or not. `own`: this very amendment."""

    message: tuple[bytes, bytes]
    amendments: dict[str, tuple[bytes, bytes]]
    own: bytes


class Search:
    """Goes back through a log until it comes to the message, or can tell that it need not go on."""

    def __init__(self, sought: Sought) -> None:
        self._sought = sought
        self.seen = START  # the newest entry
        self.at: Position | None = None  # where the message stands
        self.own: bytes | None = None  # this very amendment, as it is stored
        self.expires: int | None = None  # when that one vanishes (unix seconds)
        self.is_deleted = False
        self.edits: list[tuple[Position, bytes]] = []  # with their dedupe fields
        self.stamp = 0  # of the newest amendment

    def meet(self, entry: Entry) -> bool:
        """False: that was all there is to find."""
        if self.seen == START:
            self.seen = entry.at
        content = entry.content
        if content.startswith(self._sought.message):
            self.at = entry.at
        elif content.startswith(self._sought.own):
            self.own = content
        else:
            ev = next((ev for ev, heads in self._sought.amendments.items() if content.startswith(heads)), None)
            self.is_deleted = ev == "delete"
            if ev is None or self.is_deleted:
                return not self.is_deleted
            head = head_of(content)
            self.stamp = max(self.stamp, head.stamp)
            if ev == "edit":
                self.edits.append((entry.at, f"{head.sender}/{head.device}/{head.id}".encode()))
            return True
        self.expires = expires_of(content)
        return False

    @property
    def is_lost(self) -> bool:
        """Neither is the message there nor anything that tells what became of it."""
        return self.at is None and self.own is None and not self.is_deleted

    def gone(self) -> Gone:
        """What leaves the log with a deletion."""
        return Gone(self.seen, self.at, self.edits)


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
        expires = found.expires if action == "edit" else None  # it vanishes with its message
        stored = found.own
        if stored is not None:
            content, stamp = stored, head_of(stored).stamp
        elif found.at is not None:
            now = self._context.wall()
            is_author = of.sender == user and is_newer(found.at, standing.since)
            self._check(action, found.at, now, is_author=is_author, standing=standing.group)
            stamp = max(int(now * 1000), found.stamp + 1)
            if expires is not None:
                what["expires"] = expires  # the last of it
            content, own = amendment(head, user, session.device, to, message_id, stamp=stamp, **what)
        else:
            raise self._missing(found)
        deletion = await self._deletion(session, to, sought, found) if action == "delete" else None
        appends = self._context.store.amendments.of(dedupe_of(of), deletion)
        again = own if command.again or stored is not None else 0
        told = Told(expires, stamp, is_stored=stored is not None)
        self._messages.append(session, command, to, content, again, appends, told=told)

    def _missing(self, found: Search) -> NotFound | Unavailable:
        """What is not there may be sent again by somebody else, where a shard has lost it."""
        if not found.is_deleted and self._may_have_lost:
            return Unavailable("of: the store may have lost this message; send again with the same id")
        return NotFound("of: there is no such message, or not any more")

    @property
    def _may_have_lost(self) -> bool:
        return self._context.store.may_have_lost(self._context.clock.now)

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

    async def _deletion(self, session: Session, to: Address, sought: Sought, found: Search) -> Deletion:
        """With what is to leave each of the logs."""
        user = session.user
        gone: dict[str, Gone] = {to if is_group(to) else user: found.gone()}
        if not is_group(to) and to != user:
            there = await self._find(session, to, sought, START)
            if there.is_lost and self._may_have_lost:
                raise self._missing(there)
            gone[to] = there.gone()
        return Deletion(sought.amendments["edit"], gone)

    async def _find(self, session: Session, log: str, sought: Sought, oldest: Position) -> Search:
        """Among the newest entries of a log. Raises RateLimited."""
        search, before = Search(sought), None
        for _ in range(MOST_ENTRIES // PAGE_ENTRIES):
            if before is not None:
                session.charge(PAGE_COST)
            page = await self._context.store.read_back(log, before, PAGE_ENTRIES)
            for entry in page:
                before = entry.at
                if not (is_newer(entry.at, oldest) and search.meet(entry)):
                    return search
            if len(page) < PAGE_ENTRIES:
                break
        return search


def _sought(of: Reference, user: UserId, to: Address, own: bytes) -> Sought:
    """Raises BadRequest where the message can't be of this conversation."""
    if not is_group(to) and of.sender not in (user, to):
        raise BadRequest(f"of.from: {of.sender} is not of this conversation")
    receiver = to if is_group(to) or of.sender == user else user
    people, bots = (
        (message_head(of, receiver, is_bot=is_bot), {ev: amendment_head(ev, of, to, is_bot=is_bot) for ev in EVENTS})
        for is_bot in (False, True)
    )
    heads = {ev: (head, bots[1][ev]) for ev, head in people[1].items()}
    return Sought((people[0], bots[0]), heads, own)


def amendment_handlers(amendments: Amendments) -> Handlers:
    """Which rule answers which of the commands that change messages."""
    return {
        commands.Edit: amendments.edit,
        commands.Delete: amendments.delete,
        commands.React: amendments.react,
    }
