"""Messages as a log keeps them: the native push without `at` and `prev`, which belong to the place in a log."""

import re

import msgspec

from imserver.model import DeviceId, UserId, is_group
from imserver.protocol.extras import Reference

_encode = msgspec.json.encode


class Sender:
    """What all messages of one device have in common, encoded once for all of them."""

    __slots__ = ("_dedupe", "_head")

    def group_content(self, group: str, message_id: str, body: msgspec.Raw) -> bytes:
        """The same in a group's log, which the entry names."""
        content = self.content(group, message_id, body)
        return b'{"ev":"msg","log":"%b"%b' % (group.encode(), content[_BEHIND_EV:])

    def __init__(self, user: UserId, device: DeviceId, *, is_bot: bool = False) -> None:
        # Behind "ev", where the store's function log.lua, refusal, looks for it.
        bot = '"bot":true,' if is_bot else ""
        self._head = f'{{"ev":"msg",{bot}"from":"{user}","device":"{device}","to":"'.encode()
        self._dedupe = f"{user}/{device}/".encode()

    @property
    def is_bot(self) -> bool:
        return self._head.startswith(_OF_BOT)

    def content(self, to: str, message_id: str, body: msgspec.Raw) -> bytes:
        """A message as the log keeps it. Extras stand behind `body`: the store's functions read what is before it."""
        return b'%b%b","id":%b,"body":%b}' % (self._head, to.encode(), _encode(message_id), body)

    def dedupe(self, message_id: str) -> bytes:
        """What makes two sends the same: sender, device and client message id."""
        return self._dedupe + message_id.encode()


def with_extras(content: bytes, extras: dict[str, object]) -> bytes:
    """They stand behind the body."""
    return b"%b,%b" % (content[:-1], _encode(extras)[1:])


# What vanishes says when at its very end, behind the body and all extras. Neither a body nor an extra can look so:
# the last brace is the entry's own, and what stands before it there ends with a quotation mark, a brace or a bracket.
_EXPIRES = re.compile(rb',"expires":([0-9]+)\}\Z')
_EXPIRES_MOST = 32  # bytes


def expires_of(content: bytes) -> int | None:
    """When an entry vanishes (unix seconds); None: never."""
    if not 48 <= content[-2] <= 57:  # no digit: asked of every entry that is read
        return None
    found = _EXPIRES.search(content, max(0, len(content) - _EXPIRES_MOST))
    return None if found is None else int(found[1])


def with_expires(content: bytes, expires: int) -> bytes:
    """In place of what it says."""
    return _EXPIRES.sub(b',"expires":%d}' % expires, content)


def removed(content: bytes) -> bytes:
    """What is given in its place: the push `removed`, without `at` and `prev`."""
    log = head_of(content).log
    return _REMOVED + (b"}" if log is None else b',"log":%b}' % _encode(log))


def is_removed(content: bytes) -> bool:
    """It is what `removed` has made of another."""
    return content.startswith(_REMOVED)


_REMOVED = b'{"ev":"removed"'


_BEHIND_EV = len(b'{"ev":"msg"')
_OF_BOT = b'{"ev":"msg","bot":true,'


def amendment_head(ev: str, of: Reference, to: str, *, is_bot: bool = False) -> bytes:
    """What all amendments of one kind to a message begin with; those of bots with something of their own."""
    log, bot = b'"log":"%b",' % to.encode() if is_group(to) else b"", b'"bot":true,' if is_bot else b""
    return b'{"ev":"%b",%b%b"of":%b,' % (ev.encode(), log, bot, _encode(of))


def amendment(head: bytes, user: str, device: str, to: str, message_id: str, **what: object) -> tuple[bytes, int]:
    """The amendment, and how many bytes of it tell it from all others. `head`: as of `amendment_head`."""
    rest = _encode({"from": user, "device": device, "to": to, "id": message_id, **what})
    return head + rest[1:], len(head) + rest.index(b',"stamp":') - 1


def dedupe_of(message: Reference) -> bytes:
    """As `Sender.dedupe`."""
    return f"{message.sender}/{message.device}/{message.id}".encode()


def message_head(of: Reference, to: str, *, is_bot: bool = False) -> bytes:
    """What the message itself begins with. `is_bot`: who said it."""
    sender = Sender(UserId(of.sender), DeviceId(of.device), is_bot=is_bot)
    content = sender.group_content if is_group(to) else sender.content
    return content(to, of.id, msgspec.Raw(b""))[:-1]


# What tells entries about groups from all others, in a log as it is kept: looked at for each entry that is forwarded.
KIND_AT, GROUP_KIND = len(b'{"ev":"'), ord("g")


class GroupEvent(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An entry about a group: in its own log (`log`, `user`), or in that of the user concerned (`group`, `since`)."""

    ev: str = "group"
    log: str | None = None
    group: str | None = None
    change: str
    user: str | None = None
    since: str | None = msgspec.field(name="from", default=None)


_events = msgspec.json.Decoder(GroupEvent)


def event_of(content: bytes) -> GroupEvent:
    """What an entry about a group says."""
    return _events.decode(content)


def group_event(group: str, change: str, **fields: object) -> bytes:
    """An entry of a group's log: who did (`by`) what to whom (`user`)."""
    return _encode({"ev": "group", "log": group, "change": change, **fields})


def own_event(group: str, change: str, at: bytes, **fields: object) -> bytes:
    """An entry of a user's own log about a group, in whose log it happened at that position."""
    return _encode({"ev": "group", "group": group, "change": change, "from": at.decode(), **fields})


class Head(msgspec.Struct):
    ev: str
    log: str | None = None
    sender: str | None = msgspec.field(name="from", default=None)
    device: str | None = None
    to: str | None = None
    id: str | None = None
    of: Reference | None = None
    stamp: int = 0
    scheduled: int | None = None


_heads = msgspec.json.Decoder(Head)


def head_of(content: bytes) -> Head:
    """Who said it to whom, without the body."""
    return _heads.decode(content)
