"""Who talks to whom: users, their devices, the tokens they log in with. Who talk are contacts, or in one group."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from itertools import cycle

from imswarm.accounts import log_ends, make_and_delete, make_contacts, make_devices
from imswarm.connection import Address
from imswarm.faults.groups import TalkGroups
from imswarm.faults.plan import Seat
from imswarm.faults.victim import Victim
from imswarm.history import Device

_EXTRAS = 20
_PROBE_USERS, _PROBE_DEVICES = 20, 20
_HOPELESS_EVERY = 20
"""Two of 20 devices also write to somebody who never was, or is no more: a message in 31 is refused for good."""
_SCHEMES = ("tcp", "ws")


class Talk:
    """The names are new in every run, since a history begins with the user's first entry."""

    def __init__(self, victim: Victim, users: int, devices: int) -> None:
        """Makes the accounts. Raises DeploymentError and AccountsError."""
        run_id = secrets.token_hex(3)
        # The number first: names that differ only at the end lie in partitions side by side, and so on one shard.
        self.users = [f"f{number}-{run_id}" for number in range(users)]
        self._names = [f"d{number}" for number in range(devices)]
        talking = [Device(user, name) for user in self.users for name in self._names]
        extras = [Device(self.users[number % users], f"extra{number}") for number in range(_EXTRAS)]
        run = victim.run
        probes = [Device(f"p{n % _PROBE_USERS}-{run_id}", f"p{n}") for n in range(_PROBE_USERS * _PROBE_DEVICES)]
        self._hopeless = (f"nobody-{run_id}", f"deleted-{run_id}")
        make_and_delete(run["redis"], self._hopeless[1])
        accounts = make_devices(run["redis"], [*talking, *extras, *probes])
        tokens = {Device(account.user, account.device): account.token for account in accounts}
        self.extras: Iterator[tuple[str, str]] = cycle((tokens[extra], extra.name) for extra in extras)
        self.probes = [(tokens[probe], probe.name) for probe in probes]
        self.contacts = {user: self._contacts(number) for number, user in enumerate(self.users)}
        make_contacts(run["redis"], {_pair(one, two) for one in self.users for two in self.contacts[one]})
        self.groups = TalkGroups(run_id, self.users)
        self.groups.make(run["redis"], Address(*run["tcp"]))
        self._since = log_ends(run["redis"], self.users)
        addresses = (Address(*run["tcp"]), Address(*run["http"]))
        self.seats = [self._seat(number, device, tokens[device], addresses) for number, device in enumerate(talking)]

    def _seat(self, number: int, device: Device, token: str, addresses: Sequence[Address]) -> Seat:
        scheme, address = tuple(zip(_SCHEMES, addresses, strict=True))[number % len(_SCHEMES)]
        url = f"{scheme}://{device.user}@{address}"
        hopeless = self._hopeless[number % 2 : number % 2 + 1] if number % _HOPELESS_EVERY < 2 else ()
        return Seat(
            device,
            url,
            token,
            since=self._since[device.user],
            contacts=self.contacts[device.user],
            role=self.groups.roles[device.user],
            is_active=device.name == self._names[0],
            hopeless=tuple(hopeless),
        )

    def _contacts(self, user: int) -> tuple[str, ...]:
        """Both neighbours and the user opposite, who all write back."""
        size = len(self.users)
        contacts = {(user + step) % size for step in (1, -1, size // 2)} - {user}
        return tuple(self.users[contact] for contact in sorted(contacts))

    def marks(self) -> tuple[tuple[Device, str], ...]:
        """To every user, from a device of another one; to every group, from its owner."""
        first = self._names[0]
        to_users = [(Device(user, first), self.users[number - 1]) for number, user in enumerate(self.users)]
        return (*to_users, *((Device(owner, first), group) for group, (owner, *_) in self.groups.founders.items()))


def _pair(one: str, other: str) -> tuple[str, str]:
    return min(one, other), max(one, other)
