"""The command line: what is only wired there. The commands themselves are tested with what they call."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imserver import __version__
from imserver.cli import main
from imserver.config import settings_table
from imserver.protocol.schema import encoded


def run(*arguments: str, stdin: str | None = None, **environ: str) -> Result:
    return CliRunner(env={"HOME": "/home/alice", **environ}).invoke(main, arguments, input=stdin, prog_name="imserver")


def test_version() -> None:
    assert run("--version").output == f"imserver {__version__}\n"


def test_serve_has_an_option_for_each_setting_that_an_operator_names() -> None:
    text = run("serve", "--help").output
    for option in ("tcp", "http", "admin", "redis", "data", "workers", "registration", "config"):
        assert f"--{option} " in text


def test_config_tells_value_default_bounds_meaning_and_source() -> None:
    rows = json.loads(run("config", "--json", "--workers", "3", IMSERVER_PING_SECONDS="5").stdout)
    assert list(rows) == [setting.name for setting in settings_table()]
    assert rows["workers"]["value"] == 3
    assert rows["workers"]["default"] == 0
    assert rows["workers"]["source"] == "--workers"
    assert rows["ping_seconds"]["allowed"] == "integer, 1 to 3600 seconds"
    assert rows["ping_seconds"]["source"] == "IMSERVER_PING_SECONDS"
    assert rows["tcp"]["value"] == "127.0.0.1:7400"


def test_config_for_people() -> None:
    lines = run("config", IMSERVER_REDIS="redis://im:geheim@h/0").stdout.splitlines()
    (line,) = [line for line in lines if line.strip().startswith("redis ")]
    assert "redis://im:***@h/0" in line
    assert "IMSERVER_REDIS" in line


def test_the_protocol_for_people_and_for_programs() -> None:
    assert run("protocol", "--schema").stdout_bytes == encoded()
    (line,) = [line for line in run("protocol").stdout.splitlines() if line.strip().startswith("send ")]
    assert "id, to, body" in line


def test_config_from_files(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.toml").write_text(f"workers = {number}")
    result = run("config", "--json", "--config", str(tmp_path / "1.toml"), "--config", str(tmp_path / "2.toml"))
    assert json.loads(result.stdout)["workers"]["source"] == str(tmp_path / "2.toml")


@pytest.mark.parametrize("command", [["serve"], ["config"], ["user", "list"], ["token", "rotate"], ["node", "list"]])
def test_a_wrong_setting_is_refused_by_every_command(command: list[str]) -> None:
    result = run(*command, "--redis", "localhost")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: redis = 'localhost' (--redis): allowed is ")


def test_an_empty_password_is_refused() -> None:
    result = run("user", "add", "alice", "--password-stdin", stdin="")
    assert result.exit_code == 2
    assert "--password-stdin" in result.stderr


def test_a_token_has_one_lifetime() -> None:
    result = run("token", "mint", "alice", "--days", "1", "--lifetime-seconds", "5")
    assert result.exit_code == 2
    assert "one of them is allowed" in result.stderr


def test_tokens_for_nobody_are_refused() -> None:
    result = run("token", "mint")
    assert result.exit_code == 2
    assert "--users-file" in result.stderr
