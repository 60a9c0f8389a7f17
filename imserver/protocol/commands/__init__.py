"""What a client may ask.

A new command is one schema and one row in its area's module, and a handler in `routing.table`.
"""

from imserver.protocol.commands import (
    account,
    amendments,
    contacts,
    conversations,
    entering,
    groups,
    later,
    messages,
    moderation,
)
from imserver.protocol.commands.account import (
    AccountDelete,
    DeviceRevoke,
    Devices,
    DeviceSet,
    Export,
    Password,
    Profile,
    Profiles,
    ProfileSet,
)
from imserver.protocol.commands.amendments import Delete, Edit, React
from imserver.protocol.commands.base import Command, Name, Note, PageLimit, PositionText, Row
from imserver.protocol.commands.contacts import (
    Block,
    Blocked,
    ContactAccept,
    ContactAdd,
    ContactDecline,
    ContactRemove,
    Contacts,
    ContactSet,
    Privacy,
    Search,
    SetPresence,
    Unblock,
)
from imserver.protocol.commands.conversations import (
    Conversations,
    ConversationSet,
    Read,
)
from imserver.protocol.commands.entering import (
    Login,
    Logout,
    Ping,
    Register,
)
from imserver.protocol.commands.groups import (
    GroupBan,
    GroupCreate,
    GroupInfo,
    GroupInvite,
    GroupJoin,
    GroupKick,
    GroupLeave,
    GroupMembers,
    GroupRole,
    GroupSet,
    GroupsList,
    GroupUnban,
)
from imserver.protocol.commands.later import Schedule, Scheduled, Unschedule
from imserver.protocol.commands.messages import (
    Ack,
    History,
    Resend,
    Send,
    Typing,
)
from imserver.protocol.commands.moderation import Report, ReportedMessage
from imserver.protocol.pushes.base import Ref

__all__ = [
    "COMMANDS",
    "AccountDelete",
    "Ack",
    "Block",
    "Blocked",
    "Command",
    "ContactAccept",
    "ContactAdd",
    "ContactDecline",
    "ContactRemove",
    "ContactSet",
    "Contacts",
    "ConversationSet",
    "Conversations",
    "Delete",
    "DeviceRevoke",
    "DeviceSet",
    "Devices",
    "Edit",
    "Export",
    "GroupBan",
    "GroupCreate",
    "GroupInfo",
    "GroupInvite",
    "GroupJoin",
    "GroupKick",
    "GroupLeave",
    "GroupMembers",
    "GroupRole",
    "GroupSet",
    "GroupUnban",
    "GroupsList",
    "History",
    "Login",
    "Logout",
    "Name",
    "Note",
    "PageLimit",
    "Password",
    "Ping",
    "PositionText",
    "Privacy",
    "Profile",
    "ProfileSet",
    "Profiles",
    "React",
    "Read",
    "Ref",
    "Register",
    "Report",
    "ReportedMessage",
    "Resend",
    "Row",
    "Schedule",
    "Scheduled",
    "Search",
    "Send",
    "SetPresence",
    "Typing",
    "Unblock",
    "Unschedule",
]

AREAS = (entering, messages, amendments, later, conversations, contacts, groups, account, moderation)
COMMANDS: dict[type[Command], Row] = {row.schema: row for area in AREAS for row in area.ROWS}
