"""The way back after a lost link: what was published meanwhile never came."""

from collections import deque
from collections.abc import Iterable

from imserver.errors import ExpiredToken, ImError
from imserver.model import GroupId, Position
from imserver.session.context import Context
from imserver.session.session import Session
from imserver.store.calls import Attached, Replaced

AT_ONCE = 128  # of one shard: a few milliseconds of the store


class Returning:
    """The sessions of one shard ask whether they are still in the directory, and read on where their log has grown.

    A bounded number at once: thousands of calls would else stand before the messages of everybody, and their answers
    would come in one turn. Whose turn has not come yet misses nothing: an entry that does not follow what was
    forwarded last has its log read at once.
    """

    __slots__ = ("_context", "_under_way", "_waiting")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: deque[Session] = deque()
        self._under_way = 0

    def begin(self, sessions: Iterable[Session]) -> None:
        """All of the shard's: who still waited since the link was lost before is among them."""
        self._waiting = deque(sessions)
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self._under_way < AT_ONCE:
            session = self._waiting.popleft()
            if not session.is_closed:
                self._under_way += 1
                self._ask(session)

    def _ask(self, session: Session) -> None:
        def answered(result: Attached | ImError) -> None:
            self._under_way -= 1
            _take(session, result)
            self._go_on()

        identity = session.identity
        assert identity is not None
        self._context.store.attach_again(identity.user, identity.place, identity.generations, answered)


def _take(session: Session, result: Attached | ImError) -> None:
    if isinstance(result, Replaced):
        session.expelled("replaced")
    elif isinstance(result, ExpiredToken):
        session.expelled("revoked")
    elif isinstance(result, ImError):
        session.send_away("this session can't go on")
    elif session.tail is not None:
        session.tail.ends_at(result.last)


class ReturningGroups:
    """The same of the groups of one shard that are followed here: once each, for all their followers."""

    __slots__ = ("_context", "_under_way", "_waiting")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: deque[GroupId] = deque()
        self._under_way = 0

    def begin(self, groups: Iterable[GroupId]) -> None:
        """All of the shard's."""
        self._waiting = deque(groups)
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self._under_way < AT_ONCE:
            self._under_way += 1
            self._ask(self._waiting.popleft())

    def _ask(self, group: GroupId) -> None:
        def answered(end: Position | ImError) -> None:
            self._under_way -= 1
            if not isinstance(end, ImError) and end:  # else the link is lost once more, or the group is gone
                for tail, session in list(self._context.registry.followers_of(group).items()):
                    if session.following is not None:
                        session.following.resume(tail, end)
            self._go_on()

        self._context.store.groups.follow_again(group, answered)
