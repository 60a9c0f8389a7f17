"""Who is here: the logged-in sessions of this worker, by user, and the tails of the groups that they follow."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from imserver.model import GroupId, UserId

if TYPE_CHECKING:
    from imserver.session.session import Session
    from imserver.session.tail import Tail

_NOBODY: tuple["Session", ...] = ()
_NO_FOLLOWERS: Mapping["Tail", "Session"] = {}


class Registry:
    """One session for most users: a tuple is the smallest thing that can hold it, and safe to walk while it changes."""

    __slots__ = ("_by_user", "_count", "_followers")

    def __init__(self) -> None:
        self._by_user: dict[UserId, tuple[Session, ...]] = {}
        self._followers: dict[str, dict[Tail, Session]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator["Session"]:
        for sessions in list(self._by_user.values()):
            yield from sessions

    def add(self, user: UserId, session: "Session") -> None:
        self._by_user[user] = (*self._by_user.get(user, _NOBODY), session)
        self._count += 1

    def remove(self, user: UserId, session: "Session") -> None:
        rest = tuple(other for other in self._by_user[user] if other is not session)
        if rest:
            self._by_user[user] = rest
        else:
            del self._by_user[user]
        self._count -= 1

    def sessions_of(self, user: UserId) -> Sequence["Session"]:
        return self._by_user.get(user, _NOBODY)

    # -- groups

    def follow(self, group: GroupId, tail: "Tail", session: "Session") -> None:
        self._followers.setdefault(group, {})[tail] = session

    def unfollow(self, group: GroupId, tail: "Tail") -> bool:
        """Whether nobody here follows the group any more."""
        followers = self._followers[group]
        del followers[tail]
        if followers:
            return False
        del self._followers[group]
        return True

    def followers_of(self, group: str) -> Mapping["Tail", "Session"]:
        """MUST NOT be walked while somebody begins or ceases to follow."""
        return self._followers.get(group, _NO_FOLLOWERS)

    def groups(self) -> list[GroupId]:
        """Those that have followers here."""
        return [GroupId(group) for group in self._followers]
