"""What the logs bring: entries, each taken once and in order, and the words that logs have lost some."""

from imclient.amendments import AmendmentPush, amendment_of
from imclient.confirming import Confirming
from imclient.events import (
    OWN_LOG,
    Entry,
    Event,
    Message,
    Reconnect,
    Regressed,
    Synced,
    Truncated,
    group_changed,
)
from imclient.journal import Journal, Kept
from imclient.outbox import Outbox
from imclient.reader import Reader, Receipt
from imclient.said import contact_of, message_of
from imclient.stages import Identity
from imserver.protocol import codec, pushes

Nothing = pushes.RemovedPush | codec.UnknownEntry  # entries with nothing in them for an application
LogPush = pushes.MessagePush | AmendmentPush | pushes.GroupPush | pushes.ContactPush | Nothing


class Entries:
    def __init__(
        self, identity: Identity, reader: Reader, outbox: Outbox, confirming: Confirming, journal: Journal
    ) -> None:
        self._identity = identity
        self._reader = reader
        self._outbox = outbox
        self._confirming = confirming
        self._journal = journal

    def on_push(self, push: LogPush, size: int, now: float) -> list[Event]:
        """`size`: of its frame, in bytes. `now`: seconds, monotonic. Raises BadRequest for what is no position."""
        match push:
            case pushes.MessagePush():
                return self._on_message(push, size, now)
            case pushes.GroupPush():
                return self._on_group(push, size)
            case pushes.ContactPush():
                return self._on_entry(OWN_LOG, push.at, push.prev, contact_of(push), size)
            case pushes.EditPush() | pushes.DeletePush() | pushes.ReactionPush():
                return self._on_amendment(push, size, now)
            case codec.UnknownEntry() | pushes.RemovedPush():
                return self._on_entry(push.log or OWN_LOG, push.at, push.prev, None, 0)

    def _on_message(self, push: pushes.MessagePush, size: int, now: float) -> list[Event]:
        log, message = push.log or OWN_LOG, message_of(push)
        if self._is_own(push):
            shown = self._confirming.show_sent(push.id, push.at, now, expires=push.expires)
            return shown + self._on_entry(log, push.at, push.prev, message, 0, is_news=False)
        if self._reader.comes_again((log, push.sender, push.device, push.id)):
            return self._on_entry(log, push.at, push.prev, message, 0, is_news=False)
        return self._on_entry(log, push.at, push.prev, message, size)

    def _on_amendment(self, push: AmendmentPush, size: int, now: float) -> list[Event]:
        log = push.log or OWN_LOG
        if self._is_own(push):
            shown = self._confirming.show_sent(push.id, push.at, now, push.stamp)
            return shown + self._on_entry(log, push.at, push.prev, amendment_of(push), 0, is_news=False)
        return self._on_entry(log, push.at, push.prev, amendment_of(push), size)

    def _is_own(self, push: pushes.MessagePush | AmendmentPush) -> bool:
        """Sent by this very replica: it is confirmed, not given."""
        who = self._identity
        return push.sender == who.user and push.device == who.device and self._outbox.has_made(push.id)

    def _on_group(self, push: pushes.GroupPush, size: int) -> list[Event]:
        changed = group_changed(push, self._identity.user)
        events = self._on_entry(changed.log, push.at, push.prev, changed, size)
        if changed in events and push.group is not None and push.since is not None:
            self._reader.membership(push.group, push.change, push.since)
        return events

    def _on_entry(
        self, log: str, at: str, prev: str, entry: Entry | None, size: int, *, is_news: bool = True
    ) -> list[Event]:
        """`entry` None: of a kind that this version does not know. `is_news`: the application gets it."""
        receipt = self._reader.receive(log, at, prev, size)
        if receipt is Receipt.GAP:
            return [Reconnect(f"an entry before {at} is missing", 0.0)]
        if receipt is Receipt.DROPPED:
            return []
        events: list[Event] = [Truncated(at, log)] if receipt is Receipt.TAKEN_AFTER_HOLE else []
        if entry is None:
            return events
        self._journal.add(Kept(log, at, entry))
        if not is_news:
            return events
        if isinstance(entry, Message):
            self._reader.gave((log, entry.sender, entry.device, entry.id), at)
        return [*events, entry]

    def on_truncated(self, push: pushes.Truncated) -> list[Event]:
        log = push.log or OWN_LOG
        if push.count:
            self._reader.skipped(log, push.at, push.after)
            return [Truncated(push.at, log, push.count, push.after, push.mentioned)]
        return [Truncated(push.at, log)] if self._reader.lost_before(log) else []

    def on_regressed(self, push: pushes.Regressed) -> list[Event]:
        log = push.log or OWN_LOG
        return [Regressed(push.at, log)] if self._reader.regressed(log, push.at) else []

    def on_synced(self, push: pushes.Synced) -> list[Event]:
        lost = self._reader.synced(push.at)
        return [Synced()] if lost is None else [Truncated(lost), Synced()]
