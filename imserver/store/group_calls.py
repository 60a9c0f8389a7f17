"""The functions of groups as commands, and their replies as types. Pure, as `calls` is."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from imserver.errors import Conflict, Exists, ImError, NotAllowed, NotFound, Unavailable
from imserver.model import START, GroupId, Position, UserId
from imserver.protocol.groups import RULES, STANDINGS, is_hidden
from imserver.store.calls import Appended, Packed, call, deleted, pack
from imserver.store.partitions import GroupKeys, Hosting, UserKeys


class Change(NamedTuple):
    """What is to be done in a group. `arguments`: of `change` in store/functions/groups.lua."""

    action: str
    actor: UserId
    target: UserId
    content: bytes
    arguments: tuple[bytes | str | int, ...] = ()


class Changed(NamedTuple):
    """Done at that position of the group's log; now, or before. Where the group is gone: as of there."""

    at: Position
    is_new: bool


class Followed(NamedTuple):
    """`end`: of the log. `since`: where the membership began, None where there is none as of `end`.

    `start`: where the session goes on; `surplus`: so many entries behind that at least, where they are too many;
    `mentioned`: the newest of these that mentions the user.
    """

    end: Position
    since: Position | None
    start: Position = START
    surplus: int = 0
    mentioned: Position | None = None


class GroupInfo(NamedTuple):
    """How a user stands to a group, and what it is. `mentioned`: the newest message that mentions the user."""

    standing: str
    since: Position | None
    mentioned: Position | None
    name: str
    topic: str
    open: bool
    history: str
    posting: str
    members: int
    last: Position


_POST = (
    b"*10\r\n$5\r\nFCALL\r\n$17\r\nim_append_group_2\r\n$1\r\n3\r\n"
    b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
)


def post(
    keys: GroupKeys,
    dedupe: bytes,
    content: bytes,
    origin: bytes,
    sender: bytes,
    again: int = 0,
    mentions: Sequence[str] = (),
) -> Packed:
    """`sender`: the user, and behind a space where its membership began, where that is known."""
    if again or mentions:
        called_with = (keys.state, keys.log, keys.members)
        return call(b"im_append_group_2", called_with, dedupe, content, origin, sender, again or "", *mentions)
    sizes = (len(dedupe), dedupe, len(content), content, len(origin), origin, len(sender), sender)
    return _POST % (keys.packed, *sizes)


def posted(reply: list[Any]) -> Appended | ImError:
    """The errors are NotFound, NotAllowed, and Unavailable: said in a membership that is over, and there is another."""
    if len(reply) == 2 and reply[0] != b"refused":
        return Appended(reply[0], reply[1])
    if reply[0] == b"former":
        return Unavailable("you have left the group and joined it meanwhile; send again with the same id")
    if reply[0] == b"deleted":
        return deleted()
    if reply[0] == b"not-found" or (reply[0] == b"refused" and is_hidden(reply[1].decode())):
        return NotFound("to: there is no such group, or it is closed and you are no member")
    if reply[0] == b"refused":
        why = {"m": "only its owner and admins may post here", "b": "you are banned from this group"}
        return NotAllowed(f"to: {why.get(reply[1].decode(), 'join the group first')}")
    return Appended(reply[0], None, *reply[2:])


def create(keys: GroupKeys, owner: str, token: str, content: bytes, fields: Mapping[str, str | int]) -> Packed:
    """`token`: what makes this call different from all others."""
    flat = [part for item in fields.items() for part in item]
    return call(b"im_create_group_2", (keys.state, keys.log, keys.members), owner, token, content, *flat)


def created(reply: list[Any]) -> Position | ImError:
    """The error is Exists."""
    return Position(reply[1]) if reply[0] == b"ok" else Exists("group: this name is taken")


def change(keys: GroupKeys, what: Change) -> Packed:
    rule = RULES[what.action]
    arguments = (what.action, what.actor, what.target, rule.may, rule.done, what.content, *what.arguments)
    return call(b"im_change_2", (keys.state, keys.log, keys.members, keys.expiring), *arguments)


def changed(reply: list[Any]) -> Changed | ImError:
    """The errors are NotAllowed, Conflict (full), NotFound; of that, GroupGone where there is no group."""
    match reply[0]:
        case b"ok" | b"done":
            return Changed(Position(reply[1]), reply[0] == b"ok")
        case b"full":
            return Conflict("group: it has as many members as it may have")
        case b"refused":
            return _refused(reply[1].decode(), reply[2].decode())
        case _:
            return GroupGone(Position(reply[1]))


