"""The command line: `imserver serve`, and the operator's commands. Only wiring; the work is done elsewhere."""

import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from imserver import __version__
from imserver.cli_accounts import bot, token, user
from imserver.cli_moderation import invite, reports
from imserver.cli_options import Program, loaded, opened, server_options, store_options, utc
from imserver.config import Loaded, settings_table, shown
from imserver.errors import SetupError

PIPE_COLUMNS = 400  # of a table that goes to a file or a pipe: wide enough for a line each


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """imserver, an instant-messaging server.

    Every setting can come from a TOML file (--config), from the environment (IMSERVER_WORKERS=4) or from an option, the
    later of these winning. `imserver config` prints them all.
    """


for group in (user, bot, token, invite, reports):
    main.add_command(group)


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


@main.command()
@click.option("--worker", "number", type=click.IntRange(min=0), default=0, show_default=True, help="its number")
@click.option("--seconds", type=click.IntRange(1, 3600), default=10, show_default=True, help="how long to look")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default="profile.svg", show_default=True)
@store_options
def profile(number: int, seconds: int, out: Path, **options: Any) -> None:
    """Draw what a worker of the server on this data directory spends its time with: a flame graph, as SVG.

    Prints also how much it does at once meanwhile. Needs py-spy (pip install py-spy), which looks from outside and
    hardly slows the worker.
    """
    settings = loaded(options).settings
    from imserver import profiling
    from imserver.store.datadir import DataDir

    run = DataDir(settings.data).read_run_file()
    pids = {worker.number: worker.pid for worker in run.workers} if run else {}
    if number not in pids:
        there_are = ", ".join(map(str, pids)) or "none"
        raise SetupError(f"no worker {number} runs on {settings.data}; there are: {there_are}")
    assert run is not None
    batches = profiling.Batches(run.admin, number)
    profiling.record(pids[number], seconds, out)
    for line in batches.since_made():
        click.echo(line)
    click.echo(out)


@main.command()
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
