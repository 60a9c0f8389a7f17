"""Messages as a person reads them."""

import json
import unicodedata
import zlib
from datetime import UTC, date, datetime, tzinfo
from typing import Any

import click

from imclient.events import Message

_COLOURS = ("green", "yellow", "blue", "magenta", "cyan", "bright_red", "bright_green", "bright_blue")
# Characters that reorder what stands around them: a message could make itself look like another one's.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean(text: str) -> str:
    """`text` with everything replaced that could give orders to a terminal. Line ends stay."""
    return "".join(map(_clean_character, text.replace("\r\n", "\n")))


def _clean_character(character: str) -> str:
    if character == "\t":
        return "    "
    harmful = character in _REORDERING or (unicodedata.category(character) in ("Cc", "Zl", "Zp") and character != "\n")
    return "\ufffd" if harmful else character


def body_text(body: Any) -> str:
    """A body that is an object is shown by its `text`, if it has one, else as JSON."""
    if isinstance(body, dict) and isinstance(body.get("text"), str):
        body = body["text"]
    return clean(body if isinstance(body, str) else json.dumps(body, ensure_ascii=False))


class Transcript:
    """Turns messages to lines, with a line of its own where a day begins."""

    def __init__(self, me: str, device: str, *, colours: bool, zone: tzinfo | None = None) -> None:
        """`zone` None: the local one."""
        self._me = me
        self._device = device
        self._colours = colours
        self._zone = zone
        self._day: date | None = None

    def line(self, message: Message, partner: str | None) -> str:
        """`partner`: whose conversation is open; messages of others say where they belong."""
        when = message.sent_at.astimezone(self._zone)
        where = message.partner(self._me)
        place = "" if where == partner else self.style(f"[{where}] ", dim=True)
        head = f"{self.style(f'{when:%H:%M:%S}', dim=True)} {place}{self._name(message)}: "
        # What follows a line end is indented: it can't pass for a message of its own.
        text = body_text(message.body).replace("\n", "\n         ")
        return self._new_day(when) + head + text + self._vanishing(message)

    def _vanishing(self, message: Message) -> str:
        if message.expires is None:
            return ""
        when = datetime.fromtimestamp(message.expires, UTC).astimezone(self._zone)
        return self.style(f" (vanishes on {when:%-d %B, %H:%M:%S})", dim=True)

    def _name(self, message: Message) -> str:
        if message.sender != self._me:
            name = self.style(message.sender, fg=_COLOURS[zlib.crc32(message.sender.encode()) % len(_COLOURS)])
            return f"{name} (bot)" if message.bot else name
        elsewhere = "" if message.device == self._device else f" ({message.device})"
        return self.style(f"{self._me}{elsewhere}", bold=True)

    def _new_day(self, when: datetime) -> str:
        if when.date() == self._day:
            return ""
        self._day = when.date()
        return self.style(f"{when:%A, %-d %B %Y}", dim=True) + "\n"

    def style(self, text: str, **how: Any) -> str:
        return click.style(text, **how) if self._colours else text
