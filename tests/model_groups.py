"""Groups in plain Python: what `imserver/store/functions/groups.lua` does. Used by tests only.

A group's log is kept as a user's is, in `Database.accounts` under the group's name; its places are those of nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imserver.errors import Conflict, Exists, ImError, NotFound
from imserver.model import START, GroupId, Position
from imserver.protocol.groups import LETTERS, RULES, may_post
from imserver.store.calls import Appended, Listed
from imserver.store.group_calls import Change, Changed, Followed, GroupGone, GroupInfo, changed, posted
from imserver.store.stored import group_event

if TYPE_CHECKING:
    from tests.model_database import Account, Database


@dataclass
class Group:
    """All that is kept of one group beside its log."""

    made: str
    first: Position
    fields: dict[str, Any]
    members: dict[str, tuple[str, Position]] = field(default_factory=dict)  # user -> standing, from
    invited: dict[str, Position] = field(default_factory=dict)
    banned: dict[str, Position] = field(default_factory=dict)
    mentioned: dict[str, Position] = field(default_factory=dict)  # member -> the newest message

    def standing(self, user: str) -> tuple[str, Position | None]:
        if user in self.members:
            return self.members[user]
        if user in self.banned:
            return "b", self.banned[user]
        if user in self.invited:
            return "i", self.invited[user]
        return ("v" if self.fields["open"] == 1 else "-"), None


@dataclass
class List:
    """What a user's list says."""

    groups: dict[GroupId, Position | None] = field(default_factory=dict)  # None: perhaps
    invited: dict[GroupId, Position] = field(default_factory=dict)
    cursors: dict[tuple[str, GroupId], Position] = field(default_factory=dict)
    made: int = 0


def newer(one: bytes, other: bytes) -> bool:
    return [int(part) for part in one.split(b"-")] > [int(part) for part in other.split(b"-")]


