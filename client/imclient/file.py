"""One device's replica on disk: a SQLite file with the entries of its logs, cursors, contacts and unanswered messages.

Plain calls that block, for threads, one at a time. The file is locked for as long as it is open: of
two programs on one file each would take the other's cursors and messages for its own.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from imclient.amendments import AnyAmendment, Deleted, Edited
from imclient.cursor import is_newer
from imclient.events import Contact, Message, Page
from imclient.journal import Change, Kept, Listed, Lost, Queued, Unqueued
from imclient.reader import MOST_KEYS, Key
from imserver.errors import SetupError
from imserver.model import START, parse_position, position_order
from imserver.protocol.extras import Reference

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x696D636C  # "imcl"; SQLite keeps it in the file's header
_MOST_RUNS = 1000
_END = f"{10**15 - 1}-0"  # behind every position

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cursors (log TEXT PRIMARY KEY, at TEXT NOT NULL) WITHOUT ROWID;
-- kind: the name of the event; content: the event in JSON. The columns from partner to id are of messages, and of what
-- amends them, only.
-- A position is ms-seq. is_lost: the application had it, and its log has lost it.
CREATE TABLE entries (
    log TEXT NOT NULL, ms INTEGER NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, content BLOB NOT NULL,
    partner TEXT, sender TEXT, device TEXT, id TEXT, is_lost INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (log, ms, seq)
) WITHOUT ROWID;
CREATE UNIQUE INDEX messages ON entries (log, sender, device, id) WHERE id IS NOT NULL;
CREATE INDEX conversations ON entries (partner, ms, seq) WHERE partner IS NOT NULL AND NOT is_lost;
CREATE INDEX lost ON entries (log) WHERE is_lost;
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, recipient TEXT NOT NULL, frame BLOB NOT NULL,
    is_confirmed INTEGER NOT NULL
);
CREATE TABLE runs (number INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE);
CREATE TABLE contacts (user TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
"""


# Made where it is missing: files were made without it. Only what vanishes is in it.
_EXPIRES = "json_extract(CAST(content AS TEXT), '$.expires')"
_EXPIRING = f"CREATE INDEX IF NOT EXISTS expiring ON entries ({_EXPIRES}) WHERE {_EXPIRES} IS NOT NULL"


