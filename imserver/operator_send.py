"""What an operator says in a user's name: `imserver send`.

It goes through the store's own functions, as a worker's sends do, and the user need not be there: blocks, privacy and
who may post in a group hold as ever. Its device is `imserver-send`, so the same id is stored once.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from imserver.errors import ImError, NotAllowed, TooLarge, Unavailable
from imserver.model import Address, DeviceId, UserId, is_group, parse_address, parse_message_id, parse_user
from imserver.protocol import codec
from imserver.protocol.commands import Send
from imserver.store import calls, group_calls
from imserver.store.calls import Appended, Bounds, Packed, pack
from imserver.store.partitions import UserKeys, channel_prefix, group_keys, user_keys
from imserver.store.replicas import WAIT_SECONDS
from imserver.store.store import NOBODY
from imserver.store.stored import Sender

if TYPE_CHECKING:
    from imserver.admin import Admin

DEVICE = DeviceId("imserver-send")
_ORIGIN = b"%b=operator.0" % DEVICE.encode()  # no session is there; NOBODY would be taken for another's message
_WITNESS_MS = 60_000


class Stored(NamedTuple):
    """`at`: in the sender's own log, or the group's."""

    id: str
    at: str


def send(admin: "Admin", sender: str, to: str, body: str, message_id: str) -> Stored:
    """Says it, and returns once it is stored, as the setting `durability` promises.

    The same `message_id` again, however often: stored once, and the first answer. Raises NotFound, NotAllowed, Blocked,
    BadRequest, TooLarge; Unavailable where the outcome is unknown.
    """
    user, address = parse_user(sender, "FROM"), parse_address(to, "TO")
    parse_message_id(message_id, "--id")
    codec.check_text(body, "TEXT")
    raw = codec.encode_body(body)
    frame = codec.encode_command(Send(ref=message_id, id=message_id, to=address, body=raw))
    most = admin.settings.max_frame_bytes
    if len(frame) > most:
        raise TooLarge(f"TEXT: the message takes {len(frame)} bytes; {most} are allowed")
    account = admin.account(user)
    if account.disabled:
        raise NotAllowed(f"FROM: the account {user} is disabled")
    who = Sender(user, DEVICE, is_bot=account.is_bot)
    at = _store(admin, who, user, address, message_id, raw)
    return Stored(message_id, at.decode())


def _store(admin: "Admin", who: Sender, user: UserId, address: Address, message_id: str, body: msgspec.Raw) -> bytes:
    """The recipient first, as a worker does it: a repeat completes what was left half done."""
    dedupe = who.dedupe(message_id)
    content = (who.group_content if is_group(address) else who.content)(address, message_id, body)
    again = len(content) - len(bytes(body)) - 1  # a script may come back after days
    if is_group(address):
        post = group_calls.post(group_keys(address), dedupe, content, NOBODY, user.encode(), again)
        stored = _appended(admin, user_keys(address), post, group_calls.posted)
    else:
        if address != user:
            delivered = calls.append(user_keys(address), dedupe, content, NOBODY, again)
            _appended(admin, user_keys(address), delivered, calls.appended)
        recorded = calls.append(user_keys(user), dedupe, content, _ORIGIN, again)
        stored = _appended(admin, user_keys(user), recorded, calls.appended)
    return stored.at


def _appended(
    admin: "Admin", keys: UserKeys, command: Packed, read: Callable[[list[Any]], Appended | ImError]
) -> Appended:
    result = read(admin.ask(keys, command)[0])
    if isinstance(result, ImError):
        raise result
    _make_certain(admin, keys)
    return result


def _make_certain(admin: "Admin", keys: UserKeys) -> None:
    """What was answered is written: an answer to something asked after it proves that (see held.py, replicas.py)."""
    settings = admin.settings
    bounds = Bounds(settings.log_max_entries, settings.log_max_age_seconds, settings.dedupe_seconds)
    admin.ask(keys, calls.trim(keys, time.time(), bounds))
    if settings.durability == "replica":
        witness = pack(b"SET", channel_prefix(keys.partition) + b"operator", b"", b"PX", _WITNESS_MS)
        _, kept_by = admin.ask(keys, witness, pack(b"WAIT", 1, int(WAIT_SECONDS * 1000)))
        if not kept_by:
            raise Unavailable("no replica has it yet: it may be stored, or not; send it again with the same --id")
