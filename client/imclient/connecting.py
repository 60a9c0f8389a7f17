"""How a program becomes a client, on trio or on asyncio: whichever it runs on.

    async with imclient.connect("tcp://alice@127.0.0.1:7400", password="...") as me:
        await me.send("bob", "hi")
        async for message in me.messages():
            print(message.sender, message.body)

It comes back by itself when the connection is lost, resumes where it was, and repeats what was not answered.
"""

import logging
import random
import re
import secrets
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from imclient.address import Address, parse_url
from imclient.client import Client
from imclient.core import Replica
from imclient.errors import ConnectionLost, error_of
from imclient.events import OWN_LOG
from imclient.file import Saved, open_file
from imclient.keepalive import LOGIN_SECONDS
from imclient.keeping import Keeper
from imclient.outbox import Outbox
from imclient.profile import Profile, machine_name
from imclient.reader import Reader
from imclient.stages import Identity
from imclient.wire import Dial, Wire, dialler, open_wire
from imserver.errors import BadRequest, SetupError
from imserver.model import parse_device
from imserver.protocol import codec
from imserver.protocol.commands import Register
from imserver.protocol.pushes import Bye, Failure, Reply

SAVE_SECONDS = 1.0

_log = logging.getLogger("imclient")


@asynccontextmanager
async def connect(  # noqa: PLR0913 - a name for each thing that may be otherwise; all but one may be left out
    url: str,
    *,
    password: str | None = None,
    token: str | None = None,
    device: str | None = None,
    since: str | dict[str, str] | None = None,
    profile: Profile | None = None,
    ssl_context: ssl.SSLContext | None = None,
    dial: Dial | None = None,
    store: str | Path | None = None,
) -> AsyncIterator[Client]:
    """A logged-in client, for as long as the block lasts. Then it acknowledges, logs out and closes, in at most 3 s.

    `url`: see `imclient.address`. `password` or `token`: both may be given; the password serves where the token is
    not accepted. `device`: one name for each place where the user is at the same time, since a second login of a device
    ends the first; the default is made of the machine's and the program's name. `since`: the position after which to
    receive, or an object of log and position (`Client.cursors`); the default is what the server has stored for the
    device. `profile`: remembers device, token and cursors for the next time. `dial`: opens the stream (of anyio), for
    proxies.

    `store`: the file of the account, in which everything is kept (see docs/client.md): then `device`, `since` and token
    are remembered there, and from the second time on the block begins at once, whether the server is there or not.

    A connection that is lost later is made again by itself: at once where a message is missing, when the server has
    said when, else after a random time between 0 s and a bound that grows from 1 s to 30 s.

    Raises ConnectionLost where the server can't be reached the first time; BadCredentials and other errors with which
    it refuses the login; BadRequest for an argument that can't be right; SetupError for a store that can't be used.
    """
    address = parse_url(url)
    async with _opened(store, address) as keeper:
        saved = None if keeper is None else keeper.saved
        identity = _identity(address, password, token, device, profile, saved)
        replica = _replica(identity, _cursors(since, profile, saved), keeper)
        client = Client(replica, partial(open_wire, address, dial or dialler(ssl_context)), keeper)
        async with _running(client, replica, profile):
            yield client


@asynccontextmanager
async def _opened(store: str | Path | None, address: Address) -> AsyncIterator[Keeper | None]:
    if store is None:
        yield None
        return
    keeper = Keeper(*await anyio.to_thread.run_sync(open_file, Path(store), f"{address.user}@{address.place}"))
    try:
        yield keeper
    finally:
        await keeper.aclose()


def _replica(identity: Identity, cursors: dict[str, str], keeper: Keeper | None) -> Replica:
    journal = None if keeper is None else keeper.journal
    reader, outbox = Reader(cursors, journal=journal), Outbox(secrets.token_hex(8), journal)
    replica = Replica(identity, reader, outbox, random.random, journal)
    if keeper is not None:
        keeper.restore(reader, outbox)
        replica.has_entered = keeper.saved.token is not None
    return replica


