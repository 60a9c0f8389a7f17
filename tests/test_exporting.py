"""The export of all that is kept of a user: complete, and streamed."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from imserver.admin import Admin, open_admin
from imserver.errors import NotFound
from imserver.exporting import export
from imserver.model import DeviceId, GroupId, Place, UserId
from imserver.store import account_calls, calls, circle_calls, conversation_calls, group_calls, later_calls
from imserver.store.embedded import temporary_store
from imserver.store.partitions import Hosting, group_keys, user_keys
from imserver.store.stored import Sender, group_event
from tests.conftest import required
from tests.test_cli import run
from tests.test_importing import settings


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    required("redis-server")
    directory = tmp_path_factory.mktemp("export")
    with temporary_store(settings(directory)) as url:
        yield url


@pytest.fixture
def admin(url: str, tmp_path: Path) -> Iterator[Admin]:
    with open_admin(settings(tmp_path, redis=url)) as admin:
        yield admin


def message(sender: str, to: str, number: int, body: bytes = b'"hello"') -> calls.Packed:
    """In the log of `to`."""
    who = Sender(UserId(sender), DeviceId("laptop"))
    content = who.content(to, f"m{number}", msgspec.Raw(body))
    return calls.append(user_keys(to), who.dedupe(f"m{number}"), content, b"-")


def test_everything_is_there(admin: Admin, url: str, tmp_path: Path) -> None:
    for user in ("ann", "ben"):
        admin.user_add(user, "secret")
    keys, group = user_keys("ann"), group_keys("#tea")
    ann = UserId("ann")
    hosting = Hosting(keys.partition, b"n")
    said = Sender(ann, DeviceId("laptop")).group_content("#tea", "g1", msgspec.Raw(b'"tea?"'))
    from_ben = Sender(UserId("ben"), DeviceId("laptop")).group_content("#tea", "g1", msgspec.Raw(b'"yes"'))
    created = group_event(GroupId("#tea"), "created", user=ann)
    at = admin.ask(group, group_calls.create(group, ann, "t", created, {"name": "Tea"}))[0][1]  # type: ignore[arg-type]
    replies = admin.ask(
        keys,
        account_calls.set_profile(keys, 1, {"name": "Ann", "about": "I like tea."}),
        calls.attach(keys, hosting, Place(b"laptop=n.1"), calls.Right("0.0"), None, 1.0),
        account_calls.name_device(keys, "laptop", "the old one"),
        circle_calls.relate(keys, "ben", "11--", 1),
        circle_calls.describe(keys, "ben", "Benny", ["work"], 2),
        group_calls.enlist(keys, GroupId("#tea"), at, "joined", b'{"ev":"group","group":"#tea","change":"joined"}'),
        later_calls.schedule(
            keys, "laptop", "s1", 7_000, later_calls.Saying("ben", 9, [], b'{"ev":"msg","body":"soon"}')
        ),
        message("ben", "ann", 1),
    )
    read = replies[-1][0]
    admin.ask(keys, conversation_calls.read(keys, "ben", read, Place(b"laptop=n.1")))
    for sender, content in ((b"ann", said), (b"ben", from_ben)):
        posting = group_calls.post(group, sender + b"/d/g1", content, b"-", sender)
        admin.ask(user_keys("#tea"), posting)
    lines = [json.loads(line) for line in export(admin, "Ann")]
    kinds: dict[str, dict[str, Any]] = {line["kind"]: line for line in lines if "kind" in line}
    assert kinds["account"]["user"] == "ann"
    assert "hash" not in json.dumps(lines)
    assert (kinds["profile"]["name"], kinds["profile"]["about"]) == ("Ann", "I like tea.")
    assert (kinds["device"]["device"], kinds["device"]["name"]) == ("laptop", "the old one")
    assert (kinds["contact"]["user"], kinds["contact"]["name"], kinds["contact"]["groups"]) == (
        "ben",
        "Benny",
        ["work"],
    )
    assert (kinds["conversation"]["with"], kinds["conversation"]["read"]) == ("ben", read.decode())
    assert (kinds["group"]["group"], kinds["group"]["since"]) == ("#tea", at.decode())
    assert kinds["waiting"] == {"kind": "waiting", "when": 7_000, "message": {"ev": "msg", "body": "soon"}}
    assert kinds["privacy"]["write"] == "everyone"
    entries = [line for line in lines if "ev" in line]
    assert [entry["ev"] for entry in entries] == ["contact", "contact", "group", "msg", "msg"]
    assert (entries[3]["from"], entries[3]["body"]) == ("ben", "hello")
    assert (entries[4]["log"], entries[4]["from"], entries[4]["body"]) == ("#tea", "ann", "tea?")
    # The command writes the same, to a file or to standard output.
    file = tmp_path / "ann.jsonl"
    assert run("user", "export", "ann", "--output", str(file), "--redis", url).exit_code == 0
    assert [json.loads(line) for line in file.read_text().splitlines()] == lines
    assert run("user", "export", "ann", "--redis", url).stdout == file.read_text()


def test_nobody_is_not_exported(admin: Admin, url: str) -> None:
    with pytest.raises(NotFound):
        export(admin, "nobody")
    assert "no user nobody" in run("user", "export", "nobody", "--redis", url).stderr


def test_a_long_log_needs_little_memory(admin: Admin) -> None:
    admin.user_add("long", "secret")
    for first in range(0, 20_000, 1000):
        admin.ask(user_keys("long"), *(message("ben", "long", number) for number in range(first, first + 1000)))
    tracemalloc.start()
    try:
        entries = sum(b'"ev"' in line for line in export(admin, "long"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert entries == 20_000
    assert peak < 3_000_000
