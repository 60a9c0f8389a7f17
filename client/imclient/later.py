"""Messages that the server is to say at a later time: `client.later`."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Unpack
from uuid import uuid4

import msgspec

from imclient.answers import decoded
from imclient.errors import error_of
from imclient.events import Message
from imclient.outbox import Extras
from imclient.said import message_of
from imserver.errors import BadRequest, ImError
from imserver.model import parse_address, parse_message_id
from imserver.protocol import codec, commands
from imserver.protocol.extras import check_extras
from imserver.protocol.pushes import MessagePush, ScheduledAt, ScheduledList, ScheduledMessage


class Waiting(msgspec.Struct, frozen=True):
    """A message that waits for its time, `when` (UTC); its `at` is empty, and so is `prev`.

    `failed`: it was due, and refused with this; it stays until it is cancelled.
    """

    message: Message
    when: datetime
    failed: ImError | None = None


class Later:
    """The server says them, whether this user is there or not, and all its devices get them as messages.

    Every method raises ConnectionLost where there is no connection or it breaks: what was asked for may have been done
    then, and can be asked for again. They raise BadRequest, NotFound, Conflict, RateLimited, Overloaded, Unavailable,
    SessionEnded.
    """

    def __init__(self, ask: Callable[[commands.Command], Awaitable[msgspec.Raw]]) -> None:
        self._ask = ask

    async def schedule(
        self, to: str, body: str | dict[str, Any], when: datetime, *, id: str | None = None, **extras: Unpack[Extras]
    ) -> str:
        """To be said at `when` (aware; at once where that has passed); its id. `extras`: as with `Client.send`.

        `id`: as with `Client.send`. Whoever may have to ask again gives one: then it is said once all the same.
        Raises Conflict where too many wait, or it was cancelled.
        """
        if when.tzinfo is None:
            raise BadRequest("when: a time zone is needed, as in datetime.now(UTC)")
        check_extras(dict(extras))
        command = commands.Schedule(
            id=f"later-{uuid4().hex}" if id is None else parse_message_id(id),
            to=parse_address(to),
            body=codec.encode_body(body),
            when=int(when.timestamp()),
            **extras,
        )
        return decoded(await self._ask(command), ScheduledAt).id

    async def waiting(self) -> list[Waiting]:
        """All of this user's, of all its devices, in the order in which they are said."""
        return [_waiting(one) for one in decoded(await self._ask(commands.Scheduled()), ScheduledList).messages]

    async def cancel(self, id: str, *, device: str | None = None) -> None:
        """It will not be said. `device`: the one that has scheduled it; None: this one.

        Raises NotFound where it does not wait (any more), Conflict where it is being said.
        """
        await self._ask(commands.Unschedule(id=parse_message_id(id), device=device))


def _waiting(one: ScheduledMessage) -> Waiting:
    push = msgspec.convert({"at": "", "prev": "", **msgspec.json.decode(one.message)}, MessagePush)
    failed = None if one.failed is None else error_of(one.failed)
    return Waiting(message_of(push), datetime.fromtimestamp(one.when, UTC), failed)