class LocalConversation(msgspec.Struct, frozen=True):
    """With a user or a group, and the newest message of it that the file has."""

    partner: str
    last: Message


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What a new run goes on with."""

    device: str | None  # None: the file is new
    token: str | None
    cursors: dict[str, str]  # log to position: what the application was done with
    outbox: list[Queued]
    runs: list[str]
    contacts: Listed  # of version 0 where the list has never been read
    done: list[tuple[Key, str]]  # the last messages that the application was done with, oldest first, with positions
    lost: list[Key]  # those that it was done with before their logs lost them


class File:
    def __init__(self, path: Path, account: str, wall: Callable[[], float] = time.time) -> None:
        """Opens the file, or makes it with mode 0600. `account`: user and place of the server. `wall`: unix seconds.

        Raises SetupError where it is another account's, in use, no such file, of a newer version, or can't be used.
        """
        self._path = path
        self._account = account
        self._wall = wall
        self._user = account.partition("@")[0]
        self._turn = threading.Lock()
        self._cursors: dict[str, str] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._sqlite = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except OSError as error:
            raise SetupError(f"{path} can't be used: {error.strerror}") from None
        try:
            self._prepare()
        except BaseException:
            self._sqlite.close()
            raise

    def _prepare(self) -> None:
        with self._turn_taken():
            self._sqlite.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._sqlite.execute("PRAGMA journal_mode = WAL")
            self._sqlite.execute("PRAGMA synchronous = FULL")
            with self._transaction():
                self._check_or_create()
                self._sqlite.execute(_EXPIRING)

    def _check_or_create(self) -> None:
        [(application,)] = self._sqlite.execute("PRAGMA application_id")
        [(version,)] = self._sqlite.execute("PRAGMA user_version")
        [(tables,)] = self._sqlite.execute("SELECT count(*) FROM sqlite_schema")
        if not tables:
            return self._create()
        if application != _APPLICATION_ID:
            raise SetupError(f"{self._path} is a database of another program")
        if version > SCHEMA_VERSION:
            raise SetupError(
                f"{self._path} is from a newer imclient: version {version}, and this one knows {SCHEMA_VERSION}"
            )
        if self._fact("account") != self._account:
            raise SetupError(f"{self._path} belongs to {self._fact('account')}, not to {self._account}")

    def _create(self) -> None:
        for statement in _SCHEMA.split(";\n"):
            self._sqlite.execute(statement)
        self._sqlite.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self._sqlite.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._set_fact("account", self._account)

    def close(self) -> None:
        with self._turn_taken():
            self._sqlite.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._sqlite.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._sqlite.execute("ROLLBACK")
            raise
        self._sqlite.execute("COMMIT")

    @contextmanager
    def _turn_taken(self) -> Iterator[None]:
        try:
            with self._turn:
                yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise SetupError(f"{self._path} is in use by another program") from None
            raise SetupError(f"{self._path} can't be used: {error}") from None
        except msgspec.DecodeError as error:
            raise SetupError(f"{self._path} is damaged: {error}") from None

    # -- what a new run begins with

    def load(self) -> Saved:
        """Raises SetupError."""
        with self._turn_taken():
            self._cursors = dict(self._sqlite.execute("SELECT log, at FROM cursors"))
            return Saved(
                device=self._fact("device"),
                token=self._fact("token"),
                cursors=dict(self._cursors),
                outbox=self._outbox(),
                runs=[run for (run,) in self._sqlite.execute("SELECT run FROM runs")],
                contacts=Listed(int(self._fact("contacts") or 0), self._contacts()),
                done=self._done(),
                lost=self._lost(),
            )

    def _fact(self, name: str) -> str | None:
        """`account`, `device`, `token` or `contacts` (the version of the list)."""
        row = self._sqlite.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def _set_fact(self, name: str, value: str) -> None:
        self._sqlite.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def _outbox(self) -> list[Queued]:
        rows = self._sqlite.execute("SELECT number, id, recipient, frame, is_confirmed FROM outbox ORDER BY number")
        return [Queued(number, id, to, frame, bool(confirmed)) for number, id, to, frame, confirmed in rows]

    def _contacts(self) -> tuple[Contact, ...]:
        rows = self._sqlite.execute("SELECT content FROM contacts")
        return tuple(msgspec.json.decode(content, type=Contact) for (content,) in rows)

    def _done(self) -> list[tuple[Key, str]]:
        found: list[tuple[tuple[int, int], Key]] = []
        for log, at in self._cursors.items():
            rows = self._sqlite.execute(
                "SELECT ms, seq, sender, device, id FROM entries WHERE log = ? AND (ms, seq) <= (?, ?)"
                " AND kind = 'Message' AND NOT is_lost ORDER BY ms DESC, seq DESC LIMIT ?",
                (log, *_order(at), MOST_KEYS),
            )
            found += [((ms, seq), (log, sender, device, id)) for ms, seq, sender, device, id in rows]
        return [(key, f"{ms}-{seq}") for (ms, seq), key in sorted(found)[-MOST_KEYS:]]

    def _lost(self) -> list[Key]:
        rows = self._sqlite.execute("SELECT log, sender, device, id FROM entries WHERE is_lost AND kind = 'Message'")
        return list(rows)

    # -- writing

    def write(self, changes: Sequence[Change], cursors: dict[str, str], facts: dict[str, str]) -> float | None:
        """All of it or nothing. Returns in how many seconds something vanishes next. Raises SetupError."""
        with self._turn_taken(), self._transaction():
            for change in changes:
                self._apply(change)
            for name, value in facts.items():
                self._set_fact(name, value)
            self._sqlite.executemany(
                "DELETE FROM cursors WHERE log = ?", [(log,) for log in self._cursors if log not in cursors]
            )
            news = [(log, at) for log, at in cursors.items() if self._cursors.get(log) != at]
            self._sqlite.executemany("INSERT OR REPLACE INTO cursors VALUES (?, ?)", news)
            next_expiry = self._expire()
        self._cursors = dict(cursors)
        return next_expiry

    def _expire(self) -> float | None:
        """Removes what has vanished. Returns in how many seconds something does next."""
        now = self._wall()
        self._sqlite.execute(f"DELETE FROM entries WHERE {_EXPIRES} IS NOT NULL AND {_EXPIRES} <= ?", (int(now),))
        [(expires,)] = self._sqlite.execute(f"SELECT min({_EXPIRES}) FROM entries WHERE {_EXPIRES} IS NOT NULL")
        return None if expires is None else expires - now

    def _apply(self, change: Change) -> None:
        match change:
            case Kept():
                self._keep(change)
            case Lost():
                self._lose(change)
            case Queued():
                row = (change.number, change.id, change.to, change.frame, change.is_confirmed)
                self._sqlite.execute("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?, ?)", row)
                if change.run is not None:
                    self._note_run(change.run)
            case Unqueued():
                self._sqlite.execute("DELETE FROM outbox WHERE id = ?", (change.id,))
            case Listed():
                self._set_fact("contacts", str(change.version))
                self._sqlite.execute("DELETE FROM contacts")
                for contact in change.contacts:
                    self._put_contact(contact)

    def _keep(self, kept: Kept) -> None:
        entry = kept.entry
        message: tuple[str | None, ...] = (None, None, None, None)
        if isinstance(entry, Message | AnyAmendment):
            message = entry.partner(self._user), entry.sender, entry.device, entry.id
        elif isinstance(entry, Contact):
            self._put_contact(entry)
        if isinstance(entry, Deleted):
            self._forget(kept.log, entry.of)
        # REPLACE: a message that its log has lost and that comes again is where it is now.
        self._sqlite.execute(
            "INSERT OR REPLACE INTO entries (log, ms, seq, kind, content, partner, sender, device, id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (kept.log, *_order(kept.at), type(entry).__name__, msgspec.json.encode(entry), *message),
        )

    def _forget(self, log: str, of: Reference) -> None:
        """A message, and all that its author has made of it: those stand behind it."""
        key = "log = ? AND sender = ? AND device = ? AND id = ?"
        message = (log, of.sender, of.device, of.id)
        row = self._sqlite.execute(f"SELECT ms, seq FROM entries WHERE {key}", message).fetchone()
        edits = self._sqlite.execute(
            "SELECT ms, seq, content FROM entries WHERE log = ? AND (ms, seq) > (?, ?)"
            " AND kind = 'Edited' AND sender = ?",
            (log, *(row or (0, 0)), of.sender),
        ).fetchall()
        gone = [(log, ms, seq) for ms, seq, content in edits if msgspec.json.decode(content, type=Edited).of == of]
        self._sqlite.execute(f"DELETE FROM entries WHERE {key}", message)
        self._sqlite.executemany("DELETE FROM entries WHERE log = ? AND ms = ? AND seq = ?", gone)

    def _lose(self, lost: Lost) -> None:
        """What the application was done with is remembered, so that it is not given again; the rest comes as news."""
        behind = "log = ? AND (ms, seq) > (?, ?)"
        if lost.done is not None and is_newer(lost.done, lost.behind):
            self._sqlite.execute(
                f"UPDATE entries SET is_lost = 1 WHERE {behind} AND (ms, seq) <= (?, ?)",
                (lost.log, *_order(lost.behind), *_order(lost.done)),
            )
        self._sqlite.execute(f"DELETE FROM entries WHERE {behind} AND NOT is_lost", (lost.log, *_order(lost.behind)))

    def _put_contact(self, contact: Contact) -> None:
        if contact.is_known:
            content = msgspec.json.encode(contact)
            self._sqlite.execute("INSERT OR REPLACE INTO contacts VALUES (?, ?)", (contact.user, content))
        else:
            self._sqlite.execute("DELETE FROM contacts WHERE user = ?", (contact.user,))

    def _note_run(self, run: str) -> None:
        if self._sqlite.execute("INSERT OR IGNORE INTO runs (run) VALUES (?)", (run,)).rowcount:
            self._sqlite.execute("DELETE FROM runs WHERE number <= (SELECT max(number) FROM runs) - ?", (_MOST_RUNS,))

    # -- reading

    def history(self, partner: str, before: str | None, limit: int) -> Page:
        """The newest messages of a conversation (before the position `before`), newest last."""
        with self._turn_taken():
            self._expire()
            return self._page(partner, before, limit)

    def _page(self, partner: str, before: str | None, limit: int) -> Page:
        before = before or _END
        rows = self._sqlite.execute(
            "SELECT content FROM entries WHERE partner = ? AND NOT is_lost AND kind = 'Message' AND (ms, seq) < (?, ?)"
            " ORDER BY ms DESC, seq DESC LIMIT ?",
            (partner, *_order(before), limit + 1),
        ).fetchall()
        messages = [msgspec.json.decode(content, type=Message) for (content,) in reversed(rows[:limit])]
        more = len(rows) > limit
        amendments = self._amendments(partner, messages[0].at if more else START.decode(), before)
        return Page(messages, more, messages[0].at if more else None, amendments, local=True)

    def _amendments(self, partner: str, after: str, before: str) -> list[AnyAmendment]:
        rows = self._sqlite.execute(
            "SELECT content FROM entries WHERE partner = ? AND NOT is_lost AND kind <> 'Message'"
            " AND (ms, seq) > (?, ?) AND (ms, seq) < (?, ?) ORDER BY ms, seq",
            (partner, *_order(after), *_order(before)),
        )
        return [msgspec.json.decode(content, type=AnyAmendment) for (content,) in rows]

    def conversations(self) -> list[LocalConversation]:
        """The last one to be talked in first."""
        with self._turn_taken():
            self._expire()
            partners = self._sqlite.execute(
                "SELECT DISTINCT partner FROM entries WHERE partner IS NOT NULL AND NOT is_lost"
            ).fetchall()
            found = [
                LocalConversation(partner, page.messages[0])
                for (partner,) in partners
                if (page := self._page(partner, None, 1)).messages
            ]
        return sorted(found, key=lambda conversation: _order(conversation.last.at), reverse=True)


def open_file(path: Path, account: str) -> tuple[File, Saved]:
    """Raises SetupError: see `File`."""
    file = File(path, account)
    try:
        return file, file.load()
    except BaseException:
        file.close()
        raise


def _order(at: str) -> tuple[int, int]:
    return position_order(parse_position(at, "at"))
