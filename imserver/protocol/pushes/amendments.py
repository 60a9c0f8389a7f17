"""What was changed of messages. `of` names the message, the other fields are those of a message of its own."""

from typing import Any

import msgspec

from imserver.protocol.extras import Reference
from imserver.protocol.pushes.base import Push
from imserver.protocol.pushes.messages import Sent


class Amended(Sent, gc=False):
    """The `ok` of `edit`, `delete` and `react`. `stamp`: the entry's; None: of a repeat, whose entry was not found."""

    stamp: int | None = None


class EditPush(Push, tag="edit", kw_only=True):
    """An entry: the message says `body` now."""

    at: str
    prev: str
    of: Reference
    sender: str = msgspec.field(name="from")
    device: str
    to: str
    id: str
    stamp: int
    body: Any
    log: str | None = None
    bot: bool = False  # its sender is one
    expires: int | None = None  # as of the message


class DeletePush(Push, tag="delete", kw_only=True):
    """An entry: the message is gone, and must be shown no more."""

    at: str
    prev: str
    of: Reference
    sender: str = msgspec.field(name="from")
    device: str
    to: str
    id: str
    stamp: int
    log: str | None = None
    bot: bool = False  # its sender is one


class ReactionPush(Push, tag="reaction", kw_only=True):
    """An entry: what `from` says to the message with one emoji; None: nothing any more."""

    at: str
    prev: str
    of: Reference
    sender: str = msgspec.field(name="from")
    device: str
    to: str
    id: str
    stamp: int
    emoji: str | None = None
    log: str | None = None
    bot: bool = False  # its sender is one


class RemovedPush(Push, tag="removed"):
    """In place of entries of the log up to `at` that are deleted, or have vanished."""

    at: str
    prev: str
    log: str | None = None
