"""`imserver invite` and `imserver reports` on a real store."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imserver.admin import Admin, open_admin
from imserver.store import moderation_calls
from imserver.store.embedded import temporary_store
from imserver.store.moderation_calls import MessageRef, Report
from imserver.store.partitions import user_keys
from tests.conftest import required
from tests.test_cli import run
from tests.test_importing import settings


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    required("redis-server")
    with temporary_store(settings(tmp_path_factory.mktemp("moderation"))) as url:
        yield url


@pytest.fixture
def admin(url: str, tmp_path: Path) -> Iterator[Admin]:
    with open_admin(settings(tmp_path, redis=url)) as admin:
        yield admin


def test_invitations(admin: Admin, url: str) -> None:
    code = run("invite", "create", "--uses", "2", "--days", "3", "--redis", url).stdout.strip()
    for user in ("ann", "ann", "ben", "cat"):
        admin.ask(user_keys(code), moderation_calls.use_invite(code, user))
    (row,) = [json.loads(line) for line in run("invite", "list", "--json", "--redis", url).stdout.splitlines()]
    assert (row["code"], row["uses"], row["used"]) == (code, 2, 2)
    assert 3 * 86_400 - 60 < row["until"] - time.time() <= 3 * 86_400
    assert f"{code:<24} 2 of 2 used  until " in run("invite", "list", "--redis", url).stdout
    assert run("invite", "revoke", code, "--redis", url).exit_code == 0
    assert "there is no invitation" in run("invite", "revoke", code, "--redis", url).stderr
    assert run("invite", "list", "--redis", url).stdout == ""


def test_reports(admin: Admin, url: str) -> None:
    for number in range(600):
        what = Report("ann", f"user{number}", 1000 - number, "spam\n!", [MessageRef("1-0"), MessageRef("2-0", "#g")])
        assert moderation_calls.reported(admin.ask_deployment(moderation_calls.report(what, 600))) is None
    full = admin.ask_deployment(moderation_calls.report(Report("ben", "ann", 1, "x"), 600))
    assert moderation_calls.reported(full) is not None
    lines = run("reports", "list", "--redis", url).stdout.splitlines()
    assert len(lines) == 600
    assert lines[-1] == '1970-01-01 00:16:40Z  ann of user0: "spam\\n!"  @1-0  #g@2-0'
    assert run("reports", "close", "ann", "user0", "--redis", url).exit_code == 0
    assert "no such report" in run("reports", "close", "ann", "user0", "--redis", url).stderr
    rows = [json.loads(line) for line in run("reports", "list", "--json", "--redis", url).stdout.splitlines()]
    assert (len(rows), rows[-1]["user"]) == (599, "user1")
