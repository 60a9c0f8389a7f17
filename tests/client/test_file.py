"""The file of a replica, held against a plain model; and files that are not what they should be."""

import sqlite3
import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imclient.amendments import Deleted, Edited
from imclient.events import OWN_LOG, Contact, Entry, Message
from imclient.file import File, open_file
from imclient.journal import Change, Kept, Listed, Lost, Queued, Unqueued

from imserver.errors import SetupError

ACCOUNT = "alice@127.0.0.1:7400"


def message(at: str, id: str, sender: str = "bob") -> Message:
    return Message(at=at, sender=sender, device="d", to="alice" if sender == "bob" else "bob", id=id, body=id)


# -- against a model

positions = st.integers(1, 12).map(lambda n: f"{n // 3 + 9}-{n % 3}")  # 9-1 before 10-0: numbers, not texts
changes = st.one_of(
    st.builds(
        lambda at, id, who: Kept(OWN_LOG, at, message(at, id, who)),
        positions,
        st.sampled_from("abcdef"),
        st.sampled_from(["alice", "bob"]),
    ),
    st.builds(
        lambda at, state: Kept(OWN_LOG, at, Contact(user="carol", state=state)),
        positions,
        st.sampled_from(["mutual", "none"]),
    ),
    st.builds(Lost, st.just(OWN_LOG), positions, st.none() | positions),
    st.builds(lambda n, confirmed: Queued(n, f"run-{n}", "bob", b"{}", confirmed), st.integers(1, 5), st.booleans()),
    st.builds(lambda n: Unqueued(f"run-{n}"), st.integers(1, 5)),
    st.builds(lambda user: Listed(7, (Contact(user=user, state="mutual"),)), st.sampled_from(["bob", "dora"])),
)


class Model:
    def __init__(self) -> None:
        self.entries: dict[tuple[int, ...], Message | Contact] = {}
        self.lost: dict[tuple[int, ...], Message | Contact] = {}
        self.outbox: dict[int, Queued] = {}
        self.contacts: dict[str, Contact] = {}

    def apply(self, change: Change) -> None:
        match change:
            case Kept():
                self._keep(order(change.at), change.entry)
            case Lost(behind=behind, done=done):
                for where in [where for where in self.entries if where > order(behind)]:
                    entry = self.entries.pop(where)
                    if done is not None and where <= order(done):
                        self.lost[where] = entry
            case Queued():
                self.outbox[change.number] = change
            case Unqueued():
                self.outbox = {n: queued for n, queued in self.outbox.items() if queued.id != change.id}
            case Listed():
                self.contacts = {contact.user: contact for contact in change.contacts}

    def _keep(self, at: tuple[int, ...], entry: Entry) -> None:
        assert isinstance(entry, Message | Contact)
        for entries in (self.entries, self.lost):
            for where in [w for w, e in entries.items() if w == at or (key(e) is not None and key(e) == key(entry))]:
                del entries[where]
        self.entries[at] = entry
        if isinstance(entry, Contact):
            self._put(entry)

    def _put(self, contact: Contact) -> None:
        self.contacts.pop(contact.user, None)
        if contact.state != "none":
            self.contacts[contact.user] = contact


def order(at: str) -> tuple[int, ...]:
    return tuple(map(int, at.split("-")))


def key(entry: Message | Contact) -> tuple[str, str] | None:
    return (entry.sender, entry.id) if isinstance(entry, Message) else None


@given(st.lists(st.lists(changes, max_size=4), max_size=6))
def test_the_file_is_what_the_model_says(batches: list[list[Change]]) -> None:
    model = Model()
    with TemporaryDirectory() as directory:
        for batch in batches:  # each is a run of its own
            file = File(Path(directory) / "alice.db", ACCOUNT)
            file.load()
            file.write(batch, {OWN_LOG: "99-0"}, {"device": "d"})
            for change in batch:
                model.apply(change)
            file.close()
        file = File(Path(directory) / "alice.db", ACCOUNT)
        saved = file.load()
        said = [entry for _, entry in sorted(model.entries.items()) if isinstance(entry, Message)]
        assert file.history("bob", None, 200).messages == said
        assert [(where, k[1:]) for k, where in saved.done] == [(m.at, (m.sender, m.device, m.id)) for m in said]
        assert sorted(k[3] for k in saved.lost) == sorted(e.id for e in model.lost.values() if isinstance(e, Message))
        assert saved.outbox == [queued for _, queued in sorted(model.outbox.items())]
        assert {contact.user: contact for contact in saved.contacts.contacts} == model.contacts
        file.close()


# -- reading


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "alice.db"


def test_pages_lead_back_to_the_beginning(path: Path) -> None:
    file = File(path, ACCOUNT)
    messages = [message(f"{n}-0", str(n)) for n in range(1, 8)]
    file.write([Kept(OWN_LOG, m.at, m) for m in messages], {}, {})
    page = file.history("bob", None, 3)
    assert page.messages == messages[4:]
    assert page.local
    page = file.history("bob", page.next, 4)
    assert (page.messages, page.more, page.next) == (messages[:4], False, None)
    group = Message(at="5-1", sender="bob", device="d", to="#tea", id="x", body="x", log="#tea")
    file.write([Kept("#tea", "5-1", group)], {}, {})
    assert [(c.partner, c.last) for c in file.conversations()] == [("bob", messages[-1]), ("#tea", group)]
    file.close()


