"""Who is here: the logged-in sessions of this worker, by user."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from imserver.model import UserId

if TYPE_CHECKING:
    from imserver.session.session import Session

_NOBODY: tuple["Session", ...] = ()


class Registry:
    """One session for most users: a tuple is the smallest thing that can hold it, and safe to walk while it changes."""

    __slots__ = ("_by_user", "_count")

    def __init__(self) -> None:
        self._by_user: dict[UserId, tuple[Session, ...]] = {}
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
