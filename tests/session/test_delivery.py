"""The promise: whatever happens on the way, every device has exactly the stored messages, once, in one order.

Schedules are random: from hypothesis, which makes what it finds short, and from seeds, which go deeper. The faults that
`MUTATIONS` plants show that a broken promise is found.
"""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imserver.errors import ImError
from imserver.model import Entry, Position, position_order
from imserver.protocol.commands import Ref
from imserver.protocol.lifecycle import TailState
from imserver.protocol.pushes import Sent
from imserver.routing.messages import Messages, SendingInSteps
from imserver.session import tail
from imserver.session.cursor import Verdict, is_newer, judge
from imserver.session.tail import Tail
from imserver.store.calls import Appended
from tests.model_database import Database
from tests.session.scene import Scene

OFTEN = ["send", "send", "read", "turn", "execute", "deliver", "task", "flow"]
SELDOM = [
    "say_again",
    "repeat",
    "ack",
    "connect",
    "disconnect",
    "cut",
    "restore",
    "restore",
    "second",
    "lose",
    "double",
]
RARELY = ["kill", "fail", "everybody", "everybody"]
ACTIONS = OFTEN * 9 + SELDOM * 2 + RARELY

Steps = list[tuple[str, int, int]]


def play(steps: Steps, *, push_first: bool = True) -> Scene:
    """Everybody logs in, then `steps`, then all comes right."""
    scene = Scene(push_first=push_first)
    scene.do("everybody", 0, 0)
    for step in steps:
        scene.do(*step)
    scene.finish()
    scene.check()
    return scene


def random_steps(seed: int, count: int = 200) -> Steps:
    chance = random.Random(seed)
    return [(chance.choice(ACTIONS), chance.randrange(16), chance.randrange(10)) for _ in range(count)]


STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 15), st.integers(0, 9)), max_size=120)


@settings(max_examples=100)
@given(STEPS, st.booleans())
def test_every_device_has_every_message_once_in_order(steps: Steps, push_first: bool) -> None:
    play(steps, push_first=push_first)


@pytest.mark.parametrize("block", range(0, 60, 20))
def test_also_after_much_has_happened(block: int) -> None:
    for seed in range(block, block + 20):
        try:
            play(random_steps(seed), push_first=seed % 2 == 0)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


# -- planted faults


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
    self._store.append(identity.user, self._dedupe, self._content, identity.place, self.on_stored)
    self._store.append(to, self._dedupe, self._content, b"-", lambda result: None)


def do_nothing(*_: object) -> None:
    """What should happen here does not."""


def answer_over_a_gap(self: Tail, at: Position, prev: Position | None, ref: Ref, message_id: str) -> None:
    self.position = max(at, self.position, key=position_order)
    self._session.reply(ref, Sent(message_id, at))


def answer_at_once(self: Tail, at: Position, prev: Position | None, ref: Ref, message_id: str) -> None:
    """The reply does not wait for older entries."""
    if prev == self.position and self.state is TailState.LIVE:
        self.position = at
    elif is_newer(at, self.position):
        self.catch_up()
    self._session.reply(ref, Sent(message_id, at))


def forward_in_any_state(self: Tail, entry: Entry, *, is_own: bool) -> None:
    if not is_own and judge(self.position, entry.at, entry.prev) is Verdict.FORWARD:
        self._forward(entry)


offer = Tail.offer


def offer_to_all(self: Tail, entry: Entry, *, is_own: bool) -> None:
    offer(self, entry, is_own=False)


MUTATIONS: dict[str, tuple[object, str, Callable[..., object]]] = {
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
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_finds_planted_faults(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*MUTATIONS[name])
    with pytest.raises(Exception) as caught:
        for seed in range(100):
            play(random_steps(seed), push_first=seed % 2 == 0)
    assert caught.value is not None
