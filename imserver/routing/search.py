"""Users by the beginning of their names.

What a search costs is bounded: a page of the index, or the lists of so many contacts, and the profiles of those found.
"""

from imserver.errors import NotAllowed
from imserver.model import UserId, parse_user
from imserver.protocol import commands
from imserver.protocol.pushes import FoundUser, FoundUsers
from imserver.session.context import Context, Handlers
from imserver.session.session import Session
from imserver.store.account_calls import Profile

CONTACTS_ASKED = 100


class Search:
    """Handler of `search`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def search(self, session: Session, command: commands.Search) -> None:
        scope = self._context.settings.search
        if scope == "off":
            raise NotAllowed("search is off here")
        beginning = parse_user(command.prefix, "prefix")
        if scope == "all":
            names = await self._context.store.accounts.names_from(beginning, command.limit + 2)
        else:
            names = await self._acquaintances(session.user, beginning)
        others = [name for name in names if name != session.user]
        found = await self._shown(others[: command.limit], session.user)
        session.reply(command.ref, FoundUsers(found, len(others) > command.limit))

    async def _acquaintances(self, user: UserId, beginning: str) -> list[UserId]:
        """Contacts, and their contacts."""
        circle = self._context.store.circle
        contacts = await circle.audience(user)
        known = {name for name in contacts if name.startswith(beginning)}
        known.update(await circle.contacts_from(contacts[:CONTACTS_ASKED], beginning))
        return sorted(known)

    async def _shown(self, users: list[UserId], viewer: UserId) -> list[FoundUser]:
        """Without those who are no more, or block the one who asks."""
        answers = await self._context.store.accounts.profiles(users, viewer)
        return [
            FoundUser(user, found.name or None, found.avatar or None)
            for user, found in zip(users, answers, strict=True)
            if isinstance(found, Profile) and not found.is_hidden
        ]


def search_handlers(search: Search) -> Handlers:
    """Which rule answers the search."""
    return {commands.Search: search.search}