@asynccontextmanager
async def _running(client: Client, replica: Replica, profile: Profile | None) -> AsyncIterator[None]:
    error: BaseException | None = None
    # Where the application is cancelled, by Ctrl-C or a time limit, the last words are said all the same.
    until_left = anyio.CancelScope(shield=True)

    async def run() -> None:
        with until_left:
            await client.run()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        try:
            await client.wait_entered()
            if profile is not None:
                tasks.start_soon(_remember, client, profile)
            yield
        except (Exception, KeyboardInterrupt) as raised:
            error = raised  # raised again outside the task group, which would wrap it in a group
        finally:
            try:
                await client.leave()
            finally:
                until_left.cancel()
                tasks.cancel_scope.cancel()
    if profile is not None and replica.has_entered:
        _note(client, profile)
        _save(profile)
    if error is not None:
        raise error


def _identity(
    address: Address,
    password: str | None,
    token: str | None,
    device: str | None,
    profile: Profile | None,
    saved: Saved | None,
) -> Identity:
    if profile is not None:
        device, token = device or profile.device, token or profile.token
    if saved is not None:
        device, token = device or saved.device, token or saved.token
    if saved is not None and saved.device is not None and saved.device != device:
        # Its messages would be sent again as another device's.
        raise BadRequest(f"device: the store is that of the device {saved.device}, not of {device}")
    return Identity(user=address.user, device=parse_device(device or _default_device()), password=password, token=token)


def _default_device() -> str:
    """The same at every run, so that the server's cursor for it goes on; another for every program of the machine."""
    program = re.sub(r"[^A-Za-z0-9_-]", "", Path(sys.argv[0]).stem)[:20]
    return f"{machine_name()}-{program or 'python'}"


def _cursors(since: str | dict[str, str] | None, profile: Profile | None, saved: Saved | None) -> dict[str, str]:
    if since is None:
        known = saved or profile
        return dict(known.cursors) if known is not None else {}
    return dict(since) if isinstance(since, dict) else {OWN_LOG: since}


# -- remembering


async def _remember(client: Client, profile: Profile) -> None:
    """Saves what has changed, at most once a second."""
    while True:
        if _note(client, profile):
            await anyio.to_thread.run_sync(_save, profile)
            await anyio.sleep(SAVE_SECONDS)
        else:
            await client.wait_changed()


def _note(client: Client, profile: Profile) -> bool:
    before = profile.token, profile.cursors
    profile.update(client.token, client.cursors)
    return before != (profile.token, profile.cursors)


def _save(profile: Profile) -> None:
    """A conversation goes on even if the disk is full: the server knows the cursor, and a person the password."""
    try:
        profile.save()
    except SetupError as error:
        _log.warning("%s", error)


# -- registering


async def register(
    url: str,
    password: str,
    *,
    code: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    dial: Dial | None = None,
) -> None:
    """Makes the account that `url` names; with an invitation's `code`, where that is needed.

    Raises Exists, NotAllowed where registration is closed, BadRequest, RateLimited, Unavailable, ConnectionLost.
    """
    address = parse_url(url)
    wire = await open_wire(address, dial or dialler(ssl_context))
    try:
        with anyio.move_on_after(LOGIN_SECONDS):
            return await _ask_to_register(wire, Register(ref=1, user=address.user, password=password, code=code))
        raise ConnectionLost(f"{address.place} does not answer")
    finally:
        await wire.aclose()


async def _ask_to_register(wire: Wire, command: Register) -> None:
    await wire.send([codec.encode_command(command)])
    while True:
        for frame in await wire.receive():
            said = codec.decode_server_frame(frame)
            if isinstance(said, Bye):
                raise ConnectionLost(f"the server said goodbye: {said.text or said.code}")
            if isinstance(said, Reply) and said.re == command.ref:
                if isinstance(said.err, Failure):
                    raise error_of(said.err)
                return
