"""Messages that wait for their time, in `imclient chat`."""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from imclient.client import Client
from imclient.later import Waiting
from imclient.text import body_text, clean
from imserver.errors import BadRequest

HELP = """\
  /later TIME TEXT  say TEXT to the partner then: 18:30, or 2030-12-24 18:30
  /scheduled        list what waits
  /unschedule N     do not say the one with that number"""
_WHEN = re.compile(r"(?:(?P<day>\d{4}-\d\d-\d\d) +)?(?P<time>\d{1,2}:\d\d) +(?P<text>\S.*)", re.DOTALL)


def parse_later(line: str, now: datetime) -> tuple[datetime, str]:
    """When, and the text. `now` is aware: a time without a day is the next such time in its zone. Raises BadRequest."""
    found = _WHEN.fullmatch(line)
    try:
        if found is None:
            raise ValueError(line)
        time = datetime.strptime(found["time"], "%H:%M").time()
        day = now.date() if found["day"] is None else datetime.strptime(found["day"], "%Y-%m-%d").date()
    except ValueError:
        raise BadRequest("/later TIME TEXT: TIME is 18:30, or 2030-12-24 18:30") from None
    when = datetime.combine(day, time).astimezone(now.tzinfo)
    if found["day"] is None and when <= now:
        when = datetime.combine(day + timedelta(days=1), time).astimezone(now.tzinfo)
    return when, found["text"]


class LaterCommands:
    """The commands by name: see `HELP`. `partner` gives the open conversation, `say` notes a line."""

    def __init__(
        self, client: Client, partner: Callable[[], str | None], say: Callable[[str], Awaitable[None]]
    ) -> None:
        self._client = client
        self._partner = partner
        self._say = say
        self._listed: list[Waiting] = []  # as their numbers were shown last

    def table(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        return {"/later": self._schedule, "/scheduled": self._list, "/unschedule": self._cancel}

    async def _schedule(self, line: str) -> None:
        when, text = parse_later(line, datetime.now().astimezone())
        partner = self._partner()
        if partner is None:
            raise BadRequest("to whom? /to NAME opens a conversation")
        await self._client.later.schedule(partner, text, when)
        await self._say(f"to be said at {_shown(when)}; /scheduled lists what waits")

    async def _list(self, _: str) -> None:
        self._listed = await self._client.later.waiting()
        for number, one in enumerate(self._listed, 1):
            failed = "" if one.failed is None else f"  (not said: {one.failed})"
            await self._say(f"{number}  {_shown(one.when)}  {clean(one.message.to)}: {_text(one)}{failed}")
        if not self._listed:
            await self._say("nothing waits; /later TIME TEXT is said at its time")

    async def _cancel(self, number: str) -> None:
        if not (number.isascii() and number.isdigit() and 1 <= int(number) <= len(self._listed)):
            raise BadRequest("/unschedule N: which one? /scheduled shows their numbers")
        one = self._listed[int(number) - 1]
        await self._client.later.cancel(one.message.id, device=one.message.device)
        await self._say(f"it will not be said: {_text(one)}")


def _shown(when: datetime) -> str:
    return f"{when.astimezone():%Y-%m-%d %H:%M}"


def _text(one: Waiting) -> str:
    return body_text(one.message.body).replace("\n", " ")[:60]
