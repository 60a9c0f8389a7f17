"""What the server pushes, as events of the library. Pure."""

from imclient.events import (
    OWN_LOG,
    Arranged,
    Contact,
    ConversationsOutdated,
    Delivered,
    Marks,
    Message,
    Presence,
    Read,
    Typing,
)
from imserver.protocol.pushes import (
    ContactPush,
    ConversationPush,
    ConversationsChanged,
    DeliveredPush,
    MessagePush,
    PresencePush,
    ReadPush,
    TypingPush,
)

MarkPush = ReadPush | DeliveredPush | ConversationPush | ConversationsChanged


def message_of(push: MessagePush) -> Message:
    return Message(
        at=push.at,
        sender=push.sender,
        device=push.device,
        to=push.to,
        id=push.id,
        body=push.body,
        log=push.log or OWN_LOG,
        prev=push.prev,
        bot=push.bot,
        reply=push.reply,
        forwarded=push.forwarded,
        attachment=push.attachment,
        location=push.location,
        encrypted=push.encrypted,
        mentions=push.mentions,
        expires=push.expires,
        scheduled=push.scheduled,
    )


def contact_of(push: ContactPush) -> Contact:
    return Contact(
        user=push.user,
        state=push.state,
        blocked=push.blocked,
        quiet=push.quiet,
        note=push.note,
        name=push.name,
        groups=push.groups,
        at=push.at,
    )


def presence_of(push: PresencePush | TypingPush) -> Presence | Typing:
    if isinstance(push, TypingPush):
        return Typing(push.sender, push.to, push.on)
    return Presence(push.user, push.show, push.status, push.since)


def marks_of(push: MarkPush) -> Marks:
    match push:
        case ReadPush():
            return Read(by=push.by, partner=push.partner, upto=push.upto, device=push.device, id=push.id)
        case DeliveredPush():
            return Delivered(by=push.by, upto=push.upto, device=push.device, id=push.id)
        case ConversationPush():
            return Arranged(partner=push.partner, muted=push.muted, pinned=push.pinned, archived=push.archived)
        case ConversationsChanged():
            return ConversationsOutdated()
