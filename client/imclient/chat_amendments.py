"""Replies, edits, deletions and reactions in `imclient chat`."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from imclient.amendments import AnyAmendment, Deleted, Edited, Reacted, stamp_of
from imclient.client import Client
from imclient.events import Message, Page, Sent
from imclient.text import body_text
from imclient.thread import Thread
from imserver.errors import BadRequest

HELP = """\
  /edit TEXT      your last message in the open conversation says TEXT
  /delete         it is gone, for all
  /react [EMOJI]  say EMOJI to the last message of somebody else; without, take it back"""
QUOTE_CHARACTERS = 40

Say = Callable[[str], Awaitable[None]]


class AmendmentCommands:
    """The commands by name: see `HELP`. `partner` gives the open conversation, `say` notes a line."""

    def __init__(self, client: Client, partner: Callable[[], str | None], say: Say) -> None:
        self._client = client
        self._partner = partner
        self._say = say
        self._thread = Thread()
        self._newest: dict[tuple[str, bool], Message] = {}  # of each conversation, by whether it is an own one

    def table(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        return {"/edit": self._edit, "/delete": self._delete, "/react": self._react}

    # -- what is known

    def see(self, page: Page) -> None:
        self._thread.add_page(page)

    def shown(self, message: Message) -> Message:
        """As it is to be read now: what it answers, its newest text, what was said to it."""
        self._thread.expire(time.time())  # what has vanished is not quoted
        self._thread.add(message)
        self._newest[message.partner(self._client.user), message.sender == self._client.user] = message
        line = self._thread.line(message.reference)
        if line is None:
            return msgspec.structs.replace(message, body="(deleted)")
        if not (message.reply or line.is_edited or line.reactions):
            return message
        answered = self._thread.line(message.reply) if message.reply else None
        quote = f"> {_quoted(answered.message)}\n" if answered is not None else "> ...\n" if message.reply else ""
        reactions = "".join(f" [{emoji} {user}]" for user, emoji in line.reactions.items())
        text = f"{quote}{body_text(line.body)}{' (edited)' if line.is_edited else ''}{reactions}"
        return msgspec.structs.replace(message, body=text)

    def told(self, what: AnyAmendment) -> str:
        """A sentence."""
        self._thread.expire(time.time())
        before = self._thread.line(what.of)
        self._thread.add(what)
        which = "a message" if before is None else f'"{_quoted(before.message, before.body)}"'
        match what:
            case Edited():
                return f'{what.sender} has changed {which}: "{body_text(what.body)}"'
            case Deleted():
                return f"{what.sender} has deleted {which}"
            case Reacted():
                said = what.emoji or "nothing any more"
                return f"{what.sender} says {said} to {which}"

    # -- what the person does

    def _last(self, *, own: bool) -> Message:
        message = self._newest.get((self._partner() or "", own))
        if message is None:
            raise BadRequest("there is no message here to which this could be done")
        return message

    async def _edit(self, text: str) -> None:
        if not text:
            raise BadRequest("/edit TEXT: what is it to say?")
        message = self._last(own=True)
        sent = await self._client.edit(message, text)
        await self._say(self.told(Edited(**self._own(message, sent), body=text)))

    async def _delete(self, _: str) -> None:
        message = self._last(own=True)
        sent = await self._client.delete(message)
        await self._say(self.told(Deleted(**self._own(message, sent))))

    async def _react(self, emoji: str) -> None:
        message = self._last(own=False)
        sent = await self._client.react(message, emoji or None)
        await self._say(self.told(Reacted(**self._own(message, sent), emoji=emoji or None)))

    def _own(self, message: Message, sent: Sent) -> dict[str, Any]:
        """Own amendments are confirmed, and not given: this is what they have in common."""
        who, stamp = self._client, stamp_of(sent.at, sent.stamp)
        fields = {"at": sent.at, "sender": who.user, "device": who.device, "to": sent.to, "id": sent.id, "stamp": stamp}
        return {**fields, "of": message.reference, "log": message.log}


def _quoted(message: Message, body: object = None) -> str:
    text = body_text(message.body if body is None else body).replace("\n", " ")
    return text if len(text) <= QUOTE_CHARACTERS else text[:QUOTE_CHARACTERS] + "..."