class GroupDatabase:
    """Each method is one atomic step, and can be repeated."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self.groups: dict[GroupId, Group] = {}
        self.lists: dict[str, List] = {}

    def list_of(self, user: str) -> List:
        return self.lists.setdefault(user, List())

    def _now(self) -> Position:
        return Position(b"%d-0" % self._database.milliseconds)

    def _account(self, owner: str) -> "Account":
        return self._database.accounts[owner]

    def _event(self, owner: str, content: bytes) -> Position:
        return self._database.put(owner, content).at

    # -- the group's side

    def post(
        self,
        group: GroupId,
        sender: str,
        dedupe: bytes,
        content: bytes,
        origin: bytes,
        again: int,
        mentions: Sequence[str] = (),
    ) -> Appended | ImError:
        known = self.groups.get(group)
        if known is None:
            return posted([b"not-found"])
        sender, _, said_in = sender.partition(" ")
        standing, since = known.standing(sender)
        may = may_post(standing, announcing=known.fields["posting"] == "admins")
        if may and said_in in ("", (since or b"").decode()):
            appended = self._database.append(group, dedupe, content, origin, again)
            if isinstance(appended, Appended) and appended.prev is not None:
                known.mentioned.update({user: appended.at for user in mentions if user in known.members})
            return appended
        if dedupe in self._account(group).seen:
            return Appended(self._account(group).seen[dedupe], None)
        return posted([b"former"] if may else [b"refused", standing.encode()])

    def create(
        self, group: GroupId, owner: str, token: str, content: bytes, fields: dict[str, Any]
    ) -> Position | ImError:
        known = self.groups.get(group)
        if known is not None:
            return known.first if known.made == token else Exists("group: this name is taken")
        self._database.register(group, "")
        at = self._event(group, content)
        self.groups[group] = Group(token, at, dict(fields), {owner: ("o", at)})
        return at

    def change(self, group: GroupId, what: Change) -> Changed | ImError:
        known = self.groups.get(group)
        if known is None:
            return GroupGone(self._now())
        rule, last = RULES[what.action], self._account(group).last
        mine, _ = known.standing(what.actor)
        was, since = known.standing(what.target)
        is_same_role = what.action == "role" and was == what.arguments[0]
        if mine + was in rule.done.split() or is_same_role:
            return Changed(since or last, False)
        if mine + was not in rule.may.split():
            return changed([b"refused", mine.encode(), was.encode()])
        if what.action in ("join", "add") and len(known.members) >= int(what.arguments[0]):
            return changed([b"full"])
        at = self._event(group, what.content)
        self._do(group, known, what, at)
        return Changed(at, True)

    def _do(self, group: GroupId, known: Group, what: Change, at: Position) -> None:
        user, arguments = what.target, what.arguments
        match what.action:
            case "join" | "add":
                known.members[user] = ("m", at)
                known.invited.pop(user, None)
            case "invite":
                known.invited[user] = at
            case "leave" | "kick":
                self._remove(group, known, user)
            case "ban":
                known.banned[user] = at
                self._remove(group, known, user)
            case "unban":
                del known.banned[user]
            case "role":
                known.members[user] = (str(arguments[0]), known.members[user][1])
                if arguments[0] == LETTERS["owner"]:
                    known.members[what.actor] = ("a", known.members[what.actor][1])
            case "set":
                known.fields.update(dict(zip(map(str, arguments[::2]), arguments[1::2], strict=True)))

    def _remove(self, group: GroupId, known: Group, user: str) -> None:
        known.invited.pop(user, None)
        standing, _ = known.members.pop(user, ("-", START))
        known.mentioned.pop(user, None)
        if standing == "-":
            return
        if not known.members:
            del self.groups[group], self._database.accounts[group]
        elif standing == "o":
            order = {"a": 0, "m": 1}
            heir, (_, since) = min(
                known.members.items(), key=lambda item: (order[item[1][0]], [int(x) for x in item[1][1].split(b"-")])
            )
            known.members[heir] = ("o", since)
            self._event(group, group_event(group, "role", user=heir, role="owner", by=user))

    def info(self, group: GroupId, user: str) -> GroupInfo | ImError:
        known = self.groups.get(group)
        if known is None:
            return GroupGone()
        standing, since = known.standing(user)
        fields = known.fields
        return GroupInfo(
            standing,
            since,
            known.mentioned.get(user),
            fields["name"],
            fields["topic"],
            fields["open"] == 1,
            fields["history"],
            fields["posting"],
            len(known.members),
            self._account(group).last,
        )

    def typing(self, sender: str, group: GroupId, most: int, is_on: bool) -> None:
        known = self.groups.get(group)
        if known is None or len(known.members) > most:
            return
        standing, _ = known.standing(sender)
        if may_post(standing, announcing=known.fields["posting"] == "admins"):
            self._database.say_typing(group, sender, is_on)

    # -- following

    def follow(self, group: GroupId, node: str, user: str, cursor: Position, most: int) -> Followed:
        known = self.groups.get(group)
        if known is None:
            return Followed(self._now(), None)
        last = self._account(group).last
        if user not in known.members:
            return Followed(last, None)
        self._host(group, node)
        since = known.members[user][1]
        start = since if newer(since, cursor) else cursor
        start = last if newer(start, last) else start
        behind = len(self._database.read(group, start, most + 1))
        if behind <= most:
            return Followed(last, since, start)
        mentioned = known.mentioned.get(user)
        return Followed(last, since, start, behind, mentioned if mentioned and newer(mentioned, start) else None)

    def _host(self, group: GroupId, node: str) -> None:
        self._account(group).on.setdefault(f"* {node}", b"*=%b.0" % node.encode())

    def follow_again(self, group: GroupId, node: str) -> Position:
        if group not in self.groups:
            return Position(b"")
        self._host(group, node)
        return self._account(group).last

    # -- the user's side

    def announce(self, user: str, group: GroupId, most_groups: int, most_made: int | None) -> ImError | None:
        if user not in self._database.accounts:
            return NotFound("user: there is no such user")
        known = self.list_of(user)
        if group in known.groups:
            return None
        if len(known.groups) >= most_groups or (most_made is not None and known.made >= most_made):
            return Conflict("group: this user is in as many groups, or has made as many, as may be")
        known.made += most_made is not None
        known.groups[group] = None
        return None

    def enlist(self, user: str, group: GroupId, as_of: Position, what: str, content: bytes) -> ImError | None:
        if user not in self._database.accounts:
            return NotFound("user: there is no such user")
        known = self.list_of(user)
        since = known.groups.get(group)
        was = known.invited.get(group) if what == "invited" else since
        if what == "gone":
            known.invited.pop(group, None)
            if since is None or newer(since, as_of):
                if since is None:
                    known.groups.pop(group, None)
                return None
            del known.groups[group]
            known.cursors = {key: at for key, at in known.cursors.items() if key[1] != group}
        elif was is not None and not newer(as_of, was):
            return None
        elif what == "invited":
            if since is not None:
                return None
            known.invited[group] = as_of
        else:
            known.groups[group] = as_of
            known.invited.pop(group, None)
        self._event(user, content)
        return None

    def listed(self, user: str) -> tuple[dict[GroupId, Position | None], dict[GroupId, Position]]:
        known = self.list_of(user)
        return dict(known.groups), dict(known.invited)

    def listed_at_login(self, user: str, device: str) -> tuple[Listed, ...]:
        known = self.lists.get(user)
        if known is None:
            return ()
        return tuple(
            Listed(group, since, known.cursors.get((device, group), START)) for group, since in known.groups.items()
        )

    def ack(self, user: str, device: str, group: GroupId, upto: Position) -> int:
        known = self.list_of(user)
        before = known.cursors.get((device, group))
        if group in known.groups and (before is None or newer(upto, before)):
            known.cursors[device, group] = upto
        return 1
