"""`imclient`: the client for the terminal and for scripts."""

import json
import ssl
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import trio

from imclient import connecting
from imclient.address import Address, parse_url
from imclient.chat import Chat
from imclient.client import Client
from imclient.console import Pipe, Terminal, write_line
from imclient.events import OWN_LOG, Disconnected, Message, Truncated
from imclient.profile import Profile
from imclient.running import Connecting, ask_for_password, beside, run, until_signalled
from imclient.slots import claim
from imclient.text import Transcript
from imserver.errors import BadRequest, ImError
from imserver.model import START, parse_address, parse_position

TLS = ssl.SSLContext | None


class _Program(click.Group):
    def invoke(self, context: click.Context) -> Any:
        """Every error of ours is a sentence for a person, and exit status 1."""
        try:
            return super().invoke(context)
        except ImError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="imserver")
def main() -> None:
    """Send and receive instant messages.

    URL says who you are and where the server is: alice@localhost, tcp://alice@HOST:7400, tls://,
    ws://alice@HOST:7480/ws or wss://.

    The password is asked for, or taken from the variable IMCLIENT_PASSWORD; later a token stands for it, kept under
    $XDG_STATE_HOME/imclient (~/.local/state/imclient).
    """


def _address(context: click.Context, parameter: click.Parameter, url: str) -> Address:
    return parse_url(url)


def _tls(context: click.Context, parameter: click.Parameter, path: str | None) -> TLS:
    try:
        return ssl.create_default_context(cafile=path) if path else None
    except (OSError, ssl.SSLError) as error:
        raise BadRequest(f"--ca: {path} can't be used: {error}") from None


url = click.argument("address", metavar="URL", callback=_address)
device = click.option("--device", metavar="NAME", help="Be this device, not the first free one of this machine.")
store = click.option(
    "--store", "keeps", is_flag=True, help="Keep everything in a file, to read and write without the server as well."
)
ca = click.option("--ca", "tls", metavar="FILE", callback=_tls, help="Trust the certificates in FILE (tls, wss).")


# -- register


@main.command()
@url
@ca
@click.option("--password", envvar="IMCLIENT_PASSWORD", help="The password; other users of the machine may see it.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--code", help="An invitation, where the server wants one.")
def register(address: Address, tls: TLS, password: str | None, password_stdin: bool, code: str | None) -> None:
    """Make the account that URL names, where the server allows it."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    if password is None:
        password = ask_for_password(address, confirm=True)
    trio.run(partial(connecting.register, str(address), password, code=code, ssl_context=tls))
    click.echo(f"{address.user} is registered")
    with claim(address, "send") as profile:
        run(address, profile, tls, profile.farthest, _stay_logged_in, password=password)


async def _stay_logged_in(connecting: Connecting) -> None:
    """The profile keeps the token: the next command needs no password."""
    async with connecting:
        pass


# -- send


@main.command()
@url
@click.argument("to")
@click.argument("text", nargs=-1)
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait until the server has stored it.")
@device
@ca
def send(address: Address, to: str, text: tuple[str, ...], timeout: float, device: str | None, tls: TLS) -> None:
    """Send TEXT (without it: standard input) to a user or a #group; status 0 once the server has stored it."""
    body = " ".join(text) if text else sys.stdin.read().rstrip("\n")

    async def work(connecting: Connecting) -> None:
        with trio.move_on_after(timeout):
            async with connecting as me:
                return await beside(partial(_drain, me), partial(me.send, to, body))
        raise click.ClickException(f"no answer within {timeout:g} s: the message may have been sent, or not")

    with claim(address, "send", device) as profile:
        run(address, profile, tls, profile.farthest, work)


async def _drain(me: Client) -> None:
    """What comes is taken, so that the cursor moves on and the next run has less to receive."""
    async for _ in me.messages():
        pass


# -- tail


@main.command()
@url
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the fields of the protocol.")
@click.option("--count", type=click.IntRange(min=1), help="Leave after so many messages.")
@click.option("--since", metavar="POSITION", help="Start after this position, not where the last run ended.")
@device
@ca
def tail(address: Address, as_json: bool, count: int | None, since: str | None, device: str | None, tls: TLS) -> None:
    """Print messages as they come, until interrupted (status 0)."""

    async def work(connecting: Connecting) -> None:
        async with connecting as me:
            await _tail(me, _as_json if as_json else _as_text(me), count)

    start = {OWN_LOG: parse_position(since, "--since").decode()} if since else None
    with claim(address, "tail", device) as profile:
        run(address, profile, tls, start or _where_it_was(profile), partial(until_signalled, work))


async def _tail(me: Client, line_of: Callable[[Message], str], count: int | None) -> None:
    given = 0
    async for event in me.events(auto_ack=False):
        if isinstance(event, Message):
            await write_line(line_of(event))
            me.ack(event)
            given += 1
            if given == count:
                return
        elif isinstance(event, Disconnected) and event.retry_in > 0:
            click.echo(f"offline: {event.why}", err=True)
        elif isinstance(event, Truncated):
            click.echo(f"messages before {event.at} are not kept any more", err=True)


def _as_json(message: Message) -> str:
    fields = {
        "at": message.at,
        "from": message.sender,
        "device": message.device,
        "to": message.to,
        "id": message.id,
        "body": message.body,
    }
    return json.dumps({**fields, "log": message.log} if message.log else fields)  # ASCII: safe on every terminal


def _as_text(me: Client) -> Callable[[Message], str]:
    transcript = Transcript(me.user, me.device, colours=sys.stdout.isatty())
    return lambda message: transcript.line(message, None)


def _where_it_was(profile: Profile) -> dict[str, str]:
    """The reader's own cursors. One that is new to a used device begins at the beginning, not where others are."""
    return profile.cursors or ({OWN_LOG: START.decode()} if profile.farthest else {})


# -- chat


@main.command()
@url
@click.argument("partner", required=False)
@device
@store
@ca
def chat(address: Address, partner: str | None, device: str | None, keeps: bool, tls: TLS) -> None:
    """Talk: type to PARTNER (or to whom /to names) while messages appear above; /help shows more.

    In a pipe, each line of standard input is a message, and what comes is printed.
    """
    name = parse_address(partner, "PARTNER") if partner else None

    async def work(connecting: Connecting) -> None:
        async with connecting as me:
            await _chat(me, name)

    with claim(address, "chat", device) as profile:
        kept = profile.store if keeps else None
        run(address, profile, tls, _where_it_was(profile), partial(until_signalled, work), store=kept)


async def _chat(me: Client, partner: str | None) -> None:
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    transcript = Transcript(me.user, me.device, colours=is_terminal)
    with Terminal() if is_terminal else Pipe() as console:
        talk = Chat(me, console, transcript, partner)
        await beside(talk.listen, talk.talk)
    if me.has_store and me.unsent:
        click.echo(f"messages that are sent next time: {me.unsent}", err=True)
    elif talk.unsent:
        raise click.ClickException(f"messages that were not sent: {talk.unsent}")
    if talk.has_failed and not is_terminal:
        raise click.exceptions.Exit(1)
