"""What was changed of messages: edits, deletions, reactions, as events and as entries of a history page."""

from typing import Any

import msgspec

from imserver.protocol.commands import Delete, Edit, React
from imserver.protocol.extras import Reference
from imserver.protocol.pushes import DeletePush, EditPush, ReactionPush


def partner_of(sender: str, to: str, me: str) -> str:
    """The conversation to which something belongs, as the user `me` sees it: the other user, or the group."""
    return to if sender == me or to.startswith("#") else sender


class Amendment(msgspec.Struct, frozen=True, kw_only=True, tag_field="ev"):
    """Somebody (`sender`) has changed the message `of`."""

    at: str
    of: Reference
    sender: str = msgspec.field(name="from")
    device: str
    to: str
    id: str
    stamp: int
    log: str = ""  # the group, where it is one

    @property
    def order(self) -> tuple[int, str, str]:
        """Of two of the same kind to the same message the greater one counts."""
        return self.stamp, self.device, self.id

    def partner(self, me: str) -> str:
        """The conversation it belongs to, as the user `me` sees it: the other user, or the group."""
        return partner_of(self.sender, self.to, me)


class Edited(Amendment, frozen=True, kw_only=True, tag="edit"):
    """The message says `body` now."""

    body: Any  # a str, or a dict
    expires: int | None = None  # as of the message


class Deleted(Amendment, frozen=True, kw_only=True, tag="delete"):
    """The message is gone, and MUST be shown no more."""


class Reacted(Amendment, frozen=True, kw_only=True, tag="reaction"):
    """What the sender says to the message with one emoji; None: nothing any more."""

    emoji: str | None = None


AmendmentPush = EditPush | DeletePush | ReactionPush
AnyAmendment = Edited | Deleted | Reacted
_KINDS: dict[type[AmendmentPush], type[AnyAmendment]] = {EditPush: Edited, DeletePush: Deleted, ReactionPush: Reacted}


def amendment_of(push: AmendmentPush) -> AnyAmendment:
    kind = _KINDS[type(push)]
    fields = {name: getattr(push, name) for name in kind.__struct_fields__}
    return kind(**{**fields, "log": push.log or ""})


def stamp_of(at: str, stamp: int | None) -> int:
    """`stamp`: as the server said it. None: it is old, or did not find what it has; it was of about that time."""
    return int(at.partition("-")[0]) if stamp is None else stamp


def amended(
    command: Edit | Delete | React,
    user: str,
    device: str,
    at: str,
    log: str,
    stamp: int | None,
    expires: int | None = None,
) -> AnyAmendment:
    """What stands at `at` once the server has said yes, and, mostly, with which stamp."""
    common: dict[str, Any] = {
        "at": at,
        "of": command.of,
        "sender": user,
        "device": device,
        "to": command.to,
        "id": command.id,
        "stamp": stamp_of(at, stamp),
        "log": log,
    }
    match command:
        case Edit():
            return Edited(**common, body=msgspec.json.decode(command.body), expires=expires)
        case Delete():
            return Deleted(**common)
        case React():
            return Reacted(**common, emoji=command.emoji)
