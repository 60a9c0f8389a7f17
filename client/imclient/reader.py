"""Reading the logs that a device follows: the user's own, and those of the user's groups.

What has been given to the application and not been kept is bounded in bytes. A reader that is full takes nothing more
and is *behind*; when the application has kept half of it, the logs are read again from their cursors. The socket is
read all the time, since an application may well wait for the answer to a `send` before it takes its next message.

A log can lose its end, in a failover of the store. It is followed from where it ends then. What comes again, at a new
position, is known by its key (sender, device, id): those of the last messages given are remembered.
"""

from collections.abc import Iterable
from enum import Enum

from imclient.cursor import Cursor, Verdict, is_newer
from imclient.events import OWN_LOG
from imclient.journal import Journal, Lost
from imserver.model import START
from imserver.protocol.commands import Ack

PARTINGS = ("left", "kicked", "banned")
INBOX_BYTES = 16 * 1024 * 1024
MOST_KEYS = 1000  # more than the senders keep for most readers: a minute of messages
_HOLE_BYTES = 1
ACK_SECONDS = 1.0  # acknowledgements are cumulative: one a second says as much as one a message


Key = tuple[str, str, str, str]  # log, sender, device, id


class Receipt(Enum):
    """What became of an entry."""

    TAKEN = "taken"
    TAKEN_AFTER_HOLE = "taken, though entries before it are lost"
    DROPPED = "dropped: had before, or to be read again"
    GAP = "gap: the log must be read again"


