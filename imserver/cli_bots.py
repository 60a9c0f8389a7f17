"""The commands for programs: `imserver bot`, `imserver send`, `imserver hooks`."""

import json
import secrets
import sys
from pathlib import Path
from typing import Any

import click

from imserver.cli_options import opened, store_options, utc


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


@click.command()
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


@click.command()
@click.option(
    "--config", "file", metavar="FILE", type=Path, required=True, help="the hooks, in TOML: see docs/hooks.md"
)
def hooks(file: Path) -> None:
    """Post what happens to accounts to HTTP endpoints, until SIGTERM or Ctrl-C."""
    try:
        from imserver.hooks.serve import serve
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is missing: pip install 'imserver[hooks]'") from None

    sys.exit(serve(file))
