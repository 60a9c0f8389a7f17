"""The operator's commands about who comes in and who misbehaves: `imserver invite` and `reports`. Only wiring."""

import json
from typing import Any

import click
import msgspec

from imserver.cli_options import opened, store_options, utc


@click.group()
def invite() -> None:
    """Invitations: codes to register with, where `registration` is "invited"."""


@invite.command("create")
@click.option("--uses", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="accounts made with it")
@click.option("--days", type=click.IntRange(1, 3650), default=7, show_default=True, help="how long it is good")
@store_options
def invite_create(uses: int, days: int, **options: Any) -> None:
    """Print a new code."""
    with opened(options) as admin:
        from imserver import moderation

        click.echo(moderation.create_invite(admin, uses, days).code)


@invite.command("list")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@store_options
def invite_list(as_json: bool, **options: Any) -> None:
    """Print the invitations that are not over."""
    with opened(options) as admin:
        from imserver import moderation

        for one in moderation.invites(admin):
            if as_json:
                click.echo(json.dumps(one._asdict()))
            else:
                click.echo(f"{one.code:<24} {one.used} of {one.uses} used  until {utc(one.until)}")


@invite.command("revoke")
@click.argument("code")
@store_options
def invite_revoke(code: str, **options: Any) -> None:
    """Nobody comes in by this code any more."""
    with opened(options) as admin:
        from imserver import moderation

        moderation.revoke_invite(admin, code)


@click.group()
def reports() -> None:
    """What users have reported of one another."""


@reports.command("list")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@store_options
def reports_list(as_json: bool, **options: Any) -> None:
    """Print the open reports, oldest first: when, who, of whom, why, and which messages."""
    with opened(options) as admin:
        from imserver import moderation

        for one in moderation.reports(admin):
            if as_json:
                click.echo(msgspec.json.encode(one))
            else:
                refs = "".join(f"  {ref.log or ''}@{ref.at}" for ref in one.messages)
                click.echo(f"{utc(one.time)}  {one.by} of {one.user}: {json.dumps(one.reason)}{refs}")


@reports.command("close")
@click.argument("by")
@click.argument("user")
@store_options
def reports_close(by: str, user: str, **options: Any) -> None:
    """Take BY's report of USER off the list."""
    with opened(options) as admin:
        from imserver import moderation

        moderation.close_report(admin, by, user)
