"""`imclient chat`: a conversation on a terminal, or in a pipe.

What is sent appears among the rest once the server has stored it, at its place and with its time; until then the status
line counts it.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from math import inf
from typing import NamedTuple, Unpack

import trio

from imclient.amendments import AnyAmendment, Deleted, Edited, Reacted
from imclient.chat_amendments import HELP as AMENDMENT_HELP
from imclient.chat_amendments import AmendmentCommands
from imclient.chat_conversations import HELP as CONVERSATION_HELP
from imclient.chat_conversations import ConversationCommands
from imclient.chat_groups import HELP as GROUP_HELP
from imclient.chat_groups import GroupCommands, told
from imclient.chat_later import HELP as LATER_HELP
from imclient.chat_later import LaterCommands
from imclient.chat_marks import Marks
from imclient.chat_people import HELP as PEOPLE_HELP
from imclient.chat_people import PeopleCommands
from imclient.client import Client
from imclient.console import Console
from imclient.cursor import is_newer
from imclient.events import (
    OWN_LOG,
    Contact,
    ConversationsOutdated,
    Delivered,
    Disconnected,
    GroupChanged,
    Message,
    Notice,
    Page,
    Presence,
    Read,
    SendFailed,
    Sent,
    Synced,
    Truncated,
    Typing,
)
from imclient.outbox import Extras
from imclient.stages import State
from imclient.text import Transcript, clean
from imserver.errors import BadRequest, ImError
from imserver.model import parse_address

PAGE_MESSAGES = 20
MOST_MESSAGES = 200  # the server gives no more at once
MOST_UNSENT = 1000  # of a pipe; then no more is read from it
QUIT_SECONDS = 5.0
_TO_GROUP = re.compile(r"(?P<group>#[A-Za-z0-9._-]+): (?P<text>.+)")
_STATES = {State.LIVE: "online", State.CATCHING_UP: "catching up"}

HELP = """\
  TEXT            send TEXT to the partner
  /to NAME        open the conversation with NAME
  /vanish N TEXT  send TEXT, which vanishes after N seconds
  /history [N]    show the N messages before those shown (20)
  /help           show this, and what one can do with groups
  /quit           leave; so does Ctrl-D
  //TEXT          send TEXT that begins with a slash"""


class Shown(NamedTuple):
    """What of a conversation is on the screen."""

    oldest: str | None = None  # history before this position has not been looked at
    paged: str | None = None  # a page of history had everything up to there

    def with_page(self, page: Page) -> "Shown":
        oldest, paged = page.next or self.oldest, self.paged
        if page.messages:
            oldest, newest = page.next or page.messages[0].at, page.messages[-1].at
            paged = newest if paged is None or is_newer(newest, paged) else paged
        return Shown(oldest, paged)


