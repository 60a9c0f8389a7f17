"""Contacts and presence of the model store: what `imserver/store/functions/contacts.lua` and `presence.lua` do.

`Rosters` is the data, `NodeCircle` what a worker sees of it: the calls of `imserver.store.circle.Circle`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from imserver.errors import Blocked, ImError, NotAllowed, NotFound
from imserver.model import UserId
from imserver.protocol.contacts import State, state_of
from imserver.protocol.presence import REACHABILITY
from imserver.store.circle_calls import (
    OFFLINE,
    Extent,
    Privacy,
    Record,
    RosterPage,
    Settled,
    Shown,
    Standing,
    Told,
    Whereabouts,
)
from tests.model_database import Account, Database, Published, device_at, node_of

if TYPE_CHECKING:
    from tests.model_store import NodeStore

NAMES = ("wants", "wanted", "blocks", "blocked")


class Relation(msgspec.Struct):
    """One end of it."""

    switches: list[bool] = msgspec.field(default_factory=lambda: [False] * 4)
    stamps: list[int] = msgspec.field(default_factory=lambda: [0] * 4)
    is_known: bool = False
    note: str = ""
    name: str | None = None
    groups: tuple[str, ...] = ()
    version: int = 0

    @property
    def is_listed(self) -> bool:
        return any(self.switches[:3])

    @property
    def state(self) -> State:
        return state_of(wants=self.switches[0], wanted=self.switches[1])

    def set(self, switches: str, stamp: int) -> bool:
        """Whether anything is newer now."""
        before = list(self.stamps), list(self.switches)
        for index, switch in enumerate(switches):
            to = switch == "1"
            if switch != "-" and (stamp, not to) > (self.stamps[index], not self.switches[index]):
                self.switches[index], self.stamps[index] = to, stamp
        return before != (self.stamps, self.switches)

    def record(self) -> Record:
        note = self.note or None
        wants, wanted, blocks, blocked = self.switches
        return Record(wants, wanted, blocks, blocked, max(self.stamps), self.is_known, note, self.name, self.groups)


class Roster(msgspec.Struct):
    """All that is kept of one user's circle."""

    relations: dict[str, Relation] = {}
    version: int = 0
    low: int = 0
    asks: tuple[int, int] = (0, 0)
    write: str = "everyone"
    seen: str = "contacts"
    exists: bool = False
    told: Told = OFFLINE
    told_place: bytes = b""
    is_news: bool = False
    shown: dict[str, tuple[str, str]] = {}