# -- files that are not what they should be


def test_only_its_owner_may_read_it(path: Path) -> None:
    File(path, ACCOUNT).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_of_two_programs_the_second_is_refused(path: Path) -> None:
    file = File(path, ACCOUNT)
    with pytest.raises(SetupError, match=r"alice\.db is in use by another program"):
        File(path, ACCOUNT)
    file.close()
    File(path, ACCOUNT).close()


def test_a_file_of_another_account_is_refused(path: Path) -> None:
    File(path, ACCOUNT).close()
    with pytest.raises(SetupError, match=r"belongs to alice@127\.0\.0\.1:7400, not to bob@"):
        File(path, "bob@127.0.0.1:7400")


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    File(path, ACCOUNT).close()
    with sqlite3.connect(path) as sqlite:
        sqlite.execute("PRAGMA user_version = 2")
    sqlite.close()
    with pytest.raises(SetupError, match="from a newer imclient: version 2, and this one knows 1"):
        File(path, ACCOUNT)


def test_other_files_are_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("Dear diary, " * 100)
    with pytest.raises(SetupError, match="can't be used: file is not a database"):
        File(path, ACCOUNT)
    path.unlink()
    with sqlite3.connect(path) as sqlite:
        sqlite.execute("CREATE TABLE recipes (name)")
    sqlite.close()
    with pytest.raises(SetupError, match="is a database of another program"):
        File(path, ACCOUNT)
    with pytest.raises(SetupError, match="can't be used: Is a directory"):
        File(path.parent, ACCOUNT)


def test_a_damaged_file_is_said_to_be_so(path: Path) -> None:
    File(path, ACCOUNT).close()
    with sqlite3.connect(path) as sqlite:
        sqlite.execute("INSERT INTO contacts VALUES ('bob', 'x')")
    sqlite.close()
    with pytest.raises(SetupError, match="is damaged: JSON is malformed"):
        open_file(path, ACCOUNT)
    File(path, ACCOUNT).close()  # it has been given back


def test_a_batch_that_fails_leaves_nothing(path: Path) -> None:
    file = File(path, ACCOUNT)
    bad = Queued(2, "run-1", "bob", None, False)  # type: ignore[arg-type]
    with pytest.raises(SetupError, match="can't be used: NOT NULL"):
        file.write([Kept(OWN_LOG, "1-0", message("1-0", "a")), bad], {OWN_LOG: "1-0"}, {})
    assert file.history("bob", None, 10).messages == []
    assert file.load().cursors == {}
    file.close()


# -- amendments


def test_amendments_stand_in_the_page_of_their_time_and_what_is_deleted_is_gone(path: Path) -> None:
    file = File(path, ACCOUNT)
    said = [message(f"{n}-0", str(n)) for n in range(1, 5)]
    file.write([Kept(OWN_LOG, m.at, m) for m in said], {}, {})
    common: dict[str, Any] = {"sender": "bob", "device": "d", "to": "alice", "stamp": 1}
    edited = Edited(at="3-1", of=said[0].reference, id="e", body="better", **common)
    deleted = Deleted(at="4-1", of=said[1].reference, id="f", **common)
    file.write([Kept(OWN_LOG, a.at, a) for a in (edited, deleted)], {OWN_LOG: "9-0"}, {})
    page = file.history("bob", None, 2)
    assert (page.messages, page.amendments) == (said[2:], [edited, deleted])
    page = file.history("bob", page.next, 2)
    assert (page.messages, page.amendments) == (said[:1], [])
    assert [at for _, at in file.load().done] == ["1-0", "3-0", "4-0"]
    file.close()


@pytest.mark.parametrize("is_there", [True, False])
def test_no_text_of_a_deleted_message_stays(path: Path, is_there: bool) -> None:
    """Also where the file has an edit, and not the message: a device that came later."""
    file = File(path, ACCOUNT)
    gone, stays = message("1-0", "m"), message("2-0", "n")
    common: dict[str, Any] = {"sender": "bob", "device": "d", "to": "alice", "stamp": 1, "body": "better"}
    edits = [Edited(at=f"3-{n}", of=it.reference, id=f"e{n}", **common) for n, it in enumerate((gone, stays, gone))]
    entries: list[Message | Edited] = [*([gone] if is_there else []), stays, *edits]
    file.write([Kept(OWN_LOG, it.at, it) for it in entries], {}, {})
    deleted = Deleted(at="4-0", of=gone.reference, sender="bob", device="d", to="alice", id="x", stamp=2)
    file.write([Kept(OWN_LOG, deleted.at, deleted)], {OWN_LOG: "9-0"}, {})
    page = file.history("bob", None, 10)
    assert (page.messages, page.amendments) == ([stays], [edits[1], deleted])
    file.close()
