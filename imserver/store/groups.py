"""Groups as a worker uses them: typed calls on the shard of the group, and on that of the user where they say so."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from imserver.errors import ImError
from imserver.model import Entry, GroupId, Position, UserId
from imserver.observe.log import get_logger
from imserver.store import calls, group_calls
from imserver.store.answers import ignore
from imserver.store.calls import Appended
from imserver.store.group_calls import Change, Changed, Followed, GroupInfo
from imserver.store.partitions import Hosting, group_keys, user_keys

log = get_logger("store")

if TYPE_CHECKING:
    from imserver.store.store import Store

OnPage = Callable[[list[Entry] | ImError], None]

# All who share a page are given it in one turn, at some 0.3 ms each; so long everybody else waits.
MOST_SHARING = 8


class GroupStore:
    """The calls with `then` are for plain functions, the `async` ones for tasks. Any may raise or give ServiceError."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._reads: dict[tuple[str, Position, int], list[OnPage]] = {}  # under way: who waits for the page

    def _hosting(self, group: GroupId) -> Hosting:
        return Hosting(group_keys(group).partition, self._store.node.encode())

    def _call(
        self,
        owner: str,
        command: bytes,
        then: Callable[[Any], None] = ignore,
        parse: Callable[[Any], Any] | None = None,
    ) -> None:
        """On the shard of a group or a user."""
        self._store.link_of(owner).call(command, then, parse)

    # -- the group's side

    def post(
        self,
        group: str,
        sender: str,
        dedupe: bytes,
        content: bytes,
        origin: bytes,
        then: Callable[[Appended | ImError], None],
        again: int = 0,
        mentions: Sequence[str] = (),
    ) -> None:
        """A message at the end of the group's log; `then` gets where it stands, NotFound or NotAllowed.

        `sender`: the user, and behind a space where its membership began, where that is known: so what a worker that
        was cut off says late is not taken for said in a later one. `mentions`: for each of these who is a member it is
        noted where it stands.
        """
        command = group_calls.post(group_keys(group), dedupe, content, origin, sender.encode(), again, mentions)
        self._call(group, command, then, group_calls.posted)
        self._store.trimming.now_and_then(user_keys(group))

    async def create(
        self, group: GroupId, owner: UserId, token: str, content: bytes, fields: dict[str, str | int]
    ) -> Position:
        """The position of its first entry. `token` tells this request from all others. Raises Exists."""
        command = group_calls.create(group_keys(group), owner, token, content, fields)
        position: Position = await self._store.link_of(group).ask(command, group_calls.created)
        return position

    async def change(self, group: GroupId, what: Change) -> Changed:
        """Raises NotFound, NotAllowed, Conflict; GroupGone where there is no group, which tells as of when."""
        command = group_calls.change(group_keys(group), what)
        changed: Changed = await self._store.link_of(group).ask(command, group_calls.changed)
        return changed

    async def info(self, group: GroupId, user: UserId) -> GroupInfo:
        """Raises GroupGone."""
        found: GroupInfo = await self._store.link_of(group).ask(
            group_calls.info(group_keys(group), user), group_calls.known
        )
        return found

    async def members(self, group: GroupId, cursor: str, count: int) -> tuple[str | None, list[tuple[str, str]]]:
        """About `count` members with their standings, in no order, and where to go on (None: nowhere)."""
        return group_calls.members_page(
            await self._store.link_of(group).ask(group_calls.members(group_keys(group), cursor, count))
        )

    def read(self, group: str, after: Position, count: int, then: OnPage) -> None:
        """As `Store.read`. Whoever asks for a page that is on its way gets that one, up to MOST_SHARING of them.

        Slow readers of one group fall behind at the same entry, and come back together. It is as good as a page of
        their own: what they have heard of was published before, so the read that has no answer yet is done after it.
        """
        key = (group, after, count)
        waiting = self._reads.get(key)
        if waiting is not None and len(waiting) < MOST_SHARING:
            waiting.append(then)
            return
        self._reads[key] = waiting = [then]
        self._store.read(group, after, count, partial(self._on_page, key, waiting))

    def _on_page(self, key: tuple[str, Position, int], waiting: list[OnPage], page: list[Entry] | ImError) -> None:
        if self._reads.get(key) is waiting:
            del self._reads[key]
        for then in waiting:
            try:
                then(page)
            except Exception:  # a bug costs the one who asked, not the others
                log.exception("a page could not be handled")

    # -- following

    def follow(
        self, group: GroupId, user: UserId, cursor: Position, most: int, then: Callable[[Followed | ImError], None]
    ) -> None:
        """A session of a member follows the group: what is published from then on comes to this node."""
        command = group_calls.follow(group_keys(group), self._hosting(group), user, cursor, most)
        self._call(group, command, then, group_calls.followed)

    def typing(self, sender: UserId, group: GroupId, most: int, *, is_on: bool) -> None:
        """Told where members are, unless there are more than `most`, or the sender may not post."""
        self._call(group, group_calls.typing(group_keys(group), sender, most, is_on=is_on))

    def follow_again(self, group: GroupId, then: Callable[[Position | ImError], None]) -> None:
        """The node makes sure that it gets what is published, after a lost link; `then` gets the log's end."""
        self._call(group, group_calls.follow_again(group_keys(group), self._hosting(group)), then)

    def unfollow(self, group: GroupId) -> None:
        """The last local follower is gone."""
        self._call(group, calls.clear(user_keys(group), self._hosting(group), time.time()))

    # -- the user's side

    async def announce(self, user: UserId, group: GroupId, most_groups: int, most_made: int | None = None) -> None:
        """The user is about to join the group (with `most_made`: to make it). Raises NotFound, Conflict."""
        keys = user_keys(user)
        await self._store.link_of(user).ask(
            group_calls.announce(keys, group, most_groups, most_made), group_calls.announced
        )

    async def enlist(self, user: UserId, group: GroupId, as_of: Position, what: str, content: bytes) -> None:
        """The user's list and log say what the group said at `as_of`: "joined", "invited" or "gone"."""
        await self._store.link_of(user).ask(group_calls.enlist(user_keys(user), group, as_of, what, content))

    def enlist_later(self, user: UserId, group: GroupId, as_of: Position, what: str, content: bytes) -> None:
        """The same; nobody waits for it."""
        self._call(user, group_calls.enlist(user_keys(user), group, as_of, what, content))

    async def listed(self, user: UserId) -> tuple[dict[GroupId, Position | None], dict[GroupId, Position]]:
        """The groups in the user's list, and where each membership began (None: perhaps); and invitations."""
        return group_calls.groups_listed(await self._store.link_of(user).ask(group_calls.listed(user_keys(user))))

    def ack(
        self, user: UserId, device: str, group: GroupId, upto: Position, then: Callable[[object], None] = ignore
    ) -> None:
        """The device has kept everything of the group's log up to there."""
        self._call(user, group_calls.ack(user_keys(user), device, group, upto), then)
