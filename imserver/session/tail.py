"""Following one log for one session, from a position on.

A tail is LIVE while it forwards entries as they are published. It leaves that state whenever it can't be sure: an entry
does not fit behind the last one, the client does not take more, the link to the shard was lost. Then it reads the log
from its position until it has reached the end, and is LIVE again. Calls, replies and published entries of a shard come
over one link in the order in which they happened, so what is published behind the last page read is not lost.

A log can lose its end, when a replica takes its primary's place: then it ends before the tail's position, or the next
entry names one before it that is older. The tail goes back to there, and says so. (Positions are times of the store. A
failover takes seconds, and the clocks of Redis instances agree better than that: what is appended after it is newer
than all that was lost.)
"""

from functools import partial
from typing import TYPE_CHECKING

from imserver.errors import ImError, Unavailable
from imserver.model import START, Entry, Position, is_group
from imserver.protocol.commands import Ref
from imserver.protocol.lifecycle import TAIL, Event, TailState, advance
from imserver.protocol.pushes import Regressed, RemovedPush, Sent, Truncated
from imserver.session.cursor import Verdict, is_newer, judge
from imserver.session.forwarded import NOTHING, Recent
from imserver.store.calls import Appended
from imserver.store.conversation_calls import Forwarded
from imserver.store.group_calls import Followed
from imserver.store.stored import GROUP_KIND, KIND_AT, head_of

if TYPE_CHECKING:
    from imserver.session.session import Session


_LIVE, _FORWARD = TailState.LIVE, Verdict.FORWARD  # looked up with every message