class GroupGone(NotFound):
    """There is no such group, as of a position of its log."""

    def __init__(self, at: Position = START) -> None:
        super().__init__("group: there is no such group")
        self.at = at


def _refused(actor: str, target: str) -> ImError:
    if is_hidden(actor):
        return NotFound("group: there is no such group, or it is closed and you are not invited")
    other = "" if actor == target else f" concerning {STANDINGS[target]}"
    return NotAllowed(f"group: as {STANDINGS[actor]} you may not do this{other}")


def info(keys: GroupKeys, user: str) -> Packed:
    return call(b"im_group_info_2", (keys.state, keys.members), user)


def known(reply: list[Any]) -> GroupInfo | ImError:
    """The error is NotFound."""
    if not reply:
        return GroupGone()
    standing, since, mentioned, name, topic, is_open, history, posting, members, last = reply
    return GroupInfo(
        standing.decode(),
        since or None,
        mentioned or None,
        name.decode(),
        topic.decode(),
        is_open == b"1",
        history.decode(),
        posting.decode(),
        int(members),
        last,
    )


def members(keys: GroupKeys, cursor: str, count: int) -> Packed:
    return pack(b"HSCAN", keys.members, cursor, b"COUNT", count)


def members_page(reply: list[Any]) -> tuple[str | None, list[tuple[str, str]]]:
    """Where to go on (None: nowhere), and members with their standings."""
    fields = zip(reply[1][::2], reply[1][1::2], strict=True)
    following = None if reply[0] == b"0" else reply[0].decode()
    return following, [(user.decode(), value[:1].decode()) for user, value in fields if user[:1] not in b"+!@*"]


def follow(keys: GroupKeys, hosting: Hosting, user: str, cursor: Position, most: int) -> Packed:
    called_with = (keys.state, keys.log, keys.members, hosting.key)
    return call(b"im_follow_2", called_with, hosting.node, user, cursor, most)


def followed(reply: list[Any]) -> Followed:
    if reply[0] == b"absent":
        return Followed(reply[1], None)
    return Followed(reply[1], reply[2], reply[3], reply[4], reply[5] or None)


def follow_again(keys: GroupKeys, hosting: Hosting) -> Packed:
    """The reply: the log's end; empty where the group is gone."""
    return call(b"im_follow_again_2", (keys.state, hosting.key), hosting.node)


def typing(keys: GroupKeys, sender: str, most: int, *, is_on: bool) -> Packed:
    """The reply means nothing: it is passed on or not."""
    return call(b"im_group_typing_2", (keys.state, keys.members), sender, b"1" if is_on else b"0", most)


def announce(keys: UserKeys, group: GroupId, most_groups: int, most_made: int | None) -> Packed:
    """`most_made`: where the user is about to make it."""
    return call(b"im_announce_2", (keys.state, keys.groups), group, most_groups, "" if most_made is None else most_made)


def announced(reply: list[Any]) -> ImError | None:
    """The errors are NotFound and Conflict (full)."""
    if reply[0] == b"full":
        return Conflict("group: this user is in as many groups, or has made as many, as may be")
    return None if reply[0] == b"ok" else NotFound("user: there is no such user")


def enlist(keys: UserKeys, group: GroupId, as_of: Position, what: str, content: bytes) -> Packed:
    """`what`: "joined", "invited", "gone"."""
    return call(b"im_enlist_2", (keys.state, keys.log, keys.groups), group, as_of, what, content)


def ack(keys: UserKeys, device: str, group: GroupId, upto: Position) -> Packed:
    return call(b"im_ack_group_2", (keys.groups,), device, group, upto)


def listed(keys: UserKeys) -> Packed:
    return pack(b"HGETALL", keys.groups)


def groups_listed(reply: Any) -> tuple[dict[GroupId, Position | None], dict[GroupId, Position]]:
    """Groups with where the membership began (None: perhaps); and invitations."""
    fields = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    memberships: dict[GroupId, Position | None] = {}
    invitations: dict[GroupId, Position] = {}
    for field, value in fields:
        if field[:1] == b"#":
            memberships[GroupId(field.decode())] = None if value == b"?" else value
        elif field[:2] == b"+#":
            invitations[GroupId(field[1:].decode())] = value
    return memberships, invitations
