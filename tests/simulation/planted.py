"""Bugs that the simulation has to find, each planted in the server or in the store's model; and the holes it knows.

Who changes the simulation sees here whether it still finds what it is for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from imserver.errors import ImError
from imserver.model import Entry, Position, position_order
from imserver.protocol.commands import Ref
from imserver.protocol.lifecycle import TailState
from imserver.protocol.pushes import Sent
from imserver.routing import accounts
from imserver.routing.messages import Messages, SendingInSteps
from imserver.session import tail
from imserver.session.cursor import Verdict, is_newer, judge
from imserver.session.session import Session
from imserver.session.tail import Tail
from imserver.store.calls import Appended, Attached
from tests.model_database import Database, device_at
from tests.model_store import Call, Link, NodeStore, Then
from tests.simulation import trimming
from tests.simulation.device import Device, Key
from tests.simulation.ledger import Ledger

Patch = tuple[object, str, Callable[..., object]]


def plant(name: str) -> Callable[[], None]:
    """From now on the server has the bug, or the simulation looks at the hole. Returns how to undo it."""
    owner, attribute, replacement = (MUTATIONS | HOLES)[name]
    original = getattr(owner, attribute)
    setattr(owner, attribute, replacement)
    return lambda: setattr(owner, attribute, original)


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The same, while this is open."""
    undo = plant(name)
    try:
        yield
    finally:
        undo()


def gap_taken_for_the_next(position: Position, at: Position, prev: Position) -> Verdict:
    verdict = judge(position, at, prev)
    return Verdict.FORWARD if verdict is Verdict.GAP else verdict


def duplicate_taken_for_the_next(position: Position, at: Position, prev: Position) -> Verdict:
    verdict = judge(position, at, prev)
    return Verdict.FORWARD if verdict is Verdict.DUPLICATE else verdict


append = Database.append


def append_without_dedupe(
    self: Database, user: str, dedupe: bytes, content: bytes, origin: bytes, again: int = 0
) -> Appended | ImError:
    if user in self.accounts:
        self.accounts[user].seen.clear()
    return append(self, user, dedupe, content, origin)


def own_log_first(self: SendingInSteps, to: str) -> None:
    """The sender is told when its own log has it, and the recipient's may or may not get it."""
    identity = self._session.identity
    assert identity is not None
    self._append(identity.user, self._dedupe, self._content, identity.place, self.on_stored)
    self._append(to, self._dedupe, self._content, b"-", lambda result: None)


def go_on_behind_a_hole(self: Tail, upto: Position, rest: Position) -> None:
    self.position = upto
    self._read()


ask_about_hole = Tail._ask_about_hole


def go_on_where_all_is_cut_off(self: Tail, upto: Position, rest: Position) -> None:
    ask = go_on_behind_a_hole if upto == rest else ask_about_hole
    ask(self, upto, rest)


def do_nothing(*_: object) -> None:
    """What should happen here does not."""


def answer_over_a_gap(self: Tail, ref: Ref, reply: Sent) -> None:
    self.position = max(reply.at, self.position, key=position_order)
    self._session.reply(ref, Sent(reply.id, reply.at))


def answer_at_once(self: Tail, ref: Ref, reply: Sent) -> None:
    """The reply does not wait for older entries."""
    if reply.prev == self.position and self.state is TailState.LIVE:
        self.position = reply.at
    elif is_newer(reply.at, self.position):
        self.catch_up()
    self._session.reply(ref, Sent(reply.id, reply.at))


def forward_in_any_state(self: Tail, entry: Entry, *, is_own: bool) -> None:
    if not is_own and judge(self.position, entry.at, entry.prev) is Verdict.FORWARD:
        self._forward(entry)


offer = Tail.offer


def offer_to_all(self: Tail, entry: Entry, *, is_own: bool) -> None:
    offer(self, entry, is_own=False)


def own_log_then_recipients(self: SendingInSteps, to: str) -> None:
    """Confirmed when both have it; but a node that dies in between leaves it shown as sent, and not received."""
    identity = self._session.identity
    assert identity is not None

    def record(result: Appended | ImError) -> None:
        if isinstance(result, ImError):
            self.on_stored(result)
        else:  # what the sender is told is the position in its own log
            append(to, dedupe, content, b"-", lambda received: self.on_stored(_either(received, result)))

    append, dedupe, content = self._append, self._dedupe, self._content
    append(identity.user, dedupe, content, identity.place, record)


def _either(received: Appended | ImError, own: Appended) -> Appended | ImError:
    return received if isinstance(received, ImError) else own


append_by_node = NodeStore.append


def dedupe_by_node(
    self: NodeStore, user: str, dedupe: bytes, content: bytes, origin: bytes, then: Then, again: int = 0
) -> None:
    """A repeat at another node, or a late call of the former one, is taken for a new message."""
    append_by_node(self, user, dedupe + b"@" + self.node.encode(), content, origin, then, again)


session_end = Session._end


def sent_is_kept(self: Session, why: str) -> None:
    """At its end a session stores what it has sent for what the device has kept."""
    if self.tail is not None:
        self.acked = self.tail.position
    session_end(self, why)


def resume_at_the_end(since: Position | None, attached: Attached) -> Position:
    return attached.last


