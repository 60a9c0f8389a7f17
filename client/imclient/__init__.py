"""imclient: the client of imserver, as a library for trio and asyncio and as a program for the terminal.

The path of a message that is sent:

    client.Client.send          what the application calls, and waits for (`inbox`)
    core.Replica                what the protocol makes of it; sans-IO, with
        outbox, confirming      the messages without an answer, and the answers
        entries, reader, cursor what has been received, what is missing, what is acknowledged
        keepalive               whether the server is still there
    keeping.Keeper              where there is a store: what the application hears is in its `file` (`journal`)
    courier.Courier             the connections, one after the other; `backoff` between them
    wire.Wire                   bytes and frames, over TCP, TLS or WebSocket (`handshake`)

Around it: `address` (URLs), `events`, `amendments` and `errors` (what an application gets), `said` (pushes made
events), `answers`, `thread` (messages with their amendments), `people` (contacts and presence), `groups`, `account`,
`later` (messages that wait), `conversations` (marks, unread messages), `profile` (what is remembered on disk),
`connecting` (`connect` and `register`), and the program: `cli`, `running`, `chat`, `chat_amendments`, `chat_people`,
`chat_groups`, `chat_marks`, `chat_conversations`, `chat_later`, `console`, `text`, `slots`.

The rule of imports: address, amendments, answers, backoff, confirming, conversations, core, cursor, entries, errors,
events, handshake, journal, keepalive, outbox, people, reader, said, stages and thread import neither anyio nor sockets;
nothing imports the server but `imserver.protocol`, `imserver.model` and `imserver.errors`.
"""

from imclient.account import Account
from imclient.amendments import Deleted, Edited, Reacted
from imclient.client import Client
from imclient.connecting import connect, register
from imclient.conversations import Conversation, Conversations
from imclient.errors import ConnectionLost, SessionEnded
from imclient.events import (
    Arranged,
    Contact,
    ConversationsOutdated,
    Delivered,
    Disconnected,
    GroupChanged,
    Message,
    Notice,
    Page,
    Presence,
    Read,
    Regressed,
    SendFailed,
    Sent,
    Synced,
    Truncated,
    Typing,
    Welcomed,
)
from imclient.file import LocalConversation
from imclient.groups import Groups
from imclient.inbox import Inbox
from imclient.keeping import Local
from imclient.later import Later, Waiting
from imclient.people import People
from imclient.profile import Profile
from imclient.stages import State
from imclient.thread import Line, Thread
from imserver.errors import (
    BadCredentials,
    BadRequest,
    Blocked,
    Conflict,
    Exists,
    ExpiredToken,
    ImError,
    NotAllowed,
    NotFound,
    Overloaded,
    RateLimited,
    RequestError,
    ServiceError,
    SetupError,
    TooLarge,
    Unavailable,
)
from imserver.protocol.extras import Attachment, Encrypted, Location, Reference
from imserver.protocol.pushes import Device, FoundUser, FoundUsers, ProfileList, ProfileShown

__all__ = [
    "Account",
    "Arranged",
    "Attachment",
    "BadCredentials",
    "BadRequest",
    "Blocked",
    "Client",
    "Conflict",
    "ConnectionLost",
    "Contact",
    "Conversation",
    "Conversations",
    "ConversationsOutdated",
    "Deleted",
    "Delivered",
    "Device",
    "Disconnected",
    "Edited",
    "Encrypted",
    "Exists",
    "ExpiredToken",
    "FoundUser",
    "FoundUsers",
    "GroupChanged",
    "Groups",
    "ImError",
    "Inbox",
    "Later",
    "Line",
    "Local",
    "LocalConversation",
    "Location",
    "Message",
    "NotAllowed",
    "NotFound",
    "Notice",
    "Overloaded",
    "Page",
    "People",
    "Presence",
    "Profile",
    "ProfileList",
    "ProfileShown",
    "RateLimited",
    "Reacted",
    "Read",
    "Reference",
    "Regressed",
    "RequestError",
    "SendFailed",
    "Sent",
    "ServiceError",
    "SessionEnded",
    "SetupError",
    "State",
    "Synced",
    "Thread",
    "TooLarge",
    "Truncated",
    "Typing",
    "Unavailable",
    "Waiting",
    "Welcomed",
    "connect",
    "register",
]
