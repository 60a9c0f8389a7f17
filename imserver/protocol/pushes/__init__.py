"""What the server says: the contents of replies, and pushes. A receiver ignores fields and events it does not know."""

from imserver.protocol.pushes.account import (
    Device,
    DeviceList,
    LogPage,
    ProfileList,
    ProfileShown,
    ProfileVersion,
)
from imserver.protocol.pushes.amendments import Amended, DeletePush, EditPush, ReactionPush, RemovedPush
from imserver.protocol.pushes.base import (
    EMPTY,
    Empty,
    ErrorPush,
    Failure,
    Push,
    Reply,
    Shared,
    UnknownPush,
)
from imserver.protocol.pushes.contacts import (
    BlockedList,
    Contact,
    ContactPush,
    ContactsPage,
    FoundUser,
    FoundUsers,
    PresencePush,
    PrivacySettings,
)
from imserver.protocol.pushes.conversations import (
    Arrangement,
    Conversation,
    ConversationPush,
    ConversationsChanged,
    ConversationsPage,
    DeliveredPush,
    Mark,
    ReadPush,
)
from imserver.protocol.pushes.entering import (
    Bye,
    PingPush,
    Regressed,
    ResendPush,
    Synced,
    Truncated,
    Welcome,
)
from imserver.protocol.pushes.groups import (
    GroupDetails,
    GroupList,
    GroupListed,
    GroupPush,
    Invitation,
    Member,
    MemberPage,
    NewGroup,
)
from imserver.protocol.pushes.later import ScheduledAt, ScheduledList, ScheduledMessage
from imserver.protocol.pushes.messages import (
    MessagePush,
    Page,
    Sent,
    TypingPush,
)

__all__ = [
    "EMPTY",
    "Amended",
    "AnyPush",
    "Arrangement",
    "BlockedList",
    "Bye",
    "Contact",
    "ContactPush",
    "ContactsPage",
    "Conversation",
    "ConversationPush",
    "ConversationsChanged",
    "ConversationsPage",
    "DeletePush",
    "DeliveredPush",
    "Device",
    "DeviceList",
    "EditPush",
    "Empty",
    "ErrorPush",
    "Failure",
    "FoundUser",
    "FoundUsers",
    "GroupDetails",
    "GroupList",
    "GroupListed",
    "GroupPush",
    "Invitation",
    "LogPage",
    "Mark",
    "Member",
    "MemberPage",
    "MessagePush",
    "NewGroup",
    "Page",
    "PingPush",
    "PresencePush",
    "PrivacySettings",
    "ProfileList",
    "ProfileShown",
    "ProfileVersion",
    "Push",
    "ReactionPush",
    "ReadPush",
    "Regressed",
    "RemovedPush",
    "Reply",
    "ResendPush",
    "ScheduledAt",
    "ScheduledList",
    "ScheduledMessage",
    "Sent",
    "Shared",
    "Synced",
    "Truncated",
    "TypingPush",
    "UnknownPush",
    "Welcome",
]

AnyPush = (
    MessagePush
    | EditPush
    | DeletePush
    | ReactionPush
    | RemovedPush
    | GroupPush
    | ContactPush
    | PresencePush
    | TypingPush
    | ReadPush
    | DeliveredPush
    | ConversationPush
    | ConversationsChanged
    | Synced
    | Truncated
    | Regressed
    | ResendPush
    | PingPush
    | ErrorPush
    | Bye
)