class Tail:
    """`position`: everything up to there was forwarded, or needs not be."""

    __slots__ = (
        "_answers",
        "_end",
        "_may_be_cut",
        "_page",
        "_recent",
        "_session",
        "log",
        "position",
        "state",
    )

    def __init__(self, session: "Session", log: str, position: Position, end: Position, *, new_device: bool) -> None:
        """`end`: where the log ended when the session entered the directory.

        `new_device`: that entries before the oldest kept one are gone is no news to it.
        """
        self.log = log
        self.position = position
        self.state = TailState.CATCHING_UP
        self._session = session
        self._may_be_cut = not new_device
        # The log is known to reach to there, which is to be read; None while everything known of has been forwarded.
        self._end: Position | None = end
        self._page = 0  # entries asked for by the read under way; 0: none is
        # Replies that wait for their entries' place; more than one where a client repeated a send.
        self._answers: dict[Position, list[tuple[Ref, Sent]]] | None = None
        self._recent = NOTHING  # whose messages were forwarded: only of the own log

    # -- what is published

    def offer(self, entry: Entry, *, is_own: bool) -> None:
        """A published entry: forwarded, or left to be read. `is_own`: this very session's; its reply stands for it."""
        if self.state is not _LIVE:
            self._reaches(entry.at)
            return
        verdict = judge(self.position, entry.at, entry.prev)
        if verdict is _FORWARD:
            if is_own and self._session.sending and self._is_being_answered(entry):
                self.position = entry.at
            else:
                self._forward(entry)
        elif is_own:
            return  # its reply came first, or is on its way and has the log read
        elif verdict is Verdict.DUPLICATE:
            self._session.context.counters.duplicates_dropped += 1
        else:
            self._session.context.counters.gaps += 1
            self.catch_up()

    def answer(self, ref: Ref, reply: Sent) -> None:
        """The reply to an own send: it stands for the entry at `at`, and goes out in that entry's place.

        Never before older entries: a client may take the position in the reply for its cursor, and everything before it
        for received. `prev` of it is None for a repeat.
        """
        session, at, prev = self._session, reply.at, reply.prev
        if prev == self.position and self.state is _LIVE:
            self.position = at
        else:
            if prev is None:
                session.context.counters.repeats += 1
            if is_newer(at, self.position):
                self._answers = self._answers or {}
                self._answers.setdefault(at, []).append((ref, reply))
                self.catch_up()
                return
        session.reply(ref, reply)

    def give_instead(self, appended: Appended) -> None:
        """No reply will stand for an own entry that may have been passed already: it is given like any other.

        Where more was forwarded since, or a read is under way, the client sees the gap itself.
        """
        at, prev = appended.at, appended.prev
        if at == self.position and prev is not None and self.state is not TailState.CATCHING_UP:
            self.position = prev
            self.catch_up()

    def doubt(self) -> None:
        """The log may have lost its end: what was heard of, and the entries of waiting replies."""
        self._end = None
        answers, self._answers = self._answers or {}, None
        for waiting in answers.values():
            for ref, _ in waiting:
                self._session.fail(ref, Unavailable("perhaps stored, perhaps lost; send again with the same id"))

    def _forward(self, entry: Entry) -> None:
        session = self._session
        context, channel, recent = session.context, session.channel, self._recent
        if entry.content.startswith(recent.prefix):
            recent.last = entry
        else:
            self._remember(entry)
        self.position = entry.at
        context.counters.messages_out += 1
        channel.forward(entry)
        if channel.out_bytes > context.settings.out_buffer_bytes:
            self.overflow()
        if entry.content[KIND_AT] == GROUP_KIND:
            session.on_group_event(self, entry)

    def _remember(self, entry: Entry) -> None:
        if is_group(self.log):
            return
        if self._recent is NOTHING:
            self._recent = Recent(self.position)
        if not self._recent.add(entry):
            self._recent = NOTHING

    def take_forwarded(self, upto: Position) -> Forwarded | None:
        """Whose messages the device has kept, up to there, since this was called before; None: that is not known."""
        if self._recent is NOTHING or is_newer(upto, self.position):
            self._recent = NOTHING
            return None
        return self._recent.take(upto, self.position)

    def forget_forwarded(self) -> Position | None:
        """The next time it is looked for, since somebody may not have been told. Gives what was put off."""
        untold, self._recent = self._recent.untold, NOTHING
        return untold

    def overflow(self) -> None:
        """The client takes no more for now."""
        self.state = advance(TAIL, self.state, Event.OVERFLOWED)

    # -- what is read

    def begin(self) -> None:
        """Reads from the position, for the first time."""
        self._read()

    def enter(self, followed: Followed, *, is_cut: bool) -> None:
        """A group's log is followed from where the store said. `is_cut`: what was before is not for this user."""
        start, end, surplus = followed.start, followed.end, followed.surplus
        if is_cut and self._may_be_cut and is_newer(start, self.position):
            self._tell_truncated(start)
        if is_newer(self.position, start):
            self.go_back_to(start)
        self.position = start
        if surplus:
            self._tell_truncated(end, surplus, followed.mentioned)
            self.position = end
        self._reaches(end)
        if self._end is None or self._end == self.position:
            self._caught_up()
        else:
            self._read()

    def end(self) -> None:
        """The user has left: nothing more comes. What was sent before is stored, and answered."""
        self.state = advance(TAIL, self.state, Event.LEFT)
        answers, self._answers = self._answers or {}, None
        for waiting in answers.values():
            self._reply_all(waiting)

    def catch_up(self) -> None:
        """Reads from the position on, unless that is being done or the client takes nothing anyway."""
        if self.state is TailState.LIVE:
            self.state = advance(TAIL, self.state, Event.GAP)
            self._read()

    def ends_at(self, last: Position) -> None:
        """The log ends there now: entries may have been published unheard, or those heard of be lost."""
        self._end = None
        if is_newer(self.position, last):
            self.go_back_to(last)
        elif last != self.position:
            self._end = last
            self.catch_up()
        if self.state is TailState.CATCHING_UP:
            self._read()  # where a read has failed

    def go_back_to(self, at: Position) -> None:
        """The log has lost what was behind `at`."""
        session = self._session
        session.context.counters.regressions += 1
        self.position = at
        self._recent = NOTHING
        session.push(Regressed(at.decode(), self.log if is_group(self.log) else None))
        following = session.following
        # Until it has caught up, the position is what a client has said, perhaps.
        if following is None or following.has_caught_up(self.log):
            session.context.store.went_back(self.log)

    def _reaches(self, at: Position) -> None:
        if is_newer(at, self._end or self.position):
            self._end = at

    def drained(self) -> None:
        """The client has taken everything that was kept for it."""
        if self.state is TailState.BEHIND:
            self.state = advance(TAIL, self.state, Event.DRAINED)
            self._read()

    def _read(self) -> None:
        """One read at a time: a read that is under way when the tail falls behind and drains again serves both."""
        if self._page or self._session.is_closed:
            return
        context = self._session.context
        context.counters.log_reads += 1
        self._page = context.settings.page_entries
        store = context.store.groups if is_group(self.log) else context.store
        store.read(self.log, self.position, self._page, self._on_page)

    def _on_page(self, page: list[Entry] | ImError) -> None:
        asked, self._page = self._page, 0
        if self._session.is_closed or self.state is TailState.ENDED:
            return
        if isinstance(page, ImError):
            self._session.cannot_read(self)
            return
        if page:
            if self._may_be_cut and is_newer(page[0].prev, self.position):
                self._ask_about_hole(page[0].prev, page[0].at)
                return
            if self.position == START:
                self.position = page[0].prev  # a new device begins with the oldest that is kept
            self._may_be_cut = True
            self._go_back_if_lost(page[0])
        for entry in page:
            if self.state is not TailState.CATCHING_UP:
                return  # fell behind: the rest is read when the client has taken what it has
            self._take(entry)
        if self.state is TailState.CATCHING_UP:
            self._go_on(is_end=len(page) < asked)

    def _go_on(self, *, is_end: bool) -> None:
        """Behind a page. Who takes nothing of it is not read the next one."""
        end = self._end
        if is_end and end is not None and self._may_be_cut and is_newer(end, self.position):
            # Left untold, it would show with the next entry only, and that may take days.
            self._ask_about_hole(end, end)
        elif is_end:
            self._caught_up()
        elif self._session.channel.is_blocked:
            self.overflow()
        else:
            self._read()

    def _ask_about_hole(self, upto: Position, rest: Position) -> None:
        """Nothing is kept between the position and `upto`: removed, or cut off with all before `rest`."""
        self._page = 1
        self._session.context.store.cut_of(self.log, partial(self._on_cut, self.position, upto, rest))

    def _on_cut(self, position: Position, upto: Position, rest: Position, cut: Position | ImError | None) -> None:
        self._page = 0
        if self._session.is_closed or self.state is TailState.ENDED:
            return
        if isinstance(cut, ImError):
            self._session.cannot_read(self)
            return
        if position == self.position:  # the log has not gone back meanwhile
            if cut is None or not is_newer(cut, position):
                self._tell_removed(upto)
            else:
                self._tell_truncated(rest)
                self.position = upto
        if self.state is TailState.CATCHING_UP:
            self._read()

    def _go_back_if_lost(self, oldest: Entry) -> None:
        """What was forwarded last is gone, and the log has grown again."""
        prev = oldest.prev
        if prev != self.position and is_newer(oldest.at, self.position) and is_newer(self.position, prev):
            self.go_back_to(prev)

    def _take(self, entry: Entry) -> None:
        if not is_newer(entry.at, self.position):
            return  # forwarded while the page was on its way
        if entry.prev != self.position and is_newer(entry.prev, self.position):
            self._tell_removed(entry.prev)
        answers = self._answers.pop(entry.at, None) if self._answers else None
        if answers is not None:
            self.position = entry.at
            self._reply_all(answers)
        elif self._session.sending and self._is_being_answered(entry):
            self.position = entry.at
        else:
            self._forward(entry)

    def _reply_all(self, answers: list[tuple[Ref, Sent]]) -> None:
        for ref, content in answers:
            self._session.reply(ref, content)

    def _is_being_answered(self, entry: Entry) -> bool:
        """Sent by this very session; the reply is on its way."""
        head, session = head_of(entry.content), self._session
        assert session.sending is not None
        return head.sender == session.user and head.device == session.device and head.id in session.sending

    def _caught_up(self) -> None:
        self.state = advance(TAIL, self.state, Event.CAUGHT_UP)
        for answers in (self._answers or {}).values():  # to sends whose entries are no longer kept
            self._reply_all(answers)
        self._answers = None
        end, self._end = self._end, None
        if end is not None and is_newer(end, self.position):
            self.position = end  # of an empty log, to a new device
        self._may_be_cut = True  # also where a new device found an empty log: from now on it has a past
        self._session.caught_up(self)

    def _tell_removed(self, upto: Position) -> None:
        """What stood between was deleted, or has vanished."""
        log = self.log if is_group(self.log) else None
        self._session.push(RemovedPush(upto.decode(), self.position.decode(), log))
        self.position = upto

    def _tell_truncated(self, at: Position, count: int = 0, mentioned: Position | None = None) -> None:
        log = self.log if is_group(self.log) else None
        after = self.position.decode() if count else None
        self._session.push(Truncated(at.decode(), log, count, after, mentioned.decode() if mentioned else None))
