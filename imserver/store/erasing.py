"""The steps by which a user is erased: the same for a worker's links and for the admin commands. Pure.

The account goes last: whoever is interrupted finds its groups and contacts again, and each step can be repeated.

What others hold stays theirs: their copies of messages, the logs of groups, a ban, a block, a bot. A user of that name
who comes later is banned and blocked as this one was.
"""

from collections.abc import Generator
from typing import Any, NamedTuple

from imserver.errors import ImError
from imserver.model import Place, UserId
from imserver.protocol.contacts import SWITCHES, Event
from imserver.protocol.groups import RULES
from imserver.store import account_calls, circle_calls, group_calls, moderation_calls, name_calls
from imserver.store.calls import Packed
from imserver.store.group_calls import Change
from imserver.store.name_calls import names_key
from imserver.store.partitions import group_keys, user_keys
from imserver.store.stored import group_event
from imserver.store.tries import forget

DEPLOYMENT = ""


class Step(NamedTuple):
    """A command for the shard of a user or a group, or of what belongs to the deployment."""

    owner: str
    command: Packed


def _without_reports(pattern: str) -> Generator[Step, Any, None]:
    cursor = b"0"
    while True:
        page = yield Step(DEPLOYMENT, moderation_calls.reports_page(cursor, pattern))
        cursor, found = moderation_calls.reports(page)
        for report in found:
            yield Step(DEPLOYMENT, moderation_calls.close_report(report.by, report.user))
        if cursor == b"0":
            return


def erasing(user: UserId, now_ms: int, asking: Place | None = None) -> Generator[Step, Any, ImError | None]:
    """Wants the reply to each step sent to it; returns NotFound, or None. `asking`: this session is not told."""
    keys = user_keys(user)
    joined, invited = group_calls.groups_listed((yield Step(user, group_calls.listed(keys))))
    for group in (*joined, *invited):
        # As if by itself: where it owned the group, that goes to another member, or is closed.
        content = group_event(group, RULES["leave"].change, user=user, by=user)
        yield Step(group, group_calls.change(group_keys(group), Change("leave", user, user, content)))
    gone = str(SWITCHES[Event.REMOVE].mirrored())
    for other in circle_calls.related_users((yield Step(user, circle_calls.whole_roster(keys)))):
        other_keys = user_keys(other)
        known = circle_calls.standing_known((yield Step(other, circle_calls.standing(other_keys, user)))).record
        yield Step(other, circle_calls.relate(other_keys, user, gone, max(now_ms, known.stamp + 1)))
    for who in (user, moderation_calls.allowance_of_reports(user)):
        yield Step(who, forget(who))
    invite = yield Step(user, account_calls.invite_used_by(keys))
    if invite is not None:
        yield Step(invite.decode(), moderation_calls.forget_invited(invite.decode(), user))
    for pattern in (f"{user} *", f"* {user}"):
        yield from _without_reports(pattern)
    yield Step(names_key(user).owner, name_calls.unindex_name(user))
    return account_calls.found((yield Step(user, account_calls.erase(keys, asking))))
