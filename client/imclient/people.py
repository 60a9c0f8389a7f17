"""Those whom a user knows: the list of contacts, what they show, and what can be asked about them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

import msgspec

from imclient.answers import decoded
from imclient.events import Contact, Event, Message, Presence, Welcomed
from imclient.journal import Journal, Listed
from imserver.model import parse_address, parse_user
from imserver.protocol import commands
from imserver.protocol.commands import Command
from imserver.protocol.presence import Show
from imserver.protocol.pushes import FoundUsers

PAGE_CONTACTS = 500


class ContactsPage(msgspec.Struct):
    """One page of the list."""

    contacts: list[Contact]
    version: int
    more: bool = False
    full: bool = False
    next: int = 0


class _Blocked(msgspec.Struct):
    blocked: list[str]


class Privacy(msgspec.Struct, frozen=True):
    """Who may write to the user ("everyone", "contacts"); who may know since when it is away ("contacts", "nobody")."""

    write: str
    seen: str


class Roster:
    """What is known of the contacts: kept in step by events, without sockets or tasks."""

    def __init__(self) -> None:
        self.contacts: dict[str, Contact] = {}
        self.presence: dict[str, Presence] = {}  # of those who are not offline
        self.version = 0  # of the list as it was read last; 0: it was not

    def on_event(self, event: Event) -> None:
        match event:
            case Welcomed():
                self.presence.clear()  # a new connection is told of everybody who is there
            case Contact():
                self._put(event)
            case Presence():
                self.presence.pop(event.user, None)
                if event.show != "offline":
                    self.presence[event.user] = event

    def on_pages(self, pages: Sequence[ContactsPage]) -> None:
        """All pages of one reading. Its version is that of the first page: what changed meanwhile comes again."""
        if pages[0].full:
            self.contacts.clear()
        for page in pages:
            for contact in page.contacts:
                self._put(contact)
        self.version = pages[0].version

    def restore(self, listed: Listed) -> None:
        """As it was in an earlier run."""
        self.version = listed.version
        self.contacts.update((contact.user, contact) for contact in listed.contacts)

    def listed(self) -> Listed:
        return Listed(self.version, tuple(self.contacts.values()))

    def _put(self, contact: Contact) -> None:
        if contact.is_known:
            self.contacts[contact.user] = contact
        else:
            self.contacts.pop(contact.user, None)
        if contact.state != "mutual":
            self.presence.pop(contact.user, None)


class People:
    """`Client.people`. What asks raises ConnectionLost where there is no connection, and what the server refuses."""

    def __init__(self, ask: Callable[[Command], Awaitable[msgspec.Raw]], journal: Journal) -> None:
        self._ask = ask
        self._journal = journal
        self._roster = Roster()

    def restore(self, listed: Listed) -> None:
        """The list as it was in an earlier run."""
        self._roster.restore(listed)

    def on_event(self, event: Event) -> None:
        self._roster.on_event(event)

    @property
    def contacts(self) -> Mapping[str, Contact]:
        """By name. Complete once `read` has been called; then events keep it in step."""
        return self._roster.contacts

    @property
    def presence(self) -> Mapping[str, Presence]:
        """Of those contacts who are not offline, as far as this connection has heard."""
        return self._roster.presence

    async def read(self) -> Mapping[str, Contact]:
        """The list, from the server: all of it, or what has changed since it was read last."""
        pages: list[ContactsPage] = []
        while not pages or pages[-1].more:
            after = pages[-1].next if pages else 0
            command = commands.Contacts(since=self._roster.version, after=after, limit=PAGE_CONTACTS)
            pages.append(decoded(await self._ask(command), ContactsPage))
        self._roster.on_pages(pages)
        self._journal.add(self._roster.listed())
        return self.contacts

    async def add(self, user: str, note: str = "") -> None:
        """Asks a user to become a contact, or accepts its request. May raise NotFound, Blocked, RateLimited."""
        await self._ask(commands.ContactAdd(user=parse_user(user), note=note))

    async def accept(self, user: str) -> None:
        """Raises NotFound where there is no request."""
        await self._ask(commands.ContactAccept(user=parse_user(user)))

    async def decline(self, user: str) -> None:
        """Raises NotFound where there is no request."""
        await self._ask(commands.ContactDecline(user=parse_user(user)))

    async def remove(self, user: str) -> None:
        """Ends it for both; also takes a request back."""
        await self._ask(commands.ContactRemove(user=parse_user(user)))

    async def describe(self, user: str, name: str | None = None, groups: Sequence[str] = ()) -> None:
        """What this user calls a contact, and where it is sorted; what is left out is removed. Raises NotFound."""
        await self._ask(commands.ContactSet(user=parse_user(user), name=name, groups=list(groups)))

    async def block(self, user: str) -> None:
        await self._ask(commands.Block(user=parse_user(user)))

    async def unblock(self, user: str) -> None:
        await self._ask(commands.Unblock(user=parse_user(user)))

    async def blocked(self) -> list[str]:
        return decoded(await self._ask(commands.Blocked()), _Blocked).blocked

    async def search(self, prefix: str, *, limit: int = 20) -> FoundUsers:
        """Users whose names begin so (two letters or more); at most `limit`, 50. Raises NotAllowed where it is off."""
        return decoded(await self._ask(commands.Search(prefix=prefix, limit=limit)), FoundUsers)

    async def report(self, user: str, reason: str, messages: Sequence[Message] = ()) -> None:
        """Tells the administrators that the user misbehaves; again: instead of what was told. At most 20 messages."""
        refs = [commands.ReportedMessage(message.at, message.log or None) for message in messages]
        await self._ask(commands.Report(user=parse_user(user), reason=reason, messages=refs))

    async def privacy(
        self,
        write: Literal["everyone", "contacts"] | None = None,
        seen: Literal["contacts", "nobody"] | None = None,
    ) -> Privacy:
        """How things stand, after what is given was set."""
        return decoded(await self._ask(commands.Privacy(write=write, seen=seen)), Privacy)

    async def show(self, show: Show, status: str = "") -> None:
        """What this device shows to contacts from now on; the server keeps it over lost connections."""
        await self._ask(commands.SetPresence(show=show, status=status))

    async def typing(self, to: str, *, on: bool = True) -> None:
        """Tells a contact's sessions, or the members of a small group who are connected; good for 6 seconds."""
        await self._ask(commands.Typing(to=parse_address(to), on=on))
