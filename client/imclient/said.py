"""What the server pushes, as events of the library. Pure."""

from imclient.events import OWN_LOG, Contact, Message, Presence, Typing
from imserver.protocol.pushes import ContactPush, MessagePush, PresencePush, TypingPush


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
    )


def presence_of(push: PresencePush | TypingPush) -> Presence | Typing:
    if isinstance(push, TypingPush):
        return Typing(push.sender, push.to, push.on)
    return Presence(push.user, push.show, push.status, push.since)
