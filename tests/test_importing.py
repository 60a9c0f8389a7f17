"""Accounts from a file: what is taken, what is refused with which line; and the command on a real store."""

import json
import time
from pathlib import Path

import pytest

from imserver.admin import Imported, open_admin
from imserver.config import Settings
from imserver.errors import BadRequest
from imserver.importing import NewAccount, accounts_in
from imserver.security import tokens
from imserver.security.passwords import hash_now
from imserver.store.embedded import temporary_store
from tests.conftest import required
from tests.test_cli import run

HASH = hash_now("secret", memory_kib=8, rounds=1)


def refusal(text: str) -> str:
    with pytest.raises(BadRequest) as caught:
        list(accounts_in(text.splitlines(keepends=True)))
    return str(caught.value)


def test_json_lines() -> None:
    text = f'\n{{"user": "Ann", "password": "p"}}\n\n{{"user": "ben", "hash": "{HASH}"}}\n{{"user": "cat"}}\n'
    assert list(accounts_in(text.splitlines(keepends=True))) == [
        (2, NewAccount("ann", "p")),
        (4, NewAccount("ben", hash=HASH)),
        (5, NewAccount("cat")),
    ]


def test_csv() -> None:
    text = f'password,user,hash\n"p,1",Ann,\n,ben,"{HASH}"\n,cat,\n'
    assert list(accounts_in(text.splitlines(keepends=True))) == [
        (2, NewAccount("ann", "p,1")),
        (3, NewAccount("ben", hash=HASH)),
        (4, NewAccount("cat")),
    ]


def test_an_empty_file_has_no_accounts() -> None:
    assert list(accounts_in(["\n"])) == list(accounts_in(["user\n"])) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"user": "ann"}\n{"user": 7}', "line 2: Expected `str`, got `int` - at `$.user`"),
        ('{"user": "ann"}\n{"user"', "line 2: Input data was truncated"),
        ('{"user": "ann", "pasword": "p"}', "line 1: Object contains unknown field `pasword`"),
        ('{"user": "a b"}', "line 1: user: 'a b' is not a user name"),
        ('{"user": "ann", "password": ""}', "line 1: Expected `str` of length >= 1 - at `$.password`"),
        (f'{{"user": "ann", "password": "p", "hash": "{HASH}"}}', "line 1: password: there is a `hash` as well"),
        ('{"user": "ann", "hash": "5f4dcc3b"}', "line 1: hash: allowed is argon2's own notation"),
        ("name,password\nann,p", "line 1: the header of a CSV file is `user`"),
        ("user,password\nann,p\nben", "line 3: 1 values; the header has 2"),
        ('user,password\nann,"p', "line 2: not CSV"),
        ("user\nann\n-", "line 3: user: '-' is not a user name"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    assert refusal(text).startswith(says)


def settings(data: Path, **more: object) -> Settings:
    return Settings(data=str(data), password_memory_kib=8, password_rounds=1, **more)  # type: ignore[arg-type]


def test_an_import_is_repeated_until_the_file_is_right(tmp_path: Path) -> None:
    required("redis-server")
    lines = [json.dumps({"user": f"user{number}", "password": "p"}) for number in range(500)]
    lines[450] = json.dumps({"user": "-"})
    told: list[Imported] = []
    with temporary_store(settings(tmp_path)) as url, open_admin(settings(tmp_path, redis=url)) as admin:
        with pytest.raises(BadRequest, match="line 451: user"):
            admin.user_import(lines, told.append)
        assert told == [Imported(200, 0), Imported(400, 0), Imported(450, 0)]
        lines[450] = json.dumps({"user": "user450", "hash": HASH})
        assert admin.user_import(lines) == Imported(50, 450)
        assert admin.user_import([*lines, lines[0]]) == Imported(0, 501)
        assert len(list(admin.user_list())) == 500


def test_the_commands(tmp_path: Path) -> None:
    required("redis-server")
    file = tmp_path / "accounts.csv"
    file.write_text(f'user,hash\nann,"{HASH}"\nben,\n')
    with temporary_store(settings(tmp_path / "data")) as url:
        assert run("user", "import", str(file), "--redis", url).stderr == "2 accounts\n"
        assert run("user", "import", str(file), "--redis", url).stderr == "0 accounts; 2 were there already\n"
        file.write_text("user\nann\n!\n")
        wrong = run("user", "import", str(file), "--redis", url)
        assert (wrong.exit_code, wrong.stderr[:20]) == (1, "Error: line 3: user:")
        user, device, token = run(
            "token", "mint", "ann", "--device", "desk", "--days", "2", "--redis", url
        ).stdout.split()
        with open_admin(settings(tmp_path, redis=url)) as admin:
            claims = tokens.check(admin._signing_keys(rotate=False), token, time.time())
        assert (user, device) == (claims.user, claims.device) == ("ann", "desk")
        assert 2 * 86_400 - 60 < claims.expires - time.time() <= 2 * 86_400
