"""The store's contract in plain Python: what `imserver/store/functions` do to one user's data.

As plain as possible, and used by tests only; tests/test_model_store.py holds it against a real server.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from imserver.errors import BadCredentials, Conflict, Exists, ExpiredToken, ImError, NotAllowed, NotFound
from imserver.model import START, Entry, Place, Position, UserId, position_order
from imserver.store.account_calls import HIDDEN, Device, Login, Profile
from imserver.store.amending import Deletion
from imserver.store.calls import OWES, Appended, Attached, Bounds, Dead, Late, Replaced, Right, deleted
from imserver.store.circle_calls import Record
from imserver.store.moderation_calls import Report
from imserver.store.stored import dedupe_of, expires_of, head_of, with_expires
from imserver.store.tries import Allowance
from imserver.store.trimming import hide_expired
from tests.model_groups import GroupDatabase
from tests.model_later import Delays


class Published(NamedTuple):
    """An entry, or, with `why`, that the session at `origin` must go. `user` may have moved on since.

    With `said`: something else, which it says to whoever listens.
    """

    user: str
    entry: Entry | None
    origin: bytes
    why: str = ""
    said: Callable[[Any], None] | None = None
    marked: Any = None  # of conversations


@dataclass
class Account:
    """All that is kept of one user."""

    password: str
    last: Position = START
    log: list[Entry] = field(default_factory=list)
    seen: dict[bytes, Position] = field(default_factory=dict)  # dedupe field -> position
    low: Position = START  # entries up to here have left `seen`
    cut: Position | None = None  # entries before it have left the log because of its bounds
    on: dict[str, bytes] = field(default_factory=dict)  # device -> place
    cursors: dict[str, Position] = field(default_factory=dict)
    logins: dict[str, int] = field(default_factory=dict)
    disabled: bool = False
    bot: bool = False
    generation: int = 0
    device_generation: dict[str, int] = field(default_factory=dict)
    invite: str | None = None
    spared: str = ""  # "device generations"
    tokens: dict[str, str] = field(default_factory=dict)  # device -> generations at its last login
    left: dict[str, int] = field(default_factory=dict)  # device -> when its connection ended
    device_names: dict[str, str] = field(default_factory=dict)
    profile: dict[str, str] = field(default_factory=dict)
    profile_version: int = 0
    roster: Any = None  # tests/model_circle.py
    conversations: Any = None  # tests/model_conversations.py
    waiting: dict[str, Any] = field(default_factory=dict)  # "device/id" -> tests/model_later.py
    waiting_number: int = 0  # of the newest of these

    def copy(self) -> "Account":
        """As it is now."""
        other = copy(self)
        other.log, other.seen, other.on = list(self.log), dict(self.seen), dict(self.on)
        other.waiting = dict(self.waiting)
        other.cursors, other.logins = dict(self.cursors), dict(self.logins)
        other.device_generation, other.tokens = dict(self.device_generation), dict(self.tokens)
        other.left, other.device_names, other.profile = dict(self.left), dict(self.device_names), dict(self.profile)
        other.conversations = None if self.conversations is None else self.conversations.copy()
        return other

    def generations(self, device: str) -> str:
        return f"{self.generation}.{self.device_generation.get(device, 0)}"

    def is_good(self, device: str, generations: str) -> bool:
        return generations == self.generations(device) or self.spared == f"{device} {generations}"

    def keep(self, device: str, position: Position) -> None:
        """A cursor goes forward only, and never past the end."""
        known = self.cursors.get(device)
        if not newer(position, self.last) and (known is None or newer(position, known)):
            self.cursors[device] = position


def newer(one: bytes, other: bytes) -> bool:
    return position_order(one) > position_order(other)


NO_DEVICE = "device: no device of that name has ever logged in"
DEAD = "this worker was taken for dead"
LATE = "this device has logged in elsewhere meanwhile; try again"


def node_of(place: bytes) -> str:
    return place.partition(b"=")[2].partition(b".")[0].decode()


def device_at(place: bytes) -> str:
    return place.partition(b"=")[0].decode()


@dataclass
class Invite:
    uses: int
    used: int = 0
    users: set[str] = field(default_factory=set)


class Database:
    """All users. Each method is one atomic step, and can be repeated."""

    def __init__(self, publish: Callable[[str, str, Published], None]) -> None:
        """`publish` is told user, node and what is published there."""
        self.accounts: dict[str, Account] = {}
        self.keys: dict[str, str] = {}
        self.tries: Counter[str] = Counter()
        self.invites: dict[str, Invite] = {}
        self.reports: dict[tuple[str, str], Report] = {}
        self.milliseconds = 1000
        self.publish = self._publish = publish
        self.groups = GroupDatabase(self)
        self.delays = Delays(self)
        self.rosters: Any = None  # tests/model_circle.py
        self.conversations: Any = None  # tests/model_conversations.py

    # -- accounts

    def register(self, user: str, password: str, *, bot: bool = False, invite: str | None = None) -> ImError | None:
        known = self.accounts.get(user)
        if known is None:
            self.accounts[user] = Account(password, bot=bot, profile_version=int(bot), invite=invite)
            return None
        return None if known.password == password != "" else Exists("user: this name is taken")

    def password_hash(self, user: str) -> str | None:
        return self.accounts[user].password if user in self.accounts else None

    def set_password(self, user: str, old: str, new: str, revoking: Login | None) -> ImError | None:
        account = self.accounts.get(user)
        if account is None:
            return NotFound("there is no such user")
        if account.password == new:
            return None
        if account.password != old:
            return Conflict("old: the password was changed meanwhile")
        answer = None if revoking is None else self.revoke(user, None, revoking)
        if answer is None:
            account.password = new
        return answer

    def use_invite(self, code: str, user: str) -> ImError | None:
        known = self.invites.get(code)
        if known is not None and (user in known.users or known.used < known.uses):
            known.used += user not in known.users
            known.users.add(user)
            return None
        return NotAllowed("code: there is no such invitation, or it is used up")

    def return_invite(self, code: str, user: str) -> None:
        known = self.invites[code]
        known.used -= user in known.users
        known.users.discard(user)

    def spend(self, allowance: Allowance) -> float:
        if self.tries[allowance.who] >= allowance.an_hour:
            return 3600 / allowance.an_hour
        self.tries[allowance.who] += 1
        return 0.0

    def forgive(self, allowance: Allowance) -> None:
        self.tries[allowance.who] -= 1

    def names_from(self, beginning: str) -> list[str]:
        return sorted(name for name in self.accounts if name.startswith(beginning))

    def revoke(self, user: str, device: str | None, asking: Login | None = None) -> ImError | None:
        account = self.accounts.get(user)
        if account is None:
            return NotFound("there is no such user")
        if device is not None and asking is not None and device not in account.logins:
            return NotFound(NO_DEVICE)
        place, generations = (b"", "") if asking is None else asking
        own = device_at(place)
        if generations and own != device and not account.is_good(own, generations):
            return ExpiredToken("this login was revoked")
        if device is None:
            account.generation += 1
            account.spared = f"{own} {generations}" if generations else ""
        else:
            account.device_generation[device] = account.device_generation.get(device, 0) + 1
            account.spared = "" if account.spared.startswith(f"{device} ") else account.spared
        for name, other in account.on.items():
            if other != place and device in (None, name):
                self._publish(user, node_of(other), Published(user, None, other, "revoked"))
        return None

    def devices(self, user: str) -> list[Device]:
        """All logins happen at second 1."""
        account = self.accounts[user]
        known = []
        for device, generations in account.tokens.items():
            if account.is_good(device, generations) or device in account.on:
                seen = None if device in account.on else account.left.get(device)
                known.append(Device(device, account.device_names.get(device, ""), 1, 1, seen, device in account.on))
        return sorted(known)

    def name_device(self, user: str, device: str, name: str) -> ImError | None:
        if user not in self.accounts or device not in self.accounts[user].logins:
            return NotFound(NO_DEVICE)
        self.accounts[user].device_names[device] = name
        return None

    def set_profile(self, user: str, fields: Mapping[str, str]) -> int:
        account = self.accounts[user]
        changed = {**account.profile, **fields}
        if changed != account.profile:
            account.profile, account.profile_version = changed, account.profile_version + 1
        return 2 * account.profile_version + 1

    def profile(self, user: str, viewer: str) -> Profile | ImError:
        account = self.accounts.get(user)
        if account is None:
            return NotFound("user: there is no such user")
        record = Record() if self.rosters is None else self.rosters.standing(user, viewer).record
        if record.blocks:
            return HIDDEN
        shows_all = user == viewer or (record.wants and record.wanted)
        name, avatar, about = (account.profile.get(field, "") for field in ("name", "avatar", "about"))
        version = account.profile_version
        shown_version = 2 * version + shows_all if version else 0
        return Profile(shown_version, name, avatar, about if shows_all else "", is_bot=account.bot)

    def erase(self, user: str, asking: bytes = b"") -> ImError | None:
        answer = self.revoke(user, None, Login(Place(asking), ""))
        self.accounts.pop(user, None)
        self.groups.lists.pop(user, None)
        return answer

    def signing_keys(self, key_id: str, secret: str) -> dict[str, str]:
        if not self.keys:
            self.keys = {key_id: secret, "current": key_id}
        return dict(self.keys)

    # -- the log

    def append(self, user: str, dedupe: bytes, content: bytes, origin: bytes, again: int = 0) -> Appended | ImError:
        account = self.accounts.get(user)
        if account is None:
            return NotFound("to: there is no such user")
        if dedupe in account.seen:
            return self._repeated(account, account.seen[dedupe], content)
        refused = self.rosters.refusal(user, dedupe, content) if self.rosters is not None and origin == b"-" else None
        if refused is not None:
            return refused  # type: ignore[no-any-return]
        forgotten = [entry for entry in account.log if not newer(entry.at, account.low)] if again else []
        for entry in reversed(forgotten):
            if entry.content[:again] == content[:again]:
                return self._repeated(account, entry.at, content)
        entry = self.put(user, content, origin)
        account.seen[dedupe] = entry.at
        return Appended(entry.at, entry.prev)

    @staticmethod
    def _repeated(account: Account, at: Position, content: bytes) -> Appended:
        """It vanishes when the first one does."""
        kept = next((entry.content for entry in account.log if entry.at == at), content)
        return Appended(at, None, expires_of(content) and expires_of(kept))

    def put(self, user: str, content: bytes, origin: bytes = b"-") -> Entry:
        """One more entry."""
        account = self.accounts[user]
        self.milliseconds += 1
        entry = Entry(Position(b"%d-0" % self.milliseconds), account.last, content)
        account.log.append(entry)
        account.last = entry.at
        if list(account.on.values()) != [origin]:
            for node in dict.fromkeys(node_of(place) for place in account.on.values()):  # not a set: always one order
                self._publish(user, node, Published(user, Entry(entry.at, entry.prev, content), origin))
        return entry

    def append_both(
        self, to: str, own: str, dedupe: bytes, content: bytes, origin: bytes, again: int = 0
    ) -> Appended | ImError:
        received = self.append(to, dedupe, content, b"-", again)
        if isinstance(received, Appended) and received.expires is not None:
            content = with_expires(content, received.expires)
        return received if isinstance(received, ImError) else self.append(own, dedupe, content, origin, again)

    def append_amendment(
        self,
        log: str,
        dedupe: bytes,
        message: bytes,
        deletion: Deletion | None,
        append_it: Callable[[], Appended | ImError],
    ) -> Appended | ImError:
        """Not where the message is deleted. `message`: its dedupe field; `append_it` does it."""
        account = self.accounts.get(log)
        if account is not None and b"x:" + message in account.seen and dedupe not in account.seen:
            return deleted()
        result = append_it()
        if deletion is not None and isinstance(result, Appended) and result.prev is not None:
            assert account is not None
            gone = deletion.gone[log]
            crossing = [it.at for it in self.read(log, gone.seen, 1000) if it.content.startswith(deletion.edits)]
            edits = {*crossing, *(at for at, _ in gone.edits)}
            account.log = [entry for entry in account.log if entry.at not in {*edits, gone.message}]
            account.seen = {known: at for known, at in account.seen.items() if at not in edits}
            account.seen[b"x:" + message] = result.at
        return result

    def read(self, user: str, after: Position, count: int) -> list[Entry]:
        return [entry for entry in self._log(user) if newer(entry.at, after)][:count]

    def read_back(self, user: str, before: Position | None, count: int) -> list[Entry]:
        return [entry for entry in reversed(self._log(user)) if before is None or newer(before, entry.at)][:count]

    def readable(self, page: list[Entry]) -> list[Entry]:
        """As a worker gives it to a reader."""
        hide_expired(page, self.milliseconds / 1000)
        return page

    def cut(self, user: str) -> Position | None:
        return self.accounts[user].cut if user in self.accounts else None

    def _log(self, user: str) -> list[Entry]:
        return self.accounts[user].log if user in self.accounts else []

    def trim(self, user: str, now_milliseconds: int, bounds: Bounds, steps: int = 256) -> int:
        """Entries leave the dedupe index oldest first, then the log, never the other way round."""
        account = self.accounts.get(user)
        if account is None:
            return 0
        surplus = account.log[: max(0, len(account.log) - bounds.most_entries)][:steps]
        surplus_end = surplus[-1].at if surplus else START
        window, age = bounds.dedupe_seconds * 1000, bounds.longest_age_seconds * 1000
        passed = 0
        for entry in self.read(user, account.low, steps):
            if position_order(entry.at)[0] >= now_milliseconds - window and newer(entry.at, surplus_end):
                break
            of = head_of(entry.content).of if entry.content.startswith(b'{"ev":"delete"') else None
            gone = None if of is None else dedupe_of(of)
            account.seen = {known: at for known, at in account.seen.items() if at != entry.at and known != gone}
            account.low = entry.at
            passed += 1

        def stays(entry: Entry) -> bool:
            is_old = position_order(entry.at)[0] < now_milliseconds - age or not newer(entry.at, surplus_end)
            return not is_old or newer(entry.at, account.low)

        cut_off = [entry.at for entry in account.log if not stays(entry)]
        if cut_off:
            milliseconds, counter = position_order(cut_off[-1])
            account.cut = Position(b"%d-%d" % (milliseconds, counter + 1))

        def has_expired(entry: Entry) -> bool:
            expires = expires_of(entry.content)
            return expires is not None and expires <= now_milliseconds // 1000 and not newer(entry.at, account.low)

        account.log = [entry for entry in account.log if stays(entry) and not has_expired(entry)]
        return passed

    def say_typing(self, to: str, sender: str, is_on: bool) -> None:
        """Where the sessions of a user are, or the followers of a group."""
        for node in dict.fromkeys(map(node_of, self.accounts[to].on.values())):
            said = partial(_say_typing, to, UserId(sender), is_on)
            self._publish(to, node, Published(to, None, b"", said=said))

    def ack(self, user: str, device: str, upto: Position) -> int:
        if user in self.accounts:
            self.accounts[user].keep(device, upto)
        return 1

    # -- the directory

    def logins(self, user: str, device: str) -> int:
        return self.accounts[user].logins.get(device, 0) if user in self.accounts else 0

    def attach(self, user: str, place: bytes, right: Right, logins: int | None) -> Attached | ImError:
        """Without `logins`: whether it is still there."""
        account, device = self.accounts.get(user), device_at(place)
        if account is None:
            return BadCredentials("user or password is wrong")
        if account.disabled:
            return NotAllowed("this account is disabled")
        if right.generations is not None and not account.is_good(device, right.generations):
            return ExpiredToken("this token was revoked; log in by password")
        if right.password_hash not in (None, account.password):
            return BadCredentials("user or password is wrong")
        former = account.on.get(device)
        if former != place and logins is None:
            return Replaced("another session of this device has logged in") if former else Dead(DEAD)
        if former != place and logins is not None:
            if logins != account.logins.get(device, 0):
                return Late(LATE)
            account.logins[device] = logins + 1
            account.tokens[device] = account.generations(device)
        if former not in (None, place):
            assert former is not None
            self._publish(user, node_of(former), Published(user, None, former, "replaced"))
        account.on[device] = place
        groups = self.groups.listed_at_login(user, device)
        return Attached(account.last, account.cursors.get(device), account.generations(device), groups, account.bot)

    def is_hosted(self, user: str, node: str) -> bool:
        account = self.accounts.get(user)
        return account is not None and node in map(node_of, account.on.values())

    def clear(self, user: str, node: str) -> None:
        """The node is dead."""
        account = self.accounts.get(user)
        if account is not None:
            account.left |= {device: 1 for device, place in account.on.items() if node_of(place) == node}
            account.on = {device: place for device, place in account.on.items() if node_of(place) != node}

    def detach(self, user: str, place: bytes, cursor: Position | None) -> int:
        account, device = self.accounts.get(user), device_at(place)
        if account is not None:
            if cursor is not None:
                account.keep(device, cursor)
            if account.on.get(device) == place:
                del account.on[device]
                account.left[device] = 1
            if account.roster is not None and account.roster.exists:
                return OWES
        return 1


def _say_typing(to: str, sender: UserId, is_on: bool, presence: Any) -> None:
    presence.on_typing(to, sender, is_on=is_on)
