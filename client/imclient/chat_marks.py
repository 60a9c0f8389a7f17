"""What `imclient chat` shows of marks: how far what was sent has come, and what is unread."""

from imclient.client import Client
from imclient.errors import ConnectionLost
from imclient.events import Delivered, Read
from imclient.text import clean
from imserver.errors import Overloaded, RateLimited, Unavailable

SENT, DELIVERED, READ = "✓ sent", "✓✓ delivered", "✓✓ read"
_WAITS = (ConnectionLost, Overloaded, RateLimited, Unavailable)  # the next mark says the same


class Marks:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._sent: dict[str, list[str]] = {}  # by partner: ids that nobody has read yet, of this program's messages
        self._states: dict[str, str] = {}  # by partner: of the last of them

    def sent(self, partner: str, id: str) -> None:
        """A message is stored."""
        self._sent.setdefault(partner, []).append(id)
        self._states[partner] = SENT

    def on_mark(self, mark: Read | Delivered) -> None:
        """The partner has read, or got, a message; those before it, too."""
        sent = self._sent.get(mark.by, [])
        if mark.device != self._client.device or mark.id not in sent:
            return
        is_last, is_read = mark.id == sent[-1], isinstance(mark, Read)
        if is_read:
            del sent[: sent.index(mark.id) + 1]
        if is_last:
            self._states[mark.by] = READ if is_read else DELIVERED

    def state_of(self, partner: str | None) -> str:
        """Of the last message to the partner."""
        return self._states.get(partner or "", "")

    async def refresh(self) -> None:
        try:
            await self._client.conversations.refresh()
        except _WAITS:
            pass  # the next login, or notice, asks again

    async def seen(self, partner: str) -> None:
        """Everything of the conversation is on the screen."""
        conversation = self._client.conversations.known.get(partner)
        if conversation is None or not conversation.unread:
            return
        try:
            await self._client.conversations.read(partner)
        except _WAITS:
            pass

    def unread_besides(self, partner: str | None) -> str:
        """`bob (3), carol (1+)`: most first."""
        known = self._client.conversations.known.values()
        others = [it for it in known if it.unread and it.partner != partner and not it.muted]
        others.sort(key=lambda it: -it.unread)
        return ", ".join(f"{clean(it.partner)} ({it.unread}{'+' if it.more else ''})" for it in others)
