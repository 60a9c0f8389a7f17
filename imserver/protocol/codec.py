"""Frames to commands, replies and pushes, and back.

A frame is one JSON object. Errors name the field, as msgspec reports it: ``Expected `str`, got `int` - at `$.to` ``.
"""

import json
import re
from typing import Any, Union

import msgspec

from imserver.errors import BadFrame, BadRequest, FramingError, ImError, RequestError, UnknownOp
from imserver.model import Entry
from imserver.protocol.commands import (
    COMMANDS,
    Command,
    ContactAdd,
    ContactSet,
    DeviceSet,
    Edit,
    GroupCreate,
    GroupSet,
    ProfileSet,
    React,
    Ref,
    Report,
    Schedule,
    Send,
    SetPresence,
)
from imserver.protocol.pushes import (
    EMPTY,
    Amended,
    AnyPush,
    Bye,
    ErrorPush,
    Failure,
    LogPage,
    Page,
    Push,
    Reply,
    Sent,
    Shared,
    UnknownPush,
)
from imserver.protocol.text import check_text

# Union[...] over a tuple made at run time has no operator form.
_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Union[tuple(COMMANDS)])  # noqa: UP007
_replies = msgspec.json.Decoder(Reply)
_pushes = msgspec.json.Decoder(AnyPush)


# What may stand in a JSON string and yet is nothing that XML 1.0 can carry: a character that is escaped, or one of two
# non-characters as it is (a plain control character is no JSON). Neither is common, so the slow look behind is rare.
_NON_CHARACTER = re.compile(rb"\xef\xbf[\xbe\xbf]")
_LINE_ENDS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")
# The fields of other commands that are text.
_TEXTS: dict[type[Command], tuple[str, ...]] = {
    ContactAdd: ("note",),
    ContactSet: ("name", "groups"),
    DeviceSet: ("name",),
    GroupCreate: ("name", "topic"),
    GroupSet: ("name", "topic"),
    Report: ("reason",),
    React: ("emoji",),
    ProfileSet: ("name", "avatar", "about"),
    SetPresence: ("status",),
}


# -- the server's side ---------------------------------------------------------------------------------------------


def decode_command(frame: bytes) -> Command:
    """The command in a frame.

    Raises FramingError where the frame is not UTF-8 (the connection must be closed), BadFrame where it is no JSON
    object, UnknownOp, and BadRequest where a field is missing, of the wrong type or too long.
    """
    try:
        if not frame.isascii():
            frame.decode()
        command = _commands.decode(frame)
    except msgspec.ValidationError as error:
        raise _validation_error(str(error)) from None
    except msgspec.DecodeError as error:
        raise _decode_error(frame, error) from None
    except UnicodeDecodeError as error:
        raise FramingError(f"a frame is not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise BadFrame("not a JSON object: nested too deeply") from None
    kind = type(command)
    if type(command) is Send or type(command) is Edit or type(command) is Schedule:
        command.body = checked_body(command.body)
    elif kind in _TEXTS:
        for field in _TEXTS[kind]:
            check_text(getattr(command, field), field)
    return command


def _decode_error(frame: bytes, error: msgspec.DecodeError) -> RequestError:
    """JSON by its grammar may have lone surrogates in strings, which msgspec takes for bad JSON."""
    try:
        json.loads(frame)
    except (ValueError, RecursionError):
        return BadFrame(f"not a JSON object: {error}")
    return BadRequest("a string has a lone surrogate, which is not allowed in text: in `body`, most likely")


def _validation_error(text: str) -> RequestError:
    if not text.endswith("`") or "`$" not in text:
        return BadRequest(text) if "required field" in text else BadFrame(f"not a JSON object: {text}")
    if text.startswith("Invalid value") and text.endswith("`$.op`"):
        return UnknownOp(f"unknown op: {text.removeprefix('Invalid value ').removesuffix(' - at `$.op`')}")
    return BadRequest(text)


class _JustRef(msgspec.Struct):
    ref: Any = None


_refs = msgspec.json.Decoder(_JustRef)


def ref_of(frame: bytes) -> Ref:
    """The `ref` of a frame that could not be decoded whole; None where there is none to be found."""
    try:
        ref = _refs.decode(frame).ref
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        ref = _ref_of_lenient_json(frame)
    return ref if isinstance(ref, int | str) and not isinstance(ref, bool) else None


def _ref_of_lenient_json(frame: bytes) -> object:
    """Of a frame with lone surrogates, which msgspec does not take."""
    try:
        found = json.loads(frame)
    except (ValueError, RecursionError):
        return None
    return found.get("ref") if isinstance(found, dict) else None


def checked_body(body: msgspec.Raw) -> msgspec.Raw:
    """The body on one line: a string or an object, not too deep, whose text XML 1.0 could carry. Raises BadRequest."""
    raw = bytes(body)
    if raw[:1] not in (b'"', b"{"):
        raise BadRequest("body: a string or an object is allowed")
    if raw[:1] == b'"' and b"\\" not in raw and (raw.isascii() or _NON_CHARACTER.search(raw) is None):
        return body
    try:
        check_text(msgspec.json.decode(raw), "body")
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"body: not text: {error}") from None
    # Between tokens JSON may have line ends, which would end the frame of a client on TCP. Strings can't hold any.
    return msgspec.Raw(raw.translate(_LINE_ENDS_TO_SPACES)) if b"\n" in raw or b"\r" in raw else body


