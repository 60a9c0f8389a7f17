"""The command line: `imserver serve`, and the operator's commands. Only wiring; the work is done elsewhere."""

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from imserver import __version__
from imserver.config import ConfigError, Loaded, load_with_sources, settings_table, shown
from imserver.errors import ImError

if TYPE_CHECKING:
    from imserver.admin import Admin

Command = Callable[..., None]
PIPE_COLUMNS = 400  # of a table that goes to a file or a pipe: wide enough for a line each
METAVARS = {
    "tcp": "HOST:PORT",
    "http": "HOST:PORT",
    "admin": "HOST:PORT",
    "redis": "URL",
    "data": "DIR",
    "workers": "N",
}


class WrongSetting(click.ClickException):
    """Told like a wrong option, and with its exit code."""

    exit_code = 2


class Program(click.Group):
    """Shows the errors that are meant for people without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise WrongSetting(str(error)) from error
        except ImError as error:
            raise click.ClickException(str(error)) from error


def setting_options(*names: str) -> Callable[[Command], Command]:
    """`--config` and an option for each setting in `names`, unchecked here: all sources are checked together."""
    known = {setting.name: setting for setting in settings_table()}

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            metavar = METAVARS.get(name, known[name].allowed.replace(" ", ""))
            command = click.option(f"--{name.replace('_', '-')}", metavar=metavar, help=known[name].meaning)(command)
        text = "settings in TOML; of several files later ones win"
        return click.option("--config", "files", metavar="FILE", type=Path, multiple=True, help=text)(command)

    return decorate


server_options = setting_options("tcp", "http", "admin", "redis", "data", "workers", "registration", "log_level")
store_options = setting_options("redis", "data")


def loaded(options: dict[str, Any]) -> Loaded:
    """The settings from all sources; raises ConfigError. Takes the settings out of `options`."""
    return load_with_sources(options.pop("files"), os.environ, options)


def opened(options: dict[str, Any]) -> "AbstractContextManager[Admin]":
    """The administration of the deployment that the options name; raises ConfigError."""
    settings = loaded(options).settings
    from imserver.admin import open_admin

    return open_admin(settings)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """imserver, an instant-messaging server.

    Every setting can come from a TOML file (--config), from the environment (IMSERVER_WORKERS=4) or from an option, the
    later of these winning. `imserver config` prints them all.
    """


@main.command()
@server_options
def serve(**options: Any) -> None:
    """Run the server until SIGTERM or Ctrl-C."""
    settings = loaded(options).settings
    from imserver import supervisor

    sys.exit(supervisor.serve(settings))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="one JSON object, by name")
@server_options
def config(as_json: bool, **options: Any) -> None:
    """Print every setting: value, default, what is allowed, meaning, and where the value came from."""
    described = list(describe(loaded(options)))
    if as_json:
        click.echo(json.dumps({row.pop("setting"): row for row in described}, indent=2))
    else:
        print_table(described)


@main.command()
@click.option("--schema", "as_schema", is_flag=True, help="the whole as a JSON Schema, for programs")
def protocol(as_schema: bool) -> None:
    """Print what a client may ask: fields, reply, cost, and the level of overload from which on it is refused."""
    from imserver.protocol import schema

    if as_schema:
        click.echo(schema.encoded(), nl=False)
    else:
        print_table(schema.overview())


def describe(known: Loaded) -> Iterator[dict[str, object]]:
    """Each setting as a row for people and programs."""
    for setting in settings_table():
        yield {
            "setting": setting.name,
            "value": shown(getattr(known.settings, setting.name)),
            "default": shown(setting.default),
            "allowed": setting.allowed,
            "meaning": setting.meaning,
            "source": known.sources[setting.name],
        }


def print_table(rows: list[dict[str, object]]) -> None:
    """Rows with the same keys, as a table that fits the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, no_wrap=name == "setting", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(value) or '""') for value in row.values()))
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)


@main.group()
def user() -> None:
    """Accounts."""


def password_of(user: str, from_stdin: bool) -> str:
    """The password for `user`: the first line of standard input, or what is typed twice."""
    if not from_stdin:
        typed: str = click.prompt(f"Password for {user}", hide_input=True, confirmation_prompt=True, err=True)
        return typed
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise click.UsageError("--password-stdin: standard input is empty; allowed is one line, the password")
    return line


password_option = click.option("--password-stdin", "from_stdin", is_flag=True, help="read it from standard input")


@user.command("add")
@click.argument("user")
@password_option
@store_options
def user_add(user: str, from_stdin: bool, **options: Any) -> None:
    """Make an account."""
    password = password_of(user, from_stdin)
    with opened(options) as admin:
        admin.user_add(user, password)


@user.command("passwd")
@click.argument("user")
@password_option
@store_options
def user_passwd(user: str, from_stdin: bool, **options: Any) -> None:
    """Give an account another password."""
    password = password_of(user, from_stdin)
    with opened(options) as admin:
        admin.user_set_password(user, password)


@user.command("disable")
@click.argument("user")
@store_options
def user_disable(user: str, **options: Any) -> None:
    """Close an account's sessions and let it log in no more, without deleting anything."""
    with opened(options) as admin:
        admin.user_disable(user)


@user.command("enable")
@click.argument("user")
@store_options
def user_enable(user: str, **options: Any) -> None:
    """Let a disabled account log in again."""
    with opened(options) as admin:
        admin.user_enable(user)


@user.command("delete")
@click.argument("user")
@store_options
def user_delete(user: str, **options: Any) -> None:
    """Delete an account and its log, for ever and without asking."""
    with opened(options) as admin:
        admin.user_delete(user)


