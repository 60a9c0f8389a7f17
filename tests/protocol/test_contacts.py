"""The states of contacts: the table, and that both ends always come to the same, whatever the network does."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from imserver.errors import Blocked, NotFound
from imserver.model import UserId
from imserver.protocol import contacts
from imserver.protocol.contacts import MIRROR, SWITCHES, TRANSITIONS, Event, State, Switches, after, state_of
from tests.model_circle import Rosters
from tests.model_database import Database

DOCS = Path(__file__).parent.parent.parent / "docs" / "protocol.md"
WISHES = {State.NONE: (0, 0), State.ASKED: (1, 0), State.ASKING: (0, 1), State.MUTUAL: (1, 1)}


@pytest.mark.parametrize("state", State)
def test_a_state_is_two_wishes(state: State) -> None:
    wants, wanted = WISHES[state]
    assert state_of(wants=bool(wants), wanted=bool(wanted)) is state
    assert state_of(wants=bool(wanted), wanted=bool(wants)) is MIRROR[state]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_the_switches_of_an_event_do_what_the_table_says(state: State, event: Event) -> None:
    if event not in TRANSITIONS[state]:
        with pytest.raises(NotFound, match="no request from bob"):
            after(state, event, "bob")
        return
    wishes = [old if new is None else int(new) for old, new in zip(WISHES[state], SWITCHES[event], strict=False)]
    assert state_of(wants=bool(wishes[0]), wanted=bool(wishes[1])) is after(state, event, "bob")


def test_the_documentation_has_the_table() -> None:
    rows = [line.split("|")[1:-1] for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    shown = {row[0].strip().strip("`"): [cell.strip().strip("`") for cell in row[1:]] for row in rows}
    for state in State:
        cells = [TRANSITIONS[state][event].value if event in TRANSITIONS[state] else "" for event in Event]
        assert shown[state.value] == cells


@pytest.mark.parametrize(
    ("switches", "text", "mirrored"),
    [
        (Switches(wants=True), "1---", "-1--"),
        (Switches(wants=False, wanted=False), "00--", "00--"),
        (contacts.BLOCK, "--1-", "---1"),
        (contacts.UNBLOCK, "--0-", "---0"),
    ],
)
def test_the_other_end_gets_the_mirror(switches: Switches, text: str, mirrored: str) -> None:
    assert (str(switches), str(switches.mirrored())) == (text, mirrored)


USERS = ("ann", "ben")
Step = tuple[str, str, str, int]  # whose end, the other user, switches, stamp
user_number = st.integers(0, 1)


class TwoEnds(RuleBasedStateMachine):
    """Two users, each with any number of devices, so that a user's own commands cross, too.

    A command's second step follows its first; between them, and between what it read and its first step, anything can
    happen. Each step may be taken again at any time, by a link that was lost.
    """

    def __init__(self) -> None:
        super().__init__()
        database = Database(lambda *_: None)
        self.rosters = database.rosters = Rosters(database)
        self.database = database
        for user in USERS:
            database.register(user, "")
        self.commands: list[list[Step]] = []  # what is left of them, the other end's step first
        self.done: list[Step] = []
        self.clock = 1_000_000

    def state(self, user: str, other: str) -> State:
        record = self.rosters.standing(user, other).record
        return state_of(wants=record.wants, wanted=record.wanted)

    @rule(number=user_number, event=st.sampled_from(list(Event)), late=st.integers(0, 3))
    def ask(self, number: int, event: Event, late: int) -> None:
        """A worker reads its end, and is about to take its two steps. Its clock may be behind."""
        user, other = USERS[number], USERS[1 - number]
        state = self.state(user, other)
        if event not in TRANSITIONS[state] or state is TRANSITIONS[state][event] is State.NONE:
            return
        self.clock += 1
        self._begin(user, other, SWITCHES[event], late)

    @rule(number=user_number, block=st.booleans(), late=st.integers(0, 3))
    def block(self, number: int, block: bool, late: int) -> None:
        user, other = USERS[number], USERS[1 - number]
        self.clock += 1
        if block or self.rosters.standing(user, other).record.blocks:
            self._begin(user, other, contacts.BLOCK if block else contacts.UNBLOCK, late)

    def _begin(self, user: str, other: str, switches: Switches, late: int) -> None:
        stamp = max(self.clock - late, self.rosters.standing(user, other).record.stamp + 1)
        own, others = (user, other, str(switches), stamp), (other, user, str(switches.mirrored()), stamp)
        self.commands.append([others, own])

    @rule(index=st.integers(0, 50))
    def take(self, index: int) -> None:
        if not self.commands:
            return
        command = self.commands[index % len(self.commands)]
        step = command.pop(0)
        if isinstance(self.rosters.relate(*step, "", 0), Blocked):
            command.clear()  # refused: its own end is not changed
        else:
            self.done.append(step)
        if not command:
            self.commands.remove(command)

    @rule(index=st.integers(0, 50))
    def repeat(self, index: int) -> None:
        """A link was lost: the same step is taken again, much later, too; nothing changes."""
        if self.done:
            step = self.done[index % len(self.done)]
            before, entries = self.switches(*step[:2]), len(self.database.accounts[step[0]].log)
            assert self.rosters.relate(*step, "", 0) is None or before[2]
            assert self.switches(*step[:2]) == before
            assert len(self.database.accounts[step[0]].log) == entries

    def switches(self, user: str, other: str) -> tuple[bool, ...]:
        record = self.rosters.standing(user, other).record
        return record.wants, record.wanted, record.blocks, record.blocked

    @invariant()
    def ends_agree_when_all_is_done(self) -> None:
        if not self.commands:
            wants, wanted, blocks, blocked = self.switches(*USERS)
            assert self.switches(*USERS[::-1]) == (wanted, wants, blocked, blocks)
            assert self.state(*USERS[::-1]) is MIRROR[self.state(*USERS)]

    @invariant()
    def logs_tell_of_every_state(self) -> None:
        """Whoever applies the entries of the log knows the state."""
        for user, other in (USERS, USERS[::-1]):
            log = self.database.accounts[user].log
            told = log[-1].content if log else b'"state":"none"'
            assert b'"state":"%b"' % self.state(user, other).value.encode() in told


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_who_asks_again_after_a_decline_that_comes_late_has_asked() -> None:
    """The decline belongs to the request that it answers, and not to the newer one."""
    database = Database(lambda *_: None)
    rosters = database.rosters = Rosters(database)
    for user in USERS:
        database.register(user, "")
    for user, other, switches, stamp in (
        ("ben", "ann", "-1--", 10),
        ("ann", "ben", "1---", 10),
        ("ben", "ann", "00--", 11),
        ("ben", "ann", "-1--", 12),
        ("ann", "ben", "1---", 12),
        ("ann", "ben", "00--", 11),  # the other step of the decline
    ):
        rosters.relate(user, UserId(other), switches, stamp, "", 0)
    ends = [rosters.standing(*pair).record for pair in (USERS, USERS[::-1])]
    assert [(end.wants, end.wanted) for end in ends] == [(True, False), (False, True)]