def encode_reply(ref: Ref, content: msgspec.Struct = EMPTY) -> bytes:
    if type(content) is Sent:  # with every message
        if content.expires is not None:
            return b'%b,"expires":%d}}' % (
                encode_reply(ref, Sent(content.id, content.at, content.prev))[:-2],
                content.expires,
            )
        if content.prev is None:
            return b'{"re":%b,"ok":{"id":%b,"at":"%b"}}' % (_encode(ref), _encode(content.id), content.at)
        fields = (_encode(ref), _encode(content.id), content.at, content.prev)
        return b'{"re":%b,"ok":{"id":%b,"at":"%b","prev":"%b"}}' % fields
    if type(content) is Amended:
        plain = encode_reply(ref, Sent(content.id, content.at, content.prev, content.expires))
        return plain if content.stamp is None else b'%b,"stamp":%d}}' % (plain[:-2], content.stamp)
    if type(content) is Page:
        content = _PageOnTheWire(_raw(content.messages), content.more, content.next, _raw(content.amendments))
    if type(content) is LogPage:
        content = LogPage(_raw(content.entries), content.next)
    return b'{"re":%b,"ok":%b}' % (_encoder.encode(ref), _encoder.encode(content))


def encode_failure(ref: Ref, error: ImError) -> bytes:
    """The reply where there is a `ref`, else the push that says the same."""
    if ref is None:
        return _encoder.encode(ErrorPush(error.code, str(error), error.retry))
    return _encoder.encode({"re": ref, "err": Failure(error.code, str(error), error.retry)})


def encode_entry(entry: Entry) -> bytes:
    """The push of an entry. The store keeps this push without `at` and `prev`: they are put behind `ev`."""
    if entry.encoded is None:
        content = entry.content
        behind_ev = content.find(b",")  # -1, before the brace, where there is nothing else
        entry.encoded = b'%b,"at":"%b","prev":"%b"%b' % (content[:behind_ev], entry.at, entry.prev, content[behind_ev:])
    return entry.encoded


class _PageOnTheWire(msgspec.Struct, omit_defaults=True):
    messages: list[msgspec.Raw]
    more: bool
    next: str | None
    amendments: list[msgspec.Raw] = []


def _raw(entries: list[Entry]) -> list[msgspec.Raw]:
    return [msgspec.Raw(encode_entry(entry)) for entry in entries]


_encoder = msgspec.json.Encoder()
_encode = _encoder.encode


def encode_push(push: Push) -> bytes:
    return _encoder.encode(push)


def encode_shared(shared: Shared) -> bytes:
    if shared.encoded is None:
        shared.encoded = _encoder.encode(shared.push)
    return shared.encoded


# -- the client's side ---------------------------------------------------------------------------------------------


class _Kind(msgspec.Struct):
    re: Ref = None
    ev: str | None = None


class UnknownEntry(UnknownPush):
    """An entry of a newer server: its content is to be ignored, its place in the log (None: the user's own) is not."""

    at: str
    prev: str
    log: str | None = None


_kinds = msgspec.json.Decoder(_Kind)
_unknown_pushes = msgspec.json.Decoder(UnknownPush)
_unknown_entries = msgspec.json.Decoder(UnknownEntry)
_KNOWN_PUSHES = frozenset(push.__struct_config__.tag for push in AnyPush.__args__)


def encode_command(command: Command) -> bytes:
    return _encoder.encode(command)


def encode_body(body: str | dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(_encoder.encode(body))


def decode_server_frame(frame: bytes) -> Reply | AnyPush | UnknownPush:
    """What the server said; raises BadFrame where it is not the protocol."""
    try:
        kind = _kinds.decode(frame)
        if kind.ev is None:
            return _replies.decode(frame)
        return _pushes.decode(frame) if kind.ev in _KNOWN_PUSHES else _decode_unknown(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(f"not a frame of the server: {error}") from None


def _decode_unknown(frame: bytes) -> UnknownPush:
    """Every entry, whatever its `ev`, carries `at` and `prev`; nothing else does."""
    try:
        return _unknown_entries.decode(frame)
    except msgspec.ValidationError:
        return _unknown_pushes.decode(frame)


__all__ = [
    "EMPTY",
    "Bye",
    "UnknownEntry",
    "check_text",
    "checked_body",
    "decode_command",
    "decode_server_frame",
    "encode_body",
    "encode_command",
    "encode_entry",
    "encode_failure",
    "encode_push",
    "encode_reply",
    "encode_shared",
    "ref_of",
]