def detach_whoever_is_there(self: Database, user: str, place: bytes, cursor: Position | None) -> int:
    """A session that ends late, of a node that had stopped perhaps, takes the newer one out of the directory."""
    if user in self.accounts:
        self.accounts[user].on.pop(device_at(place), None)
    return 1


def repeat_newest_first(self: Link, *, late: bool = False) -> None:
    cut(self, late=late)
    self.calls.reverse()


def repeat_nothing(self: Link, *, late: bool = False) -> None:
    """What the lost link had not answered is never answered."""
    cut(self, late=late)
    self.calls.clear()


cut = Link.cut


def never_read_again(self: Session, message_id: str) -> None:
    """A client that had too many unanswered sends stays held."""
    assert self.sending is not None
    self.sending.remove(message_id)


ask_to_resend = Session.ask_to_resend


def ask_and_go_on(self: Session) -> None:
    """What is newer gets in before what is sent again."""
    ask_to_resend(self)
    self.resent = self.asked


def refuse_nothing(self: Link) -> list[Call]:
    """What had no answer is repeated, before what is lost is sent again."""
    return []


def forget(self: Device, message_id: str) -> None:
    """A client that does not keep what was confirmed."""
    self.outbox.pop(message_id, None)


def nothing_is_in_doubt(self: NodeStore, now: float) -> bool:
    return False


MUTATIONS: dict[str, Patch] = {
    "a gap is taken for the next entry": (tail, "judge", gap_taken_for_the_next),
    "a duplicate is taken for the next entry": (tail, "judge", duplicate_taken_for_the_next),
    "no dedupe": (Database, "append", append_without_dedupe),
    "confirmed before it is stored": (SendingInSteps, "deliver", own_log_first),
    "a link that comes back tells nobody": (Messages, "on_link_up", do_nothing),
    "a client that has read all is not served again": (Tail, "drained", do_nothing),
    "the end of the log is not looked at": (Tail, "ends_at", do_nothing),
    "an answer moves the position over a gap": (Tail, "answer", answer_over_a_gap),
    "an answer goes out before older entries": (Tail, "answer", answer_at_once),
    "entries are forwarded while the log is read": (Tail, "offer", forward_in_any_state),
    "own entries are pushed to the sender": (Tail, "offer", offer_to_all),
    "the sender's own log comes first": (SendingInSteps, "deliver", own_log_then_recipients),
    "a repeat at another node is taken for new": (NodeStore, "append", dedupe_by_node),
    "what was cut off is not told": (Tail, "_ask_about_hole", go_on_behind_a_hole),
    "what was cut off to the end is not told": (Tail, "_ask_about_hole", go_on_where_all_is_cut_off),
    "what was sent counts as kept": (Session, "_end", sent_is_kept),
    "a session starts at the log's end": (accounts, "_start", resume_at_the_end),
    "a late detach takes the newer session along": (Database, "detach", detach_whoever_is_there),
    "a link repeats its calls in another order": (Link, "cut", repeat_newest_first),
    "a link does not repeat its calls": (Link, "cut", repeat_nothing),
    "who is asked to send again goes on": (Session, "ask_to_resend", ask_and_go_on),
    "unanswered messages are repeated after a failover": (Link, "take_refused", refuse_nothing),
    "a log that lost its end is not noticed": (Tail, "go_back_to", do_nothing),
    "answers wait for what is lost": (Tail, "doubt", do_nothing),
    "a client forgets what was confirmed": (Device, "_keep", forget),
    "who logs in is not asked to send again": (NodeStore, "may_have_lost", nothing_is_in_doubt),
    "a client with too many sends is never read again": (Session, "finished_sending", never_read_again),
}


# -- known holes: what the server does not promise today. Simulations leave them alone, unless told to look.


def nothing_is_awaited(devices: list[Device], ledger: Ledger) -> set[Key]:
    """The store forgets what it is told to forget, whether a repeat is on its way or not."""
    return set()


def replaced_is_wrong(self: Device, frame: dict[str, str]) -> None:
    """A device opens one session at a time: no other can be newer than the one that hears this."""
    assert frame["code"] != "replaced", f"{self} was told to stay away, for the sake of an older session of its own"


def hears_of_all(self: Device, key: Key) -> bool:
    """Whether it may miss an entry of its user's log: never."""
    return False


# A hole that is closed makes its test fail: then it moves to MUTATIONS, as a bug that is planted in its cure.
HOLES: dict[str, Patch] = {
    # Repeats are recognized for `dedupe_seconds`, or for less where `log_max_entries` come sooner. A send that was read
    # from a socket later than that (by a node that had stopped), or repeated later (by a client that was away), is
    # stored again.
    "a late call is taken for new, once the dedupe index forgot it": (trimming, "awaited_by", nothing_is_awaited),
    # A node that had stopped reads a login long after its client came in elsewhere. The newer session hears `replaced`,
    # which tells its client not to come back. No message is lost.
    "a late login pushes out the newer session": (Device, "_hear_bye", replaced_is_wrong),
    # A client repeats a send after a reconnect; the catching up leaves its entry out, since the reply will stand for
    # it, and `synced` or newer entries move the client's cursor past it. If the reply gets lost again, and the client
    # then gives the message up instead of repeating it, this one device never hears that it was stored.
    "who gives up a send may never hear that it was stored": (Device, "may_never_hear_of", hears_of_all),
}
