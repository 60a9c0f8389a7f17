"""That somebody types: told to a contact, or to the members of a small group who are connected. Never stored."""

from imserver.model import GroupId, UserId, is_group, parse_address
from imserver.protocol.commands import Typing
from imserver.protocol.pushes import EMPTY, Shared, TypingPush
from imserver.session.context import Context
from imserver.session.session import Session

# More than can be shown; each is told to all members. What is more is dropped: a notice is good for 6 seconds anyway.
NOTICES_PER_SECOND = 5


class TypingNotices:
    """Handler of `typing`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told: dict[GroupId, int] = {}  # how many notices of each group this worker has passed on in this second

    def say(self, session: Session, command: Typing) -> None:
        """That somebody types is presence, too: strangers are not told. Nobody learns whether it was passed on."""
        to, store = parse_address(command.to), self._context.store
        if not is_group(to):
            store.circle.typing(session.user, UserId(to), is_on=command.on)
        elif session.tail_of(to) is not None and self._may_tell(
            GroupId(to)
        ):  # nobody else uses up what members may say
            most = self._context.settings.group_typing_members
            store.groups.typing(session.user, GroupId(to), most, is_on=command.on)
        session.reply(command.ref, EMPTY)

    def _may_tell(self, group: GroupId) -> bool:
        told = self._told[group] = self._told.get(group, 0) + 1
        return told <= NOTICES_PER_SECOND

    def tick(self) -> None:
        """Once a second."""
        self._told.clear()

    def hear(self, to: str, sender: UserId, *, is_on: bool) -> None:
        """Whom it is told has sessions here."""
        registry, push = self._context.registry, Shared(TypingPush(sender=sender, to=to, on=is_on))
        sessions = registry.followers_of(to).values() if is_group(to) else registry.sessions_of(UserId(to))
        most = self._context.settings.out_buffer_bytes
        for session in sessions:
            if session.user != sender and session.channel.out_bytes <= most:
                session.channel.share(push)
