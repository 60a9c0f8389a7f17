"""How often a password may be guessed, and an account be made.

A try is spent before the password is looked at and given back where it was right: so many at once are no way around it.
Who logs in by token is not counted, nor an address on this machine: behind a load balancer that does not say whom it
speaks for, that would be everybody.
"""

from ipaddress import IPv6Address, ip_address

from imserver.errors import ImError, RateLimited
from imserver.model import UserId
from imserver.session.context import Context
from imserver.session.session import Session
from imserver.store.tries import Allowance

_NETWORK_BITS = 64  # of IPv6 what one customer has


class Trials:
    def __init__(self, context: Context) -> None:
        self._context = context

    # -- passwords

    async def password(self, session: Session, user: UserId) -> list[Allowance]:
        """One try, which is to be given back if the password is right. Raises RateLimited."""
        settings = self._context.settings
        allowances = self._of_address(session, "", settings.wrong_passwords_per_address_hour)
        # The user's last: an address that has no tries left never holds a user's, not even for a moment.
        allowances.append(Allowance(user, settings.wrong_passwords_per_hour))
        spent: list[Allowance] = []
        try:
            for allowance in allowances:
                await self._spend(allowance, "too many wrong passwords; log in by token, or try later")
                spent.append(allowance)
        except ImError:
            self.give_back(spent)  # others are behind the same address
            raise
        return spent

    def give_back(self, spent: list[Allowance]) -> None:
        """The password was right, or was not looked at."""
        for allowance in spent:
            self._context.store.accounts.tries.forgive(allowance)

    # -- accounts

    async def registration(self, session: Session) -> None:
        """Raises RateLimited."""
        most = self._context.settings.registrations_per_address_hour
        for allowance in self._of_address(session, "+", most):
            await self._spend(allowance, "too many registrations from this address; try later")

    async def _spend(self, allowance: Allowance, text: str) -> None:
        wait = await self._context.store.accounts.tries.spend(allowance)
        if wait:
            raise RateLimited(text, round(wait, 3) + 0.001)

    def _of_address(self, session: Session, kind: str, most: int) -> list[Allowance]:
        host = session.channel.host
        return [Allowance(f"@{kind}{network_of(host)}", most)] if host else []


def network_of(host: str) -> str:
    """The address, or of IPv6 the network that one customer has."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> _NETWORK_BITS << _NETWORK_BITS))
