"""The groups of a run: of every eight users five are members all the time, and three come and go."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from imclient import connect

from imserver.errors import ImError
from imswarm.accounts import AccountsError, make_devices
from imswarm.connection import Address
from imswarm.faults.plan import Role

_SIZE, _WANDERERS = 8, 3


class TalkGroups:
    """`founders`: by group the members it has from the beginning on, its owner first; `roles`: by user."""

    def __init__(self, run_id: str, users: Sequence[str]) -> None:
        self.founders: dict[str, tuple[str, ...]] = {}
        self.roles: dict[str, Role] = {}
        count = max(1, len(users) // _SIZE)
        for number in range(count):
            self._add(f"#g{number}-{run_id}", tuple(users[number::count]))

    def _add(self, group: str, users: tuple[str, ...]) -> None:
        size = max(len(users) - _WANDERERS, min(2, len(users)))
        self.founders[group], wanderers = users[:size], users[size:]
        self.roles.update({user: Role(group) for user in users[1:size]})
        self.roles.update({user: Role(group, wanders=True) for user in wanderers})
        self.roles[users[0]] = Role(group, kicks=wanderers)

    def make(self, redis_url: str, server: Address) -> None:
        """By a device of each owner that is not among those that are judged. Raises AccountsError."""
        owners = [owner for owner, *_ in self.founders.values()]
        accounts = make_devices(redis_url, [(owner, "founder") for owner in owners])
        tokens = {account.user: account.token for account in accounts}
        try:
            trio.run(self._make, server, tokens)
        except ImError as error:
            raise AccountsError(f"groups cannot be made: {error}") from error

    async def _make(self, server: Address, tokens: dict[str, str]) -> None:
        for group, (owner, *others) in self.founders.items():
            async with connect(f"tcp://{owner}@{server}", token=tokens[owner], device="founder") as client:
                await client.groups.create(group, group=group, members=others, open=True)
