"""Reports as a worker hands them in."""

from typing import TYPE_CHECKING

from imserver.store import moderation_calls
from imserver.store.moderation_calls import Report

if TYPE_CHECKING:
    from imserver.store.store import Store


class Moderation:
    def __init__(self, store: "Store") -> None:
        self._store = store

    async def report(self, what: Report, most: int) -> None:
        """Raises Overloaded where so many wait, ServiceError."""
        await self._store.link_of_deployment().ask(moderation_calls.report(what, most), moderation_calls.reported)
