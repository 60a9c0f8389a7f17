"""Before logins are measured: everybody becomes a member of some groups, by the client library, and has read them."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from imclient import Synced, connect

from imserver.errors import ImError
from imswarm.accounts import AccountsError
from imswarm.connection import Address
from imswarm.population import Account

_AT_ONCE = 16


def join_groups(target: Address, accounts: Sequence[Account], count: int) -> None:
    """All of them are members of the same `count` groups, which the first one makes, and have seen who else came.

    Raises AccountsError.
    """
    try:
        trio.run(_join_groups, target, accounts, count)
    except* ImError as group:
        raise AccountsError(f"groups cannot be joined: {group.exceptions[0]}") from group


async def _join_groups(target: Address, accounts: Sequence[Account], count: int) -> None:
    founder, *others = accounts
    async with connect(_url(target, founder), token=founder.token, device=founder.device) as client:
        groups = [await client.groups.create("swarm", open=True) for _ in range(count)]
    limit = trio.CapacityLimiter(_AT_ONCE)

    async def join(account: Account) -> None:
        async with limit, connect(_url(target, account), token=account.token, device=account.device) as client:
            for group in groups:
                await client.groups.join(group)

    async def read(account: Account) -> None:
        async with limit, connect(_url(target, account), token=account.token, device=account.device) as client:
            async for event in client.events():  # each is acknowledged when the next one is taken
                if isinstance(event, Synced):
                    break

    async with trio.open_nursery() as nursery:
        for account in others:
            nursery.start_soon(join, account)
    async with trio.open_nursery() as nursery:
        for account in accounts:
            nursery.start_soon(read, account)


def _url(target: Address, account: Account) -> str:
    return f"tcp://{account.user}@{target}"
