"""Which rule answers which command; the rest of a command's row is in `protocol.commands`."""

from imserver.protocol import commands
from imserver.routing.accounts import Accounts
from imserver.routing.amendments import Amendments, amendment_handlers
from imserver.routing.contacts import ContactLists
from imserver.routing.conversations import ConversationLists, conversation_handlers
from imserver.routing.groups import Groups, group_handlers
from imserver.routing.history import Histories
from imserver.routing.later import Later, later_handlers
from imserver.routing.marks import Marks
from imserver.routing.messages import Messages
from imserver.routing.own_account import OwnAccount, own_account_handlers
from imserver.routing.presence import Presence
from imserver.routing.reports import Reports, report_handlers
from imserver.routing.search import Search, search_handlers
from imserver.session.context import Context, Handlers


def handlers(
    context: Context, accounts: Accounts, messages: Messages, presence: Presence, marks: Marks, later: Later
) -> Handlers:
    contacts, histories = ContactLists(context, presence), Histories(context)
    return {
        commands.Register: accounts.register,
        commands.Login: accounts.login,
        commands.Logout: accounts.logout,
        commands.Send: messages.send,
        commands.Resend: messages.resend,
        commands.Ack: messages.ack,
        commands.History: histories.history,
        commands.ContactAdd: contacts.add,
        commands.ContactAccept: contacts.accept,
        commands.ContactDecline: contacts.decline,
        commands.ContactRemove: contacts.remove,
        commands.ContactSet: contacts.set,
        commands.Contacts: contacts.contacts,
        commands.Block: contacts.block,
        commands.Unblock: contacts.unblock,
        commands.Blocked: contacts.blocked,
        commands.Privacy: contacts.privacy,
        commands.SetPresence: presence.show,
        commands.Typing: presence.typing.say,
        **group_handlers(Groups(context)),
        **amendment_handlers(Amendments(context, messages)),
        **later_handlers(later),
        **conversation_handlers(marks, ConversationLists(context)),
        **report_handlers(Reports(context)),
        **search_handlers(Search(context)),
        **own_account_handlers(OwnAccount(context, accounts.passwords, accounts.trials)),
        commands.Ping: messages.ping,
    }
