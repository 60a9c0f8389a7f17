"""The conversations of a user: how far they are read, here and there, and how they are arranged.

`Tally` keeps them in step by what happens, without sockets or tasks. Unread are the messages of others behind the read
mark and behind the last that the user has said itself; so says the server, and so is counted here. What the server has
counted up to a position is a number; what came behind it is a list. Where a mark lands among what is only a number,
nobody here knows how many are behind it: then the tally is outdated, and the server is asked again.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from imclient.amendments import AnyAmendment, Deleted, Edited, Reacted
from imclient.answers import decoded
from imclient.cursor import is_newer
from imclient.events import (
    OWN_LOG,
    Arranged,
    ConversationsOutdated,
    Delivered,
    Event,
    GroupChanged,
    Message,
    Read,
    Regressed,
    Sent,
    Synced,
    Truncated,
)
from imclient.reader import PARTINGS
from imserver.errors import RateLimited
from imserver.model import START, parse_address, position_order
from imserver.protocol import commands
from imserver.protocol.commands import Command
from imserver.protocol.extras import Reference
from imserver.protocol.pushes import Arrangement, ConversationsPage, Mark
from imserver.protocol.pushes import Conversation as Listed

PAGE_CONVERSATIONS = 500
_START = START.decode()


def _order(at: str) -> tuple[int, int]:
    return position_order(at.encode())


@dataclass
class Conversation:
    """With another user, or in a group. To be read, not to be changed.

    `read`: how far this user has read. `read_by`, `delivered`: the newest message of this user that the partner has
    read, or got; `upto` in them orders the marks. `last`: of the newest message. `more`: perhaps more are unread.
    """

    partner: str
    read: str | None = None
    read_by: Mark | None = None
    delivered: Mark | None = None
    last: str | None = None
    muted: bool = False
    pinned: bool = False
    archived: str | None = None
    more: bool = False
    _counted: int = 0  # unread ones, as the server has counted them
    _counted_to: str = _START  # up to there
    _counted_last: str = _START  # where the last of them stands
    _line: str = _START  # what is not behind it is read
    _came: dict[str, Reference] = field(default_factory=dict)  # unread ones behind what was counted, by position

    @property
    def unread(self) -> int:
        """Messages of others that this user has not read on any device."""
        return self._counted + len(self._came)

    @property
    def is_archived(self) -> bool:
        """A new message brings a conversation back, unless it is muted."""
        return self.archived is not None and (self.muted or self.last is None or not is_newer(self.last, self.archived))

    # -- what happens: True where the server has to count anew

    def has_come(self, at: str, message: Reference) -> None:
        """What somebody else has said stands at that position."""
        self.last = _later(self.last, at)
        if is_newer(at, self._counted_to) and is_newer(at, self._line):
            self._came[at] = message

    def was_scheduled(self, at: str) -> None:
        """The server has said it for this user, who need not have read anything."""
        self.last = _later(self.last, at)

    def has_said(self, at: str, *, is_message: bool = True) -> bool:
        """The same of this user; or it has amended a message."""
        if is_message:
            self.last = _later(self.last, at)
        return is_newer(at, self._counted_to) and self._move_line(at)

    def is_deleted(self, message: Reference, me: str) -> bool:
        """A message is gone, and counts no more; one of this user does not show any more how far it had read."""
        for at, came in self._came.items():
            if came == message:
                del self._came[at]
                return False
        return self.unread > 0 or message.sender == me

    def has_read(self, upto: str) -> bool:
        self.read = _later(self.read, upto)
        return self._move_line(upto)

    def _move_line(self, to: str) -> bool:
        if not is_newer(to, self._line):
            return False
        self._line = to
        self._came = {at: came for at, came in self._came.items() if is_newer(at, to)}
        if self._counted and is_newer(self._counted_last, to):
            return True
        self._counted, self.more = 0, False
        return False

    def listed(self, listed: Listed) -> bool:
        """What the server says, which may be older than what was heard since."""
        heard_read, own = self.read, self._line
        self.is_arranged(listed)
        self.is_read_by_partner(listed.read_by)
        self.is_delivered(listed.delivered)
        self.last = _later(self.last, listed.last)
        self._count_anew(listed)
        is_behind = False
        if heard_read is not None:
            is_behind = self.has_read(heard_read)
        return (is_newer(own, listed.at) and self._move_line(own)) or is_behind

    def _count_anew(self, listed: Listed) -> None:
        self.read, self._line, self.more = listed.read, listed.read or _START, listed.more
        self._counted, self._counted_to, self._counted_last = listed.unread, listed.at, listed.last or listed.at
        self._came = {at: came for at, came in self._came.items() if is_newer(at, listed.at)}

    def is_read_by_partner(self, mark: Mark | None) -> None:
        self.read_by = _newer_mark(self.read_by, mark)

    def is_delivered(self, mark: Mark | None) -> None:
        self.delivered = _newer_mark(self.delivered, mark)

    def is_arranged(self, how: Listed | Arranged) -> None:
        self.muted, self.pinned, self.archived = how.muted, how.pinned, how.archived

    def forget_behind(self, at: str) -> None:
        """The log has lost what was behind `at`."""
        self._came = {came: message for came, message in self._came.items() if not is_newer(came, at)}


class Tally:
    """What is known of all conversations of the user `me`."""

    def __init__(self, me: str) -> None:
        self.known: dict[str, Conversation] = {}
        self.version = 0  # of the list as it was read last; 0: it was not
        self.is_outdated = True
        self._me = me
        self._is_reading = False
        self._is_broken = False  # changes alone do not make it right again

    def of(self, partner: str) -> Conversation:
        return self.known.setdefault(partner, Conversation(partner))

    def on_event(self, event: Event) -> None:
        match event:
            case Message() if event.sender == self._me and event.scheduled is not None:
                self.of(event.to).was_scheduled(event.at)
            case Message() if event.sender == self._me:
                self._note(self.of(event.to).has_said(event.at))
            case Message():
                self.of(event.partner(self._me)).has_come(event.at, event.reference)
            case Sent():
                self._note(self.of(event.to).has_said(event.at))
            case Edited() | Reacted() | Deleted():
                self._on_amendment(event)
            case GroupChanged() if event.user == self._me and event.change in PARTINGS:
                self.known.pop(event.group, None)
            case Synced() | ConversationsOutdated():
                self.is_outdated = True
            case Truncated() | Regressed():
                self._lost(event)
            case Read() | Delivered() | Arranged():
                self._on_marks(event)

    def _on_amendment(self, event: AnyAmendment) -> None:
        conversation = self.of(event.partner(self._me))
        if event.sender == self._me:
            self._note(conversation.has_said(event.at, is_message=False))
        if isinstance(event, Deleted) and (conversation.is_deleted(event.of, self._me) or self._is_reading):
            self._break()  # also where the list that is on its way may count it

    def _on_marks(self, event: Read | Delivered | Arranged) -> None:
        match event:
            case Read() if event.by == self._me:
                self._note(self.of(event.partner).has_read(event.upto))
            case Read() if event.device is not None and event.id is not None:
                self.of(event.by).is_read_by_partner(Mark(event.upto, event.device, event.id))
            case Delivered():
                self.of(event.by).is_delivered(Mark(event.upto, event.device, event.id))
            case Arranged():
                self.of(event.partner).is_arranged(event)
                self._note(self._is_reading)  # the list that is on its way may be older, and nothing in it tells

    def _lost(self, event: Truncated | Regressed) -> None:
        """Some of what the counts tell of is gone."""
        self._break()
        if isinstance(event, Regressed):
            for partner, conversation in self.known.items():
                if (partner if partner.startswith("#") else OWN_LOG) == event.log:
                    conversation.forget_behind(event.at)

    def _break(self) -> None:
        self.is_outdated = self._is_broken = True

    def _note(self, is_behind: bool) -> None:
        self.is_outdated = self.is_outdated or is_behind

    def begin(self) -> int:
        """The list is read: `on_pages` or `failed` follows. The version since which; 0: all of it."""
        since = 0 if self._is_broken else self.version
        self._is_reading = True
        self.is_outdated = self._is_broken = False  # it may be so again before the answer is here
        return since

    def failed(self) -> None:
        self._is_reading = False
        self._break()

    def on_pages(self, pages: Sequence[ConversationsPage]) -> None:
        """All pages of one reading. Its version is that of the first page: what changed meanwhile comes again."""
        self._is_reading = False
        if pages[0].full:
            self._drop_others(pages)
        for page in pages:
            for listed in page.conversations:
                self._note(self.of(listed.partner).listed(listed))
        self.version = pages[0].version

    def _drop_others(self, pages: Sequence[ConversationsPage]) -> None:
        """Of a conversation that is not in the list, what came since is all that there is."""
        listed = {conversation.partner for page in pages for conversation in page.conversations}
        end = max((page.at for page in pages), key=_order)  # the page on which the log was looked at
        for partner in self.known.keys() - listed:
            before = self.known.pop(partner)
            if not partner.startswith("#") and before.last is not None and is_newer(before.last, end):
                before.listed(Listed(partner=partner, at=end))
                self.known[partner] = before


class Conversations:
    """`Client.conversations`. What asks raises ConnectionLost where there is none, and what the server refuses.

    Under load that is Overloaded: a mark is best left out then, since the next one says the same and more.
    """

    def __init__(
        self,
        me: str,
        ask: Callable[[Command], Awaitable[msgspec.Raw]],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """`sleep`: seconds."""
        self._me = me
        self._ask, self._sleep = ask, sleep
        self._tally = Tally(me)
        self._is_followed = False  # somebody has read the list once

    def on_event(self, event: Event) -> bool:
        """True where the application is to be told that what it has read is outdated now."""
        was_outdated = self._tally.is_outdated
        self._tally.on_event(event)
        return self._is_followed and self._tally.is_outdated and not was_outdated

    @property
    def known(self) -> Mapping[str, Conversation]:
        """By partner. Complete once `refresh` has been called; then events keep it in step."""
        return self._tally.known

    @property
    def is_outdated(self) -> bool:
        """Something was missed, or can't be told from here: `refresh` helps. So it is after every login."""
        return self._tally.is_outdated

    async def refresh(self) -> Mapping[str, Conversation]:
        """The list, from the server: all of it, or what has changed since it was read last."""
        self._is_followed = True
        pages: list[ConversationsPage] = []
        since = self._tally.begin()
        try:
            await self._read_pages(since, pages)
        except BaseException:
            self._tally.failed()
            raise
        self._tally.on_pages(pages)
        return self.known

    async def _read_pages(self, since: int, pages: list[ConversationsPage]) -> None:
        while not pages or pages[-1].more:
            after = (pages[-1].next or 0) if pages else 0
            command = commands.Conversations(since=since, after=after, limit=PAGE_CONVERSATIONS)
            try:
                pages.append(decoded(await self._ask(command), ConversationsPage))
            except RateLimited as refused:  # who is in hundreds of groups asks for much at once
                await self._sleep(refused.retry or 1.0)

    async def read(self, partner: str, upto: str | None = None) -> None:
        """Everything in the conversation up to that position has been read; None: all that is known of it."""
        name = parse_address(partner, "partner")
        upto = upto or self._tally.of(name).last
        if upto is not None:
            await self._ask(commands.Read(partner=name, upto=upto))
            self.on_event(Read(by=self._me, partner=name, upto=upto))

    async def mute(self, partner: str, *, on: bool = True) -> None:
        await self._arrange(commands.ConversationSet(partner=partner, muted=on))

    async def pin(self, partner: str, *, on: bool = True) -> None:
        await self._arrange(commands.ConversationSet(partner=partner, pinned=on))

    async def archive(self, partner: str, *, on: bool = True) -> None:
        """Until a new message comes; while it is muted, for good."""
        await self._arrange(commands.ConversationSet(partner=partner, archived=on))

    async def _arrange(self, command: commands.ConversationSet) -> None:
        command.partner = parse_address(command.partner, "partner")
        now = decoded(await self._ask(command), Arrangement)
        self.on_event(Arranged(partner=command.partner, muted=now.muted, pinned=now.pinned, archived=now.archived))


def _later(one: str | None, other: str | None) -> str | None:
    if one is None or other is None:
        return one or other
    return other if is_newer(other, one) else one


def _newer_mark(one: Mark | None, other: Mark | None) -> Mark | None:
    if one is None or other is None:
        return one or other
    return other if is_newer(other.upto, one.upto) else one
