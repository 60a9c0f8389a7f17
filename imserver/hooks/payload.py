"""Which entries a hook wants, and what is posted of them. Pure."""

import hashlib

import msgspec
from imclient.amendments import Amendment, AnyAmendment, Deleted, Edited, Reacted
from imclient.events import Contact, GroupChanged, Message

from imserver.hooks.config import DEVICE_PREFIX, HookSettings

Posted = Message | AnyAmendment | GroupChanged | Contact
KINDS: dict[type, str] = {
    Message: "msg",
    Edited: "edit",
    Deleted: "delete",
    Reacted: "reaction",
    GroupChanged: "group",
    Contact: "contact",
}


def is_wanted(entry: Posted, hook: HookSettings) -> bool:
    if KINDS[type(entry)] not in hook.events:
        return False
    if hook.conversations and _conversation(entry, hook.account) not in hook.conversations:
        return False
    return not isinstance(entry, Message | Amendment) or _speaks(entry, hook)


def _speaks(entry: Message | AnyAmendment, hook: HookSettings) -> bool:
    """Whether it is of somebody who is listened to. Two programs that answer each other would go on for ever."""
    if entry.sender == hook.account:
        return hook.own and not entry.device.startswith(DEVICE_PREFIX)
    return hook.bots or not isinstance(entry, Message) or not entry.bot  # only messages are answered


def _conversation(entry: Posted, account: str) -> str:
    match entry:
        case GroupChanged():
            return entry.group
        case Contact():
            return entry.user
        case _:
            return entry.partner(account)


def key_of(entry: Posted, hook: HookSettings) -> str:
    """The same whenever this entry is posted by this hook: its log, and where it stands there."""
    return f"{hook.name}/{entry.log or hook.account}/{entry.at}"


def body_of(entry: Posted, hook: HookSettings) -> bytes:
    """JSON. Fields that say nothing (the default) are left out."""
    defaults = {field.encode_name: field.default for field in msgspec.structs.fields(type(entry))}
    fields = {name: value for name, value in msgspec.to_builtins(entry).items() if value != defaults.get(name)}
    event = {"ev": KINDS[type(entry)], **fields}
    return msgspec.json.encode({"id": key_of(entry, hook), "hook": hook.name, "account": hook.account, "event": event})


def reply_id(key: str) -> str:
    """The id of the message that answers what was posted under `key`: a repeat is stored once."""
    return f"re-{hashlib.sha256(key.encode()).hexdigest()[:40]}"
