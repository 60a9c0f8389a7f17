"""One entry of a group's log to all who follow it here.

What is the same for all is done once: the entry is encoded and framed once for each transport. For nearly every
follower the entry is the next one; that case is decided here, without a call. All others are left to the tail.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from imserver.model import Entry
from imserver.protocol.lifecycle import TailState
from imserver.session.context import Context
from imserver.store.stored import GROUP_KIND, KIND_AT

if TYPE_CHECKING:
    from imserver.session.session import Session
    from imserver.session.tail import Tail

_LIVE = TailState.LIVE


def fan_out(context: Context, followers: Mapping["Tail", "Session"], entry: Entry, own: "Tail | None") -> None:
    """`own`: the tail of the session whose reply stands for the entry, where it is here."""
    if entry.content[KIND_AT] == GROUP_KIND:  # somebody may cease to follow
        for tail in tuple(followers):
            tail.offer(entry, is_own=False)
        return
    at, prev, most, forwarded = entry.at, entry.prev, context.settings.out_buffer_bytes, 0
    for tail, session in followers.items():
        if tail.position == prev and tail.state is _LIVE and tail is not own:
            tail.position = at
            channel = session.channel
            channel.forward(entry)
            forwarded += 1
            if channel.out_bytes > most:
                tail.overflow()
        else:
            tail.offer(entry, is_own=tail is own)
    context.counters.messages_out += forwarded
