"""The list of conversations in `imclient chat`: of the server, with what is unread, or of the store."""

from collections.abc import Awaitable, Callable

from imclient.client import Client
from imclient.conversations import Conversation
from imclient.errors import ConnectionLost
from imclient.events import time_of
from imclient.file import LocalConversation
from imclient.text import body_text, clean
from imserver.model import START

HELP = "  /conversations  list your conversations, and what is unread in them"


class ConversationCommands:
    """`say` notes a line."""

    def __init__(self, client: Client, say: Callable[[str], Awaitable[None]]) -> None:
        self._client = client
        self._say = say

    def table(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        return {"/conversations": self._list}

    async def _list(self, _: str) -> None:
        lines = await self._lines()
        for line in lines:
            await self._say(line)
        if not lines:
            await self._say("no conversations yet; /to NAME begins one")

    async def _lines(self) -> list[str]:
        try:
            known = await self._client.conversations.refresh()
        except ConnectionLost:
            if not self._client.has_store:
                raise
            return [_local_line(conversation) for conversation in await self._client.local.conversations()]
        return [_line(it) for it in sorted(known.values(), key=_newest, reverse=True) if not it.is_archived]


def _newest(conversation: Conversation) -> tuple[bool, float]:
    return conversation.pinned, time_of(conversation.last or START.decode()).timestamp()


def _line(conversation: Conversation) -> str:
    marks = [name for name in ("pinned", "muted") if getattr(conversation, name)]
    if conversation.unread:
        marks.insert(0, f"{conversation.unread}{'+' if conversation.more else ''} unread")
    return clean(conversation.partner) + (f"  ({', '.join(marks)})" if marks else "")


def _local_line(conversation: LocalConversation) -> str:
    last = conversation.last
    return f"{clean(conversation.partner)}  {last.sender}: {body_text(last.body).splitlines()[0][:60]}"
