"""What an application holds: one logged-in device."""

import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Unpack

import anyio
import msgspec

from imclient.account import Account
from imclient.amendments import Deleted, Edited, Reacted
from imclient.backoff import Backoff
from imclient.conversations import Conversations
from imclient.core import Replica
from imclient.courier import LEAVE_SECONDS, Courier
from imclient.errors import ConnectionLost
from imclient.events import (
    Answered,
    Contact,
    ConversationsOutdated,
    Disconnected,
    Ended,
    Entry,
    Event,
    GroupChanged,
    Message,
    Notice,
    Page,
    Reconnect,
    SendFailed,
    Sent,
    Synced,
    Truncated,
)
from imclient.groups import Groups
from imclient.inbox import Answer, Inbox
from imclient.journal import Journal
from imclient.keeping import Keeper, Local
from imclient.later import Later
from imclient.outbox import Extras
from imclient.people import People
from imclient.stages import State
from imclient.wire import Wire
from imserver.errors import BadFrame, BadRequest, ImError, SetupError
from imserver.model import parse_address
from imserver.protocol.codec import encode_body
from imserver.protocol.commands import Command, Delete, Edit, History, Ping, React
from imserver.protocol.extras import Reference

MOST_WAITING = 10_000  # notices that nobody takes; entries are bounded in bytes, by the reader


