"""What an operator does about registrations and reports: `imserver invite`, `imserver reports`."""

import secrets
import time
from collections.abc import Iterator

from imserver.admin import Admin
from imserver.errors import NotFound
from imserver.model import parse_user
from imserver.store import moderation_calls
from imserver.store.moderation_calls import Invite, Report
from imserver.store.partitions import user_keys

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # that nobody takes for one another
_GROUPS = 4  # of four letters: 79 bits
DAY_SECONDS = 86_400


def create_invite(admin: Admin, uses: int, days: int) -> Invite:
    code = "-".join("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(_GROUPS))
    until = int(time.time()) + days * DAY_SECONDS
    admin.ask(user_keys(code), moderation_calls.make_invite(code, uses, until))
    return Invite(code, uses, 0, until)


def invites(admin: Admin) -> Iterator[Invite]:
    """Those that are not over, in no order: a walk over all keys of the store."""
    for key in admin.scan("{???}j:*"):
        code = key.decode().partition("}j:")[2]
        found = moderation_calls.invite(code, admin.ask(user_keys(code), moderation_calls.invite_of(code))[0])
        if found is not None:
            yield found


def revoke_invite(admin: Admin, code: str) -> None:
    """Whoever came in by it stays. Raises NotFound."""
    if not admin.delete(user_keys(code), moderation_calls.invite_key(code)):
        raise NotFound(f"there is no invitation {code}")


def reports(admin: Admin) -> list[Report]:
    """The open ones, oldest first."""
    found: list[Report] = []
    cursor = b"0"
    while True:
        cursor, page = moderation_calls.reports(admin.ask_deployment(moderation_calls.reports_page(cursor)))
        found += page
        if cursor == b"0":
            return sorted(set_of(found), key=lambda report: (report.time, report.by, report.user))


def set_of(found: list[Report]) -> list[Report]:
    """Each once: a walk may give one twice."""
    return list({(report.by, report.user): report for report in found}.values())


def close_report(admin: Admin, by: str, user: str) -> None:
    """Raises NotFound."""
    error = moderation_calls.closed(
        admin.ask_deployment(moderation_calls.close_report(parse_user(by), parse_user(user)))
    )
    if error is not None:
        raise error