class Chat:
    def __init__(self, client: Client, console: Console, transcript: Transcript, partner: str | None) -> None:
        self.partner = partner
        self.has_failed = False  # something that was asked for could not be done
        self._client = client
        self._console = console
        self._transcript = transcript
        self._shown: dict[str, Shown] = {}
        self._unsent: dict[str, str] = {}  # id -> text
        self._unread: Counter[str] = Counter()  # messages of the backlog, before it has been shown
        self._is_open = False  # the first backlog is in
        self._opened = trio.Event()
        self._answered = trio.Event()
        self._people = PeopleCommands(client, self._note)
        self._marks = Marks(client)
        self._amendments = AmendmentCommands(client, lambda: self.partner, self._note)
        self._turn = trio.Lock()  # what comes waits while a page of history is fetched and shown
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "/to": self._open,
            "/history": self._show_older,
            "/vanish": self._send_vanishing,
            "/help": self._help,
            **GroupCommands(client, lambda: self.partner, self._open, self._note).table(),
            **ConversationCommands(client, self._note).table(),
            **LaterCommands(client, lambda: self.partner, self._note).table(),
            **self._people.commands,
            **self._amendments.table(),
        }

    def _refresh(self) -> None:
        me, waiting = self._client, f" · {self._client.unsent} not sent yet" if self._client.unsent else ""
        state = _STATES.get(me.state, "offline, reconnecting")
        typing = "".join(f" · {sender} is typing" for sender in self._people.typing_at(trio.current_time()))
        marks = [
            part for part in (self._marks.state_of(self.partner), self._marks.unread_besides(self.partner)) if part
        ]
        rest = "".join(f" · {part}" for part in marks)
        self._console.refresh(f"{self.partner or '?'}> ", f" {me.user} · {state}{waiting}{rest}{typing} · /help")

    # -- what happens

    async def listen(self) -> None:
        """Shows what comes. Raises what has ended the session."""
        async for notice in self._client.events():
            async with self._turn:
                await self._on_notice(notice)
            self._refresh()

    async def _on_notice(self, notice: Notice) -> None:
        match notice:
            case Message():
                await self._on_message(notice)
            case GroupChanged() | Contact() | Presence() | Typing() | Edited() | Deleted() | Reacted():
                await self._on_others(notice)
            case Read() | Delivered():
                self._marks.on_mark(notice)
            case ConversationsOutdated():
                await self._marks.refresh()
            case Sent():
                await self._on_sent(notice)
            case SendFailed():
                await self._on_failed(notice)
            case Synced():
                await self._on_synced()
            case Truncated():
                await self._note(_cut(notice))
            case Disconnected() if self._is_open or self._client.has_store:
                await self._on_disconnected(notice)

    async def _on_others(self, notice: GroupChanged | Contact | Presence | Typing | AnyAmendment) -> None:
        """What others do but speak."""
        match notice:
            case Edited() | Deleted() | Reacted():
                amended = self._amendments.told(notice)  # it is known from now on, shown or not
                if self._is_open:
                    await self._note(amended)
            case Typing():
                self._people.on_typing(notice, trio.current_time())
            case GroupChanged() if self._is_open and (sentence := told(notice, self._client.user)) is not None:
                await self._note(sentence)
            case Contact() if self._is_open:
                await self._people.on_contact(notice)
            case Presence() if self._is_open:
                await self._people.on_presence(notice)

    async def _on_message(self, message: Message) -> None:
        self._people.has_written(message.sender)
        if self._is_open or not self._console.is_interactive:
            await self._show(message)
            await self._seen()
        else:
            self._unread[message.partner(self._client.user)] += message.sender != self._client.user

    async def _show(self, message: Message) -> None:
        """Shown once, though a page of history may have had it before it came by itself."""
        partner = message.partner(self._client.user)
        shown = self._shown.get(partner, Shown())
        if shown.paged is None or is_newer(message.at, shown.paged):
            self._shown[partner] = Shown(shown.oldest or message.at, shown.paged)
            await self._console.show(self._transcript.line(self._amendments.shown(message), self.partner))

    async def _on_sent(self, sent: Sent) -> None:
        text = self._taken(sent.id)
        self._marks.sent(sent.to, sent.id)
        if text is not None and self._console.is_interactive:
            await self._show(self._own(sent, text))

    def _taken(self, id: str) -> str | None:
        self._answered.set()
        return self._unsent.pop(id, None)

    def _own(self, sent: Sent, text: str) -> Message:
        me = self._client
        log = sent.to if sent.to.startswith("#") else OWN_LOG
        return Message(
            at=sent.at,
            sender=me.user,
            device=me.device,
            to=sent.to,
            id=sent.id,
            body=text,
            log=log,
            expires=sent.expires,
        )

    async def _on_failed(self, failed: SendFailed) -> None:
        self.has_failed = True
        await self._complain(f"not sent to {failed.to}: {self._taken(failed.id) or ''}\n  {failed.error}")

    async def _on_disconnected(self, notice: Disconnected) -> None:
        """With a store one can read without the server, and say what is sent later."""
        if notice.retry_in > 0:
            await self._note(f"offline: {notice.why}")
        if not self._is_open:
            await self._begin()

    async def _on_synced(self) -> None:
        if self._is_open:
            await self._note("online again")
        else:
            await self._begin()

    async def _begin(self) -> None:
        self._is_open = True
        if self._console.is_interactive:
            await self._marks.refresh()
            await self._greet()
        if self.partner is not None:
            await self._guarded(self._open, self.partner)
        self._opened.set()

    async def _greet(self) -> None:
        await self._note(f"you are {self._client.user}; /help shows what you can do")
        others = self._marks.unread_besides(self.partner)
        if others:
            await self._note(f"new messages: {others}; /to NAME shows them")

    # -- what the person does

    async def talk(self) -> None:
        """Does what is typed, until nothing more comes; then waits until everything is sent."""
        await self._opened.wait()
        self._refresh()
        while (line := await self._console.read_line()) is not None and line.strip() != "/quit":
            async with self._turn:
                await self._guarded(self._obey, line)
            self._refresh()
            await self._wait_unsent(MOST_UNSENT)
        if not self._keeps_unsent():
            with trio.move_on_after(QUIT_SECONDS if self._console.is_interactive else inf):
                await self._wait_unsent(0)

    def _keeps_unsent(self) -> bool:
        """What was said has its time: it is in the store."""
        return self._client.has_store and self._client.state is not State.LIVE

    async def _wait_unsent(self, most: int) -> None:
        """Waits until no more than `most` messages are without an answer."""
        while self.unsent > most:
            self._answered = trio.Event()
            await self._answered.wait()

    @property
    def unsent(self) -> int:
        return len(self._unsent)

    async def _guarded(self, act: Callable[[str], Awaitable[None]], argument: str) -> None:
        try:
            await act(argument)
        except ImError as error:
            self.has_failed = True
            await self._complain(str(error))

    async def _obey(self, line: str) -> None:
        if line.startswith("/") and not line.startswith("//"):
            word, _, rest = line.partition(" ")
            if word not in self._commands:
                raise BadRequest(f"{word} is not a command; /help shows them")
            await self._commands[word](rest.strip())
        elif (said := _TO_GROUP.fullmatch(line)) is not None:
            self._send(said["text"], said["group"])
        elif line.strip():
            self._send(line.removeprefix("/") if line.startswith("//") else line, self.partner)

    def _send(self, text: str, to: str | None, **extras: Unpack[Extras]) -> None:
        if to is None:
            raise BadRequest("to whom? /to NAME opens a conversation")
        self._unsent[self._client.send_nowait(to, text, **extras)] = text

    async def _send_vanishing(self, argument: str) -> None:
        seconds, _, text = argument.partition(" ")
        if not (seconds.isascii() and seconds.isdigit() and text):
            raise BadRequest("/vanish N TEXT: after how many seconds does which text vanish?")
        self._send(text, self.partner, ttl=int(seconds))

    async def _open(self, name: str) -> None:
        self.partner = partner = parse_address(name, "/to")
        self._refresh()
        if not self._console.is_interactive:
            return
        limit = min(max(PAGE_MESSAGES, self._unread.pop(partner, 0)), MOST_MESSAGES)
        page = await self._client.history(partner, limit=limit)
        await self._note(f"— {partner} —")
        await self._show_page(partner, page)
        await self._seen()

    async def _seen(self) -> None:
        if self._console.is_interactive and self.partner is not None:
            await self._marks.seen(self.partner)

    async def _show_older(self, count: str) -> None:
        if self.partner is None:
            raise BadRequest("whose history? /to NAME opens a conversation")
        if count and not (count.isascii() and count.isdigit() and 1 <= int(count) <= MOST_MESSAGES):
            raise BadRequest(f"/history: {count!r} is not a number from 1 to {MOST_MESSAGES}")
        before = self._shown.get(self.partner, Shown()).oldest
        page = await self._client.history(self.partner, before=before, limit=int(count or PAGE_MESSAGES))
        nothing = "nothing yet; /history looks further back" if page.more else "there is nothing earlier"
        await self._note(f"— earlier, with {self.partner} —" if page.messages else nothing)
        await self._show_page(self.partner, page)

    async def _show_page(self, partner: str, page: Page) -> None:
        self._shown[partner] = self._shown.get(partner, Shown()).with_page(page)
        self._amendments.see(page)
        for message in page.messages:
            await self._console.show(self._transcript.line(self._amendments.shown(message), partner))

    async def _help(self, _: str) -> None:
        helps = (HELP, CONVERSATION_HELP, AMENDMENT_HELP, LATER_HELP, PEOPLE_HELP, GROUP_HELP)
        await self._console.show("\n".join(helps))

    # -- what is not a message

    async def _note(self, text: str) -> None:
        await self._console.note(self._transcript.style(f"* {clean(text)}", dim=True))

    async def _complain(self, text: str) -> None:
        await self._console.note(self._transcript.style(f"! {clean(text)}", fg="red"))


def _cut(cut: Truncated) -> str:
    if cut.count:
        return f"{cut.log}: {cut.count} messages or more; /to {cut.log} shows the last"
    return "some messages from before are not kept any more"
