"""Reports of users, for the administrators."""

import time

from imserver.errors import BadRequest, NotFound, RateLimited
from imserver.model import parse_group, parse_position, parse_user
from imserver.protocol import commands
from imserver.protocol.pushes import EMPTY
from imserver.session.context import Context, Handlers
from imserver.session.session import Session
from imserver.store.moderation_calls import MessageRef, Report, allowance_of_reports
from imserver.store.tries import Allowance


class Reports:
    """Handler of `report`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def report(self, session: Session, command: commands.Report) -> None:
        user, settings, accounts = parse_user(command.user), self._context.settings, self._context.store.accounts
        if user == session.user:
            raise BadRequest("user: that is you")
        refs = [
            MessageRef(parse_position(ref.at, "messages").decode(), None if ref.log is None else parse_group(ref.log))
            for ref in command.messages
        ]
        wait = await accounts.tries.spend(Allowance(allowance_of_reports(session.user), settings.reports_per_hour))
        if wait:
            raise RateLimited("too many reports in this hour", round(wait, 3) + 0.001)
        if await accounts.password_hash(user) is None:
            raise NotFound(f"user: there is no user {user}")
        what = Report(session.user, user, int(time.time()), command.reason, refs)
        await accounts.moderation.report(what, settings.reports_max)
        session.reply(command.ref, EMPTY)


def report_handlers(reports: Reports) -> Handlers:
    """Which rule answers a report."""
    return {commands.Report: reports.report}
