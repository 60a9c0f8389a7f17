"""Whose messages a session was given, so that their senders can be told once its device has kept them.

The store could look that up in the log, and does where this is not known (`store.conversation_calls.keep`). It makes a
table of each entry for it, which costs a sixth of what appending it did. The session has just forwarded them.

Only the newest of each sender is remembered: to keep all of a second made a worker a tenth slower, since the memory of
one message was not used again for the next. So where less is acknowledged than has come, the store has to look. While
that goes on, messages coming faster than they are acknowledged, it looks once; then senders hear now and then of what
had come some acknowledgements before, and when messages cease, of the last.
"""

from imserver.model import START, Entry, Position
from imserver.session.cursor import is_newer
from imserver.store.conversation_calls import Forwarded, Mark
from imserver.store.stored import head_of

MOST_SENDERS = 64
PATIENCE = 5
"""So many acknowledgements are put off while more messages are on their way: to tell a sender costs as much as five of
them. What is told then had come before the first of these; so a message may wait for twice as many."""

_MESSAGE, _TO, _BODY = b'{"ev":"msg"', b',"to":', b',"body":'
_NONE_BEGINS_SO = b"-"
_Newest = dict[bytes, tuple[Position, bytes]]  # how messages of one sender and device begin -> position, head


class Recent:
    """What was forwarded behind `_since`: in two parts, up to `_turn` and behind it.

    `prefix`: how the message `last` begins, and all others of that device. Where one does, it takes the place of
    `last`, and nothing else is to be done: that is looked at with every message.
    """

    __slots__ = ("_before", "_has_looked", "_newest", "_patience", "_since", "_turn", "last", "prefix", "untold")

    def __init__(self, position: Position) -> None:
        """Nothing behind `position` has been forwarded yet."""
        self.last: Entry | None = None
        self.prefix = _NONE_BEGINS_SO
        self._since = self._turn = position
        self._before: _Newest = {}
        self._newest: _Newest = {}
        self._patience = 0
        self._has_looked = False  # what others should have told may stand behind the watermark
        self.untold: Position | None = None  # acknowledged, and put off

    def add(self, entry: Entry) -> bool:
        """An entry that does not begin as the last one. False: that is more than can be remembered."""
        self._settle()
        content = entry.content
        if content.startswith(_MESSAGE):
            self.last, self.prefix = entry, content[: content.index(_TO)]
        return len(self._newest) < MOST_SENDERS

    def _settle(self) -> None:
        last, self.last = self.last, None
        if last is not None:  # the whole would be kept in memory for it
            self._newest[self.prefix] = last.at, last.content[: last.content.index(_BODY)]

    def take(self, upto: Position, position: Position) -> Forwarded | None:
        """Everything up to `upto` was kept, and up to `position` forwarded: whom to tell of what of it.

        None: that is not known, and to be looked for.
        """
        self._settle()
        since, kept, newest = self._since, self._before, self._newest
        if not self._has_looked:
            self._has_looked = True
            return None
        if not (kept or newest):
            return Forwarded(since, since, [])
        if not (is_newer(self._turn, upto) or any(is_newer(at, upto) for at, _ in newest.values())):
            kept.update(newest)
            self._since = self._turn = upto
            self._before, self._newest, self._patience, self.untold = {}, {}, 0, None
            return Forwarded(since, upto, _marks(kept))
        self._patience += 1
        if self._patience == 1:
            self.untold = None
            return None
        self.untold = upto
        if is_newer(self._turn, upto) or (kept and self._patience <= PATIENCE):
            return Forwarded(since, since, [])
        self._since, self._turn = self._turn, position
        self._before, self._newest, self._patience = newest, {}, 1
        return Forwarded(since, self._since, _marks(kept))


NOTHING = Recent(START)
"""Stands for that nothing is remembered. MUST stay so."""


def _marks(newest: _Newest) -> list[tuple[str, Mark]]:
    marks: dict[str, Mark] = {}
    for at, text in newest.values():
        head = head_of(text + b"}")
        assert head.sender and head.device and head.id
        known = marks.get(head.sender)
        if known is None or is_newer(at, known.upto):
            marks[head.sender] = Mark(at, head.device, head.id)
    return list(marks.items())