@user.command("list")
@click.argument("prefix", default="")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@store_options
def user_list(prefix: str, as_json: bool, **options: Any) -> None:
    """Print the accounts whose names begin with PREFIX."""
    with opened(options) as admin:
        for account in admin.user_list(prefix):
            if as_json:
                fields = {"user": account.user, "created": account.created, "disabled": account.disabled}
                click.echo(json.dumps(fields | {"bot": True} if account.is_bot else fields))
            else:
                state = "disabled" if account.disabled else "enabled"
                click.echo(f"{account.user:<32} {utc(account.created)}  {state}")


def utc(seconds: float) -> str:
    """A point in time, given in unix seconds, as people read it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


@user.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@store_options
def user_import(file: TextIO, **options: Any) -> None:
    """Make an account for each line of FILE (-: standard input).

    A line is a JSON object: {"user": ..., "password": ...} or {"user": ..., "hash": ...}, the hash in argon2's own
    notation. An account with neither can log in by token only.
    """
    with opened(options) as admin:
        click.echo(f"{admin.user_import(file)} accounts", err=True)


@main.group()
def bot() -> None:
    """Bots: accounts of programs. They log in by token, and are marked as bots in all they say."""


@bot.command("add")
@click.argument("name")
@click.option("--owner", metavar="USER", help="who answers for it")
@store_options
def bot_add(name: str, owner: str | None, **options: Any) -> None:
    """Make a bot, and print a line `NAME DEVICE TOKEN`, a token for the device `bot`.

    It is good for ten years. `imserver token mint NAME --device DEVICE` makes more, `imserver token revoke NAME` ends
    all of them.
    """
    with opened(options) as admin:
        admin.bot_add(name, owner)
        click.echo(f"{name} bot {admin.token_mint(name, 'bot')}")


@bot.command("list")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@store_options
def bot_list(as_json: bool, **options: Any) -> None:
    """Print all bots, with their owners."""
    with opened(options) as admin:
        for account in admin.user_list():
            if as_json and account.is_bot:
                fields = {name: getattr(account, name) for name in ("user", "owner", "created", "disabled")}
                click.echo(json.dumps(fields))
            elif account.is_bot:
                state = "disabled" if account.disabled else "enabled"
                click.echo(f"{account.user:<32} {utc(account.created)}  {state:<8}  {account.owner or ''}".rstrip())


@bot.command("delete")
@click.argument("name")
@store_options
def bot_delete(name: str, **options: Any) -> None:
    """Delete a bot and its log, for ever and without asking."""
    with opened(options) as admin:
        admin.bot_delete(name)


@main.group()
def token() -> None:
    """Login tokens: a user's device logs in with one instead of the password."""


@token.command("mint")
@click.argument("users", nargs=-1)
@click.option("--users-file", type=click.File("r", encoding="utf-8"), help="more users, one a line (-: standard input)")
@click.option("--device", default="default", show_default=True, help="the device that each token is for")
@click.option(
    "--lifetime-seconds", type=click.IntRange(min=1), help="how long they are good; without: token_lifetime_seconds"
)
@store_options
def token_mint(
    users: tuple[str, ...], users_file: TextIO | None, device: str, lifetime_seconds: int | None, **options: Any
) -> None:
    """Print a line `USER DEVICE TOKEN` for each user."""
    if not users and users_file is None:
        raise click.UsageError("no users: name some, or give --users-file FILE")
    with opened(options) as admin:
        for name in (*users, *nonempty_lines(users_file)):
            click.echo(f"{name} {device} {admin.token_mint(name, device, lifetime_seconds)}")


def nonempty_lines(file: TextIO | None) -> Iterator[str]:
    """The lines of `file`, stripped, without empty ones."""
    yield from filter(None, map(str.strip, file or ()))


@token.command("revoke")
@click.argument("user")
@click.option("--device", help="only this device's tokens")
@store_options
def token_revoke(user: str, device: str | None, **options: Any) -> None:
    """Make a user's tokens invalid and close the sessions that used them."""
    with opened(options) as admin:
        admin.token_revoke(user, device)


@token.command("rotate")
@store_options
def token_rotate(**options: Any) -> None:
    """Sign new tokens with a new key, and print the key's name. Tokens in use stay good."""
    with opened(options) as admin:
        click.echo(admin.token_rotate())


@main.command()
@click.argument("sender", metavar="FROM")
@click.argument("to")
@click.argument("text")
@click.option("--id", "message_id", help="the message's id: the same again is stored once; without: a new one")
@click.option("--json", "as_json", is_flag=True, help="print a JSON object with id and position")
@store_options
def send(sender: str, to: str, text: str, message_id: str | None, as_json: bool, **options: Any) -> None:
    """Say TEXT (-: standard input) in the name of the user or bot FROM, to the user or #group TO.

    Status 0 once it is stored, and only then. If the outcome is unknown, send again with the same --id.
    """
    body = sys.stdin.read().removesuffix("\n") if text == "-" else text
    from imserver.operator_send import send as say

    with opened(options) as admin:
        stored = say(admin, sender, to, body, message_id or secrets.token_hex(8))
    if as_json:
        click.echo(json.dumps(stored._asdict()))


@main.group()
def node() -> None:
    """Worker processes."""


@node.command("list")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@store_options
def node_list(as_json: bool, **options: Any) -> None:
    """Print the workers that are alive, on all machines of the deployment."""
    with opened(options) as admin:
        for one in admin.nodes():
            if as_json:
                fields = {"node": one.node, "host": one.host, "pid": one.pid, "number": one.number, "since": one.since}
                click.echo(json.dumps(fields))
            else:
                click.echo(f"{one.node:<12} {one.host:<24} pid {one.pid:<8} worker {one.number:<4} {utc(one.since)}")


if __name__ == "__main__":
    main(prog_name="imserver")
