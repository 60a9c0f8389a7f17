"""What the commands of the program have in common: logging in, signals, several tasks."""

import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import click
import trio

from imclient.address import Address
from imclient.client import Client
from imclient.connecting import connect
from imclient.profile import Profile
from imserver.errors import BadCredentials, BadRequest, ExpiredToken

Connecting = AbstractAsyncContextManager[Client]
Work = Callable[[Connecting], Awaitable[None]]


def run(
    address: Address,
    profile: Profile,
    tls: ssl.SSLContext | None,
    since: dict[str, str],
    work: Work,
    *,
    password: str | None = None,
    store: Path | None = None,
) -> None:
    """Does `work` with a connection: by the token, or the password where there is none or it is not accepted.

    A `store` that is there already knows better than `since`.
    """
    start = None if store is not None and store.exists() else since
    password = password or _password_at_hand()
    if password is None and profile.token is None:
        password = ask_for_password(address)
    while True:
        connecting = connect(
            str(address), password=password, profile=profile, since=start, ssl_context=tls, store=store
        )
        try:
            return _run(work, connecting)
        except (BadCredentials, ExpiredToken):
            if password is not None:
                raise
            password = ask_for_password(address)


def _run(work: Work, connecting: Connecting) -> None:
    """Where one of several tasks dies the others are cancelled: its error is the one to show."""
    try:
        trio.run(work, connecting)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def beside(companion: Callable[[], Awaitable[Any]], work: Callable[[], Awaitable[Any]]) -> None:
    """Does `work`, with `companion` running as long."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(companion)
        await work()
        nursery.cancel_scope.cancel()


async def until_signalled(work: Work, connecting: Connecting) -> None:
    """Does `work` until it is done, or SIGINT or SIGTERM ends it, which is no error."""

    async def watch() -> None:
        with trio.open_signal_receiver(SIGINT, SIGTERM) as signals:
            async for _ in signals:
                return nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await work(connecting)
        nursery.cancel_scope.cancel()


def _password_at_hand() -> str | None:
    return os.environ.get("IMCLIENT_PASSWORD") or None


def ask_for_password(address: Address, *, confirm: bool = False) -> str:
    """Raises BadRequest where nobody is there to be asked."""
    if not sys.stdin.isatty():
        raise BadRequest(f"a password for {address.user} is needed: set IMCLIENT_PASSWORD")
    password: str = click.prompt(f"Password of {address.user}", hide_input=True, confirmation_prompt=confirm, err=True)
    return password