class Client:
    """One logged-in device; made by `connect`."""

    def __init__(
        self, replica: Replica, open_wire: Callable[[], Awaitable[Wire]], keeper: Keeper | None = None
    ) -> None:
        self._replica = replica
        self._keeper = keeper
        tell = self._on_events if keeper is None else keeper.tell
        self._courier = Courier(replica, open_wire, Backoff(random.random), tell)
        self._inbox: deque[Notice] = deque()
        self._answers: dict[str | int, Answer] = {}
        self._failure: ImError | None = None
        self._news = anyio.Event()
        self.groups = Groups(self._ask)
        self.people = People(self._ask, Journal() if keeper is None else keeper.journal)
        self.conversations = Conversations(self.user, self._ask, anyio.sleep)
        self.account = Account(self._ask)
        self.later = Later(self._ask)
        if keeper is not None:
            keeper.start(replica, self._on_kept)
            self.people.restore(keeper.saved.contacts)

    # -- who and how

    @property
    def user(self) -> str:
        return self._replica.identity.user

    @property
    def device(self) -> str:
        return self._replica.identity.device

    @property
    def token(self) -> str | None:
        """Logs this user and device in again, without the password."""
        return self._replica.identity.token

    @property
    def cursors(self) -> dict[str, str]:
        """Log to position: everything up to there is acknowledged. Give it as `since` to go on there."""
        return self._replica.kept()

    @property
    def state(self) -> State:
        return self._replica.state

    @property
    def unsent(self) -> int:
        """Messages that the server has not answered for yet."""
        return self._replica.unsent

    @property
    def has_store(self) -> bool:
        return self._keeper is not None

    @property
    def local(self) -> Local:
        """What the store has. Raises BadRequest where there is none."""
        if self._keeper is None:
            raise BadRequest("there is no store; give one to `connect`")
        return self._keeper.local

    async def wait_synced(self) -> None:
        """Waits until the backlog has been received. Raises what has ended the session."""
        await self._wait(lambda: self.state is State.LIVE)

    async def wait_sent(self) -> None:
        """Waits until the server has answered for every message. Raises what has ended the session."""
        await self._wait(lambda: self.unsent == 0)

    async def _wait(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._check()
            await self._news.wait()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # one error for all: it must not collect everybody's tracebacks

    # -- sending and asking

    async def send(
        self,
        to: str,
        body: str | dict[str, Any],
        *,
        id: str | None = None,
        again: bool = False,
        **extras: Unpack[Extras],
    ) -> Sent:
        """Sends a message and waits until it is stored for its recipient and its sender, however long that takes.

        `extras`: `reply` and `forwarded` (a message's `reference`), `attachment`, `location`, `encrypted`, `mentions`
        in a group, and `ttl`: after so many seconds it vanishes.

        Lost connections and errors that the server calls passing are waited out, and the message is repeated under
        its id. If cancelled, a message that has not left yet is taken back; one that has left goes on to be repeated
        until the server has answered, since it may be stored already.

        `id`: 1 to 64 printable ASCII characters, another for each message of this device; the default is a new one.
        `again`: it may have been sent under this id by an earlier run; it is stored once all the same.

        Raises BadRequest, NotFound, Blocked, TooLarge and whatever else the server refuses it with, SessionEnded.
        """
        self._check()
        return await self._sent(self._replica.send(to, body, id=id, again=again, **extras))

    async def _sent(self, id: str) -> Sent:
        try:
            sent: Sent = await self._answer(id)
        except anyio.get_cancelled_exc_class():
            self._replica.withdraw(id)
            raise
        return sent

    def send_nowait(self, to: str, body: str | dict[str, Any], **extras: Unpack[Extras]) -> str:
        """Queues a message and returns its id; `events` tells what becomes of it (`Sent` or `SendFailed`).

        The queue is not bounded: look at `unsent`. Raises BadRequest, TooLarge, SessionEnded.
        """
        self._check()
        id = self._replica.send(to, body, **extras)
        self._courier.wake()
        return id

    async def queue(
        self,
        to: str,
        body: str | dict[str, Any],
        *,
        id: str | None = None,
        again: bool = False,
        **extras: Unpack[Extras],
    ) -> str:
        """As `send_nowait`, and with a store the message is in the file when it returns.

        Then it is sent, once and in its turn, even if this program ends now: by the next one with that file. May raise
        SetupError.
        """
        self._check()
        id = self._replica.send(to, body, id=id, again=again, **extras)
        self._courier.wake()
        if self._keeper is not None:
            await self._keeper.flush()
        return id

    async def edit(self, message: Message | Sent, body: str | dict[str, Any]) -> Sent:
        """Changes what an own message says. Waits, and raises, as `send` does; also NotAllowed where it is too old.

        The messages' `Thread` is to be told by whoever has one: own amendments come as `Sent` only.
        """
        return await self._amend(message, lambda of: Edit(id="", to="", of=of, body=encode_body(body)))

    async def delete(self, message: Message | Sent) -> Sent:
        """Deletes a message for everybody: an own one, or, as owner or admin, one in a group. As `edit`."""
        return await self._amend(message, lambda of: Delete(id="", to="", of=of))

    async def react(self, message: Message | Sent, emoji: str | None) -> Sent:
        """Says one emoji to a message, in place of an earlier one; None takes it back. As `edit`."""
        return await self._amend(message, lambda of: React(id="", to="", of=of, emoji=emoji))

    async def _amend(self, message: Message | Sent, make: Callable[[Reference], Edit | Delete | React]) -> Sent:
        self._check()
        if isinstance(message, Sent):
            to, of = message.to, Reference(self.user, self.device, message.id)
        else:
            to, of = message.partner(self.user), message.reference
        return await self._sent(self._replica.amend(to, make(of)))

    async def history(self, partner: str, *, before: str | None = None, limit: int = 50) -> Page:
        """The newest `limit` (1 to 200) messages exchanged with `partner` (before the position `before`), newest last.

        Where there is no connection or it breaks the page is from the store; without one that raises ConnectionLost.
        Raises BadRequest, NotFound, RateLimited, Unavailable, SessionEnded; BadFrame where the answer is not a page.
        """
        self._check()
        try:
            content = await self._ask(History(partner=parse_address(partner, "partner"), before=before, limit=limit))
        except ConnectionLost:
            if self._keeper is None:
                raise
            return await self.local.history(partner, before=before, limit=limit)
        try:
            return msgspec.json.decode(content, type=Page)
        except msgspec.DecodeError as error:
            raise BadFrame(f"the server's answer is not a page of messages: {error}") from None

    async def ping(self) -> float:
        """Asks the server for a sign of life; how long it took, in seconds. Raises as `history` does."""
        started = anyio.current_time()
        await self._ask(Ping())
        return anyio.current_time() - started

    async def _ask(self, command: Command) -> msgspec.Raw:
        self._check()
        content: msgspec.Raw = await self._answer(self._replica.ask(command))
        return content

    async def _answer(self, key: str | int) -> Any:
        self._courier.wake()
        self._answers[key] = answer = Answer()
        try:
            return await answer.wait()
        finally:
            del self._answers[key]

    # -- receiving

    def messages(self, *, auto_ack: bool = True) -> Inbox[Message]:
        """All messages that come, in their order, those from the user's other devices too; for one consumer.

        A message is acknowledged when the next one is asked for: a program that dies before gets it again. Without
        `auto_ack`, call `ack`. Raises what has ended the session, once there is nothing left to give.
        """
        return Inbox(self.take, self.ack if auto_ack else None, Message)

    def events(self, *, auto_ack: bool = True) -> Inbox[Notice]:
        """Messages as in `messages`, and all other notices. For one consumer, of this or of `messages`.

        Other entries of logs (`Edited`, `Deleted`, `Reacted`, `GroupChanged`, `Contact`, a `Truncated` with a count)
        are acknowledged as messages are.
        """
        return Inbox(self.take, self.ack if auto_ack else None, Notice)

    def ack(self, entry: Entry) -> None:
        """The application is done with this entry and all before it in its log: they need not be given again."""
        if isinstance(entry, Truncated) and not entry.count:
            return  # it is no entry: `at` is that of the next one
        self._courier.obey(self._replica.keep(entry, anyio.current_time()))
        self._courier.wake()
        if self._keeper is not None:
            self._keeper.wake()
        self._tell_news()

    async def take(self) -> Notice:
        """The next event; `messages` and `events` are built on it. Raises what has ended the session."""
        await self._wait(lambda: bool(self._inbox))
        return self._inbox.popleft()

    # -- what the courier brings

    def _on_kept(self, events: Sequence[Event | Disconnected]) -> None:
        self._on_events(events)
        self._courier.wake()  # there may be more to acknowledge

    def _on_events(self, events: Sequence[Event | Disconnected]) -> None:
        for event in events:
            self._on_event(event)
            if not isinstance(event, Disconnected):
                self.people.on_event(event)
                if self.conversations.on_event(event):
                    self._note(ConversationsOutdated())
        self._tell_news()

    def _on_event(self, event: Event | Disconnected) -> None:
        match event:
            case Answered():
                self._give(event.ref, event.content)
            case Sent() if event.id in self._answers:
                self._give(event.id, event)
            case SendFailed() if event.id in self._answers:
                self._give(event.id, event.error)
            case Ended():
                self._end(event.error)
            case Message() | Edited() | Deleted() | Reacted() | GroupChanged() | Contact() | Truncated():
                self._inbox.append(event)
            case Reconnect() | ConversationsOutdated():
                pass  # the courier's; and of what is outdated `conversations` says when it is news
            case _:
                self._note(event)

    def _note(self, event: Notice) -> None:
        if isinstance(event, Synced):
            self._courier.synced()
        if len(self._inbox) < MOST_WAITING:
            self._inbox.append(event)

    def _give(self, key: str | int, content: object) -> None:
        answer = self._answers.get(key)
        if answer is not None:
            answer.give(content)

    def _end(self, error: ImError) -> None:
        self._failure = self._failure or error
        for answer in self._answers.values():
            answer.give(self._failure)

    def _tell_news(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    # -- life; called by `connect`

    async def run(self) -> None:
        """Connects, and comes back; returns when the session has ended."""
        async with anyio.create_task_group() as tasks:
            if self._keeper is not None:
                tasks.start_soon(self._keep, self._keeper, tasks.cancel_scope)
            await self._courier.run()

    async def _keep(self, keeper: Keeper, everything: anyio.CancelScope) -> None:
        try:
            await keeper.run()
        except SetupError as error:
            self._on_events([Ended(error)])
            everything.cancel()

    async def wait_entered(self) -> None:
        """Waits for the first login. Raises what prevents it."""
        await self._wait(lambda: self._replica.has_entered)

    async def wait_changed(self) -> None:
        """Waits until `token` or `cursors` may have changed, or anything else."""
        await self._news.wait()

    async def leave(self) -> None:
        """Acknowledges, logs out. Whoever still waits for something gets ConnectionLost."""
        if self._keeper is not None:
            with anyio.move_on_after(LEAVE_SECONDS, shield=True), suppress(SetupError):
                await self._keeper.flush()
        await self._courier.leave()
        self._on_events([Ended(ConnectionLost("the client was closed"))])