class Rosters:
    """Each method is one atomic step, and can be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _find(self, user: str) -> tuple[Account, Roster] | None:
        account = self._database.accounts.get(user)
        if account is None:
            return None
        if account.roster is None:
            account.roster = Roster()
        return account, account.roster

    def refusal(self, user: str, dedupe: bytes, content: bytes) -> ImError | None:
        found = self._find(user)
        sender = dedupe.partition(b"/")[0].decode()
        relation = found[1].relations.get(sender, Relation()) if found else Relation()
        if relation.switches[2]:
            return Blocked("to: takes no messages from you")
        is_bot = msgspec.json.decode(content).get("bot", False)
        if found and found[1].write == "contacts" and relation.state is not State.MUTUAL and not is_bot:
            return NotAllowed("to: takes messages from contacts only")
        return None

    # -- contacts

    def standing(self, user: str, other: str) -> Standing:
        found = self._find(user)
        if found is None:
            return Standing(Record(), 0, 0, 0)
        roster = found[1]
        listed = sum(relation.is_listed for relation in roster.relations.values())
        return Standing(roster.relations.get(other, Relation()).record(), *roster.asks, listed)

    def relate(self, user: str, other: str, switches: str, stamp: int, note: str, most: int) -> ImError | None:
        found = self._find(user)
        if found is None:
            return NotFound("user: there is no such user")
        account, roster = found
        known = roster.relations.get(other)
        relation = msgspec.json.decode(msgspec.json.encode(known or Relation()), type=Relation)
        if switches[1] == "1" and relation.switches[2]:
            return Blocked("user: takes nothing from you")
        listed = sum(one.is_listed for one in roster.relations.values())
        if not relation.is_listed and "1" in switches[:3] and most and listed >= most:
            return NotAllowed("user: has as many contacts as there may be")
        before = list(relation.switches)
        if not relation.set(switches, stamp):
            return None
        relation.is_known = relation.is_known or relation.switches[0]
        roster.exists = True
        roster.relations[other] = relation
        if before == relation.switches:
            return None
        if not relation.is_listed:
            relation.name, relation.groups = None, ()
        relation.note = note if relation.state is State.ASKING else ""
        if relation.switches[:2] == [True, False] and not before[0]:
            hour, count = roster.asks
            this_hour = stamp // 3_600_000
            roster.asks = (this_hour, count + 1 if hour == this_hour else 1)
        if before[:3] != relation.switches[:3]:
            self._note(user, account, roster, other, stamp)
        return None

    def _note(self, user: str, account: Account, roster: Roster, other: str, stamp: int) -> None:
        if not roster.version:
            roster.low = stamp - 1
        roster.version = max(stamp, roster.version + 1)
        relation = roster.relations[other]
        relation.version = roster.version
        content: dict[str, Any] = {"ev": "contact", "user": other, "state": relation.state.value}
        if relation.switches[2]:
            content["blocked"] = True
        if relation.state is State.ASKING:
            if not relation.is_known:
                content["quiet"] = True
            if relation.note:
                content["note"] = relation.note
        if relation.name:
            content["name"] = relation.name
        if relation.groups:
            content["groups"] = relation.groups
        content["version"] = roster.version
        self._database.put(user, msgspec.json.encode(content))

    def describe(self, user: str, other: str, name: str | None, groups: Sequence[str], now_ms: int) -> ImError | None:
        found = self._find(user)
        relation = found[1].relations.get(other) if found else None
        if found is None or relation is None or not relation.is_listed:
            return NotFound("user: is no contact")
        if (relation.name, relation.groups) != (name, tuple(groups)):
            relation.name, relation.groups = name, tuple(groups)
            self._note(user, *found, other, now_ms)
        return None

    def roster(self, user: str, since: int, behind: int, most: int) -> RosterPage:
        found = self._find(user)
        roster = found[1] if found else Roster()
        is_all = since == 0 or since < roster.low or since > roster.version
        if behind == 0 and not is_all:
            behind = since
        versions = sorted((relation.version, other) for other, relation in roster.relations.items())
        page = [(version, other) for version, other in versions if version > behind][:most]
        reached = page[-1][0] if page else behind
        records = [(UserId(other), roster.relations[other].record()) for _, other in page]
        return RosterPage(roster.version, is_all, reached, records)

    def blocked(self, user: str) -> list[str]:
        found = self._find(user)
        return sorted(other for other, one in found[1].relations.items() if one.switches[2]) if found else []

    def privacy(self, user: str, write: str | None, seen: str | None) -> Privacy:
        found = self._find(user)
        if found is None:
            return Privacy("everyone", "contacts")
        roster = found[1]
        roster.exists = roster.exists or bool(write or seen)
        roster.write, roster.seen = write or roster.write, seen or roster.seen
        return Privacy(roster.write, roster.seen)

    # -- presence

    def settle(self, user: str, gone: bytes, seconds: int, shown: Shown | None) -> Settled | None:
        found = self._find(user)
        if found is None:
            return None
        account, roster = found
        if shown is not None and shown.place in account.on.values():
            roster.shown[device_at(shown.place)] = shown.show, shown.status
        if not roster.exists:
            return None
        place, show, status = self._aggregate(account, roster)
        told, device = roster.told, device_at(roster.told_place)
        is_over = gone in (roster.told_place, device.encode(), b"=" + node_of(roster.told_place).encode())
        is_awaited = roster.told_place and device not in account.on and not is_over
        if is_awaited and REACHABILITY.index(show) > REACHABILITY.index(told.show):
            return Settled(told, roster.is_news)
        roster.told_place = place
        if (show, status) != (told.show, told.status):
            since = told.since if show == told.show else self._database.milliseconds // 1000 - seconds
            roster.told = Told(show, status, None if roster.seen == "nobody" else since)
            roster.is_news = True
        return Settled(roster.told, roster.is_news)

    def _aggregate(self, account: Account, roster: Roster) -> tuple[bytes, str, str]:
        best = b"", "offline", ""
        for device, place in account.on.items():
            show, status = roster.shown.get(device, ("online", ""))
            if show in REACHABILITY and REACHABILITY.index(show) <= REACHABILITY.index(best[1]):
                best = place, show, status
        return best

    def audience(self, user: str) -> list[UserId]:
        found = self._find(user)
        relations = found[1].relations if found else {}
        return [UserId(other) for other, one in relations.items() if one.switches == [True, True, False, False]]

    def whereabouts(self, user: str) -> Whereabouts:
        found = self._find(user)
        if found is None:
            return Whereabouts(None)
        since = "-" if found[1].told.since is None else found[1].told.since
        text = f"{found[1].told.show} {since} - 0 {found[1].told.status}"
        return Whereabouts(b" ".join(found[0].on.values()) or None, text.encode())

    def tell(self, user: str, by_node: Mapping[bytes, Sequence[UserId]], extent: Extent) -> None:
        found = self._find(user)
        told = OFFLINE if extent == "offline" or found is None else found[1].told
        for node, to in by_node.items():
            said = partial(_say_told, UserId(user), list(to), told)
            self._database.publish(user, node.decode(), Published(user, None, b"", said=said))
        if extent == "all" and found is not None:
            found[1].is_news = False

    def typing(self, sender: str, to: str, is_on: bool) -> None:
        found = self._find(to)
        if found is not None and UserId(sender) in self.audience(to):
            self._database.say_typing(to, sender, is_on)


def _say_told(user: UserId, to: list[UserId], told: Told, presence: Any) -> None:
    presence.on_told(user, to, told)


class NodeCircle:
    def __init__(self, store: "NodeStore") -> None:
        self._store = store

    async def _ask(self, name: str, user: str, run: Callable[[Rosters], Any]) -> Any:
        return await self._store.ask(name, user, lambda database: run(database.rosters))

    def is_reachable(self, user: str) -> bool:
        return self._store.link_of(user).up

    def is_lost(self, user: str) -> bool:
        link = self._store.link_of(user)
        return link.lost_lease and not link.up

    async def standing(self, user: UserId, other: UserId) -> Any:
        return await self._ask("standing", user, lambda rosters: rosters.standing(user, other))

    async def relate(
        self, user: UserId, other: UserId, switches: str, stamp: int, note: str = "", most: int = 0
    ) -> None:
        await self._ask("relate", user, lambda rosters: rosters.relate(user, other, switches, stamp, note, most))

    async def describe(self, user: UserId, other: UserId, name: str | None, groups: Sequence[str], now_ms: int) -> None:
        await self._ask("describe", user, lambda rosters: rosters.describe(user, other, name, groups, now_ms))

    async def roster(self, user: UserId, since: int, behind: int, most: int) -> Any:
        return await self._ask("roster", user, lambda rosters: rosters.roster(user, since, behind, most))

    async def blocked(self, user: UserId) -> Any:
        return await self._ask("blocked", user, lambda rosters: rosters.blocked(user))

    async def privacy(self, user: UserId, write: str | None, seen: str | None) -> Any:
        return await self._ask("privacy", user, lambda rosters: rosters.privacy(user, write, seen))

    async def settle(
        self, user: UserId, order: bytes, gone: bytes = b"", seconds: int = 0, shown: Shown | None = None
    ) -> Any:
        return await self._ask("settle", user, lambda rosters: rosters.settle(user, gone, seconds, shown))

    def settle_nowait(self, user: UserId, order: bytes, then: Callable[[Any], None]) -> None:
        self._store.call("settle", user, lambda database: database.rosters.settle(user, b"", 0, None), then)

    async def audience(self, user: UserId) -> Any:
        return await self._ask("audience", user, lambda rosters: rosters.audience(user))

    async def contacts_from(self, users: Sequence[UserId], beginning: str) -> list[UserId]:
        found = [name for user in users for name in await self.audience(user)]
        return [name for name in found if name.startswith(beginning)]

    async def whereabouts(
        self, users: Sequence[UserId], found: Callable[[UserId, Whereabouts], None], *, with_told: bool
    ) -> None:
        """All calls are on their way before the last one's answer is waited for."""
        for user in users[:-1]:
            self._store.call("whereabouts", user, partial(_whereabouts, user), partial(_pass_on, found, user))
        for user in users[-1:]:
            await self._store.ask("whereabouts", user, partial(_whereabouts, user), partial(_pass_on, found, user))

    async def tell(self, user: UserId, by_node: Mapping[bytes, Sequence[UserId]], extent: Extent) -> None:
        await self._ask("tell", user, lambda rosters: rosters.tell(user, by_node, extent))

    async def release(self, user: UserId, node: str) -> None:
        await self._ask("release", user, lambda rosters: None)

    def typing(self, sender: UserId, to: UserId, *, is_on: bool) -> None:
        self._store.call("typing", to, lambda database: database.rosters.typing(sender, to, is_on), _ignore)


def _whereabouts(user: UserId, database: Any) -> Whereabouts:
    found: Whereabouts = database.rosters.whereabouts(user)
    return found


def _pass_on(found: Callable[[UserId, Whereabouts], None], user: UserId, answer: Whereabouts | ImError) -> None:
    if isinstance(answer, Whereabouts):
        found(user, answer)


def _ignore(reply: object) -> None:
    """The answer of a call that nobody waits for."""
