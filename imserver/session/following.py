"""The groups that a session follows, each with a tail of its own; and when it is told that it is synced.

Which groups these are the user's own log says: the list that came with the login, and from there on the entries
`joined`, and so on, of the own log. The group says from where: its answer to `follow` counts, and where it disagrees
with the user's list (a worker died between the two), the list is corrected.

A tail ends where the group's log says that the user left, or where the own log does, whichever is heard first.

A session whose user has no groups has no such object, once it is synced.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from imserver.errors import ImError
from imserver.model import START, Entry, GroupId, Position, is_group
from imserver.protocol.pushes import Synced
from imserver.session.cursor import is_newer, later
from imserver.session.tail import Tail
from imserver.store.calls import Listed
from imserver.store.group_calls import Followed
from imserver.store.stored import event_of, own_event

if TYPE_CHECKING:
    from imserver.session.session import Session

_PARTINGS = frozenset(("left", "kicked", "banned"))


class Following:
    __slots__ = ("_awaited", "_began", "_session", "_since", "_upto", "acked", "tails")

    def __init__(self, session: "Session", upto: Position = START, *, is_synced: bool = True) -> None:
        """`upto`: what the own log says up to there is history; the list that came with the login knows it."""
        self._session = session
        self._upto = upto
        # Logs that have to be caught up with before the client is synced, its own among them; None: it is.
        self._awaited: set[str] | None = None if is_synced else {session.user}
        self._since: dict[GroupId, Position] = {}  # where memberships began, as far as the groups have said so
        self._began: dict[GroupId, Position] = {}  # the same as the user's list has it, until the group has answered
        self.tails: dict[GroupId, Tail] = {}
        self.acked: dict[GroupId, Position] = {}  # kept by the device, not stored yet

    # -- coming in

    def enter(self, listed: Iterable[Listed], since: Mapping[str, Position]) -> None:
        """At login. `since`: from where the client wants to go on, where it says so."""
        assert self._awaited is not None
        self._awaited.update(group for group, _, _ in listed)
        for group, began, cursor in listed:
            self._follow(group, began, since.get(group, cursor))

    def _follow(self, group: GroupId, began: Position | None, cursor: Position) -> None:
        tail = Tail(self._session, group, cursor, cursor, new_device=cursor == START)
        self.tails[group] = tail
        if began is not None:
            self._began[group] = began
        self._session.context.registry.follow(group, tail, self._session)
        self._ask(tail, group, began)

    def _ask(self, tail: Tail, group: GroupId, began: Position | None) -> None:
        session = self._session
        most, then = session.context.settings.group_backlog_entries, partial(self._on_followed, tail, group, began)
        session.context.store.groups.follow(group, session.user, tail.position, most, then)

    def _on_followed(self, tail: Tail, group: GroupId, began: Position | None, answer: Followed | ImError) -> None:
        if self._session.is_closed or self.tails.get(group) is not tail or group in self._since:
            return  # left meanwhile, or joined anew; or asked twice, and answered
        if isinstance(answer, ImError):
            self.cannot_read(tail)
            return
        if answer.since is None or answer.since != began:
            self._correct_list(group, began, answer)
        if answer.since is None:
            self._drop(group)
            return
        self._since[group] = answer.since
        self._began.pop(group, None)
        tail.enter(answer, is_cut=answer.start == answer.since)

    def _correct_list(self, group: GroupId, began: Position | None, answer: Followed) -> None:
        what, at = ("gone", later(answer.end, began)) if answer.since is None else ("joined", answer.since)
        content = own_event(group, "left" if answer.since is None else "joined", at)
        self._session.context.store.groups.enlist_later(self._session.user, group, at, what, content)

    def caught_up(self, log: str) -> None:
        """A log has been read to its end, or is not to be waited for."""
        if self._awaited is None:
            return
        self._awaited.discard(log)
        if not self._awaited:
            self._awaited = None
            assert self._session.tail is not None
            self._session.push(Synced(self._session.tail.position.decode()))
            self._session.context.attendance.came(self._session)
            self._end_if_idle()

    def membership(self, group: GroupId) -> Position | None:
        """Where it began, as far as is known; None where there is none, or it is not known."""
        return self._since.get(group) or self._began.get(group)

    @property
    def is_synced(self) -> bool:
        return self._awaited is None

    def has_caught_up(self, log: str) -> bool:
        return self._awaited is None or log not in self._awaited

    # -- what the logs say

    def on_event(self, tail: Tail, entry: Entry) -> None:
        """An entry about a group was forwarded."""
        event = event_of(entry.content)
        if is_group(tail.log):
            if event.change in _PARTINGS and event.user == self._session.user:
                self._drop(GroupId(tail.log))
        elif event.group is not None and event.since is not None and is_newer(entry.at, self._upto):
            self._on_own_event(GroupId(event.group), event.change, Position(event.since.encode()))

    def _on_own_event(self, group: GroupId, change: str, at: Position) -> None:
        known = self._since.get(group)
        if change == "joined" and (known is None or is_newer(at, known)):
            self._drop(group)
            self._session.following = self
            self._follow(group, at, at)
        elif change in _PARTINGS and (known is None or is_newer(at, known)):
            self._drop(group)

    # -- out of reach, and back

    def cannot_read(self, tail: Tail) -> None:
        """A group whose shard is out of reach keeps nobody out: it is read when the shard is back."""
        if self._session.context.store.link_of(tail.log).up:
            self._session.send_away("a group's log can't be read now")
        else:
            self.caught_up(tail.log)

    def resume(self, tail: Tail, end: Position) -> None:
        """The shard is back, and the group's log ends there."""
        group = GroupId(tail.log)
        if group in self._since:
            tail.ends_at(end)
        else:  # its question was not answered
            self._ask(tail, group, tail.position)

    # -- keeping

    def keep(self, group: GroupId, position: Position) -> None:
        """The device has kept everything up to there; stored within a second."""
        self.acked[group] = position
        self._session.context.cursors[self._session] = None

    def store_acked(self) -> None:
        """What the device has kept since this was called last."""
        acked, self.acked = self.acked, {}
        for group, position in acked.items():
            self._session.context.store.groups.ack(self._session.user, self._session.device, group, position)

    # -- leaving

    def _drop(self, group: GroupId) -> None:
        tail = self.tails.pop(group, None)
        self._since.pop(group, None)
        self._began.pop(group, None)
        self.acked.pop(group, None)
        if tail is not None:
            tail.end()
            self._leave_registry(group, tail)
            self.caught_up(group)
        self._end_if_idle()

    def _leave_registry(self, group: GroupId, tail: Tail) -> None:
        context = self._session.context
        if context.registry.unfollow(group, tail):
            context.store.groups.unfollow(group)

    def _end_if_idle(self) -> None:
        if self._awaited is None and not self.tails:
            self._session.following = None

    def close(self) -> None:
        """The session has ended."""
        self.store_acked()
        for group, tail in self.tails.items():
            self._leave_registry(group, tail)
