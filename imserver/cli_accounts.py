"""The operator's commands for accounts: `imserver user`, `bot` and `token`. Only wiring; the work is done elsewhere."""

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import click

from imserver.cli_options import opened, store_options, utc

if TYPE_CHECKING:
    from imserver.admin import Imported

PROGRESS_SECONDS = 1.0
DAY_SECONDS = 86_400


@click.group()
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


@user.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@store_options
def user_import(file: TextIO, **options: Any) -> None:
    """Make the accounts that stand in FILE (-: standard input).

    JSON, an object a line: {"user": ..., "password": ...} or {"user": ..., "hash": ...}; or CSV with a header of such
    names. A hash is taken as it is, in argon2's own notation (it has commas: in CSV it stands in quotes). An account
    with neither can log in by token only.

    Accounts that exist are left alone. So an import that ended too early is begun again with the same file.
    """
    told = time.monotonic()

    def tell(done: "Imported") -> None:
        nonlocal told
        if time.monotonic() >= told + PROGRESS_SECONDS:
            told = time.monotonic()
            click.echo(f"{done.new + done.known} so far", err=True)

    with opened(options) as admin:
        done = admin.user_import(file, tell)
    click.echo(f"{done.new} accounts" + (f"; {done.known} were there already" if done.known else ""), err=True)


@user.command("export")
@click.argument("user")
@click.option("--output", type=click.File("wb"), default="-", help="a file; without: standard output")
@store_options
def user_export(user: str, output: BinaryIO, **options: Any) -> None:
    """Print all that is kept of a user, a JSON object a line.

    A line with `ev` is an entry of the user's log as clients get it, or, with `log`, what the user has said in a group.
    The others have a `kind`: account, profile, privacy, device, contact, conversation, group, invitation.
    """
    from imserver.exporting import export

    with opened(options) as admin:
        for line in export(admin, user):
            output.write(line + b"\n")


@user.command("reindex")
@store_options
def user_reindex(**options: Any) -> None:
    """Put the names of all accounts into the index that `search` reads. It is kept in step by itself."""
    with opened(options) as admin:
        click.echo(f"{admin.user_reindex()} names", err=True)


@click.group()
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


@click.group()
def token() -> None:
    """Login tokens: a user's device logs in with one instead of the password."""


@token.command("mint")
@click.argument("users", nargs=-1)
@click.option("--users-file", type=click.File("r", encoding="utf-8"), help="more users, one a line (-: standard input)")
@click.option("--device", default="default", show_default=True, help="the device that each token is for")
@click.option(
    "--lifetime-seconds", type=click.IntRange(min=1), help="how long they are good; without: token_lifetime_seconds"
)
@click.option("--days", type=click.IntRange(min=1), help="the same in days")
@store_options
def token_mint(
    users: tuple[str, ...],
    users_file: TextIO | None,
    device: str,
    lifetime_seconds: int | None,
    days: int | None,
    **options: Any,
) -> None:
    """Print a line `USER DEVICE TOKEN` for each user."""
    if days is not None:
        if lifetime_seconds is not None:
            raise click.UsageError("--days: there is --lifetime-seconds as well; one of them is allowed")
        lifetime_seconds = days * DAY_SECONDS
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
