"""What a group said while the hook was away for so long that the server sends none of it unasked."""

from collections.abc import AsyncGenerator, Awaitable, Callable

import trio
from imclient.amendments import AnyAmendment
from imclient.client import Client
from imclient.cursor import is_newer
from imclient.events import Message, Page

from imserver.errors import ImError, NotAllowed, NotFound
from imserver.model import position_order

PAGE_MESSAGES = 200
LEAST_RETRY_SECONDS = 1.0


async def said_between(
    me: Client, group: str, after: str | None, upto: str, sleep: Callable[[float], Awaitable[None]] = trio.sleep
) -> AsyncGenerator[Message | AnyAmendment, None]:
    """What the group's log has behind `after` (None: all that is kept) up to `upto`, oldest first.

    The history is read from its end, so the pages' places are looked up first and the pages read again in the other
    order: what is held is one page. Raises what ends the session.
    """
    befores = [_behind(upto)]
    while (page := await _page(me, group, befores[-1], sleep)).more and page.next is not None:
        if after is not None and not is_newer(page.next, after):
            break
        befores.append(page.next)
    for before in reversed(befores):
        page = await _page(me, group, before, sleep)
        for entry in sorted([*page.messages, *page.amendments], key=lambda entry: position_order(entry.at.encode())):
            if after is None or is_newer(entry.at, after):
                yield entry


def _behind(position: str) -> str:
    milliseconds, _, counter = position.partition("-")
    return f"{milliseconds}-{int(counter) + 1}"


async def _page(me: Client, group: str, before: str, sleep: Callable[[float], Awaitable[None]]) -> Page:
    while True:
        try:
            return await me.history(group, before=before, limit=PAGE_MESSAGES)
        except (NotFound, NotAllowed):
            return Page([])  # no member any more: nothing of it is for this account
        except ImError as error:
            if error.retry is None and error.code != "connection-lost":
                raise
            await sleep(max(error.retry or 0.0, LEAST_RETRY_SECONDS))
