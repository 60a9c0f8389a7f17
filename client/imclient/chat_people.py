"""What `imclient chat` can do and show about those whom a user knows."""

from collections.abc import Awaitable, Callable

from imclient.client import Client
from imclient.events import Contact, Presence, Typing
from imclient.text import clean
from imserver.errors import BadRequest
from imserver.model import is_group
from imserver.protocol.presence import Show

TYPING_SECONDS = 6.0  # as the protocol says

HELP = """\
  /contacts       show your contacts, and who is there
  /add NAME [..]  ask NAME to become your contact, with a few words
  /accept NAME    take a request; /decline NAME refuses it
  /remove NAME    end being contacts, or take a request back
  /block NAME     nothing comes from NAME any more, until /unblock NAME
  /away [TEXT]    show that you are away; also /busy, /online, /invisible"""


Act = Callable[[str], Awaitable[None]]  # with what follows the command


class PeopleCommands:
    """`note` shows a line beside the conversation."""

    def __init__(self, client: Client, note: Callable[[str], Awaitable[None]]) -> None:
        self._client, self._people, self._note = client, client.people, note
        self._typing: dict[tuple[str, str], float] = {}  # who types, to whom -> until when it is believed
        self.commands: dict[str, Act] = {
            "/contacts": self._list,
            "/add": self._add,
            "/accept": self._named("/accept", self._people.accept),
            "/decline": self._named("/decline", self._people.decline),
            "/remove": self._named("/remove", self._people.remove),
            "/block": self._named("/block", self._people.block),
            "/unblock": self._named("/unblock", self._people.unblock),
            "/online": self._showing("online"),
            "/away": self._showing("away"),
            "/busy": self._showing("busy"),
            "/invisible": self._showing("invisible"),
        }

    # -- what the person does

    def _named(self, command: str, act: Act) -> Act:
        async def run(name: str) -> None:
            if not name:
                raise BadRequest(f"{command} NAME: whom?")
            await act(name)

        return run

    def _showing(self, show: Show) -> Act:
        async def run(status: str) -> None:
            await self._people.show(show, status)
            await self._note(f"you are {show}{f': {status}' if status else ''}")

        return run

    async def _add(self, rest: str) -> None:
        name, _, note = rest.partition(" ")
        if not name:
            raise BadRequest("/add NAME: whom?")
        await self._people.add(name, note.strip())

    async def _list(self, _: str) -> None:
        contacts = sorted((await self._people.read()).values(), key=lambda contact: contact.user)
        for contact in contacts:
            await self._note(self._line(contact))
        if not contacts:
            await self._note("no contacts yet; /add NAME asks somebody")

    def _line(self, contact: Contact) -> str:
        name = f"{contact.user} ({contact.name})" if contact.name else contact.user
        groups = f" [{', '.join(contact.groups)}]" if contact.groups else ""
        return f"{name}{groups}: {self._standing(contact)}"

    def _standing(self, contact: Contact) -> str:
        if contact.blocked:
            return "blocked"
        if contact.state == "asking":
            return f"asks to be your contact{_quoted(contact.note)}; /accept {contact.user}"
        if contact.state == "asked":
            return "asked, no answer yet"
        presence = self._people.presence.get(contact.user)
        return "offline" if presence is None else presence.show + _quoted(presence.status)

    # -- what happens

    async def on_contact(self, contact: Contact) -> None:
        if contact.state == "none" and not contact.blocked:
            await self._note(f"{contact.user} is no contact")
        elif contact.state == "mutual" and not contact.blocked:
            await self._note(f"{contact.user} is your contact")
        else:
            await self._note(self._line(contact))

    async def on_presence(self, presence: Presence) -> None:
        await self._note(f"{presence.user} is {presence.show}{_quoted(presence.status)}")

    def on_typing(self, typing: Typing, now: float) -> None:
        who = (typing.sender, typing.to)
        self._typing.pop(who, None)
        if typing.on:
            self._typing[who] = now + TYPING_SECONDS

    def has_written(self, sender: str) -> None:
        self._typing = {who: until for who, until in self._typing.items() if who[0] != sender}

    def typing_at(self, now: float) -> list[str]:
        here = [who for who, until in self._typing.items() if until > now]
        return [f"{sender} in {to}" if is_group(to) else sender for sender, to in here]


def _quoted(text: str | None) -> str:
    return f" ({clean(text)})" if text else ""
