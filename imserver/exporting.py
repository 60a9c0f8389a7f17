"""All that is kept of a user, as JSON, an object a line: `imserver user export`.

A line with `ev` is an entry, as clients get it: of the user's own log, or, with `log`, what the user said in a group.
The others have a `kind`. Logs are read a page at a time.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from imserver.model import START, Entry, Position, UserId, parse_user
from imserver.protocol.codec import encode_entry
from imserver.protocol.contacts import state_of
from imserver.store import account_calls, calls, circle_calls, conversation_calls, group_calls, later_calls
from imserver.store.answers import pairs
from imserver.store.partitions import UserKeys, user_keys
from imserver.store.stored import head_of
from imserver.store.trimming import hide_expired

if TYPE_CHECKING:
    from imserver.admin import Admin

PAGE_ENTRIES = 500

_encode = msgspec.json.encode


def export(admin: "Admin", name: str) -> Iterator[bytes]:
    """The lines, without their ends. Raises NotFound before the first one."""
    account = admin.account(name)
    return _lines(admin, parse_user(name), account.created, is_disabled=account.disabled, owner=account.owner)


def _lines(admin: "Admin", user: UserId, created: int, *, is_disabled: bool, owner: str | None) -> Iterator[bytes]:
    keys = user_keys(user)
    yield _line("account", user=user, created=created, disabled=is_disabled, owner=owner)
    profile = account_calls.profile_known(_ask(admin, keys, account_calls.profile(keys, None)))
    if isinstance(profile, account_calls.Profile) and profile.version:
        yield _line("profile", name=profile.name, avatar=profile.avatar, about=profile.about)
    privacy = circle_calls.privacy_known(_ask(admin, keys, circle_calls.privacy(keys, None, None)))
    yield _line("privacy", **privacy._asdict())
    yield from _devices(admin, keys)
    yield from _contacts(admin, keys)
    yield from _conversations(admin, keys)
    groups, invitations = group_calls.groups_listed(_ask(admin, keys, group_calls.listed(keys)))
    for group, since in groups.items():
        yield _line("group", group=group, since=None if since is None else since.decode())
    for group, at in invitations.items():
        yield _line("invitation", group=group, at=at.decode())
    yield from _waiting(admin, keys)
    yield from map(encode_entry, _log(admin, keys))
    for group in groups:
        said = (entry for entry in _log(admin, user_keys(group)) if head_of(entry.content).sender == user)
        yield from map(encode_entry, said)


def _devices(admin: "Admin", keys: UserKeys) -> Iterator[bytes]:
    account = pairs(_ask(admin, keys, account_calls.account_fields(keys)))
    fields = _ask(admin, keys, account_calls.device_fields(keys, account))
    for device in account_calls.devices(account, fields):
        yield _line("device", **device._asdict())


def _contacts(admin: "Admin", keys: UserKeys) -> Iterator[bytes]:
    reached = 0
    while True:
        page = circle_calls.roster_page(_ask(admin, keys, circle_calls.roster(keys, 0, reached, PAGE_ENTRIES)))
        for other, record in page.records:
            state = state_of(wants=record.wants, wanted=record.wanted).value
            if state != "none" or record.blocks:
                details = {"note": record.note, "name": record.name, "groups": record.groups}
                yield _line("contact", user=other, state=state, blocked=record.blocks, **details)
        if not page.records:
            return
        reached = page.reached


def _conversations(admin: "Admin", keys: UserKeys) -> Iterator[bytes]:
    fields = pairs(_ask(admin, keys, calls.pack(b"HGETALL", keys.conversations)))
    for partner, text in fields.items():
        if partner[0] != _OF_THE_LIST:
            record = conversation_calls.record(text)
            muted, pinned, archived = record.arranged
            read = None if record.read is None else record.read.decode()
            until = None if archived is None else archived.decode()
            marks = {"read": read, "muted": muted, "pinned": pinned, "archived": until}
            yield _line("conversation", **{"with": partner.decode()}, **marks)


_OF_THE_LIST = ord("=")


def _waiting(admin: "Admin", keys: UserKeys) -> Iterator[bytes]:
    for one in later_calls.all_waiting(_ask(admin, keys, later_calls.waiting(keys))):
        failed = None if one.failed is None else one.failed[0]
        yield _line("waiting", when=one.when, message=msgspec.Raw(one.content), failed=failed)


def _log(admin: "Admin", keys: UserKeys) -> Iterator[Entry]:
    after = START
    while page := calls.entries(_ask(admin, keys, calls.read(keys, Position(after), PAGE_ENTRIES))):
        hide_expired(page, time.time())
        yield from page
        after = page[-1].at


def _ask(admin: "Admin", keys: UserKeys, command: calls.Packed) -> Any:
    return admin.ask(keys, command)[0]


def _line(kind: str, **fields: object) -> bytes:
    """Without what is not set."""
    return _encode({"kind": kind} | {name: value for name, value in fields.items() if value not in (None, "", ())})