class Reader:
    def __init__(self, cursors: dict[str, str], inbox_bytes: int = INBOX_BYTES, journal: Journal | None = None) -> None:
        """With a journal that is on, only what `saved` is told of is acknowledged."""
        self._cursors = {log: Cursor(at) for log, at in cursors.items()}
        self._inbox_bytes = inbox_bytes
        self._held_bytes = 0  # given and not kept
        self._is_behind = False
        self._newest = START.decode()
        self._last_gap: tuple[str, str | None] | None = None
        self._given: dict[Key, str] = {}  # oldest first: where it was
        self._lost: set[Key] = set()  # given, and no longer in the log
        self._journal = journal or Journal()
        self._saved = dict(cursors) if self._journal.is_on else None
        self._unacked: set[str] = set()
        self.ack_due: float | None = None

    def _cursor(self, log: str) -> Cursor:
        return self._cursors.setdefault(log, Cursor())

    # -- where to read from

    def since(self) -> str | dict[str, str] | None:
        """From where the logs are to be read in a new connection; what the last one left half done is forgotten."""
        self._is_behind = False
        seen = {log: at for log, cursor in self._cursors.items() if (at := cursor.resume()) is not None}
        return seen.get(OWN_LOG) if seen.keys() <= {OWN_LOG} else seen

    def kept(self) -> dict[str, str]:
        """From where a program that starts anew is to read."""
        return {log: cursor.kept for log, cursor in self._cursors.items() if cursor.kept is not None}

    # -- receiving

    def receive(self, log: str, at: str, prev: str, size: int) -> Receipt:
        """The entry at `at`; `size`: its bytes if the application is to have it, else 0. Raises BadRequest."""
        cursor = self._cursor(log)
        verdict = cursor.judge(at, prev)
        if verdict is Verdict.DUPLICATE or self._cannot_hold(size):
            return Receipt.DROPPED
        if verdict is Verdict.NEXT:
            self._take(cursor, at, prev, size)
            return Receipt.TAKEN
        return self._at_gap(log, at, prev, size)

    def _take(self, cursor: Cursor, at: str, prev: str, size: int) -> None:
        cursor.advance(at)
        if size:
            cursor.give(at, prev, size)
            self._held_bytes += size

    def _at_gap(self, log: str, at: str, prev: str, size: int) -> Receipt:
        """A gap that is still there after the log was read again is the server's last word: it is stepped over."""
        cursor = self._cursor(log)
        gap = (log, cursor.seen)
        if self._last_gap != gap:
            self._last_gap = gap
            return Receipt.GAP
        cursor.cut()
        self._take(cursor, at, prev, size)
        return Receipt.TAKEN_AFTER_HOLE

    def _cannot_hold(self, size: int) -> bool:
        if self._held_bytes and self._held_bytes + size > self._inbox_bytes:
            self._is_behind = True
        return self._is_behind

    def replied(self, log: str, at: str, prev: str | None) -> None:
        """A reply stands for the entry at `at`."""
        if not self._is_behind:
            self._cursor(log).replied(at, prev)

    def lost_before(self, log: str) -> bool:
        """The log no longer has what follows the cursor. False: this reader loses nothing by it."""
        cursor = self._cursor(log)
        cursor.cut()
        return not (cursor.is_fresh or self._is_behind)

    def skipped(self, log: str, to: str, after: str | None) -> None:
        """What comes next of the log follows `to`. The hole, from `after`, is the application's: the history has it."""
        cursor = self._cursor(log)
        cursor.give(to, cursor.seen or after, _HOLE_BYTES)
        self._held_bytes += _HOLE_BYTES
        cursor.return_to(to)

    def membership(self, log: str, change: str, at: str) -> None:
        """The own log says of a group: it is read from there (unless it is already), or it says nothing more."""
        cursor = self._cursor(log)
        is_later = cursor.seen is None or is_newer(at, cursor.seen)
        if change == "joined" and is_later:
            cursor.return_to(at)
        elif change in PARTINGS and (is_later or at == cursor.seen):
            self._held_bytes -= self._cursors.pop(log).unkept_bytes

    def welcomed(self, newest: str) -> bool:
        """The own log ends at `newest`. True where it had more: the store has lost its end, and we go on from there."""
        return self.regressed(OWN_LOG, newest)

    def regressed(self, log: str, at: str) -> bool:
        """The log has lost what was behind `at`, and goes on there. True where this reader had more."""
        if log == OWN_LOG:
            self._newest = at
        cursor = self._cursor(log)
        if cursor.seen is None or not is_newer(cursor.seen, at):
            return False
        self._journal.add(Lost(log, at, cursor.kept))
        cursor.return_to(at)
        self._lost |= {key for key, where in self._given.items() if key[0] == log and is_newer(where, at)}
        return True

    def comes_again(self, key: Key) -> bool:
        """The application was given this message, before the log lost it."""
        return key in self._lost

    def lost(self, keys: Iterable[Key]) -> None:
        """These were given in an earlier life, and then lost by their logs."""
        self._lost.update(keys)

    def gave(self, key: Key, at: str) -> None:
        """A message was given."""
        self._given[key] = at
        if len(self._given) > MOST_KEYS:
            del self._given[next(iter(self._given))]

    def synced(self, at: str) -> str | None:
        """What the own log had at login has been received, or is not kept any more.

        Then returns up to where, unless `lost_before` has said so. `at`: earlier than at login where the log has lost
        its end meanwhile.
        """
        self._newest = self._newest if is_newer(at, self._newest) else at
        cursor = self._cursor(OWN_LOG)
        if self._is_behind or (cursor.seen is not None and not is_newer(self._newest, cursor.seen)):
            return None
        is_news = not (cursor.is_fresh or cursor.is_cut)
        cursor.advance(self._newest)
        return self._newest if is_news else None

    # -- keeping

    def keep(self, log: str, upto: str, now: float) -> bool:
        """The application is done with everything up to `upto`. True where the logs should be read again now."""
        cursor = self._cursor(log)
        before = cursor.kept
        self._held_bytes -= cursor.keep(upto)
        if cursor.kept != before and self._saved is None:
            self._to_ack(log, now)
        return self._is_behind and self._held_bytes <= self._inbox_bytes / 2

    def saved(self, cursors: dict[str, str], now: float) -> None:
        """These positions, and all entries before them, are in the file."""
        before, self._saved = self._saved or {}, cursors
        for log, at in cursors.items():
            if before.get(log) != at:
                self._to_ack(log, now)

    def _to_ack(self, log: str, now: float) -> None:
        self._unacked.add(log)
        self.ack_due = self.ack_due or now + ACK_SECONDS

    def take_acks(self) -> list[Ack]:
        """What the server is to be told."""
        logs, self._unacked, self.ack_due = self._unacked, set(), None
        kept = self.kept() if self._saved is None else self._saved
        return [Ack(upto=kept[log], log=log or None) for log in sorted(logs) if log in kept]
